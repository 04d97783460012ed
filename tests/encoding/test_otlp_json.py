"""The OTLP/JSON encoder against the JSON of the protobuf library for the same request, for any span."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from tests.destinations.payloads import _hex_ids
from tests.destinations.spans import TRACE_ID, of_sdk, span
from tests.encoding.test_otlp_encode import SPANS

from spancast.encoding.otlp.encode import request_bytes
from spancast.encoding.otlp.json_form import request_json
from spancast.encoding.span_data import EventData, SpanData


def as_json(*spans: SpanData) -> Any:
    return json.loads(request_json(spans))


def official(*spans: SpanData) -> Any:
    """Return the JSON of the protobuf library, with hex ids as in the OTLP specification and without empty values."""
    request = ExportTraceServiceRequest.FromString(request_bytes(spans))
    return without_nothing(_hex_ids(MessageToDict(request, use_integers_for_enums=True)))


def without_nothing(value: Any) -> Any:
    """Return ``value`` without empty members, which are optional in the JSON of protobuf."""
    if isinstance(value, dict):
        return {name: kept for name, item in value.items() if (kept := without_nothing(item)) not in ({}, [], "")}
    return [without_nothing(item) for item in value] if isinstance(value, list) else value


@given(st.lists(SPANS, max_size=2))
def test_equals_the_json_of_the_protobuf_form(spans: list[ReadableSpan]) -> None:
    ours = [of_sdk(span) for span in spans]
    assert without_nothing(as_json(*ours)) == official(*ours)


@given(st.integers(-(2**63), 2**63 - 1), st.integers(1, 2**63 - 1))
def test_integers_of_64_bits_are_texts_and_the_other_numbers_are_numbers(value: int, at: int) -> None:
    given_span = replace(
        span("x", 1, attributes={"n": value}, kind=3, status="error"), start_ns=at, flags=0x100, dropped_events=2
    )
    [found] = spans_of(given_span)
    assert found["startTimeUnixNano"] == str(at)
    assert found["attributes"] == [{"key": "n", "value": {"intValue": str(value)}}]
    assert (found["kind"], found["flags"], found["droppedEventsCount"], found["status"]["code"]) == (3, 256, 2, 2)


def test_ids_are_lowercase_hex_and_a_root_has_no_parent() -> None:
    [found] = spans_of(span("x", 0xAB))
    assert found["traceId"] == TRACE_ID
    assert found["spanId"] == "00000000000000ab"
    assert "parentSpanId" not in found


def test_times_that_are_not_known_are_left_out() -> None:
    event = EventData(name="e", at_ns=0, attributes={})
    [found] = spans_of(replace(span("x", 1, events=(event,)), start_ns=0))
    assert "startTimeUnixNano" not in found
    assert found["events"] == [{"name": "e"}]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, {}),
        ("", {"stringValue": ""}),
        (False, {"boolValue": False}),
        (0, {"intValue": "0"}),
        (float("nan"), {"doubleValue": "NaN"}),
        (float("-inf"), {"doubleValue": "-Infinity"}),
        (float("inf"), {"doubleValue": "Infinity"}),
        (b"\xff\x00", {"bytesValue": "/wA="}),
        (
            {"a": 1},
            {"kvlistValue": {"values": [{"key": "a", "value": {"intValue": "1"}}]}},
        ),
    ],
)
def test_every_kind_of_value(value: Any, expected: dict[str, Any]) -> None:
    [found] = spans_of(span("x", 1, attributes={"v": value}))
    assert found["attributes"] == [{"key": "v", "value": expected}]


def test_empty_request() -> None:
    assert as_json() == {"resourceSpans": []}


def spans_of(given_span: SpanData) -> Any:
    return as_json(given_span)["resourceSpans"][0]["scopeSpans"][0]["spans"]
