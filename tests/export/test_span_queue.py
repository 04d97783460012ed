"""The span queue: whatever fails, no span is lost without being counted."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import SpanContext, TraceFlags
from tests.destinations.otlp_receiver import OtlpReceiver
from tests.export.pipelines import call, otlp, pipeline_to, tracing

import spancast
from spancast.diagnostics import Count, counters
from spancast.errors import SpancastError
from spancast.export import delivery_worker as worker_module
from spancast.export.span_queue import QueuedSpan, SpanQueue
from spancast.export.spool.memory import MemorySpool
from spancast.testing import CapturedSpans

PATIENCE_S = 60.0
NO_MEMORY_HAS_SO_MUCH = 1 << 46


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as running:
        yield running


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "BATCH_DELAY_S", 0.01)


@contextmanager
def no_thread_can_be_started() -> Iterator[None]:
    former = threading.stack_size(NO_MEMORY_HAS_SO_MUCH)
    try:
        with pytest.raises(RuntimeError, match="can't start new thread"):
            threading.Thread(target=print).start()
        yield
    finally:
        threading.stack_size(former)


def test_thread_start_failed_next_span_starts_it(receiver: OtlpReceiver) -> None:
    pipeline = pipeline_to({"one": otlp(receiver.url)}, None)
    with tracing(pipeline) as tracer:
        with no_thread_can_be_started():
            made = [call(tracer)]
        assert pipeline.span_queue.queued == 1
        made.append(call(tracer))
        assert receiver.wait_for(lambda: sorted(receiver.spans) == sorted(made)), "without a flush"
    assert pipeline.shutdown(PATIENCE_S)


def test_delivery_worker_start_failed_next_span_starts_it(receiver: OtlpReceiver) -> None:
    pipeline = pipeline_to({"one": otlp(receiver.url)}, None)
    span_queue = pipeline.span_queue
    with tracing(pipeline) as tracer:
        with span_queue._processing:
            made = [call(tracer)]
            former = threading.stack_size(NO_MEMORY_HAS_SO_MUCH)
        assert span_queue.flush(PATIENCE_S)
        threading.stack_size(former)
        assert pipeline.spool.state(pipeline.workers[0].route.key).queued == 1
        made.append(call(tracer))
        assert receiver.wait_for(lambda: sorted(receiver.spans) == sorted(made)), "without a flush"
    assert pipeline.shutdown(PATIENCE_S)


def test_no_thread_available_grouped_call_is_recorded(spans: CapturedSpans) -> None:
    complete = spancast.instrument(lambda **_: "hi")
    with no_thread_can_be_started():
        complete(model="m", messages=[], trace={"trace_id": "t", "trace_name": "Support"})
    spancast.flush()
    assert spans.tree() == {"Support": {"chat m": {}}}


def test_span_that_cannot_be_encoded_is_counted_and_others_delivered(receiver: OtlpReceiver) -> None:
    pipeline = pipeline_to({"one": otlp(receiver.url)}, None)
    odd = SpanContext(1 << 130, 1, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    with tracing(pipeline) as tracer, pipeline.span_queue._processing:
        made = [call(tracer, number) for number in range(100)]
        pipeline.processor.on_end(ReadableSpan("odd", odd, start_time=1, end_time=2))
        made += [call(tracer, number) for number in range(100)]
    report = pipeline.flush(PATIENCE_S)
    assert (report.destinations["one"].delivered, report.dropped) == (200, 1)
    assert not report
    assert sorted(receiver.spans) == sorted(made)
    assert pipeline.flush(PATIENCE_S), "it is reported once"
    pipeline.shutdown()


@pytest.mark.parametrize("error", [ValueError, MemoryError, SpancastError])
def test_processing_raises_batch_is_counted_and_next_is_processed(error: type[Exception]) -> None:
    taken: list[str] = []

    def take(ended: Sequence[QueuedSpan]) -> None:
        if any(span.name == "odd" for span, *_ in ended):
            raise error
        taken.extend(span.name for span, *_ in ended)

    span_queue = SpanQueue(take)
    before = counters.read()[Count("dropped", reason="internal_error")]
    sampled = SpanContext(1, 1, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    for names in (["odd", "beside it"], ["one", "two"]):
        with span_queue._processing:
            for name in names:
                span_queue.on_end(ReadableSpan(name, sampled, start_time=1, end_time=2))
        assert span_queue.flush(PATIENCE_S)
    assert counters.read()[Count("dropped", reason="internal_error")] - before == 2
    assert (taken, span_queue.queued) == (["one", "two"], 0)


def fail_put(connection: sqlite3.Connection, text: str) -> None:
    """Make SQLite reject every transaction with a record that contains ``text``, as for a defect of ours."""
    connection.execute(
        f"CREATE TRIGGER odd BEFORE INSERT ON batches WHEN instr(NEW.content, CAST('{text}' AS BLOB))"
        " BEGIN SELECT RAISE(ABORT, 'odd'); END"
    )


@pytest.mark.parametrize("position", [0, 100, 200])
def test_record_that_cannot_be_stored_is_counted_and_others_delivered(position: int, receiver: OtlpReceiver) -> None:
    choosy = otlp(receiver.url, filter_rules={"groups": [{"rules": [
        {"field": "prompt_tokens", "operator": "gte", "value": 100}]}]})  # fmt: skip
    pipeline = pipeline_to({"one": otlp(receiver.url), "choosy": choosy}, None)
    assert isinstance(pipeline.spool, MemorySpool)
    fail_put(pipeline.spool._connection, "poison")
    with tracing(pipeline) as tracer, pipeline.span_queue._processing:
        for number in range(201):
            call(tracer, number, note="poison" if number == position else "")
    report = pipeline.flush(PATIENCE_S)
    assert not report
    assert report.dropped == 1
    assert report.destinations["one"].delivered == 200
    # The reasons of skipped records are kept for each record.
    assert report.destinations["choosy"].delivered == 101 - (position >= 100)
    assert pipeline.flush(PATIENCE_S)
    pipeline.shutdown()


def test_flush_includes_spans_being_spooled(receiver: OtlpReceiver) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def mask(text: str) -> str:
        begun.set()
        may_end.wait(PATIENCE_S)
        return text

    pipeline = pipeline_to({"one": otlp(receiver.url, mask=[mask])}, None)
    with tracing(pipeline) as tracer:
        call(tracer)
        assert begun.wait(PATIENCE_S)
        report = pipeline.flush(0.01)
        assert (bool(report), report.dropped, pipeline.span_queue.queued) == (False, 1, 1)
        may_end.set()
    report = pipeline.flush(PATIENCE_S)
    assert (bool(report), report.dropped, report.destinations["one"].delivered) == (True, 0, 1)
    pipeline.shutdown()


class SlottedSpan:
    """An ended span of another library, with the fields that it was made for and no others."""

    __slots__ = ("_fields",)

    def __init__(self, **fields: object) -> None:
        self._fields = fields

    def __getattr__(self, name: str) -> object:
        try:
            return self._fields[name]
        except KeyError:
            raise AttributeError(name) from None


@pytest.mark.parametrize("lacking", ["", "parent", "attributes", "resource", "get_span_context", "context"])
def test_span_with_slots_is_delivered_or_counted(lacking: str, receiver: OtlpReceiver) -> None:
    # Such a span is recognised by its ids if it is put twice.
    ids = 7, 1 + hash(lacking) % (1 << 62)
    context = SpanContext(*ids, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    whole = ReadableSpan("slotted", context, start_time=1, end_time=2)
    names = ("name", "context", "parent", "kind", "attributes", "events", "links", "status", "resource",
             "instrumentation_scope", "start_time", "end_time", "dropped_attributes", "dropped_events",
             "dropped_links", "get_span_context")  # fmt: skip
    span = SlottedSpan(**{name: getattr(whole, name) for name in names if name != lacking})
    before = counters.read()
    pipeline = pipeline_to({"one": otlp(receiver.url)}, None)
    pipeline.processor.on_end(span)  # type: ignore[arg-type]
    report = pipeline.flush(PATIENCE_S)
    now = counters.read()
    lost = now[Count("dropped", reason="internal_error")] - before[Count("dropped", reason="internal_error")]
    assert now[Count("received")] - before[Count("received")] == 1
    assert (report.destinations["one"].delivered, lost) == ((0, 1) if lacking else (1, 0))
    pipeline.shutdown()


LARGE = "x" * (1 << 20)


@pytest.mark.parametrize("attributes", [
    {"llm.input_messages.0.message.content": LARGE},
    {"traceloop.entity.input": LARGE},
    {"gen_ai.input.messages": LARGE},
    {"texts": [LARGE]},
    {},
])  # fmt: skip
def test_any_large_attribute_counts_for_the_limit_of_bytes(attributes: dict[str, object]) -> None:
    span_queue = SpanQueue(lambda _: None, max_bytes=10 << 20)
    before = counters.read()
    sampled = SpanContext(1, 1, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    events = () if attributes else (Event("gen_ai.content.prompt", {"gen_ai.prompt": LARGE}),)
    with span_queue._processing:
        for _ in range(30):
            span_queue.on_end(ReadableSpan("large", sampled, attributes=attributes, events=events, start_time=1))  # type: ignore[arg-type]
        assert 5 <= span_queue.queued <= 10
    assert span_queue.flush(PATIENCE_S)
    assert 20 <= (counters.read() - before)[Count("dropped", reason="queue_full")] <= 25
    span_queue.stop()
    span_queue.close(PATIENCE_S)
