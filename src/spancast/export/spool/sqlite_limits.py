"""The bounds of a spool: old records and those there is no room for are evicted, delivered content is forgotten.

Invariant (``tests/export/test_every_spool.py``): a record that waits somewhere is not evicted without being counted.
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

# Settled records are evicted 1/64 of the bound at a time, so that not every put has to.
_SLACK: Final = 64
_SHORTEST_KEEP_S: Final = 640.0
_SHARERS: Final = 8
"""So many processes may fill the free room before they look again."""
# What a record costs beside its body, facts included, and a batch beside its records.
_RECORD_BYTES: Final = 200
_BATCH_BYTES: Final = 200
_LARGEST_BATCH_BYTES: Final = 1 << 20
_ROUNDS: Final = 16
_TOMBSTONES: Final = 10_000
_BYTES_PER_TOMBSTONE: Final = 1024
_VACUUM_PAGES: Final = 1000

_WARNINGS: Final = {
    "spool_full": "spancast: the spool is full; the oldest records that wait for %s are dropped (see `spancast spool`)",
    "expired": "spancast: records that waited for %s for longer than the spool's max_age are dropped",
}

_LIVE: Final = "FROM batches WHERE first > (SELECT evicted FROM spool)"
_LEAST_SETTLED: Final = """
    SELECT min(cursor) FROM (
        SELECT cursor FROM routes UNION ALL SELECT first - 1 FROM states WHERE state = 'waiting')"""
# Batches that every route they are meant for has passed.
_PASSED: Final = f"""
    SELECT first, last {_LIVE} AND size > 0 AND put_s <= :before_s AND first <= :until
    AND first >= ifnull((SELECT max(first) FROM batches WHERE first <= :since), 0)
    AND NOT EXISTS (SELECT 1 FROM routes r WHERE r.cursor < batches.last
        AND (batches.routes IS NULL OR instr(batches.routes, ',' || r.id || ',')))"""  # noqa: S608 - a text of ours
# CROSS JOIN: SQLite would read all states first.
_NEEDED: Final = """
    SELECT s.first, s.last FROM routes r CROSS JOIN states s
    ON s.route = r.id AND s.first <= :last AND s.last >= :first
    AND s.first >= ifnull((SELECT max(first) FROM states WHERE route = r.id AND first <= :first), 0)
    WHERE s.state IN ('waiting', 'buried') OR (s.state = 'delivered' AND s.at_s > :before_s)"""
_EVICT_BURIED: Final = """
    UPDATE states SET state = 'dropped', reason = 'refused: ' || reason || '; since pushed out of the spool'
    WHERE route = ? AND first <= ? AND state = 'buried'"""
_EVICT_STATES: Final = "DELETE FROM states WHERE route = ? AND first <= ? AND last <= ? AND state <> 'dropped'"
_EXPLAINING: Final = f"""
    SELECT first, last, put_s, crc, spans {_LIVE} AND first <= ? AND EXISTS (
        SELECT 1 FROM routes r CROSS JOIN states s ON s.route = r.id AND s.state = 'dropped'
        AND s.first BETWEEN batches.first AND batches.last)"""  # noqa: S608 - a text of ours
_TOMBSTONE: Final = "INSERT INTO batches VALUES (?, ?, ?, 0, NULL, ?, ?, x'', x'')"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a spool may hold: bytes of pages in use, and settled records only up to ``keep_bytes`` of them.

    Bodies are forgotten ``keep_delivered_s`` after the last delivery, records are dropped ``max_age_s`` after the put.
    """

    max_bytes: int
    keep_bytes: int
    max_age_s: float
    keep_delivered_s: float

    @property
    def batch_bytes(self) -> int:
        """Return how many bytes of bodies one row may hold: rows are evicted whole."""
        return min(_LARGEST_BATCH_BYTES, self.max_bytes // 16)

    @property
    def interval_s(self) -> float:
        """Return how often to look for what is too old."""
        return min(self.max_age_s, max(self.keep_delivered_s, _SHORTEST_KEEP_S)) / _SLACK


@dataclass(slots=True)
class EvictionResult:
    """What was evicted though it waited: sequences, and how many per (route, reason); batches that were forgotten."""

    sequences: set[int] = field(default_factory=set[int])
    counts: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    forgotten: list[int] = field(default_factory=list[int])

    def count(self, own: Collection[str] | None) -> int:
        """Count and log it; return how many records it is. ``own`` are the routes of this process."""
        for (route, why), count in self.counts.items():
            name = counted_as(route, own)
            counters.add("dropped", count, destination=name, reason=why)
            warn_once(f"dropped:{name}:{why}", _WARNINGS[why], name)
        return len(self.sequences)


def bytes_used(connection: sqlite3.Connection) -> int:
    """Return the bytes of the pages that are in use."""
    pages = pragma(connection, "page_count") - pragma(connection, "freelist_count")
    return pages * pragma(connection, "page_size")


def size(connection: sqlite3.Connection) -> SpoolUsage:
    """Return how much the spool holds, its write-ahead log included."""
    (path,) = connection.execute("SELECT file FROM pragma_database_list WHERE name = 'main'").fetchone()
    records, oldest_s = connection.execute(
        f"SELECT total(last - first + 1), ifnull(min(put_s), 0) {_LIVE} AND size > 0"
    ).fetchone()
    files = [Path(f"{path}{suffix}") for suffix in ("", "-wal", "-shm")] if path else []
    return SpoolUsage(
        path=path or ":memory:",
        records=int(records),
        bytes_on_disk=sum(file.stat().st_size for file in files if file.exists()),
        bytes_used=bytes_used(connection),
        oldest_s=oldest_s,
    )


class LimitEnforcer:
    """Sweeps when it is due: when there may be no room left, or a 64th of the age has passed since the last time.

    Asking the file at every put how full it is costs as much as writing a record.
    """

    def __init__(self, bounds: Limits) -> None:
        self._bounds = bounds
        self._room_bytes = 0.0
        self._swept_s = 0.0

    def is_due(self, now_s: float) -> bool:
        """Return whether something may be too old."""
        return not 0 <= now_s - self._swept_s < self._bounds.interval_s

    def after_put(
        self, connection: sqlite3.Connection, content_bytes: int, records: int, now_s: float
    ) -> EvictionResult:
        """Sweep after a put, unless that can wait."""
        # Twice: a body just over a page takes two.
        self._room_bytes -= 2 * (content_bytes + _BATCH_BYTES + _RECORD_BYTES * records)
        return (
            EvictionResult()
            if self._room_bytes >= 0 and not self.is_due(now_s)
            else self.enforce_limits(connection, now_s)
        )

    def enforce_limits(self, connection: sqlite3.Connection, now_s: float) -> EvictionResult:
        """Evict what is too old and what there is no room for; forget what was delivered long enough ago."""
        bounds, evicted = self._bounds, EvictionResult()
        if bounds.keep_delivered_s < bounds.max_age_s:
            evicted.forgotten = forget_delivered(connection, now_s - bounds.keep_delivered_s)
        cut = _old_end(connection, now_s - bounds.max_age_s)
        if cut:
            _evict(connection, cut, "expired", now_s, evicted, bounds)
        for _ in range(_ROUNDS):  # the size of rows is estimated, so the first cut may not be enough
            cut = _full_end(connection, bounds)
            if not cut:
                break
            _evict(connection, cut, "spool_full", now_s, evicted, bounds)
        _shrink(connection, bounds)
        self._room_bytes = (bounds.keep_bytes - bytes_used(connection)) / _SHARERS
        self._swept_s = now_s
        return evicted


def forget_delivered(
    connection: sqlite3.Connection, before_s: float, since: int = 0, until: int = (1 << 63) - 1
) -> list[int]:
    """Remove bodies that every route has had since ``before_s`` (Unix seconds); return the batches it looked at.

    ``since`` and ``until`` are sequences. What is dead-lettered or waits for a replay is kept.
    """
    values = {"before_s": before_s, "since": since, "until": until}
    passed = connection.execute(_PASSED, values).fetchall()
    for first, last in passed:
        needed = connection.execute(_NEEDED, {"first": first, "last": last, "before_s": before_s})
        forget_bodies(connection, first, {sequence for one in needed for sequence in range(one[0], one[1] + 1)})
    return [first for first, _ in passed]


def _ends(connection: sqlite3.Connection) -> tuple[int, int]:
    # Two statements: asked for both at once, SQLite reads the whole table.
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


def _full_end(connection: sqlite3.Connection, bounds: Limits) -> int:
    """Return the last sequence that there is no room for, 0 if there is room."""
    used = bytes_used(connection)
    if used <= bounds.keep_bytes:
        return 0
    head, tail = _ends(connection)
    (settled,) = connection.execute(_LEAST_SETTLED).fetchone()
    settled = tail if settled is None else settled
    if not head or (used <= bounds.max_bytes and settled < head):
        return 0
    needed = used - bounds.max_bytes
    wanted = used - bounds.keep_bytes + bounds.keep_bytes // _SLACK
    cut = freed = 0
    for first, last, content_bytes in connection.execute(f"SELECT first, last, size {_LIVE} ORDER BY first"):
        if freed >= wanted or (freed >= needed and last > settled):
            break
        cut = last
        freed += content_bytes + _BATCH_BYTES + _RECORD_BYTES * (last - first + 1)
    return cut


def _evict(  # noqa: PLR0913, PLR0917 - two bounds share it
    connection: sqlite3.Connection, cut: int, why: str, now_s: float, evicted: EvictionResult, bounds: Limits
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
    explaining = connection.execute(_EXPLAINING, (cut,)).fetchall()
    # Deleted and added again: a row that is only made shorter leaves its page nearly empty.
    connection.execute(f"DELETE {_LIVE} AND first <= ?", (cut,))
    connection.executemany(_TOMBSTONE, explaining)
    connection.execute("UPDATE spool SET evicted = ?", (cut,))
    _prune_tombstones(connection, min(_TOMBSTONES, bounds.max_bytes // _BYTES_PER_TOMBSTONE))


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


def _shrink(connection: sqlite3.Connection, bounds: Limits) -> None:
    """Return pages to the file system if the bound was made smaller."""
    page_bytes = pragma(connection, "page_size")
    excess = pragma(connection, "page_count") - bounds.max_bytes // page_bytes
    if excess * page_bytes < bounds.max_bytes // 4:
        return
    for _ in range(min(excess, pragma(connection, "freelist_count"), _VACUUM_PAGES)):
        # One at a time: it gives a row without columns per page, and Python's sqlite3 stops at the first.
        connection.execute("PRAGMA incremental_vacuum(1)")
