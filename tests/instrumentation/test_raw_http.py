"""Completion calls with HTTP libraries: what is recorded, what is not, and what the caller gets."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import openai
import pytest
import requests
import urllib3
from tests.instrumentation.http_drivers import HTTP_LIBRARIES

import spancast
from spancast.errors import ConfigError
from spancast.model.completion_urls import OwnUrl, endpoint_of
from spancast.testing import CapturedSpans, ReplayServer, Reply
from spancast.testing.spans import attributes

BODY: dict[str, Any] = {"model": "m-1", "messages": [{"role": "user", "content": "hi"}]}
STREAM: dict[str, Any] = {**BODY, "stream": True}
JSON = {"content-type": "application/json"}


@pytest.fixture(autouse=True)
def _instrumented(spans: CapturedSpans) -> Iterator[None]:
    for name in HTTP_LIBRARIES:
        spancast.instrument(name)
    yield
    for name in HTTP_LIBRARIES:
        spancast.uninstrument(name)


def in_session(call: Callable[[aiohttp.ClientSession], Any], **options: Any) -> Any:
    """Return the result of a coroutine function that is called with a session of aiohttp."""

    async def run() -> Any:
        async with aiohttp.ClientSession(**options) as session:
            return await call(session)

    return asyncio.run(run())


async def aiohttp_text(session: aiohttp.ClientSession, url: str, **options: Any) -> str:
    async with session.post(url, **options) as response:
        return await response.text()


TEXT = json.dumps(BODY)
HTTPX = httpx.Client(limits=httpx.Limits(max_keepalive_connections=0))
FORMS: dict[str, Callable[[str], Any]] = {
    "httpx json": lambda url: httpx.post(url, json=BODY).text,
    "httpx content text": lambda url: httpx.post(url, content=TEXT, headers=JSON).text,
    "httpx content bytes": lambda url: httpx.post(url, content=TEXT.encode(), headers=JSON).text,
    "httpx request": lambda url: HTTPX.send(httpx.Request("POST", url, json=BODY)).text,
    "requests json": lambda url: requests.post(url, json=BODY, timeout=30).text,
    "requests data text": lambda url: requests.post(url, data=TEXT, timeout=30).text,
    "requests data bytes": lambda url: requests.post(url, data=TEXT.encode(), timeout=30).text,
    "urllib3 json": lambda url: urllib3.request("POST", url, json=BODY).data.decode(),
    "urllib3 body text": lambda url: urllib3.request("POST", url, body=TEXT).data.decode(),
    "urllib3 body bytes": lambda url: urllib3.request("POST", url, body=TEXT.encode()).data.decode(),
    "urllib3 pool": lambda url: urllib3.connection_from_url(url).urlopen("POST", "/v1/chat/completions", TEXT).data.decode(),
    "aiohttp json": lambda url: in_session(lambda session: aiohttp_text(session, url, json=BODY)),
    "aiohttp data text": lambda url: in_session(lambda session: aiohttp_text(session, url, data=TEXT)),
    "aiohttp data bytes": lambda url: in_session(lambda session: aiohttp_text(session, url, data=TEXT.encode())),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_request_body_of_every_form_is_recorded_and_sent_as_given(
    form: str, server: ReplayServer, spans: CapturedSpans
) -> None:
    text = FORMS[form](f"{server.base_url}/chat/completions")
    assert json.loads(text)["choices"]
    assert json.loads(server.requests[0].raw) == BODY

    found = attributes(spans.one())
    assert found["gen_ai.input.messages"] == [{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]
    assert found["gen_ai.response.finish_reasons"] == ["stop"]
    assert found["server.port"] == int(server.url.rpartition(":")[2])


def _stream_httpx(url: str, how: str) -> None:
    with httpx.stream("POST", url, json=STREAM) as response:
        for _ in getattr(response, how)():
            pass


def _read_urllib3(url: str, size: int | None) -> None:
    response = urllib3.request("POST", url, json=STREAM, preload_content=False)
    while response.read(size):
        pass


def _read1_urllib3(url: str) -> None:
    response = urllib3.request("POST", url, json=STREAM, preload_content=False)
    if not hasattr(response, "read1"):
        pytest.skip("urllib3 has it since 2.2")
    while response.read1():
        pass


async def _read_aiohttp(session: aiohttp.ClientSession, url: str, how: Callable[[Any], Any]) -> None:
    async with session.post(url, json=STREAM) as response:
        async for _ in how(response.content):
            pass


async def _lines_aiohttp(session: aiohttp.ClientSession, url: str) -> None:
    async with session.post(url, json=STREAM) as response:
        while await response.content.readline():
            pass


READERS: dict[str, Callable[[str], Any]] = {
    "httpx iter_bytes": lambda url: _stream_httpx(url, "iter_bytes"),
    "httpx iter_raw": lambda url: _stream_httpx(url, "iter_raw"),
    "httpx iter_text": lambda url: _stream_httpx(url, "iter_text"),
    "httpx iter_lines": lambda url: _stream_httpx(url, "iter_lines"),
    "requests iter_content": lambda url: list(requests.post(url, json=STREAM, stream=True, timeout=30).iter_content(7)),
    "requests iter_lines": lambda url: list(requests.post(url, json=STREAM, stream=True, timeout=30).iter_lines()),
    "requests text": lambda url: requests.post(url, json=STREAM, stream=True, timeout=30).text,
    "requests raw": lambda url: requests.post(url, json=STREAM, stream=True, timeout=30).raw.read(),
    "urllib3 read": lambda url: _read_urllib3(url, None),
    "urllib3 read size": lambda url: _read_urllib3(url, 11),
    "urllib3 read1": _read1_urllib3,
    "urllib3 stream": lambda url: list(urllib3.request("POST", url, json=STREAM, preload_content=False).stream(13)),
    "urllib3 lines": lambda url: list(urllib3.request("POST", url, json=STREAM, preload_content=False)),
    "urllib3 data": lambda url: urllib3.request("POST", url, json=STREAM, preload_content=False).data,
    "aiohttp lines": lambda url: in_session(lambda session: _read_aiohttp(session, url, lambda content: content)),
    "aiohttp iter_any": lambda url: in_session(lambda s: _read_aiohttp(s, url, lambda content: content.iter_any())),
    "aiohttp iter_chunked": lambda url: in_session(lambda s: _read_aiohttp(s, url, lambda c: c.iter_chunked(9))),
    "aiohttp iter_chunks": lambda url: in_session(lambda s: _read_aiohttp(s, url, lambda c: c.iter_chunks())),
    "aiohttp readline": lambda url: in_session(lambda session: _lines_aiohttp(session, url)),
    "aiohttp text": lambda url: in_session(lambda session: aiohttp_text(session, url, json=STREAM)),
}  # fmt: skip


@pytest.mark.parametrize("is_compressed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("reader", READERS)
def test_stream_that_is_read_in_any_way_is_recorded_completely(
    reader: str, server: ReplayServer, spans: CapturedSpans, *, is_compressed: bool
) -> None:
    chunk = {"id": "c-1", "model": "m-1", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "one"}}]}
    last = {**chunk, "choices": [{"index": 0, "delta": {"content": " two"}, "finish_reason": "stop"}]}
    server.reply(Reply.stream([chunk, last], gzip=is_compressed))
    READERS[reader](f"{server.base_url}/chat/completions")

    found = attributes(spans.one())
    assert found["gen_ai.output.messages"][0]["parts"] == [{"type": "text", "content": "one two"}]
    assert "spancast.response.incomplete" not in found
    assert found["gen_ai.request.stream"] is True
    assert "gen_ai.response.time_to_first_chunk" in found


def test_streamed_response_is_not_read_before_the_caller_does(server: ReplayServer, spans: CapturedSpans) -> None:
    gate = threading.Event()
    server.reply(*[Reply.stream(["{}", "{}"], gates={1: gate})] * 3)
    url = f"{server.base_url}/chat/completions"
    with httpx.stream("POST", url, json=STREAM) as by_httpx:
        assert not by_httpx.is_stream_consumed
        by_requests = requests.post(url, json=STREAM, stream=True, timeout=30)
        by_urllib3 = urllib3.request("POST", url, json=STREAM, preload_content=False)
        streams = by_requests.iter_lines(1), iter(by_urllib3), by_httpx.iter_lines()
        assert [next(stream).strip() for stream in streams] == [b"data: {}", b"data: {}", "data: {}"]
        assert spans.all() == []
        gate.set()
    by_requests.close()
    by_urllib3.close()
    assert [attributes(span)["spancast.response.incomplete"] for span in spans.all()] == ["closed"] * 3


def test_objects_are_those_of_the_library(server: ReplayServer) -> None:
    url = f"{server.base_url}/chat/completions"
    by_urllib3 = urllib3.request("POST", url, json=STREAM, preload_content=False)
    assert isinstance(by_urllib3, urllib3.HTTPResponse)
    assert by_urllib3.read()
    assert type(by_urllib3) is urllib3.HTTPResponse
    assert type(requests.post(url, json=STREAM, stream=True, timeout=30)) is requests.Response
    assert type(httpx.post(url, json=STREAM)) is httpx.Response

    async def call(session: aiohttp.ClientSession) -> None:
        async with session.post(url, json=BODY) as response:
            assert type(response) is aiohttp.ClientResponse
            assert isinstance(response.content, aiohttp.StreamReader)
            assert (await response.json())["choices"]

    in_session(call)


@pytest.mark.parametrize("body", [{"error": {"message": "slow down", "code": "rate_limit"}}, {"detail": "no"}, None])
@pytest.mark.parametrize("library", ["httpx", "requests", "urllib3", "aiohttp"])
def test_error_status_is_a_failed_span_without_an_exception(
    library: str, body: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    server.reply(Reply.json(body, status=429))
    url = f"{server.base_url}/chat/completions"
    FORMS[f"{library} json"](url)

    span = spans.one()
    assert not span.status.is_unset
    assert span.events == ()
    found = attributes(span)
    assert found["error.type"] == ("rate_limit" if body and "error" in body else "429")
    assert found["spancast.response.status_code"] == 429


@pytest.mark.parametrize("library", ["httpx", "requests", "urllib3", "aiohttp"])
def test_exception_of_the_library_is_that_of_the_span(library: str, server: ReplayServer, spans: CapturedSpans) -> None:
    server.reply(*[Reply.drop()] * 9)
    with pytest.raises(Exception, match=r".") as caught:
        FORMS[f"{library} json"](f"{server.base_url}/chat/completions")
    found = attributes(spans.one())
    assert found["error.type"].endswith(type(caught.value).__name__)
    assert [event.name for event in spans.one().events] == ["exception"]


def test_raise_for_status_inside_a_stream_is_a_failed_span(server: ReplayServer, spans: CapturedSpans) -> None:
    server.reply(Reply.error(503))
    with (
        pytest.raises(httpx.HTTPStatusError),
        httpx.stream("POST", f"{server.base_url}/chat/completions", json=STREAM) as response,
    ):
        response.raise_for_status()
    assert attributes(spans.one())["error.type"] == "httpx.HTTPStatusError"
    assert attributes(spans.one())["spancast.response.status_code"] == 503


def test_raise_for_status_of_a_session_is_a_failed_span(server: ReplayServer, spans: CapturedSpans) -> None:
    server.reply(Reply.error(503))
    with pytest.raises(aiohttp.ClientResponseError):
        in_session(
            lambda session: aiohttp_text(session, f"{server.base_url}/chat/completions", json=BODY),
            raise_for_status=True,
        )
    assert attributes(spans.one())["error.type"] == "aiohttp.ClientResponseError"
    assert attributes(spans.one())["spancast.response.status_code"] == 503


def test_abandoned_response_of_urllib3_ends_with_the_part_that_was_read(
    server: ReplayServer, spans: CapturedSpans
) -> None:
    response = urllib3.request("POST", f"{server.base_url}/chat/completions", json=STREAM, preload_content=False)
    assert response.read(80)
    del response
    gc.collect()
    assert attributes(spans.one())["spancast.response.incomplete"] in ("closed", "abandoned")


def test_call_inside_a_call_of_an_sdk_is_not_recorded(server: ReplayServer, spans: CapturedSpans) -> None:
    client = spancast.instrument(openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0))
    client.chat.completions.create(**BODY)
    list(client.chat.completions.create(**STREAM))
    assert [span.name for span in spans.all()] == ["chat m-1"] * 2
    assert "gen_ai.input.messages" in attributes(spans.all()[0])


def test_call_that_an_sdk_does_not_record_is_not_recorded_below_it(server: ReplayServer, spans: CapturedSpans) -> None:
    client = spancast.instrument(openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0))
    client.chat.completions.create(**BODY, trace={"enabled": False})
    with spancast.trace(enabled=False):
        httpx.post(f"{server.base_url}/chat/completions", json=BODY)
    assert spans.all() == []


async def test_function_that_is_not_recorded_hides_the_calls_inside_it(
    server: ReplayServer, spans: CapturedSpans
) -> None:
    client = spancast.instrument(openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0))

    @spancast.instrument
    def ask(**body: Any) -> Any:
        return client.chat.completions.create(**body)

    @spancast.instrument
    async def ask_later(**body: Any) -> Any:
        async with httpx.AsyncClient() as http:
            return await http.post(f"{server.base_url}/chat/completions", json=body)

    ask(**BODY, trace={"enabled": False})
    await ask_later(**BODY, trace={"enabled": False})
    assert spans.all() == []
    ask(**BODY)
    await ask_later(**BODY)
    assert len(spans.all()) == 2


def test_call_of_an_sdk_without_instrumentation_is_recorded(server: ReplayServer, spans: CapturedSpans) -> None:
    client = openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0)
    client.chat.completions.create(**BODY)
    assert attributes(spans.one())["gen_ai.usage.input_tokens"] == 9


def test_requests_over_urllib3_is_one_span(server: ReplayServer, spans: CapturedSpans) -> None:
    requests.post(f"{server.base_url}/chat/completions", json=BODY, timeout=30)
    spancast.uninstrument("requests")
    requests.post(f"{server.base_url}/chat/completions", json=STREAM, timeout=30, stream=True).close()
    first, second = spans.all()
    assert attributes(first)["gen_ai.response.finish_reasons"] == ["stop"]
    assert attributes(second)["spancast.response.incomplete"] == "closed"


def test_call_inside_a_decorated_function_adds_its_facts(server: ReplayServer, spans: CapturedSpans) -> None:
    @spancast.instrument
    def ask(messages: list[Any], model: str) -> str:
        answer = httpx.post(f"{server.base_url}/chat/completions", json={"messages": messages, "model": model})
        return answer.json()["choices"][0]["message"]["content"]

    assert ask(BODY["messages"], model="m-1") == "hi"
    assert attributes(spans.one())["gen_ai.usage.input_tokens"] == 9


def test_trace_keys_of_body_block_and_header_are_used(server: ReplayServer, spans: CapturedSpans) -> None:
    url = f"{server.base_url}/chat/completions"
    with spancast.trace(trace_name="Support", feature="billing"):
        httpx.post(url, json={**BODY, "session_id": "s-1", "trace": {"generation_name": "classify"}})
    requests.post(url, json=BODY, headers={"X-Session-Id": "s-2"}, timeout=30)
    assert spans.tree() == {"Support": {"classify": {}}, "chat m-1": {}}
    assert [attributes(span).get("session.id") for span in spans.calls()] == ["s-1", "s-2"]
    assert server.requests[0].body["trace"] == {"generation_name": "classify"}


OTHERS = [
    ("/v1/chat/completions", {"messages": ["hi"]}),
    ("/v1/messages", {"text": "hi", "model": "m"}),
    ("/v1/chat/completions/stats", BODY),
    ("/v1/completions", {"model": "m-1"}),
    ("/users", BODY),
]


@pytest.mark.parametrize(("path", "body"), OTHERS)
def test_other_request_is_not_recorded(path: str, body: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    httpx.post(f"{server.url}{path}", json=body)
    requests.post(f"{server.url}{path}", json=body, timeout=30)
    urllib3.request("POST", f"{server.url}{path}", json=body)
    in_session(lambda session: aiohttp_text(session, f"{server.url}{path}", json=body))
    httpx.get(f"{server.base_url}/chat/completions")
    httpx.post(f"{server.base_url}/chat/completions", data={"model": "m", "messages": "x"})
    assert len(server.requests) == 6
    assert spans.all() == []


HELLO = [{"role": "user", "content": "hi"}]
OF_OTHER_FORMATS: list[tuple[str, dict[str, Any]]] = [
    ("/v1beta/models/m-1:generateContent", {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}),
    ("/v1beta/models/m-1:streamGenerateContent", {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}),
    ("/v1beta/interactions", {"model": "m-1", "input": "hi"}),
    ("/model/m-1/converse", {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}),
    ("/v2/chat", {"model": "m-1", "messages": HELLO}),
    ("/v2/chat", {"model": "m-1", "messages": HELLO, "stream": True}),
    ("/v1/chat", {"model": "m-1", "message": "hi"}),
    ("/api/chat", {"model": "m-1", "messages": HELLO, "stream": False}),
    ("/api/chat", {"model": "m-1", "messages": HELLO, "stream": True}),
    ("/api/generate", {"model": "m-1", "prompt": "hi", "stream": False}),
    (
        "/api/v1/services/aigc/text-generation/generation",
        {"model": "m-1", "input": {"messages": HELLO}, "parameters": {"result_format": "message"}},
    ),
]


@pytest.mark.parametrize(("path", "body"), OF_OTHER_FORMATS, ids=lambda value: value if isinstance(value, str) else "")
def test_call_of_every_format_is_recorded(
    path: str, body: dict[str, Any], server: ReplayServer, spans: CapturedSpans
) -> None:
    assert httpx.post(server.url + path, json=body).status_code == 200
    found = attributes(spans.one())
    assert found["gen_ai.request.model"] == "m-1"
    assert found["gen_ai.input.messages"][-1]["parts"][0]["content"] == "hi"
    assert found["gen_ai.output.messages"][0]["parts"]


def test_body_that_is_a_stream_is_counted_and_sent(server: ReplayServer, spans: CapturedSpans) -> None:
    before = spancast.stats().requests_not_read
    text = httpx.post(
        f"{server.base_url}/chat/completions", content=iter([TEXT.encode()]), headers={"content-length": str(len(TEXT))}
    ).text
    assert json.loads(text)["choices"]
    assert spancast.stats().requests_not_read == before + 1
    assert spans.all() == []


@pytest.mark.parametrize(
    ("url", "body", "expected"),
    [
        ("https://api.openai.com/v1/responses", {"input": "hi"}, ("openai_responses", "openai", None)),
        ("https://api.anthropic.com/v1/messages?beta=true", BODY, ("anthropic_messages", "anthropic", None)),
        ("https://x.openai.azure.com/openai/deployments/gpt-x/chat/completions?api-version=1", {"messages": []},
         ("openai_chat", "azure.ai.openai", "gpt-x")),
        ("https://bedrock-runtime.eu-west-1.amazonaws.com/model/anthropic.c-3%3A0/invoke", {"anthropic_version": "b"},
         ("anthropic_messages", "aws.bedrock", "anthropic.c-3:0")),
        ("https://europe-west4-aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/anthropic/models/c-4:rawPredict",
         {"anthropic_version": "v"}, ("anthropic_messages", "gcp.vertex_ai", "c-4")),
        ("https://europe-west4-aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/mistralai/models/m-4:rawPredict",
         {"messages": []}, ("openai_chat", "gcp.vertex_ai", "m-4")),
        ("https://bedrock-runtime.eu-west-1.amazonaws.com/model/amazon.t-1/invoke", {"inputText": "x"},
         ("bedrock_invoke", "aws.bedrock", "amazon.t-1")),
        ("https://bedrock-runtime.eu-west-1.amazonaws.com/model/amazon.n-1/converse-stream", {"messages": []},
         ("bedrock_converse", "aws.bedrock", "amazon.n-1")),
        ("http://localhost:8000/chain/invoke", {"input": "x"}, None),
        ("https://api.writer.com/v1/chat", BODY, ("openai_chat", "writer", None)),
        ("http://localhost:11434/api/embeddings", {"model": "m", "prompt": "x"}, ("ollama_embed", None, None)),
        ("https://api.mistral.ai/v1/conversations/conv_1/items", {"inputs": "x"}, None),
        ("https://api.openai.com/v1/conversations/conv_1", {"metadata": {}}, None),
        ("https://api.mistral.ai/v1/fim/completions", {"prompt": "x"}, ("openai_completions", "mistral_ai", None)),
        ("http://localhost:8000/v1/embeddings", {"model": "m", "input": "x"}, ("openai_embeddings", None, None)),
        ("http://localhost:8000/v1/embeddings", {"input": "x"}, None),
        ("https://api.openai.com/v1/images/generations", {"model": "m", "prompt": "x"}, None),
        ("https://llm.example.com/a/b/generate", {"q": "x"}, ("openai_chat", None, None)),
        ("https://llm.example.com/generate2", {"q": "x"}, None),
    ],
)  # fmt: skip
def test_endpoint_of_url_gives_dialect_provider_and_model(url: str, body: Any, expected: Any) -> None:
    found = endpoint_of(url, body, (OwnUrl("llm.example.com/*/generate", "openai_chat"),))
    assert (None if found is None else (found.dialect, found.server.provider, found.in_path.get("model"))) == expected


@pytest.mark.parametrize("end", ["", "/restart"])
def test_continued_conversation_has_the_id_of_its_path(end: str, server: ReplayServer, spans: CapturedSpans) -> None:
    answer = {"type": "message.output.delta", "content": "Yes."}
    server.reply(Reply.stream([answer, {"type": "conversation.response.done", "usage": {"prompt_tokens": 3}}]))
    url = f"{server.url}/v1/conversations/conv_1{end}"
    with httpx.stream("POST", url, json={"inputs": "still there?", "stream": True}) as response:
        response.read()
    found = attributes(spans.one())
    assert found["gen_ai.conversation.id"] == "conv_1"
    assert found["gen_ai.input.messages"][0]["parts"][0]["content"] == "still there?"
    assert found["gen_ai.output.messages"][0]["parts"][0]["content"] == "Yes."
    assert found["gen_ai.usage.input_tokens"] == 3


def test_events_of_converse_are_read_with_the_types_of_their_headers(
    server: ReplayServer, spans: CapturedSpans
) -> None:
    events = [
        {"messageStart": {"role": "assistant", "p": "abc"}},
        {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "Hel"}, "p": "ab"}},
        {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "lo"}, "p": "abcd"}},
        {"contentBlockStop": {"contentBlockIndex": 0}},
        {"messageStop": {"stopReason": "end_turn", "p": "a"}},
        {"metadata": {"usage": {"inputTokens": 4, "outputTokens": 2}, "metrics": {"latencyMs": 9}, "p": "abc"}},
    ]
    server.reply(Reply.stream(events, aws="events"))
    body = {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}
    with httpx.stream("POST", f"{server.url}/model/amazon.nova-x/converse-stream", json=body) as response:
        response.read()
    found = attributes(spans.one())
    assert found["gen_ai.request.model"] == "amazon.nova-x"
    assert found["gen_ai.output.messages"][0]["parts"] == [{"type": "text", "content": "Hello"}]
    assert found["gen_ai.response.finish_reasons"] == ["stop"]
    assert (found["gen_ai.usage.input_tokens"], found["gen_ai.usage.output_tokens"]) == (4, 2)
    assert "spancast.response.p" not in found


@pytest.mark.parametrize(
    ("body", "answer", "operation"),
    [
        ({"inputText": "hi"}, {"embedding": [0.5], "inputTextTokenCount": 3}, "embeddings"),
        ({"prompt": "hi"}, {"generation": "Hello", "prompt_token_count": 3, "stop_reason": "stop"}, "text_completion"),
        ({"messages": BODY["messages"]}, {"choices": [], "usage": {"prompt_tokens": 3}}, "chat"),
    ],
)
def test_body_of_each_vendor_on_bedrock_has_its_operation(
    body: Any, answer: Any, operation: str, server: ReplayServer, spans: CapturedSpans
) -> None:
    server.reply(Reply.json(answer))
    httpx.post(f"{server.url}/model/vendor.x-1/invoke", json=body)
    found = attributes(spans.one())
    assert found["gen_ai.operation.name"] == operation
    assert found["gen_ai.request.model"] == "vendor.x-1"
    assert found["gen_ai.usage.input_tokens"] == 3


def test_own_url_and_library_of_the_configuration_are_used(server: ReplayServer, spans: CapturedSpans) -> None:
    for name in HTTP_LIBRARIES:
        spancast.uninstrument(name)
    host = server.url.removeprefix("http://")
    lines = b"".join(
        json.dumps({"model": "m-1", "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": reason}]}).encode() + b"\n"
        for word, reason in (("one", None), (" two", "stop"))
    )  # fmt: skip
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ncontent-length: %d\r\n\r\n" % len(lines)
    server.reply(Reply.raw(head + lines))
    spancast.configure(os.devnull, tracer_provider=spans.provider, http_clients=["requests"],
                       completion_urls={f"{host}/mine/*": "openai_chat"})  # fmt: skip
    response = requests.post(
        f"{server.url}/mine/generate", json={"messages": BODY["messages"]}, timeout=30, stream=True
    )
    assert list(response.iter_lines())
    found = attributes(spans.one())
    assert found["gen_ai.output.messages"][0]["parts"] == [{"type": "text", "content": "one two"}]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"http_clients": ["curl"]}, r"http_clients\[0\].*aiohttp.*urllib3"),
        ({"completion_urls": {"llm.example.com/x": "openai"}}, r"completion_urls.*openai_chat, .*anthropic_messages"),
        ({"completion_urls": {"generate": "openai_chat"}}, r"completion_urls.*host and a path"),
    ],
)
def test_invalid_setting_raises_an_error_that_names_field_and_choices(settings: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        spancast.configure(**settings)


def test_compressed_bytes_that_the_caller_decodes_are_recorded(server: ReplayServer, spans: CapturedSpans) -> None:
    chunk = {
        "id": "c-1",
        "model": "m-1",
        "choices": [{"index": 0, "delta": {"content": "one"}, "finish_reason": "stop"}],
    }
    server.reply(*[Reply.stream([chunk], gzip=True)] * 2)
    url = f"{server.base_url}/chat/completions"
    raw = urllib3.request("POST", url, json=STREAM, preload_content=False, decode_content=False).read()
    assert b"one" in gzip.decompress(raw)

    async def call(session: aiohttp.ClientSession) -> bytes:
        async with session.post(url, json=STREAM) as response:
            return await response.read()

    assert b"one" in gzip.decompress(in_session(call, auto_decompress=False))
    for span in spans.all():
        assert attributes(span)["gen_ai.output.messages"][0]["parts"] == [{"type": "text", "content": "one"}]
    assert len(spans.all()) == 2


async def test_cancelled_read_of_aiohttp_can_be_repeated(server: ReplayServer, spans: CapturedSpans) -> None:
    gate = threading.Event()
    chunk = {
        "id": "c-1",
        "model": "m-1",
        "choices": [{"index": 0, "delta": {"content": "one"}, "finish_reason": "stop"}],
    }
    server.reply(Reply.stream([chunk], gates={0: gate}))
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{server.base_url}/chat/completions", json=STREAM) as response,
    ):
        task = asyncio.ensure_future(response.content.readline())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.set()
        assert b"one" in await response.content.read()
    assert attributes(spans.one())["gen_ai.output.messages"][0]["parts"] == [{"type": "text", "content": "one"}]


def test_long_stream_takes_bounded_memory(
    server: ReplayServer, spans: CapturedSpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spancast.instrumentation.http_body._CHECK_BYTES", 4096)
    kept: list[int] = []
    chunk = {"id": "c-1", "model": "m-1", "choices": [{"index": 0, "delta": {"content": "word "}}]}
    last = {**chunk, "choices": [{"index": 0, "delta": {"content": "end"}, "finish_reason": "stop"}]}
    server.reply(Reply.stream([chunk] * 2_000 + [last], crlf=True))
    with httpx.stream("POST", f"{server.base_url}/chat/completions", json=STREAM) as response:
        stream: Any = response.stream
        recorder = stream._self_recorder
        kept += [recorder.body.unparsed_bytes for _ in response.iter_bytes()]
    assert max(kept) < 4096 + (64 << 10)
    assert attributes(spans.one())["gen_ai.output.messages"][0]["parts"] == [
        {"type": "text", "content": "word " * 2_000 + "end"}
    ]


def test_spancast_run_records_the_libraries_of_the_configuration(server: ReplayServer, tmp_path: Path) -> None:
    config = {
        "http_clients": ["requests"],
        "destinations": {"f": {"type": "file", "path": str(tmp_path / "spans.jsonl")}},
        "spool": "memory",
    }
    (tmp_path / "spancast.yaml").write_text(json.dumps(config))
    program = (
        "import requests, urllib3\n"
        f"url, body = {server.base_url + '/chat/completions'!r}, {BODY!r}\n"
        "requests.post(url, json=body, timeout=30)\n"
        "urllib3.request('POST', url, json=body)\n"
    )
    command = [str(Path(sys.executable).with_name("spancast")), "run", "--", sys.executable, "-c", program]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=120, capture_output=True)
    assert len(server.requests) == 2
    assert (tmp_path / "spans.jsonl").read_text().count('"chat m-1"') == 1
