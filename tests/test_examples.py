"""Every example runs in a subprocess, and its traces arrive at an OTLP receiver."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spancast.testing import ReplayServer

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent


class Receiver(ThreadingHTTPServer):
    """An OTLP/HTTP receiver that stores the received spans."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.services: set[str] = set()
        self.agents: set[str] = set()
        """The first word of each user agent, which identifies the exporter."""
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def tree(self) -> dict[str, Any]:
        spans = sorted(self.spans, key=lambda span: span.start_time_unix_nano)
        nodes: dict[bytes, dict[str, Any]] = {span.span_id: {} for span in spans}
        root: dict[str, Any] = {}
        for span in spans:
            nodes.get(span.parent_span_id, root)[span.name] = nodes[span.span_id]
        return root

    def attribute(self, name: str) -> set[Any]:
        return {a.value.string_value for span in self.spans for a in span.attributes if a.key == name}


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            import gzip

            body = gzip.decompress(body)
        if self.path == "/v1/traces":
            self.server.agents.add(self.headers["user-agent"].partition("/")[0].partition("-")[0])
            for resource_spans in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.server.services |= {
                    a.value.string_value for a in resource_spans.resource.attributes if a.key == "service.name"
                }
                for scope in resource_spans.scope_spans:
                    self.server.spans.extend(scope.spans)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running, ThreadPoolExecutor(1) as pool:
        pool.submit(running.serve_forever)
        yield running
        running.shutdown()


def run(command: list[str], server: ReplayServer, receiver: Receiver, **more: str) -> str:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("OTEL_")},
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "sk-test",
        "ANTHROPIC_BASE_URL": server.url, "ANTHROPIC_API_KEY": "test",
        "OPENROUTER_BASE_URL": server.base_url, "OPENROUTER_API_KEY": "test",
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "XDG_STATE_HOME": tempfile.mkdtemp(prefix="spancast-tests-"),
        **more,
    }  # fmt: skip
    completed = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert completed.returncode == 0, completed.stderr
    assert completed.stderr in (
        "",
        "spancast: traces go to otlp (OTEL_* variables)\n",
        "spancast: traces are stored on this machine; see them with: spancast traces\n",
    )
    return completed.stdout


PEERS = {point.name for point in entry_points(group="opentelemetry_instrumentor")} - {"spancast"}


def test_decorate_sends_a_named_call(server: ReplayServer, receiver: Receiver) -> None:
    printed = run([sys.executable, "examples/decorate.py"], server, receiver)
    assert printed == "Say hello.\notlp: 2 delivered, 0 queued, 0 dead-lettered, 0 dropped\n"
    assert receiver.tree() == {"Greeting": {"hello": {}}}
    assert receiver.services == {"decorate"}
    assert receiver.agents == {"spancast"}


@pytest.mark.parametrize("exporter", ["otlp", "spancast"])
@pytest.mark.parametrize(
    "starter", [["spancast", "run", "--"], ["opentelemetry-instrument"]], ids=["spancast", "opentelemetry-instrument"]
)
def test_entry_point_is_traced_without_changes(
    starter: list[str], exporter: str, server: ReplayServer, receiver: Receiver
) -> None:
    printed = run(
        [*starter, "python", "examples/entry_point.py"], server, receiver, OTEL_TRACES_EXPORTER=exporter,
        OTEL_SERVICE_NAME="app", OTEL_METRICS_EXPORTER="none", OTEL_LOGS_EXPORTER="none",
        # The test environment has other instrumentations installed.
        OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=",".join(PEERS),
    )  # fmt: skip
    assert printed == "Say hello.\nSay hello.\n"
    assert receiver.tree() == {"chat gpt-5.2": {}, "chat claude-sonnet-5": {}}
    assert receiver.services == {"app"}
    assert receiver.agents == {
        "OTel" if (starter[0], exporter) == ("opentelemetry-instrument", "otlp") else "spancast",
    }  # fmt: skip


def test_async_streaming_records_a_closed_stream(server: ReplayServer, receiver: Receiver) -> None:
    printed = run([sys.executable, "examples/async_streaming.py"], server, receiver)
    assert printed.endswith("otlp: 3 delivered, 0 queued, 0 dead-lettered, 0 dropped\n")
    assert receiver.agents == {"spancast"}
    assert receiver.tree() == {"Two stories": {"complete": {}, "half": {}}}
    assert receiver.attribute("spancast.response.incomplete") == {"closed"}


def test_raw_http_records_complete_and_streamed_calls(server: ReplayServer, receiver: Receiver) -> None:
    printed = run([sys.executable, "examples/raw_http.py"], server, receiver)
    assert printed == "Say hello.\nSay hello.\notlp: 3 delivered, 0 queued, 0 dead-lettered, 0 dropped\n"
    assert receiver.tree() == {"Raw HTTP": {"chat openai/gpt-5.2": {}, "streamed": {}}}
    assert all("trace" not in request.body for request in server.requests)
    assert receiver.agents == {"spancast"}


def test_broadcast_applies_the_rules_of_each_destination(
    server: ReplayServer, receiver: Receiver, tmp_path: Path
) -> None:
    traces, store = tmp_path / "traces.jsonl", tmp_path / "costly.db"
    printed = run(
        [sys.executable, "examples/broadcast.py"], server, receiver, TRACES_FILE=str(traces), STORE_FILE=str(store)
    )
    assert "screen: 2 delivered, 0 queued" in printed
    assert "└─ chat openai/gpt-5.2" in printed
    written = traces.read_text()
    assert "Support" in written
    assert "Where is my order?" not in written, "the file destination is in privacy mode"
    assert receiver.spans == [], "only the destinations of spancast.yaml receive traces"


FASTAPI = """
from fastapi.testclient import TestClient
from examples.fastapi_session import app
with TestClient(app) as web:
    print(web.get("/ask", params={"question": "hi"}, headers={"x-chat-id": "chat-7"}).json())
"""


def test_fastapi_session_sets_the_session_of_the_request(server: ReplayServer, receiver: Receiver) -> None:
    assert "hi" in run([sys.executable, "-W", "ignore", "-c", FASTAPI], server, receiver)
    assert receiver.tree() == {"Shop request": {"answer": {}}}
    assert receiver.attribute("session.id") == {"chat-7"}
    assert receiver.agents == {"spancast"}


def test_example_without_destination_is_in_local_store(
    server: ReplayServer, receiver: Receiver, tmp_path: Path
) -> None:
    state = {"XDG_STATE_HOME": str(tmp_path), "OTEL_EXPORTER_OTLP_ENDPOINT": ""}
    printed = run([sys.executable, "examples/decorate.py"], server, receiver, **state)
    assert printed.endswith("store: 2 delivered, 0 queued, 0 dead-lettered, 0 dropped\n")
    assert "Greeting" in run(["spancast", "traces"], server, receiver, **state)
    assert receiver.spans == []


def test_own_destination(server: ReplayServer, receiver: Receiver) -> None:
    lines = run([sys.executable, "examples/own_destination.py"], server, receiver).splitlines()
    assert [json.loads(line)["name"] for line in lines if line.startswith("{")][-1] == "chat gpt-4o-mini"
    assert "lines: 1 delivered" in lines[-1]


def test_every_example_has_a_test() -> None:
    tested = Path(__file__).read_text()
    for example in (ROOT / "examples").glob("*.py"):
        assert example.stem in tested, example.name
