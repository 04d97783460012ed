"""Each snippet of docs/frameworks.md runs as it stands there, and its calls have the session that it passes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.frameworks.driver import FRAMEWORKS, REQUIRED, why_skipped
from tests.snippets import sections

import spancast
from spancast.testing import ReplayServer, captured_spans

PAGE = Path(__file__).parents[2] / "docs" / "frameworks.md"
SNIPPETS = {
    section.heading: snippet.code
    for section in sections(PAGE)
    for snippet in section.snippets
    if snippet.language == "python"
}


def test_every_recorded_framework_has_a_snippet() -> None:
    assert set(SNIPPETS) == set(FRAMEWORKS)


def snippets() -> Iterator[Any]:
    for name in REQUIRED or SNIPPETS:
        reason = why_skipped(name)
        yield pytest.param(name, marks=[pytest.mark.skip(reason=reason)] if reason else [])


@pytest.mark.parametrize("name", [*snippets()])
def test_snippet_records_its_calls(name: str, server: ReplayServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OPENAI_BASE_URL", "OPENAI_API_BASE"):
        monkeypatch.setenv(variable, server.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    if name == "openai-agents":
        agents = pytest.importorskip("agents")
        agents.set_trace_processors([])  # the default one sends to OpenAI
        agents.set_tracing_disabled(False)
    with captured_spans() as spans:
        try:
            exec(compile(SNIPPETS[name], f"{PAGE.name}: {name}", "exec"), {"__name__": "__main__"})
        finally:
            spancast.uninstrument()
        calls = spans.calls()
        assert calls
        assert len(calls) == len(server.requests)
        assert {span.attributes["session.id"] for span in calls if span.attributes} == {"chat-42"}
