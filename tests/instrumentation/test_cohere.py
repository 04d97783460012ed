from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import spancast
from spancast.testing import CapturedSpans, ReplayServer, Reply
from spancast.testing.spans import attributes

cohere = pytest.importorskip("cohere")
RECORDINGS = Path(__file__).parents[1] / "recordings"
MESSAGES: list[Any] = [{"role": "user", "content": "hi"}]
KEYS: dict[str, Any] = {"session_id": "chat-42", "trace": {"generation_name": "classify", "feature": "billing"}}


def recording(name: str) -> dict[str, Any]:
    return json.loads((RECORDINGS / f"{name}.json").read_text())


@pytest.fixture
def client(server: ReplayServer) -> Any:
    with cohere.ClientV2("test", base_url=server.url) as made:
        yield spancast.instrument(made)


def test_tool_calls_plan_thinking_and_citations_are_recorded(
    client: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    case = recording("cohere_chat/tools.stream")
    server.reply(Reply.stream(case["stream"]))
    list(client.chat_stream(**{name: value for name, value in case["request"].items() if name != "stream"}))
    found = attributes(spans.one())
    [message] = found["gen_ai.output.messages"]
    assert message["parts"] == [
        {"type": "reasoning", "content": "I will look."},
        {"type": "reasoning", "content": "They want weather."},
        {"type": "text", "content": "Looking."},
        {"type": "tool_call", "id": "weather_1", "name": "weather", "arguments": {"city": "Oslo"}},
    ]
    assert message["citations"][0]["text"] == "Looking"
    assert (
        found.items()
        >= {
            "gen_ai.provider.name": "cohere",
            "gen_ai.request.top_k": 5,
            "gen_ai.request.top_p": 0.9,
            "gen_ai.request.stop_sequences": ["END"],
            "gen_ai.request.stream": True,
            "gen_ai.response.finish_reasons": ["tool_calls"],
            "spancast.response.native_finish_reasons": ["TOOL_CALL"],
            # Billed, not consumed.
            "gen_ai.usage.input_tokens": 15,
            "gen_ai.usage.output_tokens": 9,
            "spancast.usage.tokens.input_tokens": 71,
        }.items()
    )


def test_retries_are_inside_one_span(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    server.reply(Reply.error(503, headers={"retry-after": "0"}), Reply.error(503, headers={"retry-after": "0"}))
    client.chat(model="m-1", messages=MESSAGES)
    assert len(server.requests) == 3
    assert spans.one().status.is_unset


def test_raw_stream_is_recorded(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    with client.with_raw_response.chat_stream(model="m-1", messages=MESSAGES, **KEYS) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        chunks = list(response.data)
    assert "trace" not in server.requests[0].body
    span = spans.one()
    assert (span.name, len(chunks)) == ("classify", 6)
    assert attributes(span)["gen_ai.output.messages"][0]["parts"] == [{"type": "text", "content": "hi"}]
    assert "spancast.response.incomplete" not in attributes(span)


def test_exception_of_the_caller_in_a_raw_stream_is_the_failure_of_the_span(client: Any, spans: CapturedSpans) -> None:
    def read() -> None:
        with client.with_raw_response.chat_stream(model="m-1", messages=MESSAGES) as response:
            next(response.data)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        read()
    assert attributes(spans.one())["error.type"] == "ZeroDivisionError"


def test_error_inside_a_stream_is_the_failure_of_the_span(
    client: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    server.reply(Reply.stream(recording("cohere_chat/timeout.stream")["stream"]))
    list(client.chat_stream(model="m-1", messages=MESSAGES))
    span = spans.one()
    assert not span.status.is_unset
    assert attributes(span)["gen_ai.response.finish_reasons"] == ["error"]


def test_keys_in_the_body_parameters_and_session_header_are_read(
    client: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    options = {
        "additional_body_parameters": {"trace": {"feature": "billing"}, "other": 1},
        "additional_headers": {"x-session-id": "chat-7"},
    }
    client.chat(model="m-1", messages=MESSAGES, request_options=options)
    assert server.requests[0].body.keys() == {"model", "messages", "stream", "other"}
    assert options["additional_body_parameters"] == {"trace": {"feature": "billing"}, "other": 1}
    found = attributes(spans.one())
    assert (found["session.id"], found["trace.metadata.feature"]) == ("chat-7", "billing")


def test_version_1_chat_stream_and_embed_are_recorded(server: ReplayServer, spans: CapturedSpans) -> None:
    whole, stream = recording("cohere_chat_v1/whole"), recording("cohere_chat_v1/text.stream")
    server.reply("/v1/chat", Reply.json(whole["response"]), Reply.stream(stream["stream"], ndjson=True))
    with cohere.Client("test", base_url=server.url) as made:
        client = spancast.instrument(made)
        client.chat(
            message="hi", model="m-1", preamble="Brief.", chat_history=[{"role": "USER", "message": "a"}], **KEYS
        )
        list(client.chat_stream(message="hi", model="m-1"))
        client.embed(texts=["hi"], model="m-2", input_type="search_query", batching=False, **KEYS)
    chat, streamed, embed = (attributes(span) for span in spans.calls())
    assert [message["role"] for message in chat["gen_ai.input.messages"]] == ["system", "user", "user"]
    assert chat["gen_ai.usage.input_tokens"] == 3
    assert streamed["gen_ai.output.messages"][0]["parts"] == [{"type": "text", "content": "Hello"}]
    assert "spancast.response.incomplete" not in streamed
    assert (embed["gen_ai.operation.name"], embed["gen_ai.usage.input_tokens"]) == ("embeddings", 1)
    assert all("trace" not in request.body for request in server.requests)


RERANKED = {"id": "r-1", "results": [{"index": 0, "relevance_score": 0.5}]}
GENERATED = {"id": "g-1", "prompt": "hi", "generations": [{"id": "1", "text": "Hello"}]}


async def test_keys_of_a_method_that_is_not_recorded_are_removed_and_counted(
    client: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    before = spancast.stats().keys_not_traced
    server.reply("/rerank", *[Reply.json(RERANKED)] * 2)
    server.reply("/generate", Reply.json(GENERATED))
    asked: dict[str, Any] = {"model": "rerank-1", "query": "hi", "documents": ["a"]}
    assert client.rerank(**asked, **KEYS).results[0].relevance_score == 0.5
    spancast.instrument("cohere")
    try:
        with cohere.Client("test", base_url=server.url) as first:
            assert first.generate(prompt="hi", **KEYS).generations[0].text == "Hello"
        async with cohere.AsyncClientV2("test", base_url=server.url) as second:
            assert (await second.rerank(**asked, **KEYS)).results[0].relevance_score == 0.5
    finally:
        spancast.uninstrument("cohere")
    assert [request.body.keys() & KEYS.keys() for request in server.requests] == [set()] * 3
    assert spancast.stats().keys_not_traced == before + 3
    assert spans.all() == []
