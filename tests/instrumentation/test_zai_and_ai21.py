from __future__ import annotations

from typing import Any

import pytest

import spancast
from spancast.dialects.openai_chat.answers import chat_answer, chat_chunks
from spancast.testing import CapturedSpans, ReplayServer, Reply
from spancast.testing.spans import attributes

MESSAGES: list[Any] = [{"role": "user", "content": "hi"}]
REFUSED = {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}


@pytest.fixture(params=["zai", "ai21"])
def client(request: pytest.FixtureRequest, server: ReplayServer) -> Any:
    sdk = pytest.importorskip(request.param)
    if request.param == "zai":
        with sdk.ZaiClient(api_key="a.b", base_url=server.base_url, max_retries=1) as made:
            yield spancast.instrument(made)
    else:
        made = sdk.AI21Client(api_key="test", api_host=server.base_url, num_retries=2)
        yield spancast.instrument(made)
        made._client.close()


def call(client: Any, **options: Any) -> Any:
    messages = MESSAGES
    if type(client).__name__ == "AI21Client":
        from ai21.models.chat import UserMessage

        messages = [UserMessage(content="hi")]
    return client.chat.completions.create(model="m-1", messages=messages, **options)


def test_code_of_the_provider_is_the_error_type_after_retries(
    client: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    server.reply(*(Reply.error(429, REFUSED, headers={"retry-after": "0"}) for _ in range(2)))
    with pytest.raises(Exception, match="slow down"):
        call(client)
    assert len(server.requests) == 2
    found = attributes(spans.one())
    assert (found["error.type"], found["spancast.response.status_code"]) == ("rate_limit_exceeded", 429)


def test_stream_and_unknown_fields_are_recorded(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    answer = chat_answer("Hello world", model="m-1", tool_calls=[("weather", {"city": "Oslo"})])
    server.reply(Reply.stream([{**chunk, "something_new": "kept"} for chunk in chat_chunks(answer)]))
    assert list(call(client, stream=True, session_id="chat-42", trace={"feature": "billing"}))
    assert "trace" not in server.requests[0].body
    found = attributes(spans.one())
    assert found["gen_ai.provider.name"] == ("ai21" if type(client).__name__ == "AI21Client" else "z_ai")
    assert [part["type"] for part in found["gen_ai.output.messages"][0]["parts"]] == ["text", "tool_call"]
    assert (found["spancast.response.something_new"], found["gen_ai.usage.output_tokens"]) == ("kept", 10)
    assert (found["session.id"], found["trace.metadata.feature"]) == ("chat-42", "billing")
    assert "spancast.response.incomplete" not in found


@pytest.mark.parametrize("is_whole", [True, False])
async def test_chunk_that_the_sdk_rejects_is_the_error_of_an_asynchronous_call(
    is_whole: bool, server: ReplayServer, spans: CapturedSpans
) -> None:
    ai21 = pytest.importorskip("ai21")
    from ai21.errors import StreamingDecodeError
    from ai21.models.chat import UserMessage

    server.reply(Reply.stream([*chat_chunks(chat_answer("Hello world", model="m-1"))[:3], "no event\n\n"]))
    target = None if is_whole else ai21.AsyncAI21Client(api_key="test", api_host=server.base_url)
    spancast.instrument("ai21" if target is None else target)
    made = target or ai21.AsyncAI21Client(api_key="test", api_host=server.base_url)
    stream = await made.chat.completions.create(model="m-1", messages=[UserMessage(content="hi")], stream=True)
    with pytest.raises(StreamingDecodeError):
        _ = [chunk async for chunk in stream]
    found = attributes(spans.one())
    assert found["error.type"] == "ai21.StreamingDecodeError"
    assert found["spancast.response.incomplete"] == "failed"
    assert found["gen_ai.output.messages"][0]["parts"][0]["content"].startswith("Hello")
    await stream.close()
    await made._client.aclose()
