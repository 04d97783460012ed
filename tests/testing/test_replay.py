"""Tests of the replay server with the real SDKs."""

import asyncio
import contextlib
import gzip
import http.client
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import anthropic
import httpx
import httpx2
import openai
import openrouter
import orjson
import pytest
from openrouter import errors as openrouter_errors
from openrouter.utils import RetryConfig
from openrouter.utils.retries import BackoffStrategy

from spancast.dialects.anthropic_messages.answers import messages_answer, messages_events
from spancast.dialects.canned_answers import last_user_text
from spancast.dialects.openai_chat.answers import chat_answer, chat_chunks
from spancast.dialects.openai_responses.answers import responses_answer, responses_events
from spancast.testing.replay import KEEP_ALIVE, Headers, ReplayServer, Reply

ENDLESS_S = 3600.0
ASK = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Is it on?"}]}
ASK_CLAUDE = {**ASK, "model": "claude-sonnet-5", "max_tokens": 100}
ASK_RESPONSES = {"model": "gpt-4o-mini", "input": "Is it on?"}
TOOLS = [("get_weather", {"city": "Zürich", "days": [1, 2]}), ("get_time", {})]
RICH = {"text": "Grüezi, 🌍 says the answer.", "tool_calls": TOOLS, "reasoning": "Think of Zürich first."}


@pytest.fixture
def server():
    with ReplayServer() as running:
        yield running


@pytest.fixture
def router():
    with ReplayServer(openrouter=True) as running:
        yield running


@pytest.fixture
def gpt(server):
    with openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0) as client:
        yield client


@pytest.fixture
async def async_gpt(server):
    async with openai.AsyncOpenAI(base_url=server.base_url, api_key="k", max_retries=0) as client:
        yield client


@pytest.fixture
def claude(server):
    with anthropic.Anthropic(base_url=server.url, api_key="k", max_retries=0) as client:
        yield client


@pytest.fixture
async def async_claude(server):
    async with anthropic.AsyncAnthropic(base_url=server.url, api_key="k", max_retries=0) as client:
        yield client


def open_router(router):
    once = RetryConfig("none", BackoffStrategy(1, 1, 1, 1), retry_connection_errors=False)
    return openrouter.OpenRouter(api_key="k", server_url=router.base_url, retry_config=once)


def text_of(chunks):
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def replay_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("replay-")]


# --- default answers -----------------------------------------------------------------------------


def test_openai_chat_returns_the_question(gpt, server):
    answer = gpt.chat.completions.create(**ASK)
    assert answer.choices[0].message.content == "Is it on?"
    assert answer.model == "gpt-4o-mini"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer._request_id == "req_1"
    [request] = server.requests
    assert (request.method, request.path, request.query) == ("POST", "/v1/chat/completions", "")
    assert request.body == ASK == orjson.loads(request.raw)
    assert request.headers["AUTHORIZATION"] == request.headers["authorization"] == "Bearer k"
    assert "x-none" not in request.headers


async def test_openai_chat_async_returns_the_question(async_gpt):
    answer = await async_gpt.chat.completions.create(**ASK)
    assert answer.choices[0].message.content == "Is it on?"


def test_openai_chat_stream_has_usage_only_if_requested(gpt):
    with gpt.chat.completions.create(**ASK, stream=True) as stream:
        without_usage = list(stream)
    with gpt.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True}) as stream:
        with_usage = list(stream)
    assert text_of(without_usage) == text_of(with_usage) == "Is it on?"
    assert all(chunk.choices and chunk.usage is None for chunk in without_usage)
    assert with_usage[-1].choices == []
    assert with_usage[-1].usage == gpt.chat.completions.create(**ASK).usage


async def test_openai_chat_stream_async_returns_the_question(async_gpt):
    async with await async_gpt.chat.completions.create(**ASK, stream=True) as stream:
        assert text_of([chunk async for chunk in stream]) == "Is it on?"


def test_openai_stream_helper_returns_the_question(gpt):
    with gpt.chat.completions.stream(**ASK) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == "Is it on?"


async def test_openai_stream_helper_async_returns_the_question(async_gpt):
    async with async_gpt.chat.completions.stream(**ASK) as stream:
        final = await stream.get_final_completion()
    assert final.choices[0].message.content == "Is it on?"


def test_openai_responses_stream_equals_complete_answer(gpt):
    complete = gpt.responses.create(**ASK_RESPONSES)
    assert complete.output_text == "Is it on?"
    with gpt.responses.create(**ASK_RESPONSES, stream=True) as stream:
        events = list(stream)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == "Is it on?"
    assert events[-1].response.usage == complete.usage


def test_openai_responses_stream_helper_returns_the_question(gpt):
    with gpt.responses.stream(**ASK_RESPONSES) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds.count("response.output_text.delta") == 2
    assert final.output_text == "Is it on?"


async def test_openai_responses_async_returns_the_question(async_gpt):
    async with await async_gpt.responses.create(**ASK_RESPONSES, stream=True) as stream:
        events = [event async for event in stream]
    assert events[-1].response.output_text == (await async_gpt.responses.create(**ASK_RESPONSES)).output_text


def test_openai_raw_response_has_a_request_id(gpt):
    raw = gpt.chat.completions.with_raw_response.create(**ASK)
    assert raw.headers["x-request-id"] == "req_1"
    assert raw.parse().choices[0].message.content == "Is it on?"
    streamed = gpt.chat.completions.with_raw_response.create(**ASK, stream=True)
    with streamed.parse() as stream:
        assert text_of(stream) == "Is it on?"


def test_openai_streaming_response_returns_the_question(gpt):
    with gpt.chat.completions.with_streaming_response.create(**ASK) as response:
        assert response.parse().choices[0].message.content == "Is it on?"


def test_azure_paths_are_served(server):
    client = openai.AzureOpenAI(azure_endpoint=server.url, api_key="k", api_version="2024-10-21", max_retries=0)
    with client:
        assert client.chat.completions.create(**ASK).choices[0].message.content == "Is it on?"
    [request] = server.requests
    assert request.path == "/openai/deployments/gpt-4o-mini/chat/completions"
    assert request.query == "api-version=2024-10-21"


def test_anthropic_messages_stream_equals_complete_answer(claude):
    complete = claude.messages.create(**ASK_CLAUDE)
    assert complete.content[0].text == "Is it on?"
    assert complete.stop_reason == "end_turn"
    with claude.messages.stream(**ASK_CLAUDE) as stream:
        assert "".join(stream.text_stream) == "Is it on?"
        final = stream.get_final_message()
    assert final.usage == complete.usage
    assert final.model == complete.model == "claude-sonnet-5"


async def test_anthropic_messages_async_stream_equals_complete_answer(async_claude):
    complete = await async_claude.messages.create(**ASK_CLAUDE)
    async with async_claude.messages.stream(**ASK_CLAUDE) as stream:
        final = await stream.get_final_message()
    assert final.content[0].text == complete.content[0].text == "Is it on?"


def test_anthropic_stream_has_events_in_order(claude):
    with claude.messages.create(**ASK_CLAUDE, stream=True) as stream:
        kinds = [event.type for event in stream]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]


def test_openrouter_chat_stream_equals_complete_answer(router):
    with open_router(router) as client:
        complete = client.chat.send(**ASK)
        with client.chat.send(**ASK, stream=True) as stream:
            chunks = list(stream)
            generation = stream.response.headers["x-generation-id"]
    assert complete.choices[0].message.content == text_of(chunks) == "Is it on?"
    assert chunks[-1].usage == complete.usage
    assert complete.usage.cost > 0
    assert {chunk.id for chunk in chunks} == {generation} != {complete.id}


async def test_openrouter_chat_async_stream_equals_complete_answer(router):
    async with open_router(router) as client:
        complete = await client.chat.send_async(**ASK)
        async with await client.chat.send_async(**ASK, stream=True) as stream:
            chunks = [chunk async for chunk in stream]
    assert complete.choices[0].message.content == text_of(chunks) == "Is it on?"


def test_openrouter_responses_stream_equals_complete_answer(router):
    with open_router(router) as client:
        complete = client.responses.send(**ASK_RESPONSES)
        with client.responses.send(**ASK_RESPONSES, stream=True) as stream:
            events = list(stream)
    assert complete.output[0].content[0].text == events[-1].response.output[0].content[0].text == "Is it on?"
    assert events[-1].response.usage == complete.usage


def test_openrouter_answer_through_openai_has_cost(router):
    with openai.OpenAI(base_url=router.base_url, api_key="k", max_retries=0) as client:
        raw = client.chat.completions.with_raw_response.create(**ASK)
        with client.chat.completions.create(**ASK, stream=True) as stream:
            last = list(stream)[-1]
    answer = raw.parse()
    assert raw.headers["x-generation-id"] == answer.id
    assert answer.provider == "OpenAI"
    assert answer.choices[0].native_finish_reason == "stop"
    assert sum(value for value in answer.usage.cost_details.values() if value) == pytest.approx(answer.usage.cost)
    assert last.usage == answer.usage


def test_openrouter_answer_through_anthropic_has_cost(router):
    with anthropic.Anthropic(base_url=router.url, api_key="k", max_retries=0) as client:
        answer = client.messages.create(**ASK_CLAUDE)
    assert answer.provider == "Anthropic"
    assert answer.usage.cost > 0


def test_unknown_path_or_invalid_json_returns_404(gpt, server):
    with pytest.raises(openai.NotFoundError) as caught:
        gpt.moderations.create(model="m", input="x")
    assert caught.value.code == "not_found"
    assert httpx.get(f"{server.base_url}/models").status_code == 404
    assert httpx.post(f"{server.base_url}/chat/completions", content=b"{no json").status_code == 404
    assert [request.body for request in server.requests[1:]] == [None, None]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image"}]}]}, "a"),
        ({"messages": [{"role": "user", "content": "first"}, {"role": "assistant", "content": "no"}]}, "first"),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "b"}]}]}, "b"),
        ({"input": "c"}, "c"),
        ({"messages": ["odd", {"role": "user", "content": 7}]}, ""),
        ({"messages": [{"role": "system", "content": "d"}]}, ""),
        ({}, ""),
    ],
)
def test_last_user_text_returns_the_first_text_part(body, text):
    assert last_user_text(body) == text


# --- streamed and complete answers are equal -------------------------------------------------------

VARIANTS = [{}, RICH, {"text": None, "tool_calls": TOOLS}, {"text": ""}, {"text": "abc", "cost": 0.001}]


@pytest.mark.parametrize("pieces", [1, 3, 1000])
@pytest.mark.parametrize("variant", VARIANTS)
def test_chat_stream_equals_complete_answer(gpt, server, variant, pieces):
    answer = chat_answer(**variant)
    server.reply(Reply.json(answer), Reply.stream(chat_chunks(answer, pieces=pieces)))
    complete = gpt.chat.completions.create(**ASK)
    with gpt.chat.completions.stream(**ASK, stream_options={"include_usage": True}) as stream:
        final = stream.get_final_completion()
    assert complete.to_dict() == answer
    assert final.usage == complete.usage
    assert final.choices[0].finish_reason == complete.choices[0].finish_reason
    assert final.choices[0].message.to_dict(exclude_none=True) == complete.choices[0].message.to_dict(exclude_none=True)


@pytest.mark.parametrize("pieces", [1, 3, 1000])
@pytest.mark.parametrize("variant", VARIANTS)
def test_responses_stream_equals_complete_answer(gpt, server, variant, pieces):
    answer = responses_answer(**variant)
    events = responses_events(answer, pieces=pieces)
    server.reply("/responses", Reply.json(answer), Reply.stream(events))
    complete = gpt.responses.create(**ASK_RESPONSES)
    with gpt.responses.stream(**ASK_RESPONSES) as stream:
        final = stream.get_final_response()
    assert complete.to_dict() == answer == events[-1]["response"]
    # The helper adds ``parsed: None``, absent on the wire.
    assert final.to_dict(exclude_none=True) == complete.to_dict(exclude_none=True)
    deltas = [event["delta"] for event in events if event["type"].endswith("text.delta")]
    assert "".join(deltas) == (variant.get("reasoning") or "") + (complete.output_text)


@pytest.mark.parametrize("pieces", [1, 3, 1000])
@pytest.mark.parametrize("variant", VARIANTS)
def test_messages_stream_equals_complete_answer(claude, server, variant, pieces):
    answer = messages_answer(**variant)
    server.reply("/messages", Reply.json(answer), Reply.stream(messages_events(answer, pieces=pieces)))
    complete = claude.messages.create(**ASK_CLAUDE)
    with claude.messages.stream(**ASK_CLAUDE) as stream:
        final = stream.get_final_message()
    assert complete.to_dict() == answer
    assert final.to_dict(exclude_none=True) == complete.to_dict(exclude_none=True)


def test_streams_pass_the_validation_of_the_openrouter_sdk(router):
    chat, responses = chat_answer(cost=0.5, **RICH), responses_answer(cost=0.5, **RICH)
    router.reply(Reply.stream(chat_chunks(chat)), Reply.json(responses), Reply.stream(responses_events(responses)))
    with open_router(router) as client:
        with client.chat.send(**ASK, stream=True) as stream:
            chunks = list(stream)
        assert client.responses.send(**ASK_RESPONSES).output[1].content[0].text == RICH["text"]
        with client.responses.send(**ASK_RESPONSES, stream=True) as stream:
            events = list(stream)
    assert text_of(chunks) == RICH["text"]
    assert chunks[-1].usage.cost == events[-1].response.usage.cost == 0.5


def test_stream_supports_refusals_and_unknown_parts(gpt, claude, server):
    refused = responses_answer("no")
    refused["output"][0]["content"] = [{"type": "refusal", "refusal": "I will not."}]
    refused["output"].append({"type": "web_search_call", "id": "ws_1", "status": "completed"})
    refused["status"] = "incomplete"
    kinds = [event["type"] for event in responses_events(refused)]
    assert kinds.count("response.refusal.delta") == 2
    assert kinds[-1] == "response.incomplete"
    searched = messages_answer()
    searched["content"].append({"type": "redacted_thinking", "data": "eA=="})
    server.reply("/messages", Reply.stream(messages_events(searched)))
    with claude.messages.stream(**ASK_CLAUDE) as stream:
        assert stream.get_final_message().content[1].data == "eA=="
    no_usage = chat_answer()
    del no_usage["usage"]
    assert all(chunk["choices"] for chunk in chat_chunks(no_usage))


# --- scripts ---------------------------------------------------------------------------------------


def test_reply_for_an_endpoint_precedes_reply_for_any_path(gpt, server):
    server.reply(Reply.json(chat_answer("any 1")), Reply.json(chat_answer("any 2")))
    server.reply("/chat/completions", Reply.json(chat_answer("chat")))
    texts = [gpt.chat.completions.create(**ASK).choices[0].message.content for _ in range(4)]
    assert texts == ["chat", "any 1", "any 2", "Is it on?"]


def test_reply_can_be_reused_by_several_servers(server, router):
    reply = Reply.json({"n": 1}, headers={"x-note": "same"}, status=201)
    for running in (server, router):
        running.reply(reply, reply)
        for _ in range(2):
            answer = httpx.post(f"{running.url}/anything")
            assert (answer.status_code, answer.json(), answer.headers["x-note"]) == (201, {"n": 1}, "same")


# --- timing, by gates ------------------------------------------------------------------------------


def test_gate_holds_its_event_and_later_ones(gpt, server):
    gate, end = threading.Event(), threading.Event()
    chunks = chat_chunks(chat_answer("ab"), include_usage=False)
    server.reply(Reply.stream(chunks, gates={2: gate, len(chunks): end}))
    with gpt.chat.completions.create(**ASK, stream=True) as stream:
        # next() would block forever if the server held back a free event.
        assert text_of([next(stream), next(stream)]) == "a"
        gate.set()
        assert text_of([next(stream), next(stream)]) == "b"
        end.set()
        assert list(stream) == []


async def test_gate_with_async_client_releases_events(async_claude, server):
    gate = threading.Event()
    server.reply(Reply.stream(messages_events(messages_answer("ab"), pieces=2), gates={4: gate}))
    async with async_claude.messages.stream(**ASK_CLAUDE) as stream:
        texts = stream.text_stream
        assert await anext(texts) == "a"
        gate.set()
        assert await anext(texts) == "b"


def test_held_by_holds_a_reply_before_its_first_byte(gpt, server):
    gate = threading.Event()
    server.reply(Reply.json(chat_answer("held")).held_by(gate), Reply.json(chat_answer("free")))
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(gpt.chat.completions.create, **ASK)
        server.wait_for_requests(1)
        assert gpt.chat.completions.create(**ASK).choices[0].message.content == "free"
        assert not held.done()
        gate.set()
        assert held.result().choices[0].message.content == "held"


@pytest.mark.parametrize(
    ("reply", "arrived"),
    [
        (Reply.stream(["one", "two"], gap_s=ENDLESS_S), b"data: one\n\n"),
        (Reply.stream(["one"], first_gap_s=ENDLESS_S, comments=[KEEP_ALIVE]), b": OPENROUTER PROCESSING\n\n"),
        (Reply.sse(b"12345", piece_bytes=2, gap_s=ENDLESS_S), b"12"),
    ],
)
def test_gap_holds_later_bytes(server, reply, arrived):
    server.reply(reply)
    with httpx.stream("POST", server.url, timeout=None) as response:
        body = response.iter_raw()
        assert next(body) == arrived
        server.close()
        with pytest.raises(httpx.RemoteProtocolError):
            next(body)


def test_short_gaps_end(gpt, server):
    chunks = chat_chunks(chat_answer("ab"))
    server.reply(Reply.stream(chunks, gap_s=0.001, first_gap_s=0.001, delay_s=0.001), Reply.hang(0.001))
    with gpt.chat.completions.create(**ASK, stream=True) as stream:
        assert text_of(stream) == "ab"
    assert gpt.chat.completions.create(**ASK).choices[0].message.content == "Is it on?"


def test_hang_lets_the_client_time_out(gpt, server):
    server.reply(Reply.hang(ENDLESS_S))
    with pytest.raises(openai.APITimeoutError):
        gpt.chat.completions.create(**ASK, timeout=0.05)


# --- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (402, openai.APIStatusError),
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (529, openai.InternalServerError),
    ],
)
def test_error_raises_the_openai_exception(gpt, server, status, error):
    server.reply(Reply.error(status, headers={"retry-after": "7"}))
    with pytest.raises(error) as caught:
        gpt.chat.completions.create(**ASK)
    assert caught.value.status_code == status
    assert caught.value.response.headers["retry-after"] == "7"
    assert isinstance(caught.value.code, str)


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, anthropic.BadRequestError, "invalid_request_error"),
        (429, anthropic.RateLimitError, "rate_limit_error"),
        (529, anthropic.APIStatusError, "overloaded_error"),
        (418, anthropic.APIStatusError, "api_error"),
    ],
)
def test_error_raises_the_anthropic_exception(claude, server, status, error, kind):
    server.reply(Reply.error(status))
    with pytest.raises(error) as caught:
        claude.messages.create(**ASK_CLAUDE)
    assert caught.value.body["error"]["type"] == kind
    assert caught.value.request_id == "req_1"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openrouter_errors.BadRequestResponseError),
        (402, openrouter_errors.PaymentRequiredResponseError),
        (429, openrouter_errors.TooManyRequestsResponseError),
        (502, openrouter_errors.BadGatewayResponseError),
        (524, openrouter_errors.EdgeNetworkTimeoutResponseError),
        (529, openrouter_errors.ProviderOverloadedResponseError),
    ],
)
def test_error_raises_the_openrouter_exception(router, status, error):
    router.reply(Reply.error(status))
    with open_router(router) as client, pytest.raises(error) as caught:
        client.chat.send(**ASK)
    assert caught.value.data.error.code == status


async def test_error_raises_in_async_clients(async_gpt, async_claude, server):
    server.reply(Reply.error(429), Reply.error(500))
    with pytest.raises(openai.RateLimitError):
        await async_gpt.chat.completions.create(**ASK)
    with pytest.raises(anthropic.InternalServerError):
        await async_claude.messages.create(**ASK_CLAUDE)


def test_error_with_body_sends_that_body(gpt, server):
    body = {"error": {"message": "mine", "http_status": 429}}
    server.reply(Reply.error(429, body))
    with pytest.raises(openai.RateLimitError) as caught:
        gpt.chat.completions.create(**ASK)
    assert caught.value.body == body["error"]


def test_sdk_retry_gets_the_next_reply(server):
    server.reply(Reply.error(503, headers={"retry-after-ms": "1"}))
    with openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=1) as client:
        assert client.chat.completions.create(**ASK).choices[0].message.content == "Is it on?"
    assert len(server.requests) == 2


def test_error_chunk_raises_during_the_stream(gpt, server):
    chunk = chat_chunks(chat_answer("partial"), pieces=1)[1]
    server.reply(Reply.stream([chunk, {**chunk, "error": {"code": 502, "message": "gone"}}], done=False))
    with gpt.chat.completions.create(**ASK, stream=True) as stream:
        assert text_of([next(stream)]) == "partial"
        with pytest.raises(openai.APIError, match="gone"):
            next(stream)


def test_anthropic_error_event_raises_during_the_stream(claude, server):
    events = messages_events(messages_answer())[:4]
    events.append({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
    server.reply(Reply.stream(events))
    with claude.messages.create(**ASK_CLAUDE, stream=True) as stream, pytest.raises(anthropic.APIStatusError):
        list(stream)


# --- broken connections ----------------------------------------------------------------------------


def test_cut_stream_raises_after_the_sent_chunks(gpt, server):
    server.reply(Reply.stream(chat_chunks(chat_answer("x" * 1000), pieces=1000), cut_after=900))
    arrived = []
    with (
        pytest.raises(openai.APIConnectionError) as caught,
        gpt.chat.completions.create(**ASK, stream=True) as stream,
    ):
        arrived.extend(stream)
    assert len(arrived) == 900
    assert isinstance(caught.value.__cause__, httpx2.RemoteProtocolError)


def test_reset_stream_raises(gpt, server):
    cut = threading.Event()
    server.reply(Reply.stream(chat_chunks(chat_answer("abcd")), cut_after=2, reset=True, gates={2: cut}))
    with gpt.chat.completions.create(**ASK, stream=True) as stream:
        assert text_of([next(stream), next(stream)]) == "ab"
        cut.set()
        with pytest.raises(openai.APIConnectionError) as caught:
            next(stream)
    assert isinstance(caught.value.__cause__, httpx2.ReadError)


async def test_cut_stream_raises_in_async_client(async_claude, server):
    server.reply(Reply.stream(messages_events(messages_answer()), cut_after=3, gzip=True))
    async with await async_claude.messages.create(**ASK_CLAUDE, stream=True) as stream:
        with pytest.raises(httpx2.RemoteProtocolError):
            [event async for event in stream]


def test_cut_openrouter_stream_raises(router):
    router.reply(Reply.sse(b'data: {"id":"g"}', cut=True))
    with (
        open_router(router) as client,
        client.chat.send(**ASK, stream=True) as stream,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        list(stream)


@pytest.mark.parametrize("reply", [Reply.drop(), Reply.drop(delay_s=0.001), Reply.stream([], cut_after=0, reset=True)])
def test_dropped_connection_raises_connection_error(gpt, server, reply):
    server.reply(reply)
    with pytest.raises((openai.APIConnectionError, httpx2.ReadError)):
        gpt.chat.completions.create(**ASK)


def test_client_that_closes_a_stream_does_not_stop_the_server(gpt, server):
    gate = threading.Event()
    server.reply(Reply.stream(chat_chunks(chat_answer("x" * 100_000), pieces=1000), gates={3: gate}))
    with gpt.chat.completions.create(**ASK, stream=True) as stream:
        next(stream)
    gate.set()
    assert gpt.chat.completions.create(**ASK).choices[0].message.content == "Is it on?"


def test_stream_without_done_ends(gpt, server):
    server.reply(Reply.stream(chat_chunks(chat_answer("ab"))[:2], done=False))
    with gpt.chat.completions.create(**ASK, stream=True) as stream:
        assert text_of(stream) == "a"


# --- the wire --------------------------------------------------------------------------------------


def body_of(server, reply):
    server.reply(reply)
    return httpx.post(f"{server.url}/x").content


def test_stream_frames_on_the_wire(server):
    assert body_of(server, Reply.stream([{"id": 1}, "not {json", "two\nlines"])) == (
        b'data: {"id":1}\n\ndata: not {json\n\ndata: two\ndata: lines\n\ndata: [DONE]\n\n'
    )
    assert body_of(server, Reply.stream([{"type": "ping"}])) == b'event: ping\ndata: {"type":"ping"}\n\n'
    assert body_of(server, Reply.stream([{"id": 1}], comments=[KEEP_ALIVE], crlf=True, done=False)) == (
        b': OPENROUTER PROCESSING\r\n\r\ndata: {"id":1}\r\n\r\n'
    )


@pytest.mark.parametrize("form", [{"crlf": True}, {"gzip": True}, {"comments": [KEEP_ALIVE, ": ping"]}])
def test_stream_framings_give_the_same_chunks(gpt, server, form):
    chunks = chat_chunks(chat_answer(**RICH), pieces=5)
    server.reply(Reply.stream(chunks), Reply.stream(chunks, **form))
    with gpt.chat.completions.create(**ASK, stream=True) as plain:
        expected = list(plain)
    with gpt.chat.completions.create(**ASK, stream=True) as stream:
        assert list(stream) == expected
        assert stream.response.headers.get("content-encoding") == ("gzip" if "gzip" in form else None)


def test_gzip_stream_is_flushed_per_event(gpt, server):
    gate = threading.Event()
    server.reply(Reply.stream(chat_chunks(chat_answer("ab")), gzip=True, gates={2: gate}))
    with gpt.chat.completions.create(**ASK, stream=True) as stream:
        assert text_of([next(stream), next(stream)]) == "a"
        gate.set()
        assert text_of(stream) == "b"


def test_gzip_stream_is_one_gzip_member(server):
    server.reply(Reply.stream(["a", "b"], gzip=True))
    with httpx.stream("POST", server.url) as response:
        assert gzip.decompress(b"".join(response.iter_raw())) == b"data: a\n\ndata: b\n\ndata: [DONE]\n\n"


@pytest.mark.parametrize("piece_bytes", [None, 1, 7])
@pytest.mark.parametrize("crlf", [False, True])
def test_sse_sends_bytes_unchanged_in_any_split(gpt, server, piece_bytes, crlf):
    sample = ": OPENROUTER PROCESSING\n\n" + "".join(
        f"data: {orjson.dumps(chunk).decode()}\n\n" for chunk in chat_chunks(chat_answer("Grüezi 🌍"))
    )
    raw = (sample.replace("\n", "\r\n") if crlf else sample).encode()
    server.reply(Reply.sse(raw, piece_bytes=piece_bytes), Reply.sse(raw, piece_bytes=piece_bytes))
    with gpt.chat.completions.create(**ASK, stream=True) as stream:
        assert text_of(stream) == "Grüezi 🌍"
    assert httpx.post(server.url).content == raw


def test_sse_without_bytes_sends_an_empty_body(server):
    assert body_of(server, Reply.sse(b"")) == b""


def test_raw_sends_bytes_unchanged(gpt, server):
    body = b'{\n  "error": {"code": 429, "message": "Rate limit exceeded"}\n}'
    head = b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nRetry-After: 60\r\n\r\n"
    server.reply(Reply.raw(head + body))
    with pytest.raises(openai.RateLimitError) as caught:
        gpt.chat.completions.create(**ASK)
    assert caught.value.response.headers["retry-after"] == "60"
    assert caught.value.body == {"code": 429, "message": "Rate limit exceeded"}


def test_connection_is_kept_alive_until_the_client_closes_it(server):
    connection = http.client.HTTPConnection("127.0.0.1", int(server.url.rpartition(":")[2]))
    with contextlib.closing(connection):
        sockets = set()
        for reply in (Reply.json({}), Reply.stream(["a"]), Reply.error(500)):
            server.reply(reply)
            connection.request("POST", "/x", body=b"{}")
            sockets.add(connection.sock)
            connection.getresponse().read()
        assert len(sockets) == 1
        connection.request("POST", "/x", body=b"{}", headers={"Connection": "Close"})
        connection.getresponse().read()
        assert connection.sock.recv(1) == b""


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: many\r\n\r\n",
        b"POST / HTTP/1.1\r\na: " + b"b" * 70_000 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\nshort",
    ],
)
def test_invalid_http_closes_the_connection(server, sent):
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        # No data, a reset, or (if the reset is late) an error status; then the end of the connection.
        with contextlib.suppress(ConnectionResetError), connection.makefile("rb") as answer:
            assert not answer.read().startswith(b"HTTP/1.1 2")
    assert server.requests == []


def test_headers_joins_repeated_names():
    headers = Headers([("Accept", "a"), ("accept", "b"), ("Host", "h")])
    assert dict(headers) == {"accept": "a, b", "host": "h"}
    assert len(headers) == 2
    assert repr(headers) == "Headers({'accept': 'a, b', 'host': 'h'})"


# --- concurrency and closing -------------------------------------------------------------------------


def test_64_concurrent_threads_get_their_own_answers(server):
    gate = threading.Event()
    server.reply(*(Reply.hang(0).held_by(gate) for _ in range(64)))

    def call(number):
        ask = {**ASK, "messages": [{"role": "user", "content": f"question {number}"}]}
        return gpt.chat.completions.create(**ask).choices[0].message.content

    client = openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0)
    with client as gpt, ThreadPoolExecutor(64) as pool:
        calls = [pool.submit(call, number) for number in range(64)]
        server.wait_for_requests(64)
        gate.set()
        assert [future.result() for future in calls] == [f"question {number}" for number in range(64)]


async def test_64_concurrent_streams_get_their_own_answers(async_gpt):
    async def call(number):
        ask = {**ASK, "messages": [{"role": "user", "content": f"question {number}"}]}
        async with await async_gpt.chat.completions.create(**ask, stream=True) as stream:
            return text_of([chunk async for chunk in stream])

    assert await asyncio.gather(*map(call, range(64))) == [f"question {number}" for number in range(64)]


@pytest.mark.parametrize(
    "reply",
    [
        Reply.hang(ENDLESS_S),
        Reply.json({}).held_by(threading.Event()),
        Reply.stream(["a"], gates={0: threading.Event()}),
        Reply.stream(["a" * 50_000_000]),
    ],
    ids=["hang", "held", "gate", "full buffer"],
)
def test_close_ends_replies_in_progress(reply):
    server = ReplayServer().start()
    server.reply(reply)
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n")
        server.wait_for_requests(1)
        server.close()
    assert replay_threads() == []
    server.close()


def test_close_raises_in_the_client(server, gpt):
    server.reply(Reply.hang(ENDLESS_S))
    with ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(gpt.chat.completions.create, **ASK)
        server.wait_for_requests(1)
        server.close()
        with pytest.raises(openai.APIConnectionError):
            hanging.result()


def test_close_ends_idle_connections(gpt, server):
    gpt.chat.completions.create(**ASK)
    server.close()
    assert replay_threads() == []
    with pytest.raises(openai.APIConnectionError):
        gpt.chat.completions.create(**ASK)


def test_start_after_close_uses_the_same_url(gpt, server):
    url = server.url
    server.close()
    with pytest.raises(openai.APIConnectionError):
        gpt.chat.completions.create(**ASK)
    server.start()
    assert server.url == url
    assert gpt.chat.completions.create(**ASK).choices[0].message.content == "Is it on?"


def test_misuse_raises():
    with pytest.raises(RuntimeError, match="is not started"):
        _ = ReplayServer().url
    with ReplayServer() as server:
        with pytest.raises(RuntimeError, match="already running"):
            server.start()
        with pytest.raises(TimeoutError, match="0 of 1 requests"):
            server.wait_for_requests(1, timeout_s=0)
        with pytest.raises(TypeError):
            Reply.json(object())
