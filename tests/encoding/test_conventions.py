"""Every convention on one conversation, against a golden file that was compared with the vendor's page by hand.

``SPANCAST_GOLDEN=write make test`` writes the files again; review their diff.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from tests.destinations.spans import CALL, KEYS, conversation, span

from spancast.encoding.conventions.registry import CONVENTIONS, convention_of
from spancast.encoding.encoder import EXPANSION
from spancast.encoding.otlp.encode import key_value, span_bytes
from spancast.encoding.redaction import without_content
from spancast.encoding.span_data import ScopeData, SpanData, span_json
from spancast.model import semconv
from spancast.model.json_codec import encode

GOLDEN = Path(__file__).parents[1] / "golden" / "conventions"
NAMES = [name for name, row in CONVENTIONS.items() if row.module or row.adds]
TOOLS: dict[str, Any] = {
    **CALL,
    semconv.PROVIDER_NAME: "anthropic",
    semconv.USAGE_CACHE_WRITE: 30,
    semconv.SYSTEM_INSTRUCTIONS: encode([{"type": "text", "content": "You are canary-system."}]),
    semconv.TOOL_DEFINITIONS: encode([{"type": "function", "name": "canary-tool"}]),
    semconv.INPUT_MESSAGES: encode([
        {"role": "user", "parts": [{"type": "text", "content": "canary-input"},
                                   {"type": "uri", "modality": "image", "uri": "https://x.test/canary.png"}]},
        {"role": "assistant", "parts": [{"type": "tool_call", "id": "c1", "name": "find", "arguments": {"q": "canary"}}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "canary-found"}]},
    ]),
    semconv.OUTPUT_MESSAGES: encode([
        {"role": "assistant", "finish_reason": "tool_call", "parts": [
            {"type": "reasoning", "content": "canary-thought"},
            {"type": "tool_call", "id": "c2", "name": "book", "arguments": '{"q": "canary"}'}]}]),
    semconv.TRACE_METADATA + "tags": ["red", "blue"],
}  # fmt: skip
ESTIMATED: dict[str, Any] = {
    semconv.OPERATION_NAME: "chat",
    semconv.PROVIDER_NAME: "openai",
    semconv.REQUEST_MODEL: "gpt-5-mini",
    semconv.USAGE_INPUT_TOKENS: 1_000,
    semconv.USAGE_OUTPUT_TOKENS: 100,
    semconv.USAGE_COST: 0.00045,
    semconv.COST_INPUT: 0.00025,
    semconv.COST_OUTPUT: 0.0002,
    semconv.COST_ESTIMATED: True,
    semconv.COST_SOURCE: "genai-prices 0.2.3: openai/gpt-5-mini",
}
GROUP: dict[str, Any] = {
    **KEYS,
    semconv.OPERATION_NAME: semconv.INVOKE_WORKFLOW,
    semconv.WORKFLOW_NAME: "Support",
    semconv.INPUT_MESSAGES: encode([{"role": "user", "parts": [{"type": "text", "content": "canary-question"}]}]),
    semconv.OUTPUT_MESSAGES: encode([
        {"role": "assistant", "finish_reason": "stop", "parts": [{"type": "text", "content": "canary-answer"}]}]),
}  # fmt: skip
BYOK: dict[str, Any] = {
    semconv.OPERATION_NAME: "chat",
    semconv.REQUEST_MODEL: "openai/gpt-5-mini",
    semconv.USAGE_COST: 0.001,
    semconv.USAGE + "is_byok": True,
    semconv.USAGE_COST_DETAILS + "upstream_inference_cost": 0.02,
    semconv.USAGE_COST_DETAILS + "upstream_inference_prompt_cost": 0.015,
    semconv.USAGE_COST_DETAILS + "upstream_inference_completions_cost": 0.005,
}
ODD: dict[str, Any] = {
    semconv.OPERATION_NAME: "chat",
    semconv.REQUEST_MODEL: 7,
    semconv.INPUT_MESSAGES: "[not json",
    semconv.OUTPUT_MESSAGES: encode([{"parts": 3}, 5, {"role": None, "parts": [None, {"type": "text"}]}]),
    semconv.SYSTEM_INSTRUCTIONS: 3.5,
    semconv.TOOL_DEFINITIONS: "{}",
    semconv.USAGE_INPUT_TOKENS: "many",
    semconv.USAGE_OUTPUT_TOKENS: True,
    semconv.USAGE_COST: "much",
    semconv.USAGE_COST_DETAILS + "upstream_inference_prompt_cost": 0.1,
    semconv.USAGE_COST_DETAILS + "upstream_inference_completions_cost": True,
    semconv.RESPONSE_FINISH_REASONS: "stop",
    semconv.SESSION_ID: 12,
    "db.statement": "select 1",
    "list": [1, 2],
    "nothing": None,
}


def everything() -> list[SpanData]:
    tool = {semconv.OPERATION_NAME: "execute_tool", "gen_ai.tool.name": "find", "gen_ai.tool.call.arguments": "{}"}
    return [
        *conversation(),
        span("chat with tools", 5, 1, attributes=TOOLS, kind=3),
        span("execute_tool find", 6, 1, attributes=tool),
        span("Support", 9, attributes=GROUP),
        span("chat with an estimated cost", 8, 1, attributes=ESTIMATED, kind=3),
        replace(
            span("GET /", 7, attributes={"http.route": "/"}), scope=ScopeData("opentelemetry.instrumentation.asgi")
        ),
    ]


def fields_of(renamed: SpanData) -> dict[str, Any]:
    facts = asdict(renamed)
    for event in facts["events"]:
        assert event.pop("dropped_attributes") == 0
    return {name: facts[name] for name in ("name", "status", "status_message", "attributes", "events")}


@pytest.mark.parametrize("name", NAMES)
def test_convention_equals_golden_file(name: str) -> None:
    rename = convention_of(name)
    assert rename is not None
    text = (
        json.dumps([fields_of(rename(one)) for one in everything()], indent=1, ensure_ascii=False, sort_keys=True)
        + "\n"
    )
    path = GOLDEN / f"{name}.json"
    if os.environ.get("SPANCAST_GOLDEN") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert path.read_text() == text


@pytest.mark.parametrize("name", NAMES)
def test_convention_does_not_modify_shared_results(name: str) -> None:
    """Results read from a span are cached for all conventions, and for a batch that is encoded again."""
    rename = convention_of(name)
    assert rename is not None
    for one in everything():
        first = fields_of(rename(one))
        assert fields_of(rename(one)) == first


@pytest.mark.parametrize("name", NAMES)
def test_convention_without_content_adds_none(name: str) -> None:
    rename = convention_of(name)
    assert rename is not None
    text = json.dumps([fields_of(rename(without_content(one))) for one in everything()])
    for said in ("canary", "Process this order", "items.", "Be brief"):
        assert said not in text
    assert "ORD-12345" in text
    assert "session_abc" in text


@pytest.mark.parametrize("name", NAMES)
def test_convention_keeps_all_caller_keys(name: str) -> None:
    rename = convention_of(name)
    assert rename is not None
    for one in everything()[:5]:
        text = json.dumps(fields_of(rename(one)))
        assert "ORD-12345" in text
        assert "high" in text


@pytest.mark.parametrize("name", NAMES)
def test_conventions_accept_odd_values(name: str) -> None:
    rename = convention_of(name)
    assert rename is not None
    renamed = rename(span("odd", 1, attributes=ODD))
    assert renamed.attributes["db.statement"] == "select 1"
    assert renamed.attributes["list"] == ("[1,2]" if CONVENTIONS[name].lists_as_json else [1, 2])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", ["\x00", '\\"', "é", "\U0001f600"])
def test_no_attribute_is_larger_than_the_bound_of_its_record(name: str, text: str) -> None:
    rename = convention_of(name)
    assert rename is not None
    message = [{"role": "user", "parts": [{"type": "text", "content": text * 500}]}]
    hostile = {
        semconv.OPERATION_NAME: "chat", semconv.INPUT_MESSAGES: encode(message), semconv.OUTPUT_MESSAGES: encode(message),
        semconv.TRACE_METADATA + "own": encode(message), semconv.TRACE_METADATA + "more": text * 500,
    }  # fmt: skip
    for one in (*everything(), span("odd", 1, attributes=ODD), span("hostile", 2, attributes=hostile)):
        renamed = rename(one)
        bound = EXPANSION * len(span_json(one))
        for key, value in renamed.attributes.items():
            assert len(key_value(key, value)) + 16 <= bound, key
        assert len(span_bytes(renamed)) <= bound * (len(renamed.attributes) + 1)


@pytest.mark.parametrize("name", NAMES)
def test_conventions_keep_attributes_of_other_spans(name: str) -> None:
    rename = convention_of(name)
    assert rename is not None
    foreign = replace(span("GET /", 7, attributes={"http.route": "/", "x": 1}), scope=ScopeData("asgi"))
    assert dict(foreign.attributes).items() <= dict(rename(foreign).attributes).items()


@pytest.mark.parametrize("name", NAMES)
def test_messages_in_another_form_are_not_lost(name: str) -> None:
    rename = convention_of(name)
    assert rename is not None
    call = {semconv.OPERATION_NAME: "chat", semconv.REQUEST_MODEL: "m"}
    chat = {semconv.INPUT_MESSAGES: encode([{"role": "user", "content": "chat form"}])}
    assert "chat form" in json.dumps(fields_of(rename(span("x", 1, attributes={**call, **chat}))))
    if name != "openinference":
        cut = {semconv.INPUT_MESSAGES: '[{"role": "user", "content": "cut'}
        assert "cut" in json.dumps(fields_of(rename(span("x", 1, attributes={**call, **cut}))))


@pytest.mark.parametrize("name", NAMES)
def test_messages_that_cannot_be_read_are_kept_as_they_are(name: str) -> None:
    """A limit of the SDK may have cut the JSON: the text is kept."""
    rename = convention_of(name)
    assert rename is not None
    texts = {semconv.INPUT_MESSAGES: '[{"role":"user","canary-asked', semconv.OUTPUT_MESSAGES: '[{"canary-answered'}
    renamed = rename(span("chat", 5, attributes={**CALL, **texts}))
    held = [value for value in renamed.attributes.values() if isinstance(value, str)]
    assert all(any(text in value for value in held) for text in texts.values())


@pytest.mark.parametrize("name", NAMES)
def test_caller_keys_win_over_own_attributes(name: str) -> None:
    """``trace={"user_id": ...}``: the caller's value is kept, even if a convention has a field of that name."""
    rename = convention_of(name)
    assert rename is not None
    own = {semconv.TRACE_METADATA + key: f"canary-{key}" for key in ("user_id", "total_cost", "input_cost")}
    renamed = encode(rename(span("chat", 5, attributes={**CALL, **own})).attributes)
    assert all(value in renamed for value in own.values())


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("gen_ai", "as_is")])
def test_convention_of_an_estimated_cost_has_the_cost_and_its_source(name: str) -> None:
    rename = convention_of(name)
    assert rename is not None
    values = [str(value) for value in rename(span("chat", 1, attributes=ESTIMATED)).attributes.values()]
    assert any("0.00045" in value for value in values)
    assert any("genai-prices 0.2.3: openai/gpt-5-mini" in value for value in values)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("gen_ai", "as_is")])
def test_convention_of_a_call_with_the_callers_own_key_has_what_both_charge(name: str) -> None:
    rename = convention_of(name)
    assert rename is not None
    attributes = rename(span("chat", 1, attributes=BYOK)).attributes
    assert any("0.021" in str(value) for value in attributes.values())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("operation", [semconv.INVOKE_WORKFLOW, "invoke_agent"])
def test_group_and_agent_have_question_and_answer(name: str, operation: str) -> None:
    rename = convention_of(name)
    assert rename is not None
    text = json.dumps(rename(span("Support", 9, attributes={**GROUP, semconv.OPERATION_NAME: operation})).attributes)
    assert "canary-question" in text
    assert "canary-answer" in text


@pytest.mark.parametrize(
    ("content", "events"),
    [
        ({}, [{}]),
        (
            {
                semconv.INPUT_MESSAGES: '[{"role":"user","parts":[{"type":"text","content":"q"}]}]',
                semconv.OUTPUT_MESSAGES: '[{"role":"assistant","parts":[{"type":"text","content":"a"}]}]',
            },
            [{"role": "user", "content": "q"}, {"message": {"role": "assistant", "content": "a"}}],
        ),
    ],
)
def test_lunary_has_events_for_each_call(content: dict[str, str], events: list[Any]) -> None:
    """Its server takes the last one as the answer, and answers 500 if there is none."""
    rename = convention_of("lunary")
    assert rename is not None
    given = {semconv.OPERATION_NAME: "chat", semconv.REQUEST_MODEL: "m", **content}
    assert json.loads(rename(span("chat", 1, attributes=given)).attributes["events"]) == events
