"""The OTLP protobuf encoder against OpenTelemetry's encoder: equal bytes for any span of the SDK."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState
from tests.destinations.spans import of_sdk

from spancast.encoding.otlp import encode
from spancast.encoding.otlp.encode import any_value, request_bytes, size_bound, span_bytes
from spancast.encoding.span_data import SpanData

TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
KEYS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
INTEGERS = st.integers(-(2**63), 2**63 - 1)
# One NaN: the JSON of the spool does not keep the bits of a NaN.
FLOATS = st.floats().map(lambda value: math.nan if math.isnan(value) else value)
SCALARS = st.one_of(TEXT, st.booleans(), INTEGERS, FLOATS)
VALUES = st.one_of(
    SCALARS, st.binary(max_size=20), st.none(), st.lists(SCALARS, max_size=4).map(tuple), st.dictionaries(KEYS, SCALARS, max_size=3)
)  # fmt: skip
ATTRIBUTES = st.dictionaries(KEYS, VALUES, max_size=6)
TIMES = st.integers(0, 2**63 - 1)
IDS = st.builds(
    SpanContext,
    trace_id=st.integers(1, 2**128 - 1),
    span_id=st.integers(1, 2**64 - 1),
    is_remote=st.booleans(),
    trace_flags=st.sampled_from([TraceFlags(0), TraceFlags(1)]),
    trace_state=st.sampled_from([TraceState(), TraceState([("a", "1"), ("b", "x=y")])]),
)
EVENTS = st.builds(Event, name=TEXT, attributes=ATTRIBUTES, timestamp=st.integers(1, 2**63 - 1))
STATUSES = st.one_of(
    st.builds(Status, st.sampled_from([StatusCode.UNSET, StatusCode.OK])),
    st.builds(Status, st.just(StatusCode.ERROR), st.one_of(st.none(), TEXT)),
)
SPANS = st.builds(
    ReadableSpan,
    name=TEXT,
    context=IDS,
    parent=st.one_of(st.none(), IDS),
    resource=st.builds(Resource, ATTRIBUTES, st.sampled_from(["", "https://schemas.test/1"])),
    attributes=ATTRIBUTES,
    events=st.lists(EVENTS, max_size=3),
    links=st.lists(st.builds(Link, IDS, ATTRIBUTES), max_size=3),
    kind=st.sampled_from(list(SpanKind)),
    status=STATUSES,
    start_time=TIMES,
    end_time=TIMES,
    instrumentation_scope=st.one_of(
        st.none(), st.builds(InstrumentationScope, TEXT, TEXT, st.sampled_from(["", "https://s"]), ATTRIBUTES)
    ),
)


def official(span: ReadableSpan) -> bytes:
    """Return the span encoded by the official encoder."""
    return encode_spans([span]).resource_spans[0].scope_spans[0].spans[0].SerializeToString()


@given(SPANS)
def test_equals_the_official_encoder_byte_for_byte(span: ReadableSpan) -> None:
    ours = of_sdk(span)
    assert span_bytes(ours) == official(span)
    assert span_bytes(ours) == official(span), "what is remembered is the same"
    assert request_bytes([ours]) == encode_spans([span]).SerializeToString()


@given(SPANS, SPANS)
def test_request_of_several_spans_is_the_official_one(one: ReadableSpan, other: ReadableSpan) -> None:
    # No scope and an empty one are written alike, and the official encoder writes them apart.
    assume((one.instrumentation_scope is None) == (other.instrumentation_scope is None))
    spans = [one, other, one]
    assert request_bytes([of_sdk(span) for span in spans]) == encode_spans(spans).SerializeToString()


@given(SPANS)
def test_size_bound_is_not_below_size(span: ReadableSpan) -> None:
    ours = of_sdk(span)
    assert size_bound(ours) >= len(span_bytes(ours))


@given(st.lists(st.sampled_from([0, False, 0.0, -0.0, 1, True, 1.0, "1", ("1",), (1,), (True,), (1.0,)]), max_size=12))
def test_equal_values_of_several_types_stay_apart(values: list[Any]) -> None:
    for value in values:
        span = ReadableSpan(name="x", context=SpanContext(1, 1, is_remote=False), attributes={"key": value})
        assert span_bytes(of_sdk(span)) == official(span)


@pytest.mark.parametrize("value", [2**63, "a\ud800b", [2**70], -(10**6000), object(), {1: "a\ud800"}], ids=lambda _: "")
def test_values_lost_by_official_encoder_are_text(value: Any) -> None:
    span = ReadableSpan(name="x", context=SpanContext(1, 1, is_remote=False), attributes={"key": value})
    (pair,) = Span.FromString(span_bytes(of_sdk(span))).attributes
    assert pair.key == "key"
    assert pair.value.WhichOneof("value") in {"string_value", "array_value", "kvlist_value"}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (2**63, 2**63 - 1), (2**64, 2**63 - 1), (10**30, 2**63 - 1), (-1, 0), (-(2**70), 0), (1.7e18, int(1.7e18)), (0.5, 0),
        (float("nan"), 0), (float("inf"), 2**63 - 1), ("2026-09-29", 0), (None, 0), (True, 1),
    ],
)  # fmt: skip
def test_invalid_time_becomes_nearest_valid_time(given: Any, kept: int) -> None:
    context = SpanContext(1, 1, is_remote=False)
    event = Event("e", timestamp=1)
    event._timestamp = given
    span = Span.FromString(
        span_bytes(of_sdk(ReadableSpan("x", context, start_time=given, end_time=given, events=[event])))
    )
    assert (span.start_time_unix_nano, span.end_time_unix_nano, span.events[0].time_unix_nano) == (kept, kept, kept)


@pytest.mark.parametrize("value", [1 << 70, (1, 2), "a\ud800", {"k": (1,)}], ids=lambda _: "")
def test_values_that_a_convention_made_are_encoded_like_those_of_a_span(value: Any) -> None:
    context = SpanContext(1, 1, is_remote=False)
    ours = of_sdk(ReadableSpan("x", context, attributes={"k": value}))
    assert span_bytes(ours.with_attributes({"k": value})) == span_bytes(ours)


def test_spans_of_equal_resources_are_one_group() -> None:
    def ours(number: int) -> SpanData:
        scope = InstrumentationScope("scope", "1")
        return of_sdk(
            ReadableSpan(
                "x", SpanContext(1, number, is_remote=False), resource=Resource({"a": 1}), instrumentation_scope=scope
            )
        )

    sent = ExportTraceServiceRequest.FromString(request_bytes([ours(1), ours(2)]))
    [of_resource] = sent.resource_spans
    [of_scope] = of_resource.scope_spans
    assert [span.span_id[-1] for span in of_scope.spans] == [1, 2]


def test_encoder_caches_are_bounded() -> None:
    for number in range(10_000):
        encode.key_values(b"\x4a", {"n": number, f"key {number}": 1.5, "text": f"{number}", "list": [f"{number}"]})
    assert len(encode._pairs) <= 4096
    assert len(encode._keys) <= 4096
    assert len(encode._double_heads) <= 4096


def test_no_spans_are_an_empty_request() -> None:
    assert request_bytes([]) == b""
    assert any_value(True) == b"\x10\x01"
