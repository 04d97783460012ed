"""A call inside a span that another instrumentation or a framework made for it: that span gets what it lacks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from opentelemetry.trace import Span

import spancast
from spancast.dialects.openai_chat.answers import chat_answer, chat_chunks
from spancast.testing import CapturedSpans, ReplayServer, Reply
from spancast.testing.spans import attributes

MESSAGES: Any = [{"role": "user", "content": "a secret"}]


@pytest.fixture
def client(server: ReplayServer, spans: CapturedSpans) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0) as made:
        yield spancast.instrument(made)


def their_span(spans: CapturedSpans, **more: Any) -> Any:
    tracer = spans.provider.get_tracer("their.library")
    return tracer.start_as_current_span("chat theirs", attributes={"gen_ai.operation.name": "chat", **more})


def test_their_span_gets_what_it_lacks_without_content(
    client: openai.OpenAI, server: ReplayServer, spans: CapturedSpans
) -> None:
    server.reply(Reply.json(chat_answer("also secret", model="gpt-4o-mini")))
    with their_span(spans, **{"gen_ai.request.model": "their name", "gen_ai.usage.input_tokens": 7}):
        client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, temperature=0.5)
    found = attributes(spans.one())
    assert found.items() >= {
        "gen_ai.request.model": "their name", "gen_ai.usage.input_tokens": 7, "gen_ai.usage.output_tokens": 10,
        "gen_ai.response.id": "chatcmpl-1", "gen_ai.request.temperature": 0.5, "server.address": "127.0.0.1",
    }.items()  # fmt: skip
    assert found["spancast.usage.cost"] > 0
    assert "secret" not in str(found)
    assert spancast.stats().calls_merged == 1


@pytest.mark.parametrize("is_left", [False, True])
def test_their_span_gets_the_facts_of_a_stream(
    client: openai.OpenAI, server: ReplayServer, spans: CapturedSpans, *, is_left: bool
) -> None:
    server.reply(Reply.stream(chat_chunks(chat_answer("one two three"), pieces=3)))
    with their_span(spans), client.chat.completions.create(model="m", messages=MESSAGES, stream=True) as stream:
        for _ in stream:
            if is_left:
                break
    found = attributes(spans.one())
    assert found["gen_ai.response.time_to_first_chunk"] > 0
    assert found.get("spancast.response.incomplete") == ("closed" if is_left else None)
    assert found.get("gen_ai.usage.input_tokens") == (None if is_left else 25)


def test_stream_that_outlives_their_span_adds_nothing(
    client: openai.OpenAI, server: ReplayServer, spans: CapturedSpans, caplog: pytest.LogCaptureFixture
) -> None:
    server.reply(Reply.stream(chat_chunks(chat_answer("one two three"))))
    with their_span(spans):
        stream = client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    assert len(list(stream)) > 2
    assert "gen_ai.response.id" not in attributes(spans.one())
    assert "ended span" not in caplog.text


def test_failed_call_leaves_the_status_to_them(
    client: openai.OpenAI, server: ReplayServer, spans: CapturedSpans
) -> None:
    server.reply(Reply.error(429))

    def ask(span: Span) -> None:
        with pytest.raises(openai.RateLimitError):
            client.chat.completions.create(model="m", messages=MESSAGES)
        assert span.is_recording()

    with their_span(spans) as span:
        ask(span)
    found = spans.one()
    assert found.status.status_code.name == "UNSET"
    assert attributes(found)["error.type"] == "rate_limit_exceeded"
