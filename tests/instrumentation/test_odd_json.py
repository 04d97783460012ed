"""JSON that the SDKs accept and a strict parser rejects: the response is on the span, complete or streamed."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import openai
import openrouter
import pytest
from tests.contract.test_every_client import close, outcome
from tests.instrumentation.drivers import CHAT, MESSAGES_PATH, OF_EACH_MECHANISM, RESPONSES, Driver

import spancast
from spancast.dialects.anthropic_messages.answers import messages_answer, messages_events
from spancast.dialects.openai_chat.answers import chat_answer, chat_chunks
from spancast.dialects.openai_responses.answers import responses_answer, responses_events
from spancast.testing import CapturedSpans, ReplayServer, Reply
from spancast.testing.spans import attributes

MAKERS: dict[str, tuple[Any, Any]] = {
    CHAT: (chat_answer, chat_chunks),
    RESPONSES: (responses_answer, responses_events),
    MESSAGES_PATH: (messages_answer, messages_events),
}
TEXT = "Hello \ud83e world"
READ = "Hello ? world"
PLAIN = [
    driver
    for driver in OF_EACH_MECHANISM
    if driver.operation == "chat" and driver.stream != "helper" and "parse" not in driver.name
]

every_whole = pytest.mark.parametrize("driver", [d for d in PLAIN if not d.stream], ids=lambda driver: driver.id)
every_stream = pytest.mark.parametrize("driver", [d for d in PLAIN if d.stream], ids=lambda driver: driver.id)


def complete_reply(body: bytes) -> Reply:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    return Reply.raw(head + body)


def streamed(events: list[Any], *, before: bytes = b"") -> Reply:
    named = (b"event: " + e["type"].encode() + b"\n" if "type" in e else b"" for e in events)
    data = (b"data: " + json.dumps(e).encode() + b"\n\n" for e in events)
    body = b"".join(name + text for name, text in zip(named, data, strict=True))
    return Reply.sse(before + body + b"data: [DONE]\n\n")


def output_text(found: dict[str, Any]) -> str:
    (message,) = found["gen_ai.output.messages"]
    return "".join(part["content"] for part in message["parts"] if part["type"] == "text")


@every_whole
@pytest.mark.parametrize("odd", ["surrogate", "nan", "infinity", "mark"])
async def test_complete_response_with_odd_json_is_recorded(
    driver: Driver, odd: str, server: ReplayServer, spans: CapturedSpans
) -> None:
    if driver.sdk == "openrouter" and odd in ("surrogate", "mark"):
        pytest.skip("its own reader refuses it")
    answer = MAKERS[driver.path][0](TEXT if odd == "surrogate" else "Hello world", model="m-1")
    if odd in ("nan", "infinity"):
        answer["timings"] = {"took": float(odd)}
    mark = "\ufeff" if odd == "mark" else ""
    server.reply(complete_reply((mark + json.dumps(answer)).encode()))
    client = spancast.instrument(driver.make(server))
    await outcome(driver, client)
    await close(driver, client)
    found = attributes(spans.one())
    assert output_text(found) == (READ if odd == "surrogate" else "Hello world")
    assert found["gen_ai.response.id"] == answer["id"]
    assert found["gen_ai.usage.input_tokens"]
    assert "spancast.validation_errors" not in found
    str(found).encode()


@every_stream
@pytest.mark.parametrize("pieces", [3, 17])
async def test_stream_with_odd_json_is_recorded_completely(
    driver: Driver, pieces: int, server: ReplayServer, spans: CapturedSpans
) -> None:
    make, events_of = MAKERS[driver.path]
    text = "".join(f"{number} \ud83e " for number in range(40))
    server.reply(streamed(events_of(make(text, model="m-1"), pieces=pieces)))
    client = spancast.instrument(driver.make(server))
    with contextlib.suppress(openrouter.errors.ResponseValidationError):
        await outcome(driver, client)
    await close(driver, client)
    assert output_text(attributes(spans.one())) == text.replace("\ud83e", "?")


@every_stream
async def test_event_with_nan_is_recorded(driver: Driver, server: ReplayServer, spans: CapturedSpans) -> None:
    make, events_of = MAKERS[driver.path]
    events = [{**event, "timings": {"took": float("nan")}} for event in events_of(make("Hello world", model="m-1"))]
    server.reply(streamed(events))
    client = spancast.instrument(driver.make(server))
    await outcome(driver, client)
    await close(driver, client)
    assert output_text(attributes(spans.one())) == "Hello world"


async def test_stream_with_a_byte_order_mark_is_recorded(server: ReplayServer, spans: CapturedSpans) -> None:
    """OpenRouter's SDK skips it, as the format of server-sent events requires; openai reads it as part of a field name."""
    driver = next(driver for driver in OF_EACH_MECHANISM if driver.id == "openrouter-chat-stream")
    answer = chat_answer("Hello world", model="m-1")
    server.reply(streamed(chat_chunks(answer, pieces=2), before=b"\xef\xbb\xbf"))
    client = spancast.instrument(driver.make(server))
    chunks = await outcome(driver, client)
    await close(driver, client)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert output_text(attributes(spans.one())) == "Hello world"


def test_error_with_half_a_surrogate_pair_is_recorded(server: ReplayServer, spans: CapturedSpans) -> None:
    server.reply(streamed([{"error": {"message": TEXT, "code": "c"}}]))
    with openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0) as made:
        client = spancast.instrument(made)
        with pytest.raises(openai.APIError):
            list(client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}], stream=True))
    span = spans.one()
    assert span.status.description == READ
    assert READ in str(span.events[0].attributes).encode().decode()
