"""Span limits: truncated JSON is still valid JSON."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from opentelemetry.sdk.trace import TracerProvider

import spancast
from spancast.dialects.openai_chat.answers import chat_answer, chat_chunks
from spancast.testing import ReplayServer, Reply, captured_spans

TURNS = 40
JSON_NAMES = ("gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.tool.definitions", "spancast.request.plugins")


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("limit", [1, 2, 20, 46, 47, 64, 200, 1000, 100_000])
def test_truncated_text_is_valid_json(
    limit: int, streams: bool, server: ReplayServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", str(limit))
    answer = chat_answer("an answer " * 50, model="m")
    server.reply(Reply.stream(chat_chunks(answer)) if streams else Reply.json(answer))
    messages: Any = [{"role": "system", "content": "be brief"}]
    messages += [{"role": "user", "content": f"turn {turn}: " + "Größe {[] " * 20} for turn in range(TURNS)]
    tool: Any = {"type": "function", "function": {"name": "f", "description": "d" * 500, "parameters": {}}}
    with captured_spans(tracer_provider=TracerProvider(shutdown_on_exit=False)) as spans:
        client = spancast.instrument(openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0))
        given = client.chat.completions.create(
            model="m", messages=messages, tools=[tool], stream=streams,
            extra_body={"plugins": [{"id": "web", "search_prompt": "p" * 500}], "note": "[no json " * 100},
        )  # fmt: skip
        if streams:
            list(given)  # pyright: ignore[reportArgumentType]
        client.close()
        attributes = spans.one().attributes or {}
    for name in JSON_NAMES:
        text = attributes[name]
        assert isinstance(text, str)
        # One character cannot be JSON.
        assert len(text) <= limit
        if limit > 1:
            assert isinstance(json.loads(text), (list, dict))
    note = attributes["spancast.request.note"]
    assert note == ("[no json " * 100)[:limit], "what is no JSON is the SDK's to cut"
    assert attributes["gen_ai.usage.input_tokens"] == 25
    recorded = json.loads(str(attributes["gen_ai.input.messages"])) if limit > 1 else []
    if limit == 1000:
        assert recorded[0]["role"] == "system"
        assert recorded[-1]["parts"][0]["content"].startswith(f"turn {TURNS - 1}")
        assert any("messages truncated" in json.dumps(message) for message in recorded)
    if limit == 100_000:
        assert len(recorded) == TURNS + 1
        assert recorded[0] == {"role": "system", "parts": [{"type": "text", "content": "be brief"}]}


def test_estimate_beyond_the_number_of_attributes_keeps_its_mark(
    server: ReplayServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "16")
    with captured_spans(tracer_provider=TracerProvider(shutdown_on_exit=False)) as spans:
        client = spancast.instrument(openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0))
        client.chat.completions.create(
            model="gpt-5-mini",
            messages=[{"role": "user", "content": "hi"}],
            extra_body={f"own_{n}": n for n in range(20)},
        )
        client.close()
        attributes = spans.one().attributes or {}
    assert "spancast.overflow" in attributes
    assert attributes["spancast.cost.estimated"] is True
    assert str(attributes["spancast.cost.source"]).endswith("openai/gpt-5-mini")
