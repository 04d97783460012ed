"""The support conversation in a real Phoenix: the fields of its web page."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from tests.destinations.payloads import payload
from tests.destinations.spans import TRACE_ID, conversation
from tests.e2e.engines import Phoenix

from spancast.encoding.conventions.registry import convention_of
from spancast.encoding.span_data import ResourceData, SpanData

PROJECT = "support-bot"


@pytest.fixture(scope="module")
def trace(phoenix: Phoenix) -> dict[str, Any]:
    convert = convention_of("openinference")
    assert convert is not None

    def in_project(span: SpanData) -> SpanData:
        resource = {**span.resource.attributes, "openinference.project.name": PROJECT}
        return replace(span, resource=ResourceData(resource))

    phoenix.post_spans(payload(in_project(convert(span)) for span in conversation()).protobuf)
    return phoenix.trace(TRACE_ID, spans=4)


def test_call_has_model_messages_tokens_and_cost(trace: dict[str, Any]) -> None:
    call = trace["spans"]["Extract Order Details"]
    check_model(call, "openai/gpt-4o", provider="openai")
    check_messages(
        call,
        inputs=[("system", "Be brief."), ("user", "Process this order...")],
        outputs=[("assistant", "Order ORD-12345: 2 items.")],
    )
    check_tokens(call, prompt=100, completion=50, cache_read=20)
    check_cost(call, tokens=150)
    assert json.loads(call["attributes"])["llm"]["invocation_parameters"]


def test_failed_call_has_the_error(trace: dict[str, Any]) -> None:
    check_model(trace["spans"]["chat claude-4.5-sonnet"], "claude-4.5-sonnet", provider="anthropic")
    check_error(trace["spans"]["chat claude-4.5-sonnet"], "rate limited", event="exception")
    assert trace["errorCount"] == 1


def test_trace_has_session_user_and_metadata(trace: dict[str, Any]) -> None:
    assert trace["project"] == {"name": PROJECT}
    check_keys(trace, session="session_abc", user="user_12345", metadata={"order_id": "ORD-12345", "priority": "high"})


def test_trace_has_root_and_span_kinds(trace: dict[str, Any]) -> None:
    check_tree(
        trace,
        root="Order Processing Pipeline",
        groups={"Order Processing Pipeline", "Extraction"},
        calls={"Extract Order Details", "chat claude-4.5-sonnet"},
    )
    assert trace["rootSpan"]["cumulativeTokenCountTotal"] == 150


def check_model(call: dict[str, Any], model: str, *, provider: str) -> None:
    """Check the span kind, the model and the provider."""
    llm = json.loads(call["attributes"])["llm"]
    assert (call["spanKind"], llm["model_name"], llm["provider"]) == ("llm", model, provider)


def check_messages(call: dict[str, Any], *, inputs: list[tuple[str, str]], outputs: list[tuple[str, str]]) -> None:
    """Check the two lists of messages, and the columns Input and Output."""
    llm = json.loads(call["attributes"])["llm"]
    assert _messages(llm["input_messages"]) == inputs
    assert _messages(llm["output_messages"]) == outputs
    assert inputs[-1][1] in call["input"]["value"]
    assert outputs[-1][1] in call["output"]["value"]


def check_tokens(call: dict[str, Any], *, prompt: int, completion: int, cache_read: int | None = None) -> None:
    """Check the token counts."""
    assert (call["tokenCountPrompt"], call["tokenCountCompletion"]) == (prompt, completion)
    assert call["tokenCountTotal"] == prompt + completion
    assert call["tokenPromptDetails"]["cacheRead"] == cache_read


def check_cost(call: dict[str, Any], *, tokens: int) -> None:
    """Check the token count that Phoenix computes its cost from: Phoenix does not accept a cost."""
    assert call["costSummary"]["total"]["tokens"] == tokens
    assert call["costSummary"]["total"]["cost"] > 0


def check_error(call: dict[str, Any], message: str, *, event: str) -> None:
    """Check the error mark, its message, and the tab Events."""
    assert (call["statusCode"], call["statusMessage"]) == ("ERROR", message)
    assert [one["name"] for one in call["events"]] == [event]


def check_keys(trace: dict[str, Any], *, session: str, user: str, metadata: dict[str, Any]) -> None:
    """Check the session, its user, and the user and metadata of each span."""
    assert trace["session"]["sessionId"] == session
    assert {trace["userId"], trace["session"]["userId"]} == {user}
    for one in trace["spans"].values():
        assert one["userId"] == user
        assert json.loads(one["metadata"]).items() >= metadata.items()


def check_tree(trace: dict[str, Any], *, root: str, groups: set[str], calls: set[str]) -> None:
    """Check the root and the kind of each span."""
    assert trace["rootSpan"]["name"] == root
    kinds = {name: one["spanKind"] for name, one in trace["spans"].items()}
    assert kinds == {**dict.fromkeys(groups, "chain"), **dict.fromkeys(calls, "llm")}


def _messages(entries: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(one["message"]["role"], _text(one["message"])) for one in entries]


def _text(message: dict[str, Any]) -> str:
    parts = message.get("contents") or ()
    return str(message.get("content") or "".join(part["message_content"].get("text", "") for part in parts))
