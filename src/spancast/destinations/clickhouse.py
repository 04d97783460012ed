"""The ClickHouse destination: a row per span in OpenRouter's ``OPENROUTER_TRACES`` table.

Source: OpenRouter's ClickHouse destination. Only columns that the table has are written, so that
the user's own DDL works. JSON values are written as text to a ``String`` column, as objects to a
``JSON`` or ``Map`` column.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field

from spancast.destinations.config import NetworkConfig, OwnFormatConfig
from spancast.destinations.field_types import Secret, Text
from spancast.destinations.optional_imports import required
from spancast.destinations.place import Place
from spancast.destinations.protocol import Delivered, Encoder, Failed, Outcome, Payload, Rejected, Retry
from spancast.destinations.sql_rows import COLUMNS, DEFAULT_ENTITY, DEFAULT_TABLE, Column, Context
from spancast.encoding.span_data import SpanData
from spancast.model import json_codec

EXTRA: Final = "clickhouse"
_HTTPS_PORT: Final = 8443
_HTTP_PORT: Final = 8123
_LOCAL_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_OBJECT_TYPES: Final = ("JSON", "Nullable(JSON", "Object", "Map")
_NUMBERS: Final = ("UInt", "Int", "Float")
_CODE: Final = re.compile(r"\b[Cc]ode:? (\d+)")
_UNKNOWN_TABLE: Final = 60
_TABLE_ERRORS: Final = frozenset({_UNKNOWN_TABLE, 81})
"""Unknown table or database: every row is rejected."""
_ROW_ERRORS: Final = frozenset({27, 53, 62, 117})
"""Unparsable value, type mismatch, syntax, incorrect data: other rows may be accepted."""
_TEMPORARY_ERRORS: Final = frozenset(
    {
        # A column was removed: the table is described again.
        16,
        # Wrong user or password, no access: they may be corrected, so spans stay queued.
        192, 193, 194, 497, 516,
        # Timeouts, load, network, memory, disk space and replicas.
        159, 160, 164, 202, 209, 210, 225, 236, 241, 242, 243, 252, 279, 285, 286, 319, 394, 425, 439, 999,
    }
)  # fmt: skip
"""Temporary errors. For any other code it is unknown whether a row is the cause: every version adds codes."""


@dataclass(frozen=True, slots=True)
class Address:
    """The address of the HTTP interface."""

    host: str
    port: int
    is_secure: bool


def ddl(table: str = DEFAULT_TABLE) -> str:
    """Return a ``CREATE TABLE`` statement for the table.

    The engine is ReplacingMergeTree, so that a batch delivered twice leaves one row per span.
    """
    columns = ",\n".join(f"    {name} {column.clickhouse}" for name, column in COLUMNS.items())
    return (
        f"CREATE TABLE IF NOT EXISTS {_quote(table)} (\n{columns}\n)\n"
        "ENGINE = ReplacingMergeTree ORDER BY (TIMESTAMP, TRACE_ID, SPAN_ID)"
    )


class ClickHouseConfig(NetworkConfig, OwnFormatConfig, frozen=True):
    """A table in ClickHouse."""

    type: Literal["clickhouse"]
    host: Text = Field(
        description="Host, `host:port` or URL of the HTTP interface; default: https on 8443, local: http on 8123."
    )
    database: Text = Field("default", description="Database of the table.")
    username: Text = Field("default", description="User with the rights to insert into and describe the table.")
    password: Secret | None = Field(None, description="Password of the user.")
    table: Text = Field(DEFAULT_TABLE, description="The table; `spancast destinations clickhouse` shows its DDL.")
    entity_id: Text = Field(DEFAULT_ENTITY, description="Value of the column ENTITY_ID.")
    organization_id: Text | None = Field(None, description="Value of the column ORGANIZATION_ID.")
    create_table: bool = Field(default=False, description="Create the table if it does not exist.")
    should_include_cache_write_tokens: bool = Field(
        default=True, description="False: leave out the column CACHE_WRITE_TOKENS even if the table has it."
    )

    def ddl(self) -> str:
        """Return the statement that creates the table."""
        return ddl(self.table)

    def place(self) -> Place:
        """Return the table, the user, the entity and the organization."""
        server = self.address
        host = f"[{server.host}]" if ":" in server.host else server.host
        place = self.network_place(
            f"{'https' if server.is_secure else 'http'}://{host}:{server.port}",
            account={
                "username": self.username,
                "entity_id": self.entity_id,
                "organization_id": self.organization_id,
            },
        )
        return replace(place, address={**place.address, "database": self.database, "table": self.table})

    @property
    def address(self) -> Address:
        """Return the address from ``host``."""
        parts = urlsplit(self.host if "://" in self.host else f"//{self.host}")
        is_local = parts.hostname in _LOCAL_HOSTS
        secure = parts.scheme == "https" if parts.scheme else not (is_local or parts.port == _HTTP_PORT)
        return Address(parts.hostname or "", parts.port or (_HTTPS_PORT if secure else _HTTP_PORT), secure)


class ClickHouseDestination:
    """Inserts batches; connects for the first batch, and again after a failure."""

    def __init__(self, config: ClickHouseConfig, encoder: Encoder, connect: Callable[[], Any]) -> None:
        self.encoder = encoder
        self._config = config
        self._connect = connect
        self._client: Any = None
        self._types: Mapping[str, str] = {}
        self._lock = threading.Lock()

    def deliver(self, payload: Payload, timeout_s: float) -> Outcome:  # noqa: ARG002 - the client has its time limit
        """Insert a row per span of ``payload``; a deduplication token makes a repeated insert harmless."""
        return self._attempt(lambda client: self._insert(client, payload.spans))

    def test_connection(self, timeout_s: float) -> Outcome:  # noqa: ARG002
        """Query the columns of the table, which tests the server, the user and the table."""
        return self._attempt(self._describe)

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            self._disconnect()

    def _attempt(self, act: Callable[[Any], None]) -> Outcome:
        errors = required("clickhouse_connect.driver.exceptions", EXTRA)
        with self._lock:
            try:
                if self._client is None:
                    self._client = self._connect()
                    self._prepare(self._client)
                act(self._client)
            except errors.Error as error:
                self._disconnect()
                return _outcome(error, self._config)
        return Delivered()

    def _prepare(self, client: Any) -> None:  # noqa: ANN401 - the library's client
        if self._config.create_table:
            client.command(ddl(self._config.table))
        self._describe(client)

    def _describe(self, client: Any) -> None:  # noqa: ANN401
        rows = client.query(f"DESCRIBE TABLE {_quote(self._config.table)}").result_rows
        left_out = () if self._config.should_include_cache_write_tokens else ("CACHE_WRITE_TOKENS",)
        names = COLUMNS.keys() - left_out
        self._types = {str(row[0]): str(row[1]) for row in rows if str(row[0]).upper() in names}

    def _insert(self, client: Any, spans: Sequence[SpanData]) -> None:  # noqa: ANN401
        token = hashlib.sha256("".join(span.trace_id + span.span_id for span in spans).encode()).hexdigest()
        client.raw_insert(
            _quote(self._config.table),
            column_names=[_quote(name) for name in self._types],
            insert_block=b"\n".join(json_codec.encode(self._row(span)).encode() for span in spans),
            settings={
                "insert_deduplication_token": token,
                # Times are ISO 8601 with a Z, regardless of the server's time zone.
                "date_time_input_format": "best_effort",
            },
            fmt="JSONEachRow",
        )

    def _row(self, span: SpanData) -> dict[str, Any]:
        context = {"entity_id": self._config.entity_id, "organization_id": self._config.organization_id}
        return {name: _cell(COLUMNS[name.upper()], kind, span, context) for name, kind in self._types.items()}

    def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()


def _cell(column: Column, kind: str, span: SpanData, context: Context) -> Any:  # noqa: ANN401 - any JSON
    value = column.value(span, context)
    if value is None and kind.startswith(_NUMBERS):
        return 0
    if not column.is_json or kind.startswith(_OBJECT_TYPES):
        return value if value is not None or not column.is_json else {}
    if value is None and kind.startswith("Nullable"):
        return None
    return json_codec.encode(value if value is not None else {})


def _quote(name: str) -> str:
    return ".".join(f"`{part.replace(chr(92), chr(92) * 2).replace('`', chr(92) + '`')}`" for part in name.split("."))


def _outcome(error: Any, config: ClickHouseConfig) -> Outcome:  # noqa: ANN401 - the library's error
    # The error text may quote a row, so only the code and name are used.
    match = _CODE.search(str(error))
    code = getattr(error, "code", None) or (int(match[1]) if match else 0)
    error_name = getattr(error, "name", None) or ""
    reason = f"ClickHouse {config.address.host}: " + (
        f"error {code} {error_name}".rstrip() if code else type(error).__name__
    )
    if code == _UNKNOWN_TABLE:
        reason += f"; create {config.table}, or set create_table"
    if code in _TABLE_ERRORS or code in _ROW_ERRORS:
        return Rejected(reason, invalid_content=code in _ROW_ERRORS)
    return Retry(reason) if not code or code in _TEMPORARY_ERRORS else Failed(reason)


def create(config: ClickHouseConfig, encoder: Encoder) -> ClickHouseDestination:
    """Return the destination of ``config``; it connects on first use.

    Raises:
        ConfigError: clickhouse-connect is not installed.
    """
    library = required("clickhouse_connect", EXTRA)
    address = config.address

    def connect() -> Any:  # noqa: ANN401
        return library.get_client(
            host=address.host,
            port=address.port,
            interface="https" if address.is_secure else "http",
            username=config.username,
            password=config.password.get_secret_value() if config.password else "",
            database=config.database,
            connect_timeout=round(config.timeout),
            send_receive_timeout=round(config.timeout),
            query_retries=0,
            verify=config.verify,
            ca_cert=str(config.ca_file) if config.ca_file else None,
            client_cert=str(config.cert_file) if config.cert_file else None,
            client_cert_key=str(config.key_file) if config.key_file else None,
            https_proxy=config.proxy,
            http_proxy=config.proxy,
            headers=config.all_headers() or None,
            autogenerate_session_id=False,
        )

    return ClickHouseDestination(config, encoder, connect)
