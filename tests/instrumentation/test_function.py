"""``@spancast.instrument`` on functions of every kind: they behave as without it and are recorded."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import types
import warnings
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import wrapt
from tests.tracing.test_generator_steps import (
    GENERATORS,
    OPERATIONS,
    async_refuses_to_close,
    async_returns_at_close,
    async_script,
    played,
    played_async,
)

import spancast
from spancast.dialects.openai_chat.answers import chat_answer, chat_chunks
from spancast.testing import CapturedSpans
from spancast.testing.spans import attributes

REQUEST: Any = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
ANSWER = chat_answer("hello", model="m")
CHUNKS = chat_chunks(ANSWER)


def output_text(span: Any) -> str:
    return attributes(span)["gen_ai.output.messages"][0]["parts"][0]["content"]


# --- the kind of the called function --------------------------------------------------------------


async def coroutine(**_: Any) -> Any:
    await asyncio.sleep(0)
    return ANSWER


def generator(**_: Any) -> Generator[Any, Any, str]:
    yield from CHUNKS
    return "returned"


async def async_generator(**_: Any) -> AsyncGenerator[Any]:
    for chunk in CHUNKS:
        await asyncio.sleep(0)
        yield chunk


@functools.wraps(coroutine)
def made_sync(**request: Any) -> Any:
    return asyncio.run(coroutine(**request))


@functools.wraps(generator)
def joined(**request: Any) -> Any:
    return {**ANSWER, "chunks": len(list(generator(**request)))}


@wrapt.decorator
def run_by(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    return asyncio.run(wrapped(*args, **kwargs))


@wrapt.decorator
def passed_on(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    return wrapped(*args, **kwargs)


class CallableObject:
    def __call__(self, **_: Any) -> Any:
        return ANSWER


class AsksLater:
    async def __call__(self, **_: Any) -> Any:
        return ANSWER


class Bot:
    @spancast.instrument
    @classmethod
    def of_class(cls, **_: Any) -> Any:
        assert cls is Bot
        return ANSWER

    @spancast.instrument
    @classmethod
    async def of_class_later(cls, **_: Any) -> Any:
        assert cls is Bot
        return ANSWER

    @spancast.instrument
    @staticmethod
    def of_nothing(**_: Any) -> Any:
        yield from CHUNKS

    @staticmethod
    @spancast.instrument
    async def under_static(**_: Any) -> Any:
        for chunk in CHUNKS:
            yield chunk

    def method(self, **_: Any) -> Any:
        return (chunk for chunk in CHUNKS)


@types.coroutine
def by_generator(**_: Any) -> Any:
    yield from asyncio.sleep(0).__await__()
    return ANSWER


FUNCTIONS: dict[str, tuple[Callable[..., Any], str]] = {
    "made synchronous": (made_sync, "answer"),
    "joined": (joined, "answer"),
    "made synchronous by a proxy": (run_by(coroutine), "answer"),
    "proxy": (passed_on(coroutine), "coroutine"),
    "proxy of a generator": (passed_on(generator), "generator"),
    "partial": (functools.partial(coroutine, temperature=0.5), "coroutine"),
    "partial generator": (functools.partial(generator), "generator"),
    "partial async generator": (functools.partial(async_generator), "async generator"),
    "object": (CallableObject(), "answer"),
    "object that is awaited": (AsksLater(), "coroutine"),
    "bound method": (Bot().method, "generator"),
    "returns a coroutine": (lambda **request: coroutine(**request), "coroutine"),
    "returns a generator": (lambda **request: generator(**request), "generator"),
    "returns an async generator": (lambda **request: async_generator(**request), "async generator"),
    "awaited generator": (by_generator, "awaitable"),
    "coroutine": (coroutine, "coroutine"),
    "generator": (generator, "generator"),
    "async generator": (async_generator, "async generator"),
}


async def read(result: Any, kind: str) -> Any:
    """Return the items of a result, which is asserted to be of ``kind``."""
    if kind in ("coroutine", "awaitable"):
        assert kind == "awaitable" or inspect.iscoroutine(result)
        return await result
    if kind == "generator":
        assert type(result) is types.GeneratorType
        return list(result)
    if kind == "async generator":
        assert type(result) is types.AsyncGeneratorType
        return [chunk async for chunk in result]
    return result


@pytest.mark.parametrize("name", FUNCTIONS)
async def test_function_is_recorded_by_its_result(name: str, spans: CapturedSpans) -> None:
    function, kind = FUNCTIONS[name]
    recorded = spancast.instrument(function)
    for question in (
        inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction, inspect.isfunction,
        inspect.signature, callable,
    ):  # fmt: skip
        assert question(recorded) == question(function)
    # The synchronous ones run an event loop of their own.
    result = await asyncio.to_thread(recorded, **REQUEST) if kind == "answer" else recorded(**REQUEST)
    plain = await asyncio.to_thread(function, **REQUEST) if kind == "answer" else function(**REQUEST)
    assert (getattr(result, "__name__", None), getattr(result, "__qualname__", None)) == (
        getattr(plain, "__name__", None), getattr(plain, "__qualname__", None),
    )  # fmt: skip
    assert await read(result, kind) == await read(plain, kind)
    assert output_text(spans.one()) == "hello"
    assert "spancast.response.incomplete" not in attributes(spans.one())


async def test_instrument_of_class_and_static_methods_records_them(spans: CapturedSpans) -> None:
    assert Bot.of_class(**REQUEST) is Bot().of_class(**REQUEST) is ANSWER  # type: ignore[attr-defined]
    assert await Bot.of_class_later(**REQUEST) is ANSWER  # type: ignore[attr-defined]
    assert list(Bot.of_nothing(**REQUEST)) == CHUNKS  # type: ignore[attr-defined]
    assert [chunk async for chunk in Bot.under_static(**REQUEST)] == CHUNKS  # type: ignore[attr-defined]
    assert [output_text(span) for span in spans.all()] == ["hello"] * 5


def test_class_method_with_a_key_parameter_gets_the_key(spans: CapturedSpans) -> None:
    class Named:
        @spancast.instrument
        @classmethod
        def ask(cls, *, trace: Any, **request: Any) -> Any:
            return {**ANSWER, "trace": trace, "rest": sorted(request)}

    answer = Named.ask(**REQUEST, trace={"a": 1}, session_id="s")  # type: ignore[attr-defined]
    assert (answer["trace"], answer["rest"]) == ({"a": 1}, ["messages", "model"])


async def test_context_managers_work_as_without_us(spans: CapturedSpans) -> None:
    @spancast.instrument
    @contextmanager
    def ask(**_: Any) -> Generator[Any]:
        yield ANSWER

    @spancast.instrument
    @asynccontextmanager
    async def ask_async(**_: Any) -> AsyncGenerator[Any]:
        yield ANSWER

    with ask(**REQUEST) as answer:
        assert answer is ANSWER
    async with ask_async(**REQUEST) as answer:
        assert answer is ANSWER
    assert not inspect.isgeneratorfunction(ask)
    assert len(spans.all()) == 2


# --- the complete generator protocol --------------------------------------------------------------


def ids(operations: list[tuple[str, Any]]) -> str:
    return " ".join(name for name, _ in operations)


@pytest.mark.parametrize("operations", OPERATIONS, ids=ids)
@pytest.mark.parametrize("function", GENERATORS)
@pytest.mark.parametrize("way", ["generator function", "returned"])
def test_recorded_generator_behaves_as_the_generator(
    way: str, function: Any, operations: list[tuple[str, Any]], spans: CapturedSpans
) -> None:
    recorded = spancast.instrument(function if way == "generator function" else lambda: function())
    assert played(recorded(), operations) == played(function(), operations)
    gc.collect()
    # The call of a generator function starts with its first step; that of a function returning one starts at once.
    assert len(spans.all()) == (way == "returned" or operations[0][0] == "next" or operations[1:2] == [("send", None)])


@pytest.mark.parametrize("operations", OPERATIONS, ids=ids)
@pytest.mark.parametrize("function", [async_script, async_refuses_to_close, async_returns_at_close])
@pytest.mark.parametrize("way", ["generator function", "returned"])
async def test_recorded_async_generator_behaves_as_the_generator(
    way: str, function: Any, operations: list[tuple[str, Any]], spans: CapturedSpans
) -> None:
    recorded = spancast.instrument(function if way == "generator function" else lambda: function())
    assert await played_async(recorded(), operations) == await played_async(function(), operations)


@pytest.mark.parametrize("name", ["returns a generator", "proxy of a generator", "generator"])
def test_recorded_generator_passes_the_return_value(name: str, spans: CapturedSpans) -> None:
    recorded = spancast.instrument(FUNCTIONS[name][0])

    def outer() -> Generator[Any, Any, Any]:
        return (yield from recorded(**REQUEST))

    running = outer()
    assert [next(running) for _ in CHUNKS] == CHUNKS
    with pytest.raises(StopIteration, match="returned"):
        next(running)
    assert output_text(spans.one()) == "hello"


@pytest.mark.parametrize("way", ["generator function", "returned"])
def test_generator_that_returns_on_close_is_recorded_as_closed(way: str, spans: CapturedSpans) -> None:
    def function(**_: Any) -> Any:
        try:
            yield CHUNKS[0]
            yield CHUNKS[1]
        except GeneratorExit:
            return

    recorded = spancast.instrument(function if way == "generator function" else lambda **_: function())
    running = recorded(**REQUEST)
    next(running)
    running.close()
    assert attributes(spans.one())["spancast.response.incomplete"] == "closed"


@pytest.mark.parametrize("name", ["returns a generator", "returns an async generator", "returns a coroutine"])
async def test_inner_calls_of_a_step_annotate_the_same_span(name: str, spans: CapturedSpans) -> None:
    inner: Any = spancast.instrument(lambda **_: ANSWER)

    async def coroutine(**request: Any) -> Any:
        return inner(**request)

    def generator(**request: Any) -> Any:
        inner(**request)
        yield CHUNKS[0]

    async def async_generator(**request: Any) -> Any:
        inner(**request)
        yield CHUNKS[0]

    made = {"returns a coroutine": coroutine, "returns a generator": generator}.get(name, async_generator)
    result = spancast.instrument(lambda **request: made(**request))(**REQUEST)
    await read(result, FUNCTIONS[name][1])
    assert len(spans.all()) == 1


async def test_coroutine_never_awaited_warns_once_with_its_name(spans: CapturedSpans) -> None:
    for recorded in (spancast.instrument(coroutine), spancast.instrument(lambda **request: coroutine(**request))):
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            recorded(**REQUEST)
            gc.collect()
        assert [str(one.message) for one in warned] == ["coroutine 'coroutine' was never awaited"]


async def test_generator_never_finished_ends_the_span(spans: CapturedSpans) -> None:
    spancast.instrument(lambda **_: generator())(**REQUEST)
    spancast.instrument(lambda **_: async_generator())(**REQUEST)
    task = asyncio.ensure_future(spancast.instrument(lambda **_: coroutine())(**REQUEST))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    del task
    # The event loop holds the exception until this point.
    await asyncio.sleep(0)
    gc.collect()
    assert [attributes(span)["spancast.response.incomplete"] for span in spans.all()] == ["abandoned"] * 3


# --- the request: arguments by name, and defaults -------------------------------------------------


def ask(messages: Any, model: str = "m", temperature: float | None = 0.5, *, top_p: float = 0.1, **more: Any) -> Any:
    return ANSWER


class Asker:
    model = "m"

    @spancast.instrument
    def ask(self, messages: Any, model: str = "m", temperature: float = 0.5, *, top_p: float = 0.1) -> Any:
        return ANSWER

    @spancast.instrument
    @classmethod
    def of_class(cls, messages: Any, model: str = "m", temperature: float = 0.5, *, top_p: float = 0.1) -> Any:
        return ANSWER


MESSAGES = REQUEST["messages"]
CALLS: dict[str, Callable[[], Any]] = {
    "keyword": lambda: spancast.instrument(ask)(messages=MESSAGES),
    "position": lambda: spancast.instrument(ask)(MESSAGES, "m"),
    "method": lambda: Asker().ask(MESSAGES),
    "method of the class": lambda: Asker.ask(Asker(), MESSAGES),
    "class method": lambda: Asker.of_class(MESSAGES),  # type: ignore[attr-defined]
    "partial": lambda: spancast.instrument(functools.partial(ask, messages=MESSAGES))(),
}


@pytest.mark.parametrize("way", CALLS)
def test_arguments_and_defaults_are_the_request(way: str, spans: CapturedSpans) -> None:
    assert CALLS[way]() is ANSWER
    assert CALLS[way]() is ANSWER
    for span in spans.all():
        found = attributes(span)
        assert span.name == "chat m"
        assert found["gen_ai.input.messages"][0]["parts"][0]["content"] == "hi"
        assert (found["gen_ai.request.temperature"], found["gen_ai.request.top_p"]) == (0.5, 0.1)
        assert not [name for name in found if name.startswith("spancast.request.")]


def test_argument_takes_precedence_over_its_default_even_if_none(spans: CapturedSpans) -> None:
    spancast.instrument(ask)(MESSAGES, "other", None, top_p=0.2)
    found = attributes(spans.one())
    assert (found["gen_ai.request.model"], found["gen_ai.request.top_p"]) == ("other", 0.2)
    assert "gen_ai.request.temperature" not in found


def test_defaults_that_are_no_data_or_secret_are_left_out(spans: CapturedSpans) -> None:
    @spancast.instrument
    def ask(messages: Any, client: Any = CallableObject(), api_key: str = "sk-secret", model: str = "m") -> Any:  # noqa: B008
        return ANSWER

    ask(MESSAGES)
    assert "CallableObject" not in str(attributes(spans.one()))
    assert "sk-secret" not in str(attributes(spans.one()))


def test_defaults_without_capture_are_recorded_only_if_no_content(spans: CapturedSpans) -> None:
    @spancast.instrument
    def ask(question: str, instructions: str = "be kind", messages: Any = MESSAGES, model: str = "m") -> Any:
        return ANSWER

    spancast.configure(tracer_provider=spans.provider, capture_content=False)
    ask("what?")
    found = attributes(spans.one())
    assert found["gen_ai.request.model"] == "m"
    assert not [text for text in ("what?", "be kind", "hi") if f"'{text}'" in str(found)]


def test_request_in_a_mapping_is_found_beside_defaults(spans: CapturedSpans) -> None:
    @spancast.instrument
    def ask(request: Any, prompt: str = "", trace: Any = {"feature": "billing"}) -> Any:  # noqa: B006
        return ANSWER

    ask(REQUEST)
    found = attributes(spans.one())
    assert (found["gen_ai.request.model"], found["trace.metadata.feature"]) == ("m", "billing")


def test_keys_given_by_position_are_not_passed_twice(spans: CapturedSpans) -> None:
    @spancast.instrument(base_url="https://openrouter.ai/api/v1")
    def ask(messages: Any, trace: Any = None, session_id: Any = None, **more: Any) -> Any:
        return {**ANSWER, "got": (trace, session_id, more)}

    keys = {"feature": "billing"}
    assert ask(MESSAGES, keys, "s")["got"] == (keys, "s", {})
    assert attributes(spans.one())["trace.metadata.feature"] == "billing"


@pytest.mark.parametrize("kind", ["plain", "coroutine", "generator", "async generator"])
async def test_call_inside_a_function_that_is_not_recorded_is_not_either(kind: str, spans: CapturedSpans) -> None:
    inner = spancast.instrument(lambda **_: ANSWER)

    def plain(**_: Any) -> Any:
        return inner(**REQUEST)

    async def waits(**_: Any) -> Any:
        return inner(**REQUEST)

    def yields(**_: Any) -> Generator[Any]:
        yield inner(**REQUEST)
        yield inner(**REQUEST)

    async def yields_async(**_: Any) -> AsyncGenerator[Any]:
        await asyncio.sleep(0)
        yield inner(**REQUEST)

    kinds: Any = {"plain": plain, "coroutine": waits, "generator": yields, "async generator": yields_async}
    result = spancast.instrument(kinds[kind])(**REQUEST, trace={"enabled": False})
    if inspect.iscoroutine(result):
        assert await result == ANSWER
    elif inspect.isgenerator(result):
        for item in result:
            assert item == ANSWER
    elif inspect.isasyncgen(result):
        assert [item async for item in result] == [ANSWER]
    assert spans.all() == []
    inner(**REQUEST)
    assert len(spans.all()) == 1
