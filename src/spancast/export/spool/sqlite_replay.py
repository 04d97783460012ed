"""The past once more: replays, refused records tried again, and what an operator gives up.

Every function but ``replayable`` runs inside the caller's transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from spancast.export.spool.protocol import Lease
from spancast.export.spool.sqlite_cursors import open_route, skip
from spancast.export.spool.sqlite_records import storable

_NS = 1_000_000_000
_BY_HAND = "given up by hand"

# What waits anyway is left alone. Without a judge the verdicts of the time stand.
_REPLAYABLE = """
    SELECT l.sequence FROM log l
    WHERE l.sequence > :after AND l.sequence <= :end AND l.end_ns >= :since_ns AND l.end_ns < :until_ns
    AND (:trace_id IS NULL OR l.trace_id = :trace_id)
    AND (:other IS NULL OR EXISTS (SELECT 1 FROM ahead a WHERE a.route = :other AND a.sequence = l.sequence)
        OR EXISTS (SELECT 1 FROM replays p WHERE p.route = :other AND p.sequence = l.sequence AND p.done_s IS NULL))
    AND (:judged OR NOT EXISTS (SELECT 1 FROM skipped s WHERE s.route = :route AND s.sequence = l.sequence))
    AND NOT EXISTS (SELECT 1 FROM replays p WHERE p.route = :route AND p.sequence = l.sequence AND p.done_s IS NULL)
    AND NOT EXISTS (SELECT 1 FROM ahead a WHERE a.route = :route AND a.sequence = l.sequence)
    ORDER BY l.sequence LIMIT :limit"""
_BURY_UNREADABLE = """
    INSERT OR REPLACE INTO buried
    SELECT ?, sequence, trace_id, span_id, ?, ? FROM log WHERE sequence = ?"""
_GIVE_UP = """
    INSERT OR REPLACE INTO dropped (route, sequence, trace_id, span_id, reason, at_s)
    SELECT ?, sequence, trace_id, span_id, ?, ? FROM log WHERE sequence = ?"""
_AGAIN = "SELECT sequence FROM replays WHERE route = ? AND done_s IS NULL"
_IS_WAITING = """
    SELECT EXISTS (SELECT 1 FROM ahead WHERE route = ? AND sequence = ?)
    OR EXISTS (SELECT 1 FROM replays WHERE route = ? AND sequence = ? AND done_s IS NULL)
    OR EXISTS (SELECT 1 FROM buried WHERE route = ? AND sequence = ?)"""


def replayable(connection: sqlite3.Connection, limits: Mapping[str, object]) -> list[int]:
    """Return the next kept sequences that can be replayed; only reads.

    ``limits``: route (id), after, end (sequences), since_ns, until_ns, trace_id or None, other (route id)
    or None, judged, limit.
    """
    return [sequence for (sequence,) in connection.execute(_REPLAYABLE, limits)]


def nanoseconds(moment_s: float) -> int:
    """Return Unix seconds as nanoseconds, infinity as the largest integer SQLite has."""
    return int(max(-(2.0**62), min(moment_s * _NS, 2.0**62)))


def replay(connection: sqlite3.Connection, route: int, sequences: Sequence[int]) -> None:
    """Let ``route`` have ``sequences`` once more; what was said of them before is forgotten."""
    places = [(route, sequence) for sequence in sequences]
    connection.executemany("INSERT OR REPLACE INTO replays VALUES (?, ?, NULL)", places)
    connection.executemany("DELETE FROM buried WHERE route = ? AND sequence = ?", places)


def bury(connection: sqlite3.Connection, claim: Lease, refused: AbstractSet[int], reason: str, at_s: float) -> int:
    """List the records of ``claim`` whose sequence is in ``refused``; return how many."""
    route = open_route(connection, claim.route).id
    text = storable(reason)
    rows = [
        (route, entry.sequence, entry.record.trace_id, entry.record.span_id, text, at_s)
        for entry in claim.entries
        if entry.sequence in refused
    ]
    connection.executemany("INSERT OR REPLACE INTO buried VALUES (?, ?, ?, ?, ?, ?)", rows)
    return len(rows)


def bury_unreadable(
    connection: sqlite3.Connection, route: int, sequences: Sequence[int], reason: str, at_s: float
) -> None:
    """List records nobody can deliver, and offer them no more."""
    connection.executemany(_BURY_UNREADABLE, [(route, reason, at_s, sequence) for sequence in sequences])
    places = [(route, sequence) for sequence in sequences]
    connection.executemany("DELETE FROM replays WHERE route = ? AND sequence = ?", places)
    skip(connection, route, dict.fromkeys(sequences, reason))


def requeue(connection: sqlite3.Connection, name: str, sequences: Sequence[int] | None) -> int:
    """Let refused records be tried again, all of them or ``sequences``; return how many."""
    route = open_route(connection, name).id
    rows = connection.execute("SELECT sequence FROM buried WHERE route = ?", (route,)).fetchall()
    wanted = [sequence for (sequence,) in rows if sequences is None or sequence in set(sequences)]
    replay(connection, route, wanted)
    return len(wanted)


def drop_all(connection: sqlite3.Connection, name: str, end: int, waiting: int, now_s: float) -> None:
    """Give up everything that waits for the route, ``waiting`` records up to ``end``."""
    route = open_route(connection, name)
    if end > route.cursor:
        connection.execute("UPDATE routes SET cursor = ? WHERE id = ?", (end, route.id))
        connection.execute("INSERT OR REPLACE INTO history VALUES (?, ?, ?, ?)", (route.id, end, now_s, _BY_HAND))
    again = connection.execute(_AGAIN, (route.id,)).fetchall()
    _give_up(connection, route.id, [sequence for (sequence,) in again], now_s)
    connection.execute(
        "UPDATE routes SET dropped = dropped + ?, attempts = 0, due_s = 0, last_error = '', lease = '' WHERE id = ?",
        (waiting, route.id),
    )


def drop_some(connection: sqlite3.Connection, name: str, sequences: Sequence[int], now_s: float) -> int:
    """Give up ``sequences``, waiting or buried; return how many of them were."""
    route = open_route(connection, name).id
    known = [
        number
        for number in sequences
        if connection.execute(_IS_WAITING, (route, number, route, number, route, number)).fetchone()[0]
    ]
    _give_up(connection, route, known, now_s)
    connection.execute("UPDATE routes SET dropped = dropped + ? WHERE id = ?", (len(known), route))
    return len(known)


def _give_up(connection: sqlite3.Connection, route: int, sequences: Sequence[int], now_s: float) -> None:
    places = [(route, sequence) for sequence in sequences]
    for table in ("buried", "replays"):
        connection.executemany(f"DELETE FROM {table} WHERE route = ? AND sequence = ?", places)  # noqa: S608 - two names of ours
    connection.executemany(_GIVE_UP, [(route, _BY_HAND, now_s, sequence) for sequence in sequences])
    # Skipped as well, so that the log does not offer it.
    skip(connection, route, dict.fromkeys(sequences, _BY_HAND))
