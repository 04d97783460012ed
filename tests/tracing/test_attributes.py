from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.trace import Span

from spancast.tracing.attributes import write

ATTRIBUTES: dict[str, Any] = {
    "text": "x" * 40, "whole": 1, "number": 0.5, "flag": True, "texts": ["a", "b"], "numbers": [1, 2], "none": [],
}  # fmt: skip

LIMITS = (
    SpanLimits(),
    SpanLimits(max_span_attributes=3),
    SpanLimits(max_span_attributes=0),
    SpanLimits(max_span_attribute_length=5),
)


class Text(str):
    __slots__ = ()


def started(limits: SpanLimits) -> Any:
    return TracerProvider(span_limits=limits).get_tracer("test").start_span("s", attributes={"first": 1, "text": "a"})


def held(span: Any) -> tuple[Mapping[str, Any], int]:
    return dict(span.attributes), span.dropped_attributes


@pytest.mark.parametrize("limits", LIMITS, ids=("none", "3", "0", "length"))
@pytest.mark.parametrize(
    "attributes",
    [ATTRIBUTES, {}, {"mixed": ["a", None]}, {"object": {"a": 1}}, {"nothing": None}, {"own": Text("long enough")}],
)
def test_the_same_as_set_attributes(limits: SpanLimits, attributes: dict[str, Any]):
    ours, theirs = started(limits), started(limits)
    write(ours, attributes)
    theirs.set_attributes(attributes)
    assert held(ours) == held(theirs)


def test_the_callers_lists_are_not_kept():
    span, texts = started(SpanLimits()), ["a"]
    write(span, {"texts": texts})
    texts.append("b")
    assert span.attributes["texts"] == ("a",)


def test_an_ended_span_is_left_alone(caplog: pytest.LogCaptureFixture):
    span = started(SpanLimits())
    span.end()
    write(span, ATTRIBUTES)
    assert dict(span.attributes) == {"first": 1, "text": "a"}
    assert "ended span" in caplog.text


def test_a_span_of_another_kind_is_given_them():
    given: list[Any] = []

    class Other(Span):
        def set_attributes(self, attributes: Any) -> None:
            given.append(attributes)

    Other.__abstractmethods__ = frozenset()
    write(Other(), ATTRIBUTES)
    assert given == [ATTRIBUTES]
