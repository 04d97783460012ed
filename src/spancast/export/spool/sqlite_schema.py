"""The tables of the spool, and functions to open a connection to them.

One row of ``batches`` holds the records of one ``put``, or a part of it. The sequence of a record is that of its batch
plus its index. Queued for a route are the records after its cursor without a row in ``states``, and ranges in the state
``waiting`` (replays). Ranges of a route do not overlap; only a range of delivered records may cross the border of a
batch.

There is no index by trace: to maintain it at every put costs more than it saves. A search for a trace scans ``spans``
(200,000 records in 50 ms).
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from spancast.errors import ConfigError

APPLICATION_ID: Final = 0x53504353  # "SPCS"
VERSION: Final = 1

# Three or four rows of 2 KB fit in a page of 8 KB. Pages of 4 KB are half empty; of 16 KB, one holds one 10 KB row.
_PAGE_BYTES: Final = 8192
_WAL_PAGES: Final = 1000
_WAL_KEEP_BYTES: Final = 16 << 20

_TABLES: Final = frozenset({"spool", "batches", "routes", "states"})
_SCHEMA: Final = (
    # `id` identifies the file: a lease from a file that was renamed must not move cursors in the new one.
    # Batches up to the sequence `evicted` have no content any more; they explain dropped records.
    "CREATE TABLE spool (id TEXT NOT NULL, next INTEGER NOT NULL, evicted INTEGER NOT NULL)",
    "INSERT INTO spool VALUES (lower(hex(randomblob(8))), 1, 0)",
    # `size`: bytes of bodies, 0 if they are deleted. `routes`: ids such as `,1,3,`, NULL for all.
    # `content`: resources and scopes, whose sizes are in `contexts` (`812,64`), then bodies.
    # Columns for scans come before those for delivery: SQLite reads a long row from its front.
    """CREATE TABLE batches (
        first INTEGER PRIMARY KEY, last INTEGER NOT NULL, put_s REAL NOT NULL, size INTEGER NOT NULL, routes TEXT,
        crc INTEGER NOT NULL, spans BLOB NOT NULL, contexts TEXT NOT NULL, content BLOB NOT NULL)""",
    """CREATE TABLE routes (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, start INTEGER NOT NULL, cursor INTEGER NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0, due_s REAL NOT NULL DEFAULT 0, last_error TEXT NOT NULL DEFAULT '',
        lease TEXT NOT NULL DEFAULT '', lease_until_s REAL NOT NULL DEFAULT 0, lease_end INTEGER NOT NULL DEFAULT 0,
        delivered INTEGER NOT NULL DEFAULT 0, dropped INTEGER NOT NULL DEFAULT 0,
        last_delivered_s REAL NOT NULL DEFAULT 0)""",
    """CREATE TABLE states (
        route INTEGER, first INTEGER, last INTEGER NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL,
        at_s REAL NOT NULL, PRIMARY KEY (route, first)) WITHOUT ROWID""",
    "CREATE INDEX states_waiting ON states (route, first) WHERE state = 'waiting'",
    "CREATE INDEX states_buried ON states (route, first) WHERE state = 'buried'",
    f"PRAGMA user_version = {VERSION}",
    f"PRAGMA application_id = {APPLICATION_ID}",
)

# Rows that our code never writes, read at every opening: a wrong `next` or `cursor`, or a state of records that do not
# exist yet, would hide new spans.
_ODD: Final = (
    "SELECT 1 WHERE (SELECT count(*) FROM spool) <> 1",
    """SELECT 1 FROM spool WHERE typeof(id) <> 'text' OR typeof(next) <> 'integer' OR typeof(evicted) <> 'integer'
        OR next < 1 OR evicted NOT BETWEEN 0 AND next - 1
        OR next <= ifnull((SELECT last FROM batches ORDER BY first DESC LIMIT 1), 0)""",
    """SELECT 1 FROM routes, spool
        WHERE typeof(name) <> 'text' OR typeof(last_error) <> 'text' OR typeof(lease) <> 'text'
        OR typeof(start) <> 'integer' OR typeof(cursor) <> 'integer' OR typeof(attempts) <> 'integer'
        OR typeof(lease_end) <> 'integer' OR typeof(delivered) <> 'integer' OR typeof(dropped) <> 'integer'
        OR typeof(due_s) <> 'real' OR typeof(lease_until_s) <> 'real' OR typeof(last_delivered_s) <> 'real'
        OR start NOT BETWEEN 0 AND next - 1 OR cursor NOT BETWEEN 0 AND next - 1 OR attempts < 0""",
    "SELECT 1 FROM states, spool WHERE typeof(last) <> 'integer' OR last >= next",
)
_ODD_ROWS: Final = (
    """SELECT 1 FROM batches WHERE typeof(last) <> 'integer' OR typeof(put_s) <> 'real' OR typeof(size) <> 'integer'
        OR typeof(crc) <> 'integer' OR typeof(routes) NOT IN ('text', 'null') OR typeof(spans) <> 'blob'
        OR typeof(contexts) <> 'text' OR typeof(content) <> 'blob' OR last < first""",
    """SELECT 1 FROM states WHERE typeof(route) <> 'integer' OR typeof(first) <> 'integer'
        OR typeof(last) <> 'integer' OR typeof(state) <> 'text' OR typeof(reason) <> 'text' OR typeof(at_s) <> 'real'
        OR last < first""",
)


def connect(path: Path, busy_timeout_s: float) -> sqlite3.Connection:
    """Open the spool at ``path``; create the tables if it is empty.

    Raises:
        ConfigError: The file was written by a newer version or by another program.
        sqlite3.OperationalError: The file cannot be used now.
        sqlite3.DatabaseError: The file is damaged.
    """
    connection = sqlite3.connect(path, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False)
    # One damaged byte in a reason must not stop the delivery.
    connection.text_factory = _as_text
    try:
        _prepare(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def connect_memory(first_sequence: int = 1) -> sqlite3.Connection:
    """Open a new spool in memory whose sequences begin at ``first_sequence``."""
    connection = connect(Path(":memory:"), 0.0)
    connection.execute("UPDATE spool SET next = ?", (first_sequence,))
    return connection


def pragma(connection: sqlite3.Connection, name: str) -> int:
    """Return the integer value of ``PRAGMA name``."""
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def is_sound(connection: sqlite3.Connection) -> bool:
    """Return whether every value has the type of its column; the content itself is not read.

    A damaged page can be a valid one with other values; then it is our own code that raises.
    """
    return not any(connection.execute(f"SELECT EXISTS ({odd})").fetchone()[0] for odd in (*_ODD, *_ODD_ROWS))


def _as_text(stored: bytes) -> str:
    return stored.decode(errors="replace")


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("PRAGMA cell_size_check = ON")
    connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    # Deleted content must not stay in free pages.
    connection.execute("PRAGMA secure_delete = ON")
    _check(connection, path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit = {_WAL_KEEP_BYTES}")
    if pragma(connection, "user_version") == VERSION:
        if any(connection.execute(f"SELECT EXISTS ({odd})").fetchone()[0] for odd in _ODD):
            raise sqlite3.DatabaseError("values are damaged")
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in _SCHEMA:
            connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _check(connection: sqlite3.Connection, path: Path) -> None:
    tables = {str(name) for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    version = pragma(connection, "user_version")
    is_ours = pragma(connection, "application_id") == APPLICATION_ID
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
