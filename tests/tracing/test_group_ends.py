"""When group spans end: with their block or the active span, otherwise when idle."""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

import spancast
from spancast.testing import captured_spans

NEVER = 3600.0
KEYS = {"trace_id": "t", "trace_name": "Support", "span_name": "triage"}


class Ended(SpanProcessor):
    """The names of ended spans, in order; unlike ``CapturedSpans`` it does not end groups when it is read."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._queue: queue.Queue[str] = queue.Queue()

    def on_end(self, span: Any) -> None:
        self.names.append(span.name)
        self._queue.put(span.name)

    def wait_for(self, name: str) -> None:
        while self._queue.get(timeout=30) != name:
            pass


@pytest.fixture
def provider() -> TracerProvider:
    return TracerProvider(shutdown_on_exit=False)


@pytest.fixture
def ended(provider: TracerProvider) -> Iterator[Ended]:
    with captured_spans(tracer_provider=provider, group_idle_timeout=NEVER):
        made = Ended()
        provider.add_span_processor(made)
        yield made


@spancast.instrument
def ask(**request: Any) -> str:
    return "hi"


@spancast.instrument
def stream(**request: Any) -> Iterator[str]:
    yield "h"
    yield "i"


def call(**keys: Any) -> None:
    ask(model="m", messages=[], trace=keys)


def test_group_opened_in_a_block_ends_with_it(ended: Ended) -> None:
    with spancast.trace(session_id="s"):
        call(**KEYS)
        call(**KEYS)
        assert ended.names == ["chat m"] * 2
    assert ended.names == ["chat m", "chat m", "triage", "Support"]


def test_group_opened_under_an_active_span_ends_with_it(provider: TracerProvider, ended: Ended) -> None:
    with provider.get_tracer("app").start_as_current_span("POST /ask"):
        call(span_name="triage")
        call(**KEYS)
        call(**KEYS)
        assert ended.names == ["chat m"] * 3
    assert sorted(ended.names) == ["POST /ask", "Support", "chat m", "chat m", "chat m", "triage", "triage"]


def test_group_ends_with_the_innermost_of_block_and_active_span(provider: TracerProvider, ended: Ended) -> None:
    tracer = provider.get_tracer("app")
    with spancast.trace(session_id="s"):
        with tracer.start_as_current_span("tool"):
            call(span_name="in the tool")
        assert ended.names[-2:] == ["in the tool", "tool"] or ended.names[-2:] == ["tool", "in the tool"]
        with spancast.trace(span_name="inner"):
            call(span_name="in the inner block")
        assert ended.names[-2:] == ["in the inner block", "inner"]
    with tracer.start_as_current_span("request"):
        with spancast.trace(session_id="s"):
            call(span_name="in the block")
        assert ended.names[-1] == "in the block"


def test_block_ends_its_group_though_a_child_runs(ended: Ended) -> None:
    with spancast.trace(**KEYS):
        chunks = stream(model="m", messages=[])
        next(chunks)
    assert ended.names == ["triage", "Support"]
    chunks.close()
    assert ended.names == ["triage", "Support", "chat m"]


def test_block_ends_its_group_though_others_have_joined_it(ended: Ended) -> None:
    with spancast.trace(session_id="s"):
        call(**KEYS)
        # Without the block's context: another request of the same conversation.
        contextvars.Context().run(call, **KEYS)
        assert ended.names == ["chat m"] * 2
    assert ended.names[2:] == ["triage", "Support"]


def test_blocks_of_one_trace_open_a_span_each(ended: Ended) -> None:
    entered, leave = threading.Event(), threading.Event()

    def first() -> None:
        with spancast.trace(**KEYS):
            entered.set()
            assert leave.wait(30)

    thread = threading.Thread(target=first)
    thread.start()
    assert entered.wait(30)
    with spancast.trace(**KEYS):
        call()
    assert ended.names == ["chat m", "triage", "Support"]
    leave.set()
    thread.join()
    assert ended.names == ["chat m", "triage", "Support", "triage", "Support"]


def test_group_opened_after_its_block_ended_ends_when_idle(provider: TracerProvider, ended: Ended) -> None:
    spancast.configure(tracer_provider=provider, group_idle_timeout=0.01)
    with spancast.trace(session_id="s"):
        left = contextvars.copy_context()
    left.run(call, **KEYS)
    ended.wait_for("Support")


def test_idle_time_ends_no_group_of_an_open_block_or_span(provider: TracerProvider, ended: Ended) -> None:
    spancast.configure(tracer_provider=provider, group_idle_timeout=0.01)
    with spancast.trace(session_id="s"):
        call(trace_id="in a block", trace_name="in a block")
        with provider.get_tracer("app").start_as_current_span("request"):
            call(span_name="in a span")
            for number in range(3):
                contextvars.Context().run(call, trace_id="t", trace_name=f"by keys {number}")
                ended.wait_for(f"by keys {number}")
            assert not {"in a block", "in a span"} & {*ended.names}
        assert ended.names[-2:] == ["in a span", "request"] or ended.names[-2:] == ["request", "in a span"]
    assert ended.names[-1] == "in a block"


def test_group_under_a_span_of_another_provider_ends_after_it(provider: TracerProvider, ended: Ended) -> None:
    """Its provider does not have our processor, so the end of the span is seen at the next check only."""
    spancast.configure(tracer_provider=provider, group_idle_timeout=0.01)
    with TracerProvider(shutdown_on_exit=False).get_tracer("app").start_as_current_span("request"):
        call(span_name="triage")
        contextvars.Context().run(call, trace_id="t", trace_name="by keys")
        ended.wait_for("by keys")
        assert "triage" not in ended.names
    ended.wait_for("triage")


def test_flush_ends_groups_of_calls_and_leaves_those_of_the_block(ended: Ended) -> None:
    with spancast.trace(span_name="block"):
        call(span_name="group")
        spancast.flush()
        assert ended.names == ["chat m", "group"]
    assert ended.names[-1] == "block"


def test_configure_in_a_block_ends_its_span_once(provider: TracerProvider, ended: Ended, caplog: Any) -> None:
    @spancast.trace(span_name="block")
    def fail() -> None:
        spancast.configure(tracer_provider=provider)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert ended.names == ["block"]
    assert caplog.records == []
