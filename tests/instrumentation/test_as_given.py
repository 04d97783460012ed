"""Deferred parsing does not change the call: its request, its errors, the end of its stream."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import openai
import openrouter
import pytest

import spancast
from spancast.diagnostics import reraise_internal_errors
from spancast.testing import CapturedSpans, ReplayServer
from spancast.testing.spans import attributes

MESSAGES: Any = [{"role": "user", "content": "hi"}]


@pytest.fixture
def client(server: ReplayServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0) as made:
        yield spancast.instrument(made)


def outcome(server: ReplayServer, client: Any, **keys: Any) -> object:
    with client:
        try:
            client.chat.send(model="m", messages=MESSAGES, **keys)
        except Exception as error:  # noqa: BLE001 - whatever the SDK raises
            return type(error)
    return server.requests[-1].body


@pytest.mark.parametrize(
    "keys",
    [
        {"user": "u" * 200, "session_id": "s" * 200},
        {"trace": {"span_name": "x" * 2000, "nested": {"a": [1, None]}}},
        {"trace": "no object"},
        {"trace": 5},
    ],
    ids=("long user", "long name", "text", "number"),
)
def test_keys_are_forwarded_as_given(keys: dict[str, Any], spans: CapturedSpans) -> None:
    with ReplayServer(openrouter=True) as server:
        plain = openrouter.OpenRouter(api_key="k", server_url=server.base_url)
        mine = spancast.instrument(openrouter.OpenRouter(api_key="k", server_url=server.base_url))
        expected, found = outcome(server, plain, **keys), outcome(server, mine, **keys)
    for body in (expected, found):
        if isinstance(body, dict) and isinstance(body.get("trace"), dict):
            # Added by spancast, so that OpenRouter's Broadcast joins the trace.
            body["trace"].pop("trace_id", None)
            body["trace"].pop("parent_span_id", None)
    if isinstance(found, dict) and isinstance(expected, dict) and "trace" not in expected:
        found.pop("trace")
    assert found == expected


def test_strict_parses_at_once_and_forwards_as_given(server: ReplayServer, spans: CapturedSpans) -> None:
    spancast.configure(tracer_provider=spans.provider, strict=True, forward_trace_keys="always")
    with openai.OpenAI(base_url=server.base_url, api_key="k") as made:
        trace = {"feature": {"a": [1, None, "x"]}, "tier": 2}
        spancast.instrument(made).chat.completions.create(model="m", messages=MESSAGES, user="u-1", trace=trace)
    body = server.requests[-1].body
    assert body["user"] == "u-1"
    assert body["trace"].items() >= trace.items()


def test_dropped_stream_ends_without_garbage_collection(server: ReplayServer, spans: CapturedSpans) -> None:
    with anthropic.Anthropic(api_key="k", base_url=server.url) as made:
        client: Any = spancast.instrument(made)
        gc.disable()
        try:
            stream = client.messages.create(model="m", max_tokens=5, messages=MESSAGES, stream=True)
            del stream
            assert len(spans.all()) == 1
        finally:
            gc.enable()
    assert attributes(spans.one())["spancast.response.incomplete"] == "abandoned"


class OddEvent:
    """An event of a decoder with another attribute for its text."""


class OddDecoder:
    def iter_bytes(self, pieces: Any) -> Any:
        for _ in pieces:
            yield OddEvent()


def test_unknown_decoder_does_not_break_the_stream(client: Any, spans: CapturedSpans) -> None:
    reraise_internal_errors(enabled=False)
    stream = client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    decoder = stream._decoder
    decoder._decoder = OddDecoder()
    # The SDK iterates over its decoder's events like this, until it needs their text.
    assert all(type(event) is OddEvent for event in decoder.iter_bytes(iter([b"a", b"b"])))
    stream.close()
    assert attributes(spans.one())["gen_ai.input.messages"]
    assert spancast.stats().internal_errors >= 1


def test_error_without_a_request_is_recorded(
    client: Any, spans: CapturedSpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        message = "no request is set"
        raise httpx2.ReadError(message)

    monkeypatch.setattr(client, "_process_response", broken)
    with pytest.raises(httpx2.ReadError):
        client.chat.completions.create(model="m", messages=MESSAGES)
    span = spans.one()
    assert attributes(span)["error.type"].endswith("ReadError")
    assert attributes(span)["gen_ai.input.messages"]
    assert [event.name for event in span.events] == ["exception"]
