"""Our OTLP bytes against OpenTelemetry's own encoder: equal, byte for byte, for any span."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from spancast.encoding.otlp.encode import any_value, fields, replaced, resource_bytes, scope_bytes, span_bytes

TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
KEYS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
INTEGERS = st.integers(-(2**63), 2**63 - 1)
SCALARS = st.one_of(TEXT, st.booleans(), INTEGERS, st.floats())
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


def official(span: ReadableSpan) -> tuple[bytes, bytes, bytes]:
    """Return what the official encoder makes of the resource's head, the scope's head and the span."""
    of_resource = encode_spans([span]).resource_spans[0]
    of_scope = of_resource.scope_spans[0]
    body = of_scope.spans[0].SerializeToString()
    of_scope.ClearField("spans")
    head = of_scope.SerializeToString()
    of_resource.ClearField("scope_spans")
    return of_resource.SerializeToString(), head, body


@given(SPANS)
def test_equals_the_official_encoder_byte_for_byte(span: ReadableSpan) -> None:
    resource, scope, body = official(span)
    assert span_bytes(span) == body
    assert span_bytes(span) == body, "what is remembered is the same"
    assert resource_bytes(span.resource) == resource
    assert scope_bytes(span.instrumentation_scope) == scope


@given(st.lists(st.sampled_from([0, False, 0.0, -0.0, 1, True, 1.0, "1", ("1",), (1,), (True,), (1.0,)]), max_size=12))
def test_equal_values_of_several_types_stay_apart(values: list[Any]) -> None:
    for value in values:
        span = ReadableSpan(name="x", context=SpanContext(1, 1, is_remote=False), attributes={"key": value})
        assert span_bytes(span) == official(span)[2]


@pytest.mark.parametrize("value", [2**63, "a\ud800b", [2**70], -(10**6000), object(), {1: "a\ud800"}], ids=lambda _: "")
def test_what_the_official_encoder_loses_is_kept_as_text(value: Any) -> None:
    span = ReadableSpan(name="x", context=SpanContext(1, 1, is_remote=False), attributes={"key": value})
    (pair,) = Span.FromString(span_bytes(span)).attributes
    assert pair.key == "key"
    assert pair.value.WhichOneof("value") in {"string_value", "array_value", "kvlist_value"}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (2**63, 2**63 - 1), (2**64, 2**63 - 1), (10**30, 2**63 - 1), (-1, 0), (-(2**70), 0), (1.7e18, int(1.7e18)), (0.5, 0),
        (float("nan"), 0), (float("inf"), 2**63 - 1), ("2026-09-29", 0), (None, 0), (True, 1),
    ],
)  # fmt: skip
def test_a_time_that_is_none_becomes_the_nearest_one(given: Any, kept: int) -> None:
    context = SpanContext(1, 1, is_remote=False)
    event = Event("e", timestamp=1)
    event._timestamp = given
    span = Span.FromString(span_bytes(ReadableSpan("x", context, start_time=given, end_time=given, events=[event])))
    assert (span.start_time_unix_nano, span.end_time_unix_nano, span.events[0].time_unix_nano) == (kept, kept, kept)


@given(SPANS, TEXT)
def test_fields_can_be_replaced(span: ReadableSpan, name: str) -> None:
    body = span_bytes(span)
    expected = Span.FromString(body)
    expected.name = name
    expected.ClearField("parent_span_id")
    encoded = name.encode()
    head = Span(name=name).SerializeToString()
    assert encoded in head
    assert Span.FromString(replaced(body, {5: head, 4: b""})) == expected


@pytest.mark.parametrize("body", [b"\x0a\x05ab", b"\x0b", b"\x80", b"\x09\x00"])
def test_what_is_no_message_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises(ValueError, match="no protobuf message"):
        list(fields(body))


def test_the_heads_are_what_their_names_say() -> None:
    span = ReadableSpan(name="x", context=SpanContext(1, 1, is_remote=False), resource=Resource({"service.name": "a"}))
    assert ResourceSpans.FromString(resource_bytes(span.resource)).resource.attributes[0].value.string_value == "a"
    assert ScopeSpans.FromString(scope_bytes(InstrumentationScope("spancast", "1"))).scope.name == "spancast"
    assert any_value(True) == b"\x10\x01"
