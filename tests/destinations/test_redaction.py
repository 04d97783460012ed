"""What privacy mode and masks take out, and what they leave."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from tests.destinations.profiles.test_golden import TOOLS
from tests.destinations.spans import span

from spancast.destinations.plain_span import PlainEvent, PlainSpan
from spancast.destinations.redaction import MASKING_FAILED, Redaction, function_mask, pattern_mask, without_content
from spancast.errors import reraise_internal_errors, tally
from spancast.model import semconv

FOREIGN: dict[str, Any] = dict.fromkeys(("input.value", "output.value", "llm.input_messages.0.message.content", "llm.output_messages.1.message.content", "gen_ai.prompt", "gen_ai.prompt.0.content", "gen_ai.completion.0.content", "traceloop.entity.input", "traceloop.entity.output", "langfuse.observation.input", "mlflow.spanInputs", "ai.prompt.messages", "ai.response.text", "gen_ai.tool.call.arguments", "gen_ai.tool.call.result", "llm.prompts.0", "retrieval.documents.0.document.content", "tool.parameters", "trace.input", "exception.message", "exception.stacktrace", semconv.INPUT_MESSAGES, semconv.OUTPUT_MESSAGES, semconv.SYSTEM_INSTRUCTIONS, semconv.TOOL_DEFINITIONS, semconv.REQUEST_STOP_SEQUENCES, semconv.REQUEST + "response_format", semconv.REQUEST + "prompt"), "canary")  # fmt: skip


def told(one: PlainSpan) -> str:
    return json.dumps(
        [one.name, dict(one.attributes), [dict(event.attributes) for event in one.events], one.status_message]
    )


def canaries() -> PlainSpan:
    events = (
        PlainEvent(name="exception", at_ns=1, attributes={"exception.type": "E", "exception.message": "canary"}),
        PlainEvent(name="gen_ai.user.message", at_ns=1, attributes={"content": "canary", "role": "user"}),
    )
    return replace(
        span("x", 1, attributes={**TOOLS, **FOREIGN}, events=events), status="error", status_message="canary"
    )


def test_privacy_mode_leaves_nothing_that_was_said() -> None:
    private = without_content(canaries())
    assert "canary" not in told(private)
    for kept in (semconv.REQUEST_MODEL, semconv.USAGE_INPUT_TOKENS, semconv.USAGE_COST, semconv.SESSION_ID):
        assert private.attributes[kept] == TOOLS[kept]
    assert private.attributes[semconv.TRACE_METADATA + "order_id"] == "ORD-12345"
    assert [event.attributes for event in private.events] == [{"exception.type": "E"}, {"role": "user"}]


def test_a_pattern_is_taken_out_everywhere() -> None:
    redaction = Redaction(masks=(pattern_mask("canary", "[masked]"),), key="m")
    masked = redaction.apply(replace(canaries(), name="canary name"))
    assert "canary" not in told(masked)
    assert masked.name == "[masked] name"


def test_json_stays_json() -> None:
    redaction = Redaction(masks=(pattern_mask('"?quoted"?', '"'),), key="m")
    masked = redaction.apply(span("x", 1, attributes={"j": json.dumps([{"a": 'a "quoted" text'}]), "n": [1, "quoted"]}))
    assert json.loads(masked.attributes["j"]) == [{"a": 'a " text'}]
    assert masked.attributes["n"] == [1, '"']


def test_what_holds_a_trace_together_is_not_masked() -> None:
    redaction = Redaction(masks=(pattern_mask(r"\w+", "x"),), key="m")
    masked = redaction.apply(span("x", 1, attributes=TOOLS))
    for name in (semconv.SESSION_ID, semconv.REQUEST_MODEL, semconv.OPERATION_NAME, semconv.USAGE_COST):
        assert masked.attributes[name] == TOOLS[name]


@pytest.mark.parametrize("fails", ["raises", "slow pattern"])
def test_a_mask_that_fails_hides_the_value_and_never_costs_the_span(fails: str) -> None:
    def broken(text: str) -> str:
        raise KeyError(text)

    mask = function_mask(broken) if fails == "raises" else pattern_mask("(a|aa)+$", "")
    former = reraise_internal_errors(enabled=False)
    before = tally.read().get("masking_failed", 0)
    masked = Redaction(masks=(mask,), key="m").apply(span("n", 1, attributes={"secret": "a" * 60 + "b", "count": 3}))
    reraise_internal_errors(enabled=former)
    assert masked.attributes == {"secret": MASKING_FAILED, "count": 3}
    assert tally.read()["masking_failed"] > before
