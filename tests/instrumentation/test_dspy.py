"""Calls of dspy with its own HTTP engine; skipped if dspy is not installed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

import spancast
from spancast.testing import CapturedSpans, ReplayServer, Reply
from spancast.testing.answers import canned_answer
from spancast.testing.spans import attributes

dspy = pytest.importorskip("dspy")
pytestmark = pytest.mark.filterwarnings("ignore")

ANSWER = "[[ ## answer ## ]]\nOslo\n[[ ## completed ## ]]"


@pytest.fixture(autouse=True)
def _instrumented(spans: CapturedSpans) -> Iterator[None]:
    spancast.instrument()
    yield
    spancast.uninstrument()


def model(server: ReplayServer, name: str = "openai/m-1", **options: Any) -> Any:
    url = server.url if name.startswith("anthropic") else server.base_url
    return dspy.LM(name, api_base=url, api_key="k", cache=False, num_retries=0, **options)


def canned(path: str, text: str, *, stream: bool = False) -> Any:
    messages = [{"role": "user", "content": text}]
    body = {"model": "m-1", "stream": stream, "messages": messages, "input": text, "max_tokens": 9}
    return canned_answer(f"/v1{path}", body, serial=1, openrouter=False)


def test_call_is_one_span(server: ReplayServer, spans: CapturedSpans) -> None:
    with spancast.trace(session_id="s-1"):
        assert model(server)("hi")
    found = attributes(spans.one())
    assert spans.one().name == "chat m-1"
    assert found["gen_ai.input.messages"][0]["parts"] == [{"type": "text", "content": "hi"}]
    assert found["gen_ai.usage.input_tokens"]
    assert found["session.id"] == "s-1"
    assert server.requests[0].headers["user-agent"].startswith("lm15")


def test_module_sync_and_async_is_one_span_per_request(server: ReplayServer, spans: CapturedSpans) -> None:
    server.reply("/chat/completions", *[Reply.json(canned("/chat/completions", ANSWER).answer)] * 2)
    with dspy.context(lm=model(server), adapter=dspy.ChatAdapter()):
        predict = dspy.Predict("question -> answer")
        assert predict(question="?").answer == "Oslo"
        assert asyncio.run(predict.acall(question="?")).answer == "Oslo"
    assert len(spans.calls()) == len(server.requests) == 2
    assert all(attributes(span)["gen_ai.response.finish_reasons"] == ["stop"] for span in spans.calls())


def test_stream_is_one_span(server: ReplayServer, spans: CapturedSpans) -> None:
    events = canned("/chat/completions", ANSWER, stream=True).events
    server.reply("/chat/completions", Reply.stream(events))

    async def read() -> list[Any]:
        listener = dspy.streaming.StreamListener(signature_field_name="answer")
        stream = dspy.streamify(dspy.Predict("question -> answer"), stream_listeners=[listener])
        return [chunk async for chunk in stream(question="?")]

    with dspy.context(lm=model(server), adapter=dspy.ChatAdapter()):
        assert asyncio.run(read())
    found = attributes(spans.one())
    assert found["gen_ai.output.messages"][0]["parts"][0]["content"] == ANSWER
    assert "gen_ai.response.time_to_first_chunk" in found


def test_other_apis_are_recorded(server: ReplayServer, spans: CapturedSpans) -> None:
    model(server, model_type="responses", temperature=None, max_tokens=None)("hi")
    model(server, "anthropic/claude-m")("hi")
    first, second = map(attributes, spans.calls())
    assert first["openai.api.type"] == "responses"
    assert second["gen_ai.request.model"] == "claude-m"
    assert second["gen_ai.usage.output_tokens"]


def test_error_is_a_failed_span(server: ReplayServer, spans: CapturedSpans) -> None:
    server.reply(Reply.error(429))
    with pytest.raises(Exception, match=r"."):
        model(server)("hi")
    assert not spans.one().status.is_unset
    assert attributes(spans.one())["spancast.response.status_code"] == 429
