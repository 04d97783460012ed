"""Every example runs in a subprocess, and its traces arrive at an OTLP receiver."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from tests.programs import ROOT, Receiver, environment, output, running_receiver

from spancast.testing import ReplayServer


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running


def run(command: list[str], server: ReplayServer, receiver: Receiver, **more: str) -> str:
    state = Path(tempfile.mkdtemp(prefix="spancast-tests-"))
    exporter = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
    return output(command, environment(server, state, **{**exporter, **more}))


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
