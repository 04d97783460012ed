"""Streams that the caller reads unparsed: under any content type, and in the event stream of AWS (Bedrock)."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from typing import Any

import anthropic
import openai
import pytest

import spancast
from spancast.dialects.anthropic_messages.answers import messages_answer, messages_events
from spancast.dialects.openai_chat.answers import chat_answer, chat_chunks
from spancast.testing import CapturedSpans, ReplayServer, Reply
from spancast.testing.spans import attributes

USER = [{"role": "user", "content": "hi"}]
TEXT = [{"role": "assistant", "parts": [{"type": "text", "content": "Hello there"}], "finish_reason": "stop"}]


def http(body: bytes, content_type: str) -> Reply:
    kind = f"content-type: {content_type}\r\n" if content_type else ""
    return Reply.raw(f"HTTP/1.1 200 OK\r\n{kind}content-length: {len(body)}\r\n\r\n".encode() + body)


def sse(events: list[dict[str, Any]]) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def frame(event: dict[str, Any], exception: bytes = b"") -> bytes:
    wrapped = event if exception else {"bytes": base64.b64encode(json.dumps(event).encode()).decode()}
    payload = json.dumps(wrapped).encode()
    headers = [(b":event-type", b"chunk"), (b":message-type", b"event")]
    if exception:
        headers = [(b":exception-type", exception), (b":message-type", b"exception")]
    head = b""
    for name, value in headers:
        head += bytes([len(name)]) + name + b"\x07" + struct.pack(">H", len(value)) + value
    prelude = struct.pack(">II", 16 + len(head) + len(payload), len(head))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + head + payload
    return message + struct.pack(">I", zlib.crc32(message))


def bedrock(server: ReplayServer) -> Any:
    made = anthropic.AnthropicBedrock(
        aws_region="us-east-1", aws_access_key="a", aws_secret_key="s", base_url=server.base_url, max_retries=0
    )
    return spancast.instrument(made)


@pytest.mark.parametrize("content_type", ["text/event-stream", "application/json", "text/plain; charset=utf-8", ""])
def test_raw_stream_of_any_content_type_is_recorded(
    content_type: str, spans: CapturedSpans, server: ReplayServer
) -> None:
    client = spancast.instrument(openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0))
    server.reply(http(sse(chat_chunks(chat_answer("Hello there"))) + b"data: [DONE]\n\n", content_type))
    raw = client.chat.completions.with_raw_response.create(model="m", messages=USER, stream=True)
    assert "".join(one.choices[0].delta.content or "" for one in raw.parse() if one.choices) == "Hello there"
    found = attributes(spans.one())
    assert found["gen_ai.output.messages"] == TEXT
    assert "spancast.response.incomplete" not in found


def test_raw_json_with_a_byte_order_mark_is_no_stream(spans: CapturedSpans, server: ReplayServer) -> None:
    client = spancast.instrument(openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0))
    body = "\ufeff".encode() + json.dumps(chat_answer("Hello there")).encode()
    server.reply(http(body, "application/json"))
    with client.chat.completions.with_streaming_response.create(model="m", messages=USER) as raw:
        assert raw.read() == body
    found = attributes(spans.one())
    assert found["gen_ai.output.messages"] == TEXT
    assert "gen_ai.request.stream" not in found


@pytest.mark.parametrize("is_raw", [False, True])
def test_exception_in_a_bedrock_stream_is_recorded_parsed_and_raw(
    is_raw: bool, spans: CapturedSpans, server: ReplayServer
) -> None:
    client = bedrock(server)
    received = b"".join(map(frame, messages_events(messages_answer("Hello there"))[:4]))
    server.reply(
        http(
            received + frame({"message": "Too many tokens"}, b"throttlingException"),
            "application/vnd.amazon.eventstream",
        )
    )
    if is_raw:
        with client.messages.with_streaming_response.create(
            model="anthropic.claude-x", max_tokens=9, messages=USER, stream=True
        ) as raw:
            raw.read()
    else:
        stream = client.messages.create(model="anthropic.claude-x", max_tokens=9, messages=USER, stream=True)
        with pytest.raises(anthropic.APIStatusError):
            list(stream)
    found = attributes(spans.one())
    assert found["error.type"] == "throttlingException"
    assert found["gen_ai.output.messages"][0]["parts"][0]["content"].startswith("Hello")
    assert "Too many tokens" in str(spans.one().status.description)


@pytest.mark.parametrize("is_raw", [False, True])
def test_error_event_has_the_same_type_parsed_and_raw(is_raw: bool, spans: CapturedSpans, server: ReplayServer) -> None:
    client = spancast.instrument(anthropic.Anthropic(base_url=server.url, api_key="k", max_retries=0))
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": "req_1"}
    server.reply(Reply.stream([*messages_events(messages_answer("Hello there"))[:4], error]))
    if is_raw:
        with client.messages.with_streaming_response.create(model="m", max_tokens=9, messages=USER, stream=True) as raw:
            raw.read()
    else:
        stream = client.messages.create(model="m", max_tokens=9, messages=USER, stream=True)
        with pytest.raises(anthropic.APIStatusError):
            list(stream)
    found = attributes(spans.one())
    assert found["error.type"] == "overloaded_error"
    assert found["spancast.response.incomplete"] == "failed"
    assert found["spancast.response.request_id"] == "req_1"
    assert found["gen_ai.output.messages"][0]["parts"][0]["content"].startswith("Hello")


@pytest.mark.parametrize("is_raw", [False, True])
def test_bedrock_stream_is_recorded_parsed_and_raw(is_raw: bool, spans: CapturedSpans, server: ReplayServer) -> None:
    client = bedrock(server)
    body = b"".join(map(frame, messages_events(messages_answer("Hello there"))))
    server.reply(http(body, "application/vnd.amazon.eventstream"))
    messages = client.messages.with_raw_response if is_raw else client.messages
    result = messages.create(model="anthropic.claude-x", max_tokens=9, messages=USER, stream=True)
    list(result.parse() if is_raw else result)
    found = attributes(spans.one())
    assert found["gen_ai.output.messages"] == TEXT
    assert found["gen_ai.request.stream"] is True
    assert found["gen_ai.usage.output_tokens"] == 10
    assert "spancast.response.incomplete" not in found


def test_stream_that_ends_cleanly_without_a_finish_reason_is_cut(spans: CapturedSpans, server: ReplayServer) -> None:
    client = spancast.instrument(openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0))
    server.reply(http(sse(chat_chunks(chat_answer("Hello there"), pieces=4)[:3]), "text/event-stream"))
    list(client.chat.completions.create(model="m", messages=USER, stream=True))
    span = spans.one()
    found = attributes(span)
    assert found["spancast.response.incomplete"] == "cut"
    assert found["gen_ai.response.finish_reasons"] == ["error"]
    assert found["error.type"] == "incomplete_stream"
    assert span.status.status_code.name == "ERROR"
    assert found["gen_ai.output.messages"][0]["parts"][0]["content"]


@pytest.mark.parametrize("is_raw", [False, True])
def test_stream_of_a_server_without_finish_reasons_is_complete_with_its_end_marker(
    is_raw: bool, spans: CapturedSpans, server: ReplayServer
) -> None:
    client = spancast.instrument(openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0))
    events = sse(chat_chunks(chat_answer("Hello there"), pieces=4)[:3])
    server.reply(http(events + b"data: [DONE]\n\n", "text/event-stream"))
    completions = client.chat.completions
    if is_raw:
        with completions.with_streaming_response.create(model="m", messages=USER, stream=True) as raw:
            raw.read()
    else:
        list(completions.create(model="m", messages=USER, stream=True))
    span = spans.one()
    found = attributes(span)
    assert "gen_ai.response.finish_reasons" not in found
    assert "spancast.response.incomplete" not in found
    assert span.status.status_code.name == "UNSET"
    assert found["gen_ai.output.messages"][0]["parts"][0]["content"]


WHOLE = json.dumps(chat_answer("Hello there")).encode()
REFUSED = json.dumps({"error": {"message": "over capacity", "code": "overloaded"}}).encode()


@pytest.mark.parametrize("hides_usage", [False, True])
def test_stream_that_is_answered_whole_has_the_answer(
    hides_usage: bool, spans: CapturedSpans, server: ReplayServer
) -> None:
    spancast.configure(tracer_provider=spans.provider, request_stream_usage=hides_usage)
    client = spancast.instrument(openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0))
    server.reply(http(WHOLE, "application/json; charset=utf-8"))
    # The SDK makes no chunk of it.
    assert list(client.chat.completions.create(model="m", messages=USER, stream=True)) == []
    found = attributes(spans.one())
    assert found["gen_ai.output.messages"] == TEXT
    assert found["gen_ai.usage.input_tokens"] == 25
    assert found["gen_ai.request.stream"] is True
    assert "spancast.response.incomplete" not in found


async def test_async_stream_that_is_answered_with_an_error_has_failed(
    spans: CapturedSpans, server: ReplayServer
) -> None:
    server.reply(http(REFUSED, "application/json"))
    async with spancast.instrument(openai.AsyncOpenAI(base_url=server.base_url, api_key="k", max_retries=0)) as client:
        stream = await client.chat.completions.create(model="m", messages=USER, stream=True)
        assert [chunk async for chunk in stream] == []
    found = attributes(spans.one())
    assert found["error.type"] == "overloaded"


def test_stream_of_the_content_type_json_is_recorded(spans: CapturedSpans, server: ReplayServer) -> None:
    client = spancast.instrument(openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0))
    server.reply(http(sse(chat_chunks(chat_answer("Hello there"))) + b"data: [DONE]\n\n", "application/json"))
    stream = client.chat.completions.create(model="m", messages=USER, stream=True)
    assert "".join(one.choices[0].delta.content or "" for one in stream if one.choices) == "Hello there"
    found = attributes(spans.one())
    assert found["gen_ai.output.messages"] == TEXT
    assert "spancast.response.incomplete" not in found
