"""``@spancast.instrument``: functions that take a completion request and return its response.

Functions, methods, coroutine functions, generator functions and async generator functions. The arguments and their
defaults, by name, are the request body; the result, or the yielded chunks, are the response.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Generator, Mapping
from contextlib import nullcontext
from types import MethodType
from typing import Any, Final

import wrapt

from spancast.diagnostics import never_raise
from spancast.dialects.protocol import Dialect
from spancast.instrumentation.call_keys import NAMES
from spancast.instrumentation.results import StepRecorder, awaited, recorded
from spancast.model import json_codec
from spancast.model.providers import UNKNOWN_SERVER, Server
from spancast.tracing.call_tracer import CALL_TRACER
from spancast.tracing.generator_steps import (
    Driven,
    async_generator_function,
    called_function,
    copy_names,
    generator_function,
    kind_of,
)
from spancast.tracing.traced_call import TracedCall, unrecorded, unrecorded_async

_BODY_MARKS: Final = frozenset(("messages", "input", "prompt", "contents"))
_BY_POSITION: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_JSON_KINDS: Final = frozenset((str, bool, int, float, list, tuple, dict))


def instrument_function(
    function: Callable[..., Any], dialect: Dialect, server: Server = UNKNOWN_SERVER
) -> Callable[..., Any]:
    """Return a wrapper of ``function`` that records its calls, of the same name, signature and kind."""
    call = _Call(function, dialect, server)
    wrappers = {"coroutine": call.coroutine, "generator": call.generator, "async generator": call.async_generator}
    return wrapt.FunctionWrapper(function, wrappers.get(kind_of(function), call.plain))


class _Arguments:
    """The parameters of a function: which argument has which name, and the defaults that are JSON data."""

    def __init__(self, parameters: Collection[inspect.Parameter] = ()) -> None:
        self.names: Final = tuple(one.name for one in parameters if one.kind in _BY_POSITION)
        self._rest = next((one.name for one in parameters if one.kind is one.VAR_POSITIONAL), None)
        # A default of another type (a client, a sentinel) is no part of the request.
        defaults: dict[str, Any] = {one.name: one.default for one in parameters}
        self._defaults = {name: value for name, value in defaults.items() if type(value) in _JSON_KINDS}

    @never_raise
    def body(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the request body of a call: its arguments by name, or the mapping among them with the request."""
        given: dict[str, Any] = dict(zip(self.names, args, strict=False))
        given |= kwargs
        if self._rest is not None and len(args) > len(self.names):
            given[self._rest] = args[len(self.names) :]
        body = self._defaults | given
        if _BODY_MARKS.isdisjoint(given):
            for value in (*args, *kwargs.values()):
                if json_codec.is_mapping(value) and not _BODY_MARKS.isdisjoint(value):
                    keys = {name: body[name] for name in (*NAMES, "user", "metadata") if name in body}
                    body = {**value, **keys}
                    break
        extra = body.pop("extra_body", None)
        return {**body, **extra} if json_codec.is_mapping(extra) else body


_NO_ARGUMENTS: Final = _Arguments()


class _Call:
    """An instrumented function: its signature, its dialect and its server."""

    def __init__(self, function: Callable[..., Any], dialect: Dialect, server: Server) -> None:
        self._dialect = dialect
        self._server = server
        self._called = called_function(function)
        parameters = _parameters(self._called or function)
        self._arguments: dict[type, _Arguments] = {}
        """By the type of what is called: a function, or a method, whose first parameter is bound."""
        self._named = frozenset(parameters)
        self._takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters.values())

    def plain(
        self, wrapped: Callable[..., Any], _instance: object, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:  # noqa: ANN401 - the function's own result
        """Record a call that returns a response, a stream or an awaitable."""
        traced_call, kwargs = self._begin(wrapped, args, kwargs)
        if traced_call is None or not traced_call.records_response:
            return unrecorded(traced_call, lambda: wrapped(*args, **kwargs))
        result = traced_call.run(lambda: wrapped(*args, **kwargs))
        return recorded(traced_call, result)

    def coroutine(
        self, wrapped: Callable[..., Any], _instance: object, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Coroutine[Any, Any, Any]:
        """Record a coroutine function; the call starts when it is awaited."""
        return copy_names(self._run(wrapped, args, kwargs), self._called)

    def generator(
        self, wrapped: Callable[..., Any], _instance: object, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Generator[Any, Any, Any]:
        """Record a generator function; the call starts with its first step."""
        return copy_names(generator_function(self._begin_steps)(StepRecorder.step, wrapped, args, kwargs), self._called)

    def async_generator(
        self, wrapped: Callable[..., Any], _instance: object, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> AsyncGenerator[Any, Any]:
        """Record an async generator function; the call starts with its first step."""
        begun = async_generator_function(self._begin_steps)
        return copy_names(begun(StepRecorder.step_async, wrapped, args, kwargs), self._called)

    def _begin_steps(
        self, step: Callable[..., Any], wrapped: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Driven:
        """Start the call of a generator function; ``step`` of its recorder records the steps."""
        traced_call, changed = self._begin(wrapped, args, kwargs)
        inner = wrapped(*args, **changed)
        if traced_call is None or not traced_call.records_response:
            hidden = unrecorded_async if step is StepRecorder.step_async else unrecorded

            def unrecorded_step(call: Callable[..., Any], *values: Any) -> Any:  # noqa: ANN401 - the generator's own values
                return hidden(traced_call, lambda: call(*values))

            return Driven(inner, unrecorded_step, nullcontext())
        recorder = StepRecorder(traced_call)
        return Driven(inner, MethodType(step, recorder), recorder)

    async def _run(self, wrapped: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401 - the function's own result
        traced_call, kwargs = self._begin(wrapped, args, kwargs)
        if traced_call is None or not traced_call.records_response:
            return await unrecorded_async(traced_call, lambda: wrapped(*args, **kwargs))
        return await awaited(traced_call, wrapped(*args, **kwargs))

    def _begin(
        self, wrapped: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[TracedCall | None, dict[str, Any]]:
        arguments = self._arguments.get(type(wrapped)) or self._read_arguments(wrapped) or _NO_ARGUMENTS
        body = arguments.body(args, kwargs)
        traced_call = CALL_TRACER.start_call(
            self._dialect, body or {}, server=self._server, is_outermost=True, parse_now=False
        )
        if traced_call is not None:
            traced_call.keep_request()
        removed = [name for name in NAMES if name in kwargs and name not in self._named]
        if removed:
            kwargs = {name: value for name, value in kwargs.items() if name not in removed}
        forwarded = traced_call.forwarded() if traced_call is not None and traced_call.keys.enabled else None
        if forwarded and self._takes_any:
            # The function's own arguments are not changed; only trace keys, which it passes on, are replaced.
            fields = {name for name, value in forwarded.items() if value is not None}
            fields.difference_update(arguments.names[: len(args)])
            sent = {name for name in fields if name in NAMES or name not in kwargs}
            kwargs = {**kwargs, **{name: forwarded[name] for name in sent}}
        return traced_call, kwargs

    @never_raise
    def _read_arguments(self, wrapped: Callable[..., Any]) -> _Arguments:
        arguments = self._arguments[type(wrapped)] = _Arguments(_parameters(wrapped).values())
        return arguments


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
