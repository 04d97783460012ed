from __future__ import annotations

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from tests.destinations.payloads import payload
from tests.destinations.spans import conversation

from spancast.encoding.span_data import read


def test_what_was_put_in_comes_out() -> None:
    assert read(payload().protobuf) == conversation()


def test_spans_of_the_sdk_with_values_of_every_kind() -> None:
    provider, memory = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    values = {"s": "x", "i": 1, "f": 0.5, "b": True, "l": [1, 2], "e": []}
    with provider.get_tracer("scope").start_as_current_span("a", attributes=values) as span:
        span.add_event("happened", {"k": "v"})
        span.set_status(StatusCode.ERROR, "why")
    (found,) = read(encode_spans(memory.get_finished_spans()).SerializeToString())
    assert found.attributes == values
    assert [(event.name, event.attributes) for event in found.events] == [("happened", {"k": "v"})]
    assert (found.status, found.status_message, found.scope, found.parent_span_id) == ("error", "why", "scope", "")
    assert found.duration_ms > 0
    assert not found.is_generation


def test_an_empty_batch() -> None:
    assert read(b"") == []
