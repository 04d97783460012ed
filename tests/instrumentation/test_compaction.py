from __future__ import annotations

import openai
import pytest

import spancast
from spancast.testing import CapturedSpans, ReplayServer, Reply
from spancast.testing.spans import attributes


@pytest.mark.parametrize("is_raw", [True, False])
def test_compaction_of_a_conversation_is_a_call_that_ends_with_it(
    server: ReplayServer, spans: CapturedSpans, *, is_raw: bool
) -> None:
    with openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0) as client:
        responses = spancast.instrument(client).responses
        compact = (responses.with_raw_response if is_raw else responses).compact
        answer = compact(model="m-1", input="hi", trace={"feature": "x"}, session_id="s-1")
    assert type(answer.parse() if is_raw else answer).__name__ == "CompactedResponse"
    assert server.requests[0].body == {"model": "m-1", "input": "hi"}
    span = spans.one()
    assert (span.name, span.status.is_unset) == ("chat m-1", True)
    assert (
        attributes(span).items()
        >= {
            "gen_ai.response.id": "resp_1",
            "gen_ai.response.finish_reasons": ["compaction"],
            "gen_ai.usage.input_tokens": 9,
            "gen_ai.input.messages": [{"role": "user", "parts": [{"type": "text", "content": "hi"}]}],
            "session.id": "s-1",
            "trace.metadata.feature": "x",
        }.items()
    )


async def test_refused_compaction_is_an_error(server: ReplayServer, spans: CapturedSpans) -> None:
    server.reply(Reply.error(429))
    async with openai.AsyncOpenAI(base_url=server.base_url, api_key="k", max_retries=0) as client:
        with pytest.raises(openai.RateLimitError):
            await spancast.instrument(client).responses.compact(model="m-1", input="hi", session_id="s-1")
    found = attributes(spans.one())
    assert (found["error.type"], found["session.id"]) == ("rate_limit_exceeded", "s-1")
