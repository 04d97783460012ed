"""Calls that code of the caller makes while an SDK is in the middle of another call."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import openai
import pytest

import spancast
from spancast.testing import CapturedSpans, ReplayServer
from spancast.testing.spans import attributes


def messages(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def guard_of_anthropic(server: ReplayServer) -> Callable[[], object]:
    client = spancast.instrument(anthropic.Anthropic(base_url=server.url, api_key="k", max_retries=0))
    return lambda: client.messages.create(model="guard", max_tokens=9, messages=messages("guard?"))


def guard_of_openai(server: ReplayServer) -> Callable[[], object]:
    client = spancast.instrument(openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0))
    return lambda: client.chat.completions.create(model="guard", messages=messages("guard?"))


def as_hook(guard: Callable[[], object]) -> Callable[[object], None]:
    def hook(_request: object) -> None:
        guard()

    return hook


def as_signal_handler(guard: Callable[[], object]) -> Callable[[object], None]:
    def handler(*_: object) -> None:
        guard()

    signal.signal(signal.SIGUSR1, handler)

    def hook(_request: object) -> None:
        os.kill(os.getpid(), signal.SIGUSR1)

    return hook


@pytest.fixture(autouse=True)
def restored_handler() -> Iterator[None]:
    if not hasattr(signal, "SIGUSR1"):
        pytest.skip("the system has no signals of the user's")
    before = signal.getsignal(signal.SIGUSR1)
    yield
    signal.signal(signal.SIGUSR1, before)


def client_with(server: ReplayServer, hook: Any) -> openai.OpenAI:
    client = spancast.instrument(openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0))
    if hook:
        client._client.event_hooks["request"].append(hook)
    return client


def told(span: Any) -> dict[str, Any]:
    """Return what a span says of its call, without the id that the server counts, and times."""
    found = attributes(span)
    return {name: value for name, value in found.items() if name != "gen_ai.response.id"}


@pytest.mark.parametrize("interrupt", [as_hook, as_signal_handler])
@pytest.mark.parametrize("make_guard", [guard_of_openai, guard_of_anthropic])
def test_call_during_a_call_of_an_sdk_has_its_own_span(
    interrupt: Any, make_guard: Any, spans: CapturedSpans, server: ReplayServer
) -> None:
    guard = make_guard(server)
    with client_with(server, None) as client:
        client.chat.completions.create(model="m", messages=messages("hi"))
        alone = told(spans.one())
        spans.clear()
        guard()
        guard_alone = told(spans.one())
        spans.clear()
    with client_with(server, interrupt(guard)) as client:
        client.chat.completions.create(model="m", messages=messages("hi"))
    of_guard, of_call = spans.calls()
    assert (of_guard.name, of_call.name) == ("chat guard", "chat m")
    assert told(of_call) == alone
    assert told(of_guard) == guard_alone
    assert of_guard.parent == of_call.context


async def test_call_in_a_hook_of_an_async_client_has_its_own_span(spans: CapturedSpans, server: ReplayServer) -> None:
    guard = spancast.instrument(openai.AsyncOpenAI(base_url=server.base_url, api_key="k", max_retries=0))

    async def hook(_request: object) -> None:
        stream = await guard.chat.completions.create(model="guard", messages=messages("guard?"), stream=True)
        _ = [chunk async for chunk in stream]

    client = spancast.instrument(openai.AsyncOpenAI(base_url=server.base_url, api_key="k", max_retries=0))
    client._client.event_hooks["request"].append(hook)
    async with guard, client:
        await client.chat.completions.create(model="m", messages=messages("hi"))
    of_guard, of_call = map(attributes, spans.calls())
    assert (of_guard["gen_ai.request.model"], of_call["gen_ai.request.model"]) == ("guard", "m")
    assert of_guard["gen_ai.output.messages"][0]["parts"]
    assert "gen_ai.request.stream" not in of_call


def test_call_during_a_call_inside_a_function_has_its_own_span(spans: CapturedSpans, server: ReplayServer) -> None:
    guard = guard_of_anthropic(server)

    @spancast.instrument
    def ask(model: str) -> Any:
        with client_with(server, as_hook(guard)) as client:
            return client.chat.completions.create(model=model, messages=messages("hi"))

    ask(model="m")
    of_guard, of_call = map(attributes, spans.calls())
    assert (of_guard["gen_ai.request.model"], of_call["gen_ai.request.model"]) == ("guard", "m")
    assert of_guard["gen_ai.input.messages"][0]["parts"][0]["content"] == "guard?"
    assert of_call["gen_ai.input.messages"][0]["parts"][0]["content"] == "hi"


def test_call_during_a_call_that_is_not_recorded_is_not_either(spans: CapturedSpans, server: ReplayServer) -> None:
    with client_with(server, as_hook(guard_of_openai(server))) as client:
        client.chat.completions.create(model="m", messages=messages("hi"), extra_body={"trace": {"enabled": False}})
    assert not spans.calls()
    assert len(server.requests) == 2
