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
    server.reply(Reply.json([{"summary_text": "Hi."}]))
    assert client.summarization("hi", model=server.url).summary_text == "Hi."
    assert spans.all() == []


KEYS: dict[str, Any] = {
    "session_id": "chat-42", "trace": {"trace_name": "Support", "generation_name": "classify", "feature": "billing"},
}  # fmt: skip
DETAILS = {"finish_reason": "eos_token", "generated_tokens": 2, "seed": 1, "prefill": [], "tokens": []}
TOKENS: list[Any] = [
    {"index": 1, "token": {"id": 1, "text": "Hi", "logprob": -0.1, "special": False}},
    {
        "index": 2, "token": {"id": 2, "text": "!", "logprob": -0.1, "special": False}, "generated_text": "Hi!",
        "details": {"finish_reason": "length", "generated_tokens": 2, "input_length": 3, "seed": None},
    },
]  # fmt: skip


@pytest.fixture
def endpoint(server: ReplayServer) -> Any:
    with huggingface_hub.InferenceClient(model=f"{server.url}/mine", token="k") as made:
        yield spancast.instrument(made)


def test_text_generation_has_one_span_and_its_keys_are_not_sent(
    endpoint: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    server.reply(Reply.json([{"generated_text": "Hi.", "details": DETAILS}]))
    answer = endpoint.text_generation("hi", details=True, max_new_tokens=5, **KEYS)
    assert answer.generated_text == "Hi."
    assert server.requests[0].body == {"inputs": "hi", "parameters": {"details": True, "max_new_tokens": 5}}
    assert spans.tree() == {"Support": {"classify": {}}}
    found = attributes(spans.calls()[0])
    assert (
        found.items()
        >= {
            "gen_ai.operation.name": "text_completion",
            "gen_ai.provider.name": "hugging_face",
            "gen_ai.request.max_tokens": 5,
            "gen_ai.response.finish_reasons": ["stop"],
            "gen_ai.usage.output_tokens": 2,
            "session.id": "chat-42",
        }.items()
    )
    assert found["gen_ai.input.messages"] == [{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]
    assert found["gen_ai.output.messages"][0]["parts"] == [{"type": "text", "content": "Hi."}]
    assert "gen_ai.request.model" not in found


def test_stream_of_text_generation_is_assembled(endpoint: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    server.reply(Reply.stream(TOKENS, done=False))
    assert list(endpoint.text_generation("hi", stream=True, **KEYS)) == ["Hi", "!"]
    found = attributes(spans.calls()[0])
    assert found["gen_ai.output.messages"][0]["parts"] == [{"type": "text", "content": "Hi!"}]
    assert found["gen_ai.response.finish_reasons"] == ["length"]
    assert (found["gen_ai.usage.input_tokens"], found["gen_ai.usage.output_tokens"]) == (3, 2)
    assert found["session.id"] == "chat-42"
    assert "spancast.response.incomplete" not in found


def test_vectors_are_not_recorded(endpoint: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    pytest.importorskip("numpy")
    server.reply(Reply.json([[0.125, -0.5], [0.25, 0.5]]))
    assert endpoint.feature_extraction(["a", "b"], normalize=True, **KEYS).shape == (2, 2)
    assert server.requests[0].body == {"inputs": ["a", "b"], "normalize": True}
    found = attributes(spans.calls()[0])
    assert found["gen_ai.operation.name"] == "embeddings"
    assert found["gen_ai.embeddings.dimension.count"] == 2
    assert [message["parts"][0]["content"] for message in found["gen_ai.input.messages"]] == ["a", "b"]
    assert "0.125" not in str(found)


async def test_async_text_generation_is_recorded(server: ReplayServer, spans: CapturedSpans) -> None:
    async with huggingface_hub.AsyncInferenceClient(model=f"{server.url}/mine", token="k") as client:
        spancast.instrument(client)
        server.reply(Reply.json({"generated_text": "Hi."}), Reply.stream(TOKENS, done=False))
        assert await client.text_generation("hi", **KEYS) == "Hi."
        stream = await client.text_generation("hi", stream=True, details=True, **KEYS)
        assert [chunk.token.text async for chunk in stream] == ["Hi", "!"]
    whole, streamed = (attributes(span) for span in spans.calls())
    assert whole["gen_ai.output.messages"][0]["parts"] == [{"type": "text", "content": "Hi."}]
    assert streamed["gen_ai.output.messages"][0]["parts"] == [{"type": "text", "content": "Hi!"}]
    assert whole["session.id"] == streamed["session.id"] == "chat-42"
