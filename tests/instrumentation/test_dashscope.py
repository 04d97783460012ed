"""dashscope has no client objects, so the contract suite of clients can't run on it; its own tests are here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

import spancast
from spancast.testing import CapturedSpans, ReplayServer, Reply
from spancast.testing.spans import attributes

dashscope = pytest.importorskip("dashscope")
PATH = "/api/v1/services/aigc/text-generation/generation"
CHAT: dict[str, Any] = {
    "model": "qwen-plus", "messages": [{"role": "user", "content": "hi"}], "result_format": "message", "api_key": "test",
}  # fmt: skip
KEYS: dict[str, Any] = {
    "session_id": "chat-42", "trace": {"trace_name": "Support", "generation_name": "classify", "feature": "billing"},
}  # fmt: skip


@pytest.fixture(autouse=True)
def instrumented(server: ReplayServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(dashscope, "base_http_api_url", f"{server.url}/api/v1")
    spancast.instrument("dashscope")
    yield
    spancast.uninstrument("dashscope")
    from dashscope.api_entities.http_request import close_shared_sync_session

    close_shared_sync_session()


def event(text: str, reason: str, *, tokens: int) -> str:
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": reason}
    usage = {"input_tokens": 7, "output_tokens": tokens, "total_tokens": 7 + tokens}
    return json.dumps({"output": {"choices": [choice]}, "usage": usage, "request_id": "rq-2"})


def stream(*texts: str, cut_after: int | None = None) -> Reply:
    last = len(texts) - 1
    events = [event(text, "stop" if n == last else "null", tokens=n + 1) for n, text in enumerate(texts)]
    return Reply.stream(events, done=False, cut_after=cut_after)


def test_call_has_one_complete_span_and_keys_are_not_sent(server: ReplayServer, spans: CapturedSpans) -> None:
    answer = dashscope.Generation.call(**CHAT, temperature=0.5, **KEYS)
    assert answer.output.choices[0].message.content == "hi"
    assert server.requests[0].body["parameters"] == {"temperature": 0.5, "result_format": "message"}
    assert spans.tree() == {"Support": {"classify": {}}}
    found = attributes(spans.calls()[0])
    assert (
        found.items()
        >= {
            "gen_ai.provider.name": "alibaba_cloud",
            "gen_ai.request.model": "qwen-plus",
            "gen_ai.request.temperature": 0.5,
            "gen_ai.response.finish_reasons": ["stop"],
            "server.address": "127.0.0.1",
            "session.id": "chat-42",
            "trace.metadata.feature": "billing",
        }.items()
    )
    assert found["gen_ai.output.messages"][0]["parts"] == [{"type": "text", "content": "hi"}]


def test_error_that_is_returned_is_the_failure_of_the_span(server: ReplayServer, spans: CapturedSpans) -> None:
    server.reply(Reply.error(429, {"code": "Throttling.RateQuota", "message": "slow down", "request_id": "rq-9"}))
    answer = dashscope.Generation.call(**CHAT)
    assert (answer.status_code, answer.code) == (429, "Throttling.RateQuota")
    span = spans.one()
    assert not span.status.is_ok
    assert not span.status.is_unset
    assert attributes(span)["error.type"] == "Throttling.RateQuota"
    assert attributes(span)["spancast.response.status_code"] == 429


@pytest.mark.parametrize(
    ("options", "texts"),
    [({}, ["Ha", "HaHa", "HaHa!"]), ({"incremental_output": True}, ["Ha", "Ha", "!"])],
    ids=["text so far", "increments"],
)
def test_stream_is_recorded_from_its_first_step(
    options: dict[str, Any], texts: list[str], server: ReplayServer, spans: CapturedSpans
) -> None:
    server.reply(stream(*texts))
    chunks = dashscope.Generation.call(**CHAT, stream=True, **options, **KEYS)
    assert not server.requests
    assert [chunk.output.choices[0].message.content for chunk in chunks] == texts
    assert spans.tree() == {"Support": {"classify": {}}}
    found = attributes(spans.calls()[0])
    assert found["gen_ai.output.messages"][0]["parts"] == [{"type": "text", "content": "HaHa!"}]
    assert found["gen_ai.usage.output_tokens"] == 3
    assert "gen_ai.response.time_to_first_chunk" in found
    assert "spancast.response.incomplete" not in found


def test_stream_left_early_or_cut_has_the_part_that_arrived(server: ReplayServer, spans: CapturedSpans) -> None:
    server.reply(stream("He", "Hello"))
    chunks = dashscope.Generation.call(**CHAT, stream=True)
    next(chunks)
    chunks.close()
    found = attributes(spans.one())
    assert found["spancast.response.incomplete"] == "closed"
    assert found["gen_ai.output.messages"][0]["parts"] == [{"type": "text", "content": "He"}]


async def test_async_calls_are_recorded(server: ReplayServer, spans: CapturedSpans) -> None:
    from dashscope.api_entities.aio_session import close_shared_aio_session

    await dashscope.AioGeneration.call(**CHAT, **KEYS)
    server.reply(stream("He", "Hello"))
    chunks = await dashscope.AioGeneration.call(**CHAT, stream=True)
    assert [chunk.output.choices[0].message.content async for chunk in chunks] == ["He", "Hello"]
    whole, streamed = (attributes(span) for span in spans.calls())
    assert whole["session.id"] == "chat-42"
    assert streamed["gen_ai.output.messages"][0]["parts"] == [{"type": "text", "content": "Hello"}]
    server.reply(Reply.hang(60))
    task = asyncio.ensure_future(dashscope.AioGeneration.call(**CHAT))
    await asyncio.to_thread(server.wait_for_requests, 3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert attributes(spans.calls()[2])["spancast.response.incomplete"] == "cancelled"
    await close_shared_aio_session()
