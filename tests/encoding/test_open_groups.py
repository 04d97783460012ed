"""Open groups in trees: drawn from the keys of their calls, as spans of the groups do not exist yet."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import spancast
from spancast.testing import captured_spans, tree_text

Ended = Callable[[], list[str]]
REQUEST: Any = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
ROOT = {"trace_id": "t", "trace_name": "Support"}


@pytest.fixture
def ended() -> Iterator[Ended]:
    """Return a function that returns the lines of the tree of what has ended; unlike ``CapturedSpans`` it ends nothing."""
    provider, exporter = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with captured_spans(tracer_provider=provider, group_idle_timeout=3600):

        def lines() -> list[str]:
            # Without the duration; that of an open group is "open".
            return [
                re.sub(r" +open$", " open", re.sub(r"  +[\d.]+ m?s.*", "", line))
                for line in tree_text(exporter.get_finished_spans()).splitlines()
            ]

        yield lines


@spancast.instrument
def ask(**request: Any) -> str:
    return "hi"


def named(name: str, **keys: Any) -> None:
    ask(**REQUEST, trace={**keys, "generation_name": name})


def test_groups_of_calls_are_drawn_while_they_are_open(ended: Ended) -> None:
    named("classify", **ROOT, span_name="triage")
    named("draft", **ROOT, span_name="answer")
    named("choose", **ROOT, span_name="triage")
    named("rate", **ROOT)
    named("alone", trace_id="t")
    assert ended() == [
        "Support open",
        "├─ triage open",
        "│  ├─ classify",
        "│  └─ choose",
        "├─ answer open",
        "│  └─ draft",
        "└─ rate",
        "alone",
    ]
    spancast.flush()
    assert [line.replace(" open", "") for line in ended()] == ended()
    assert len(ended()) == 8


def test_group_that_ended_in_an_open_one_is_below_the_name_of_the_trace(ended: Ended) -> None:
    with spancast.trace(**ROOT):
        with spancast.trace(span_name="triage"):
            named("classify")
            assert ended() == ["Support open", "└─ classify"]
        named("rate")
        assert ended() == ["Support open", "├─ triage", "│  └─ classify", "└─ rate"]
    assert ended() == ["Support", "├─ triage", "│  └─ classify", "└─ rate"]


def test_span_of_the_application_in_an_open_group_is_below_it(ended: Ended) -> None:
    tracer = spancast.runtime.CALL_TRACER.settings.tracer_provider.get_tracer("app")  # type: ignore[union-attr]
    with spancast.trace(**ROOT):
        named("classify")
        with tracer.start_as_current_span("look up"):
            pass
        assert ended() == ["Support open", "├─ classify", "└─ look up"]


def test_parent_that_the_caller_named_is_no_open_group(ended: Ended) -> None:
    named("classify", trace_id="t", trace_name="Support", parent_span_id="other")
    assert ended() == ["classify"]
    named("draft", trace_id="t", trace_name="Support", parent_span_id="other", span_name="answer")
    assert ended() == ["classify", "answer open", "└─ draft"]
    spancast.flush()
    assert ended() == ["classify", "answer", "└─ draft"]


def test_two_traces_of_one_name_have_a_root_each(ended: Ended) -> None:
    named("one", trace_id="a", trace_name="Support")
    named("two", trace_id="b", trace_name="Support", span_name="triage")
    assert ended() == ["Support open", "└─ one", "Support open", "└─ triage open", "   └─ two"]
