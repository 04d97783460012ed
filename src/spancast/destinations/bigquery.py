"""The BigQuery destination: a row per span in OpenRouter's table, by streaming inserts (``tabledata.insertAll``).

Source: cloud.google.com/bigquery/docs/reference/v2/tabledata/insertAll, OpenRouter's BigQuery destination. The good
rows of a request are inserted; the errors of the others are in an answer with HTTP 200. The insert id of a row
follows from its span, by which BigQuery removes most repetitions of about a minute. Only columns that the table has are
written.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal
from urllib.parse import quote

from pydantic import AfterValidator, AliasChoices, Field, SecretStr, model_validator

from spancast.destinations.config import NetworkConfig, OwnFormatConfig, field_error
from spancast.destinations.field_types import Address, Text
from spancast.destinations.partial_delivery import Answer, Partial, PartialDelivery, Row, rows_of
from spancast.destinations.place import Place
from spancast.destinations.protocol import Delivered, Encoder, Failed, Failure, Outcome, Payload, Rejected, Retry
from spancast.destinations.sql_rows import COLUMNS, DEFAULT_ENTITY, DEFAULT_TABLE, row_texts
from spancast.model import json_codec
from spancast.model.json_codec import is_list, is_mapping

if TYPE_CHECKING:
    from spancast.destinations.http import HttpResult, HttpSender

MAX_ROWS: Final = 500
MAX_BYTES: Final = 9_500_000
"""Google's limit is 10 MB for the request."""
_ROW_OVERHEAD: Final = 100
_JSON: Final = "application/json"
_CONFLICT: Final = 409
_NOT_FOUND: Final = 404
_METHOD_NOT_ALLOWED: Final = 405
_INSERT_RIGHT: Final = "bigquery.tables.updateData"
_TEMPORARY: Final = frozenset({
    "backendError", "internalError", "quotaExceeded", "rateLimitExceeded", "stopped", "timeout",
})  # fmt: skip
_TYPES: Final = {
    "text": "STRING", "bigint": "INT64", "double precision": "FLOAT64", "timestamptz": "TIMESTAMP", "jsonb": "JSON",
    "text[]": "ARRAY<STRING>",
}  # fmt: skip
_SCHEMA_TYPES: Final = {"INT64": "INTEGER", "FLOAT64": "FLOAT", "ARRAY<STRING>": "STRING"}
_CLUSTERING: Final = ("session_id", "model")
_KEY_FIELDS: Final = ("client_email", "private_key", "token_uri")


def _check_key(value: SecretStr) -> SecretStr:
    key = json_codec.decode(value.get_secret_value())
    if not is_mapping(key) or not all(isinstance(key.get(name), str) for name in _KEY_FIELDS):
        raise ValueError("must be the JSON text of a service account key")
    return value


class BigQueryConfig(NetworkConfig, OwnFormatConfig, frozen=True):
    """A table in BigQuery."""

    type: Literal["bigquery"]
    project_id: Text = Field(
        validation_alias=AliasChoices("project_id", "projectId", "project"), description="Project of the dataset."
    )
    dataset: Text = Field("openrouter", description="Dataset of the table.")
    table: Text = Field(
        DEFAULT_TABLE.lower(), description="The table; `spancast destinations create-table NAME` creates it."
    )
    service_account_key: Annotated[SecretStr, AfterValidator(_check_key)] | None = Field(
        None, description="JSON text of a service account key; default: the credentials that google-auth finds."
    )
    entity_id: Text = Field(DEFAULT_ENTITY, description="Value of the column entity_id.")
    organization_id: Text | None = Field(None, description="Value of the column organization_id.")
    create_table: bool = Field(default=False, description="Create the table if it does not exist.")
    base_url: Address = Field("https://bigquery.googleapis.com", description="Address of the API.")

    @model_validator(mode="after")
    def _check_key_is_used(self) -> BigQueryConfig:
        if self.service_account_key is not None and self.headers_from is not None:
            raise field_error(("service_account_key",), None, "has no effect with `headers_from`")
        return self

    def ddl(self) -> str:
        """Return the statement that creates the table."""
        return ddl(f"{self.project_id}.{self.dataset}.{self.table}")

    @property
    def name(self) -> str:
        """Return the name of the table for messages."""
        return f"{self.project_id}.{self.dataset}.{self.table}"

    def place(self) -> Place:
        """Return the table, the entity and the organization."""
        place = self.network_place(
            self.base_url, account={"entity_id": self.entity_id, "organization_id": self.organization_id}
        )
        table = {"project": self.project_id, "dataset": self.dataset, "table": self.table}
        return replace(place, address={**place.address, **table})


def _column_types() -> dict[str, tuple[str, bool]]:
    """Return the type of each column and whether it is required."""
    types = {name.lower(): column.postgres for name, column in COLUMNS.items()}
    return {name: (_TYPES[kind.removesuffix(" not null")], kind.endswith(" not null")) for name, kind in types.items()}


def ddl(table: str = f"openrouter.{DEFAULT_TABLE.lower()}") -> str:
    """Return a ``CREATE TABLE`` statement for the table."""
    columns = ",\n".join(
        f"    `{name}` {kind}{' NOT NULL' if is_required else ''}"
        for name, (kind, is_required) in _column_types().items()
    )
    return (
        f"CREATE TABLE IF NOT EXISTS `{table}` (\n{columns}\n)\n"
        f"PARTITION BY DATE(`timestamp`) CLUSTER BY {', '.join(_CLUSTERING)}"
    )


def _table(config: BigQueryConfig) -> dict[str, Any]:
    """Return the same table for the API."""
    fields = [
        {
            "name": name,
            "type": _SCHEMA_TYPES.get(kind, kind),
            "mode": "REPEATED" if kind.startswith("ARRAY") else "REQUIRED" if is_required else "NULLABLE",
        }
        for name, (kind, is_required) in _column_types().items()
    ]
    return {
        "tableReference": {"projectId": config.project_id, "datasetId": config.dataset, "tableId": config.table},
        "timePartitioning": {"type": "DAY", "field": "timestamp"},
        "clustering": {"fields": list(_CLUSTERING)},
        "schema": {"fields": fields},
    }


class BigQueryDestination:
    """Inserts batches; reads the columns of the table before the first one."""

    max_batch_spans = MAX_ROWS

    def __init__(self, config: BigQueryConfig, encoder: Encoder, sender: HttpSender) -> None:
        self.encoder = encoder
        self._config = config
        self._sender = sender
        self._columns: dict[str, bool] = {}
        """Of each column, whether it is required."""
        self._path = f"/{quote(config.table, safe='')}"
        self._delivery = PartialDelivery("BigQuery", max_rows=MAX_ROWS, max_bytes=MAX_BYTES, row_overhead=_ROW_OVERHEAD)

    def deliver(self, payload: Payload, timeout_s: float) -> Outcome:
        """Insert a row per span of ``payload``; the outcome has the number of rows that BigQuery rejected."""
        deadline_s = time.monotonic() + min(timeout_s, self._config.timeout)
        failure = None if self._columns else self._describe(deadline_s)
        if failure is not None:
            return failure
        context = {"entity_id": self._config.entity_id, "organization_id": self._config.organization_id}
        required = {name for name, is_required in self._columns.items() if is_required}
        texts = row_texts(payload.spans, self._columns, context, not_null=required, json_as_text=True)
        rows = rows_of(payload.spans, texts)
        return self._delivery.deliver(rows, self._insert, deadline_s - time.monotonic())

    def test_connection(self, timeout_s: float) -> Outcome:
        """Read the table and the right to insert, as OpenRouter does; no row is written."""
        deadline_s = time.monotonic() + timeout_s
        failure = self._describe(deadline_s)
        if failure is not None:
            return failure
        body = json.dumps({"permissions": [_INSERT_RIGHT]}).encode()
        result = self._send(body, f"{self._path}:testIamPermissions", deadline_s)
        if result.status == _METHOD_NOT_ALLOWED:
            return Delivered(message="the right to insert was not tested")
        if isinstance(result.outcome, Delivered) and _INSERT_RIGHT not in _list(result, "permissions"):
            return Retry(f"BigQuery: no right to insert into {self._config.name}")
        return result.outcome

    def close(self) -> None:
        """Close the connections."""
        self._delivery.close()
        self._sender.close()

    def _describe(self, deadline_s: float) -> Outcome | None:
        if self._config.create_table:
            created = self._send(json.dumps(_table(self._config)).encode(), "", deadline_s)
            if created.status != _CONFLICT and not isinstance(created.outcome, Delivered):
                return created.outcome
        result = self._send(b"", self._path, deadline_s, "GET")
        if not isinstance(result.outcome, Delivered):
            return self._outcome(result)
        schema = _answer(result).get("schema")
        fields = schema.get("fields") if is_mapping(schema) else None
        required = {
            str(field.get("name")): field.get("mode") == "REQUIRED"
            for field in (fields if is_list(fields) else ())
            if is_mapping(field)
        }
        self._columns = {name: is_required for name, is_required in required.items() if name.upper() in COLUMNS}
        missing = f"BigQuery: {self._config.name} has no column of OpenRouter's table"
        return None if self._columns else Rejected(missing)

    def _insert(self, rows: Sequence[Row], timeout_s: float) -> Answer:
        listed = b",".join(
            b'{"insertId":"%s","json":%s}' % ((row.trace_id + row.span_id).encode(), row.body) for row in rows
        )
        body = b'{"skipInvalidRows":true,"ignoreUnknownValues":true,"rows":[%s]}' % listed
        result = self._send(body, f"{self._path}/insertAll", time.monotonic() + timeout_s)
        if not isinstance(result.outcome, Delivered):
            return self._outcome(result)
        answer = json_codec.decode(result.body)
        unreadable = f"BigQuery: HTTP {result.status} with an unreadable answer of {len(result.body)} bytes"
        if not is_mapping(answer):
            # A longer answer is cut by our client: many errors.
            return Failed(unreadable)
        again: dict[int, str] = {}
        rejected: dict[int, str] = {}
        found = answer.get("insertErrors") or ()
        for entry in found if is_list(found) else (found,):
            row_error = _row_error(entry, len(rows))
            if row_error is None:
                return Failed(unreadable)
            position, error = row_error
            where = f" at {error['location']}" if error.get("location") else ""
            text = f"BigQuery: {error.get('reason')}{where}: {error.get('message', '')}"
            (again if error.get("reason") in _TEMPORARY else rejected)[position] = self._sender.redact(text)
        if rejected:
            # A column may have been removed or changed: the table is read again.
            self._columns = {}
        return Partial(again, rejected)

    def _send(self, body: bytes, suffix: str, deadline_s: float, method: str | None = None) -> HttpResult:
        limit_s = max(deadline_s - time.monotonic(), 0.001)
        return self._sender.send(body, _JSON, gzip=False, timeout_s=limit_s, suffix=suffix, method=method)

    def _outcome(self, result: HttpResult) -> Delivered | Failure:
        if result.status != _NOT_FOUND:
            return result.outcome
        self._columns = {}
        reason = f"BigQuery: HTTP 404, no table {self._config.name}"
        # A new table answers so for some minutes.
        return Retry(reason) if self._config.create_table else Rejected(f"{reason}; create it, or set create_table")


def _answer(result: HttpResult) -> Mapping[str, Any]:
    answer = json_codec.decode(result.body)
    return answer if is_mapping(answer) else {}


def _row_error(entry: object, rows: int) -> tuple[int, Mapping[str, Any]] | None:
    """Return the position of a row and its error, the temporary one of several; None if they cannot be read."""
    if not is_mapping(entry):
        return None
    position, errors = entry.get("index", 0), entry.get("errors", ({"reason": "unknown error"},))
    if not isinstance(position, int) or not 0 <= position < rows or not is_list(errors):
        return None
    readable = [error for error in errors if is_mapping(error)]
    temporary = (error for error in readable if error.get("reason") in _TEMPORARY)
    return (position, next(temporary, readable[0])) if readable else None


def _list(result: HttpResult, name: str) -> Sequence[Any]:
    found = _answer(result).get(name)
    return found if is_list(found) else ()


def create(config: BigQueryConfig, encoder: Encoder) -> BigQueryDestination:
    """Return the destination of ``config``.

    Raises:
        ConfigError: google-auth is not installed, or a certificate or a proxy cannot be used.
    """
    # Reading a configuration imports no HTTP client.
    from spancast.destinations.cloud_auth import google_headers  # noqa: PLC0415 - see above
    from spancast.destinations.http import sender_of  # noqa: PLC0415 - see above

    key = config.service_account_key
    tokens = google_headers("bigquery", None if key is None else json.loads(key.get_secret_value()))
    path = f"/bigquery/v2/projects/{quote(config.project_id, safe='')}/datasets/{quote(config.dataset, safe='')}/tables"
    sender = sender_of(config, config.base_url.rstrip("/") + path, product="BigQuery", auth=tokens)
    return BigQueryDestination(config, encoder, sender)
