"""The limits of a spool: records over the limits of age and size are evicted, delivered content is deleted.

Invariant (``tests/export/test_every_spool.py``): a queued record is not evicted without being counted.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from spancast.diagnostics import counters, warn_once
from spancast.export.spool.protocol import SpoolUsage, counted_as
from spancast.export.spool.sqlite_history import open_route, set_state, waiting
from spancast.export.spool.sqlite_records import forget_bodies
from spancast.export.spool.sqlite_schema import pragma

# Settled records are evicted in steps of 1/64 of the limit, so that not every put evicts.
_SLACK: Final = 64
_SHORTEST_KEEP_S: Final = 640.0
_SHARERS: Final = 8
"""Processes that may fill the free room at the same time before each checks it again."""
# Bytes of a record without its body, and of a batch without its records.
_RECORD_BYTES: Final = 200
_BATCH_BYTES: Final = 200
_LARGEST_BATCH_BYTES: Final = 1 << 20
_ROUNDS: Final = 16
_TOMBSTONES: Final = 10_000
_BYTES_PER_TOMBSTONE: Final = 1024
_MEMORY: Final = ":memory:"
_VACUUM_PAGES: Final = 1000

_WARNINGS: Final = {
    "spool_full": "spancast: the spool is full; the oldest records queued for %s are dropped (see `spancast spool`)",
    "expired": "spancast: records queued for %s for longer than the spool's max_age are dropped",
}

_LIVE: Final = "FROM batches WHERE first > (SELECT evicted FROM spool)"
_MIN_SETTLED: Final = """
    SELECT min(cursor) FROM (
        SELECT cursor FROM routes UNION ALL SELECT first - 1 FROM states WHERE state = 'waiting')"""
# Batches that every one of their routes has passed.
_PASSED: Final = f"""
    SELECT first, last {_LIVE} AND size > 0 AND put_s <= :before_s AND first <= :until
    AND first >= ifnull((SELECT max(first) FROM batches WHERE first <= :since), 0)
    AND NOT EXISTS (SELECT 1 FROM routes r WHERE r.cursor < batches.last
        AND (batches.routes IS NULL OR instr(batches.routes, ',' || r.id || ',')))"""  # noqa: S608 - built from constants
# CROSS JOIN: SQLite would read all states first.
_NEEDED: Final = """
    SELECT s.first, s.last FROM routes r CROSS JOIN states s
    ON s.route = r.id AND s.first <= :last AND s.last >= :first
    AND s.first >= ifnull((SELECT max(first) FROM states WHERE route = r.id AND first <= :first), 0)
    WHERE s.state IN ('waiting', 'buried') OR (s.state = 'delivered' AND s.at_s > :before_s)"""
_EVICT_BURIED: Final = """
    UPDATE states SET state = 'dropped', reason = 'rejected: ' || reason || '; later evicted from the spool'
    WHERE route = ? AND first <= ? AND state = 'buried'"""
_EVICT_STATES: Final = "DELETE FROM states WHERE route = ? AND first <= ? AND last <= ? AND state <> 'dropped'"
_TO_TOMBSTONES: Final = f"""
    SELECT first, last, put_s, crc, spans {_LIVE} AND first <= ? AND EXISTS (
        SELECT 1 FROM routes r CROSS JOIN states s ON s.route = r.id AND s.state = 'dropped'
        AND s.first BETWEEN batches.first AND batches.last)"""  # noqa: S608 - built from constants
_TOMBSTONE: Final = "INSERT INTO batches VALUES (?, ?, ?, 0, NULL, ?, ?, x'', x'')"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of a spool: ``max_bytes`` of pages in use, up to ``keep_bytes`` of them for settled records.

    Bodies are deleted ``keep_delivered_s`` after the last delivery; records are dropped ``max_age_s`` after the put.
    """

    max_bytes: int
    keep_bytes: int
    max_age_s: float
    keep_delivered_s: float

    @property
    def batch_bytes(self) -> int:
        """Return the maximum of body bytes per row; a row is evicted as a whole."""
        return min(_LARGEST_BATCH_BYTES, self.max_bytes // 16)

    @property
    def interval_s(self) -> float:
        """Return the interval between checks of the age limits."""
        return min(self.max_age_s, max(self.keep_delivered_s, _SHORTEST_KEEP_S)) / _SLACK


@dataclass(slots=True)
class EvictionResult:
    """Evicted records that were queued, with counts per (route, reason), and batches whose content was deleted."""

    sequences: set[int] = field(default_factory=set[int])
    counts: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    forgotten: list[int] = field(default_factory=list[int])

    def count(self, own: Collection[str] | None) -> int:
        """Count and log the evictions; return the number of records. ``own`` are the routes of this process."""
        for (route, why), count in self.counts.items():
            name = counted_as(route, own)
            counters.add("dropped", count, destination=name, reason=why)
            warn_once(f"dropped:{name}:{why}", _WARNINGS[why], name)
        return len(self.sequences)


def bytes_used(connection: sqlite3.Connection) -> int:
    """Return the bytes of the pages that are in use."""
    pages = pragma(connection, "page_count") - pragma(connection, "freelist_count")
    return pages * pragma(connection, "page_size")


def path_of(connection: sqlite3.Connection) -> str:
    """Return the path of the file, ``:memory:`` without one."""
    (path,) = connection.execute("SELECT file FROM pragma_database_list WHERE name = 'main'").fetchone()
    return str(path) or _MEMORY


def usage(connection: sqlite3.Connection) -> SpoolUsage:
    """Return the size of the spool, including its write-ahead log."""
    path = path_of(connection)
    records, oldest_s = connection.execute(
        f"SELECT total(last - first + 1), ifnull(min(put_s), 0) {_LIVE} AND size > 0"
    ).fetchone()
    files = [Path(f"{path}{suffix}") for suffix in ("", "-wal", "-shm")] if path != _MEMORY else []
    return SpoolUsage(
        path=path,
        records=int(records),
        bytes_on_disk=sum(file.stat().st_size for file in files if file.exists()),
        bytes_used=bytes_used(connection),
        oldest_s=oldest_s,
    )


class LimitEnforcer:
    """A scheduler that enforces the limits if there may be no room left, or after ``Limits.interval_s``.

    The size of the file is not read at every put, because that takes as long as writing a record.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._room_bytes = 0.0
        self._enforced_s = 0.0

    def is_due(self, now_s: float) -> bool:
        """Return whether the interval since the last run has passed."""
        return not 0 <= now_s - self._enforced_s < self._limits.interval_s

    def after_put(
        self, connection: sqlite3.Connection, content_bytes: int, records: int, now_s: float
    ) -> EvictionResult:
        """Enforce the limits after a put, if due."""
        # Doubled, because a body just over one page takes two.
        self._room_bytes -= 2 * (content_bytes + _BATCH_BYTES + _RECORD_BYTES * records)
        return (
            EvictionResult()
            if self._room_bytes >= 0 and not self.is_due(now_s)
            else self.enforce_limits(connection, now_s)
        )

    def enforce_limits(self, connection: sqlite3.Connection, now_s: float) -> EvictionResult:
        """Evict records over the limits of age and size; delete content after ``keep_delivered_s``."""
        limits, evicted = self._limits, EvictionResult()
        if limits.keep_delivered_s < limits.max_age_s:
            evicted.forgotten = forget_delivered(connection, now_s - limits.keep_delivered_s)
        cut = _old_end(connection, now_s - limits.max_age_s)
        if cut:
            _evict(connection, cut, "expired", now_s, evicted, limits)
        for _ in range(_ROUNDS):  # the size of rows is estimated, so the first cut may not be enough
            cut = _full_end(connection, limits)
            if not cut:
                break
            _evict(connection, cut, "spool_full", now_s, evicted, limits)
        _shrink(connection, limits)
        self._room_bytes = (limits.keep_bytes - bytes_used(connection)) / _SHARERS
        self._enforced_s = now_s
        return evicted


def forget_delivered(
    connection: sqlite3.Connection, before_s: float, since: int = 0, until: int = (1 << 63) - 1
) -> list[int]:
    """Delete bodies that were delivered to every route before ``before_s`` (Unix seconds); return the checked batches.

    ``since`` and ``until`` are sequences. Bodies that are dead-lettered or queued for a replay are kept.
    """
    values = {"before_s": before_s, "since": since, "until": until}
    passed = connection.execute(_PASSED, values).fetchall()
    for first, last in passed:
        needed = connection.execute(_NEEDED, {"first": first, "last": last, "before_s": before_s})
        forget_bodies(connection, first, {sequence for one in needed for sequence in range(one[0], one[1] + 1)})
    return [first for first, _ in passed]


def _ends(connection: sqlite3.Connection) -> tuple[int, int]:
    # Two statements: for both values in one, SQLite reads the whole table.
    (head,) = connection.execute(f"SELECT ifnull(min(first), 0) {_LIVE}").fetchone()
    (tail,) = connection.execute(f"SELECT last {_LIVE} ORDER BY first DESC LIMIT 1").fetchone() or (0,)
    return head, tail


def _old_end(connection: sqlite3.Connection, oldest_s: float) -> int:
    """Return the last sequence put before ``oldest_s`` (Unix seconds), 0 if there is none."""
    head, tail = _ends(connection)
    young = connection.execute(f"SELECT first {_LIVE} AND put_s >= ? ORDER BY first LIMIT 1", (oldest_s,)).fetchone()
    if young is None:
        return tail
    return young[0] - 1 if young[0] > head else 0


def _full_end(connection: sqlite3.Connection, limits: Limits) -> int:
    """Return the last sequence to evict because of the size, 0 if there is room."""
    used = bytes_used(connection)
    if used <= limits.keep_bytes:
        return 0
    head, tail = _ends(connection)
    (settled,) = connection.execute(_MIN_SETTLED).fetchone()
    settled = tail if settled is None else settled
    if not head or (used <= limits.max_bytes and settled < head):
        return 0
    needed = used - limits.max_bytes
    wanted = used - limits.keep_bytes + limits.keep_bytes // _SLACK
    cut = freed = 0
    for first, last, content_bytes in connection.execute(f"SELECT first, last, size {_LIVE} ORDER BY first"):
        if freed >= wanted or (freed >= needed and last > settled):
            break
        cut = last
        freed += content_bytes + _BATCH_BYTES + _RECORD_BYTES * (last - first + 1)
    return cut


def _evict(  # noqa: PLR0913, PLR0917 - shared by the limits of age and size
    connection: sqlite3.Connection, cut: int, why: str, now_s: float, evicted: EvictionResult, limits: Limits
) -> None:
    for (name,) in connection.execute("SELECT name FROM routes").fetchall():
        route = open_route(connection, name)
        lost = list(waiting(connection, route, until=cut))
        count = sum(one.size for one in lost)
        if lost:
            evicted.sequences.update(sequence for one in lost for sequence in range(one.first, one.last + 1))
            evicted.counts[name, why] = evicted.counts.get((name, why), 0) + count
            set_state(connection, route.id, [(one.first, one.last) for one in lost], "dropped", why, now_s)
        connection.execute(_EVICT_BURIED, (route.id, cut))
        connection.execute(_EVICT_STATES, (route.id, cut, cut))
        values = (max(route.cursor, cut), count, route.id)
        connection.execute("UPDATE routes SET cursor = ?, dropped = dropped + ? WHERE id = ?", values)
    tombstones = connection.execute(_TO_TOMBSTONES, (cut,)).fetchall()
    # Deleted and inserted again: an update to a shorter row leaves its page nearly empty.
    connection.execute(f"DELETE {_LIVE} AND first <= ?", (cut,))
    connection.executemany(_TOMBSTONE, tombstones)
    connection.execute("UPDATE spool SET evicted = ?", (cut,))
    _prune_tombstones(connection, min(_TOMBSTONES, limits.max_bytes // _BYTES_PER_TOMBSTONE))


def _prune_tombstones(connection: sqlite3.Connection, room: int) -> None:
    newest_first = connection.execute(
        "SELECT first, last FROM batches WHERE first <= (SELECT evicted FROM spool) ORDER BY first DESC"
    )
    for first, last in newest_first:
        room -= last - first + 1
        if room < 0:
            connection.execute("DELETE FROM batches WHERE first <= ?", (first,))
            for (route,) in connection.execute("SELECT id FROM routes").fetchall():
                connection.execute("DELETE FROM states WHERE route = ? AND first <= ?", (route, last))
            return


def _shrink(connection: sqlite3.Connection, limits: Limits) -> None:
    """Return pages to the file system if ``max_bytes`` was reduced."""
    page_bytes = pragma(connection, "page_size")
    excess = pragma(connection, "page_count") - limits.max_bytes // page_bytes
    if excess * page_bytes < limits.max_bytes // 4:
        return
    for _ in range(min(excess, pragma(connection, "freelist_count"), _VACUUM_PAGES)):
        # One page per statement: it returns one row per page, and Python's sqlite3 stops after the first.
        connection.execute("PRAGMA incremental_vacuum(1)")
