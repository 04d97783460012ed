from __future__ import annotations

from typing import Any

import pytest
from tests.destinations.spans import CALL, KEYS, START_NS, conversation, span

from spancast.encoding import genai_fields
from spancast.encoding.span_data import SpanData
from spancast.model import semconv
from spancast.model.json_codec import encode

CALLED, FAILED, STEP, _ = conversation()


def calling(**attributes: Any) -> SpanData:
    return span("x", 1, attributes={**CALL, **{getattr(semconv, name): value for name, value in attributes.items()}})


def test_kinds_and_levels() -> None:
    assert [genai_fields.span_type(one) for one in (CALLED, FAILED, STEP)] == ["GENERATION", "GENERATION", "SPAN"]
    assert [genai_fields.level(one) for one in (CALLED, FAILED, STEP)] == ["DEFAULT", "ERROR", "DEFAULT"]


def test_metadata_with_and_without_the_names() -> None:
    own = {"order_id": "ORD-12345", "priority": "high"}
    assert genai_fields.own_keys(CALLED) == own
    assert genai_fields.metadata(CALLED) == {
        "trace_id": "order_processing_001",
        "trace_name": "Order Processing Pipeline",
        "generation_name": "Extract Order Details",
        **own,
    }


def test_parameters_by_their_wire_names() -> None:
    assert genai_fields.model_parameters(CALLED) == {"temperature": 0.7, "max_tokens": 150, "user_tier": "gold"}
    assert genai_fields.model_parameters(STEP) == {}


@pytest.mark.parametrize(
    ("details", "split"),
    [
        ({}, (None, None)),
        ({"upstream_inference_prompt_cost": 0.1}, (None, None)),
        ({"upstream_inference_prompt_cost": 0.1, "upstream_inference_completions_cost": 0.1}, (None, None)),
        ({"upstream_inference_input_cost": 0.0003, "upstream_inference_output_cost": 0.00045}, (0.0003, 0.00045)),
    ],
)
def test_cost_split_only_if_it_adds_up(details: dict[str, float], split: tuple[float | None, float | None]) -> None:
    attributes = {
        **KEYS,
        semconv.USAGE_COST: 0.00075,
        **{semconv.USAGE_COST_DETAILS + k: v for k, v in details.items()},
    }
    costs = genai_fields.costs(span("x", 1, attributes=attributes))
    assert (costs.input, costs.output, costs.total) == (*split, 0.00075)


def test_total_tokens() -> None:
    assert genai_fields.total_tokens(CALLED) == 150
    without = {name: value for name, value in CALL.items() if name != semconv.USAGE_TOTAL_TOKENS}
    assert genai_fields.total_tokens(span("x", 1, attributes=without)) == 150
    assert genai_fields.total_tokens(STEP) is None


def test_finish_reasons_in_openrouter_format() -> None:
    assert genai_fields.finish_reason(CALLED) == "stop"
    assert genai_fields.finish_reason(calling(RESPONSE_FINISH_REASONS=["tool_call"])) == "tool_calls"
    assert genai_fields.finish_reason(calling(RESPONSE_FINISH_REASONS=[])) is None


def test_tags() -> None:
    assert genai_fields.tags(span("x", 1, attributes={semconv.TRACE_METADATA + "tags": ["a", "b"]})) == ["a", "b"]
    assert genai_fields.tags(CALLED) == []


def test_times() -> None:
    assert genai_fields.iso_time(START_NS) == "2026-09-29T12:00:00.000Z"
    assert genai_fields.iso_time(START_NS + 999_999) == "2026-09-29T12:00:00.000Z"
    assert genai_fields.first_chunk_ns(CALLED) == CALLED.start_ns + 500_000_000
    assert genai_fields.first_chunk_ns(STEP) is None


def test_messages_with_tools_reasoning_and_pictures() -> None:
    asked = [
        {"role": "user", "parts": [{"type": "text", "content": "what"}, {"type": "uri", "modality": "image", "uri": "http://x"}]},
        {"role": "assistant", "parts": [{"type": "reasoning", "content": "hm"}, {"type": "tool_call", "id": "1", "name": "f", "arguments": {"a": 1}}]},
        {"role": "user", "parts": [
            {"type": "tool_call_response", "id": "1", "response": "42"}, {"type": "tool_call_response", "id": "2", "response": {"b": 1}},
            {"type": "text", "content": "and?"}]},
    ]  # fmt: skip
    answered = [
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "so"},
                {"type": "tool_call", "id": "3", "name": "g", "arguments": "{}"},
            ],
        }
    ]
    system = [{"type": "text", "content": "Be brief."}]
    one = calling(INPUT_MESSAGES=encode(asked), OUTPUT_MESSAGES=encode(answered), SYSTEM_INSTRUCTIONS=encode(system))
    assert genai_fields.conversation(one) == {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": asked[0]["parts"]},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}]},
            {"role": "tool", "tool_call_id": "1", "content": "42"},
            {"role": "tool", "tool_call_id": "2", "content": {"b": 1}},
            {"role": "user", "content": "and?"},
        ]
    }  # fmt: skip
    assert genai_fields.completion(one) == {
        "completion": None,
        "reasoning": "so",
        "toolCalls": [{"id": "3", "type": "function", "function": {"name": "g", "arguments": "{}"}}],
    }


@pytest.mark.parametrize(
    "text", ["", "not json", "{}", "[]", "[1]", '[{"role":"user"}]', '[{"parts":[1]}]', '"x"', "[null]"]
)
def test_malformed_content_does_not_raise(text: str) -> None:
    one = calling(INPUT_MESSAGES=text, OUTPUT_MESSAGES=text, SYSTEM_INSTRUCTIONS=text)
    genai_fields.conversation(one)
    genai_fields.completion(one)


def test_content_left_out_gives_none() -> None:
    assert genai_fields.conversation(FAILED) is None
    assert genai_fields.completion(FAILED) is None
