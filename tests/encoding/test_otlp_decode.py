"""Our reading of OTLP bytes against OpenTelemetry's own classes: equal for any span."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.trace import ReadableSpan
from tests.encoding.test_otlp_encode import SPANS

from spancast.encoding.otlp import decode
from spancast.encoding.otlp.decode import SpanFields, read_span, read_value
from spancast.encoding.otlp.encode import replaced, span_bytes
from spancast.encoding.span_data import attributes_of

NAN = "not a number"


def comparable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: comparable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [comparable(item) for item in value]
    # With its type, for 1 and True are equal; with its sign, for both zeros are.
    told = (math.copysign(1, value), NAN if math.isnan(value) else value) if isinstance(value, float) else value
    return type(value), told


def told(found: SpanFields) -> dict[str, Any]:
    return {
        "ids": (found.trace_id, found.span_id, found.parent_span_id),
        "span": (found.name, found.kind, found.start_ns, found.end_ns),
        "status": (found.status_code, found.status_message),
        "attributes": comparable(found.attributes),
        "events": [(event.name, event.at_ns, comparable(event.attributes)) for event in found.events],
        "has_links": found.has_links,
    }


def official(body: bytes) -> dict[str, Any]:
    span = Span.FromString(body)
    return {
        "ids": (span.trace_id, span.span_id, span.parent_span_id),
        "span": (span.name, span.kind, span.start_time_unix_nano, span.end_time_unix_nano),
        "status": (span.status.code, span.status.message),
        "attributes": comparable(attributes_of(span.attributes)),
        "events": [
            (event.name, event.time_unix_nano, comparable(attributes_of(event.attributes))) for event in span.events
        ],
        "has_links": bool(span.links),
    }


@given(SPANS)
def test_equals_what_the_official_classes_read(span: ReadableSpan) -> None:
    body = span_bytes(span)
    assert told(read_span(body)) == official(body)
    assert told(read_span(body)) == official(body), "what is remembered is the same"


@given(SPANS)
def test_the_rest_is_all_that_views_leave_alone(span: ReadableSpan) -> None:
    body = span_bytes(span)
    assert read_span(body).rest == replaced(body, {4: b"", 5: b"", 9: b"", 11: b"", 15: b""})


@given(SPANS, st.randoms(use_true_random=False))
def test_fields_may_stand_in_any_order_among_others(span: ReadableSpan, order: Any) -> None:
    body = span_bytes(span)
    fields = [body[at:stop] for _, at, _, stop in _fields(body)]
    fields += [b"\xf8\x07\x01", b"\xfa\x07\x02ab", b"\xf9\x07" + bytes(8), b"\xfd\x07" + bytes(4)]
    order.shuffle(fields)
    mixed = b"".join(fields)
    assert told(read_span(mixed)) == official(mixed)


def _fields(body: bytes) -> list[tuple[int, int, int, int]]:
    found: list[tuple[int, int, int, int]] = []
    at = 0
    while at < len(body):
        tag, number, start, stop = decode.field_at(body, at)
        found.append((tag, at, start, stop))
        at = stop
        assert number >= 0
    return found


LEAVES = st.one_of(
    st.builds(AnyValue, string_value=st.text(st.characters(codec="utf-8"), max_size=200)),
    st.builds(AnyValue, bool_value=st.booleans()),
    st.builds(AnyValue, int_value=st.integers(-(2**63), 2**63 - 1)),
    st.builds(AnyValue, double_value=st.floats()),
    st.builds(AnyValue, bytes_value=st.binary(max_size=5)),
    st.builds(AnyValue),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: AnyValue(array_value=ArrayValue(values=items))),
        st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=150), inner, max_size=3).map(
            lambda items: AnyValue(
                kvlist_value=KeyValueList(values=[KeyValue(key=key, value=item) for key, item in items.items()])
            )
        ),
    ),
    max_leaves=8,
)


@given(VALUES)
def test_any_value_is_read(value: AnyValue) -> None:
    (expected,) = attributes_of([KeyValue(key="key", value=value)]).values()
    assert comparable(read_value(value.SerializeToString())) == comparable(expected)


@given(st.text(st.characters(codec="utf-8"), max_size=300), VALUES)
def test_any_pair_is_read(key: str, value: AnyValue) -> None:
    body = Span(attributes=[KeyValue(key=key, value=value)]).SerializeToString()
    assert told(read_span(body)) == official(body)


def test_a_list_is_nobody_elses() -> None:
    body = Span(attributes=[KeyValue(key="tags", value=AnyValue(array_value=ArrayValue(values=[AnyValue()])))])
    first = read_span(body.SerializeToString()).attributes["tags"]
    first.append("changed")
    second = read_span(body.SerializeToString()).attributes["tags"]
    second.append("changed")
    assert read_span(body.SerializeToString()).attributes["tags"] == [None]


def test_what_is_remembered_is_bounded() -> None:
    for number in range(10_000):
        value = AnyValue(int_value=number)
        listed = AnyValue(array_value=ArrayValue(values=[value]))
        read_span(
            Span(attributes=[KeyValue(key="a", value=value), KeyValue(key="b", value=listed)]).SerializeToString()
        )
    assert len(decode._pairs) + len(decode._lists) <= 4096


@given(SPANS, st.data())
def test_what_is_cut_is_no_message(span: ReadableSpan, data: st.DataObject) -> None:
    body = span_bytes(span)
    cut = body[: data.draw(st.integers(1, len(body) - 1))]
    try:
        expected = official(cut)
    except Exception:  # noqa: BLE001 - the official classes' own
        with pytest.raises(ValueError):
            read_span(cut)
    else:
        assert told(read_span(cut)) == expected


@pytest.mark.parametrize("body", [b"\x0a\x05ab", b"\x0b", b"\x80", b"\x09\x00", b"\x4a", b"\x4a\x80", b"\x4a\x05a"])
def test_what_is_no_message_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises(ValueError, match="no protobuf message"):
        read_span(body)
