from __future__ import annotations

from typing import Any

import pytest

import spancast
from spancast.dialects.openai_chat.answers import chat_answer, chat_chunks
from spancast.testing import CapturedSpans, ReplayServer, Reply
from spancast.testing.spans import attributes

huggingface_hub = pytest.importorskip("huggingface_hub")
MESSAGES: list[Any] = [{"role": "user", "content": "hi"}]


@pytest.fixture
def client(server: ReplayServer) -> Any:
    with huggingface_hub.InferenceClient(base_url=server.url, api_key="k") as made:
        yield spancast.instrument(made)


def test_stream_read_to_its_end_marker_is_complete(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    answer = chat_answer("Hello world", model="m-1", reasoning="Think.", tool_calls=[("weather", {"city": "Oslo"})])
    server.reply(Reply.stream(chat_chunks(answer)))
    list(client.chat_completion(MESSAGES, model="m-1", stream=True))
    span = spans.one()
    found = attributes(span)
    assert span.status.is_unset
    assert "spancast.response.incomplete" not in found
    assert found["gen_ai.output.messages"] == [
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "Think."},
                {"type": "text", "content": "Hello world"},
                {"type": "tool_call", "id": "call_1", "name": "weather", "arguments": {"city": "Oslo"}},
            ],
            "finish_reason": "tool_call",
        }
    ]
    assert found["gen_ai.usage.output_tokens"] == 10
    assert found["gen_ai.provider.name"] == "hugging_face"


def test_error_in_a_stream_is_the_failure_of_the_span(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    chunks = chat_chunks(chat_answer("Hello world", model="m-1"))[:2]
    server.reply(Reply.stream([*chunks, {"error": "Model is overloaded", "error_type": "overloaded"}], done=False))
    with pytest.raises(huggingface_hub.errors.OverloadedError):
        list(client.chat_completion(MESSAGES, model="m-1", stream=True))
    span = spans.one()
    assert attributes(span)["error.type"] == "overloaded"
    assert not span.status.is_unset


def test_refused_call_has_status_and_type_of_the_server(
    client: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    server.reply(Reply.error(422, {"error": "Input validation error", "error_type": "validation"}))
    with pytest.raises(huggingface_hub.errors.HfHubHTTPError):
        client.chat_completion(MESSAGES, model="m-1")
    found = attributes(spans.one())
    assert (found["error.type"], found["spancast.response.status_code"]) == ("validation", 422)


def test_other_tasks_are_not_recorded_and_not_changed(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    server.reply(Reply.json([{"generated_text": "Hi."}]))
    assert client.text_generation("hi", model=server.url) == "Hi."
    assert spans.all() == []
