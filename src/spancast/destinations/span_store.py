"""The SQLite file of the local store: written by its destination, read by ``spancast traces`` and ``show``.

One row per span; a span that is delivered again replaces its row. Only the user can read the
file (mode 0600).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from spancast.destinations.place import state_directory
from spancast.destinations.private_file import create_private
from spancast.destinations.store_index import StoreIndex, quoted
from spancast.encoding.genai_fields import costs, iso_time, raw_trace_id, total_tokens
from spancast.encoding.span_data import EventData, ResourceData, ScopeData, SpanData
from spancast.model import json_codec, semconv

_DIRECTORY_MODE: Final = 0o700
_NS_PER_S: Final = 1_000_000_000
_BUSY_S: Final = 5.0
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS spans (
    trace_id TEXT NOT NULL,         -- 32 lowercase hex digits
    span_id TEXT NOT NULL,          -- 16
    parent TEXT NOT NULL,           -- span_id of the parent, '' for a root
    name TEXT NOT NULL,
    start TEXT NOT NULL,            -- UTC, ISO 8601 with milliseconds
    start_ns INTEGER NOT NULL,
    end_ns INTEGER NOT NULL,
    duration_ms REAL NOT NULL,
    raw_trace_id TEXT NOT NULL,     -- trace_id as given by the caller
    trace_name TEXT,
    model TEXT,
    provider TEXT,
    session_id TEXT,
    user_id TEXT,
    input_tokens INTEGER,
    output_tokens INTEGER,
    total_tokens INTEGER,
    cost REAL,                      -- USD, as charged by the provider, else estimated
    status TEXT NOT NULL,           -- unset, ok, error
    status_message TEXT NOT NULL,
    kind INTEGER NOT NULL,
    scope TEXT NOT NULL,
    attributes TEXT NOT NULL,       -- JSON
    events TEXT NOT NULL,           -- JSON
    resource TEXT NOT NULL,         -- JSON
    PRIMARY KEY (trace_id, span_id)
);
CREATE INDEX IF NOT EXISTS spans_by_start ON spans (start_ns);
CREATE INDEX IF NOT EXISTS spans_by_session ON spans (session_id, start_ns) WHERE session_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS spans_by_raw_trace_id ON spans (raw_trace_id);
"""
_COLUMNS: Final = (
    "trace_id", "span_id", "parent", "name", "start", "start_ns", "end_ns", "duration_ms", "raw_trace_id", "trace_name",
    "model", "provider", "session_id", "user_id", "input_tokens", "output_tokens", "total_tokens", "cost", "status",
    "status_message", "kind", "scope", "attributes", "events", "resource",
)  # fmt: skip
_UPSERT: Final = f"INSERT OR REPLACE INTO spans ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608 - constant names
_SUMMARIES: Final = """
SELECT trace_id, raw_trace_id, coalesce(max(trace_name), max(CASE WHEN parent = '' THEN name END), min(name)),
       max(session_id), max(user_id), min(start_ns), max(end_ns), count(*), count(model),
       CASE WHEN count(input_tokens) THEN CAST(total(input_tokens) AS INTEGER) END,
       CASE WHEN count(output_tokens) THEN CAST(total(output_tokens) AS INTEGER) END, sum(cost), sum(status = 'error'),
       max(instr(attributes, '"spancast.cost.estimated":true')),
       max(trace_name IS NOT NULL AND parent != '' AND NOT EXISTS (
           SELECT 1 FROM spans AS other WHERE other.trace_id = spans.trace_id AND other.span_id = spans.parent))
       AND NOT max(instr(attributes, '"spancast.trace.parent_span_id"')),
       json_group_array(DISTINCT model) FILTER (WHERE model IS NOT NULL)
FROM spans WHERE trace_id IN (
    SELECT trace_id FROM spans
    WHERE start_ns >= :since AND (:session IS NULL OR session_id = :session)
    AND (:model IS NULL OR instr(lower(model), lower(:model)))
    AND (NOT :errors OR trace_id IN (SELECT trace_id FROM spans WHERE status = 'error'))
    GROUP BY trace_id ORDER BY max(start_ns) DESC LIMIT :limit)
GROUP BY trace_id ORDER BY max(start_ns) DESC
"""


def default_store_path() -> Path | None:
    """Return ``spancast/spans.db`` in the directory for the user's state, None if there is no home directory."""
    directory = state_directory()
    return None if directory is None else directory / "spans.db"


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSummary:
    """The summary of one trace, for ``spancast traces``."""

    trace_id: str
    raw_trace_id: str
    name: str
    session_id: str | None
    user_id: str | None
    start_ns: int
    end_ns: int
    spans: int
    calls: int
    input_tokens: int | None
    output_tokens: int | None
    cost: float | None
    errors: int
    is_estimated: bool
    """Whether a part of ``cost`` is estimated."""
    is_open: bool
    """Whether a group has not ended: a span that names the trace has a parent that is not stored."""
    models: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreUsage:
    """The size of a store; ``oldest_s`` is the start of its oldest span in Unix seconds, 0 without one."""

    spans: int
    bytes_on_disk: int
    oldest_s: float


class Store:
    """Read and write access to the SQLite file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, spans: Iterable[SpanData]) -> None:
        """Insert ``spans``, replacing those with the same ids."""
        with self._connect(create=True) as database, database:
            database.executemany(_UPSERT, [_row(span) for span in spans])

    def forget(self, before_ns: int) -> None:
        """Delete spans that started before ``before_ns``."""
        self._delete("start_ns < ?", [before_ns])

    def delete(self, trace_ids: Sequence[str] | None) -> int:
        """Delete the spans of these traces, or with None all spans; return how many."""
        if trace_ids is None:
            return self._delete("1", [])
        return sum(self._delete("trace_id = ?", [trace_id]) for trace_id in trace_ids)

    def _delete(self, condition: str, values: Sequence[Any]) -> int:
        with self._connect(create=True) as database:
            # What is deleted is overwritten, too.
            database.execute("PRAGMA secure_delete = ON")
            with database:
                count = database.execute(f"DELETE FROM spans WHERE {condition}", values).rowcount  # noqa: S608 - constants
            if count:
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if count:
            # If the index is locked, the page is running, which removes them itself.
            with suppress(sqlite3.OperationalError):
                StoreIndex(self.path).remove_vanished()
        return count

    def traces(
        self,
        limit: int = 20,
        session: str | None = None,
        since_s: float = 0.0,
        *,
        model: str | None = None,
        with_errors: bool = False,
    ) -> list[TraceSummary]:
        """Return at most ``limit`` traces, newest first, optionally of one ``session`` or since ``since_s`` (Unix).

        ``model`` is a part of a model name; ``with_errors`` selects traces with a failed span.
        """
        query_values = {
            "limit": limit,
            "session": session,
            "since": int(since_s * _NS_PER_S),
            "model": model,
            "errors": with_errors,
        }
        with self._connect() as database:
            rows: list[tuple[Any, ...]] = database.execute(_SUMMARIES, query_values).fetchall() if database else []
        summaries: list[TraceSummary] = []
        for row in rows:
            values: dict[str, Any] = dict(zip(TraceSummary.__dataclass_fields__, row, strict=True))
            for flag in ("is_estimated", "is_open"):
                values[flag] = bool(values[flag])
            values["models"] = json_codec.decode(values["models"])
            summaries.append(TraceSummary(**values))
        return summaries

    def ids(self, given: str, limit: int = 10) -> list[str]:
        """Return the trace ids that match ``given``: the hex id, the caller's id, or a prefix of the hex id."""
        with self._connect() as database:
            return _full_ids(database, given, limit) if database else []

    def trace(self, trace_id: str) -> list[SpanData]:
        """Return the spans of one trace by its hex id, the caller's id, or a unique prefix of the hex id."""
        with self._connect() as database:
            if database is None:
                return []
            matches = _full_ids(database, trace_id, 2)
            found = matches[0] if len(matches) == 1 else trace_id
            query = f"SELECT {', '.join(_COLUMNS)} FROM spans WHERE trace_id = ? ORDER BY start_ns"  # noqa: S608
            return [_span(dict(zip(_COLUMNS, row, strict=True))) for row in database.execute(query, (found,))]

    def usage(self) -> StoreUsage | None:
        """Return the size of the store; None if there is no file.

        Raises:
            sqlite3.Error: The file is damaged.
        """
        with self._connect() as database:
            if database is None:
                return None
            spans, oldest_ns = database.execute("SELECT count(*), min(start_ns) FROM spans").fetchone()
        return StoreUsage(spans=spans, bytes_on_disk=self.path.stat().st_size, oldest_s=(oldest_ns or 0) / _NS_PER_S)

    @contextmanager
    def _connect(self, *, create: bool = False) -> Generator[Any]:
        if not create and not self.path.is_file():
            yield None
            return
        if create:
            self.path.parent.mkdir(_DIRECTORY_MODE, parents=True, exist_ok=True)
            create_private(self.path)
        address = f"file:{quoted(self.path)}?mode={'rwc' if create else 'ro'}"
        with closing(sqlite3.connect(address, uri=True, timeout=_BUSY_S)) as database:
            if create:
                database.execute("PRAGMA journal_mode = WAL")
                database.executescript(_SCHEMA)
            yield database


def _full_ids(database: sqlite3.Connection, given: str, limit: int) -> list[str]:
    query = "SELECT DISTINCT trace_id FROM spans WHERE trace_id = :id OR raw_trace_id = :id LIMIT :limit"
    query_values = {"id": given, "limit": limit}
    found = database.execute(query, query_values).fetchall()
    if not found and given:
        # The digits of an id come before "g", so that the index finds the prefix.
        by_prefix = "SELECT DISTINCT trace_id FROM spans WHERE trace_id >= :id AND trace_id < :id || 'g' LIMIT :limit"
        found = database.execute(by_prefix, {**query_values, "id": given.lower()}).fetchall()
    return [trace_id for (trace_id,) in found]


def _row(span: SpanData) -> tuple[Any, ...]:
    input_tokens, output_tokens = span.count(semconv.USAGE_INPUT_TOKENS), span.count(semconv.USAGE_OUTPUT_TOKENS)
    return (
        span.trace_id, span.span_id, span.parent_span_id, span.name, iso_time(span.start_ns), span.start_ns,
        span.end_ns, span.duration_ms, raw_trace_id(span), span.text(semconv.TRACE_NAME),
        span.text(semconv.RESPONSE_MODEL, semconv.REQUEST_MODEL), span.text(semconv.PROVIDER_NAME),
        span.text(semconv.SESSION_ID), span.text(semconv.USER_ID), input_tokens, output_tokens, total_tokens(span),
        costs(span).total, span.status, span.status_message, span.kind, span.scope.name,
        json_codec.encode(span.attributes), _events_text(span.events), json_codec.encode(span.resource.attributes),
    )  # fmt: skip


def _events_text(events: Iterable[EventData]) -> str:
    return json_codec.encode([{"name": one.name, "at_ns": one.at_ns, "attributes": one.attributes} for one in events])


def _span(row: dict[str, Any]) -> SpanData:
    return SpanData(
        trace_id=row["trace_id"],
        span_id=row["span_id"],
        parent_span_id=row["parent"],
        name=row["name"],
        kind=row["kind"],
        start_ns=row["start_ns"],
        end_ns=row["end_ns"],
        status=row["status"],
        status_message=row["status_message"],
        attributes=json_codec.decode(row["attributes"]) or {},
        events=tuple(EventData(**event) for event in json_codec.decode(row["events"]) or ()),
        resource=ResourceData(json_codec.decode(row["resource"]) or {}),
        scope=ScopeData(row["scope"]),
    )
