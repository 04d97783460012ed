"""Records that move from one spool to another: out of a damaged file, or from memory back to disk.

Must never: give a route a record that it had, refused or was not meant for.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from spancast.export.spool.protocol import DeliveryState
from spancast.export.spool.sqlite_cursors import open_audience, open_route, skip
from spancast.export.spool.sqlite_history import fates
from spancast.export.spool.sqlite_records import RecordReader, append, last_sequence
from spancast.model.span_record import SpanRecord

_CHUNK = 256
_UNKNOWN = "settled before the spool was damaged"
# NOT INDEXED where an index could serve: of a damaged file, the less is read the better.
_ROWS = "SELECT sequence, put_s, audience FROM log WHERE sequence BETWEEN ? AND ? ORDER BY sequence"
_LEAST_SETTLED = """
    SELECT min(cursor) FROM (
        SELECT cursor FROM routes UNION ALL SELECT sequence - 1 FROM replays NOT INDEXED WHERE done_s IS NULL)"""
_WAITING = """
    SELECT r.name, EXISTS (SELECT 1 FROM ahead WHERE route = r.id AND sequence = :sequence)
        OR EXISTS (SELECT 1 FROM replays WHERE route = r.id AND sequence = :sequence AND done_s IS NULL)
    FROM routes r NOT INDEXED"""


@dataclass(frozen=True, slots=True)
class PendingRecord:
    """A record that still waits for a route; ``audience`` is who it was meant for, None for everyone."""

    sequence: int
    record: SpanRecord
    put_s: float
    audience: tuple[str, ...] | None
    fates: tuple[DeliveryState, ...]


def pending_records(connection: sqlite3.Connection) -> Iterator[list[PendingRecord]]:
    """Yield what still waits, oldest first, in chunks; rows that cannot be read are passed over.

    Raises sqlite3.DatabaseError where routes or audiences cannot be read: without them nobody
    knows who may have a record.
    """
    source = _Source(connection)
    (settled,) = connection.execute(_LEAST_SETTLED).fetchone()
    end = _end(connection)
    for start in range((end if settled is None else settled) + 1, end + 1, _CHUNK):
        rows = _readable_rows(connection, start, min(start + _CHUNK - 1, end))
        chunk = [leftover for leftover in map(source.leftover, rows) if leftover is not None]
        if chunk:
            yield chunk


def _end(connection: sqlite3.Connection) -> int:
    try:
        return last_sequence(connection)
    except sqlite3.DatabaseError:
        return int(connection.execute("SELECT max(sequence) FROM log").fetchone()[0] or 0)


def _readable_rows(connection: sqlite3.Connection, first: int, last: int) -> list[tuple[int, float, int | None]]:
    try:
        return connection.execute(_ROWS, (first, last)).fetchall()
    except sqlite3.DatabaseError:
        if first == last:
            return []
    middle = (first + last) // 2
    return _readable_rows(connection, first, middle) + _readable_rows(connection, middle + 1, last)


class _Source:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._reader = RecordReader(max_bytes=0)
        rows = connection.execute("SELECT id, names FROM audiences NOT INDEXED")
        self._audiences = {number: tuple(name for name in str(names).split("\n") if name) for number, names in rows}

    def leftover(self, row: tuple[int, float, int | None]) -> PendingRecord | None:
        """Return the record of a row of ``log``, None if it waits for no route or cannot be read."""
        sequence, put_s, audience = row
        try:
            waiting = dict(self._connection.execute(_WAITING, {"sequence": sequence}).fetchall())
            entries = self._reader.read(self._connection, [sequence]) if any(waiting.values()) else ()
        except sqlite3.DatabaseError:
            return None
        if not entries:
            return None
        names = None if audience is None else self._audiences.get(audience, ())
        return PendingRecord(sequence, entries[0].record, put_s, names, self._fates(sequence, audience, waiting))

    def _fates(self, sequence: int, audience: int | None, waiting: Mapping[str, int]) -> tuple[DeliveryState, ...]:
        try:
            return fates(self._connection, sequence, audience)
        except sqlite3.DatabaseError:
            # What only explains is unreadable; who waits is known, and that is what matters.
            return tuple(
                DeliveryState(name, "waiting" if waits else "skipped", _UNKNOWN) for name, waits in waiting.items()
            )


def adopt(connection: sqlite3.Connection, chunk: Sequence[PendingRecord]) -> None:
    """Append ``chunk`` as if it had been put here; runs inside the caller's transaction."""
    for audience in {leftover.audience for leftover in chunk}:
        group = [leftover for leftover in chunk if leftover.audience == audience]
        for name in {fate.route for leftover in group for fate in leftover.fates}:
            open_route(connection, name)
        number = None if audience is None else open_audience(connection, audience)
        first = append(connection, [item.record for item in group], [item.put_s for item in group], number)
        for sequence, leftover in enumerate(group, first):
            for fate in leftover.fates:
                _settle(connection, sequence, leftover.record, fate)


def _settle(connection: sqlite3.Connection, sequence: int, record: SpanRecord, fate: DeliveryState) -> None:
    if fate.state == "waiting":
        return
    route = open_route(connection, fate.route).id
    skip(connection, route, {sequence: fate.reason or "not meant for this destination"})
    row = (route, sequence, record.trace_id, record.span_id, fate.reason, fate.at_s)
    if fate.state == "delivered":
        connection.execute("INSERT INTO replays VALUES (?, ?, ?)", (route, sequence, fate.at_s))
    elif fate.state == "buried":
        connection.execute("INSERT INTO buried VALUES (?, ?, ?, ?, ?, ?)", row)
    elif fate.state == "dropped":
        statement = "INSERT INTO dropped (route, sequence, trace_id, span_id, reason, at_s) VALUES (?, ?, ?, ?, ?, ?)"
        connection.execute(statement, row)


def forget(connection: sqlite3.Connection, chunk: Sequence[PendingRecord]) -> None:
    """Remove ``chunk`` and all that is known of it; runs inside the caller's transaction."""
    sequences = [(leftover.sequence,) for leftover in chunk]
    for table in ("log", "bodies"):
        connection.executemany(f"DELETE FROM {table} WHERE sequence = ?", sequences)  # noqa: S608 - two names of ours
    for (route,) in connection.execute("SELECT id FROM routes").fetchall():
        places = [(route, leftover.sequence) for leftover in chunk]
        for table in ("skipped", "replays", "buried", "dropped"):
            connection.executemany(f"DELETE FROM {table} WHERE route = ? AND sequence = ?", places)  # noqa: S608 - four names of ours
