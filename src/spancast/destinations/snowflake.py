"""The Snowflake destination: a row per span in OpenRouter's table, by Snowflake's SQL API over HTTP.

Source: docs.snowflake.com/en/developer-guide/sql-api, OpenRouter's Snowflake destination. A batch is one statement with
one bind, the rows as JSON. Its request id follows from its spans, and Snowflake executes an id once. Only columns that
the table has are written.
"""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, cast

from pydantic import AfterValidator, AliasChoices, Field

from spancast.destinations.config import NetworkConfig, OwnFormatConfig
from spancast.destinations.field_types import Address, Secret, Text
from spancast.destinations.place import Place
from spancast.destinations.protocol import Delivered, Encoder, Outcome, Payload, Rejected, Retry
from spancast.destinations.sql_rows import COLUMNS, DEFAULT_ENTITY, DEFAULT_TABLE, rows_json
from spancast.model import json_codec
from spancast.model.json_codec import is_mapping

if TYPE_CHECKING:
    from spancast.destinations.http import HttpResult, HttpSender

_PATH: Final = "/api/v2/statements"
_ACCOUNT: Final = re.compile(r"[a-zA-Z0-9_]+(?:[.-][a-zA-Z0-9_]+)*")
_PLAIN_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*")
_CASTABLE: Final = re.compile(r"(?!VARIANT|OBJECT)[A-Z_]+(\([0-9, ]+\))?")
_RUNNING: Final = 202
_INVALID_STATEMENT: Final = 422
_DENIED: Final = "42501"
_NO_OBJECT: Final = "002003"
_NO_COLUMN: Final = "000904"
_POLL_S: Final = 0.5


def _check_account(value: str) -> str:
    if not _ACCOUNT.fullmatch(value):
        raise ValueError("must be an account identifier, `ORGANIZATION-ACCOUNT`")
    return value


class SnowflakeConfig(NetworkConfig, OwnFormatConfig, frozen=True):
    """A table in Snowflake."""

    type: Literal["snowflake"]
    account: Annotated[Text, AfterValidator(_check_account)] = Field(description="Account, `ORGANIZATION-ACCOUNT`.")
    token: Secret = Field(description="Programmatic access token of a user with the right to insert.")
    database: Text = Field("SNOWFLAKE_LEARNING_DB", description="Database of the table.")
    schema_name: Text = Field(
        "PUBLIC", validation_alias=AliasChoices("schema", "schema_name"), description="Schema; OpenRouter's `schema`."
    )
    table: Text = Field(DEFAULT_TABLE, description="The table; `spancast destinations snowflake` shows its DDL.")
    warehouse: Text = Field("COMPUTE_WH", description="Warehouse that executes the statements.")
    role: Text | None = Field(None, description="Role; default: that of the user.")
    entity_id: Text = Field(DEFAULT_ENTITY, description="Value of the column ENTITY_ID.")
    organization_id: Text | None = Field(None, description="Value of the column ORGANIZATION_ID.")
    create_table: bool = Field(default=False, description="Create the table if it does not exist.")
    should_include_cache_write_tokens: bool = Field(
        default=True, description="False: leave out the column CACHE_WRITE_TOKENS even if the table has it."
    )
    base_url: Address | None = Field(None, description="Address of the account, if it has another.")

    @property
    def server(self) -> str:
        """Return the address of the account."""
        return (self.base_url or f"https://{self.account}.snowflakecomputing.com").rstrip("/")

    def ddl(self) -> str:
        """Return the statement that creates the table."""
        return ddl(self.table)

    def place(self) -> Place:
        """Return the account, the table, the entity and the organization."""
        place = self.network_place(
            self.server, account={"entity_id": self.entity_id, "organization_id": self.organization_id}
        )
        table = {"account": self.account, "database": self.database, "schema": self.schema_name, "table": self.table}
        return replace(place, address={**place.address, **table})


def ddl(table: str = DEFAULT_TABLE) -> str:
    """Return a ``CREATE TABLE`` statement for the table."""
    columns = ",\n".join(f"    {name} {column.snowflake}" for name, column in COLUMNS.items())
    return f"CREATE TABLE IF NOT EXISTS {_quote(table)} (\n{columns}\n)"


def _quote(name: str) -> str:
    return name if _PLAIN_NAME.fullmatch(name) else '"' + name.replace('"', '""') + '"'


class SnowflakeDestination:
    """Executes one statement per batch."""

    def __init__(self, config: SnowflakeConfig, encoder: Encoder, sender: HttpSender) -> None:
        self.encoder = encoder
        self._config = config
        self._sender = sender
        self._types: Mapping[str, str] = {}
        self._not_null: Collection[str] = ()
        self._closed = threading.Event()

    def deliver(self, payload: Payload, timeout_s: float) -> Outcome:
        """Insert a row per span of ``payload``."""
        deadline_s = time.monotonic() + timeout_s
        failure = None if self._types else self._describe(deadline_s)
        if failure is not None:
            return failure
        context = {"entity_id": self._config.entity_id, "organization_id": self._config.organization_id}
        rows = rows_json(payload.spans, self._types, context, self._not_null)
        ids = " ".join(span.trace_id + span.span_id for span in payload.spans)
        request_id = uuid.uuid5(uuid.NAMESPACE_URL, f"{self._config.fingerprint()} {ids}")
        outcome, _ = self._execute(self._insert(), deadline_s, rows, request_id)
        return outcome

    def test_connection(self, timeout_s: float) -> Outcome:
        """Describe the table, which tests the account, the token, the warehouse and the table."""
        return self._describe(time.monotonic() + timeout_s) or Delivered()

    def close(self) -> None:
        """Close the connections."""
        self._closed.set()
        self._sender.close()

    def _insert(self) -> str:
        values = ", ".join(
            f'value:"{name}"::{kind}' if _CASTABLE.fullmatch(kind) else f'value:"{name}"'
            for name, kind in self._types.items()
        )
        names = ", ".join(f'"{name}"' for name in self._types)
        table = _quote(self._config.table)
        return f"INSERT INTO {table} ({names}) SELECT {values} FROM TABLE(FLATTEN(INPUT => PARSE_JSON(?)))"  # noqa: S608 - quoted names

    def _describe(self, deadline_s: float) -> Outcome | None:
        if self._config.create_table:
            outcome, _ = self._execute(ddl(self._config.table), deadline_s)
            if not isinstance(outcome, Delivered):
                return outcome
        outcome, rows = self._execute(f"DESCRIBE TABLE {_quote(self._config.table)}", deadline_s)
        if not isinstance(outcome, Delivered):
            return outcome
        left_out = () if self._config.should_include_cache_write_tokens else ("CACHE_WRITE_TOKENS",)
        names = COLUMNS.keys() - left_out
        self._types = {str(row[0]): str(row[1]) for row in rows if str(row[0]).upper() in names}
        self._not_null = {str(row[0]) for row in rows if row[3:4] == ["N"]}
        return None if self._types else Rejected(f"Snowflake: {self._config.table} has no column of OpenRouter's table")

    def _execute(
        self, statement: str, deadline_s: float, rows: str | None = None, request_id: uuid.UUID | None = None
    ) -> tuple[Outcome, Sequence[Sequence[Any]]]:
        body = {
            "statement": statement,
            "timeout": max(round(self._config.timeout), 1),
            "database": self._config.database,
            "schema": self._config.schema_name,
            "warehouse": self._config.warehouse,
            "parameters": {"TIMEZONE": "UTC"},
            **({"role": self._config.role} if self._config.role else {}),
            **({} if rows is None else {"bindings": {"1": {"type": "TEXT", "value": rows}}}),
        }
        query = "" if request_id is None else f"?requestId={request_id}&retry=true"
        result = self._send(json.dumps(body).encode(), query, deadline_s)
        while result.status == _RUNNING:
            handle = str(_answer(result).get("statementHandle", ""))
            if not re.fullmatch(r"[0-9A-Za-z-]+", handle) or time.monotonic() + _POLL_S >= deadline_s:
                return Retry("Snowflake: the statement is still running"), ()
            self._closed.wait(_POLL_S)
            result = self._send(b"", f"/{handle}", deadline_s, method="GET")
        data: Any = _answer(result).get("data")
        return self._outcome(result), cast("Sequence[Sequence[Any]]", data if isinstance(data, list) else ())

    def _send(self, body: bytes, suffix: str, deadline_s: float, method: str | None = None) -> HttpResult:
        limit_s = max(deadline_s - time.monotonic(), 0.001)
        return self._sender.send(
            body, "application/json", gzip=False, timeout_s=limit_s, suffix=suffix, method=method,
            headers={"Accept": "application/json"},
        )  # fmt: skip

    def _outcome(self, result: HttpResult) -> Outcome:
        if result.status != _INVALID_STATEMENT:
            return result.outcome
        answer = _answer(result)
        code = str(answer.get("code", ""))
        # The message on data may quote a row.
        is_denied = answer.get("sqlState") == _DENIED
        is_about_names = is_denied or code in (_NO_OBJECT, _NO_COLUMN)
        text = self._sender.redact(str(answer.get("message", ""))) if is_about_names else ""
        reason = f"Snowflake: error {code} ({answer.get('sqlState', '')}){f' {text}' if text else ''}"
        if code == _NO_COLUMN:
            # A column was removed: the table is described again.
            self._types = {}
            return Retry(reason)
        if is_denied:
            # Rights may be granted, so spans stay queued.
            return Retry(reason)
        if code == _NO_OBJECT:
            return Rejected(f"{reason}; create {self._config.table}, or set create_table")
        return Rejected(reason, invalid_content=True)


def _answer(result: HttpResult) -> Mapping[str, Any]:
    answer = json_codec.decode(result.body)
    return answer if is_mapping(answer) else {}


def create(config: SnowflakeConfig, encoder: Encoder) -> SnowflakeDestination:
    """Return the destination of ``config``.

    Raises:
        ConfigError: A certificate or a proxy cannot be used.
    """
    # Reading a configuration imports no HTTP client.
    from spancast.destinations.http import sender_of  # noqa: PLC0415 - see above

    headers = {
        "Authorization": f"Bearer {config.token.get_secret_value()}",
        "X-Snowflake-Authorization-Token-Type": "PROGRAMMATIC_ACCESS_TOKEN",
    }
    sender = sender_of(config, config.server + _PATH, product="Snowflake", headers=headers)
    return SnowflakeDestination(config, encoder, sender)
