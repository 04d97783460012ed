"""``spancast demo``: the conversation with SDKs and without, in the local store."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.cli.past import Command

from spancast.cli import demo as demo_command
from spancast.demo.conversation import converse
from spancast.demo.providers import connect
from spancast.testing import ReplayServer, captured_spans

TREE = {
    "Support": {
        "triage": {"classify": {}, "choose tool": {}},
        "answer": {"draft": {}, "draft, again": {}, "rephrase": {}},
        "check": {"rate the answer": {}},
    }
}


@pytest.fixture(autouse=True)
def without_jaeger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_command, "listens", lambda _: False)


def test_demo_prints_tree_from_default_store(run: Command) -> None:
    printed = run("demo")
    order = re.search(r"show (order-\w+) --content", printed)[1]
    assert "Calls by openai " in " ".join(printed.split())
    assert "├─ triage " in printed
    assert re.search(r"31 → 1 +\$0\.000145  openai/gpt-5\.2 · stop", printed)
    assert "✗ rate_limit_exceeded: " in printed
    assert [one["name"] for one in run.data("traces")] == ["Support"]
    assert '  tool: {"status": "shipped"}' in run("show", order, "--content")


def test_demo_writes_to_named_store_only(run: Command) -> None:
    Path("spancast.yaml").write_text("destinations: {mine: {type: file, path: mine.jsonl, spans: all}}")
    assert "  every trace    spancast traces --store demo.db\n" in run("demo", "--store", "demo.db")
    assert Path("demo.db").is_file()
    assert not Path("mine.jsonl").exists()
    assert not Path("state").exists()


@pytest.mark.parametrize("with_sdks", [True, False])
def test_conversation_gives_its_tree_without_calls_of_set_up(*, with_sdks: bool) -> None:
    with captured_spans() as spans, ReplayServer(openrouter=True) as server:
        providers = connect(server, with_sdks=with_sdks)
        assert spans.all() == []
        converse(server, providers, "order-7781")
        for one in providers.values():
            one.close()
        assert spans.tree() == TREE
        calls = spans.calls()
    answered = [span for span in calls if span.status.is_ok and "gen_ai.response.model" in span.attributes]
    assert len(answered) == 5
    assert all(span.attributes["gen_ai.usage.output_tokens"] for span in answered)
