"""A target that keeps ended spans in memory, unparsed."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import spancast
from spancast.model.unparsed import Parsed, Unparsed, as_ended
from spancast.runtime import RUNTIME
from spancast.testing.spans import decoded
from spancast.tracing.span_factory import SpancastTracerProvider

TIMES = (
    "gen_ai.response.time_to_first_chunk",
    "gen_ai.response.id",
    "gen_ai.conversation.id",
    "spancast.response.created",
)


class SpanTarget:
    """A target that keeps the spans it gets."""

    def __init__(self) -> None:
        self.taken: list[tuple[ReadableSpan, Unparsed | None]] = []

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        pass

    def put(self, span: ReadableSpan, unparsed: Unparsed | None = None) -> None:
        self.taken.append((span, unparsed))

    def shutdown(self) -> None:
        pass

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True

    def parsed(self) -> list[Parsed]:
        """Return all spans, parsed if that is still to be done and possible."""
        return [(unparsed and unparsed.parse(span)) or as_ended(span, unparsed) for span, unparsed in self.taken]


def own_provider() -> SpancastTracerProvider:
    return SpancastTracerProvider(Resource({"service.name": "test"}), None)


def captured_by_target(provider: SpancastTracerProvider | None = None, **settings: Any) -> SpanTarget:
    """Configure spancast with ``provider`` (one of its own), and return the target of its ended spans."""
    provider = provider or own_provider()
    spancast.configure(tracer_provider=provider, **settings)
    target, processor = SpanTarget(), RUNTIME.processor_of(provider)
    assert processor is not None
    processor.set_target(target)
    return target


def captured_from_sdk(**settings: Any) -> SpanTarget:
    """Return the target of spans that the SDK makes at their start, since another processor sees them."""
    provider = own_provider()
    target = captured_by_target(provider, **settings)
    provider.add_span_processor(SimpleSpanProcessor(InMemorySpanExporter()))
    return target


def shown(parsed: Parsed) -> dict[str, Any]:
    """Return the parts of a span that are equal in all runs of a call."""
    span, attributes, status = parsed
    found = decoded(attributes)
    for message in found.get("gen_ai.output.messages", []):
        for part in message["parts"]:
            part.pop("id", None)
    return {
        "name": span.name,
        "attributes": {name: value for name, value in found.items() if name not in TIMES},
        "times": sorted(name for name in TIMES if name in found),
        "status": (status.status_code, status.description),
        "events": [
            (event.name, {name: value for name, value in (event.attributes or {}).items() if "stack" not in name})
            for event in span.events
        ],
        "dropped": (span.dropped_attributes, span.dropped_events, span.dropped_links),
        "kind": span.kind,
    }
