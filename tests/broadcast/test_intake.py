"""Where ended spans come in: whatever fails there, no span is lost without being counted."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.broadcast.broadcasts import broadcast_to, call, otlp, tracing
from tests.destinations.otlp_receiver import OtlpReceiver

import spancast
from spancast.broadcast import courier as courier_module
from spancast.testing import CapturedSpans

PATIENCE_S = 60.0
NO_MEMORY_HAS_SO_MUCH = 1 << 46


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as running:
        yield running


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier_module, "DELAY_S", 0.01)


@contextmanager
def no_thread_can_be_started() -> Iterator[None]:
    former = threading.stack_size(NO_MEMORY_HAS_SO_MUCH)
    try:
        with pytest.raises(RuntimeError, match="can't start new thread"):
            threading.Thread(target=print).start()
        yield
    finally:
        threading.stack_size(former)


def test_a_thread_that_could_not_be_started_is_started_by_the_next_span(receiver: OtlpReceiver) -> None:
    broadcast = broadcast_to({"one": otlp(receiver.url)}, None)
    with tracing(broadcast) as tracer:
        with no_thread_can_be_started():
            made = [call(tracer)]
        assert broadcast.intake.waiting == 1
        made.append(call(tracer))
        assert receiver.wait_for(lambda: sorted(receiver.spans) == sorted(made)), "without a flush"
    assert broadcast.shutdown(PATIENCE_S)


def test_a_courier_that_could_not_be_started_is_started_by_the_next_span(receiver: OtlpReceiver) -> None:
    broadcast = broadcast_to({"one": otlp(receiver.url)}, None)
    intake = broadcast.intake
    with tracing(broadcast) as tracer:
        with intake._taking:
            made = [call(tracer)]
            former = threading.stack_size(NO_MEMORY_HAS_SO_MUCH)
        assert intake.drain(PATIENCE_S)
        threading.stack_size(former)
        assert broadcast.spool.state("one").waiting == 1
        made.append(call(tracer))
        assert receiver.wait_for(lambda: sorted(receiver.spans) == sorted(made)), "without a flush"
    assert broadcast.shutdown(PATIENCE_S)


def test_a_call_in_a_group_is_recorded_though_no_thread_can_be_started(spans: CapturedSpans) -> None:
    complete = spancast.instrument(lambda **_: "hi")
    with no_thread_can_be_started():
        complete(model="m", messages=[], trace={"trace_id": "t", "trace_name": "Support"})
    spancast.flush()
    assert spans.tree() == {"Support": {"chat m": {}}}
