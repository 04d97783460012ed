"""The support conversation in a real MLflow: what its page shows, and where."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.destinations.payloads import payload
from tests.destinations.spans import TRACE_ID, conversation
from tests.e2e.engines import MLflow

from spancast.encoding.conventions.registry import convention_of


@pytest.fixture(scope="module")
def trace(mlflow: MLflow) -> dict[str, Any]:
    rename = convention_of("mlflow")
    assert rename is not None
    mlflow.take(payload(rename(span) for span in conversation()).protobuf)
    return mlflow.trace(TRACE_ID, spans=4)


def test_the_call(trace: dict[str, Any]) -> None:
    call = trace["spans"]["Extract Order Details"]
    shows_model(call, "openai/gpt-4o", provider="openai")
    shows_messages(call, given="Process this order...", answered="Order ORD-12345: 2 items.")
    shows_tokens(call, {"input_tokens": 100, "output_tokens": 50, "total_tokens": 150, "cache_read_input_tokens": 20})
    shows_cost(call, {"input_cost": 0.00025, "output_cost": 0.0005, "total_cost": 0.00075})


def test_the_call_that_failed(trace: dict[str, Any]) -> None:
    shows_model(trace["spans"]["chat claude-4.5-sonnet"], "claude-4.5-sonnet", provider="anthropic")
    shows_error(trace["spans"]["chat claude-4.5-sonnet"], "rate limited", event="exception")


def test_the_list_of_traces(trace: dict[str, Any]) -> None:
    shows_trace(
        trace,
        name="Order Processing Pipeline", session="session_abc", user="user_12345",
        tags={"order_id": "ORD-12345", "priority": "high"},
        tokens=150, cost=0.00075,
    )  # fmt: skip


def test_groups_have_no_model_and_no_tokens_of_their_own(trace: dict[str, Any]) -> None:
    for name in ("Order Processing Pipeline", "Extraction"):
        group = trace["spans"][name]["attributes"]
        assert group["mlflow.spanType"] == "CHAIN"
        assert not {"mlflow.llm.model", "mlflow.chat.tokenUsage", "mlflow.llm.cost"} & group.keys()


def shows_model(call: dict[str, Any], model: str, *, provider: str) -> None:
    """The type of the span, and the model and provider that dashboards group by."""
    told = call["attributes"]
    assert told["mlflow.spanType"] in {"CHAT_MODEL", "LLM"}
    assert (told["mlflow.llm.model"], told["mlflow.llm.provider"]) == (model, provider)


def shows_messages(call: dict[str, Any], *, given: str, answered: str) -> None:
    """The tab Chat, whose shape is OpenAI's."""
    told = call["attributes"]
    assert told["mlflow.message.format"] == "openai"
    assert told["mlflow.spanInputs"]["messages"][-1] == {"role": "user", "content": given}
    answer = told["mlflow.spanOutputs"]["choices"][0]["message"]
    assert (answer["role"], answer["content"]) == ("assistant", answered)


def shows_tokens(call: dict[str, Any], usage: dict[str, int]) -> None:
    """The count of tokens, and its parts."""
    assert call["attributes"]["mlflow.chat.tokenUsage"] == usage


def shows_cost(call: dict[str, Any], cost: dict[str, float]) -> None:
    """The cost as it was charged, not as MLflow's own catalogue would have it."""
    assert call["attributes"]["mlflow.llm.cost"] == cost


def shows_error(call: dict[str, Any], message: str, *, event: str) -> None:
    """The red mark, its message, and the tab Events."""
    assert (call["status"]["code"], call["status"]["message"]) == ("STATUS_CODE_ERROR", message)
    assert [one["name"] for one in call["events"]] == [event]


def shows_trace(
    trace: dict[str, Any], *, name: str, session: str, user: str, tags: dict[str, str], tokens: int, cost: float
) -> None:
    """The columns Trace name, Session, User, tags, Tokens and Cost."""
    told = trace["trace_metadata"]
    assert (told["mlflow.trace.session"], told["mlflow.trace.user"]) == (session, user)
    assert json.loads(told["mlflow.trace.tokenUsage"])["total_tokens"] == tokens
    assert json.loads(told["mlflow.trace.cost"])["total_cost"] == pytest.approx(cost)
    assert trace["tags"].items() >= {"mlflow.traceName": name, **tags}.items()
    assert trace["state"] == "OK"
