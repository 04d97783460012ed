"""The bounds of a spool: what is pushed out when it is too old or there is no room, oldest first.

Must never: push out a record that waits somewhere without counting it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spancast.diagnostics import counters, warn_once
from spancast.export.spool.protocol import SpoolUsage, counted_as
from spancast.model.span_record import SpanRecord

# Settled records are pushed out 1/64 of the bound at a time, so that not every put has to.
_SLACK = 64
_SHARERS = 8
"""So many processes may fill what room there is before they look again."""
# What a row of the log costs beside its body, facts and index included: measured 260 to 330 bytes.
_ROW_BYTES = 300
_ROUNDS = 16
_TOMBSTONES = 10_000
_VACUUM_PAGES = 1000
_MANY_NAMES = 256

_WARNINGS = {
    "spool_full": "spancast: the spool is full; the oldest records that wait for %s are dropped (see `spancast spool`)",
    "spool_age": "spancast: records that waited for %s for longer than the spool's max_age are dropped",
}

_OLDEST_YOUNG = "SELECT sequence FROM log WHERE put_s >= ? ORDER BY sequence LIMIT 1"
_LEAST_SETTLED = """
    SELECT min(cursor) FROM (
        SELECT cursor FROM routes UNION ALL SELECT sequence - 1 FROM replays WHERE done_s IS NULL)"""
_LOST = """
    SELECT sequence FROM ahead WHERE route = :route AND sequence <= :cut
    UNION SELECT sequence FROM replays WHERE route = :route AND done_s IS NULL AND sequence <= :cut
    ORDER BY sequence DESC"""
_BURY_IN_MEMORY = """
    INSERT OR REPLACE INTO dropped (route, sequence, trace_id, span_id, reason, at_s)
    SELECT route, sequence, trace_id, span_id, 'refused: ' || reason || '; since pushed out of the spool', at_s
    FROM buried WHERE route = ? AND sequence <= ?"""
_TOMBSTONE = """
    INSERT OR REPLACE INTO dropped (route, sequence, trace_id, span_id, reason, at_s)
    SELECT ?, sequence, trace_id, span_id, ?, ? FROM log WHERE sequence = ?"""
_PRUNE_TOMBSTONES = "DELETE FROM dropped WHERE id <= (SELECT max(id) FROM dropped) - ?"
_PRUNE_NAMES = (
    "DELETE FROM contexts WHERE id NOT IN (SELECT resource FROM log) AND id NOT IN (SELECT scope FROM log)",
    "DELETE FROM audiences WHERE id NOT IN (SELECT audience FROM log WHERE audience IS NOT NULL)",
    "DELETE FROM members WHERE audience NOT IN (SELECT id FROM audiences)",
    "DELETE FROM reasons WHERE id NOT IN (SELECT reason FROM skipped)",
)
_MOST_NAMES = """
    SELECT max((SELECT count(*) FROM contexts), (SELECT count(*) FROM audiences), (SELECT count(*) FROM reasons))"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a spool may hold: bytes of pages in use, and of it settled records only up to ``keep_bytes``."""

    max_bytes: int
    keep_bytes: int
    max_age_s: float


@dataclass(slots=True)
class EvictionResult:
    """What was pushed out though it waited: sequences, and how many per (route, reason)."""

    sequences: set[int] = field(default_factory=set[int])
    counts: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])


def bytes_used(connection: sqlite3.Connection) -> int:
    """Return the bytes of the pages that are in use."""
    pages = _pragma(connection, "page_count") - _pragma(connection, "freelist_count")
    return pages * _pragma(connection, "page_size")


def size(connection: sqlite3.Connection) -> SpoolUsage:
    """Return how much the spool holds, its write-ahead log included."""
    (path,) = connection.execute("SELECT file FROM pragma_database_list WHERE name = 'main'").fetchone()
    (records,) = connection.execute("SELECT count(*) FROM log").fetchone()
    oldest = connection.execute("SELECT put_s FROM log ORDER BY sequence LIMIT 1").fetchone()
    files = [Path(f"{path}{suffix}") for suffix in ("", "-wal", "-shm")] if path else []
    return SpoolUsage(
        path=path or ":memory:",
        records=records,
        bytes_on_disk=sum(file.stat().st_size for file in files if file.exists()),
        bytes_used=bytes_used(connection),
        oldest_s=oldest[0] if oldest else 0.0,
    )


class LimitEnforcer:
    """Sweeps after puts where it is due: there may be no room left, or it is a 64th of the age since the last time.

    To ask the file at every put how full it is costs as much as to write a record.
    """

    def __init__(self, bounds: Limits) -> None:
        self._bounds = bounds
        self._room_bytes = 0.0
        self._swept_s = 0.0

    def hurry(self) -> None:
        """Have the next put sweep: records came by another way."""
        self._room_bytes = 0.0

    def after(self, connection: sqlite3.Connection, put: Sequence[SpanRecord], now_s: float) -> EvictionResult:
        """Sweep after ``put``, unless that can wait."""
        # Twice: a body just over a page takes two.
        self._room_bytes -= 2 * sum([len(record.body) + _ROW_BYTES for record in put])
        if self._room_bytes >= 0 and 0 <= now_s - self._swept_s < self._bounds.max_age_s / _SLACK:
            return EvictionResult()
        evicted = enforce_limits(connection, self._bounds, now_s)
        self._room_bytes = (self._bounds.keep_bytes - bytes_used(connection)) / _SHARERS
        self._swept_s = now_s
        return evicted


def enforce_limits(connection: sqlite3.Connection, bounds: Limits, now_s: float) -> EvictionResult:
    """Push out what is older than the bound and what there is no room for."""
    evicted = EvictionResult()
    cut = _old_end(connection, now_s - bounds.max_age_s)
    if cut:
        _evict(connection, cut, "spool_age", now_s, evicted)
    for _ in range(_ROUNDS):  # the size of rows is estimated, so the first cut may not do
        cut = _full_end(connection, bounds)
        if not cut:
            break
        _evict(connection, cut, "spool_full", now_s, evicted)
    _shrink(connection, bounds)
    return evicted


def tell(evicted: EvictionResult, own: Collection[str] | None) -> int:
    """Count and log what was pushed out; return how many records it was. ``own`` are the routes of this process."""
    for (route, why), count in evicted.counts.items():
        name = counted_as(route, own)
        counters.add(f"dropped.{name}.{why}", count)
        warn_once(f"dropped:{name}:{why}", _WARNINGS[why], name)
    return len(evicted.sequences)


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _ends(connection: sqlite3.Connection) -> tuple[int, int]:
    # Two statements: asked for both at once, SQLite reads the whole table.
    (head,) = connection.execute("SELECT ifnull(min(sequence), 0) FROM log").fetchone()
    (tail,) = connection.execute("SELECT ifnull(max(sequence), 0) FROM log").fetchone()
    return head, tail


def _old_end(connection: sqlite3.Connection, oldest_s: float) -> int:
    """Return the last sequence put before ``oldest_s`` (Unix seconds), 0 if there is none."""
    head, tail = _ends(connection)
    young = connection.execute(_OLDEST_YOUNG, (oldest_s,)).fetchone()
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
    cut = 0
    freed = 0
    for sequence, size in connection.execute("SELECT sequence, size FROM log ORDER BY sequence"):
        if freed >= wanted or (freed >= needed and sequence > settled):
            break
        cut = sequence
        freed += size + _ROW_BYTES
    return cut


def _evict(connection: sqlite3.Connection, cut: int, why: str, now_s: float, evicted: EvictionResult) -> None:
    for route, name in connection.execute("SELECT id, name FROM routes").fetchall():
        lost = [sequence for (sequence,) in connection.execute(_LOST, {"route": route, "cut": cut})]
        if lost:
            evicted.sequences.update(lost)
            evicted.counts[name, why] = evicted.counts.get((name, why), 0) + len(lost)
            connection.execute("UPDATE routes SET dropped = dropped + ? WHERE id = ?", (len(lost), route))
            tombstones = [(route, why, now_s, sequence) for sequence in reversed(lost[:_TOMBSTONES])]
            connection.executemany(_TOMBSTONE, tombstones)
        connection.execute(_BURY_IN_MEMORY, (route, cut))
        for table in ("skipped", "replays", "buried"):
            connection.execute(f"DELETE FROM {table} WHERE route = ? AND sequence <= ?", (route, cut))  # noqa: S608 - three names of ours
        connection.execute("DELETE FROM history WHERE route = ? AND upto <= ?", (route, cut))
    for table in ("log", "bodies"):
        connection.execute(f"DELETE FROM {table} WHERE sequence <= ?", (cut,))  # noqa: S608 - two names of ours
    connection.execute("UPDATE counter SET evicted = ?", (cut,))
    connection.execute(_PRUNE_TOMBSTONES, (_TOMBSTONES,))
    if connection.execute(_MOST_NAMES).fetchone()[0] > _MANY_NAMES:
        for statement in _PRUNE_NAMES:
            connection.execute(statement)


def _shrink(connection: sqlite3.Connection, bounds: Limits) -> None:
    """Give pages back to the file system where the bound was made smaller."""
    page_bytes = _pragma(connection, "page_size")
    excess = _pragma(connection, "page_count") - bounds.max_bytes // page_bytes
    if excess * page_bytes < bounds.max_bytes // 4:
        return
    for _ in range(min(excess, _pragma(connection, "freelist_count"), _VACUUM_PAGES)):
        # One at a time: it gives a row without columns per page, and Python's sqlite3 stops at the first.
        connection.execute("PRAGMA incremental_vacuum(1)")
