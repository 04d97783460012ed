from __future__ import annotations

from typing import Any

import pytest

import spancast
from spancast.dialects.openai_chat.answers import chat_answer, chat_chunks
from spancast.testing import CapturedSpans, ReplayServer, Reply
from spancast.testing.spans import attributes

inference = pytest.importorskip("azure.ai.inference")
MESSAGES: list[Any] = [{"role": "user", "content": "hi"}]


@pytest.fixture
def client(server: ReplayServer) -> Any:
    from azure.core.credentials import AzureKeyCredential

    credential = AzureKeyCredential("test")
    with inference.ChatCompletionsClient(server.url, credential, model="m-1", seed=7, retry_backoff_factor=0) as made:
        yield spancast.instrument(made)


def test_defaults_of_the_client_and_extras_are_recorded(
    client: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    client.complete(messages=MESSAGES, model_extras={"safe_prompt": True}, session_id="chat-42")
    assert server.requests[0].body.keys() == {"messages", "model", "seed", "safe_prompt"}
    span = spans.one()
    assert span.name == "chat m-1"
    assert (
        attributes(span).items()
        >= {
            "gen_ai.provider.name": "azure.ai.inference",
            "gen_ai.request.seed": 7,
            "spancast.request.safe_prompt": True,
            "session.id": "chat-42",
        }.items()
    )


def test_retries_are_inside_one_span_and_the_code_is_the_error_type(
    client: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    from azure.core.exceptions import HttpResponseError

    server.reply(Reply.error(503), Reply.error(400, {"error": {"code": "content_filter", "message": "no"}}))
    with pytest.raises(HttpResponseError):
        client.complete(messages=MESSAGES)
    assert len(server.requests) == 2
    found = attributes(spans.one())
    assert (found["error.type"], found["spancast.response.status_code"]) == ("content_filter", 400)


def test_stream_read_to_its_end_marker_is_complete(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    answer = chat_answer("Hello world", model="m-1", reasoning="Think.", tool_calls=[("weather", {"city": "Oslo"})])
    server.reply(Reply.stream(chat_chunks(answer)))
    with client.complete(messages=MESSAGES, stream=True) as stream:
        for _ in stream:
            pass
        found = attributes(spans.one())
    assert "spancast.response.incomplete" not in found
    assert [part["type"] for part in found["gen_ai.output.messages"][0]["parts"]] == ["reasoning", "text", "tool_call"]
    assert found["gen_ai.usage.output_tokens"] == 10
