"""Requests and responses are recorded as sent and received, even if the caller changes the objects."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from openai.types.chat import ChatCompletionChunk

import spancast
from spancast.testing import CapturedSpans
from spancast.testing.spans import attributes


def chunk(delta: dict[str, Any], reason: str | None = None) -> ChatCompletionChunk:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    head = {"id": "c1", "created": 1, "model": "m", "object": "chat.completion.chunk"}
    return ChatCompletionChunk.model_validate({**head, "choices": [choice]})


def call(index: int, arguments: str, **more: Any) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, "function": {"arguments": arguments, **more}}]}


def test_messages_changed_during_the_stream_are_recorded_as_sent(spans: CapturedSpans):
    @spancast.instrument(dialect="openai_chat")
    def complete(**_body: Any) -> Iterator[ChatCompletionChunk]:
        yield chunk({"role": "assistant", "content": "he"})
        yield chunk({"content": "llo"}, "stop")

    messages = [{"role": "user", "content": "hi"}]
    for one in complete(model="m", messages=messages, stream=True):
        messages[0]["content"] = "something else"
        messages.append({"role": "assistant", "content": str(one.choices[0].delta.content)})
    span = spans.one()
    inputs, outputs = (attributes(span)[f"gen_ai.{way}.messages"] for way in ("input", "output"))
    assert inputs == [{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]
    assert outputs[0]["parts"] == [{"type": "text", "content": "hello"}]


def test_tool_calls_assembled_in_the_first_chunk_are_recorded_as_received(spans: CapturedSpans):
    # The code of OpenAI's documentation.
    @spancast.instrument(dialect="openai_chat")
    def complete(**_body: Any) -> Iterator[ChatCompletionChunk]:
        yield chunk(call(0, "", name="look_up"))
        yield chunk(call(0, '{"a":'))
        yield chunk(call(0, "1}"), "tool_calls")

    calls: dict[int, Any] = {}
    for one in complete(model="m", messages=[], stream=True):
        for delta in one.choices[0].delta.tool_calls or ():
            if delta.index in calls:
                calls[delta.index].function.arguments += delta.function.arguments
            else:
                calls[delta.index] = delta
    span = spans.one()
    (part,) = attributes(span)["gen_ai.output.messages"][0]["parts"]
    assert calls[0].function.arguments == '{"a":1}'
    assert part["arguments"] == {"a": 1}
