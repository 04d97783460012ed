"""A generator driven step by step behaves for its caller as the generator itself."""

from __future__ import annotations

import asyncio
import functools
import inspect
import types
import warnings
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import Any

import pytest
import wrapt

from spancast.tracing.generator_steps import (
    Driven,
    async_generator_function,
    async_step,
    drive,
    generator_function,
    kind_of,
)


def plainly(call: Callable[..., Any], *args: Any) -> Any:
    return call(*args)


def script() -> Generator[Any, Any, str]:
    """Yield the sent values and the thrown exceptions, and handle a close."""
    sent = yield "first"
    try:
        sent = yield ("got", sent)
    except KeyError as error:
        sent = yield ("caught", error.args)
    while sent is not None:
        try:
            sent = yield ("again", sent)
        except LookupError:
            raise ValueError("instead") from None
    return "returned"


def refuses_to_close() -> Generator[Any, Any, str]:
    try:
        yield "first"
    except GeneratorExit:
        yield "no"
    return "late"


def returns_at_close() -> Generator[Any, Any, str]:
    try:
        yield "first"
    except GeneratorExit:
        return "closed"
    return "late"


def fails() -> Generator[Any, Any, None]:
    yield "first"
    raise StopIteration("not the end")  # noqa: PLR1708 - what the interpreter makes of it


GENERATORS = [script, refuses_to_close, returns_at_close, fails]
OPERATIONS: list[list[tuple[str, Any]]] = [
    [("next", None)] * 5,
    [("next", None), ("send", 1), ("send", None), ("next", None)],
    [("next", None), ("send", 1), ("send", 2), ("send", 3), ("next", None)],
    [("next", None), ("send", 1), ("throw", KeyError("k")), ("send", 4), ("throw", IndexError("i")), ("next", None)],
    [("next", None), ("send", 1), ("throw", KeyError("k")), ("throw", KeyError("k")), ("next", None)],
    [("next", None), ("throw", RuntimeError("r")), ("next", None)],
    [("next", None), ("close", None), ("next", None)],
    [("next", None), ("throw", GeneratorExit()), ("next", None)],
    [("close", None), ("next", None)],
    [("throw", KeyError("k")), ("next", None)],
    [("send", 1), ("send", None), ("send", 5)],
]


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except BaseException as error:  # noqa: BLE001 - compared
        return type(error), error.args, type(error.__cause__), type(error.__context__)


def played(generator: Any, operations: list[tuple[str, Any]]) -> list[Any]:
    calls = {
        "next": lambda _: next(generator),
        "send": lambda value: generator.send(value),
        "throw": lambda error: generator.throw(type(error)(*error.args)),
        "close": lambda _: generator.close(),
    }
    return [outcome(functools.partial(calls[name], value)) for name, value in operations]


@pytest.mark.parametrize("operations", OPERATIONS, ids=lambda operations: " ".join(name for name, _ in operations))
@pytest.mark.parametrize("function", GENERATORS)
def test_driven_generator_behaves_as_the_generator(function: Any, operations: list[tuple[str, Any]]) -> None:
    driven = generator_function(lambda: Driven(function(), plainly, nullcontext()))()
    assert inspect.isgenerator(driven)
    assert played(driven, operations) == played(function(), operations)


async def async_script() -> AsyncGenerator[Any, Any]:
    sent = yield "first"
    try:
        await asyncio.sleep(0)
        sent = yield ("got", sent)
    except KeyError as error:
        sent = yield ("caught", error.args)
    while sent is not None:
        try:
            sent = yield ("again", sent)
        except LookupError:
            await asyncio.sleep(0)
            raise ValueError("instead") from None


async def async_refuses_to_close() -> AsyncGenerator[Any, Any]:
    try:
        yield "first"
    except GeneratorExit:
        yield "no"


async def async_returns_at_close() -> AsyncGenerator[Any, Any]:
    try:
        yield "first"
    except GeneratorExit:
        await asyncio.sleep(0)


async def played_async(generator: Any, operations: list[tuple[str, Any]]) -> list[Any]:
    calls = {
        "next": lambda _: generator.__anext__(),
        "send": lambda value: generator.asend(value),
        "throw": lambda error: generator.athrow(type(error)(*error.args)),
        "close": lambda _: generator.aclose(),
    }
    found: list[Any] = []
    for name, value in operations:
        try:
            found.append(await calls[name](value))
        except BaseException as error:  # noqa: BLE001 - compared
            found.append((type(error), error.args, type(error.__cause__), type(error.__context__)))
    return found


@pytest.mark.parametrize("operations", OPERATIONS, ids=lambda operations: " ".join(name for name, _ in operations))
@pytest.mark.parametrize("function", [async_script, async_refuses_to_close, async_returns_at_close])
async def test_driven_async_generator_behaves_as_the_generator(
    function: Any, operations: list[tuple[str, Any]]
) -> None:
    for step in (async_step(plainly), plainly):
        driven = async_generator_function(lambda step=step: Driven(function(), step, nullcontext()))()
        assert inspect.isasyncgen(driven)
        assert await played_async(driven, operations) == await played_async(function(), operations)


def test_yield_from_driven_generator_gets_the_return_value() -> None:
    def outer() -> Generator[Any, Any, Any]:
        return (yield from generator_function(lambda: Driven(script(), plainly, nullcontext()))())

    driven = outer()
    assert [next(driven), driven.send(1)] == ["first", ("got", 1)]
    with pytest.raises(StopIteration, match="returned"):
        driven.send(None)


async def answer() -> str:
    await asyncio.sleep(0)
    return "answer"


async def test_driven_coroutine_returns_the_value() -> None:
    made: Any = drive(answer(), plainly, nullcontext())
    assert inspect.iscoroutine(made)
    assert (made.__name__, made.__qualname__) == ("answer", "answer")
    assert await made == "answer"
    assert drive("answer", plainly, nullcontext()) is None


async def test_driven_coroutine_never_awaited_warns_as_the_original() -> None:
    def dropped() -> list[str]:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            drive(answer(), plainly, nullcontext())
        return [str(one.message) for one in warned]

    assert dropped() == ["coroutine 'answer' was never awaited"]
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        task = asyncio.ensure_future(drive(answer(), plainly, nullcontext()))  # type: ignore[arg-type]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        del task
    assert warned == []


class Callables:
    async def method(self) -> None: ...

    async def __call__(self) -> None: ...

    @classmethod
    async def of_class(cls) -> None: ...

    @staticmethod
    def of_nothing() -> Generator[None]:
        yield


@functools.wraps(answer)
def made_sync() -> str:
    return asyncio.run(answer())


@functools.wraps(script)
def joined() -> str:
    return "".join(script())


@wrapt.decorator
def run_by(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    return asyncio.run(wrapped(*args, **kwargs))


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (answer, "coroutine"),
        (script, "generator"),
        (async_script, "async generator"),
        (functools.partial(functools.partial(answer)), "coroutine"),
        (Callables().method, "coroutine"),
        (Callables.of_class, "coroutine"),
        (Callables.__dict__["of_class"], "coroutine"),
        (Callables.__dict__["of_nothing"], "generator"),
        (Callables(), "other"),
        (made_sync, "other"),
        (joined, "other"),
        (contextmanager(script), "other"),
        (asynccontextmanager(async_script), "other"),
        (run_by(answer), "other"),
        (types.coroutine(lambda: (yield)), "other"),
        (print, "other"),
        (lambda: answer(), "other"),
    ],
)
def test_kind_of_reads_the_called_code(function: Any, kind: str) -> None:
    assert kind_of(function) == kind
