"""On spancast's own provider the SDK makes a span only if something touches it; either way it is the same span."""

from __future__ import annotations

import copy
import gc
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import context as context_api
from opentelemetry import trace as trace_api
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace import Span as SDKSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, Status, StatusCode, TraceFlags
from tests.tracing.span_targets import SpanTarget, captured_by_target, captured_from_sdk, own_provider, shown

import spancast
from spancast.diagnostics import reraise_internal_errors, reset_warnings
from spancast.dialects.openai_chat.answers import chat_answer
from spancast.model.trace_keys import TraceKeys
from spancast.tracing import span_factory
from spancast.tracing.call_tracer import CALL_TRACER
from spancast.tracing.span_factory import SpanFactory

Touch = Callable[[Any], object]
OTHER = SpanContext(0x1234, 0x56, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    spancast.shutdown(1)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the deferred spans that the SDK has made."""
    names: list[str] = []
    make = SpanFactory.make

    def counting(factory: SpanFactory, span: Any) -> Any:
        names.append(span.first_name)
        return make(factory, span)

    monkeypatch.setattr(SpanFactory, "make", counting)
    return names


@pytest.fixture
def fast_switching() -> Iterator[None]:
    """Switch threads as often as possible."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def ask(inside: Touch = lambda _: None) -> None:
    """Make a call of a decorated function that does ``inside`` with the current span."""

    def answer(**_: Any) -> Any:
        inside(trace_api.get_current_span())
        return chat_answer("hello", model="m")

    spancast.instrument(answer)(model="m", messages=[{"role": "user", "content": "hi"}], trace={"feature": "billing"})


def fail(span: Any) -> None:
    span.record_exception(ValueError("odd"), {"more": 1})


def leave_with_error(span: Any) -> None:
    with pytest.raises(ValueError, match="odd"), span:
        raise ValueError("odd")


TOUCHES: dict[str, Touch] = {
    "attribute": lambda span: span.set_attribute("own", 1),
    "attributes": lambda span: span.set_attributes({"own": [1, 2], "server.address": "mine"}),
    "event": lambda span: span.add_event("happened", {"how": "so"}, 5),
    "link": lambda span: span.add_link(OTHER, {"why": "related"}),
    "name": lambda span: span.update_name("renamed"),
    "status": lambda span: span.set_status(Status(StatusCode.ERROR, "bad")),
    "status code": lambda span: span.set_status(StatusCode.OK),
    "exception": fail,
    "end": lambda span: span.end(),
    "block": lambda span: span.__exit__(None, None, None),
    "failed block": leave_with_error,
}


def only(target: SpanTarget) -> dict[str, Any]:
    [parsed] = target.parsed()
    span = parsed[0]
    context = span.context
    assert context is not None
    return {
        **shown(parsed),
        "links": [(link.context, dict(link.attributes or {})) for link in span.links],
        "resource": span.resource,
        "scope": span.instrumentation_scope,
        "parent": span.parent,
        "flags": context.trace_flags,
        "state": context.trace_state,
        "lasts": (span.end_time or 0) >= (span.start_time or 0) > 0,
    }


@pytest.mark.parametrize("touch", TOUCHES.values(), ids=TOUCHES)
def test_touched_span_is_that_of_the_sdk(touch: Touch) -> None:
    target = captured_by_target()
    ask(touch)
    of_sdk = captured_from_sdk()
    ask(touch)
    assert only(target) == only(of_sdk)


def test_untouched_span_is_that_of_the_sdk_which_does_not_make_it(made: list[str]) -> None:
    target = captured_by_target()
    ask()
    assert made == []
    of_sdk = captured_from_sdk()
    ask()
    assert only(target) == only(of_sdk)


def test_code_that_asks_what_the_span_is_does_not_make_it(made: list[str]) -> None:
    captured_by_target()
    seen: list[Any] = []

    def look(span: Any) -> None:
        seen.extend((isinstance(span, ReadableSpan), isinstance(span, SDKSpan), span.is_recording(), span.kind.name))
        seen.append((span.get_span_context().is_valid, span.instrumentation_scope.name))

    ask(look)
    assert seen == [True, True, True, "CLIENT", (True, "spancast")]
    assert made == []


def test_span_can_be_read_while_it_runs_and_after_its_end(made: list[str]) -> None:
    captured_by_target()
    spans: list[Any] = []

    def read(span: Any) -> None:
        spans.append(span)
        assert span.name == "chat m"
        assert span.attributes["gen_ai.request.model"] == "m"
        assert span.end_time is None

    ask(read)
    ask(spans.append)
    assert made == ["chat m"]
    for span in spans:
        assert not span.is_recording()
        assert (span.name, span.end_time >= span.start_time) == ("chat m", True)
        span.set_attribute("late", 1)
        span.end()
        assert "late" not in span.attributes


def test_change_of_an_ended_span_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    captured_by_target()
    spans: list[Any] = []
    ask(spans.append)
    reset_warnings()
    spans[0].set_attribute("late", 1)
    assert "`set_attribute` of a span that has ended has no effect" in caplog.text


def test_defect_in_the_attributes_of_the_start_does_not_reach_the_application(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Any) -> Any:
        message = "a defect"
        raise RuntimeError(message)

    target = captured_by_target()
    former = reraise_internal_errors(enabled=False)
    try:
        with spancast.trace(trace_name="t"):
            monkeypatch.setattr(TraceKeys, "attributes", broken)
            trace_api.get_current_span().set_attribute("own", 1)
            monkeypatch.undo()
    finally:
        reraise_internal_errors(enabled=former)
    [(_, attributes, _)] = target.parsed()
    assert attributes["own"] == 1
    assert spancast.stats().internal_errors >= 1


def test_processor_that_is_added_during_a_call_gets_the_whole_span() -> None:
    provider, exporter = own_provider(), InMemorySpanExporter()
    target = captured_by_target(provider)
    ask(lambda _: provider.add_span_processor(SimpleSpanProcessor(exporter)))
    [span] = exporter.get_finished_spans()
    attributes = span.attributes or {}
    assert attributes["gen_ai.provider.name"] == "openai"
    assert "hello" in str(attributes["gen_ai.output.messages"])
    assert len(target.taken) == 1


def test_processor_that_is_added_while_a_span_starts_gets_the_whole_span(monkeypatch: pytest.MonkeyPatch) -> None:
    provider, exporter = own_provider(), InMemorySpanExporter()
    captured_by_target(provider)
    factory = CALL_TRACER.span_factory()
    generator: Any = factory._generator  # pyright: ignore[reportPrivateUsage]
    generate = generator.generate_span_id

    def generate_late() -> int:
        # As another thread does.
        monkeypatch.undo()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        return generate()

    monkeypatch.setattr(generator, "generate_span_id", generate_late)
    with spancast.trace(trace_name="t"):
        pass
    [span] = exporter.get_finished_spans()
    assert (span.attributes or {})["gen_ai.workflow.name"] == "t"


@pytest.mark.parametrize("copy_of", [copy.copy, copy.deepcopy, repr])
def test_copy_and_text_of_a_span_are_those_of_the_sdk(copy_of: Touch) -> None:
    found: list[object] = []

    def look(span: Any) -> None:
        ids = str(span.get_span_context())
        try:
            copied: Any = copy_of(span)
        except TypeError as error:
            found.append(type(error))
        else:
            found.append(copied.replace(ids, "IDS") if isinstance(copied, str) else type(copied))
            if not isinstance(copied, str):
                copied.set_attribute("own", 1)

    target = captured_by_target()
    ask(look)
    of_sdk = captured_from_sdk()
    ask(look)
    assert found[0] == found[1]
    assert only(target) == only(of_sdk)


def test_threads_that_touch_a_span_at_once_share_one_span_of_the_sdk(made: list[str]) -> None:
    target = captured_by_target()
    together = threading.Barrier(8)

    def touch(span: Any) -> None:
        def set_own(number: int) -> None:
            together.wait(30)
            span.set_attribute(f"own.{number}", number)

        threads = [threading.Thread(target=set_own, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

    ask(touch)
    [(_, attributes, _)] = target.parsed()
    assert {name for name in attributes if name.startswith("own.")} == {f"own.{number}" for number in range(8)}
    assert made == ["chat m"]


def test_threads_that_end_a_span_at_once_end_it_once(fast_switching: None) -> None:
    target = captured_by_target()

    def end(span: Any) -> None:
        together = threading.Barrier(6)

        def wait_and_end() -> None:
            together.wait(30)
            span.end()

        threads = [threading.Thread(target=wait_and_end) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

    for _ in range(200):
        ask(end)
    assert len(target.taken) == 200


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_child_that_was_forked_while_a_span_was_made_makes_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    captured_by_target()
    make = SpanFactory.make
    is_making, may_go_on = threading.Event(), threading.Event()

    def slowly(factory: SpanFactory, span: Any) -> Any:
        is_making.set()
        may_go_on.wait(30)
        return make(factory, span)

    def fork(span: Any) -> None:
        with monkeypatch.context() as patches:
            patches.setattr(SpanFactory, "make", slowly)
            thread = threading.Thread(target=span.set_attribute, args=("own", 1))
            thread.start()
            is_making.wait(30)
        child = os.fork()
        if child == 0:
            try:
                signal.alarm(30)
                ask(TOUCHES["attribute"])
                os._exit(0)
            finally:
                os._exit(1)
        may_go_on.set()
        thread.join(30)
        statuses.append(os.waitpid(child, 0)[1])

    statuses: list[int] = []
    ask(fork)
    assert statuses == [0]


@pytest.mark.parametrize("flags", [0x00, 0x01, 0x02, 0x03, 0xFF])
def test_flags_of_a_parent_are_passed_on_as_by_the_sdk(flags: int) -> None:
    def under_parent() -> None:
        parent = SpanContext(0x1234, 0x56, is_remote=True, trace_flags=TraceFlags(flags))
        with trace_api.use_span(NonRecordingSpan(parent)):
            ask()

    target = captured_by_target()
    under_parent()
    of_sdk = captured_from_sdk()
    under_parent()
    assert len(target.taken) == len(of_sdk.taken) == (flags & 1)
    if flags & 1:
        assert only(target) == only(of_sdk)


def test_sdk_that_counts_its_spans_makes_them(monkeypatch: pytest.MonkeyPatch, made: list[str]) -> None:
    monkeypatch.setattr(span_factory, "_COUNTS_SPANS", True)
    provider = own_provider()
    target = captured_by_target(provider)
    kinds: list[type] = []
    ask(lambda span: kinds.append(type(span)))
    assert issubclass(kinds[0], SDKSpan)
    assert len(target.taken) == 1
    assert made == []


def test_nothing_is_kept_of_a_span_that_was_touched() -> None:
    provider = own_provider()
    captured_by_target(provider)
    ask(TOUCHES["attribute"])
    ask(TOUCHES["end"])
    processor = provider.processor
    assert processor is not None
    assert processor.running == {}


@pytest.mark.parametrize("touch", [lambda _: None, TOUCHES["attribute"]], ids=["deferred", "made"])
def test_ended_span_that_is_kept_does_not_keep_its_context(touch: Touch) -> None:
    class Held:
        pass

    captured_by_target()
    spans: list[Any] = []

    def run() -> weakref.ref[Held]:
        held = Held()
        token = context_api.attach(context_api.set_value("held", held))
        ask(lambda span: (spans.append(span), touch(span)))
        context_api.detach(token)
        return weakref.ref(held)

    known = run()
    gc.collect()
    assert known() is None
    assert not spans[0].is_recording()
