"""``@spancast.instrument``: any callable shaped like a completion, whatever it calls inside.

Functions, methods, coroutines, generators and async generators; the keyword arguments are
the request body, the result (or what is yielded) is the answer.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator, Mapping
from contextlib import nullcontext
from typing import Any, Final

import wrapt

from spancast.clients.stainless import hear
from spancast.clients.streams import Proxy, StreamWatch, WatchedAsyncIterator, watched
from spancast.dialects.protocol import Dialect
from spancast.errors import shielded
from spancast.model import json_text
from spancast.model.providers import UNKNOWN_SERVER, Server
from spancast.recording.recorder import RECORDER
from spancast.recording.recording import Incomplete, Recording
from spancast.recording.steps import (
    Driven,
    Unawaited,
    async_generator_function,
    called_function,
    generator_function,
    kind_of,
    named,
)

_TAKEN: Final = ("trace", "session_id")
_BODY_MARKS: Final = ("messages", "input", "prompt", "contents")


def instrument_function(
    function: Callable[..., Any], dialect: Dialect, server: Server = UNKNOWN_SERVER
) -> Callable[..., Any]:
    """Return ``function`` recorded: same name, signature and kind; works on methods too."""
    call = _Call(function, dialect, server)
    wrappers = {"coroutine": call.coroutine, "generator": call.generator, "async generator": call.async_generator}
    return wrapt.FunctionWrapper(function, wrappers.get(kind_of(function), call.plain))


class _Call:
    """How one function is called: its signature, its dialect, where it sends to."""

    def __init__(self, function: Callable[..., Any], dialect: Dialect, server: Server) -> None:
        self._dialect = dialect
        self._server = server
        self._called = called_function(function)
        try:
            parameters: Mapping[str, inspect.Parameter] = inspect.signature(self._called or function).parameters
        except (TypeError, ValueError):
            parameters = {}
        self._named = frozenset(parameters)
        self._takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters.values())

    def plain(
        self, wrapped: Callable[..., Any], _instance: object, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:  # noqa: ANN401 - the function's own result
        """Record a call that returns its answer, a stream or an awaitable."""
        recording, kwargs = self._begin(wrapped, args, kwargs)
        if recording is None or not recording.is_live:
            return wrapped(*args, **kwargs)
        with recording.inside():
            result = wrapped(*args, **kwargs)
        return _heard(recording, result)

    def coroutine(
        self, wrapped: Callable[..., Any], _instance: object, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Coroutine[Any, Any, Any]:
        """Record a coroutine function; its call begins when it is awaited."""
        return named(self._run(wrapped, args, kwargs), self._called)

    def generator(
        self, wrapped: Callable[..., Any], _instance: object, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Generator[Any, Any, Any]:
        """Record a generator function; its call begins with its first step."""

        def begin() -> Driven:
            recording, changed = self._begin(wrapped, args, kwargs)
            inner = wrapped(*args, **changed)
            if recording is None or not recording.is_live:
                return Driven(inner, _call, nullcontext())
            watch = _StepWatch(recording)
            return Driven(inner, watch.step, watch)

        return named(generator_function(begin)(), self._called)

    def async_generator(
        self, wrapped: Callable[..., Any], _instance: object, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> AsyncGenerator[Any, Any]:
        """Record an async generator function; its call begins with its first step."""

        def begin() -> Driven:
            recording, changed = self._begin(wrapped, args, kwargs)
            inner = wrapped(*args, **changed)
            if recording is None or not recording.is_live:
                return Driven(inner, _call, nullcontext())
            watch = _StepWatch(recording)
            return Driven(inner, watch.step_async, watch)

        return named(async_generator_function(begin)(), self._called)

    async def _run(self, wrapped: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401 - the function's own result
        recording, kwargs = self._begin(wrapped, args, kwargs)
        if recording is None or not recording.is_live:
            return await wrapped(*args, **kwargs)
        return await _awaited(recording, wrapped(*args, **kwargs))

    def _begin(
        self, wrapped: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Recording | None, dict[str, Any]]:
        body = _body(wrapped, args, kwargs)
        recording = RECORDER.begin(self._dialect, body or {}, server=self._server, is_outermost=True)
        taken = [name for name in _TAKEN if name in kwargs and name not in self._named]
        if taken:
            kwargs = {name: value for name, value in kwargs.items() if name not in taken}
        forwarded = recording.forwarded() if recording is not None and recording.keys.enabled else None
        if forwarded and self._takes_any:
            kwargs = {**kwargs, **forwarded}
        return recording, kwargs


class _StepWatch(StreamWatch):
    """A stream that is read step by step, each step inside the recording, nothing held over a ``yield``."""

    __slots__ = ("_is_closing", "_wants_time")

    def __init__(self, recording: Recording) -> None:
        super().__init__(recording)
        self._is_closing = False
        self._wants_time = True

    def step(self, call: Callable[..., Any], *args: Any) -> Any:  # noqa: ANN401 - the stream's own values
        """Return the next chunk, ``call(*args)``."""
        if self.is_over:
            return call(*args)
        self._is_closing = bool(args) and isinstance(args[0], GeneratorExit)
        with self.recording.inside(ends=False):
            chunk = call(*args)
        self._hear(chunk)
        return chunk

    async def step_async(self, call: Callable[..., Awaitable[Any]], *args: Any) -> Any:  # noqa: ANN401 - as above
        """Return the next chunk, ``await call(*args)``."""
        if self.is_over:
            return await call(*args)
        self._is_closing = bool(args) and isinstance(args[0], GeneratorExit)
        with self.recording.inside(ends=False):
            chunk = await call(*args)
        self._hear(chunk)
        return chunk

    def over(self, incomplete: Incomplete | None = None, error: BaseException | None = None) -> None:
        """Note the end: also of a generator that returns when it is closed, as one that was closed."""
        super().over("closed" if self._is_closing and error is None else incomplete, error)

    def _hear(self, chunk: object) -> None:
        if self._wants_time:
            self.recording.chunk_arrived()
            self._wants_time = self.recording.times_every_chunk
        self.feed(chunk)


def _call(call: Callable[..., Any], *args: Any) -> Any:  # noqa: ANN401 - a step that is not recorded
    return call(*args)


async def _awaited(recording: Recording, awaitable: Awaitable[Any]) -> Any:  # noqa: ANN401 - the function's own result
    with recording.inside():
        result = await awaitable
    return _heard(recording, result)


async def _awaited_later(recording: Recording, given: Unawaited) -> Any:  # noqa: ANN401 - as above
    return await _awaited(recording, given.coroutine)


def _heard(recording: Recording, result: Any) -> Any:  # noqa: ANN401 - the function's own result
    """Record a result and return what the caller gets: the same object, or one of the same kind."""
    made = _recorded(recording, result)
    return result if made is None else made


@shielded
def _recorded(recording: Recording, result: Any) -> Any:  # noqa: ANN401, PLR0911 - one way of streaming each
    name = f"{type(result).__module__.partition('.')[0]}._streaming"
    streaming = sys.modules.get(name)
    if streaming is not None and isinstance(result, (streaming.Stream, streaming.AsyncStream)):
        hear(recording, result, name)
        return None
    if inspect.iscoroutine(result) or (inspect.isgenerator(result) and inspect.isawaitable(result)):
        return named(_awaited_later(recording, Unawaited(result)), result)
    if inspect.isgenerator(result):
        watch = _StepWatch(recording)
        return named(generator_function(lambda: Driven(result, watch.step, watch))(), result)
    if inspect.isasyncgen(result):
        watch = _StepWatch(recording)
        return named(async_generator_function(lambda: Driven(result, watch.step_async, watch))(), result)
    if isinstance(result, (str, bytes)) or json_text.is_mapping(result) or result is None:
        recording.succeed(result)
        return None
    if isinstance(result, Iterator):
        return _StreamProxy(result, StreamWatch(recording))
    if isinstance(result, AsyncIterator):
        return _AsyncStreamProxy(result, StreamWatch(recording))
    hear(recording, result, "")
    return None


class _StreamProxy(Proxy):
    """An iterator of an unknown library: itself in every way, but watched."""

    def __init__(self, iterator: Any, watch: StreamWatch) -> None:  # noqa: ANN401 - any iterator
        super().__init__(iterator)
        self._self_steps = watched(iterator, watch)

    def __iter__(self) -> Any:  # noqa: ANN401 - itself
        return self

    def __next__(self) -> Any:  # noqa: ANN401 - the library's chunk
        return next(self._self_steps)

    def close(self) -> None:
        """Close the iterator and its recording."""
        self._self_steps.close()
        close = getattr(self.__wrapped__, "close", None)
        if close is not None:
            close()


class _AsyncStreamProxy(Proxy):
    """The same for an asynchronous iterator."""

    def __init__(self, iterator: Any, watch: StreamWatch) -> None:  # noqa: ANN401 - any iterator
        super().__init__(iterator)
        self._self_steps = WatchedAsyncIterator(iterator, watch)

    def __aiter__(self) -> Any:  # noqa: ANN401 - itself
        return self

    async def __anext__(self) -> Any:  # noqa: ANN401 - the library's chunk
        return await self._self_steps.__anext__()

    async def aclose(self) -> None:
        """Close the iterator and its recording."""
        await self._self_steps.aclose()


@shielded
def _body(wrapped: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the request body a call means: its keywords, bound positionals, a mapping that holds the request."""
    body: dict[str, Any] = dict(kwargs)
    if args:
        signature = inspect.signature(wrapped)
        bound = signature.bind_partial(*args, **kwargs).arguments
        for name, value in bound.items():
            if signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
                body.update(value)
            else:
                body[name] = value
    if not any(mark in body for mark in _BODY_MARKS):
        for value in list(body.values()):
            if json_text.is_mapping(value) and any(mark in value for mark in _BODY_MARKS):
                body = {**value, **{name: body[name] for name in (*_TAKEN, "user", "metadata") if name in body}}
                break
    extra = body.pop("extra_body", None)
    return {**body, **extra} if json_text.is_mapping(extra) else body
