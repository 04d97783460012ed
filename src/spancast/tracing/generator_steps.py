"""Generators and coroutines of the caller, driven step by step; spancast's context is active within a step only.

A step runs from one ``yield`` (or suspension) to the next. ``step(call, *args)`` returns ``call(*args)``, called
in the context of the step. ``send``, ``throw``, ``close`` and the return value pass as with ``yield from``
(PEP 380); so do ``asend``, ``athrow`` and ``aclose``.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from contextlib import AbstractContextManager, nullcontext
from types import FunctionType, MethodType
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast

Kind: TypeAlias = Literal["coroutine", "generator", "async generator", "other"]
Step: TypeAlias = Callable[..., Any]
"""Called as ``step(call, *args)``; the result is awaited if it drives an async generator."""

_FORWARDING: Final = (functools.partial, classmethod, staticmethod, MethodType)


class Driven(NamedTuple):
    """A generator, the step that drives it, and the context manager around it from its first step to its end."""

    inner: Any
    step: Step
    ending: AbstractContextManager[Any]


def plain_step(call: Callable[..., Any], *args: Any) -> Any:  # noqa: ANN401 - the caller's own values
    """Return the result of a step that is not recorded."""
    return call(*args)


def called_function(function: object) -> FunctionType | None:
    """Return the Python function that a call of ``function`` runs; None if unknown."""
    called: Any = function
    # Exact types: a proxy claims the class of the wrapped object, but may do something else.
    while type(called) in _FORWARDING:
        called = called.func if type(called) is functools.partial else called.__func__
    return called if type(called) is FunctionType else None


def kind_of(function: object) -> Kind:
    """Return the kind of object that a call of ``function`` returns; "other" if unknown before the call.

    The kind is read from the code that the call runs, not from ``__wrapped__``, a proxy or a marker: a wrapper may
    join, await or replace the result of the function inside it.
    """
    called = called_function(function)
    flags = called.__code__.co_flags if called is not None else 0
    if flags & inspect.CO_ASYNC_GENERATOR:
        return "async generator"
    if flags & inspect.CO_COROUTINE:
        return "coroutine"
    # A generator that is awaited (``types.coroutine``) yields to the event loop, not to the caller.
    return "generator" if flags & inspect.CO_GENERATOR and not flags & inspect.CO_ITERABLE_COROUTINE else "other"


def generator_function(begin: Callable[..., Driven]) -> Callable[..., Generator[Any, Any, Any]]:
    """Return a generator function that calls ``begin`` at the first step and drives the generator it returns."""

    def generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:  # noqa: ANN401 - the caller's own values
        inner, step, ending = begin(*args, **kwargs)
        resume, value = inner.send, None
        with ending:
            while True:
                try:
                    item = step(resume, value)
                except StopIteration as stop:
                    return stop.value
                try:
                    value = yield item
                    resume = inner.send
                except BaseException as thrown:  # noqa: BLE001 - passed on to the driven generator
                    resume, value = inner.throw, thrown

    return generator


def async_generator_function(begin: Callable[..., Driven]) -> Callable[..., AsyncGenerator[Any, Any]]:
    """Return an async generator function that calls ``begin`` at the first step and drives what it returns."""

    async def generator(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:  # noqa: ANN401 - the caller's own values
        inner, step, ending = begin(*args, **kwargs)
        resume, value = inner.asend, None
        with ending:
            while True:
                try:
                    item = await step(resume, value)
                except StopAsyncIteration:
                    return
                try:
                    value = yield item
                    resume = inner.asend
                except BaseException as thrown:  # noqa: BLE001 - passed on to the driven generator
                    resume, value = inner.athrow, thrown

    return generator


def _start_awaitable(awaitable: Awaitable[Any], step: Step) -> Driven:
    return Driven(awaitable.__await__(), step, nullcontext())


drive_awaitable: Final = cast(
    "Callable[[Awaitable[Any], Step], Coroutine[Any, Any, Any]]", types.coroutine(generator_function(_start_awaitable))
)
"""``await drive_awaitable(awaitable, step)`` returns what ``await awaitable`` does; its steps run in ``step``."""


def async_step(step: Step) -> Step:
    """Return ``step`` for async generators: active while the caller's code runs, not while it is suspended."""

    def stepped(call: Callable[..., Awaitable[Any]], *args: Any) -> Awaitable[Any]:  # noqa: ANN401 - the caller's own
        return drive_awaitable(call(*args), step)

    return stepped


def drive(result: object, step: Step, ending: AbstractContextManager[Any]) -> object:
    """Return a coroutine or generator like ``result`` that runs its steps in ``step``; None if it has no steps."""
    driven: Any
    if inspect.iscoroutine(result):
        driven = _drive_coroutine(Unawaited(result), step, ending)
    elif inspect.isgenerator(result):
        driven = generator_function(lambda: Driven(result, step, ending))()
    elif inspect.isasyncgen(result):
        driven = async_generator_function(lambda: Driven(result, async_step(step), ending))()
    else:
        return None
    return copy_names(driven, result)


class Unawaited:
    """A coroutine before its first step; closed if its driver is dropped before that.

    Python then warns once if it is never awaited, and does not warn if it is cancelled before it starts.
    """

    __slots__ = ("coroutine",)

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.coroutine: Final = coroutine

    def __del__(self) -> None:
        self.coroutine.close()


async def _drive_coroutine(given: Unawaited, step: Step, ending: AbstractContextManager[Any]) -> Any:  # noqa: ANN401 - the caller's own values
    with ending:
        return await drive_awaitable(given.coroutine, step)


def copy_names(target: Any, source: Any) -> Any:  # noqa: ANN401 - a coroutine or generator
    """Copy the names of a coroutine or generator to another; warnings and tasks show them."""
    target.__name__, target.__qualname__ = source.__name__, source.__qualname__
    return target
