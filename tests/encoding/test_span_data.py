"""The neutral span: decoding its JSON gives an equal span for any values."""

from __future__ import annotations

import gc
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from tests.destinations.payloads import payload
from tests.destinations.spans import conversation, of_sdk, record_of_sdk, records, span
from tests.encoding.test_otlp_encode import SPANS

from spancast.encoding import span_data
from spancast.encoding.otlp.decode import read
from spancast.encoding.otlp.encode import request_bytes
from spancast.encoding.span_data import SpanData, plain_value, read_record, span_json


def from_disk(ended: ReadableSpan) -> SpanData:
    record = record_of_sdk(ended)
    record.held = None
    return read_record(record)


@given(SPANS)
def test_json_round_trip_equals_sdk_span(ended: ReadableSpan) -> None:
    official = encode_spans([ended]).SerializeToString()
    assert request_bytes([from_disk(ended)]) == official
    assert request_bytes(read(official)) == official


@pytest.mark.parametrize(
    "attributes",
    [
        {"nan": math.nan, "inf": [math.inf, -math.inf]},
        {"bytes": b"\xff\x00", "in a list": [b""]},
        {"nested": {"a": {"b": [1, {"c": math.inf}]}}, "empty": {}, "none": None},
        {"dict": {"typed": 1, "float": "NaN"}, "with": b"1"},
        {"float": {"float": "NaN"}, "typed": {"dict": {}}},
    ],
    ids=["floats", "bytes", "nested", "names of types beside bytes", "names of types"],
)
def test_values_missing_in_json_round_trip(attributes: dict[str, Any]) -> None:
    [record] = records([span("x", 1, attributes=attributes)])
    assert repr(read_record(record).attributes) == repr(attributes)


def test_json_of_plain_span_is_untyped() -> None:
    body = json.loads(span_json(conversation()[0]))
    assert body["attributes"] == conversation()[0].attributes
    assert "events" not in body


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ((1, "a"), [1, "a"]), (2**63, str(2**63)), (-(2**63), -(2**63)), ({1: (True,)}, {"1": [True]}), (None, None),
        (bytearray(b"a"), b"a"), (StatusCode.OK, "1"), (object(), '"<object>"'), (True, True),
    ],
)  # fmt: skip
def test_plain_value_converts_to_otlp_types(value: Any, plain: Any) -> None:
    found = plain_value(value)
    assert (type(found), found) == (type(plain), plain)


@given(st.integers(41, 200))
def test_deeply_nested_value_becomes_text(depth: int) -> None:
    value: Any = "end"
    for _ in range(depth):
        value = [value]
    found = plain_value(value)
    for _ in range(40):
        [found] = found
    assert isinstance(found, str)


def test_held_spans_are_bounded() -> None:
    held = span_data._HeldSpans(max_bytes=10_000)
    made = records([span("x" * 1000, number + 1) for number in range(100)])
    for record in made:
        held.hold(record, read_record(record))
    kept = [number for number, record in enumerate(made) if record.held is not None]
    assert kept == list(range(kept[0], 100)), "the last ones"
    assert 0 < sum(len(made[number].body) for number in kept) < 22_000
    assert read_record(made[0]) == span("x" * 1000, 1)


def test_held_span_does_not_keep_its_record_alive() -> None:
    held = span_data._HeldSpans(max_bytes=10_000)
    [record] = records([span("x", 1)])
    held.hold(record, read_record(record))
    reference = held._young[0]
    del record
    gc.collect()
    assert reference() is None


def test_decode_of_encode_is_identity() -> None:
    assert read(payload().protobuf) == conversation()


def test_spans_of_the_sdk_with_values_of_every_kind() -> None:
    provider, memory = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    values = {"s": "x", "i": 1, "f": 0.5, "b": True, "l": [1, 2], "e": []}
    with provider.get_tracer("scope").start_as_current_span("a", attributes=values) as started:
        started.add_event("happened", {"k": "v"})
        started.set_status(StatusCode.ERROR, "why")
    [ended] = memory.get_finished_spans()
    [received] = read(encode_spans([ended]).SerializeToString())
    for found in (received, of_sdk(ended)):
        assert found.attributes == values
        assert [(event.name, event.attributes) for event in found.events] == [("happened", {"k": "v"})]
        assert (found.status, found.status_message, found.parent_span_id) == ("error", "why", "")
        assert found.scope.name == "scope"
        assert found.duration_ms > 0
        assert not found.is_generation


def test_decode_empty_batch() -> None:
    assert read(b"") == []
