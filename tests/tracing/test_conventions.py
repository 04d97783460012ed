"""Recorded traffic through the real SDKs: each call gives one complete span that follows the conventions."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import anthropic
import openai
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import SpanKind, StatusCode
from tests.dialects.streams import RECORDINGS, _check_messages, recordings
from tests.instrumentation.google_drivers import has_interactions

import spancast
from spancast.dialects.registry import DIALECTS, find_dialect
from spancast.testing import CapturedSpans, ReplayServer, Reply, captured_spans
from spancast.testing.spans import attributes

REGISTRY = json.loads((RECORDINGS / "schemas" / "gen_ai_registry.json").read_text())
CASES = [
    (dialect, name)
    for dialect in DIALECTS
    if has_interactions() or not dialect.startswith("gemini")
    for name in sorted(recordings(dialect))
]
TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,), "int": (int,), "double": (float,), "boolean": (bool,), "string[]": (list,),
    "any": (list, dict), "enum": (str,),
}  # fmt: skip
PATHS = {
    "openai_chat": "/chat/completions", "openai_completions": "/completions", "openai_embeddings": "/embeddings",
    "openai_responses": "/responses",
}  # fmt: skip
TYPED = {*PATHS, "anthropic_messages"}
WITHOUT_ANSWER = {
    ("gemini", "blocked"), ("gemini_interactions", "agent"),
    # Its client chooses the operation by the model.
    ("bedrock_invoke", "cohere_embed"), ("bedrock_invoke", "titan_embed"), ("bedrock_invoke", "unknown"),
}  # fmt: skip
EMBEDDING_PATHS = {"requests": "batchEmbedContents", "instances": "predict", "content": "embedContent"}


def replay_google(dialect: str, case: dict[str, Any], server: ReplayServer) -> None:
    from google import genai

    is_stream, body = "stream" in case, {k: v for k, v in case["request"].items() if k not in ("model", "stream")}
    server.reply(Reply.stream(case["stream"], done=False) if is_stream else Reply.json(case["response"]))
    options: Any = {"base_url": server.url, "retry_options": {"attempts": 1}}
    with genai.Client(api_key="k", http_options=options) as made:
        client: Any = spancast.instrument(made)
        with contextlib.suppress(Exception):
            if dialect == "gemini_interactions":
                answer = client.interactions.create(**case["request"])
                list(answer if is_stream else ())
                return
            path = f"models/{case['request']['model']}:"
            if is_stream:
                list(client._api_client.request_streamed("post", f"{path}streamGenerateContent?alt=sse", body))
                return
            embeds = [name for key, name in EMBEDDING_PATHS.items() if key in body]
            client._api_client.request("post", path + (embeds[0] if embeds else "generateContent"), body)


def replay(dialect: str, case: dict[str, Any], server: ReplayServer) -> None:
    if dialect.startswith("gemini"):
        replay_google(dialect, case, server)
        return
    is_stream = "stream" in case
    server.reply(Reply.stream(case["stream"]) if is_stream else Reply.json(case["response"]))
    parameters = {key: value for key, value in case["request"].items() if key not in ("trace", "session_id", "stream")}
    with contextlib.ExitStack() as stack:
        if dialect not in TYPED:
            # A format of one SDK; ``tests/contract`` drives that one.
            function = spancast.instrument(
                (lambda **_: iter(case["stream"])) if is_stream else (lambda **_: case["response"]), dialect=dialect
            )
            result = function(**parameters, **({"stream": True} if is_stream else {}))
            list(result)
            return
        if dialect == "anthropic_messages":
            client: Any = stack.enter_context(anthropic.Anthropic(base_url=server.url, api_key="k", max_retries=0))
            call, path = spancast.instrument(client).post, "/v1/messages"
        else:
            client = stack.enter_context(openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0))
            call = spancast.instrument(client).post
            path = PATHS[dialect]
        types: Any = {
            "openai_chat": (openai.types.chat.ChatCompletion, openai.Stream[openai.types.chat.ChatCompletionChunk]),
            "openai_completions": (openai.types.Completion, openai.Stream[openai.types.Completion]),
            "openai_embeddings": (openai.types.CreateEmbeddingResponse, openai.Stream[Any]),
            "openai_responses": (openai.types.responses.Response, openai.Stream[Any]),
            "anthropic_messages": (anthropic.types.Message, anthropic.Stream[Any]),
        }[dialect]
        with contextlib.suppress(openai.APIError, anthropic.APIError):
            if is_stream:
                list(
                    call(path, cast_to=types[0], body={**parameters, "stream": True}, stream=True, stream_cls=types[1])
                )
            else:
                call(path, cast_to=types[0], body=parameters)


@pytest.mark.parametrize(("dialect", "name"), CASES, ids=lambda value: value)
def test_every_recording_gives_the_span_of_the_conventions(
    dialect: str, name: str, server: ReplayServer, spans: CapturedSpans
) -> None:
    case = recordings(dialect)[name]
    replay(dialect, case, server)
    span = spans.one()
    found = attributes(span)

    model = case["request"].get("model")
    operation = getattr(find_dialect(dialect), "operation", "chat")
    assert span.name == (f"{operation} {model}" if model else operation)
    assert span.kind is SpanKind.CLIENT
    assert (span.status.status_code is StatusCode.ERROR) == ("error.type" in found)
    assert span.status.status_code is not StatusCode.OK
    assert {"gen_ai.operation.name", "gen_ai.provider.name"} <= set(found)
    assert dialect not in TYPED or {"server.address", "server.port"} <= set(found)
    for attribute, value in found.items():
        if attribute.startswith(("gen_ai.", "openai.")):
            # Variables of a stored prompt have names of the user's.
            kind = "string" if attribute.startswith("gen_ai.prompt.variable.") else REGISTRY.get(attribute)
            assert kind is not None, attribute
            assert isinstance(value, TYPES[kind]), (attribute, value)
    _check_messages(found.get("gen_ai.input.messages", []), "gen-ai-input-messages.json")
    _check_messages(found.get("gen_ai.output.messages", []), "gen-ai-output-messages.json")
    assert found.get("gen_ai.usage.cache_read.input_tokens", 0) <= found.get("gen_ai.usage.input_tokens", 0)
    assert found.get("gen_ai.usage.reasoning.output_tokens", 0) <= found.get("gen_ai.usage.output_tokens", 0)
    if dialect not in TYPED and not dialect.startswith("gemini"):
        # Formats without a model, an id or counts.
        is_finished = "gen_ai.response.finish_reasons" in found or "error.type" in found
        assert is_finished or operation == "embeddings" or (dialect, name) in WITHOUT_ANSWER
    elif operation == "embeddings":
        # Google names no model in an answer.
        named = set() if dialect.startswith("gemini") else {"gen_ai.response.model"}
        assert "error.type" in found or {*named, "gen_ai.usage.input_tokens"} <= set(found)
    elif "error.type" not in found and "stream" not in case and (dialect, name) not in WITHOUT_ANSWER:
        assert {
            "gen_ai.response.id", "gen_ai.response.model", "gen_ai.response.finish_reasons",
            "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens",
        } <= set(found)  # fmt: skip


def test_metrics_follow_the_conventions(server: ReplayServer) -> None:
    reader = InMemoryMetricReader()
    with captured_spans(meter_provider=MeterProvider([reader], shutdown_on_exit=False), chunk_metrics=True):
        for name in ("openrouter", "openrouter.stream", "error_body_http200"):
            replay("openai_chat", recordings("openai_chat")[name], server)
        data = reader.get_metrics_data()
    assert data is not None
    metrics = {m.name: m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics}
    prefix = "gen_ai.client.inference."
    assert {name.removeprefix(prefix): metric.unit for name, metric in metrics.items()} == {
        "duration": "s", "time_to_first_chunk": "s", "time_per_output_chunk": "s",
        "operation.input_tokens": "{token}", "operation.output_tokens": "{token}",
        "usage.input_tokens": "{token}", "usage.output_tokens": "{token}",
        "usage.cache_read.input_tokens": "{token}", "usage.cache_write.input_tokens": "{token}",
        "usage.reasoning.output_tokens": "{token}",
    }  # fmt: skip
    counted = metrics[prefix + "usage.input_tokens"].data.data_points
    assert sum(point.value for point in counted) == 80
    assert all("gen_ai.token.modality" in point.attributes for point in counted)
    durations = metrics[prefix + "duration"].data.data_points
    assert sum(point.count for point in durations) == 3
    assert {"error.type" in point.attributes for point in durations} == {True, False}
    assert durations[0].explicit_bounds[0] == 0.01
    assert sum(point.count for point in metrics[prefix + "time_to_first_chunk"].data.data_points) == 1
    allowed = {"gen_ai.", "server.", "error.", "openai."}
    for metric in metrics.values():
        for point in metric.data.data_points:
            assert all(any(key.startswith(start) for start in allowed) for key in point.attributes)
            assert "gen_ai.conversation.id" not in point.attributes


@pytest.mark.parametrize(("is_on", "has_meters"), [(True, True), (True, False), (False, True)])
def test_times_of_all_chunks_are_on_the_span_if_wanted(is_on: bool, has_meters: bool, server: ReplayServer) -> None:
    meters = MeterProvider([InMemoryMetricReader()] if has_meters else [], shutdown_on_exit=False)
    with captured_spans(meter_provider=meters, chunk_metrics=is_on) as spans:
        replay("openai_chat", recordings("openai_chat")["openrouter.stream"], server)
        attributes = dict(spans.one().attributes or {})
    times = attributes.get("spancast.response.chunk_times")
    if not is_on:
        assert times is None
        return
    assert isinstance(times, tuple)
    assert len(times) > 2
    assert list(times) == sorted(times)
    assert times[0] == attributes["gen_ai.response.time_to_first_chunk"]


@pytest.mark.parametrize("limit", [128, 64])
def test_attribute_limit_keeps_convention_attributes(
    limit: int, server: ReplayServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", str(limit))
    with captured_spans() as spans, openai.OpenAI(base_url=server.base_url, api_key="k") as client:
        spancast.instrument(client).chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hi"}], session_id="s",
            extra_body={f"odd_{n}": n for n in range(100)}, trace={f"key_{n}": n for n in range(100)},
        )  # fmt: skip
        span = spans.one()
    found = attributes(span)
    assert span.dropped_attributes == 0
    assert {
        "session.id", "gen_ai.request.model", "gen_ai.usage.input_tokens", "gen_ai.operation.name", "server.address",
        "gen_ai.input.messages", "gen_ai.output.messages",
    } <= set(found)  # fmt: skip
    everything = json.dumps(found)
    assert all(f"key_{n}" in everything and f"odd_{n}" in everything for n in range(100))
