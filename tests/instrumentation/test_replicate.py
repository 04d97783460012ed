"""What is special in replicate: predictions that are asked for until they end, and streams by a second request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import spancast
from spancast.testing import CapturedSpans, ReplayServer, Reply
from spancast.testing.spans import attributes

replicate = pytest.importorskip("replicate")
KEYS: dict[str, Any] = {
    "session_id": "chat-42", "trace": {"trace_name": "Support", "generation_name": "classify", "feature": "billing"},
}  # fmt: skip
MODEL, PROMPT = "meta/llama", {"prompt": "hi", "max_new_tokens": 5}
CREATE, FETCH, STREAM = "/v1/models/meta/llama/predictions", "/v1/predictions/p1", "/v1/stream/p1"
METRICS = {"predict_time": 0.4, "input_token_count": 3, "output_token_count": 2}


@pytest.fixture(autouse=True)
def instrumented() -> Iterator[None]:
    spancast.instrument("replicate")
    yield
    spancast.uninstrument("replicate")


@pytest.fixture
def client(server: ReplayServer) -> Iterator[Any]:
    made = replicate.Client(api_token="test", base_url=server.url)
    made.poll_interval = 0.0
    yield made
    made._client.close()


def prediction(status: str, output: Any = None, **rest: Any) -> Reply:
    state = {"id": "p1", "model": MODEL, "version": "v1", "input": PROMPT, "logs": "", "error": None}
    return Reply.json(state | {"status": status, "output": output, "urls": {"stream": STREAM}, **rest})


def events(*texts: str, cut_after: int | None = None) -> Reply:
    frames = [f"event: output\nid: {n}\ndata: {text}\n\n" for n, text in enumerate(texts)]
    body = "".join([*frames, "event: done\nid: 9\ndata: {}\n\n"][:cut_after])
    return Reply.raw(f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{body}".encode())


def test_run_has_one_span_over_all_its_requests(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    server.reply(CREATE, prediction("starting"))
    server.reply(FETCH, prediction("processing", ["Hel"]), prediction("succeeded", ["Hel", "lo"], metrics=METRICS))
    assert client.run(MODEL, input=PROMPT, **KEYS) == ["Hel", "lo"]
    assert [request.method for request in server.requests] == ["POST", "GET", "GET"]
    assert server.requests[0].body == {"input": PROMPT}
    assert spans.tree() == {"Support": {"classify": {}}}
    found = attributes(spans.calls()[0])
    assert (
        found.items()
        >= {
            "gen_ai.operation.name": "generate_content",
            "gen_ai.provider.name": "replicate",
            "gen_ai.request.model": MODEL,
            "gen_ai.request.max_tokens": 5,
            "gen_ai.response.id": "p1",
            "gen_ai.response.model": MODEL,
            "gen_ai.response.finish_reasons": ["stop"],
            "gen_ai.usage.input_tokens": 3,
            "gen_ai.usage.output_tokens": 2,
            "server.address": "127.0.0.1",
            "session.id": "chat-42",
            "trace.metadata.feature": "billing",
        }.items()
    )
    assert found["gen_ai.input.messages"] == [{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]
    assert found["gen_ai.output.messages"][0]["parts"] == [{"type": "text", "content": "Hello"}]


def test_run_that_fails_has_the_error_of_the_model(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    server.reply(CREATE, prediction("failed", error="out of memory", metrics={"predict_time": 0.1}))
    with pytest.raises(replicate.exceptions.ModelError, match="out of memory"):
        client.run(MODEL, input=PROMPT)
    span = spans.one()
    assert not span.status.is_ok
    assert not span.status.is_unset
    assert attributes(span)["gen_ai.response.id"] == "p1"


VERSION = {
    "id": "v1", "created_at": "2026-11-01T00:00:00Z", "cog_version": "0.9.0",
    "openapi_schema": {"components": {"schemas": {"Output": {"type": "array", "x-cog-array-type": "iterator"}}}},
}  # fmt: skip


def test_iterator_that_asks_for_its_output_is_recorded_to_its_end(
    client: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    server.reply("/v1/predictions", prediction("starting"))
    server.reply("/versions/v1", Reply.json(VERSION))
    server.reply(FETCH, prediction("processing", ["Hel"]), prediction("succeeded", ["Hel", "lo"], metrics=METRICS))
    assert list(client.run(f"{MODEL}:v1", input=PROMPT, wait=False, **KEYS)) == ["Hel", "lo"]
    assert spans.tree() == {"Support": {"classify": {}}}
    found = attributes(spans.calls()[0])
    assert found["gen_ai.request.model"] == MODEL
    assert found["gen_ai.usage.output_tokens"] == 2
    assert found["gen_ai.output.messages"][0]["parts"] == [{"type": "text", "content": "Hello"}]


def test_stream_is_recorded_with_its_two_requests(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    server.reply(CREATE, prediction("starting"))
    server.reply(STREAM, events("Hel", "lo"))
    stream = client.stream(MODEL, input=PROMPT, **KEYS)
    assert not server.requests
    assert [str(event) for event in stream] == ["Hel", "lo", ""]
    assert server.requests[0].body == {"input": PROMPT, "stream": True}
    assert spans.tree() == {"Support": {"classify": {}}}
    found = attributes(spans.calls()[0])
    assert found["gen_ai.response.id"] == "p1"
    assert found["gen_ai.response.finish_reasons"] == ["stop"]
    assert found["gen_ai.output.messages"][0]["parts"] == [{"type": "text", "content": "Hello"}]
    assert "gen_ai.response.time_to_first_chunk" in found
    assert "spancast.response.incomplete" not in found


def test_stream_left_early_has_the_part_that_arrived(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    server.reply(CREATE, prediction("starting"))
    server.reply(STREAM, events("Hel", "lo"))
    stream = client.stream(MODEL, input=PROMPT)
    next(stream)
    stream.close()
    found = attributes(spans.one())
    assert found["spancast.response.incomplete"] == "closed"
    assert found["gen_ai.output.messages"][0]["parts"] == [{"type": "text", "content": "Hel"}]


def test_created_prediction_is_a_span_and_its_keys_are_not_sent(
    client: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    client.models.predictions.create(MODEL, input=PROMPT, **KEYS)
    client.predictions.create(model=MODEL, input=PROMPT, **KEYS)
    client.predictions.create(version="v1", input=PROMPT)
    assert [request.body for request in server.requests][:2] == [{"input": PROMPT}] * 2
    found = [attributes(span) for span in spans.calls()]
    assert [one.get("gen_ai.request.model") for one in found] == [MODEL] * 3
    assert [one.get("session.id") for one in found] == ["chat-42", "chat-42", None]
    assert found[0]["gen_ai.output.messages"][0]["parts"] == [{"type": "text", "content": "hi"}]


def test_prediction_without_a_prompt_has_no_span(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    server.reply("/predictions", prediction("succeeded", "https://example.com/a.png"))
    client.run("acme/upscaler", input={"scale": 2}, trace={"trace_name": "Support"})
    assert server.requests[0].body == {"input": {"scale": 2}}
    assert spans.all() == []
    assert spancast.stats().keys_not_traced == 1


async def test_async_calls_are_recorded(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    server.reply(CREATE, prediction("starting"), prediction("starting"))
    server.reply(FETCH, prediction("succeeded", ["Hel", "lo"], metrics=METRICS))
    server.reply(STREAM, events("Hel", "lo"))
    assert await client.async_run(MODEL, input=PROMPT, **KEYS) == ["Hel", "lo"]
    stream = await client.async_stream(MODEL, input=PROMPT, **KEYS)
    assert [str(event) async for event in stream] == ["Hel", "lo", ""]
    await client.models.predictions.async_create(MODEL, input=PROMPT, **KEYS)
    await client._async_client.aclose()
    found = [attributes(span) for span in spans.calls()]
    assert [one["session.id"] for one in found] == ["chat-42"] * 3
    assert [one["gen_ai.output.messages"][0]["parts"][0]["content"] for one in found] == ["Hello", "Hello", "hi"]


def test_function_of_the_module_that_was_imported_before_is_recorded(
    server: ReplayServer, spans: CapturedSpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicate.default_client, "_base_url", server.url)
    assert replicate.run(MODEL, input=PROMPT, **KEYS) == ["h", "i"]
    assert attributes(spans.calls()[0])["gen_ai.request.model"] == MODEL
    replicate.default_client._client.close()


def test_single_client_is_instrumented(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    spancast.uninstrument("replicate")
    spancast.instrument(client)
    server.reply(CREATE, prediction("starting"), prediction("succeeded", ["a"]))
    server.reply(STREAM, events("Hel", "lo"))
    assert [str(event) for event in client.stream(MODEL, input=PROMPT, **KEYS)] == ["Hel", "lo", ""]
    client.models.predictions.create(MODEL, input=PROMPT)
    other = replicate.Client(api_token="test", base_url=server.url)
    other.run(MODEL, input=PROMPT)
    other._client.close()
    assert len(spans.calls()) == 2
