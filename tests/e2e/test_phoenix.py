"""The support conversation in a real Phoenix: what its page shows, and where."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from tests.destinations.payloads import payload
from tests.destinations.spans import TRACE_ID, conversation
from tests.e2e.engines import Phoenix

from spancast.encoding.conventions.registry import convention_of

PROJECT = "support-bot"


@pytest.fixture(scope="module")
def trace(phoenix: Phoenix) -> dict[str, Any]:
    rename = convention_of("openinference")
    assert rename is not None
    spans = [rename(span) for span in conversation()]
    project = {"openinference.project.name": PROJECT}
    phoenix.take(payload(replace(span, resource={**span.resource, **project}) for span in spans).protobuf)
    return phoenix.trace(TRACE_ID, spans=4)


def test_the_call(trace: dict[str, Any]) -> None:
    call = trace["spans"]["Extract Order Details"]
    shows_model(call, "openai/gpt-4o", provider="openai")
    shows_messages(
        call,
        given=[("system", "Be brief."), ("user", "Process this order...")],
        answered=[("assistant", "Order ORD-12345: 2 items.")],
    )
    shows_tokens(call, prompt=100, completion=50, cache_read=20)
    shows_cost(call, tokens=150)
    assert json.loads(call["attributes"])["llm"]["invocation_parameters"]


def test_the_call_that_failed(trace: dict[str, Any]) -> None:
    shows_model(trace["spans"]["chat claude-4.5-sonnet"], "claude-4.5-sonnet", provider="anthropic")
    shows_error(trace["spans"]["chat claude-4.5-sonnet"], "rate limited", event="exception")
    assert trace["errorCount"] == 1


def test_the_keys_of_the_trace(trace: dict[str, Any]) -> None:
    assert trace["project"] == {"name": PROJECT}
    shows_keys(trace, session="session_abc", user="user_12345", metadata={"order_id": "ORD-12345", "priority": "high"})


def test_the_tree(trace: dict[str, Any]) -> None:
    shows_tree(
        trace,
        root="Order Processing Pipeline",
        groups={"Order Processing Pipeline", "Extraction"},
        calls={"Extract Order Details", "chat claude-4.5-sonnet"},
    )
    assert trace["rootSpan"]["cumulativeTokenCountTotal"] == 150


def shows_model(call: dict[str, Any], model: str, *, provider: str) -> None:
    """The badge beside the span's name."""
    told = json.loads(call["attributes"])["llm"]
    assert (call["spanKind"], told["model_name"], told["provider"]) == ("llm", model, provider)


def shows_messages(call: dict[str, Any], *, given: list[tuple[str, str]], answered: list[tuple[str, str]]) -> None:
    """The two lists of messages, and the columns Input and Output."""
    told = json.loads(call["attributes"])["llm"]
    assert _messages(told["input_messages"]) == given
    assert _messages(told["output_messages"]) == answered
    assert given[-1][1] in call["input"]["value"]
    assert answered[-1][1] in call["output"]["value"]


def shows_tokens(call: dict[str, Any], *, prompt: int, completion: int, cache_read: int | None = None) -> None:
    """The count of tokens, and its parts."""
    assert (call["tokenCountPrompt"], call["tokenCountCompletion"]) == (prompt, completion)
    assert call["tokenCountTotal"] == prompt + completion
    assert call["tokenPromptDetails"]["cacheRead"] == cache_read


def shows_cost(call: dict[str, Any], *, tokens: int) -> None:
    """Phoenix takes no cost from anyone: it prices the tokens itself, so these must be all of them, once."""
    assert call["costSummary"]["total"]["tokens"] == tokens
    assert call["costSummary"]["total"]["cost"] > 0


def shows_error(call: dict[str, Any], message: str, *, event: str) -> None:
    """The red mark, its message, and the tab Events."""
    assert (call["statusCode"], call["statusMessage"]) == ("ERROR", message)
    assert [one["name"] for one in call["events"]] == [event]


def shows_keys(trace: dict[str, Any], *, session: str, user: str, metadata: dict[str, Any]) -> None:
    """The page of the session, the user of it and of each span, and the metadata of each span."""
    assert trace["session"]["sessionId"] == session
    assert {trace["userId"], trace["session"]["userId"]} == {user}
    for one in trace["spans"].values():
        assert one["userId"] == user
        assert json.loads(one["metadata"]).items() >= metadata.items()


def shows_tree(trace: dict[str, Any], *, root: str, groups: set[str], calls: set[str]) -> None:
    """The tree: its root, and a kind Phoenix knows for each span."""
    assert trace["rootSpan"]["name"] == root
    kinds = {name: one["spanKind"] for name, one in trace["spans"].items()}
    assert kinds == {**dict.fromkeys(groups, "chain"), **dict.fromkeys(calls, "llm")}


def _messages(told: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(one["message"]["role"], _text(one["message"])) for one in told]


def _text(message: dict[str, Any]) -> str:
    parts = message.get("contents") or ()
    return str(message.get("content") or "".join(part["message_content"].get("text", "") for part in parts))
