"""The local store: spans in a SQLite file, for SQL queries or ``spancast traces`` and ``show``.

One row per span; a span that is delivered again replaces its row. Only the user can read the
file (mode 0600).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field

from spancast.destinations.config import DestinationConfig
from spancast.destinations.field_types import Duration, UserPath, state_directory
from spancast.destinations.place import Place, absolute
from spancast.destinations.private_file import create_private
from spancast.destinations.protocol import Delivered, Encoder, Outcome, Payload, Rejected, Retry
from spancast.encoding.genai_fields import costs, iso_time, raw_trace_id, total_tokens
from spancast.encoding.span_data import EventData, ResourceData, ScopeData, SpanData
from spancast.model import json_codec, semconv

_NO_HOME: Final = "no home directory for the local store: set XDG_STATE_HOME or the `path` of the store"
_DIRECTORY_MODE: Final = 0o700
_NS_PER_S: Final = 1_000_000_000
_BUSY_S: Final = 5.0
_DELETE_EVERY_S: Final = 3600.0
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
_VALUE_ERRORS: Final = (sqlite3.InterfaceError, sqlite3.ProgrammingError, sqlite3.DataError, sqlite3.IntegrityError)
"""SQLite errors caused by a value of a row; others are caused by the file."""
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


class StoreConfig(DestinationConfig, frozen=True):
    """A SQLite file of spans."""

    type: Literal["store"]
    path: UserPath | None = Field(default_factory=default_store_path, description="The SQLite file.")
    max_age: Duration = Field(30 * 86_400.0, description="Older spans are deleted.")

    def place(self) -> Place:
        """Return the path of the file."""
        return Place(address={"path": None if self.path is None else absolute(self.path)})


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
        with self._connect(create=True) as database, database:
            database.execute("DELETE FROM spans WHERE start_ns < ?", (before_ns,))

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

    @contextmanager
    def _connect(self, *, create: bool = False) -> Generator[Any]:
        if not create and not self.path.is_file():
            yield None
            return
        if create:
            self.path.parent.mkdir(_DIRECTORY_MODE, parents=True, exist_ok=True)
            create_private(self.path)
        with closing(sqlite3.connect(self.path, timeout=_BUSY_S)) as database:
            if create:
                database.execute("PRAGMA journal_mode = WAL")
                database.executescript(_SCHEMA)
            yield database


class StoreDestination:
    """Writes batches to a ``Store`` and deletes old spans."""

    def __init__(self, config: StoreConfig, encoder: Encoder, now_s: Callable[[], float] = time.time) -> None:
        self.encoder = encoder
        self.store = Store(config.path) if config.path else None
        self._max_age_s = config.max_age
        self._now_s = now_s
        self._deleted_s = 0.0

    def deliver(self, payload: Payload, timeout_s: float) -> Outcome:  # noqa: ARG002 - SQLite has a limit of its own
        """Write ``payload``; a full disk or locked file gives ``Retry``, a value that SQLite cannot store raises."""
        return self._attempt(lambda store: self._write(store, payload.spans))

    def test_connection(self, timeout_s: float) -> Outcome:  # noqa: ARG002
        """Return success if the file can be opened and written."""
        return self._attempt(lambda store: store.write(()))

    def close(self) -> None:
        """Do nothing: the file is open only while it is used."""

    def _write(self, store: Store, spans: Sequence[SpanData]) -> None:
        store.write(spans)
        now_s = self._now_s()
        if now_s - self._deleted_s > _DELETE_EVERY_S:
            self._deleted_s = now_s
            store.forget(int((now_s - self._max_age_s) * _NS_PER_S))

    def _attempt(self, act: Callable[[Store], None]) -> Outcome:
        if self.store is None:
            return Rejected(_NO_HOME)
        try:
            act(self.store)
        except (OSError, sqlite3.Error) as error:
            if isinstance(error, _VALUE_ERRORS):
                raise
            return Retry(f"{self.store.path}: {error}")
        return Delivered()


def _full_ids(database: sqlite3.Connection, given: str, limit: int) -> list[str]:
    query = "SELECT DISTINCT trace_id FROM spans WHERE trace_id = :id OR raw_trace_id = :id LIMIT :limit"
    query_values = {"id": given, "limit": limit}
    found = database.execute(query, query_values).fetchall()
    if not found and given:
        by_prefix = "SELECT DISTINCT trace_id FROM spans WHERE substr(trace_id, 1, length(:id)) = :id LIMIT :limit"
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
