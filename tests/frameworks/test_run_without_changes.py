"""``spancast run -- python app.py`` with applications that know nothing of spancast; their traces in Jaeger."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.servers import ROOT, Jaeger, get_json, poll, tags, tree
from tests.frameworks.driver import RESPONSES_TOOL_LOOP, TOOL_LOOP, why_skipped

from spancast.testing import ReplayServer

APPS = Path(__file__).parent / "apps"
AGENT = {"invoke_agent assistant": {"chat gpt-5.2": {}, "execute_tool weather": {}, "chat gpt-5.2'": {}}}
TREES: dict[str, tuple[str, list[Any]]] = {
    "langgraph_app": ("langgraph", [{"chat gpt-5.2": {}}] * 2),
    "openai_agents_app": ("openai-agents", [{"chat gpt-5.2": {}}] * 2),
    "pydantic_ai_app": ("pydantic-ai", [{"chat gpt-5.2": {}}] * 2),
    "pydantic_ai_traced_app": ("pydantic-ai", [AGENT]),
}
SESSIONS = {"langgraph_app": {"chat-7"}, "openai_agents_app": {"chat-7"}}


@pytest.fixture(scope="module")
def jaeger() -> Iterator[Jaeger]:
    with Jaeger() as running:
        yield running


@pytest.mark.parametrize("app", TREES)
def test_application_without_changes_has_its_tree_in_jaeger(
    app: str, jaeger: Jaeger, server: ReplayServer, tmp_path: Path
) -> None:
    framework, expected = TREES[app]
    if reason := why_skipped(framework):
        pytest.skip(reason)
    called, _, answered = RESPONSES_TOOL_LOOP if app == "openai_agents_app" else TOOL_LOOP
    server.reply(called, answered)
    ended = subprocess.run(
        [str(Path(sys.executable).parent / "spancast"), "run", "--", sys.executable, "-W", "ignore", f"{APPS}/{app}.py"],
        env={
            **os.environ, "OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "k", "OTEL_SERVICE_NAME": app,
            "OTEL_EXPORTER_OTLP_ENDPOINT": jaeger.otlp_http, "XDG_STATE_HOME": str(tmp_path),
        },
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (0, "Sunny in Oslo.\n"), ended.stderr

    def found() -> list[Any] | None:
        traces = (get_json(f"{jaeger.query}/api/traces?service={app}&limit=20") or {}).get("data") or []
        return traces if sum(len(trace["spans"]) for trace in traces) >= sum(map(size, expected)) else None

    traces = poll(found, f"the traces of {app} in Jaeger")
    assert [tree(trace) for trace in traces] == expected
    calls = [tags(span) for trace in traces for span in trace["spans"] if span["operationName"].startswith("chat")]
    assert len(calls) == 2
    assert {call.get("session.id") for call in calls} == SESSIONS.get(app, {None})
    assert all(call["gen_ai.usage.input_tokens"] > 0 for call in calls)
    assert all(call["spancast.usage.cost"] > 0 for call in calls)


def size(nodes: dict[str, Any]) -> int:
    """Return the number of spans in a tree."""
    return sum(1 + size(below) for below in nodes.values())
