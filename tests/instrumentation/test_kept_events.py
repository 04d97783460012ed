"""The memory of unparsed stream events is bounded."""

from __future__ import annotations

import gc
from typing import Any

import openai
import pytest
from tests.tracing.span_targets import captured_by_target

import spancast
from spancast.dialects.openai_chat.answers import chat_answer, chat_chunks
from spancast.instrumentation import sse_events
from spancast.testing import CapturedSpans, ReplayServer, Reply
from spancast.testing.spans import attributes

PIECE = "x" * 65_536
MESSAGES: Any = [{"role": "user", "content": "hi"}]


def held_bytes() -> int:
    """Return the size of the SDK's events that are alive."""
    events = [one for one in gc.get_objects() if type(one).__name__ == "ServerSentEvent"]
    return sum(len(event.data) for event in events)


def chunks(count: int, piece: str) -> list[dict[str, Any]]:
    return chat_chunks(chat_answer(text=" ".join([piece] * count)), pieces=count)


@pytest.mark.parametrize("is_async", [False, True])
async def test_long_events_are_parsed_before_they_fill_the_memory(
    server: ReplayServer, spans: CapturedSpans, *, is_async: bool
) -> None:
    server.reply(Reply.stream(chunks(700, PIECE)))
    most = text = 0
    options: Any = {"model": "m", "messages": MESSAGES, "stream": True, "stream_options": {"include_usage": True}}
    if is_async:
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key="k") as client:
            spancast.instrument(client)
            number = 0
            async for chunk in await client.chat.completions.create(**options):
                text += sum(len(choice.delta.content or "") for choice in chunk.choices)
                number += 1
                most = max(most, held_bytes()) if not number % 50 else most
    else:
        with openai.OpenAI(base_url=server.base_url, api_key="k") as client:
            spancast.instrument(client)
            for number, chunk in enumerate(client.chat.completions.create(**options)):
                text += sum(len(choice.delta.content or "") for choice in chunk.choices)
                most = max(most, held_bytes()) if not number % 50 else most
    found = attributes(spans.one())
    assert text >= 700 * len(PIECE)
    assert len(str(found["gen_ai.output.messages"])) > text, "nothing of it is missing"
    assert found["gen_ai.usage.output_tokens"]
    assert most < sse_events._MAX_UNPARSED_BYTES + (sse_events._BLOCK_EVENTS + 2) * (len(PIECE) + 1024) < text


def test_size_of_an_unparsed_stream_is_estimated_by_more_than_its_first_event(
    server: ReplayServer, spans: CapturedSpans
) -> None:
    """The first event has only a role and is short; the span queue limits its memory by this size."""
    target = captured_by_target()
    server.reply(Reply.stream(chunks(40, PIECE)))
    with openai.OpenAI(base_url=server.base_url, api_key="k") as client:
        spancast.instrument(client)
        for _ in client.chat.completions.create(model="m", messages=MESSAGES, stream=True):
            pass
    [(_, unparsed)] = target.taken
    assert unparsed is not None
    assert 20 * len(PIECE) < unparsed.size_bytes < 60 * len(PIECE)
    [(_, found, _)] = target.parsed()
    assert "x" in found["gen_ai.output.messages"]
