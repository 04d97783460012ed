"""What became of records: the fates of a trace, the lists of what was refused and of what was dropped.

Everything here only reads.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from spancast.export.spool.protocol import DeadLetter, DeliveryState, RecordHistory
from spancast.export.spool.sqlite_records import read_facts

_TRACE = """
    SELECT l.sequence, l.trace_id, l.span_id, l.parent, l.end_ns, l.is_genai, l.put_s, l.audience, b.facts
    FROM log l JOIN bodies b ON b.sequence = l.sequence WHERE l.trace_id = ? ORDER BY l.sequence"""
_FATES = """
    SELECT r.name, :sequence > r.cursor,
        :sequence > r.start AND (:audience IS NULL OR EXISTS (
            SELECT 1 FROM members m WHERE m.route = r.id AND m.audience = :audience)),
        p.sequence IS NOT NULL, p.done_s, b.reason, b.at_s, d.reason, d.at_s,
        (SELECT reason FROM reasons WHERE id = s.reason), h.at_s, h.dropped
    FROM routes r
    LEFT JOIN replays p ON p.route = r.id AND p.sequence = :sequence
    LEFT JOIN buried b ON b.route = r.id AND b.sequence = :sequence
    LEFT JOIN dropped d ON d.route = r.id AND d.sequence = :sequence
    LEFT JOIN skipped s ON s.route = r.id AND s.sequence = :sequence
    LEFT JOIN history h ON h.route = r.id AND h.upto = (
        SELECT min(upto) FROM history WHERE route = r.id AND upto >= :sequence)
    ORDER BY r.id"""
_GONE = """
    SELECT d.sequence, d.span_id, r.name, d.reason, d.at_s FROM dropped d JOIN routes r ON r.id = d.route
    WHERE d.trace_id = ? AND d.sequence NOT IN (SELECT sequence FROM log WHERE trace_id = ?) ORDER BY d.sequence"""
_BURIED = """
    SELECT r.name, b.sequence, b.trace_id, b.span_id, b.reason, b.at_s FROM buried b JOIN routes r ON r.id = b.route
    WHERE ? IS NULL OR r.name = ? ORDER BY b.at_s DESC, b.sequence DESC LIMIT ?"""

# Where all that waited was given up at once, the history says so of a range.
_DROPPED = """
    SELECT r.name, d.sequence AS sequence, d.trace_id, d.span_id, d.reason, d.at_s AS at_s
    FROM dropped d JOIN routes r ON r.id = d.route WHERE (:route IS NULL OR r.name = :route)
    AND NOT EXISTS (SELECT 1 FROM replays WHERE route = d.route AND sequence = d.sequence)
    UNION ALL
    SELECT r.name, l.sequence, l.trace_id, l.span_id, h.dropped, h.at_s
    FROM history h JOIN routes r ON r.id = h.route
    JOIN log l ON l.sequence <= h.upto AND l.sequence > ifnull(
        (SELECT max(upto) FROM history WHERE route = h.route AND upto < h.upto), r.start)
    WHERE h.dropped IS NOT NULL AND (:route IS NULL OR r.name = :route)
    AND (l.audience IS NULL OR EXISTS (SELECT 1 FROM members WHERE route = r.id AND audience = l.audience))
    AND NOT EXISTS (SELECT 1 FROM skipped WHERE route = r.id AND sequence = l.sequence)
    AND NOT EXISTS (SELECT 1 FROM replays WHERE route = r.id AND sequence = l.sequence)
    AND NOT EXISTS (SELECT 1 FROM buried WHERE route = r.id AND sequence = l.sequence)
    ORDER BY at_s DESC, sequence DESC LIMIT :limit"""


def find(connection: sqlite3.Connection, trace_id: bytes) -> list[RecordHistory]:
    """Return the records of a trace with their fates, those of which only the fates are left included."""
    found = _gone(connection, trace_id)
    for sequence, trace, span_id, parent, end_ns, is_genai, put_s, audience, facts in connection.execute(
        _TRACE, (trace_id,)
    ).fetchall():
        record = RecordHistory(
            sequence=sequence,
            trace_id=trace,
            span_id=span_id,
            parent_span_id=parent,
            end_ns=end_ns,
            is_genai=bool(is_genai),
            put_s=put_s,
            facts=read_facts(facts),
            fates=fates(connection, sequence, audience),
        )
        found.append(record)
    return found


def sequences(connection: sqlite3.Connection, trace_id: bytes) -> list[int]:
    """Return where the kept records of a trace are, oldest first."""
    rows = connection.execute("SELECT sequence FROM log WHERE trace_id = ? ORDER BY sequence", (trace_id,))
    return [sequence for (sequence,) in rows]


def fates(connection: sqlite3.Connection, sequence: int, audience: int | None) -> tuple[DeliveryState, ...]:
    """Return the fate of one kept record at every route the spool knows."""
    rows = connection.execute(_FATES, {"sequence": sequence, "audience": audience})
    return tuple(_fate(row) for row in rows)


def _fate(row: Sequence[Any]) -> DeliveryState:  # noqa: PLR0911 - one case per fate; the earlier ones hide the later
    name, is_ahead, is_meant, is_replayed, done_s, buried, buried_s, dropped, dropped_s, skipped, served_s, given_up = (
        row
    )
    if buried is not None:
        return DeliveryState(name, "buried", buried, buried_s)
    if is_replayed:
        return DeliveryState(name, "waiting") if done_s is None else DeliveryState(name, "delivered", at_s=done_s)
    if dropped is not None:
        return DeliveryState(name, "dropped", dropped, dropped_s)
    if skipped is not None:
        return DeliveryState(name, "skipped", skipped)
    if not is_meant:
        return DeliveryState(name, "absent")
    if is_ahead:
        return DeliveryState(name, "waiting")
    if given_up is not None:
        return DeliveryState(name, "dropped", given_up, served_s)
    return DeliveryState(name, "delivered", at_s=served_s or 0.0)


def _gone(connection: sqlite3.Connection, trace_id: bytes) -> list[RecordHistory]:
    spans: dict[int, tuple[bytes, list[DeliveryState]]] = {}
    for sequence, span_id, route, reason, at_s in connection.execute(_GONE, (trace_id, trace_id)):
        spans.setdefault(sequence, (span_id, []))[1].append(DeliveryState(route, "dropped", reason, at_s))
    return [_shadow(sequence, trace_id, span_id, told) for sequence, (span_id, told) in spans.items()]


def _shadow(sequence: int, trace_id: bytes, span_id: bytes, told: Sequence[DeliveryState]) -> RecordHistory:
    return RecordHistory(
        sequence=sequence,
        trace_id=trace_id,
        span_id=span_id,
        parent_span_id=b"",
        end_ns=0,
        is_genai=False,
        put_s=0.0,
        facts={},
        fates=tuple(told),
    )


def buried(connection: sqlite3.Connection, route: str | None, limit: int) -> list[DeadLetter]:
    """Return what was refused, newest first."""
    return _listed(connection.execute(_BURIED, (route, route, limit)))


def dropped(connection: sqlite3.Connection, route: str | None, limit: int) -> list[DeadLetter]:
    """Return what was given up, newest first, as far back as it is remembered."""
    return _listed(connection.execute(_DROPPED, {"route": route, "limit": limit}))


def _listed(rows: Iterable[Sequence[Any]]) -> list[DeadLetter]:
    return [
        DeadLetter(name, sequence, bytes(trace_id).hex(), bytes(span_id).hex(), reason, at_s)
        for name, sequence, trace_id, span_id, reason, at_s in rows
    ]
