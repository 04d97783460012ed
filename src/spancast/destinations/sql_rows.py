"""The rows of the SQL destinations: a row per span in OpenRouter's table ``OPENROUTER_TRACES``.

Source: OpenRouter's pages on ClickHouse, Snowflake and BigQuery. A count or cost that is unknown is null; a column
without null gets 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from spancast.encoding import genai_fields
from spancast.encoding.span_data import SpanData
from spancast.model import json_codec, semconv

DEFAULT_TABLE: Final = "OPENROUTER_TRACES"
DEFAULT_ENTITY: Final = "local"
Context: TypeAlias = Mapping[str, Any]
"""Values of a row that are not in its span: ``entity_id``, ``organization_id``."""
_ABSENT: Final[Mapping[str, Any]] = {"bigint": 0, "double precision": 0.0, "jsonb": {}}
"""Unknown values in columns without null, by type; of other types an empty text."""
NO_CONTEXT: Final[Context] = {"entity_id": DEFAULT_ENTITY, "organization_id": None}
_NUL: Final = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its types in the suggested DDLs, its value for a span, and whether the value is JSON."""

    clickhouse: str
    postgres: str
    snowflake: str
    value: Callable[[SpanData, Context], Any]
    is_json: bool = False


def _text(*names: str) -> Column:
    return Column("Nullable(String)", "text", "VARCHAR", lambda span, _: span.text(*names))


def _count(name: str) -> Column:
    return Column("UInt64", "bigint", "NUMBER(18,0)", lambda span, _: span.count(name))


def _cost(value: Callable[[genai_fields.Costs], float | None]) -> Column:
    return Column("Float64", "double precision", "NUMBER(18,9)", lambda span, _: value(genai_fields.costs(span)))


def _json(value: Callable[[SpanData], Any]) -> Column:
    return Column("String", "jsonb", "VARIANT", lambda span, _: value(span), is_json=True)


_START: Final = Column(
    "DateTime64(3)",
    "timestamptz not null",
    "TIMESTAMP_NTZ NOT NULL",
    lambda span, _: genai_fields.iso_time(span.start_ns),
)

COLUMNS: Final[Mapping[str, Column]] = {
    "TRACE_ID": Column("String", "text not null", "VARCHAR NOT NULL", lambda span, _: genai_fields.raw_trace_id(span)),
    "SPAN_ID": Column("String", "text not null", "VARCHAR NOT NULL", lambda span, _: span.span_id),
    "PARENT_SPAN_ID": Column("Nullable(String)", "text", "VARCHAR", lambda span, _: span.parent_span_id or None),
    "USER_ID": _text(semconv.USER_ID),
    "SESSION_ID": _text(semconv.SESSION_ID),
    "ORGANIZATION_ID": Column("Nullable(String)", "text", "VARCHAR", lambda _, context: context["organization_id"]),
    "ENTITY_ID": Column("String", "text not null", "VARCHAR NOT NULL", lambda _, context: context["entity_id"]),
    "API_KEY_NAME": _text(*semconv.API_KEY_NAMES),
    "TIMESTAMP": _START,
    "START_TIME": _START,
    "END_TIME": Column(
        "Nullable(DateTime64(3))", "timestamptz", "TIMESTAMP_NTZ", lambda span, _: genai_fields.iso_time(span.end_ns)
    ),
    "DURATION_MS": Column("Nullable(Float64)", "double precision", "NUMBER(18,3)", lambda span, _: span.duration_ms),
    "MODEL": _text(semconv.RESPONSE_MODEL, semconv.REQUEST_MODEL),
    "PROVIDER_NAME": _text(semconv.RESPONSE_PROVIDER, semconv.PROVIDER_NAME),
    "PROVIDER_SLUG": _text(semconv.PROVIDER_NAME),
    "SPAN_TYPE": Column("String", "text", "VARCHAR", lambda span, _: genai_fields.span_type(span)),
    "STATUS": Column(
        "String", "text not null", "VARCHAR NOT NULL", lambda span, _: "error" if span.status == "error" else "ok"
    ),
    "LEVEL": Column("String", "text not null", "VARCHAR NOT NULL", lambda span, _: genai_fields.level(span)),
    "FINISH_REASON": Column("Nullable(String)", "text", "VARCHAR", lambda span, _: genai_fields.finish_reason(span)),
    "PROMPT_TOKENS": _count(semconv.USAGE_INPUT_TOKENS),
    "COMPLETION_TOKENS": _count(semconv.USAGE_OUTPUT_TOKENS),
    "TOTAL_TOKENS": Column("UInt64", "bigint", "NUMBER(18,0)", lambda span, _: genai_fields.total_tokens(span)),
    "CACHED_TOKENS": _count(semconv.USAGE_CACHE_READ),
    "CACHE_WRITE_TOKENS": _count(semconv.USAGE_CACHE_WRITE),
    "REASONING_TOKENS": _count(semconv.USAGE_REASONING),
    "INPUT_COST": _cost(lambda costs: costs.input),
    "OUTPUT_COST": _cost(lambda costs: costs.output),
    "TOTAL_COST": _cost(lambda costs: costs.total),
    "TAGS": Column("Array(String)", "text[]", "ARRAY", lambda span, _: genai_fields.tags(span)),
    "ATTRIBUTES": _json(lambda span: span.attributes),
    "INPUT": _json(genai_fields.conversation),
    "OUTPUT": _json(genai_fields.completion),
    "METADATA": _json(genai_fields.metadata),
    "MODEL_PARAMETERS": _json(genai_fields.model_parameters),
    "RESOURCE_ATTRIBUTES": _json(lambda span: span.resource.attributes),
}
"""The columns of OpenRouter's table, in its order; a table may lack any of them."""
ROW_NAMES: Final = tuple(name.lower() for name in COLUMNS)
"""The fields of a row that is not in a table."""


def without_nul(text: str) -> str:
    """Return JSON ``text`` with U+FFFD for each NUL, which PostgreSQL's texts cannot hold."""
    return _NUL.sub(r"\1\\ufffd", text) if r"\u0000" in text else text


def row_texts(
    spans: Iterable[SpanData],
    names: Iterable[str],
    context: Context = NO_CONTEXT,
    *,
    not_null: Collection[str] = (),
    json_as_text: bool = False,
) -> list[str]:
    """Return each of ``spans`` as a JSON object with the columns ``names``, which may be in lower case.

    In a column of ``not_null`` an unknown count or cost is 0, an unknown text is empty.
    """
    columns = [(name, COLUMNS[name.upper()]) for name in names]
    absent = {name: _ABSENT.get(column.postgres, "") for name, column in columns if name in not_null}
    texts = [name for name, column in columns if json_as_text and column.is_json]

    def text(span: SpanData) -> str:
        row = {name: column.value(span, context) for name, column in columns}
        for name, value in absent.items():
            row[name] = value if row[name] is None else row[name]
        for name in texts:
            row[name] = None if row[name] is None else without_nul(json_codec.encode(row[name]))
        return without_nul(json_codec.encode(row))

    return [text(span) for span in spans]


def rows_json(spans: Iterable[SpanData], names: Iterable[str], context: Context, not_null: Collection[str] = ()) -> str:
    """Return ``spans`` as a JSON array of rows, as ``row_texts`` has them."""
    return f"[{','.join(row_texts(spans, names, context, not_null=not_null))}]"
