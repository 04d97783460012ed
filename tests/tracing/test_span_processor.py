"""Our span processor: one per provider, with a replaceable target."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.trace import NoOpTracer

import spancast
from spancast.runtime import Runtime
from spancast.tracing.call_tracer import CallTracer

processor_of = Runtime(CallTracer()).processor_of


class RecordingProcessor(SpanProcessor):
    def __init__(self) -> None:
        self.started: list[str] = []
        self.ended: list[str] = []

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.started.append(span.name)

    def put(self, span: ReadableSpan, unparsed: object = None) -> None:
        self.ended.append(span.name)


class Foreign:
    """A provider without processors that accepts no weak references."""

    __slots__ = ()

    def get_tracer(self, *_: object, **__: object) -> NoOpTracer:
        return NoOpTracer()


def test_processor_of_adds_one_per_provider() -> None:
    provider = TracerProvider()
    processor = processor_of(provider)
    assert processor is not None
    assert processor_of(provider) is processor
    assert processor_of(TracerProvider()) is not processor
    assert processor_of(Foreign()) is None  # type: ignore[arg-type]


def test_ended_spans_go_to_the_current_target() -> None:
    provider = TracerProvider()
    processor = processor_of(provider)
    assert processor is not None
    first, second = RecordingProcessor(), RecordingProcessor()
    tracer = provider.get_tracer("app")
    tracer.start_span("without target").end()
    for target, name in ((first, "one"), (second, "two"), (None, "three"), (first, "four")):
        processor.set_target(target)
        tracer.start_span(name).end()
    assert first.started == first.ended == ["one", "four"]
    assert second.started == second.ended == ["two"]


def test_starts_of_our_own_spans_are_not_passed_on() -> None:
    provider = TracerProvider()
    processor = processor_of(provider)
    assert processor is not None
    target = RecordingProcessor()
    processor.set_target(target)
    with spancast.trace(session_id="s-1", feature="billing"):
        ours = provider.get_tracer("spancast").start_span("chat")
        theirs: Any = provider.get_tracer("app").start_span("query")
    ours.end()
    theirs.end()
    assert target.started == ["query"]
    assert target.ended == ["chat", "query"]
    assert theirs.attributes["session.id"] == "s-1"
    assert theirs.attributes["trace.metadata.feature"] == "billing"
