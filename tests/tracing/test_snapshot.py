"""What is recorded is what was sent and what arrived, whatever the caller does to the objects meanwhile."""

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


def test_messages_changed_while_the_answer_streams(spans: CapturedSpans):
    @spancast.instrument(dialect="openai_chat")
    def complete(**_body: Any) -> Iterator[ChatCompletionChunk]:
        yield chunk({"role": "assistant", "content": "he"})
        yield chunk({"content": "llo"}, "stop")

    messages = [{"role": "user", "content": "hi"}]
    for one in complete(model="m", messages=messages, stream=True):
        messages[0]["content"] = "something else"
        messages.append({"role": "assistant", "content": str(one.choices[0].delta.content)})
    span = spans.one()
    asked, said = (attributes(span)[f"gen_ai.{way}.messages"] for way in ("input", "output"))
    assert asked == [{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]
    assert said[0]["parts"] == [{"type": "text", "content": "hello"}]


def test_tool_calls_put_together_in_the_first_chunk(spans: CapturedSpans):
    # As OpenAI's documentation shows it.
    @spancast.instrument(dialect="openai_chat")
    def complete(**_body: Any) -> Iterator[ChatCompletionChunk]:
        yield chunk(call(0, "", name="look_up"))
        yield chunk(call(0, '{"a":'))
        yield chunk(call(0, "1}"), "tool_calls")

    calls: dict[int, Any] = {}
    for one in complete(model="m", messages=[], stream=True):
        for told in one.choices[0].delta.tool_calls or ():
            if told.index in calls:
                calls[told.index].function.arguments += told.function.arguments
            else:
                calls[told.index] = told
    span = spans.one()
    (part,) = attributes(span)["gen_ai.output.messages"][0]["parts"]
    assert calls[0].function.arguments == '{"a":1}'
    assert part["arguments"] == {"a": 1}
