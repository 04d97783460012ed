"""The support conversation in a real MLflow: the fields of its web page."""

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
    convert = convention_of("mlflow")
    assert convert is not None
    mlflow.post_spans(payload(convert(span) for span in conversation()).protobuf)
    return mlflow.trace(TRACE_ID, spans=4)


def test_call_has_model_messages_tokens_and_cost(trace: dict[str, Any]) -> None:
    call = trace["spans"]["Extract Order Details"]
    check_model(call, "openai/gpt-4o", provider="openai")
    check_messages(call, prompt="Process this order...", completion="Order ORD-12345: 2 items.")
    check_tokens(call, {"input_tokens": 100, "output_tokens": 50, "total_tokens": 150, "cache_read_input_tokens": 20})
    check_cost(call, {"input_cost": 0.00025, "output_cost": 0.0005, "total_cost": 0.00075})


def test_failed_call_has_the_error(trace: dict[str, Any]) -> None:
    check_model(trace["spans"]["chat claude-4.5-sonnet"], "claude-4.5-sonnet", provider="anthropic")
    check_error(trace["spans"]["chat claude-4.5-sonnet"], "rate limited", event="exception")


def test_list_of_traces_has_session_tokens_and_cost(trace: dict[str, Any]) -> None:
    check_trace(
        trace,
        name="Order Processing Pipeline", session="session_abc", user="user_12345",
        tags={"order_id": "ORD-12345", "priority": "high"},
        tokens=150, cost=0.00075,
    )  # fmt: skip


def test_groups_have_no_model_and_no_tokens(trace: dict[str, Any]) -> None:
    for name in ("Order Processing Pipeline", "Extraction"):
        group = trace["spans"][name]["attributes"]
        assert group["mlflow.spanType"] == "CHAIN"
        assert not {"mlflow.llm.model", "mlflow.chat.tokenUsage", "mlflow.llm.cost"} & group.keys()


def check_model(call: dict[str, Any], model: str, *, provider: str) -> None:
    """Check the span type, and the model and provider that dashboards group by."""
    attributes = call["attributes"]
    assert attributes["mlflow.spanType"] in {"CHAT_MODEL", "LLM"}
    assert (attributes["mlflow.llm.model"], attributes["mlflow.llm.provider"]) == (model, provider)


def check_messages(call: dict[str, Any], *, prompt: str, completion: str) -> None:
    """Check the tab Chat, which has OpenAI's format."""
    attributes = call["attributes"]
    assert attributes["mlflow.message.format"] == "openai"
    assert attributes["mlflow.spanInputs"]["messages"][-1] == {"role": "user", "content": prompt}
    answer = attributes["mlflow.spanOutputs"]["choices"][0]["message"]
    assert (answer["role"], answer["content"]) == ("assistant", completion)


def check_tokens(call: dict[str, Any], usage: dict[str, int]) -> None:
    """Check the token counts."""
    assert call["attributes"]["mlflow.chat.tokenUsage"] == usage


def check_cost(call: dict[str, Any], cost: dict[str, float]) -> None:
    """Check that the cost is the charged one, not the one of MLflow's price list."""
    assert call["attributes"]["mlflow.llm.cost"] == cost


def check_error(call: dict[str, Any], message: str, *, event: str) -> None:
    """Check the error mark, its message, and the tab Events."""
    assert (call["status"]["code"], call["status"]["message"]) == ("STATUS_CODE_ERROR", message)
    assert [one["name"] for one in call["events"]] == [event]


def check_trace(
    trace: dict[str, Any], *, name: str, session: str, user: str, tags: dict[str, str], tokens: int, cost: float
) -> None:
    """Check the columns Trace name, Session, User, tags, Tokens and Cost."""
    metadata = trace["trace_metadata"]
    assert (metadata["mlflow.trace.session"], metadata["mlflow.trace.user"]) == (session, user)
    assert json.loads(metadata["mlflow.trace.tokenUsage"])["total_tokens"] == tokens
    assert json.loads(metadata["mlflow.trace.cost"])["total_cost"] == pytest.approx(cost)
    assert trace["tags"].items() >= {"mlflow.traceName": name, **tags}.items()
    assert trace["state"] == "OK"
