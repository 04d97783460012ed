"""The PostgreSQL destination: a row per span in OpenRouter's table; Supabase, Neon and others by their address.

One statement per batch, with one parameter: the rows as JSON. Only columns that the table has are written. A primary
key on trace and span makes a repeated batch harmless.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from spancast.destinations.config import OwnFormatConfig
from spancast.destinations.field_types import Duration, Secret, Text
from spancast.destinations.optional_imports import required
from spancast.destinations.place import Place
from spancast.destinations.protocol import Delivered, Encoder, Failed, Outcome, Payload, Rejected, Retry
from spancast.destinations.sql_rows import COLUMNS, DEFAULT_ENTITY, DEFAULT_TABLE, rows_json

EXTRA: Final = "postgres"
TABLE: Final = DEFAULT_TABLE.lower()
_PORT: Final = 5432
_MS_PER_S: Final = 1000
_NO_TABLE: Final = "42P01"
_CREDENTIALS: Final = ("28", "42501")
"""Password, user, rights: they may be corrected, so spans stay queued."""
_TEMPORARY: Final = ("08", "40", "53", "55", "57", "58")
"""Connection, rollback, resources, locks, intervention of the operator, system error."""
_ROW_ERRORS: Final = ("21", "22", "23")
"""Data that a column or a constraint does not accept."""
_WRONG_TABLE: Final = ("3D", "3F", "42")


def _check_url(value: SecretStr) -> SecretStr:
    parts = urlsplit(value.get_secret_value())
    try:
        is_valid = parts.scheme in ("postgresql", "postgres") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid:
        raise ValueError("must be an address of one server, `postgresql://USER:PASSWORD@HOST:5432/DATABASE`")
    return value


class PostgresConfig(OwnFormatConfig, frozen=True):
    """A table in PostgreSQL."""

    type: Literal["postgres"]
    url: Annotated[Secret, AfterValidator(_check_url)] = Field(
        description="`postgresql://USER:PASSWORD@HOST:5432/DATABASE`, with libpq's parameters (`?sslmode=require`)."
    )
    table: Text = Field(TABLE, description="The table, with its schema if needed; `spancast destinations postgres`"
                                           " shows its DDL.")  # fmt: skip
    entity_id: Text = Field(DEFAULT_ENTITY, description="Value of the column entity_id.")
    organization_id: Text | None = Field(None, description="Value of the column organization_id.")
    create_table: bool = Field(default=False, description="Create the table if it does not exist.")
    timeout: Duration = Field(10.0, description="Time limit of one delivery.")

    def ddl(self) -> str:
        """Return the statement that creates the table."""
        return ddl(self.table)

    def place(self) -> Place:
        """Return the server, the database, the table, the user, the entity and the organization."""
        parts = urlsplit(self.url.get_secret_value())
        return Place(
            address={
                "server": f"{(parts.hostname or '').rstrip('.')}:{parts.port or _PORT}",
                "database": parts.path.strip("/") or parts.username,
                "table": self.table,
            },
            account={
                "user": parts.username,
                "entity_id": self.entity_id,
                "organization_id": self.organization_id,
            },
        )


def ddl(table: str = TABLE) -> str:
    """Return a ``CREATE TABLE`` statement for the table."""
    columns = ",\n".join(f"    {_quote(name.lower())} {column.postgres}" for name, column in COLUMNS.items())
    return f"CREATE TABLE IF NOT EXISTS {_quote(table)} (\n{columns},\n    PRIMARY KEY (trace_id, span_id)\n)"


def _quote(name: str) -> str:
    return ".".join(f'"{part.strip(chr(34)).replace(chr(34), chr(34) * 2)}"' for part in name.split("."))


class PostgresDestination:
    """Inserts batches; connects for the first batch, in a forked child, and again after a failure."""

    def __init__(self, config: PostgresConfig, encoder: Encoder, connect: Callable[[], Any]) -> None:
        self.encoder = encoder
        self._config = config
        self._connect = connect
        self._connection: Any = None
        self._process_id = 0
        self._insert = ""
        self._columns: dict[str, bool] = {}
        """Of each column, whether it must not be null."""
        self._lock = threading.Lock()

    def deliver(self, payload: Payload, timeout_s: float) -> Outcome:
        """Insert a row per span of ``payload``, except those that the table has."""
        return self._attempt(lambda cursor: self._insert_rows(cursor, payload), timeout_s)

    def test_connection(self, timeout_s: float) -> Outcome:
        """Read the columns of the table and the right to insert: server, user, table, without a row."""
        return self._attempt(self._check_right, timeout_s)

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._disconnect()

    def _attempt(self, act: Callable[[Any], Outcome], timeout_s: float) -> Outcome:
        library = required("psycopg", EXTRA)
        limit_ms = math.ceil(min(timeout_s, self._config.timeout) * _MS_PER_S)
        with self._lock:
            try:
                if self._connection is None or self._process_id != os.getpid():
                    # A child must not use the connection of its parent, not even to close it.
                    self._connection, self._process_id, self._columns = self._connect(), os.getpid(), {}
                # In a transaction, so that the time limit applies behind a pooler, too.
                with self._connection.transaction(), self._connection.cursor() as cursor:
                    cursor.execute(f"SET LOCAL statement_timeout = {max(limit_ms, 1)}")
                    if not self._columns:
                        self._describe(cursor)
                    return act(cursor)
            except library.Error as error:
                self._disconnect()
                return _outcome(error, self._config)

    def _describe(self, cursor: Any) -> None:  # noqa: ANN401 - the library's cursor
        if self._config.create_table:
            cursor.execute(ddl(self._config.table))
        name = _quote(self._config.table)
        cursor.execute(
            "SELECT attname, quote_ident(attname), attnotnull FROM pg_attribute"
            " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''",
            [name],
        )
        columns = [row for row in cursor.fetchall() if row[0].upper() in COLUMNS]
        self._columns = {column: is_not_null for column, _, is_not_null in columns}
        listed, name = ", ".join(quoted for _, quoted, _ in columns), name.replace("%", "%%")
        self._insert = (
            f"INSERT INTO {name} ({listed}) SELECT {listed} FROM json_populate_recordset(NULL::{name}, %s::json)"  # noqa: S608 - quoted names
            " ON CONFLICT DO NOTHING"
        )

    def _insert_rows(self, cursor: Any, payload: Payload) -> Outcome:  # noqa: ANN401
        context = {"entity_id": self._config.entity_id, "organization_id": self._config.organization_id}
        not_null = {name for name, is_not_null in self._columns.items() if is_not_null}
        cursor.execute(self._insert, [rows_json(payload.spans, self._columns, context, not_null)])
        return Delivered()

    def _check_right(self, cursor: Any) -> Outcome:  # noqa: ANN401
        cursor.execute("SELECT has_table_privilege(%s::regclass, 'INSERT')", [_quote(self._config.table)])
        (may_insert,) = cursor.fetchone()
        return Delivered() if may_insert else Retry(f"{_label(self._config)}: no right to insert")

    def _disconnect(self) -> None:
        connection, self._connection, self._columns = self._connection, None, {}
        if connection is not None and self._process_id == os.getpid():
            connection.close()


def _label(config: PostgresConfig) -> str:
    address = config.place().address
    return f"PostgreSQL {address['server']}, table {config.table}"


def _outcome(error: Any, config: PostgresConfig) -> Outcome:  # noqa: ANN401 - the library's error
    code: str = error.sqlstate or ""
    # A message about data may quote a row.
    text = str(error.diag.message_primary or "") if code.startswith((*_CREDENTIALS, *_WRONG_TABLE)) else ""
    reason = f"{_label(config)}: {type(error).__name__}{f' ({code})' if code else ''}{f': {text}' if text else ''}"
    if code == _NO_TABLE:
        reason += f"; create {config.table}, or set create_table"
    is_data_error = type(error).__name__ == "DataError" and not code
    if code.startswith((*_TEMPORARY, *_CREDENTIALS)) or (not code and not is_data_error):
        return Retry(reason)
    if is_data_error or code.startswith((*_ROW_ERRORS, *_WRONG_TABLE)):
        return Rejected(reason, invalid_content=is_data_error or code.startswith(_ROW_ERRORS))
    return Failed(reason)


def create(config: PostgresConfig, encoder: Encoder) -> PostgresDestination:
    """Return the destination of ``config``; it connects on first use.

    Raises:
        ConfigError: psycopg is not installed.
    """
    library = required("psycopg", EXTRA)
    limit_s = max(math.ceil(config.timeout), 1)

    def connect() -> Any:  # noqa: ANN401
        return library.connect(
            config.url.get_secret_value(),
            autocommit=True,
            connect_timeout=limit_s,
            # A server that answers nothing any more; Linux only, other systems ignore it.
            tcp_user_timeout=limit_s * _MS_PER_S,
            # Poolers that share a connection between clients know no prepared statements.
            prepare_threshold=None,
        )

    return PostgresDestination(config, encoder, connect)
