"""An index beside the local store, for lists, filters, full-text search and sums over many traces.

The store has one row per span with its content. This file (``spans-index.db`` beside ``spans.db``, mode 0600) has what
a list shows of each trace, and the words of its messages (SQLite FTS5). A program that is traced does not pay for it:
``refresh``, called by the page, reads the rows that are new in the store, the newest first. The store itself is only
read. The file may be deleted at any time.

Rows of the store are known by their rowid, which grows. A rowid that was used again (after a deletion, or VACUUM) is
recognised by the ids of its span.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, fields
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

from spancast.destinations import store_sums
from spancast.destinations.private_file import create_private
from spancast.destinations.store_sums import (
    CALL,
    MODEL,
    PROVIDER,
    SCHEMA,
    SESSION,
    STATUS,
    USER,
    Call,
    Sums,
    count_calls,
    key_text,
)
from spancast.encoding.genai_fields import completion, conversation, costs, own_keys
from spancast.encoding.span_data import SpanData
from spancast.model import json_codec, semconv
from spancast.model.json_codec import is_list, is_mapping
from spancast.model.privacy import may_pass

_VERSION: Final = 3
_BUSY_S: Final = 5.0
_NS_PER_S: Final = 1_000_000_000
_CHUNK: Final = 500
_OLD_CHUNK: Final = 4_000
_SMALL: Final = 20_000
_VANISHED_EVERY_S: Final = 10.0
_MAX_TEXT: Final = 64_000
_MAX_LINE: Final = 240
_MAX_KEYS: Final = 100
_FIRST_HITS: Final = 250
_HITS: Final = 1_000
_FEW: Final = 500
_SOME: Final = 20_000
_MAX_LISTED: Final = 5_000
_MAX_HITS: Final = 20_000
"""Traces and hits that one page examines: filters that few of them pass must not read all."""
_STRUCTURE: Final = frozenset({"type", "role", "id", "finish_reason"})
_TAIL: Final = 100
_BEFORE_HIT: Final = 40
_FROM_HIT: Final = 140
HIT_START: Final = "\x02"
HIT_END: Final = "\x03"
"""Marks around a found word in ``TraceRow.found``."""
_SCHEMA: Final = f"""
CREATE TABLE IF NOT EXISTS state (version INTEGER, low INTEGER, high INTEGER, spans INTEGER);
CREATE TABLE IF NOT EXISTS spans (
    id INTEGER PRIMARY KEY,         -- rowid in the store
    trace_id TEXT NOT NULL, span_id TEXT NOT NULL, parent TEXT NOT NULL, name TEXT NOT NULL, raw_id TEXT NOT NULL,
    trace_name TEXT, start_ns INTEGER NOT NULL, end_ns INTEGER NOT NULL, is_call INTEGER NOT NULL, model TEXT,
    provider TEXT, session TEXT, user TEXT, input INTEGER, output INTEGER, cached INTEGER, cost REAL,
    is_estimated INTEGER NOT NULL, first_chunk_ns INTEGER, error TEXT, question TEXT, answer TEXT, keys TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS spans_by_trace ON spans (trace_id);
-- With every column of `Call`: totals with a filter read this index alone.
CREATE INDEX IF NOT EXISTS calls_by_start ON spans (
    start_ns, end_ns, error, input, output, cached, cost, is_estimated, model, provider, session, user, keys)
    WHERE is_call;
CREATE TABLE IF NOT EXISTS traces (
    trace_id TEXT PRIMARY KEY, raw_id TEXT NOT NULL, name TEXT NOT NULL, start_ns INTEGER NOT NULL,
    end_ns INTEGER NOT NULL, spans INTEGER NOT NULL, calls INTEGER NOT NULL, errors INTEGER NOT NULL, error TEXT,
    models TEXT NOT NULL, providers TEXT NOT NULL, session TEXT, user TEXT, input INTEGER, output INTEGER, cost REAL,
    is_estimated INTEGER NOT NULL, first_chunk_ns INTEGER, question TEXT, answer TEXT, keys TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS traces_by_start ON traces (start_ns, end_ns, cost);
CREATE INDEX IF NOT EXISTS traces_by_session ON traces (session, start_ns) WHERE session IS NOT NULL;
CREATE TABLE IF NOT EXISTS keys (
    key TEXT, value TEXT, start_ns INTEGER, trace_id TEXT, PRIMARY KEY (key, value, start_ns, trace_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS keys_by_trace ON keys (trace_id);
CREATE TABLE IF NOT EXISTS names (key TEXT, value TEXT, PRIMARY KEY (key, value)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sessions (
    session TEXT PRIMARY KEY, traces INTEGER, calls INTEGER, errors INTEGER, start_ns INTEGER, end_ns INTEGER,
    input INTEGER, output INTEGER, cost REAL, is_estimated INTEGER, user TEXT, question TEXT, answer TEXT
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sessions_by_end ON sessions (end_ns);
CREATE VIRTUAL TABLE IF NOT EXISTS texts USING fts5(text, tokenize = "unicode61 remove_diacritics 2");
{SCHEMA}"""
_TABLES: Final = ("state", "spans", "traces", "keys", "names", "sessions", "texts", "sums")
_READ: Final = (
    "rowid", "trace_id", "span_id", "parent", "name", "raw_trace_id", "trace_name", "start_ns", "end_ns", "model",
    "provider", "session_id", "user_id", "input_tokens", "output_tokens", "cost", "status", "status_message", "kind",
    "attributes",
)  # fmt: skip
_SESSIONS: Final = """
INSERT OR REPLACE INTO sessions
SELECT session, count(*), sum(calls), sum(errors), min(start_ns), max(end_ns), sum(input), sum(output), sum(cost),
    max(is_estimated), max(user),
    (SELECT question FROM traces f WHERE f.session = t.session AND question IS NOT NULL ORDER BY start_ns LIMIT 1),
    (SELECT answer FROM traces l WHERE l.session = t.session AND answer IS NOT NULL ORDER BY start_ns DESC LIMIT 1)
FROM traces t WHERE session = ? GROUP BY session"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceRow:
    """What a list shows of one trace; ``question`` is the first one, ``answer`` the last one, both on one line."""

    trace_id: str
    raw_id: str
    name: str
    start_ns: int
    end_ns: int
    spans: int
    calls: int
    errors: int
    error: str | None
    models: Sequence[str]
    providers: Sequence[str]
    session: str | None
    user: str | None
    input: int | None
    output: int | None
    cost: float | None
    is_estimated: bool
    first_chunk_ns: int | None
    """The shortest wait for the first chunk of a stream; None if nothing was streamed."""
    question: str | None
    answer: str | None
    keys: Mapping[str, Any]
    found: str = ""
    """The text around a found word, with ``HIT_START`` and ``HIT_END``."""
    hit: int = 0
    """The position of a search result, for the next page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRow:
    """The sums of one session."""

    session: str
    traces: int
    calls: int
    errors: int
    start_ns: int
    end_ns: int
    input: int | None
    output: int | None
    cost: float | None
    is_estimated: bool
    user: str | None
    question: str | None
    answer: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceQuery:
    """A selection of traces. ``keys`` are names and values, ``MODEL`` and its like included; all must match."""

    words: str = ""
    keys: Sequence[tuple[str, str]] = ()
    min_cost: float | None = None
    min_ns: int | None = None
    since_ns: int | None = None
    until_ns: int | None = None
    before: int | None = None
    """Continue a list: start time of its last trace, or ``hit`` of the last search result."""
    limit: int = 50


class Progress(NamedTuple):
    """How many spans of the store are in the index."""

    indexed: int
    total: int


@dataclass(slots=True)
class _Found:
    """Traces and sessions whose rows must be written again."""

    traces: set[str] = field(default_factory=set[str])
    sessions: set[str] = field(default_factory=set[str])


class StoreIndex:
    """The index of one store; safe for threads, and for several processes on one file."""

    def __init__(self, store: Path, path: Path | None = None) -> None:
        self.store = store
        self.path = path or store.with_name(f"{store.stem}-index.db")
        self._lock = threading.Lock()
        self._seen: object = None
        self._progress = Progress(0, 0)
        self._checked_s = 0.0

    # --- keeping it current -----------------------------------------------------------------------

    def refresh(self, budget_s: float = float("inf"), *, vanished: bool = False) -> Progress:
        """Read new rows of the store for about ``budget_s``; return how far the index is.

        Rows that were deleted in the store are removed at once if ``vanished``; else every ten seconds, and only
        with a budget of a second or more, because that may read all ids. If another thread refreshes for longer than
        ``budget_s``, its last progress is returned.
        """
        end_s = time.monotonic() + budget_s
        if not self.store.is_file():
            return Progress(0, 0)
        if not self._lock.acquire(timeout=-1 if budget_s == float("inf") else budget_s):
            return self._progress
        try:
            changes = self._changes()
            if changes != self._seen or vanished or not self.path.exists():
                self._progress = self._refreshed(end_s, changes, is_due=vanished)
            return self._progress
        finally:
            self._lock.release()

    def _refreshed(self, end_s: float, changes: object, *, is_due: bool) -> Progress:
        with self._connect() as database:
            low, high = self._verified(database)
            has_time = end_s - time.monotonic() >= 1
            # Large chunks cost less per row, small ones end in time.
            size = _OLD_CHUNK if low != _EMPTY and has_time else _CHUNK
            while True:
                done, low, high = _index_chunk(database, low, high, size)
                if not done or time.monotonic() > end_s:
                    break
            is_due = is_due or (has_time and time.monotonic() - self._checked_s > _VANISHED_EVERY_S)
            if is_due and not done:
                if _stored(database) != _indexed(database):
                    _remove_vanished(database)
                self._checked_s = time.monotonic()
            # Without the check for deleted rows there is something left to do.
            self._seen = changes if not done and is_due else None
            indexed = _indexed(database)
            return Progress(indexed, _stored(database) if done else indexed)

    def remove_vanished(self) -> None:
        """Remove what the store no longer has, if there is an index."""
        if self.path.is_file():
            with self._lock, self._connect() as database:
                _remove_vanished(database)

    def _changes(self) -> object:
        # Each commit to the store writes to one of these files.
        stats = [path.stat() for name in ("", "-wal") if (path := Path(f"{self.store}{name}")).exists()]
        return [(one.st_mtime_ns, one.st_size) for one in stats]

    @staticmethod
    def _verified(database: sqlite3.Connection) -> tuple[int, int]:
        """Remove the newest entries whose rows are of other spans now; return the state after it."""
        low, high = _state(database)
        while high >= low and high:
            newest = database.execute(
                "SELECT i.id, s.rowid IS NOT NULL FROM spans i LEFT JOIN store.spans s ON s.rowid = i.id"
                " AND s.trace_id = i.trace_id AND s.span_id = i.span_id ORDER BY i.id DESC LIMIT ?",
                (_TAIL,),
            ).fetchall()
            if not newest or newest[0][1]:
                break
            wrong = [one for one, is_same in newest if not is_same]
            with database:
                _remove(database, wrong)
                remaining = database.execute("SELECT max(id) FROM spans").fetchone()[0]
                high = remaining or 0
                low = low if remaining else _EMPTY
                database.execute("UPDATE state SET low = ?, high = ?", (low, high))
        return low, high

    @contextmanager
    def _connect(self) -> Generator[sqlite3.Connection]:
        create_private(self.path)
        self._remove_damaged()
        # A URI, so that ATTACH takes one, too.
        with closing(sqlite3.connect(f"file:{quoted(self.path)}", uri=True, timeout=_BUSY_S)) as database:
            database.execute("PRAGMA journal_mode = WAL")
            # The index can be made again.
            database.execute("PRAGMA synchronous = OFF")
            database.execute("PRAGMA cache_size = -65536")
            database.execute("PRAGMA secure_delete = ON")
            if not _is_current(database):
                _create_tables(database)
            database.execute("ATTACH ? AS store", (f"file:{quoted(self.store)}?mode=ro",))
            yield database

    def _remove_damaged(self) -> None:
        """Remove the file if SQLite cannot read it: it can be made again."""
        try:
            with closing(sqlite3.connect(self.path, timeout=_BUSY_S)) as database:
                database.execute("SELECT count(*) FROM sqlite_master")
        except sqlite3.OperationalError:
            # Locked or not readable now; the caller sees the same error.
            return
        except sqlite3.DatabaseError:
            for ending in ("", "-wal", "-shm"):
                Path(f"{self.path}{ending}").unlink(missing_ok=True)
            create_private(self.path)

    @contextmanager
    def _reading(self) -> Generator[sqlite3.Connection | None]:
        if not self.path.is_file():
            yield None
            return
        with closing(sqlite3.connect(f"file:{quoted(self.path)}?mode=ro", uri=True, timeout=_BUSY_S)) as database:
            yield database if _is_current(database) else None

    # --- reading ----------------------------------------------------------------------------------

    def traces(self, query: TraceQuery) -> list[TraceRow]:
        """Return the traces of ``query``, newest first; those of a search in the order of their newest hit."""
        return self.page(query)[0]

    def page(self, query: TraceQuery) -> tuple[list[TraceRow], int | None]:
        """Return the traces as ``traces``, and ``TraceQuery.before`` of the next page; None at the end.

        If few pass the filters, a page may have fewer traces than the limit, or none, and others follow.
        """
        with self._reading() as database:
            if database is None:
                return [], None
            if not query.words.strip():
                return _listed(database, query)
            # Whole words first: to collect all words with a common beginning takes a second in a million spans.
            rows, following = _searched(database, query, "")
            return (rows, following) if rows or following else _searched(database, query, "*")

    def trace(self, trace_id: str) -> TraceRow | None:
        """Return the row of one trace."""
        with self._reading() as database:
            found = database and database.execute("SELECT * FROM traces WHERE trace_id = ?", (trace_id,)).fetchone()
            return _trace_row(found) if found else None

    def sessions(self, before: int | None = None, limit: int = 50) -> list[SessionRow]:
        """Return the sessions that ended before ``before``, newest first."""
        with self._reading() as database:
            if database is None:
                return []
            statement = "SELECT * FROM sessions WHERE end_ns < ? ORDER BY end_ns DESC LIMIT ?"
            rows = database.execute(statement, (before or 1 << 62, limit)).fetchall()
        return [_session_row(row) for row in rows]

    def session(self, session: str) -> SessionRow | None:
        """Return the sums of one session."""
        with self._reading() as database:
            found = database and database.execute("SELECT * FROM sessions WHERE session = ?", (session,)).fetchone()
        return _session_row(found) if found else None

    def traces_of(self, session: str, limit: int = 1_000) -> list[str]:
        """Return the ids of the traces of a session, oldest first."""
        statement = "SELECT trace_id FROM traces WHERE session = ? ORDER BY start_ns LIMIT ?"
        with self._reading() as database:
            rows = database.execute(statement, (session, limit)).fetchall() if database else []
        return [trace_id for (trace_id,) in rows]

    def earlier_calls(self, session: str, before_ns: int, limit: int = 40) -> list[tuple[str, str]]:
        """Return trace id and span id of the session's calls that started before ``before_ns``, newest first."""
        statement = (
            "SELECT s.trace_id, s.span_id FROM traces t JOIN spans s ON s.trace_id = t.trace_id"
            " WHERE t.session = ? AND t.start_ns < ? AND s.is_call AND s.start_ns < ?"
            " ORDER BY t.start_ns DESC, s.start_ns DESC LIMIT ?"
        )
        with self._reading() as database:
            return database.execute(statement, (session, before_ns, before_ns, limit)).fetchall() if database else []

    def later_calls(self, session: str, after_ns: int, limit: int = 10) -> list[tuple[str, str]]:
        """Return trace id and span id of calls of the session's traces that started after ``after_ns``, in order."""
        statement = (
            "SELECT s.trace_id, s.span_id FROM traces t JOIN spans s ON s.trace_id = t.trace_id"
            " WHERE t.session = ? AND t.start_ns > ? AND s.is_call ORDER BY t.start_ns, s.start_ns LIMIT ?"
        )
        with self._reading() as database:
            return database.execute(statement, (session, after_ns, limit)).fetchall() if database else []

    def calls_before(self, session: str, start_ns: int) -> int:
        """Return the number of calls in traces of the session that started before ``start_ns``."""
        statement = "SELECT sum(calls) FROM traces WHERE session = ? AND start_ns < ?"
        with self._reading() as database:
            found = database.execute(statement, (session, start_ns)).fetchone() if database else (0,)
        return found[0] or 0

    def cached_tokens(self, session: str) -> int:
        """Return how many input tokens of a session's calls were read from the provider's cache."""
        statement = (
            "SELECT sum(s.cached) FROM traces t JOIN spans s ON s.trace_id = t.trace_id"
            " WHERE t.session = ? AND s.is_call"
        )
        with self._reading() as database:
            found = database.execute(statement, (session,)).fetchone() if database else (0,)
        return found[0] or 0

    def values(self, key: str, limit: int = 200) -> list[str]:
        """Return known values of ``MODEL`` or ``PROVIDER``, or with an empty key the names of custom keys."""
        with self._reading() as database:
            rows = (
                database.execute(
                    "SELECT value FROM names WHERE key = ? ORDER BY value LIMIT ?", (key, limit)
                ).fetchall()
                if database
                else []
            )
        return [value for (value,) in rows]

    def totals(self, by: str, since_ns: int, keys: Sequence[tuple[str, str]] = (), limit: int = 500) -> list[Sums]:
        """Return the sums of calls since ``since_ns`` by ``DAY``, ``MODEL``, ``USER`` or a custom key."""
        with self._reading() as database:
            return store_sums.totals(database, by, since_ns, keys, limit) if database else []


_EMPTY: Final = 1 << 62
"""``low`` of an empty index."""
# By the primary key of the table.
_EXISTS: Final = (
    "EXISTS (SELECT 1 FROM keys k WHERE k.key = ? AND k.value = ? AND k.start_ns = {of}.start_ns"
    " AND k.trace_id = {of}.trace_id)"
)


def quoted(path: Path) -> str:
    """Return ``path`` for a SQLite URI."""
    return str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _is_current(database: sqlite3.Connection) -> bool:
    try:
        row = database.execute("SELECT version FROM state").fetchone()
    except sqlite3.OperationalError:
        return False
    return row is not None and row[0] == _VERSION


def _create_tables(database: sqlite3.Connection) -> None:
    with database:
        # Another process may have made them meanwhile.
        database.execute("BEGIN IMMEDIATE")
        if _is_current(database):
            return
        for table in _TABLES:
            database.execute(f"DROP TABLE IF EXISTS {table}")
        for statement in _SCHEMA.split(";\n"):
            database.execute(statement)
        database.execute("INSERT INTO state VALUES (?, ?, 0, 0)", (_VERSION, _EMPTY))


def _state(database: sqlite3.Connection) -> tuple[int, int]:
    low, high = database.execute("SELECT low, high FROM state").fetchone()
    return low, high


def _index_chunk(database: sqlite3.Connection, low: int, high: int, size: int) -> tuple[int, int, int]:
    """Add the next rows, new ones before old ones; return how many, and the lowest and highest rowid of the index."""
    read = f"SELECT {', '.join(_READ)} FROM store.spans"  # noqa: S608 - constants
    with database:
        # Locked before the state is read: another process may use the same file.
        database.execute("BEGIN IMMEDIATE")
        low, high = _state(database)
        if low != _EMPTY:
            rows = database.execute(f"{read} WHERE rowid > ? ORDER BY rowid LIMIT ?", (high, size)).fetchall()
        else:
            rows = []
        if not rows:
            rows = database.execute(f"{read} WHERE rowid < ? ORDER BY rowid DESC LIMIT ?", (low, size)).fetchall()
        if rows:
            _add(database, rows)
            ids = [row[0] for row in rows]
            low, high = min(low, *ids), max(high, *ids)
            database.execute("UPDATE state SET low = ?, high = ?", (low, high))
    return len(rows), low, high


def _add(database: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    found = _Found()
    # A span that was delivered again has a new rowid; a deleted one may have had this rowid.
    again = {
        one[0]
        for row in rows
        for one in database.execute(
            "SELECT id FROM spans WHERE (trace_id = ? AND span_id = ?) OR id = ?", (row[1], row[2], row[0])
        )
    }
    if again:
        _remove_rows(database, again, found)
    for row in rows:
        entry, text = _entry(dict(zip(_READ, row, strict=True)))
        database.execute(f"INSERT INTO spans VALUES ({', '.join('?' * len(entry))})", entry)  # noqa: S608
        if text:
            database.execute("INSERT INTO texts (rowid, text) VALUES (?, ?)", (row[0], text))
        found.traces.add(entry[1])
    database.execute("UPDATE state SET spans = spans + ?", (len(rows),))
    count_calls(database, _calls(database, [row[0] for row in rows]))
    _summarise(database, found)


def _calls(database: sqlite3.Connection, ids: Iterable[int]) -> list[Call]:
    statement = f"SELECT {CALL} FROM spans WHERE id IN (SELECT value FROM json_each(?)) AND is_call"  # noqa: S608 - constants
    return [Call(*row) for row in database.execute(statement, (json_codec.encode(list(ids)),))]


def _indexed(database: sqlite3.Connection) -> int:
    return int(database.execute("SELECT spans FROM state").fetchone()[0])


def _stored(database: sqlite3.Connection) -> int:
    return int(database.execute("SELECT count(*) FROM store.spans").fetchone()[0])


def _remove_vanished(database: sqlite3.Connection) -> None:
    gone = [
        one
        for (one,) in database.execute(
            "SELECT id FROM spans EXCEPT SELECT rowid FROM store.spans INDEXED BY spans_by_start"
        )
    ]
    if gone:
        with database:
            _remove(database, gone)
            if database.execute("SELECT count(*) FROM (SELECT 1 FROM texts LIMIT ?)", (_SMALL,)).fetchone()[0] < _SMALL:
                # Else the words of deleted text stay in the file until SQLite merges their segment.
                database.execute("INSERT INTO texts (texts) VALUES ('optimize')")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _remove(database: sqlite3.Connection, ids: Sequence[int]) -> None:
    found = _Found()
    _remove_rows(database, ids, found)
    _summarise(database, found)


def _remove_rows(database: sqlite3.Connection, ids: Collection[int], found: _Found) -> None:
    count_calls(database, _calls(database, ids), -1)
    database.execute("UPDATE state SET spans = spans - ?", (len(ids),))
    for one in ids:
        for trace_id, session in database.execute("SELECT trace_id, session FROM spans WHERE id = ?", (one,)):
            found.traces.add(trace_id)
            if session:
                found.sessions.add(session)
        database.execute("DELETE FROM spans WHERE id = ?", (one,))
        database.execute("DELETE FROM texts WHERE rowid = ?", (one,))


_SPAN: Final = (
    "span_id, parent, name, raw_id, trace_name, start_ns, end_ns, is_call, model, provider, session, user, input,"
    " output, cached, cost, is_estimated, first_chunk_ns, error, question, answer, keys"
)


class _Span(NamedTuple):
    span_id: str
    parent: str
    name: str
    raw_id: str
    trace_name: str | None
    start_ns: int
    end_ns: int
    is_call: int
    model: str | None
    provider: str | None
    session: str | None
    user: str | None
    input: int | None
    output: int | None
    cached: int | None
    cost: float | None
    is_estimated: int
    first_chunk_ns: int | None
    error: str | None
    question: str | None
    answer: str | None
    keys: str


def _summarise(database: sqlite3.Connection, found: _Found) -> None:
    """Write the rows of the traces and sessions of ``found`` again."""
    for trace_id in found.traces:
        database.execute("DELETE FROM keys WHERE trace_id = ?", (trace_id,))
        statement = f"SELECT {_SPAN} FROM spans WHERE trace_id = ? ORDER BY start_ns, end_ns DESC"  # noqa: S608
        spans = [_Span(*row) for row in database.execute(statement, (trace_id,))]
        if not spans:
            former = database.execute("DELETE FROM traces WHERE trace_id = ? RETURNING session", (trace_id,)).fetchall()
            found.sessions.update(session for (session,) in former if session)
            continue
        row = _trace_values(trace_id, spans)
        database.execute(f"INSERT OR REPLACE INTO traces VALUES ({', '.join('?' * len(row))})", list(row.values()))  # noqa: S608
        if row["session"]:
            found.sessions.add(row["session"])
        pairs = list(_key_pairs(row, spans))
        database.executemany(
            "INSERT OR IGNORE INTO keys VALUES (?, ?, ?, ?)",
            [(key, value, row["start_ns"], trace_id) for key, value in pairs],
        )
        names = [(key, value) for key, value in pairs if key in (MODEL, PROVIDER)]
        names += [("", key) for key, _ in pairs if not key.startswith("@")]
        database.executemany("INSERT OR IGNORE INTO names VALUES (?, ?)", names)
    for session in found.sessions:
        database.execute("DELETE FROM sessions WHERE session = ?", (session,))
        database.execute(_SESSIONS, (session,))


def _trace_values(trace_id: str, spans: Sequence[_Span]) -> dict[str, Any]:
    calls = [span for span in spans if span.is_call]
    known = {span.span_id for span in spans}
    roots = [span.name for span in spans if span.parent not in known]
    keys: dict[str, Any] = {}
    for span in spans:
        keys |= json_codec.decode(span.keys) or {}
    chunks = [span.first_chunk_ns for span in calls if span.first_chunk_ns is not None]
    # The error of a call passes through the spans around it.
    failed = [span.error for span in calls if span.error is not None]
    failed = failed or [span.error for span in spans if span.error is not None]
    return {
        "trace_id": trace_id,
        "raw_id": next((span.raw_id for span in spans if span.raw_id != trace_id), trace_id),
        "name": next((span.trace_name for span in spans if span.trace_name), roots[0] if roots else spans[0].name),
        "start_ns": spans[0].start_ns,
        "end_ns": max(span.end_ns for span in spans),
        "spans": len(spans),
        "calls": len(calls),
        "errors": len(failed),
        "error": next(filter(None, failed), None),
        "models": json_codec.encode(list(dict.fromkeys(span.model for span in calls if span.model))),
        "providers": json_codec.encode(list(dict.fromkeys(span.provider for span in calls if span.provider))),
        "session": next((span.session for span in spans if span.session), None),
        "user": next((span.user for span in spans if span.user), None),
        "input": _total([span.input for span in calls]),
        "output": _total([span.output for span in calls]),
        "cost": _total([span.cost for span in calls]),
        "is_estimated": int(any(span.is_estimated for span in calls)),
        "first_chunk_ns": min(chunks) if chunks else None,
        "question": next((span.question for span in calls if span.question), None),
        "answer": next((span.answer for span in reversed(calls) if span.answer), None),
        "keys": json_codec.encode(keys),
    }


def _total(values: Iterable[Any]) -> Any:  # noqa: ANN401 - int or float
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _key_pairs(row: Mapping[str, Any], spans: Sequence[_Span]) -> Iterator[tuple[str, str]]:
    for key, names in ((MODEL, row["models"]), (PROVIDER, row["providers"])):
        for name in json_codec.decode(names):
            yield key, name
    for key, names in ((SESSION, [span.session for span in spans]), (USER, [span.user for span in spans])):
        for name in dict.fromkeys(filter(None, names)):
            yield key, name
    yield STATUS, "error" if row["errors"] else "ok"
    for key, value in json_codec.decode(row["keys"]).items():
        for one in value if is_list(value) else (value,):
            yield key, key_text(one)


# --- one span -------------------------------------------------------------------------------------


def _entry(row: Mapping[str, Any]) -> tuple[tuple[Any, ...], str]:
    """Return the row of a span for the index, and its words."""
    attributes = json_codec.decode(row["attributes"])
    span = SpanData(
        trace_id=row["trace_id"], span_id=row["span_id"], parent_span_id=row["parent"], name=row["name"],
        kind=row["kind"], start_ns=row["start_ns"], end_ns=row["end_ns"], status=row["status"],
        status_message=row["status_message"], attributes=attributes if is_mapping(attributes) else {},
    )  # fmt: skip
    request, response = conversation(span), completion(span)
    messages = (request or {}).get("messages", ())
    answer = (response or {}).get("completion")
    is_failed = span.status == "error"
    chunk = span.number(semconv.RESPONSE_TIME_TO_FIRST_CHUNK)
    entry = (
        row["rowid"], span.trace_id, span.span_id, span.parent_span_id, span.name, row["raw_trace_id"],
        row["trace_name"], span.start_ns, span.end_ns, int(span.is_generation), row["model"], row["provider"],
        row["session_id"], row["user_id"], row["input_tokens"], row["output_tokens"],
        span.count(semconv.USAGE_CACHE_READ), row["cost"],
        int(costs(span).source is not None), None if chunk is None else round(chunk * _NS_PER_S),
        (span.text(semconv.ERROR_TYPE) or span.status_message or "")[:_MAX_LINE] if is_failed else None,
        _one_line(_question(messages)), _one_line(answer),
        json_codec.encode(dict(islice(own_keys(span).items(), _MAX_KEYS))),
    )  # fmt: skip
    return entry, "\n".join(_words(span, messages, response))


def _question(messages: Sequence[Mapping[str, Any]]) -> str | None:
    for message in reversed(messages):
        if message.get("role") == "user":
            texts = list(_strings(message.get("content")))
            if texts:
                return " ".join(texts)
    return None


def _one_line(text: str | None) -> str | None:
    if not text:
        return None
    line = " ".join(text[: _MAX_LINE * 4].split())
    return line if len(line) <= _MAX_LINE else line[: _MAX_LINE - 1] + "…"


def _words(span: SpanData, messages: Sequence[Mapping[str, Any]], response: Mapping[str, Any] | None) -> Iterator[str]:
    texts = [span.name, span.status_message]
    if messages or response:
        texts += _strings([message.get("content") for message in messages])
        texts += _strings([message.get("tool_calls") for message in messages])
        texts += _strings(response)
    else:
        # Content of other instrumentations.
        texts += [
            text for name, value in span.attributes.items() if not may_pass(name, value) for text in _strings(value)
        ]
    texts = [text for text in texts if text]
    room = _MAX_TEXT
    for text in texts:
        yield text if len(text) <= room else f"{text[: room // 2]}\n{text[-room // 2 :]}"
        room = max(room - len(text), 1_000)


def _strings(value: object) -> Iterator[str]:
    """Yield the texts in ``value``, without the names and ids of its structure."""
    stack: list[object] = [value]
    while stack:
        one = stack.pop()
        if isinstance(one, str):
            yield one
        elif is_mapping(one):
            stack += reversed([item for name, item in one.items() if name not in _STRUCTURE])
        elif is_list(one):
            stack += reversed(one)


# --- queries --------------------------------------------------------------------------------------


def _match(words: str, ending: str) -> str:
    """Return ``words`` as an FTS5 query: all words (``*`` as ``ending``: beginnings); text in quotes is a phrase."""
    parts: list[str] = []
    for position, piece in enumerate(words.split('"')):
        given = [piece] if position % 2 else piece.split()
        parts += [f'"{one}"{"" if position % 2 else ending}' for one in given if any(map(str.isalnum, one))]
    return " ".join(parts)


def _conditions(query: TraceQuery, keys: Sequence[tuple[str, str]]) -> tuple[str, list[Any]]:
    parts = [_EXISTS.format(of="t") for _ in keys]
    values: list[Any] = [part for one in keys for part in one]
    for condition, value in (
        ("t.cost >= ?", query.min_cost),
        ("t.end_ns - t.start_ns >= ?", query.min_ns),
        ("t.start_ns >= ?", query.since_ns),
        ("t.start_ns < ?", query.until_ns),
    ):
        if value is not None:
            parts.append(condition)
            values.append(value)
    return "".join(f" AND {one}" for one in parts), values


def _listed(database: sqlite3.Connection, query: TraceQuery) -> tuple[list[TraceRow], int | None]:
    before = query.before or _EMPTY
    examined: list[Any] = []
    if query.keys:
        # In the order of the key's own index, so that the first page of a rare value reads no more than it shows.
        rare = min(query.keys, key=lambda one: _count(database, one))
        condition, values = _conditions(query, [one for one in query.keys if one != rare])
        some = "FROM keys WHERE key = ? AND value = ? AND start_ns < ? ORDER BY start_ns DESC LIMIT ?"
        statement = (
            f"SELECT t.* FROM (SELECT trace_id, start_ns {some}) f CROSS JOIN traces t ON t.trace_id = f.trace_id"  # noqa: S608
            f" WHERE 1{condition} ORDER BY f.start_ns DESC LIMIT ?"
        )
        given = [*rare, before, _MAX_LISTED if condition else query.limit + 1]
        rows = database.execute(statement, [*given, *values, query.limit + 1]).fetchall()
        if condition and len(rows) <= query.limit:
            last = f"SELECT start_ns {some} OFFSET ?"
            examined = database.execute(last, [*rare, before, 1, _MAX_LISTED - 1]).fetchall()
    else:
        condition, values = _conditions(query, ())
        # The condition reads the index alone.
        statement = (
            "SELECT t.* FROM (SELECT t.trace_id FROM traces t INDEXED BY traces_by_start WHERE t.start_ns < ?"  # noqa: S608
            f"{condition} ORDER BY t.start_ns DESC LIMIT ?) f JOIN traces t ON t.trace_id = f.trace_id"
            " ORDER BY t.start_ns DESC"
        )
        rows = database.execute(statement, [before, *values, query.limit + 1]).fetchall()
    found = [_trace_row(row) for row in rows[: query.limit]]
    if len(rows) > query.limit:
        return found, found[-1].start_ns
    return found, examined[0][0] if examined else None


def _count(database: sqlite3.Connection, one: tuple[str, str]) -> int:
    statement = "SELECT count(*) FROM (SELECT 1 FROM keys WHERE key = ? AND value = ? LIMIT 1000)"
    return int(database.execute(statement, one).fetchone()[0])


def _searched(database: sqlite3.Connection, query: TraceQuery, ending: str) -> tuple[list[TraceRow], int | None]:
    match = _match(query.words, ending)
    if not match:
        return [], None
    condition, values = _conditions(query, query.keys)
    allowed = _allowed(database, query.keys)
    newest: dict[str, int] = {}
    left_out: set[str] = set()
    examined, last = 0, None
    for hits in _hits(database, match, query.before or _EMPTY, allowed):
        examined, last = examined + len(hits), hits[-1]
        found = database.execute(
            "SELECT s.trace_id, s.id FROM json_each(?) h CROSS JOIN spans s ON s.id = h.value ORDER BY s.id DESC",
            (json_codec.encode(hits),),
        ).fetchall()
        unknown = {one for one, _ in found} - newest.keys() - left_out
        if allowed is not None:
            unknown &= allowed
        chosen = f"SELECT t.trace_id FROM json_each(?) c CROSS JOIN traces t ON t.trace_id = c.value WHERE 1{condition}"  # noqa: S608
        passed = {one for (one,) in database.execute(chosen, [json_codec.encode(list(unknown)), *values])}
        for trace_id, hit in found:
            if trace_id in passed and trace_id not in newest:
                if _is_before(database, query, match, trace_id):
                    passed.remove(trace_id)
                else:
                    newest[trace_id] = hit
        left_out |= unknown - passed
        if len(newest) > query.limit or examined >= _MAX_HITS:
            break
    else:
        last = None
    rows: list[TraceRow] = []
    # Not `snippet`, which takes the square of the hits in a text: a second and more for a word said 10,000 times.
    marked = f"SELECT highlight(texts, 0, '{HIT_START}', '{HIT_END}') FROM texts WHERE texts MATCH ? AND rowid = ?"  # noqa: S608
    for trace_id, hit in islice(newest.items(), query.limit):
        row = database.execute("SELECT * FROM traces WHERE trace_id = ?", (trace_id,)).fetchone()
        (text,) = database.execute(marked, (match, hit)).fetchone()
        rows.append(_trace_row(row, found=_around_hit(text), hit=hit))
    return rows, rows[-1].hit if len(newest) > query.limit else last


def _around_hit(text: str) -> str:
    """Return the first hit of ``text`` with the words around it, on one line."""
    hit = max(text.find(HIT_START), 0)
    begin = text.find(" ", max(hit - _BEFORE_HIT, 0), hit) + 1 if hit > _BEFORE_HIT else 0
    begin = begin or max(hit - _BEFORE_HIT, 0)
    line = " ".join(text[begin : hit + _FROM_HIT].split())
    if line.count(HIT_START) > line.count(HIT_END):
        line += HIT_END
    return f"{'…' if begin else ''}{line}{'…' if hit + _FROM_HIT < len(text) else ''}"


def _allowed(database: sqlite3.Connection, keys: Sequence[tuple[str, str]]) -> set[str] | None:
    """Return the traces that have one of ``keys``, that with the fewest; None if each has many, or there is none."""
    for most in (_FEW, _SOME):
        for one in keys:
            statement = "SELECT trace_id FROM keys WHERE key = ? AND value = ? LIMIT ?"
            if len(rows := database.execute(statement, (*one, most + 1)).fetchall()) <= most:
                return {trace_id for (trace_id,) in rows}
    return None


def _hits(database: sqlite3.Connection, match: str, before: int, allowed: set[str] | None) -> Iterator[list[int]]:
    """Yield the rowids of spans that match, newest first, in parts; of few ``allowed`` traces only theirs."""
    if allowed is not None and len(allowed) <= _FEW:
        own = "SELECT id FROM spans WHERE trace_id IN (SELECT value FROM json_each(?)) AND id < ? ORDER BY id DESC"
        ids = database.execute(own, (json_codec.encode(list(allowed)), before)).fetchall()
        is_hit = "SELECT 1 FROM texts WHERE texts MATCH ? AND rowid = ?"
        found = [one for (one,) in ids if database.execute(is_hit, (match, one)).fetchone()]
        yield from ([found] if found else [])
        return
    # FTS5 yields rowids in this order without collecting them, so the first page of a common word is fast.
    hits = database.execute(
        "SELECT rowid FROM texts WHERE texts MATCH ? AND rowid < ? ORDER BY rowid DESC", (match, before)
    )
    size = _FIRST_HITS
    while some := [one for (one,) in hits.fetchmany(size)]:
        yield some
        size = _HITS


def _is_before(database: sqlite3.Connection, query: TraceQuery, match: str, trace_id: str) -> bool:
    """Return whether a newer hit has put the trace on an earlier page."""
    if query.before is None:
        return False
    statement = (
        "SELECT 1 FROM spans s CROSS JOIN texts ON texts.rowid = s.id"
        " WHERE s.trace_id = ? AND s.id >= ? AND texts MATCH ? LIMIT 1"
    )
    return database.execute(statement, (trace_id, query.before, match)).fetchone() is not None


_TRACE_FIELDS: Final = tuple(one.name for one in fields(TraceRow) if one.name not in ("found", "hit"))
_SESSION_FIELDS: Final = tuple(one.name for one in fields(SessionRow))
"""In the order of the columns of the tables."""


def _trace_row(row: Sequence[Any], **more: Any) -> TraceRow:  # noqa: ANN401
    values: dict[str, Any] = dict(zip(_TRACE_FIELDS, row, strict=True))
    for name in ("models", "providers", "keys"):
        values[name] = json_codec.decode(values[name])
    values["is_estimated"] = bool(values["is_estimated"])
    return TraceRow(**values, **more)


def _session_row(row: Sequence[Any]) -> SessionRow:
    values: dict[str, Any] = dict(zip(_SESSION_FIELDS, row, strict=True))
    values["is_estimated"] = bool(values["is_estimated"])
    return SessionRow(**values)
