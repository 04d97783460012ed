"""litellm: facts of its calls beyond the contract tests, its Router, and other libraries' callbacks."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from tests.instrumentation.litellm_drivers import FILTERS, close_async

import spancast
from spancast.dialects.anthropic_messages.answers import messages_answer, messages_events
from spancast.dialects.openai_chat.answers import chat_answer, chat_chunks
from spancast.testing import CapturedSpans, ReplayServer, Reply
from spancast.testing.spans import attributes

litellm: Any = pytest.importorskip("litellm")
# Bound before it is instrumented.
from litellm import acompletion, completion  # noqa: E402 - after the check

MESSAGES: list[Any] = [{"role": "user", "content": "hi"}]
pytestmark = [pytest.mark.filterwarnings(text) for text in FILTERS]


@pytest.fixture(autouse=True)
async def instrumented(spans: CapturedSpans) -> AsyncIterator[None]:
    litellm.suppress_debug_info = True
    litellm.disable_streaming_logging = True
    spancast.instrument("litellm")
    yield
    await close_async()


def chat(server: ReplayServer, **more: Any) -> dict[str, Any]:
    return {
        "model": "openai/m-1", "messages": MESSAGES, "api_base": server.base_url, "api_key": "sk-secret", "max_retries": 0,
        **more,
    }  # fmt: skip


def claude(server: ReplayServer, **more: Any) -> dict[str, Any]:
    return {**chat(server), "model": "anthropic/m-1", "api_base": server.url, "max_tokens": 9, **more}


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("anthropic/m-1", "anthropic"),
        ("mistral/m-1", "mistral_ai"),
        ("xai/m-1", "x_ai"),
        ("together_ai/m-1", "together"),
        ("openai/m-1", "_OTHER"),
        ("deepseek/m-1", "deepseek"),
        ("fireworks_ai/m-1", "fireworks"),
    ],
)
def test_provider_and_server_are_the_real_ones(
    model: str, provider: str, server: ReplayServer, spans: CapturedSpans
) -> None:
    base = server.url if model.startswith("anthropic") else server.base_url
    completion(**{**chat(server), "model": model, "api_base": base})
    found = attributes(spans.one())
    assert found["gen_ai.provider.name"] == provider
    assert found["server.address"] == "127.0.0.1"
    assert str(found["server.port"]) in server.url
    assert found["gen_ai.request.model"] == "m-1"


def test_no_argument_that_may_be_a_credential_is_recorded(server: ReplayServer, spans: CapturedSpans) -> None:
    completion(
        **chat(
            server, temperature=0.2, top_p=0.5, aws_secret_access_key="sk-secret", extra_headers={"x-key": "sk-secret"}
        )
    )
    found = attributes(spans.one())
    assert found["gen_ai.request.temperature"] == 0.2
    assert "sk-secret" not in repr(found)


def test_whole_answer_has_cost_cached_tokens_tool_calls_and_reasoning(
    server: ReplayServer, spans: CapturedSpans
) -> None:
    answer = chat_answer("Hello", model="gpt-4o", reasoning="Think.", tool_calls=[("weather", {"city": "Oslo"})])
    answer["usage"] = {
        "prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150,
        "prompt_tokens_details": {"cached_tokens": 60}, "completion_tokens_details": {"reasoning_tokens": 20},
    }  # fmt: skip
    server.reply(Reply.json(answer))
    result = completion(**{**chat(server), "model": "openai/gpt-4o"})
    found = attributes(spans.one())
    assert found["gen_ai.usage.input_tokens"] == 100
    assert found["gen_ai.usage.output_tokens"] == 50
    assert found["gen_ai.usage.cache_read.input_tokens"] == 60
    assert found["gen_ai.usage.reasoning.output_tokens"] == 20
    parts = found["gen_ai.output.messages"][0]["parts"]
    assert {part["type"] for part in parts} == {"reasoning", "text", "tool_call"}
    assert found["spancast.usage.cost"] == pytest.approx(result._hidden_params["response_cost"])
    assert found["spancast.cost.source"] == "litellm"
    assert found["spancast.cost.estimated"] is True


@pytest.mark.parametrize("include_usage", [False, True])
def test_stream_has_the_usage_that_the_provider_sends(
    server: ReplayServer, spans: CapturedSpans, *, include_usage: bool
) -> None:
    server.reply(Reply.stream(messages_events(messages_answer("Hello there", model="m-1"))))
    options: dict[str, Any] = {"stream_options": {"include_usage": True}} if include_usage else {}
    stream = completion(**claude(server), stream=True, **options)
    assert type(stream) is litellm.CustomStreamWrapper
    chunks = list(stream)
    found = attributes(spans.one())
    assert found["gen_ai.usage.input_tokens"] == 25
    assert found["gen_ai.output.messages"][0]["parts"] == [{"type": "text", "content": "Hello there"}]
    assert found["gen_ai.response.finish_reasons"] == ["stop"]
    assert "spancast.response.incomplete" not in found
    assert any(getattr(chunk, "usage", None) for chunk in chunks) == include_usage


def test_stream_without_usage_has_none_of_litellms_own_count(server: ReplayServer, spans: CapturedSpans) -> None:
    chunks = [{**one, "usage": None} for one in chat_chunks(chat_answer("Hello", model="m-1")) if one["choices"]]
    server.reply(Reply.stream(chunks))
    list(completion(**chat(server), stream=True))
    assert "gen_ai.usage.input_tokens" not in attributes(spans.one())


async def test_streams_of_responses_and_messages_are_the_same_objects(
    server: ReplayServer, spans: CapturedSpans
) -> None:
    pytest.importorskip("backoff")
    responses = {**chat(server), "model": "openai/gpt-4o", "input": "hi", "stream": True}
    del responses["messages"]
    for make in (
        lambda: litellm.aresponses(**responses),
        lambda: litellm.anthropic.messages.acreate(**claude(server), stream=True),
    ):
        stream = await make()
        name = type(stream).__name__
        assert getattr(sys.modules[type(stream).__module__], name) is type(stream)
        assert [chunk async for chunk in stream]
    assert [attributes(span)["gen_ai.usage.input_tokens"] for span in spans.calls()] == [9, 9]
    assert [attributes(span)["gen_ai.response.finish_reasons"] for span in spans.calls()] == [["stop"], ["stop"]]


def test_stream_of_responses_closed_early_is_recorded(server: ReplayServer, spans: CapturedSpans) -> None:
    stream = litellm.responses(model="openai/gpt-4o", input="hi", api_base=server.base_url, api_key="k", stream=True)
    next(stream)
    stream.close()
    assert attributes(spans.one())["spancast.response.incomplete"] == "closed"


async def test_responses_of_another_format_are_one_span(server: ReplayServer, spans: CapturedSpans) -> None:
    arguments = {**claude(server), "model": "anthropic/claude-sonnet-4-5", "input": "hi"}
    del arguments["messages"], arguments["max_tokens"]
    await litellm.aresponses(**arguments)
    span = spans.one()
    assert attributes(span)["gen_ai.provider.name"] == "anthropic"
    assert server.requests[0].path.endswith("/messages")


async def test_stream_is_iterable_both_ways(server: ReplayServer, spans: CapturedSpans) -> None:
    stream = await acompletion(**chat(server), stream=True)
    assert type(stream) is litellm.CustomStreamWrapper
    assert [chunk async for chunk in stream]
    assert spans.one().name == "chat m-1"


def test_text_stream_dropped_unread_is_recorded(server: ReplayServer, spans: CapturedSpans) -> None:
    stream = litellm.text_completion(
        model="text-completion-openai/m-1", prompt="hi", api_base=server.base_url, api_key="k", stream=True
    )
    next(stream)
    del stream
    gc.collect()
    span = spans.one()
    assert span.name == "text_completion m-1"
    assert attributes(span)["spancast.response.incomplete"] == "abandoned"


@pytest.mark.parametrize(
    ("arguments", "body", "expected"),
    [
        (claude, {"type": "error", "error": {"type": "rate_limit_error", "message": "busy"}}, "rate_limit_error"),
        (
            chat,
            {"error": {"message": "busy", "type": "server_error", "code": "insufficient_quota"}},
            "insufficient_quota",
        ),
    ],
)
def test_error_type_is_the_code_of_the_provider(
    arguments: Any, body: dict[str, Any], expected: str, server: ReplayServer, spans: CapturedSpans
) -> None:
    server.reply(Reply.error(429, body))
    with pytest.raises(litellm.RateLimitError):
        completion(**arguments(server))
    found = attributes(spans.one())
    assert found["error.type"] == expected
    assert found["spancast.response.status_code"] == 429
    assert found["server.address"] == "127.0.0.1"


def test_retries_of_litellm_are_one_span(server: ReplayServer, spans: CapturedSpans) -> None:
    server.reply(Reply.error(500))
    completion(**chat(server), num_retries=1)
    assert len(server.requests) == 2
    span = spans.one()
    assert span.status.is_unset
    assert "error.type" not in attributes(span)


async def test_fallbacks_of_a_call_are_one_span(server: ReplayServer, spans: CapturedSpans) -> None:
    server.reply("/chat/completions", Reply.error(401))
    await acompletion(**chat(server), fallbacks=[{"model": "anthropic/m-2", "api_base": server.url}])
    span = spans.one()
    found = attributes(span)
    assert span.status.is_unset
    assert found["gen_ai.provider.name"] == "anthropic"
    assert found["gen_ai.response.model"] == "m-2"


def test_mock_response_is_a_span(spans: CapturedSpans) -> None:
    completion(model="openai/gpt-4o", messages=MESSAGES, mock_response="Hello")
    found = attributes(spans.one())
    assert found["gen_ai.provider.name"] == "openai"
    assert found["gen_ai.output.messages"][0]["parts"] == [{"type": "text", "content": "Hello"}]


def test_answer_from_the_cache_is_marked(server: ReplayServer, spans: CapturedSpans, monkeypatch: Any) -> None:
    pytest.importorskip("backoff")
    monkeypatch.setattr(litellm, "cache", litellm.Cache(type="local"))
    for _ in range(2):
        completion(**chat(server), caching=True)
    assert len(server.requests) == 1
    hits = [attributes(span).get("spancast.response.cache_hit") for span in spans.calls()]
    assert hits == [None, True]


def test_keys_in_metadata_are_taken_by_their_names(server: ReplayServer, spans: CapturedSpans) -> None:
    completion(
        **chat(server),
        metadata={"generation_name": "classify", "session_id": "chat-42", "trace_user_id": "u-7", "tags": ["a", "b"]},
    )
    span = spans.one()
    found = attributes(span)
    assert span.name == "classify"
    assert found["session.id"] == "chat-42"
    assert found["user.id"] == "u-7"
    assert found["trace.metadata.tags"] == ["a", "b"]


def test_metadata_of_the_proxy_is_that_of_its_client(server: ReplayServer, spans: CapturedSpans) -> None:
    sent = {"feature": "x", "session_id": "s-1", "headers": {"cookie": "c"}, "used_client_oauth_token": False}
    completion(**chat(server), metadata={"user_api_key": "hash", "headers": {"a": "b"}, "requester_metadata": sent})
    found = attributes(spans.one())
    assert {name: value for name, value in found.items() if name.startswith(("trace.", "session"))} == {
        "session.id": "s-1",
        "trace.metadata.feature": "x",
    }


@pytest.mark.parametrize("arguments", [chat, claude])
def test_disabled_call_has_no_span_of_an_sdk_either(arguments: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    spancast.instrument()
    completion(**arguments(server), trace={"enabled": False})
    assert spans.all() == []
    assert "trace" not in server.requests[0].body


def test_keys_are_forwarded_to_openrouter(server: ReplayServer, spans: CapturedSpans) -> None:
    completion(
        model="openrouter/openai/m-1", messages=MESSAGES, api_base=server.base_url, api_key="k",
        trace={"trace_id": "order-1"}, session_id="s-1",
    )  # fmt: skip
    span = spans.one()
    body = server.requests[0].body
    assert body["session_id"] == "s-1"
    assert body["trace"] == {"trace_id": "order-1", "parent_span_id": f"{span.context.span_id:016x}"}
    assert attributes(span)["gen_ai.request.model"] == "openai/m-1"


def test_call_in_a_callback_has_a_span_of_its_own(server: ReplayServer, spans: CapturedSpans, monkeypatch: Any) -> None:
    done = threading.Event()

    def judge(*_: Any) -> None:
        monkeypatch.setattr(litellm, "success_callback", [])
        with openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0) as client:
            client.chat.completions.create(model="judge", messages=MESSAGES)
        done.set()

    spancast.instrument("openai")
    monkeypatch.setattr(litellm, "success_callback", [judge])
    completion(**claude(server))
    assert done.wait(30)
    assert {span.name for span in spans.calls()} == {"chat m-1", "chat judge"}


def named(spans: CapturedSpans, name: str) -> int:
    [found] = [span for span in spans.all() if span.name == name]
    assert found.context is not None
    return found.context.span_id


def router(server: ReplayServer, **more: Any) -> Any:
    one = {name: value for name, value in chat(server).items() if name != "messages"}
    other = {name: value for name, value in claude(server, model="anthropic/m-2").items() if name != "messages"}
    return litellm.Router(
        model_list=[
            {"model_name": "fast", "litellm_params": one},
            {"model_name": "slow", "litellm_params": other},
        ],
        retry_after=0, **more,
    )  # fmt: skip


def test_attempts_of_a_router_are_spans_in_one_group(server: ReplayServer, spans: CapturedSpans) -> None:
    server.reply("/chat/completions", Reply.error(500))
    router(server, num_retries=1).completion(model="fast", messages=MESSAGES, session_id="s-1")
    assert [span.status.is_unset for span in spans.calls()] == [False, True]
    assert {span.parent.span_id for span in spans.calls()} == {named(spans, "router fast")}
    assert {attributes(span)["session.id"] for span in spans.calls()} == {"s-1"}
    assert all("session_id" not in request.body for request in server.requests)


async def test_fallback_of_a_router_is_in_the_group(server: ReplayServer, spans: CapturedSpans) -> None:
    server.reply("/chat/completions", Reply.error(401))
    routes = router(server, num_retries=0, fallbacks=[{"fast": ["slow"]}])
    await routes.acompletion(model="fast", messages=MESSAGES, trace={"trace_id": "order-1", "span_name": "triage"})
    assert [attributes(span)["gen_ai.provider.name"] for span in spans.calls()] == ["_OTHER", "anthropic"]
    assert {span.parent.span_id for span in spans.calls()} == {named(spans, "triage")}
    assert all("trace" not in request.body for request in server.requests)


async def test_calls_of_a_router_at_once_have_groups_of_their_own(server: ReplayServer, spans: CapturedSpans) -> None:
    routes = router(server)
    await asyncio.gather(*(routes.acompletion(model="fast", messages=MESSAGES) for _ in range(3)))
    assert len(spans.calls()) == 3
    assert len({span.parent.span_id for span in spans.calls()}) == 3
