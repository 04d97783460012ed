"""The spool's tables, and the one way a connection to them is made.

Must never: open a file of a newer spancast or of another program as if it were ours.

``log`` and ``bodies`` are one log: what every claim scans is kept apart from what only
delivery reads, so that passing over 100,000 skipped records reads 8 MB and not 300. A route
waits for what lies behind its cursor (view ``ahead``) and for its unfinished ``replays``.
The log has no index by trace: kept at every put, at random places, it would cost more than all
that ever asks for a trace, which reads the log through (200,000 records in 50 ms).
Ids of ``contexts`` and ``audiences`` are never used twice, so a process may remember them.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from spancast.errors import ConfigError

APPLICATION_ID = 0x53504353  # "SPCS"
VERSION = 1

# Three or four records of 2 KB share a page of 8 KB; of 4 KB pages they fill but half, of 16 KB one of 10 KB has all.
_PAGE_BYTES = 8192
_WAL_PAGES = 1000
_WAL_KEEP_BYTES = 16 << 20

_TABLES = frozenset({
    "counter", "log", "bodies", "contexts", "audiences", "members", "routes", "reasons", "skipped", "replays",
    "buried", "dropped", "history",
})  # fmt: skip

_VERSION_1 = (
    # `spool` tells this file from one that is set aside: a claim of the other must not move cursors here.
    "CREATE TABLE counter (next INTEGER NOT NULL, evicted INTEGER NOT NULL, spool TEXT NOT NULL)",
    "INSERT INTO counter VALUES (1, 0, lower(hex(randomblob(8))))",
    """CREATE TABLE log (
        sequence INTEGER PRIMARY KEY, put_s REAL NOT NULL, trace_id BLOB NOT NULL, span_id BLOB NOT NULL,
        parent BLOB NOT NULL, end_ns INTEGER NOT NULL, is_genai INTEGER NOT NULL, resource INTEGER NOT NULL,
        scope INTEGER NOT NULL, audience INTEGER, size INTEGER NOT NULL)""",
    "CREATE TABLE bodies (sequence INTEGER PRIMARY KEY, crc INTEGER NOT NULL, facts BLOB NOT NULL, body BLOB NOT NULL)",
    "CREATE TABLE contexts (id INTEGER PRIMARY KEY AUTOINCREMENT, digest BLOB NOT NULL UNIQUE, content BLOB NOT NULL)",
    "CREATE TABLE audiences (id INTEGER PRIMARY KEY AUTOINCREMENT, names TEXT NOT NULL UNIQUE)",
    "CREATE TABLE members (route INTEGER, audience INTEGER, PRIMARY KEY (route, audience)) WITHOUT ROWID",
    """CREATE TABLE routes (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, start INTEGER NOT NULL, cursor INTEGER NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0, due_s REAL NOT NULL DEFAULT 0, last_error TEXT NOT NULL DEFAULT '',
        lease TEXT NOT NULL DEFAULT '', lease_until_s REAL NOT NULL DEFAULT 0, lease_end INTEGER NOT NULL DEFAULT 0,
        delivered INTEGER NOT NULL DEFAULT 0, dropped INTEGER NOT NULL DEFAULT 0,
        last_delivered_s REAL NOT NULL DEFAULT 0)""",
    "CREATE TABLE reasons (id INTEGER PRIMARY KEY AUTOINCREMENT, reason TEXT NOT NULL UNIQUE)",
    """CREATE TABLE skipped (
        route INTEGER, sequence INTEGER, reason INTEGER NOT NULL, PRIMARY KEY (route, sequence)) WITHOUT ROWID""",
    "CREATE TABLE replays (route INTEGER, sequence INTEGER, done_s REAL, PRIMARY KEY (route, sequence)) WITHOUT ROWID",
    "CREATE INDEX replays_waiting ON replays (route, sequence) WHERE done_s IS NULL",
    """CREATE TABLE buried (
        route INTEGER, sequence INTEGER, trace_id BLOB NOT NULL, span_id BLOB NOT NULL, reason TEXT NOT NULL,
        at_s REAL NOT NULL, PRIMARY KEY (route, sequence)) WITHOUT ROWID""",
    "CREATE INDEX buried_newest ON buried (at_s)",
    """CREATE TABLE dropped (
        id INTEGER PRIMARY KEY, route INTEGER, sequence INTEGER, trace_id BLOB NOT NULL, span_id BLOB NOT NULL,
        reason TEXT NOT NULL, at_s REAL NOT NULL, UNIQUE (route, sequence))""",
    # Up to and including `upto` the route was served at `at_s`: delivered, or given up for the reason `dropped`.
    """CREATE TABLE history (
        route INTEGER, upto INTEGER, at_s REAL NOT NULL, dropped TEXT, PRIMARY KEY (route, upto)) WITHOUT ROWID""",
    """CREATE VIEW ahead AS
        SELECT r.id AS route, l.sequence, l.size FROM routes r JOIN log l ON l.sequence > r.cursor
        WHERE (l.audience IS NULL OR EXISTS (
            SELECT 1 FROM members m WHERE m.route = r.id AND m.audience = l.audience))
        AND NOT EXISTS (SELECT 1 FROM skipped s WHERE s.route = r.id AND s.sequence = l.sequence)""",
)

_MIGRATIONS: tuple[tuple[str, ...], ...] = (_VERSION_1,)


def connect(path: Path, busy_timeout_s: float) -> sqlite3.Connection:
    """Open the spool at ``path``, making or migrating its tables.

    Raises ConfigError for a newer version or another program's file, sqlite3.OperationalError
    where the file cannot be used now, any other sqlite3.DatabaseError where it is damaged.
    """
    return _prepared(sqlite3.connect(path, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False), path)


def connect_memory(first_sequence: int = 1) -> sqlite3.Connection:
    """Open a new spool in memory, its sequences beginning at ``first_sequence``."""
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    connection = _prepared(connection, Path(":memory:"))
    connection.execute("UPDATE counter SET next = ?", (first_sequence,))
    return connection


def connect_damaged(path: Path) -> sqlite3.Connection:
    """Open a damaged spool to read what can be read; nothing is written to it."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    # Lets a truncated file be opened at all: its header promises more pages than there are.
    connection.execute("PRAGMA writable_schema = ON")
    return connection


def _prepared(connection: sqlite3.Connection, path: Path) -> sqlite3.Connection:
    try:
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        _refuse_foreign(connection, path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_KEEP_BYTES}")
        _migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _refuse_foreign(connection: sqlite3.Connection, path: Path) -> None:
    tables = {str(name) for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    version = _pragma(connection, "user_version")
    is_ours = _pragma(connection, "application_id") == APPLICATION_ID
    if tables >= _TABLES and not is_ours:
        raise sqlite3.DatabaseError("the header is damaged")
    if tables and not is_ours:
        raise ConfigError(f"spool: {path} is a database of another program; name another path")
    if version > VERSION:
        raise ConfigError(
            f"spool: {path} was written by a newer spancast (spool version {version}, this one knows {VERSION}); "
            "upgrade spancast or name another path"
        )
    if version == VERSION and not tables >= _TABLES:
        raise sqlite3.DatabaseError("tables are missing")


def _migrate(connection: sqlite3.Connection) -> None:
    if _pragma(connection, "user_version") == VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Read again: another process may have been faster.
        for statements in _MIGRATIONS[_pragma(connection, "user_version") :]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
