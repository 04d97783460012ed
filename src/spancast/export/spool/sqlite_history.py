"""The queue of each route and the states of records, stored as ranges of sequences.

Functions that write run inside the caller's transaction.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import chain, islice
from typing import Final, NamedTuple, TypeAlias

from spancast.export.spool.lease_owner import is_gone
from spancast.export.spool.protocol import DeadLetter, DeliveryState, RecordHistory
from spancast.export.spool.sqlite_records import read_spans, storable

Extent: TypeAlias = "tuple[int, int]"
"""The first and the last sequence of a range."""

LEASE_S: Final = 30.0
_LATE_S: Final = 10.0
"""Time for which a process may wait for the lock of the file after it has read the clock."""
_LONGEST_WAIT_S: Final = 3720.0
"""A server may ask for one hour."""
LAST: Final = (1 << 63) - 1

_FIND: Final = """
    SELECT id, name, start, cursor, attempts, due_s, last_error, lease, lease_until_s, lease_end, delivered, dropped,
        last_delivered_s
    FROM routes WHERE name = ?"""
_BATCHES_QUEUED: Final = """
    SELECT first, last, size * 1.0 / (last - first + 1) FROM batches
    WHERE first >= ifnull((SELECT max(first) FROM batches WHERE first <= :after + 1), 0) AND last > :after
    AND first <= :until AND (routes IS NULL OR instr(routes, :mark)) ORDER BY first"""
_SIZE_QUEUED: Final = """
    SELECT total(last - max(first, :after + 1) + 1),
        total(size * 1.0 / (last - first + 1) * (last - max(first, :after + 1) + 1)) FROM batches
    WHERE first >= ifnull((SELECT max(first) FROM batches WHERE first <= :after + 1), 0) AND last > :after
    AND (routes IS NULL OR instr(routes, :mark))"""
_STATES_QUEUED: Final = """
    SELECT first, last FROM states WHERE route = :route AND last > :after AND first <= :until
    AND first >= ifnull((SELECT max(first) FROM states WHERE route = :route AND first <= :after), 0) ORDER BY first"""
_REPLAYED: Final = """
    SELECT b.first, s.first, s.last, b.size * 1.0 / (b.last - b.first + 1)
    FROM states s INDEXED BY states_waiting
    JOIN batches b ON b.first = (SELECT max(first) FROM batches WHERE first <= s.first)
    WHERE s.route = :route AND s.state = 'waiting' AND s.first BETWEEN :since AND :until ORDER BY s.first"""
# Ranges of a route do not overlap, so only the last range that begins before another one can reach into it.
_OVERLAPPING: Final = """
    SELECT first, last, state, reason, at_s FROM states WHERE route = :route AND first <= :last AND last >= :first
    AND first >= ifnull((SELECT max(first) FROM states WHERE route = :route AND first <= :first), 0)"""
_ADD_STATE: Final = "INSERT INTO states VALUES (?, ?, ?, ?, ?, ?)"
_LISTED: Final = """
    SELECT r.name, s.first, s.last, s.reason, s.at_s, b.first, b.spans FROM states s JOIN routes r ON r.id = s.route
    JOIN batches b ON b.first = (SELECT max(first) FROM batches WHERE first <= s.first)
    WHERE s.state = ? AND (? IS NULL OR r.name = ?) ORDER BY s.at_s DESC, s.first DESC LIMIT ?"""
_OF_TRACE: Final = """
    SELECT first, put_s, routes, spans, first <= (SELECT evicted FROM spool) FROM batches
    WHERE instr(spans, ?) ORDER BY first"""


class Extents:
    """Sequences as ranges: adjacent ranges of many batches are one."""

    def __init__(self, ranges: Iterable[Extent]) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in sorted(ranges):
            if self._lasts and first <= self._lasts[-1] + 1:
                self._lasts[-1] = max(last, self._lasts[-1])
            else:
                self._firsts.append(first)
                self._lasts.append(last)

    def __contains__(self, sequence: int) -> bool:
        index = bisect_right(self._firsts, sequence) - 1
        return index >= 0 and sequence <= self._lasts[index]


class Range(NamedTuple):
    """A range of records in the batch that begins at ``batch``; ``each_bytes`` is the mean size of its records."""

    batch: int
    first: int
    last: int
    each_bytes: float

    @property
    def size(self) -> int:
        """Return the number of records."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Route:
    """A row of ``routes``.

    ``lease_end`` is the last sequence of the range that is leased. Without a lease, ``lease_until_s`` is the time of
    the last failure.
    """

    id: int
    name: str
    start: int
    cursor: int
    attempts: int
    due_s: float
    last_error: str
    lease: str
    lease_until_s: float
    lease_end: int
    delivered: int
    dropped: int
    last_delivered_s: float

    @property
    def mark(self) -> str:
        """Return the text that represents this route in ``batches.routes``."""
        return f",{self.id},"

    # A failure in the future, or a longer wait than any, means that the clock was set back. If it is less than
    # ``_LATE_S``, another process has only read the clock later than this one.

    def must_wait(self, now_s: float) -> bool:
        """Return whether the wait after the last failure is not over."""
        began_s = 0.0 if self.lease else self.lease_until_s
        return began_s <= now_s + _LATE_S and now_s < self.due_s <= now_s + _LONGEST_WAIT_S

    def is_leased(self, now_s: float) -> bool:
        """Return whether the route is leased by a process that may be alive."""
        return bool(self.lease) and now_s < self.lease_until_s <= now_s + LEASE_S + _LATE_S and not is_gone(self.lease)


def last_sequence(connection: sqlite3.Connection) -> int:
    """Return the sequence of the newest record ever put, even if it is no longer stored."""
    return int(connection.execute("SELECT next - 1 FROM spool").fetchone()[0])


def find_route(connection: sqlite3.Connection, name: str) -> Route | None:
    """Return the row of ``name``, None if there is none."""
    row = connection.execute(_FIND, (name,)).fetchone()
    return None if row is None else Route(*row)


def open_route(connection: sqlite3.Connection, name: str) -> Route:
    """Return the row of ``name``; create it at the end of the log if missing."""
    route = find_route(connection, name)
    if route is not None:
        return route
    end = last_sequence(connection)
    connection.execute("INSERT INTO routes (name, start, cursor) VALUES (?, ?, ?)", (name, end, end))
    return Route(*connection.execute(_FIND, (name,)).fetchone())


def queued(connection: sqlite3.Connection, route: Route, since: int = 0, until: int = LAST) -> Iterator[Range]:
    """Yield the ranges queued after the route's cursor, in order; ``since`` is the first sequence of a batch."""
    after = max(route.cursor, since - 1)
    values = {"route": route.id, "after": after, "until": until, "mark": route.mark}
    states = connection.execute(_STATES_QUEUED, values)
    state = states.fetchone()
    for batch, last, each_bytes in connection.execute(_BATCHES_QUEUED, values):
        first = max(batch, after + 1)
        while state and state[0] <= last:
            if state[0] > first:
                yield Range(batch, first, state[0] - 1, each_bytes)
            first = max(first, state[1] + 1)
            if state[1] > last:
                break
            state = states.fetchone()
        if first <= last:
            yield Range(batch, first, last, each_bytes)


def replayed(connection: sqlite3.Connection, route: Route, since: int = 0, until: int = LAST) -> Iterator[Range]:
    """Yield the ranges queued for another delivery, in order."""
    rows = connection.execute(_REPLAYED, {"route": route.id, "since": since, "until": until})
    return (Range(*row) for row in rows)


def waiting(connection: sqlite3.Connection, route: Route, since: int = 0, until: int = LAST) -> Iterator[Range]:
    """Yield all ranges queued for the route in the batches from ``since`` to ``until``."""
    return chain(replayed(connection, route, since, until), queued(connection, route, since, until))


def size_of(ranges: Iterable[Range]) -> tuple[int, int]:
    """Return the number of records in ``ranges`` and their bytes."""
    found = list(ranges)
    return sum([one.size for one in found]), round(sum([one.size * one.each_bytes for one in found]))


def queue_size(connection: sqlite3.Connection, route: Route) -> tuple[int, int]:
    """Return the number of records that ``waiting`` yields and their bytes; without states SQLite adds them up."""
    values = {"route": route.id, "after": route.cursor, "until": LAST, "mark": route.mark}
    if connection.execute(_STATES_QUEUED, values).fetchone() is not None:
        return size_of(waiting(connection, route))
    count, size = connection.execute(_SIZE_QUEUED, values).fetchone()
    again, size_again = size_of(replayed(connection, route))
    return int(count) + again, round(size) + size_again


def sequences_waiting(connection: sqlite3.Connection, route: Route, since: int = 0, until: int = LAST) -> set[int]:
    """Return the sequences that ``waiting`` yields."""
    return {number for one in waiting(connection, route, since, until) for number in range(one.first, one.last + 1)}


def sequences_in(
    connection: sqlite3.Connection, route: Route, state: str, since: int = 0, until: int = LAST
) -> set[int]:
    """Return the sequences whose state at the route is ``state``."""
    statement = "SELECT first, last FROM states WHERE route = ? AND state = ? AND first BETWEEN ? AND ?"
    rows = connection.execute(statement, (route.id, state, since, until))
    return {number for first, last in rows for number in range(first, last + 1)}


def extents(connection: sqlite3.Connection, sequences: Sequence[int]) -> list[Extent]:
    """Return ascending ``sequences`` as ranges that lie within one batch each."""
    inside = (sequences[0] + 1, sequences[-1]) if sequences else (0, 0)
    starts = {first for (first,) in connection.execute("SELECT first FROM batches WHERE first BETWEEN ? AND ?", inside)}
    return runs(sequences, starts)


def runs(sequences: Sequence[int], starts: AbstractSet[int] = frozenset()) -> list[Extent]:
    """Return ascending ``sequences`` as ranges; one in ``starts`` begins a new range."""
    if not starts and sequences and sequences[-1] - sequences[0] + 1 == len(sequences):
        return [(sequences[0], sequences[-1])]
    found: list[Extent] = []
    for sequence in sequences:
        first, last = found[-1] if found else (0, -1)
        if sequence == last + 1 and sequence not in starts:
            found[-1] = first, sequence
        else:
            found.append((sequence, sequence))
    return found


def set_state(  # noqa: PLR0913, PLR0917 - the columns of the row
    connection: sqlite3.Connection,
    route: int,
    ranges: Iterable[Extent],
    state: str,
    reason: str = "",
    at_s: float = 0.0,
) -> int:
    """Set the state of ``ranges`` at the route; return how many of their records were in the state ``dropped``."""
    undropped = 0
    for first, last in ranges:
        overlapping = {"route": route, "first": first, "last": last}
        for begin, end, former, *rest in connection.execute(_OVERLAPPING, overlapping).fetchall():
            connection.execute("DELETE FROM states WHERE route = ? AND first = ?", (route, begin))
            if begin < first:
                connection.execute(_ADD_STATE, (route, begin, first - 1, former, *rest))
            if end > last:
                connection.execute(_ADD_STATE, (route, last + 1, end, former, *rest))
            if former == "dropped":
                undropped += min(end, last) - max(begin, first) + 1
        connection.execute(_ADD_STATE, (route, first, last, state, reason, at_s))
    return undropped


def add_skipped(
    connection: sqlite3.Connection, route: int, first: int, reasons: Mapping[int, str], starts: AbstractSet[int]
) -> None:
    """Add the reasons that a route does not take new records; ``first`` is the sequence of the first record.

    ``starts`` are the sequences at which batches begin.
    """
    rows: list[list[object]] = []
    last: tuple[int, str] | None = None
    for index in sorted(reasons):
        sequence, reason = first + index, storable(reasons[index])
        if last == (sequence - 1, reason) and sequence not in starts:
            rows[-1][2] = sequence
        else:
            rows.append([route, sequence, sequence, "skipped", reason, 0.0])
        last = sequence, reason
    connection.executemany(_ADD_STATE, rows)


def state_of(connection: sqlite3.Connection, route: int, sequence: int) -> tuple[str, str, float] | None:
    """Return state, reason and time of one record at the route, None if it has no row."""
    values = {"route": route, "first": sequence, "last": sequence}
    row = connection.execute(_OVERLAPPING, values).fetchone()
    return None if row is None else row[2:]


def states_in(connection: sqlite3.Connection, route: Route, first: int, last: int) -> Iterator[tuple[str, str, int]]:
    """Yield each state and reason that records from ``first`` to ``last`` have at the route, with their number."""
    overlapping = {"route": route.id, "first": first, "last": last}
    for begin, end, state, reason, _ in connection.execute(_OVERLAPPING, overlapping):
        yield state, reason, min(end, last) - max(begin, first) + 1


def count(connection: sqlite3.Connection, route: int, state: str) -> int:
    """Return how many records of the route are in ``state``: ``buried`` or ``waiting`` (for a replay)."""
    statement = (
        f"SELECT total(last - first + 1) FROM states INDEXED BY states_{state} WHERE route = ? AND state = '{state}'"  # noqa: S608 - one of two constants, literal for the partial index
    )
    return int(connection.execute(statement, (route,)).fetchone()[0])


def history(connection: sqlite3.Connection, trace_id: bytes) -> list[RecordHistory]:
    """Return the records of a trace with their states, including records whose content is deleted."""
    rows = connection.execute(_FIND.replace("WHERE name = ?", "ORDER BY id")).fetchall()
    routes = [Route(*row) for row in rows]
    found: list[RecordHistory] = []
    for first, put_s, meant, index, is_evicted in connection.execute(_OF_TRACE, (trace_id,)):
        for position, span in enumerate(read_spans(index)):
            if span.trace_id != trace_id:
                continue
            states = _states(connection, routes, first + position, meant, is_evicted=bool(is_evicted))
            if is_evicted and not states:
                continue
            found.append(
                RecordHistory(
                    sequence=first + position,
                    trace_id=trace_id,
                    span_id=span.span_id,
                    parent_span_id=span.parent,
                    end_ns=span.end_ns,
                    is_genai=span.is_genai,
                    put_s=0.0 if is_evicted else put_s,
                    states=states,
                )
            )
    return found


def _states(
    connection: sqlite3.Connection, routes: Sequence[Route], sequence: int, meant: str | None, *, is_evicted: bool
) -> tuple[DeliveryState, ...]:
    states: list[DeliveryState] = []
    for route in routes:
        known = state_of(connection, route.id, sequence)
        if known is not None and not (is_evicted and known[0] != "dropped"):
            states.append(DeliveryState(route.name, *known))  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - one of the literals
        elif not is_evicted:
            if sequence <= route.start or not (meant is None or route.mark in meant):
                states.append(DeliveryState(route.name, "absent"))
            else:
                states.append(DeliveryState(route.name, "waiting" if sequence > route.cursor else "delivered"))
    return tuple(states)


def listed(connection: sqlite3.Connection, state: str, route: str | None, limit: int) -> list[DeadLetter]:
    """Return the records in ``state`` (``buried`` or ``dropped``), newest first."""
    rows = connection.execute(_LISTED, (state, route, route, limit))
    return list(islice(_expanded(rows), limit))


def _expanded(rows: Iterable[tuple[str, int, int, str, float, int, bytes]]) -> Iterator[DeadLetter]:
    for name, first, last, reason, at_s, batch, index in rows:
        spans = read_spans(index)
        for sequence in range(last, first - 1, -1):
            span = spans[sequence - batch]
            yield DeadLetter(name, sequence, span.trace_id.hex(), span.span_id.hex(), reason, at_s)
