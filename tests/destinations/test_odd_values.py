"""Attributes of any type and shape, as other instrumentations set them: reading a span never raises."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, TraceFlags
from tests.destinations.spans import CALL, record_of_sdk

from spancast.destinations import s3, span_store
from spancast.destinations.config import DestinationConfig, FilterRule
from spancast.destinations.span_store import Store
from spancast.destinations.sql_rows import COLUMNS
from spancast.encoding import genai_fields
from spancast.encoding.conventions import facts
from spancast.encoding.conventions.registry import CONVENTIONS, convention_of
from spancast.encoding.encoder import SpanEncoder
from spancast.encoding.otlp.decode import read
from spancast.encoding.span_data import SpanData, read_record
from spancast.encoding.tree_view import render_tree, totals
from spancast.export.filtering import DestinationFilter, TraceSeen
from spancast.model import json_codec, semconv
from spancast.model.span_record import SpanRecord
from spancast.testing import tree_text

NAMES = sorted(
    {value for name, value in vars(semconv).items() if name.isupper() and isinstance(value, str) and "." in value}
    | {semconv.TRACE_METADATA + "tags", semconv.TRACE_METADATA + "environment", facts.CACHE_CREATION}
    | set(CALL)
)  # fmt: skip
KEYS = st.sampled_from(
    ["role", "parts", "type", "content", "tool_calls", "function", "name", "arguments", "id", "response", "modality", "uri", "finish_reason"]
)  # fmt: skip
WORDS = st.sampled_from(
    ["text", "reasoning", "tool_call", "tool_call_response", "user", "stop", "image", "12", "0.5", ""]
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 2**70), st.floats(), WORDS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=5)),
    max_leaves=20,
)
SCALARS = st.one_of(
    st.booleans(), st.integers(-(2**80), 2**80), st.floats(), WORDS, st.text(max_size=5), st.binary(max_size=5),
    st.sampled_from([2**63, 49 * 10**17, -1, 10**300, 1e300, 1e9]),
)  # fmt: skip
VALUES = st.one_of(
    SCALARS, st.lists(SCALARS, max_size=3).map(tuple), st.dictionaries(KEYS, SCALARS, max_size=3), JSON.map(json.dumps)
)
ODD = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=8)

UNTIMED = settings(deadline=None)


def ended(attributes: dict[str, Any]) -> ReadableSpan:
    return ReadableSpan(
        "chat", SpanContext(7, 8, is_remote=False, trace_flags=TraceFlags(1)), None, Resource({"service.name": "bot"}),
        {**CALL, **attributes}, start_time=10**18, end_time=10**18 + 5, instrumentation_scope=InstrumentationScope("other"),
    )  # fmt: skip


def record(attributes: dict[str, Any]) -> SpanRecord:
    return record_of_sdk(ended(attributes))


def span_of(attributes: dict[str, Any]) -> SpanData:
    return read_record(record(attributes))


@UNTIMED
@given(ODD)
@example({semconv.USAGE_INPUT_TOKENS: float("nan"), semconv.USAGE_OUTPUT_TOKENS: float("inf")})
@example({semconv.RESPONSE_TIME_TO_FIRST_CHUNK: [0.5]})
@example({semconv.INPUT_MESSAGES: '[{"role":"user","parts":[{"type":["text"]},{"type":"text"}]}]'})
@example(
    {semconv.INPUT_MESSAGES: '[{"content":"hi","tool_calls":[1,{"id":1},{"function":5}]},{"content":1,"tool_calls":5}]'}
)
def test_conventions_encode_any_attributes(attributes: dict[str, Any]) -> None:
    span = span_of(attributes)
    for convention in CONVENTIONS:
        rename = convention_of(convention)
        if rename is not None:
            rename(span)
    body = record(attributes)
    for convention in CONVENTIONS:
        assert read(SpanEncoder(convention=convention).payload([body]).protobuf)[0].span_id


@UNTIMED
@given(ODD)
def test_store_accepts_any_attributes(attributes: dict[str, Any]) -> None:
    with sqlite3.connect(":memory:") as database:
        database.executescript(span_store._SCHEMA)
        database.execute(span_store._UPSERT, span_store._row(span_of(attributes)))
        assert database.execute("SELECT count(*) FROM spans").fetchone() == (1,)
    database.close()


@UNTIMED
@given(ODD)
def test_sql_s3_and_tree_accept_any_attributes(attributes: dict[str, Any]) -> None:
    span = span_of(attributes)
    context = {"entity_id": "local", "organization_id": None}
    row = {name: column.value(span, context) for name, column in COLUMNS.items()}
    assert json.loads(json_codec.encode(row))["SPAN_ID"] == span.span_id
    for name, column in COLUMNS.items():
        if column.postgres == "bigint":
            assert row[name] is None or (type(row[name]) is int and 0 <= row[name] < 2**63)
        elif column.postgres.startswith("text") and not column.postgres.endswith("[]"):
            assert row[name] is None or isinstance(row[name], str)
    assert json.loads(json_codec.encode(s3.trace_object([span])))["observations"]
    assert render_tree([span]).startswith("chat")
    assert tree_text([ended(attributes)]).startswith("chat")
    assert totals([span]).calls <= 1


@UNTIMED
@given(ODD)
def test_filter_accepts_any_attributes(attributes: dict[str, Any]) -> None:
    filters = [
        FilterRule.model_validate({"field": field, "operator": operator, "value": "12"})
        for field in ("session_id", "prompt_tokens", "total_cost", "model")
        for operator in ("equals", "contains", "regex", "gt")
        if not (operator == "gt" and field in ("session_id", "model"))
    ]
    rules = [
        {"filter_rules": {"groups": [{"logic": "or", "rules": [rule.model_dump() for rule in filters]}]}},
        {"api_keys": ["a"], "always_keep_cost_above": 1.0, "sampling_rate": 0.5},
    ]
    for given_rules in rules:
        config = DestinationConfig.model_validate({"type": "x", **given_rules})
        DestinationFilter("one", config).evaluate(record(attributes), TraceSeen())


def test_numbers_given_as_text_are_parsed() -> None:
    """Multiplying the text "0.5" by 10**9 would create a text of 2.9 GB."""
    span = span_of({semconv.RESPONSE_TIME_TO_FIRST_CHUNK: "0.5", semconv.USAGE_INPUT_TOKENS: "12"})
    assert genai_fields.first_chunk_ns(span) == 10**18 + 5 * 10**8
    assert facts.usage(span).input == 12
    assert genai_fields.total_tokens(span_of({semconv.USAGE_TOTAL_TOKENS: [1], semconv.USAGE_INPUT_TOKENS: "12"})) == 62
    assert "first chunk after 500 ms" in render_tree([span])


@pytest.mark.parametrize("waited_s", ["soon", "1e9", [0.5], float("nan"), -1, 1e300, 2**70, True])
def test_first_chunk_ns_of_invalid_time_returns_none(waited_s: Any) -> None:
    assert genai_fields.first_chunk_ns(span_of({semconv.RESPONSE_TIME_TO_FIRST_CHUNK: waited_s})) is None


def test_traces_with_huge_token_counts_returns_capped_sums(tmp_path: Path) -> None:
    file = Store(tmp_path / "spans.db")
    usage = {semconv.USAGE_INPUT_TOKENS: 49 * 10**17, semconv.USAGE_OUTPUT_TOKENS: 49 * 10**17}
    spans = [span_of(usage), replace(span_of(usage), span_id="0" * 15 + "9")]
    file.write(spans)
    [summary] = file.traces()
    assert (summary.input_tokens, summary.output_tokens) == (2**63 - 1, 2**63 - 1)
    assert [genai_fields.total_tokens(span) for span in spans] == [150, 150]
    assert file.traces(session="nowhere") == []
