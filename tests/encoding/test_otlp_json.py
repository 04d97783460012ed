"""OTLP/JSON against protobuf's own JSON of the same request, for any span."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status
from opentelemetry.sdk.trace import ReadableSpan
from tests.destinations.payloads import _hex_ids
from tests.encoding.test_otlp_encode import SPANS

from spancast.encoding.otlp.encode import message, resource_bytes, scope_bytes, span_bytes
from spancast.encoding.otlp.json_form import request_json


def request(span: ReadableSpan) -> bytes:
    scope = scope_bytes(span.instrumentation_scope) + message(b"\x12", span_bytes(span))
    return message(b"\x0a", resource_bytes(span.resource) + message(b"\x12", scope))


def told(protobuf: bytes) -> Any:
    return json.loads(request_json(protobuf))


def official(protobuf: bytes) -> Any:
    """Return protobuf's own JSON, with hex ids as the OTLP specification wants them and nothing that is empty."""
    return without_nothing(
        _hex_ids(MessageToDict(ExportTraceServiceRequest.FromString(protobuf), use_integers_for_enums=True))
    )


def without_nothing(value: Any) -> Any:
    """Return ``value`` without members that protobuf's JSON may leave out or write, as it likes: empty ones."""
    if isinstance(value, dict):
        return {name: kept for name, item in value.items() if (kept := without_nothing(item)) not in ({}, [], "")}
    return [without_nothing(item) for item in value] if isinstance(value, list) else value


@given(SPANS)
def test_equals_the_json_of_protobuf(span: ReadableSpan) -> None:
    protobuf = request(span)
    assert without_nothing(told(protobuf)) == official(protobuf)


@given(st.integers(-(2**63), 2**63 - 1), st.integers(1, 2**64 - 1))
def test_integers_of_64_bits_are_texts_and_the_other_numbers_are_numbers(value: int, at: int) -> None:
    given_span = Span(
        start_time_unix_nano=at, attributes=[KeyValue(key="n", value=AnyValue(int_value=value))], kind=3,
        flags=0x100, dropped_events_count=2, status=Status(code=2),  # type: ignore[arg-type]
    )  # fmt: skip
    [span] = spans_of(given_span)
    assert span["startTimeUnixNano"] == str(at)
    assert span["attributes"] == [{"key": "n", "value": {"intValue": str(value)}}]
    assert (span["kind"], span["flags"], span["droppedEventsCount"], span["status"]["code"]) == (3, 256, 2, 2)


def test_ids_are_lowercase_hex_and_a_root_has_no_parent() -> None:
    [span] = spans_of(Span(trace_id=bytes(range(240, 256)), span_id=b"\x00" * 7 + b"\xab"))
    assert span["traceId"] == "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"
    assert span["spanId"] == "00000000000000ab"
    assert "parentSpanId" not in span


def test_times_that_are_not_known_are_left_out() -> None:
    [span] = spans_of(Span(name="x", events=[Span.Event(name="e")]))
    assert "startTimeUnixNano" not in span
    assert span["events"] == [{"name": "e"}]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (AnyValue(), {}),
        (AnyValue(string_value=""), {"stringValue": ""}),
        (AnyValue(bool_value=False), {"boolValue": False}),
        (AnyValue(int_value=0), {"intValue": "0"}),
        (AnyValue(double_value=float("nan")), {"doubleValue": "NaN"}),
        (AnyValue(double_value=float("-inf")), {"doubleValue": "-Infinity"}),
        (AnyValue(double_value=float("inf")), {"doubleValue": "Infinity"}),
        (AnyValue(bytes_value=b"\xff\x00"), {"bytesValue": "/wA="}),
        (
            AnyValue(kvlist_value=KeyValueList(values=[KeyValue(key="a", value=AnyValue(int_value=1))])),
            {"kvlistValue": {"values": [{"key": "a", "value": {"intValue": "1"}}]}},
        ),
    ],
)
def test_every_kind_of_value(value: AnyValue, expected: dict[str, Any]) -> None:
    [span] = spans_of(Span(attributes=[KeyValue(key="v", value=value)]))
    assert span["attributes"] == [{"key": "v", "value": expected}]


def test_no_spans() -> None:
    assert told(b"") == {"resourceSpans": []}


def spans_of(span: Span) -> Any:
    scope = ScopeSpans(spans=[span])
    protobuf = ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[scope])]).SerializeToString()
    return told(protobuf)["resourceSpans"][0]["scopeSpans"][0]["spans"]
