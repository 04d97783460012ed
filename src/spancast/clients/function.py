"""``@spancast.instrument``: any callable shaped like a completion, whatever it calls inside.

Functions, methods, coroutines, generators and async generators; the keyword arguments are
the request body, the result (or what is yielded) is the answer.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Mapping
from typing import Any, Final, cast

import wrapt

from spancast.clients.stainless import hear
from spancast.clients.streams import Proxy, StreamWatch, WatchedAsyncIterator, watched
from spancast.dialects.protocol import Dialect
from spancast.errors import shielded
from spancast.model import json_text
from spancast.model.providers import UNKNOWN_SERVER, Server
from spancast.recording.recorder import RECORDER
from spancast.recording.recording import Recording

_TAKEN: Final = ("trace", "session_id")
_BODY_MARKS: Final = ("messages", "input", "prompt", "contents")


def instrument_function(
    function: Callable[..., Any], dialect: Dialect, server: Server = UNKNOWN_SERVER
) -> Callable[..., Any]:
    """Return ``function`` recorded: same name, signature and kind; works on methods too."""
    call = _Call(function, dialect, server)
    plain = inspect.unwrap(function)
    if inspect.isasyncgenfunction(plain):
        wrapper = call.async_generator
    elif inspect.isgeneratorfunction(plain):
        wrapper = call.generator
    elif inspect.iscoroutinefunction(plain):
        wrapper = call.coroutine
    else:
        wrapper = call.plain
    return wrapt.FunctionWrapper(function, wrapper)


class _Call:
    """How one function is called: its signature, its dialect, where it sends to."""

    def __init__(self, function: Callable[..., Any], dialect: Dialect, server: Server) -> None:
        self._dialect = dialect
        self._server = server
        try:
            parameters: Mapping[str, inspect.Parameter] = inspect.signature(function).parameters
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
        if inspect.iscoroutine(result):
            return _awaited(recording, result)
        return _heard(recording, result)

    async def coroutine(
        self, wrapped: Callable[..., Any], _instance: object, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:  # noqa: ANN401 - the function's own result
        """Record a coroutine function."""
        recording, kwargs = self._begin(wrapped, args, kwargs)
        if recording is None or not recording.is_live:
            return await wrapped(*args, **kwargs)
        return await _awaited(recording, wrapped(*args, **kwargs))

    def generator(
        self, wrapped: Callable[..., Any], _instance: object, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Generator[Any, Any, Any]:
        """Record a generator function; its call begins with its first step."""
        recording, kwargs = self._begin(wrapped, args, kwargs)
        inner: Generator[Any, Any, Any] = wrapped(*args, **kwargs)
        if recording is None or not recording.is_live:
            return (yield from inner)
        return (yield from _stepped(inner, StreamWatch(recording)))

    async def async_generator(
        self, wrapped: Callable[..., Any], _instance: object, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> AsyncGenerator[Any, Any]:
        """Record an async generator function; its call begins with its first step."""
        recording, kwargs = self._begin(wrapped, args, kwargs)
        inner = wrapped(*args, **kwargs)
        steps = inner if recording is None or not recording.is_live else _AsyncSteps(inner, StreamWatch(recording))
        sent: Any = None
        try:
            while True:
                try:
                    chunk = await steps.asend(sent)
                except StopAsyncIteration:
                    return
                try:
                    sent = yield chunk
                except GeneratorExit:
                    raise
                except BaseException as thrown:  # noqa: BLE001 - passed to the generator it was thrown at
                    sent = None
                    yield await steps.athrow(thrown)
        finally:
            await steps.aclose()

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


async def _awaited(recording: Recording, awaitable: Any) -> Any:  # noqa: ANN401 - the function's own result
    with recording.inside():
        result = await awaitable
    return _heard(recording, result)


def _heard(recording: Recording, result: Any) -> Any:  # noqa: ANN401 - the function's own result
    """Hear a result and return what the caller gets: the same object, or a generator of the same kind."""
    proxy = _proxy_of(recording, result)
    return result if proxy is None else proxy


@shielded
def _proxy_of(recording: Recording, result: Any) -> Any:  # noqa: ANN401, PLR0911 - one way of streaming each
    name = f"{type(result).__module__.partition('.')[0]}._streaming"
    streaming = sys.modules.get(name)
    if streaming is not None and isinstance(result, (streaming.Stream, streaming.AsyncStream)):
        hear(recording, result, name)
        return None
    if inspect.isgenerator(result):
        return watched(cast("Generator[Any, Any, Any]", result), StreamWatch(recording))
    if inspect.isasyncgen(result):
        return _relayed(WatchedAsyncIterator(cast("AsyncGenerator[Any, Any]", result), StreamWatch(recording)))
    if isinstance(result, (str, bytes)) or json_text.is_mapping(result) or result is None:
        recording.succeed(result)
        return None
    if isinstance(result, Iterator):
        return _StreamProxy(result, StreamWatch(recording))
    if isinstance(result, AsyncIterator):
        return _AsyncStreamProxy(result, StreamWatch(recording))
    hear(recording, result, "")
    return None


async def _relayed(steps: WatchedAsyncIterator) -> AsyncGenerator[Any, None]:
    try:
        async for chunk in steps:
            yield chunk
    finally:
        await steps.aclose()


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


def _stepped(inner: Generator[Any, Any, Any], watch: StreamWatch) -> Generator[Any, Any, Any]:
    """Drive a generator function's generator, each step inside the recording, nothing held over a yield."""
    recording = watch.recording
    step: Callable[[], Any] = functools.partial(next, inner)
    while True:
        try:
            with recording.inside(ends=False):
                chunk = step()
        except StopIteration as stop:
            watch.over()
            return stop.value
        except BaseException as error:
            watch.over(error=error)
            raise
        recording.chunk_arrived()
        watch.feed(chunk)
        try:
            sent = yield chunk
            step = functools.partial(inner.send, sent)
        except GeneratorExit:
            watch.over("closed")
            inner.close()
            raise
        except BaseException as thrown:  # noqa: BLE001 - passed to the generator it was thrown at
            step = functools.partial(inner.throw, thrown)


class _AsyncSteps:
    """The steps of an async generator function, each inside the recording."""

    def __init__(self, inner: AsyncGenerator[Any, Any], watch: StreamWatch) -> None:
        self._inner = inner
        self._watch = watch

    async def asend(self, sent: Any) -> Any:  # noqa: ANN401 - the generator's own values
        """Send ``sent`` and return the next chunk."""
        return await self._step(self._inner.asend(sent))

    async def athrow(self, thrown: BaseException) -> Any:  # noqa: ANN401 - the generator's own values
        """Throw into the generator and return the next chunk."""
        return await self._step(self._inner.athrow(thrown))

    async def aclose(self) -> None:
        """Close the generator: early, unless it has ended."""
        try:
            await self._inner.aclose()
        finally:
            self._watch.over("closed")

    async def _step(self, awaitable: Any) -> Any:  # noqa: ANN401 - the generator's own values
        watch = self._watch
        try:
            with watch.recording.inside(ends=False):
                chunk = await awaitable
        except StopAsyncIteration:
            watch.over()
            raise
        except BaseException as error:
            watch.over(error=error)
            raise
        watch.recording.chunk_arrived()
        watch.feed(chunk)
        return chunk


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
