"""Responses in the background: the call that begins one, those that fetch it, and stored prompts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

import spancast
from spancast.dialects.openai_responses.answers import responses_answer, responses_events
from spancast.testing import CapturedSpans, ReplayServer, Reply
from spancast.testing.spans import attributes
from spancast.tracing.stored_responses import StoredResponses

BEGIN: Any = {"model": "m-1", "input": "hi", "background": True}
USAGE = ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens")


@pytest.fixture
def client(server: ReplayServer) -> Iterator[Any]:
    with openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0) as made:
        yield spancast.instrument(made)


def response(response_id: str, status: str = "completed", **fields: Any) -> dict[str, Any]:
    answer = {**responses_answer("Hello there", model="m-1"), "id": response_id, "background": True, "status": status}
    return {**answer, **({} if status == "completed" else {"output": [], "usage": None}), **fields}


def test_response_in_the_background_is_completed_by_linked_spans(
    client: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    done = response("resp_a", instructions="Be brief.", tools=[{"type": "function", "name": "f", "parameters": {}}])
    server.reply(
        Reply.json(response("resp_a", "queued")), Reply.json(response("resp_a", "in_progress")),
        Reply.json(done), Reply.json(done),
    )  # fmt: skip
    client.responses.create(**BEGIN)
    for _ in range(3):
        client.responses.retrieve("resp_a", session_id="s-1", trace={"customer": "c"})
    begun, poll, complete, again = spans.calls()

    assert begun.name == "chat m-1"
    assert attributes(begun)["spancast.response.status"] == "queued"
    for fetch in (poll, complete, again):
        assert fetch.name == "fetch_response"
        assert [link.context for link in fetch.links] == [begun.get_span_context()]
        found = attributes(fetch)
        assert found["gen_ai.operation.name"] == "fetch_response"
        assert found["gen_ai.response.id"] == "resp_a"
        assert found["gen_ai.response.model"] == "m-1"
        assert found["openai.api.type"] == "responses"
        assert found["session.id"] == "s-1"
        assert found["trace.metadata.customer"] == "c"
        assert "gen_ai.input.messages" not in found
    assert attributes(poll)["gen_ai.response.status"] == "in_progress"
    assert "gen_ai.response.finish_reasons" not in attributes(poll)
    for fetch in (complete, again):
        found = attributes(fetch)
        assert found["gen_ai.response.status"] == "completed"
        assert found["gen_ai.response.finish_reasons"] == ["stop"]
        assert found["gen_ai.output.messages"][0]["parts"][0]["content"] == "Hello there"
        assert found["gen_ai.system_instructions"] == [{"type": "text", "content": "Be brief."}]
        assert found["gen_ai.tool.definitions"] == [{"type": "function", "name": "f", "parameters": {}}]
    # Sums over spans are right: the usage is on the first span that has it.
    assert [USAGE[0] in attributes(span) for span in (begun, poll, complete, again)] == [False, False, True, False]
    assert [USAGE[1] in attributes(span) for span in (begun, poll, complete, again)] == [False, False, True, False]


def test_request_that_fetches_a_response_has_no_trace_keys(
    client: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    server.reply(Reply.json(response("resp_b")))
    client.responses.retrieve("resp_b", include=["x"], session_id="s", trace={"a": "b"})
    (request,) = server.requests
    assert request.method == "GET"
    assert request.raw == b""
    assert attributes(spans.one())["spancast.request.include"] == ["x"]


@pytest.mark.parametrize("is_async", [False, True])
async def test_resumed_stream_is_linked_to_the_call_that_began_it(
    is_async: bool, client: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    events = responses_events(response("resp_c"), pieces=4)
    server.reply(Reply.stream(events), Reply.stream(events[5:]))
    last = 0
    if is_async:
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key="k", max_retries=0) as made:
            mine: Any = spancast.instrument(made)
            async with await mine.responses.create(**BEGIN, stream=True) as stream:
                async for event in stream:
                    last = event.sequence_number
                    if event.type == "response.output_text.delta":
                        break
            async for _ in await mine.responses.retrieve("resp_c", stream=True, starting_after=last):
                pass
    else:
        with client.responses.create(**BEGIN, stream=True) as stream:
            for event in stream:
                last = event.sequence_number
                if event.type == "response.output_text.delta":
                    break
        list(client.responses.retrieve("resp_c", stream=True, starting_after=last))
    begun, fetch = spans.calls()
    assert attributes(begun)["spancast.response.incomplete"] == "closed"
    found = attributes(fetch)
    assert [link.context for link in fetch.links] == [begun.get_span_context()]
    assert found["gen_ai.request.stream_cursor"] == str(last)
    assert found["gen_ai.request.stream"] is True
    assert found["gen_ai.output.messages"][0]["parts"][0]["content"] == "Hello there"
    assert found["gen_ai.response.time_to_first_chunk"] > 0
    assert found["gen_ai.usage.output_tokens"]


def test_response_that_cannot_be_fetched_has_its_id(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    error = {"error": {"message": "No such response.", "type": "invalid_request_error", "code": "not_found"}}
    server.reply(Reply.error(404, error), Reply.error(404, error))
    for _ in range(2):
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve("resp_d")
    for span in spans.calls():
        found = attributes(span)
        assert found["gen_ai.response.id"] == "resp_d"
        assert found["error.type"] == "not_found"
        assert not span.links


def test_other_requests_below_the_path_of_responses_are_not_recorded(
    client: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    server.reply(Reply.json({"object": "list", "data": [], "has_more": False}))
    assert list(client.responses.input_items.list("resp_e")) == []
    assert not spans.calls()


def test_fetched_response_without_content_has_none(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    spancast.configure(capture_content=False, tracer_provider=spans.provider)
    server.reply(Reply.json(response("resp_f", instructions="secret", metadata={"a": "secret"})))
    client.responses.retrieve("resp_f")
    found = attributes(spans.one())
    assert found["gen_ai.response.id"] == "resp_f"
    assert found["gen_ai.response.status"] == "completed"
    assert not [name for name, value in found.items() if "secret" in str(value) or "Hello" in str(value)]


def test_messages_model_and_names_of_a_stored_prompt_are_recorded(
    client: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    template = [
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Be terse."}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Weather in Paris?"}]},
    ]
    prompt = {"id": "pmpt_1", "version": "2", "variables": {"city": "Paris"}}
    tool = {"type": "function", "name": "f", "parameters": {}}
    server.reply(
        Reply.json(response("resp_g", prompt=prompt, instructions=template, tools=[tool], temperature=0.5))
    )  # fmt: skip
    client.responses.create(prompt={"id": "pmpt_1", "variables": {"city": "Paris"}}, input="hi")
    found = attributes(spans.one())
    assert found["gen_ai.request.model"] == "m-1"
    assert found["gen_ai.request.temperature"] == 0.5
    assert found["gen_ai.prompt.name"] == "pmpt_1"
    assert found["gen_ai.prompt.version"] == "2"
    assert found["gen_ai.prompt.variable.city"] == "Paris"
    assert found["gen_ai.tool.definitions"] == [tool]
    assert [(one["role"], one["parts"][0]["content"]) for one in found["gen_ai.input.messages"]] == [
        ("developer", "Be terse."), ("user", "Weather in Paris?"), ("user", "hi"),
    ]  # fmt: skip


def test_stored_responses_are_bounded(spans: CapturedSpans) -> None:
    stored = StoredResponses()
    ids = spans.provider.get_tracer("t").start_span("s").get_span_context()
    for number in range(5_000):
        assert stored.fetch(str(number), ids, has_usage=True)
    assert not stored.fetch("4999", ids, has_usage=True)
    assert not stored.links("0")
    assert stored.links("4999")[0].context == ids
