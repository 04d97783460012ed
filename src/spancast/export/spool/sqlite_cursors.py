"""Routes as rows: what is next for one, who holds it, and what came of a claim.

Every function runs inside the caller's transaction, except where it says that it only reads.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from spancast.export.spool.lease_owner import is_gone
from spancast.export.spool.protocol import Lease, QueueStats
from spancast.export.spool.sqlite_records import last_sequence, storable

_LONGEST_WAIT_S = 86_400.0

_FIND = """
    SELECT id, name, start, cursor, attempts, due_s, last_error, lease, lease_until_s, lease_end, delivered, dropped,
        last_delivered_s
    FROM routes WHERE name = ?"""
# CASE and not iif(): the oldest SQLite about (RHEL 8) is 3.26.
_SETTLE = """
    UPDATE routes SET cursor = :cursor, delivered = delivered + :delivered,
        last_delivered_s = CASE WHEN :delivered THEN :at_s ELSE last_delivered_s END,
        lease = CASE WHEN :is_over THEN '' ELSE lease END,
        attempts = CASE WHEN :is_held THEN 0 ELSE attempts END,
        due_s = CASE WHEN :is_held THEN 0 ELSE due_s END,
        last_error = CASE WHEN :is_held THEN '' ELSE last_error END
    WHERE id = :route"""
_AHEAD = "SELECT sequence, size FROM ahead WHERE route = ? ORDER BY sequence LIMIT ?"
_AUDIENCE = """
    SELECT count(*), count(audience), min(audience), max(audience) FROM log
    WHERE sequence > :cursor AND sequence <= :last"""
_IS_MEANT = """
    SELECT (:audience IS NULL OR EXISTS (SELECT 1 FROM members WHERE route = :route AND audience = :audience))
    AND NOT EXISTS (SELECT 1 FROM skipped WHERE route = :route AND sequence > :cursor AND sequence <= :last)
    AND NOT EXISTS (SELECT 1 FROM replays WHERE route = :route AND done_s IS NULL)"""
_AGAIN = """
    SELECT p.sequence, l.size FROM replays p JOIN log l ON l.sequence = p.sequence
    WHERE p.route = ? AND p.done_s IS NULL ORDER BY p.sequence LIMIT ?"""
_HAS_WORK = """
    SELECT EXISTS (SELECT 1 FROM log WHERE sequence > :cursor)
    OR EXISTS (SELECT 1 FROM replays WHERE route = :route AND done_s IS NULL)"""
_WAITING = """
    SELECT sum(n), sum(bytes) FROM (
        SELECT count(*) AS n, total(size) AS bytes FROM ahead WHERE route = :route
        UNION ALL
        SELECT count(*), total(l.size) FROM replays p JOIN log l ON l.sequence = p.sequence
        WHERE p.route = :route AND p.done_s IS NULL)"""

# A lease that ends before the cursor is one of replays.
_LEASED = """
    SELECT CASE WHEN lease_end > cursor
        THEN (SELECT count(*) FROM ahead WHERE route = r.id AND sequence <= r.lease_end)
        ELSE (SELECT count(*) FROM replays WHERE route = r.id AND done_s IS NULL AND sequence <= r.lease_end) END
    FROM routes r WHERE id = ? AND substr(lease, 1, ?) = ?"""


@dataclass(frozen=True, slots=True)
class Route:
    """A row of ``routes``; ``lease_end`` is the last sequence of the range that is leased."""

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

    def is_free(self, now_s: float) -> bool:
        """Tell whether the route is due and nobody alive holds it."""
        if _is_ahead(self.due_s, now_s):
            return False
        return not self.lease or not _is_ahead(self.lease_until_s, now_s) or is_gone(self.lease)


def _is_ahead(moment_s: float, now_s: float) -> bool:
    # Further ahead than any server asks for: the clock was wrong, and nobody must wait for it.
    return now_s < moment_s <= now_s + _LONGEST_WAIT_S


def find_route(connection: sqlite3.Connection, name: str) -> Route | None:
    """Return the row of ``name``; only reads."""
    row = connection.execute(_FIND, (name,)).fetchone()
    return None if row is None else Route(*row)


def open_route(connection: sqlite3.Connection, name: str) -> Route:
    """Return the row of ``name``, new ones beginning at the end of the log."""
    route = find_route(connection, name)
    if route is not None:
        return route
    end = last_sequence(connection)
    connection.execute("INSERT INTO routes (name, start, cursor) VALUES (?, ?, ?)", (name, end, end))
    return Route(*connection.execute(_FIND, (name,)).fetchone())


def open_audience(connection: sqlite3.Connection, names: Sequence[str]) -> int:
    """Return the id of the set of routes ``names``."""
    key = "\n".join(sorted(names))
    row = connection.execute("SELECT id FROM audiences WHERE names = ?", (key,)).fetchone()
    if row is not None:
        return int(row[0])
    audience = connection.execute("INSERT INTO audiences (names) VALUES (?)", (key,)).lastrowid or 0
    members = [(open_route(connection, name).id, audience) for name in names]
    connection.executemany("INSERT OR IGNORE INTO members VALUES (?, ?)", members)
    return audience


def skip(connection: sqlite3.Connection, route: int, reasons: Mapping[int, str]) -> None:
    """Note that ``route`` does not take the sequences of ``reasons`` from the log, and why."""
    ids: dict[str, int] = {}
    for reason in set(reasons.values()):
        text = storable(reason)
        connection.execute("INSERT OR IGNORE INTO reasons (reason) VALUES (?)", (text,))
        (ids[reason],) = connection.execute("SELECT id FROM reasons WHERE reason = ?", (text,)).fetchone()
    rows = [(route, sequence, ids[reason]) for sequence, reason in reasons.items()]
    connection.executemany("INSERT OR REPLACE INTO skipped VALUES (?, ?, ?)", rows)


def has_work(connection: sqlite3.Connection, route: Route) -> bool:
    """Tell whether anything lies before ``route``, skipped or not; only reads."""
    return bool(connection.execute(_HAS_WORK, {"cursor": route.cursor, "route": route.id}).fetchone()[0])


def next_sequences(
    connection: sqlite3.Connection, route: Route, max_records: int, max_bytes: int
) -> tuple[list[int], bool]:
    """Return what ``route`` should get next and whether these are replays; at least one if any waits.

    Replays come first: they are older, and finite. After every second failed try in a row the log comes first, so that
    a replay that fails each time holds up nothing else.
    """
    kinds = ((_AGAIN, True), (_AHEAD, False))
    is_logs_turn = route.attempts > 0 and route.attempts % 2 == 0
    for statement, is_replay in kinds[::-1] if is_logs_turn else kinds:
        sequences = _bounded(connection.execute(statement, (route.id, max_records)), max_bytes)
        if sequences:
            return sequences, is_replay
    return [], False


def is_next(connection: sqlite3.Connection, route: Route, last: int, count: int) -> bool:
    """Tell whether the ``count`` records up to ``last`` are what ``route`` should get next; only reads.

    One question instead of one for each record; False also where only that would tell.
    """
    values = {"route": route.id, "cursor": route.cursor, "last": last}
    kept, with_audience, least, most = connection.execute(_AUDIENCE, values).fetchone()
    if kept != count or with_audience not in (0, count) or least != most:
        return False
    return bool(connection.execute(_IS_MEANT, {**values, "audience": least}).fetchone()[0])


def _bounded(rows: Iterable[tuple[int, int]], max_bytes: int) -> list[int]:
    taken: list[int] = []
    total = 0
    for sequence, size in rows:
        total += size
        if taken and total > max_bytes:
            break
        taken.append(sequence)
    return taken


def move_cursor(connection: sqlite3.Connection, route: Route, cursor: int) -> None:
    """Pass over records nobody needs to be told of: skipped ones, so that they are not scanned again."""
    if cursor > route.cursor:
        connection.execute("UPDATE routes SET cursor = ? WHERE id = ?", (cursor, route.id))


def lease(connection: sqlite3.Connection, route: Route, name: str, until_s: float, end: int) -> None:
    """Give ``route`` up to sequence ``end`` to the lease ``name`` until ``until_s`` (Unix seconds)."""
    connection.execute(
        "UPDATE routes SET lease = ?, lease_until_s = ?, lease_end = ? WHERE id = ?", (name, until_s, end, route.id)
    )


def settle(connection: sqlite3.Connection, claim: Lease, delivered: int, at_s: float) -> None:
    """Count ``claim`` as served, ``delivered`` of its records taken; its lease ends with its last record.

    A claim whose lease was lost is served all the same: what is delivered is delivered.
    """
    route = open_route(connection, claim.route)
    last = claim.entries[-1].sequence
    if claim.is_replay:
        rows = [(at_s, route.id, entry.sequence) for entry in claim.entries]
        connection.executemany("UPDATE replays SET done_s = ? WHERE route = ? AND sequence = ?", rows)
    elif last > route.cursor:
        connection.execute("INSERT OR REPLACE INTO history VALUES (?, ?, ?, NULL)", (route.id, last, at_s))
    values = {
        "route": route.id,
        "cursor": route.cursor if claim.is_replay else max(last, route.cursor),
        "delivered": delivered,
        "at_s": at_s,
        "is_held": route.lease == claim.lease,
        "is_over": route.lease == claim.lease and last >= route.lease_end,
    }
    connection.execute(_SETTLE, values)
    _forget_drops(connection, route, claim)


def _forget_drops(connection: sqlite3.Connection, route: Route, claim: Lease) -> None:
    (evicted,) = connection.execute("SELECT evicted FROM counter").fetchone()
    if claim.entries[0].sequence > evicted:
        return
    # What was pushed out while it was on its way was counted as dropped, and arrived nevertheless.
    rows = [(route.id, entry.sequence) for entry in claim.entries if entry.sequence <= evicted]
    if rows:
        gone = connection.executemany("DELETE FROM dropped WHERE route = ? AND sequence = ?", rows).rowcount
        connection.execute("UPDATE routes SET dropped = dropped - ? WHERE id = ?", (gone, route.id))


def nack(connection: sqlite3.Connection, claim: Lease, due_s: float, reason: str) -> None:
    """Give ``claim`` back, to be tried again from ``due_s`` on; nothing happens if its lease was lost."""
    connection.execute(
        "UPDATE routes SET attempts = attempts + 1, due_s = ?, last_error = ?, lease = '' WHERE name = ? AND lease = ?",
        (due_s, storable(reason), claim.route, claim.lease),
    )


def renew(connection: sqlite3.Connection, claim: Lease, until_s: float) -> bool:
    """Lengthen the lease of ``claim``; False if it was lost."""
    changed = connection.execute(
        "UPDATE routes SET lease_until_s = ? WHERE name = ? AND lease = ?", (until_s, claim.route, claim.lease)
    )
    return changed.rowcount > 0


def is_leased(connection: sqlite3.Connection, now_s: float) -> bool:
    """Tell whether any claim is out; only reads."""
    statement = "SELECT 1 FROM routes WHERE lease <> '' AND lease_until_s > ?"
    return connection.execute(statement, (now_s,)).fetchone() is not None


def waiting_unleased(connection: sqlite3.Connection, prefix: str) -> dict[str, int]:
    """Return how many records wait per route, without those under a lease that begins with ``prefix``; only reads."""
    counts: dict[str, int] = {}
    for route, name in connection.execute("SELECT id, name FROM routes").fetchall():
        waiting, _ = connection.execute(_WAITING, {"route": route}).fetchone()
        leased = connection.execute(_LEASED, (route, len(prefix), prefix)).fetchone()
        counts[name] = waiting - (leased[0] if leased else 0)
    return counts


def release_all(connection: sqlite3.Connection, prefix: str) -> None:
    """Give back every lease whose name begins with ``prefix``."""
    connection.execute("UPDATE routes SET lease = '' WHERE substr(lease, 1, ?) = ?", (len(prefix), prefix))


def state(connection: sqlite3.Connection, name: str) -> QueueStats:
    """Return what waits for the route; only reads."""
    route = find_route(connection, name)
    if route is None:
        return QueueStats(waiting=0, waiting_bytes=0, buried=0, attempts=0, due_s=0.0, last_error="")
    waiting, waiting_bytes = connection.execute(_WAITING, {"route": route.id}).fetchone()
    (buried,) = connection.execute("SELECT count(*) FROM buried WHERE route = ?", (route.id,)).fetchone()
    return QueueStats(
        waiting=waiting,
        waiting_bytes=int(waiting_bytes),
        buried=buried,
        attempts=route.attempts,
        due_s=route.due_s,
        last_error=route.last_error,
        delivered=route.delivered,
        dropped=route.dropped,
        last_delivered_s=route.last_delivered_s,
    )
