"""On spancast's own provider the SDK makes the span of a group when the group ends; it is the span of making it first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace as trace_api
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from tests.tracing.span_targets import SpanTarget, captured_by_target, captured_from_sdk, own_provider

import spancast
from spancast.dialects.openai_chat.answers import chat_answer
from spancast.tracing.call_tracer import CALL_TRACER

KEYS: dict[str, Any] = {"trace_id": "order-1", "trace_name": "Support", "span_name": "triage", "feature": "billing"}


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    spancast.shutdown(1)


@spancast.instrument
def ask(**_: Any) -> Any:
    return chat_answer("hello", model="m")


def talk() -> None:
    for _ in range(2):
        ask(model="m", messages=[{"role": "user", "content": "hi"}], session_id="s", trace=KEYS)


class Started(SpanProcessor):
    """Records the names of the spans that start."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.names.append(span.name)


def shape(target: SpanTarget) -> dict[str, Any]:
    """Return what the group spans are, with ids replaced by the names of the spans."""
    spans = target.parsed()
    names = {span.context.span_id: span.name for span, _, _ in spans if span.context}
    return {
        span.name: (
            names[span.parent.span_id] if span.parent else None,
            f"{span.context.trace_id:032x}" if span.context else "",
            span.context.trace_flags if span.context else 0,
            attributes,
            span.kind,
        )
        for span, attributes, _ in spans
        if span.name != "chat m"
    }


def by_name(target: SpanTarget) -> dict[str, ReadableSpan]:
    return {span.name: span for span, _ in target.taken}


def test_late_group_is_the_span_of_one_made_at_its_start() -> None:
    late = captured_by_target()
    talk()
    assert [span.name for span, _ in late.taken] == ["chat m", "chat m"]
    CALL_TRACER.group_spans.end_idle()
    at_once = captured_from_sdk()
    talk()
    CALL_TRACER.group_spans.end_idle()
    assert shape(late) == shape(at_once)
    assert set(shape(late)) == {"Support", "triage"}


def test_late_group_lasts_from_its_first_call_to_its_last() -> None:
    target = captured_by_target()
    talk()
    CALL_TRACER.group_spans.end_idle()
    spans = by_name(target)
    calls = [span for span, _ in target.taken if span.name == "chat m"]
    for name in ("Support", "triage"):
        group = spans[name]
        assert group.start_time is not None
        assert group.end_time is not None
        assert all(group.start_time <= (call.start_time or 0) for call in calls)
        assert all(group.end_time >= (call.end_time or 0) for call in calls)


def test_late_group_under_a_span_of_the_application_ends_with_it() -> None:
    provider = own_provider()
    target = captured_by_target(provider)
    with provider.get_tracer("app").start_as_current_span("request") as request:
        ask(model="m", messages=[], trace={"span_name": "triage"})
    spans = by_name(target)
    assert spans["triage"].parent is not None
    assert spans["triage"].parent.span_id == request.get_span_context().span_id
    [call] = [span for span, _ in target.taken if span.name == "chat m"]
    triage = spans["triage"].context
    assert triage is not None
    assert call.parent is not None
    assert call.parent.span_id == triage.span_id


def test_group_is_made_at_its_start_if_other_code_sees_it() -> None:
    provider, started = own_provider(), Started()
    captured_by_target(provider)
    provider.add_span_processor(started)
    talk()
    assert started.names == ["Support", "triage", "chat m", "chat m"]


def test_group_of_a_block_can_be_annotated() -> None:
    target = captured_by_target()
    with spancast.trace(span_name="block"):
        trace_api.get_current_span().set_attribute("own", 1)
    assert (by_name(target)["block"].attributes or {})["own"] == 1
