"""``@spancast.instrument``: any callable shaped like a completion, whatever it calls inside.

Functions, methods, coroutines, generators and async generators; the keyword arguments are
the request body, the result (or what is yielded) is the answer.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Mapping
from contextlib import nullcontext
from typing import Any, Final

import wrapt

from spancast.clients.results import StepWatch, awaited, recorded
from spancast.dialects.protocol import Dialect
from spancast.errors import shielded
from spancast.model import json_text
from spancast.model.providers import UNKNOWN_SERVER, Server
from spancast.recording.recorder import RECORDER
from spancast.recording.recording import Recording
from spancast.recording.steps import (
    Driven,
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
        return recorded(recording, result)

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
            watch = StepWatch(recording)
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
            watch = StepWatch(recording)
            return Driven(inner, watch.step_async, watch)

        return named(async_generator_function(begin)(), self._called)

    async def _run(self, wrapped: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401 - the function's own result
        recording, kwargs = self._begin(wrapped, args, kwargs)
        if recording is None or not recording.is_live:
            return await wrapped(*args, **kwargs)
        return await awaited(recording, wrapped(*args, **kwargs))

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
            # The function's own arguments stay as they are, but for the keys that it passes on.
            fields = {name for name, value in forwarded.items() if value is not None}
            kwargs = {**kwargs, **{name: forwarded[name] for name in fields if name in _TAKEN or name not in kwargs}}
        return recording, kwargs


def _call(call: Callable[..., Any], *args: Any) -> Any:  # noqa: ANN401 - a step that is not recorded
    return call(*args)


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
