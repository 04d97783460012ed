"""Redaction: what privacy mode and masks remove and keep."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from tests.destinations.spans import span
from tests.encoding.test_conventions import TOOLS

from spancast.diagnostics import Count, counters, reraise_internal_errors
from spancast.dialects.protocol import Dialect
from spancast.dialects.registry import DIALECTS, find_dialect
from spancast.encoding.redaction import MASKING_FAILED, Redaction, function_mask, pattern_mask, without_content
from spancast.encoding.safe_regex import Pattern
from spancast.encoding.span_data import EventData, SpanData
from spancast.model import privacy, semconv

FOREIGN: dict[str, Any] = dict.fromkeys(("input.value", "output.value", "llm.input_messages.0.message.content", "llm.output_messages.1.message.content", "gen_ai.prompt", "gen_ai.prompt.0.content", "gen_ai.completion.0.content", "traceloop.entity.input", "traceloop.entity.output", "langfuse.observation.input", "mlflow.spanInputs", "ai.prompt.messages", "ai.response.text", "gen_ai.tool.call.arguments", "gen_ai.tool.call.result", "llm.prompts.0", "retrieval.documents.0.document.content", "tool.parameters", "trace.input", "exception.message", "exception.stacktrace", semconv.INPUT_MESSAGES, semconv.OUTPUT_MESSAGES, semconv.SYSTEM_INSTRUCTIONS, semconv.TOOL_DEFINITIONS, semconv.REQUEST_STOP_SEQUENCES, semconv.REQUEST + "response_format", semconv.REQUEST + "prompt"), "canary")  # fmt: skip


def text_of(one: SpanData) -> str:
    return json.dumps(
        [one.name, dict(one.attributes), [dict(event.attributes) for event in one.events], one.status_message]
    )


def canaries() -> SpanData:
    events = (
        EventData(name="exception", at_ns=1, attributes={"exception.type": "E", "exception.message": "canary"}),
        EventData(name="gen_ai.user.message", at_ns=1, attributes={"content": "canary", "role": "user"}),
    )
    return replace(
        span("x", 1, attributes={**TOOLS, **FOREIGN}, events=events), status="error", status_message="canary"
    )


def test_privacy_mode_removes_all_content() -> None:
    private = without_content(canaries())
    assert "canary" not in text_of(private)
    for kept in (semconv.REQUEST_MODEL, semconv.USAGE_INPUT_TOKENS, semconv.USAGE_COST, semconv.SESSION_ID):
        assert private.attributes[kept] == TOOLS[kept]
    assert private.attributes[semconv.TRACE_METADATA + "order_id"] == "ORD-12345"
    assert [event.attributes for event in private.events] == [{"exception.type": "E"}, {"role": "user"}]


def test_mask_replaces_pattern_everywhere() -> None:
    redaction = Redaction(masks=(pattern_mask("canary", "[masked]"),), key="m")
    masked = redaction.apply(replace(canaries(), name="canary name"))
    assert "canary" not in text_of(masked)
    assert masked.name == "[masked] name"


def test_mask_keeps_json_valid() -> None:
    redaction = Redaction(masks=(pattern_mask('"?quoted"?', '"'),), key="m")
    masked = redaction.apply(span("x", 1, attributes={"j": json.dumps([{"a": 'a "quoted" text'}]), "n": [1, "quoted"]}))
    assert json.loads(masked.attributes["j"]) == [{"a": 'a " text'}]
    assert masked.attributes["n"] == [1, '"']


def test_trace_and_session_ids_are_not_masked() -> None:
    redaction = Redaction(masks=(pattern_mask(r"\w+", "x"),), key="m")
    masked = redaction.apply(span("x", 1, attributes=TOOLS))
    for name in (semconv.SESSION_ID, semconv.REQUEST_MODEL, semconv.OPERATION_NAME, semconv.USAGE_COST):
        assert masked.attributes[name] == TOOLS[name]


@pytest.mark.parametrize("fails", ["raises", "slow pattern"])
def test_failing_mask_hides_value_and_span_is_sent(fails: str) -> None:
    def broken(text: str) -> str:
        raise KeyError(text)

    mask = function_mask(broken) if fails == "raises" else pattern_mask("(a|aa)+$", "")
    former = reraise_internal_errors(enabled=False)
    before = counters.read()[Count("redaction_errors")]
    masked = Redaction(masks=(mask,), key="m").apply(span("n", 1, attributes={"secret": "a" * 60 + "b", "count": 3}))
    reraise_internal_errors(enabled=former)
    assert masked.attributes == {"secret": MASKING_FAILED, "count": 3}
    assert counters.read()[Count("redaction_errors")] > before


SENSITIVE = [
    "gen_ai.retrieval.documents", "gen_ai.retrieval.query.text", "gen_ai.memory.query.text", "gen_ai.memory.records",
    "gen_ai.evaluation.explanation", "gen_ai.prompt.variable.name", "llm.prompts", "llm.choices.0.completion.text",
    "llm.tools.0.tool.json_schema", "llm.request.functions.0.name", "reranker.input_documents.0.document.content",
    "embedding.embeddings.0.embedding.text", "error.message", "otel.status_description", "model_request_parameters",
    "langfuse.observation.status_message", "ai.response.reasoning", semconv.RESPONSE + "some_new_field",
    semconv.RESPONSE_LOGPROBS,
]  # fmt: skip
HARMLESS: dict[str, Any] = {
    "gen_ai.prompt.name": "greeting", "gen_ai.tool.name": "find", "gen_ai.tool.call.id": "c1", "user.id": "u",
    "llm.token_count.prompt": 3, "llm.model_name": "m", "metadata": '{"a": 1}', "openinference.span.kind": "LLM",
    "exception.type": "E", "http.response.status_code": 429, "gen_ai.completion_tokens": 3, "input.mime_type": "text/plain",
    semconv.RESPONSE_PROVIDER: "OpenAI", semconv.RESPONSE_NATIVE_FINISH_REASONS: ["end_turn"],
    semconv.RESPONSE_INCOMPLETE: "closed", semconv.RESPONSE_CREATED: 1, semconv.RESPONSE + "status_code": 429,
    semconv.USAGE_COST: 0.1, semconv.REQUEST_TEMPERATURE: 0.5,
    semconv.TRACE_METADATA + "input": "custom", semconv.ERROR_TYPE: "E", semconv.RESPONSE_FINISH_REASONS: ["stop"],
}  # fmt: skip


def masked_by(pattern: str, attributes: dict[str, Any]) -> dict[str, Any]:
    return dict(
        Redaction(masks=(pattern_mask(pattern, "[m]"),), key="m").apply(span("x", 1, attributes=attributes)).attributes
    )


@pytest.mark.parametrize("name", SENSITIVE)
def test_privacy_mode_removes_content_in_every_convention(name: str) -> None:
    kept = without_content(span("x", 1, attributes={name: "canary"})).attributes
    # Unknown attributes are listed by their namespace.
    assert kept == ({semconv.REDACTED: ["spancast.response.*"]} if name.endswith("some_new_field") else {})
    event = EventData(name="e", at_ns=1, attributes={} if name.startswith(semconv.RESPONSE) else {name: "canary"})
    [kept] = without_content(span("x", 1, attributes={}, events=(event,))).events
    assert not kept.attributes


def test_privacy_mode_keeps_other_attributes() -> None:
    assert without_content(span("x", 1, attributes=HARMLESS)).attributes == HARMLESS


@pytest.mark.parametrize("dialect", [find_dialect(name) for name in DIALECTS], ids=list(DIALECTS))
def test_privacy_mode_equals_recording_without_content(dialect: Dialect) -> None:
    answer = {
        "id": "a", "model": "m", "object": "chat.completion", "type": "message", "role": "assistant",
        "provider": "P", "created": 5, "choices": [{"index": 0, "finish_reason": "stop", "native_finish_reason": "end",
        "message": {"role": "assistant", "content": "canary"}, "logprobs": {"content": [{"token": "canary"}]}}],
        "content": [{"type": "text", "text": "canary"}], "stop_reason": "end_turn", "stop_sequence": "canary",
        "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "canary"}]}],
        "unheard_of": "canary", "unheard_of_object": {"a": "canary"}, "unheard_of_number": 3,
    }  # fmt: skip
    whole = dialect.read_response(answer, content=True).attributes
    assert "canary" in json.dumps(whole)
    private = without_content(span("x", 1, attributes=dict(whole))).attributes
    assert private == privacy.without_content(dialect.read_response(answer, content=False).attributes)


def test_privacy_mode_events_keep_type_and_lose_message() -> None:
    given = [
        EventData(name="gen_ai.choice", at_ns=1, attributes={"message": "canary", "index": 0, "finish_reason": "stop"}),
        EventData(name="gen_ai.content.prompt", at_ns=1, attributes={"gen_ai.prompt": "canary"}),
        EventData(name="gen_ai.assistant.message", at_ns=1, attributes={"tool_calls": "canary", "body": "canary"}),
        EventData(name="ai.stream.firstChunk", at_ns=1, attributes={"ai.response.msToFirstChunk": 5}),
        EventData(name="retry", at_ns=1, attributes={"message": "of another library", "attempt": 2}),
    ]
    kept = without_content(span("x", 1, attributes={}, events=tuple(given))).events
    assert [(event.name, dict(event.attributes)) for event in kept] == [
        ("gen_ai.choice", {"index": 0, "finish_reason": "stop"}),
        ("gen_ai.content.prompt", {}),
        ("gen_ai.assistant.message", {}),
        ("ai.stream.firstChunk", {"ai.response.msToFirstChunk": 5}),
        ("retry", {"message": "of another library", "attempt": 2}),
    ]


def test_masks_reach_numbers_and_names_inside_json_and_json_inside_json() -> None:
    arguments = json.dumps({"card": 4111111111111111, "ann@x.test": 1, "at": {"ann@x.test": "ann@x.test"}})
    messages = json.dumps(
        [{"role": "user", "parts": [{"type": "tool_call", "arguments": arguments, "n": 12, "b": True}]}]
    )
    masked = masked_by(r"\d{16}|\w+@x\.test", {"m": messages, "o": '{"e": "ann\\u0040x.test"}'})
    [message] = json.loads(masked["m"])
    [part] = message["parts"]
    assert message["role"] == "user"
    assert (part["type"], part["n"], part["b"]) == ("tool_call", 12, True)
    assert json.loads(part["arguments"]) == {"card": "[m]", "[m]": 1, "at": {"[m]": "[m]"}}
    assert json.loads(masked["o"]) == {"e": "[m]"}


def test_masks_reach_lists_bytes_and_broken_json() -> None:
    masked = masked_by(
        "ann", {"l": ["ann", "bob"], "b": b"ann", "x": b"\xff\x00", "j": '[{"a": "ann', "n": 3, "f": 1.5}
    )
    assert masked == {"l": ["[m]", "bob"], "b": "[m]", "x": b"\xff\x00", "j": '[{"a": "[m]', "n": 3, "f": 1.5}


def test_masks_leave_counts_and_costs() -> None:
    numbers = {semconv.USAGE_INPUT_TOKENS: 100, semconv.USAGE_COST: 0.5, semconv.REQUEST_STREAM: True}
    assert masked_by(r"\d|\w", numbers) == numbers


def test_masks_are_applied_in_order_after_privacy_mode() -> None:
    masks = (pattern_mask("ann", "bob"), function_mask(str.upper), function_mask(lambda text: text + "!"))
    masked = Redaction(is_private=True, masks=masks, key="m").apply(
        span("ann", 1, attributes={"a": "ann", "input.value": "ann"})
    )
    assert masked.name == "BOB!"
    assert masked.attributes == {"a": "BOB!"}


def test_mask_function_result_is_converted_to_text() -> None:
    assert Redaction(masks=(function_mask(len),)).apply(span("abc", 1)).name == "3"
    lone = Redaction(masks=(function_mask(lambda _: "\ud800"),)).apply(span("abc", 1))
    assert lone.name == "?", "UTF-8 has no bytes for a lone surrogate"


def test_slow_pattern_times_out_once_per_value(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    answer = Pattern.replace

    def counted(self: Pattern, text: str, replacement: str) -> str | None:
        asked.append(text)
        return answer(self, text, replacement)

    monkeypatch.setattr(Pattern, "replace", counted)
    slow = ["a" * 60 + "b"] * 500
    masked = masked_by("(a|aa)+$", {"m": json.dumps(slow), "l": slow, "other": "bb"})
    assert masked == {"m": MASKING_FAILED, "l": MASKING_FAILED, "other": "bb"}
    assert asked.count(slow[0]) == 2


def test_mask_of_deeply_nested_json_hides_value() -> None:
    masked = masked_by("canary", {"deep": "[" * 1000 + '"canary"' + "]" * 1000, "a": "b"})
    assert masked == {"deep": MASKING_FAILED, "a": "b"}


def test_no_redaction_is_false() -> None:
    assert not Redaction()
    assert Redaction(is_private=True)
    assert Redaction(masks=(str.upper,))
    one = canaries()
    assert Redaction().apply(one) == one
