"""One conversation with three SDKs, sent to Jaeger, Phoenix and MLflow; each has the data in its own fields."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from tests.e2e.engines import MLflow, Phoenix
from tests.e2e.servers import Jaeger, tags, tree
from tests.e2e.test_jaeger import DEMO_TREE

import spancast
from spancast import runtime
from spancast.demo.conversation import SESSION, converse
from spancast.demo.providers import connect
from spancast.model.span_ids import trace_id_of
from spancast.testing import ReplayServer

ORDER = "order-7781, broadcast"
"""Different from the trace of test_jaeger.py, which uses the same Jaeger."""
TRACE_ID = f"{trace_id_of(ORDER):032x}"
SPANS = 10
MODEL = "openai/gpt-5.2"


@pytest.fixture(scope="module")
def report(
    jaeger: Jaeger, phoenix: Phoenix, mlflow: MLflow, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[spancast.FlushReport]:
    directory = tmp_path_factory.mktemp("broadcast")
    provider = TracerProvider(shutdown_on_exit=False)
    spancast.configure(
        tracer_provider=provider,
        spool={"path": str(directory / "spool")},
        destinations={
            "jaeger": {"type": "jaeger", "endpoint": jaeger.otlp_http, "spans": "all"},
            "phoenix": {"type": "phoenix", "base_url": phoenix.url, "project": "one-conversation"},
            "mlflow": {"type": "mlflow", "base_url": mlflow.url},
            "costly": {
                "type": "file", "path": str(directory / "costly.jsonl"),
                "filter_rules": {"groups": [{"rules": [{"field": "total_cost", "operator": "gt", "value": 0.002}]}]},
            },
        },
    )  # fmt: skip
    with ReplayServer(openrouter=True) as server:
        converse(server, connect(server), ORDER)
        runtime.CALL_TRACER.group_spans.end_all()
        flushed = spancast.flush(60)
    yield flushed
    assert "classify" not in Path(directory / "costly.jsonl").read_text()
    assert "draft, again" in Path(directory / "costly.jsonl").read_text()
    spancast.shutdown()


def test_report_has_all_spans_delivered(report: spancast.FlushReport) -> None:
    assert report, str(report)
    delivered = {name: counts.delivered for name, counts in report.destinations.items()}
    assert delivered.pop("costly") < SPANS
    assert set(delivered.values()) == {SPANS}


def test_jaeger_has_the_tree_and_attributes(report: spancast.FlushReport, jaeger: Jaeger) -> None:
    trace = jaeger.trace(TRACE_ID, spans=SPANS)
    assert tree(trace) == DEMO_TREE
    call = next(tags(span) for span in trace["spans"] if span["operationName"] == "classify")
    assert call.items() >= {
        "gen_ai.request.model": MODEL, "gen_ai.usage.input_tokens": 31, "gen_ai.usage.output_tokens": 1,
        "spancast.usage.cost": 0.000145, "session.id": SESSION, "user.id": "u-7", "trace.metadata.feature": "billing",
    }.items()  # fmt: skip


def test_phoenix_has_session_tokens_cost_and_tool_calls(report: spancast.FlushReport, phoenix: Phoenix) -> None:
    trace = phoenix.trace(TRACE_ID, spans=SPANS)
    assert trace["project"]["name"] == "one-conversation"
    assert trace["session"]["sessionId"] == SESSION
    assert trace["rootSpan"]["name"] == "Support"
    call = trace["spans"]["classify"]
    llm = json.loads(call["attributes"])["llm"]
    assert (call["spanKind"], llm["request"]["model_name"]) == ("llm", MODEL)
    assert (call["tokenCountPrompt"], call["tokenCountCompletion"]) == (31, 1)
    assert llm["cost"]["total"] == pytest.approx(0.000145)
    assert llm["input_messages"][0]["message"]["content"] == "Where is my order 7781?"
    assert json.loads(call["metadata"])["feature"] == "billing"
    support = trace["spans"]["Support"]
    assert (support["input"]["value"], support["input"]["mimeType"]) == ("Where is my order 7781?", "text")
    assert support["output"]["value"]
    [session] = [one for one in phoenix.sessions("one-conversation") if one["sessionId"] == SESSION]
    assert session["firstInput"]["value"] == "Where is my order 7781?"
    assert session["lastOutput"]["value"] == support["output"]["value"]
    chosen = json.loads(trace["spans"]["choose tool"]["attributes"])["llm"]["output_messages"][0]["message"]
    assert chosen["tool_calls"][0]["tool_call"]["function"]["name"] == "look_up_order"
    assert trace["spans"]["draft"]["statusCode"] == "ERROR"


def test_mlflow_has_session_tokens_cost_and_messages(report: spancast.FlushReport, mlflow: MLflow) -> None:
    trace = mlflow.trace(TRACE_ID, spans=SPANS)
    metadata: dict[str, Any] = trace["trace_metadata"]
    assert (metadata["mlflow.trace.session"], metadata["mlflow.trace.user"]) == (SESSION, "u-7")
    assert trace["tags"].items() >= {"mlflow.traceName": "Support", "feature": "billing"}.items()
    call = trace["spans"]["classify"]["attributes"]
    assert call["mlflow.chat.tokenUsage"].items() >= {"input_tokens": 31, "output_tokens": 1}.items()
    assert call["mlflow.llm.cost"]["total_cost"] == pytest.approx(0.000145)
    assert call["mlflow.spanInputs"]["messages"][0]["content"] == "Where is my order 7781?"
    assert json.loads(trace["request_preview"]) == "Where is my order 7781?"
    assert trace["response_preview"]
    messages = trace["spans"]["draft, again"]["attributes"]["mlflow.spanInputs"]["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool"]
