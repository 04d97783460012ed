"""The examples through SDK, Collector and Jaeger; the trees are read through Jaeger's query API."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from tests.e2e.servers import ROOT, Collector, Jaeger, poll, tags, tree

import spancast
from spancast.demo.conversation import converse, new_order
from spancast.demo.providers import connect
from spancast.model.span_ids import trace_id_of
from spancast.testing import ReplayServer, captured_spans

DEMO_TREE = {
    "Support": {
        "triage": {"classify": {}, "choose tool": {}},
        "answer": {"draft": {}, "draft, again": {}, "rephrase": {}},
        "check": {"rate the answer": {}},
    }
}


def test_demo_through_collector_gives_its_tree_in_jaeger(jaeger: Jaeger, collector: Collector) -> None:
    order = new_order()
    provider = TracerProvider(resource=Resource.create({"service.name": "support-bot"}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(collector.otlp_grpc, insecure=True)))
    with captured_spans(tracer_provider=provider), ReplayServer(openrouter=True) as server:
        converse(server, connect(server), order)
        spancast.flush()

    trace = jaeger.trace(f"{trace_id_of(order):032x}", spans=10)
    assert tree(trace) == DEMO_TREE
    assert {process["serviceName"] for process in trace["processes"].values()} == {"support-bot"}
    assert all(not span.get("warnings") for span in trace["spans"])

    by_name = {span["operationName"]: tags(span) for span in trace["spans"]}
    assert by_name["classify"].items() >= {
        "session.id": "chat-42", "user.id": "u-7", "trace.metadata.feature": "billing", "trace.metadata.tier": 2,
        "gen_ai.usage.input_tokens": 31, "gen_ai.usage.output_tokens": 1, "spancast.usage.cost": 0.000145,
        "span.kind": "client",
    }.items()  # fmt: skip
    assert "look_up_order" in by_name["choose tool"]["gen_ai.output.messages"]
    assert by_name["draft"].items() >= {"error": True, "error.type": "rate_limit_exceeded"}.items()
    assert by_name["rephrase"]["gen_ai.provider.name"] == "_OTHER"
    assert "support-bot" in jaeger.services()


def test_spancast_run_sends_to_jaeger(jaeger: Jaeger, server: ReplayServer) -> None:
    spancast_bin = Path(sys.executable).parent / "spancast"
    subprocess.run(
        [str(spancast_bin), "run", "--", sys.executable, "examples/entry_point.py"],
        env={
            **os.environ,
            "OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "k",
            "ANTHROPIC_BASE_URL": server.url, "ANTHROPIC_API_KEY": "k",
            "OTEL_EXPORTER_OTLP_ENDPOINT": jaeger.otlp_http, "OTEL_SERVICE_NAME": "entry-point",
        },
        cwd=ROOT, check=True, timeout=120,
    )  # fmt: skip
    poll(lambda: True if "entry-point" in jaeger.services() else None, "service entry-point in Jaeger")


def test_collector_queue_delivers_after_jaeger_was_down(tmp_path: Path) -> None:
    jaeger = Jaeger()
    provider = TracerProvider(shutdown_on_exit=False)
    with Collector(jaeger, tmp_path) as collector:
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(collector.otlp_grpc, insecure=True)))
        with provider.get_tracer("t").start_as_current_span("kept") as span:
            trace_id = f"{span.get_span_context().trace_id:032x}"
        assert provider.force_flush()
    provider.shutdown()
    with jaeger, Collector(jaeger, tmp_path):
        assert tree(jaeger.trace(trace_id)) == {"kept": {}}


def test_readme_has_the_tree_of_the_demo() -> None:
    shown = re.search(r"^Support .*?\n\n", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    assert shown
    named = [re.match(r"[│├└─ ]*([\w, ]+?)  +\d+ ms", line) for line in shown[0].splitlines()]
    assert [one[1] for one in named if one] == [
        "Support", "triage", "classify", "choose tool", "answer", "draft", "draft, again", "rephrase", "check", "rate the answer",
    ]  # fmt: skip
