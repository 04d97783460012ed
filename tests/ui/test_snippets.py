"""The copied code makes the recorded call again: the same request arrives at a real server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from tests.destinations.spans import of_sdk, span

import spancast
from spancast.testing import CapturedSpans, ReplayServer, Reply, captured_spans
from spancast.ui.snippets import Snippets, snippets

PARAMETERS: dict[str, Any] = {"type": "object", "properties": {"id": {"type": "string"}}}
CALLED = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": '{"id":"7"}'}}
CHAT: dict[str, Any] = {
    "model": "gpt-5.2",
    "messages": [
        {"role": "system", "content": 'Be "brief".\n$HOME `id` \u202e'},
        {"role": "user", "content": "Where is it's order? é 🙂"},
        {"role": "assistant", "tool_calls": [CALLED]},
        {"role": "tool", "tool_call_id": "call_1", "content": '{"status": "shipped"}'},
    ],
    "tools": [
        {"type": "function", "function": {"name": "look_up", "description": "Look up.", "parameters": PARAMETERS}}
    ],
    "temperature": 0.2,
    "max_tokens": 50,
    "stop": ["END"],
    "n": 2,
}
MESSAGES: dict[str, Any] = {
    "model": "claude-sonnet-5",
    "max_tokens": 50,
    "system": "Be brief.",
    "messages": [
        {"role": "user", "content": "Where is it's order?"},
        {"role": "assistant", "content": [{"type": "text", "text": "I look."}, {"type": "tool_use", "id": "t1", "name": "look_up", "input": {"id": "7"}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "shipped"}]},
    ],
    "tools": [{"name": "look_up", "description": "Look up.", "input_schema": PARAMETERS}],
}  # fmt: skip


@pytest.fixture
def spans() -> Iterator[CapturedSpans]:
    with captured_spans() as captured:
        yield captured


@pytest.fixture
def server() -> Iterator[ReplayServer]:
    with ReplayServer() as running:
        yield running


def recorded(spans: CapturedSpans) -> Snippets:
    [call] = spans.calls()
    copied = snippets(of_sdk(call))
    assert copied is not None
    return copied


def without_nones(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_nones(item) for name, item in value.items() if item is not None}
    return [without_nones(item) for item in value] if isinstance(value, list) else value


def bodies(server: ReplayServer, copied: Snippets, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Run both forms of the copied code; return the requests that arrived, the recorded one first."""
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, "test")
    exec(copied.python, {})
    subprocess.run(["bash", "-c", copied.curl], check=True, capture_output=True)
    return [without_nones(one.body) for one in server.requests]


def test_chat_completions_call_is_made_again(
    spans: CapturedSpans, server: ReplayServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with openai.OpenAI(base_url=server.base_url, api_key="sk-secret") as client:
        spancast.instrument(client).chat.completions.create(**CHAT)
    copied = recorded(spans)
    assert "sk-secret" not in repr(copied)
    first, again, by_curl = bodies(server, copied, monkeypatch)
    assert again == by_curl == first


def test_anthropic_call_is_made_again(
    spans: CapturedSpans, server: ReplayServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with anthropic.Anthropic(base_url=server.base_url.removesuffix("/v1"), api_key="sk-secret") as client:
        spancast.instrument(client).messages.create(**MESSAGES)
    first, again, by_curl = bodies(server, recorded(spans), monkeypatch)
    assert again == by_curl == first


def test_call_of_another_format_or_without_content_is_no_code() -> None:
    assert snippets(span("group", 1, attributes={})) is None


def test_copied_test_passes_and_fails_if_the_response_changes(
    spans: CapturedSpans, server: ReplayServer, tmp_path: Path
) -> None:
    cases = {case: recorded_case(case, spans, server) for case in ("chat", "tool", "messages", "error", "stream")}
    for case, copied in cases.items():
        (tmp_path / f"test_{case}.py").write_text(copied)
    passed = run_tests(tmp_path)
    assert "5 passed" in passed.stdout, passed.stdout
    for case, copied in cases.items():
        changed = copied.replace("RESPONSE)", "{'id': 'x', 'error': {}})")
        assert changed != copied
        (tmp_path / f"test_{case}.py").write_text(changed)
    failed = run_tests(tmp_path)
    assert "5 failed" in failed.stdout, failed.stdout


def recorded_case(case: str, spans: CapturedSpans, server: ReplayServer) -> str:
    with (
        openai.OpenAI(base_url=server.base_url, api_key="sk-secret", max_retries=0) as chat,
        anthropic.Anthropic(base_url=server.url, api_key="sk-secret") as messages,
    ):
        if case == "tool":
            message = {"role": "assistant", "content": None, "tool_calls": [CALLED]}
            choice = {"index": 0, "finish_reason": "tool_calls", "message": message}
            server.reply(Reply.json({"id": "c1", "model": "gpt-5.2", "choices": [choice]}))
        if case == "messages":
            spancast.instrument(messages).messages.create(**MESSAGES)
        elif case == "error":
            server.reply(Reply.error(429))
            with pytest.raises(openai.RateLimitError):
                spancast.instrument(chat).chat.completions.create(**CHAT)
        elif case == "stream":
            for _ in spancast.instrument(chat).chat.completions.create(**CHAT, stream=True):
                pass
        else:
            spancast.instrument(chat).chat.completions.create(**CHAT)
    copied = snippets(of_sdk(spans.calls()[-1]))
    assert copied is not None
    return copied.pytest


def run_tests(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, str(folder)]
    return subprocess.run(command, check=False, capture_output=True, text=True)
