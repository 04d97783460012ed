"""Recording of results of decorated functions: awaitables, iterators, context managers, complete responses.

The caller gets the same object if it is a complete response or if it can be recorded in place. Otherwise the caller
gets a coroutine or generator of the same kind, or a ``StandIn``.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterator,
)
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from contextvars import copy_context
from typing import Any, Final, cast
from weakref import WeakKeyDictionary

from spancast.diagnostics import never_raise
from spancast.instrumentation.stainless import record_result
from spancast.instrumentation.stream_recorder import Arrived, StreamRecorder
from spancast.model import json_codec
from spancast.tracing.generator_steps import (
    Driven,
    Unawaited,
    async_generator_function,
    copy_names,
    generator_function,
    plain_step,
)
from spancast.tracing.traced_call import Incomplete, TracedCall

_MAX_ANSWERS: Final = 256
_answers: Final[set[type[Any]]] = set()
"""Classes whose objects are complete responses: to find out takes longer than to record one."""


def recorded(traced_call: TracedCall, result: Any, recorder: StepRecorder | None = None) -> Any:  # noqa: ANN401 - the function's own result
    """Record ``result`` and return the object for the caller.

    ``recorder`` is the recorder of the object that ``result`` comes from, by entering or awaiting it.
    """
    replacement = _recorded(traced_call, result, recorder)
    if recorder is not None and replacement is None:
        recorder.release()
    return result if replacement is None else replacement


async def awaited(traced_call: TracedCall, awaitable: Awaitable[Any], recorder: StepRecorder | None = None) -> Any:  # noqa: ANN401 - the function's own result
    """Await a result and record its value."""
    result = await traced_call.wait(lambda: awaitable)
    return recorded(traced_call, result, recorder)


async def _awaited_later(traced_call: TracedCall, given: Unawaited, recorder: StepRecorder | None) -> Any:  # noqa: ANN401 - the function's own result
    return await awaited(traced_call, given.coroutine, recorder)


@never_raise
def _recorded(traced_call: TracedCall, result: Any, recorder: StepRecorder | None) -> Any:  # noqa: ANN401, PLR0911 - one way of reading each
    if type(result) in _answers:
        record_result(traced_call, result, "")
        return None
    name = f"{type(result).__module__.partition('.')[0]}._streaming"
    streaming = sys.modules.get(name)
    if streaming is not None and isinstance(result, (streaming.Stream, streaming.AsyncStream)):
        record_result(traced_call, result, name)
        return None
    if isinstance(result, (str, bytes)) or json_codec.is_mapping(result) or result is None:
        traced_call.end_with(result)
        return None
    if _is_coroutine(result):
        return copy_names(_awaited_later(traced_call, Unawaited(result), recorder), result)
    if inspect.isgenerator(result) and inspect.getgeneratorstate(result) == inspect.GEN_CREATED:
        recorder = recorder or StepRecorder(traced_call)
        return copy_names(generator_function(lambda: Driven(result, recorder.step, recorder))(), result)
    if inspect.isasyncgen(result):
        recorder = recorder or StepRecorder(traced_call)
        return copy_names(async_generator_function(lambda: Driven(result, recorder.step_async, recorder))(), result)
    if not _is_mock(result) and (_is_stream(result) or _is_manager(result) or _is_awaitable(result)):
        return stand_in(result, recorder or StepRecorder(traced_call))
    if type(result) is result.__class__ and not hasattr(result, "_asyncio_future_blocking"):
        # No proxy: the checks above give the same for every object of its class.
        if len(_answers) >= _MAX_ANSWERS:
            _answers.clear()
        _answers.add(cast("type[Any]", type(result)))
    record_result(traced_call, result, "")
    return None


def starting_late(result: Any, begin: Callable[[], StepRecorder | None]) -> Any:  # noqa: ANN401 - a generator
    """Return a generator like ``result``, which sends its request with its first step; the recording begins then.

    Args:
        result: A generator or async generator that has not started.
        begin: Starts the recording; None if the call is not recorded.
    """
    is_async = inspect.isasyncgen(result)

    def driven() -> Driven:
        recorder = never_raise(begin)()
        if recorder is None:
            return Driven(result, plain_step, nullcontext())
        return Driven(result, recorder.step_async if is_async else recorder.step, recorder)

    steps = async_generator_function(driven) if is_async else generator_function(driven)
    return copy_names(steps(), result)


def _is_coroutine(result: Any) -> bool:  # noqa: ANN401 - any object
    """Return whether ``result`` can only be awaited: a coroutine, also a compiled or generator-based one."""
    if inspect.isgenerator(result):
        return inspect.isawaitable(result)
    is_more = hasattr(result, "__aenter__") or hasattr(result, "__aiter__")
    return isinstance(result, Coroutine) and not is_more


def _is_stream(result: object) -> bool:
    """Return whether ``result`` is a stream. A synchronous iterable is not: it may be a complete response."""
    return isinstance(result, (Iterator, AsyncIterator)) or hasattr(type(result), "__aiter__")


def _is_manager(result: object) -> bool:
    """Return whether ``result`` inherits from a context manager class; a complete response may have its methods."""
    return not {AbstractContextManager, AbstractAsyncContextManager}.isdisjoint(type(result).__mro__)


def _is_mock(result: object) -> bool:
    """Return whether ``result`` is a mock, which has every method; users' tests expect that same object."""
    mock = sys.modules.get("unittest.mock")
    return mock is not None and issubclass(type(result), mock.NonCallableMock)


def _is_awaitable(result: Any) -> bool:  # noqa: ANN401 - any object
    # A future can be waited for without ``await``, by code that checks its class.
    return not hasattr(result, "_asyncio_future_blocking") and isinstance(result, Awaitable)


class StepRecorder(StreamRecorder):
    """A stream recorder that drives the stream step by step; the span is current during a step only."""

    __slots__ = ("_feed", "_is_closing", "_wants_time")

    def __init__(self, traced_call: TracedCall, arrived: Arrived | None = None) -> None:
        super().__init__(traced_call, arrived)
        self._feed: Callable[[object], None] | None = None
        self._is_closing = False
        self._wants_time = True

    def step(self, call: Callable[..., Any], *args: Any) -> Any:  # noqa: ANN401 - the stream's own values
        """Return the next chunk, ``call(*args)``."""
        if self.has_ended:
            return call(*args)
        if args and args[0] is not None and isinstance(args[0], GeneratorExit):
            self._is_closing = True
            # The garbage collector may close it during the setting of a context variable; CPython before 3.12 crashes
            # if another one is set then.
            return call(*args)
        self._is_closing = False
        chunk = self.traced_call.step(call, *args)
        if self._feed is None or self._wants_time:
            self._record(chunk)
        else:
            self._feed(chunk)
        return chunk

    async def step_async(self, call: Callable[..., Awaitable[Any]], *args: Any) -> Any:  # noqa: ANN401 - the stream's own values
        """Return the next chunk, ``await call(*args)``."""
        if self.has_ended:
            return await call(*args)
        self._is_closing = bool(args) and isinstance(args[0], GeneratorExit)
        chunk = await self.traced_call.wait(lambda: call(*args), ends=False)
        self._record(chunk)
        return chunk

    def advance(self, call: Callable[..., Any], *args: Any) -> Any:  # noqa: ANN401 - the stream's own values
        """Return the next chunk; an exception ends the stream."""
        try:
            return self.step(call, *args)
        except StopIteration:
            self.end()
            raise
        except BaseException as error:
            self.fail(error)
            raise

    async def advance_async(self, call: Callable[..., Awaitable[Any]], *args: Any) -> Any:  # noqa: ANN401 - the stream's own values
        """Return the next chunk; an exception ends the stream."""
        try:
            return await self.step_async(call, *args)
        except StopAsyncIteration:
            self.end()
            raise
        except BaseException as error:
            self.fail(error)
            raise

    def fail(self, error: BaseException) -> None:
        """End with ``error``, which the caller gets."""
        self.__exit__(type(error), error, error.__traceback__)

    def release(self) -> None:
        """Stop recording here; another object ends the call."""
        self.has_ended = True

    def end(self, incomplete: Incomplete | None = None, error: BaseException | None = None) -> None:
        """End the call; a generator that returns on ``GeneratorExit`` counts as closed."""
        if self._is_closing:
            # The same reason as in ``step``: span processors set context variables too.
            copy_context().run(super().end, "closed" if error is None else incomplete, error)
        else:
            super().end(incomplete, error)

    def _record(self, chunk: object) -> None:
        if self._wants_time:
            self.traced_call.chunk_arrived()
            self._wants_time = self.traced_call.times_every_chunk
        feed = self._feed
        if feed is None:
            feed = self._feed = self.feed
        feed(chunk)


class StandIn:
    """A proxy of a result that records how it is read; it has the attributes of the result's class and no others.

    Each class of results has a class of stand-ins, with the same special methods.
    """

    __slots__ = ("__recorder", "__result", "__weakref__")

    def __init__(self, result: Any, recorder: StepRecorder) -> None:  # noqa: ANN401 - any object
        object.__setattr__(self, "_StandIn__result", result)
        object.__setattr__(self, "_StandIn__recorder", recorder)

    @property
    def __class__(self) -> Any:  # noqa: ANN401 - a class # pyright: ignore[reportIncompatibleMethodOverride]
        return cast("Any", self.__result).__class__

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the object has
        value = getattr(self.__result, name)
        wrap = _METHODS.get(name)
        if wrap is not None and callable(value):
            return wrap(self.__result, self.__recorder, value)
        return self if value is self.__result else value

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self.__result, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self.__result, name)


_OWN: Final = frozenset({
    "__abstractmethods__", "__annotations__", "__class__", "__class_getitem__", "__del__", "__delattr__", "__dict__",
    "__getattr__", "__getattribute__", "__init__", "__init_subclass__", "__new__", "__setattr__", "__slots__",
    "__subclasshook__", "__weakref__",
})  # fmt: skip
"""Special attributes that are not operations on objects of a class."""
_classes: Final[WeakKeyDictionary[type, type[StandIn]]] = WeakKeyDictionary()


def stand_in(result: Any, recorder: StepRecorder) -> StandIn:  # noqa: ANN401 - any object
    """Return a stand-in for ``result`` that records to ``recorder``."""
    kind = cast("type[Any]", type(result))
    stand_in_class = _classes.get(kind)
    if stand_in_class is None:
        stand_in_class = _classes[kind] = type(kind.__name__, (StandIn,), _special_attributes(kind))
    return stand_in_class(result, recorder)


def _special_attributes(kind: type[Any]) -> dict[str, Any]:
    special: dict[str, Any] = {
        "__slots__": (), "__doc__": kind.__doc__, "__module__": kind.__module__, "__qualname__": kind.__qualname__,
    }  # fmt: skip
    for name in dir(kind):
        if name[:2] == name[-2:] == "__" and name not in _OWN:
            value = getattr(kind, name, None)
            special[name] = (_SPECIAL.get(name) or _forwarding(name)) if callable(value) else value
    return special


def _forwarding(name: str) -> Callable[..., Any]:
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the object's own
        result = _result_of(self)
        value = getattr(result, name)(*args, **kwargs)
        return self if value is result else value

    return forward


def _result_of(self: Any) -> Any:  # noqa: ANN401 - any object
    return object.__getattribute__(self, "_StandIn__result")


def _recorder_of(self: Any) -> StepRecorder:  # noqa: ANN401 - a stand-in
    return object.__getattribute__(self, "_StandIn__recorder")


def _iterating(name: str) -> Callable[[Any], Any]:
    def iterate(self: Any) -> Any:  # noqa: ANN401 - the object's own iterator
        result, recorder = _result_of(self), _recorder_of(self)
        iterator = getattr(result, name)()
        if iterator is result:
            return self
        return iterator if recorder.has_ended else stand_in(iterator, recorder)

    return iterate


def _next(self: Any) -> Any:  # noqa: ANN401 - the object's own chunk
    return _recorder_of(self).advance(_result_of(self).__next__)


def _anext(self: Any) -> Any:  # noqa: ANN401 - the object's own chunk
    return _recorder_of(self).advance_async(_result_of(self).__anext__)


def _await(self: Any) -> Any:  # noqa: ANN401 - the object's own iterator
    recorder = _recorder_of(self)
    if recorder.has_ended:
        return _result_of(self).__await__()
    return awaited(recorder.traced_call, _result_of(self), recorder).__await__()


def _enter(self: Any) -> Any:  # noqa: ANN401 - the object's own value
    recorder = _recorder_of(self)
    if recorder.has_ended:
        return _entered(self, _result_of(self).__enter__())
    value = recorder.traced_call.run(lambda: _result_of(self).__enter__())
    return _entered(self, value)


async def _aenter(self: Any) -> Any:  # noqa: ANN401 - the object's own value
    recorder = _recorder_of(self)
    if recorder.has_ended:
        return _entered(self, await _result_of(self).__aenter__())
    value = await recorder.traced_call.wait(lambda: _result_of(self).__aenter__())
    return _entered(self, value)


def _entered(self: Any, value: Any) -> Any:  # noqa: ANN401 - the value of a context manager
    result, recorder = _result_of(self), _recorder_of(self)
    if value is result and (recorder.has_ended or _is_stream(result)):
        return self
    if recorder.has_ended or (_is_stream(result) and not _is_stream(value)):
        return value
    return recorded(recorder.traced_call, value, recorder)


def _exit(self: Any, *args: Any) -> Any:  # noqa: ANN401 - the object's own value
    try:
        return _result_of(self).__exit__(*args)
    finally:
        _recorder_of(self).end("closed")


async def _aexit(self: Any, *args: Any) -> Any:  # noqa: ANN401 - the object's own value
    try:
        return await _result_of(self).__aexit__(*args)
    finally:
        _recorder_of(self).end("closed")


_SPECIAL: Final[dict[str, Callable[..., Any]]] = {
    "__iter__": _iterating("__iter__"),
    "__next__": _next,
    "__aiter__": _iterating("__aiter__"),
    "__anext__": _anext,
    "__await__": _await,
    "__enter__": _enter,
    "__exit__": _exit,
    "__aenter__": _aenter,
    "__aexit__": _aexit,
}


def _closing(_result: object, recorder: StepRecorder, method: Callable[..., Any]) -> Callable[..., Any]:
    def close(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the method's own result
        try:
            value = method(*args, **kwargs)
        except BaseException:
            recorder.end("closed")
            raise
        if inspect.isawaitable(value):
            return closed(value)
        recorder.end("closed")
        return value

    async def closed(value: Awaitable[Any]) -> Any:  # noqa: ANN401 - the method's own result
        try:
            return await value
        finally:
            recorder.end("closed")

    async def close_async(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the method's own result
        return await closed(method(*args, **kwargs))

    return functools.wraps(method)(close_async if inspect.iscoroutinefunction(method) else close)


def _resuming(result: object, recorder: StepRecorder, method: Callable[..., Any]) -> Callable[..., Any]:
    if not isinstance(result, Generator):
        return method
    return functools.wraps(method)(functools.partial(recorder.advance, method))


def _resuming_async(result: object, recorder: StepRecorder, method: Callable[..., Any]) -> Callable[..., Any]:
    if not isinstance(result, AsyncGenerator):
        return method
    return functools.wraps(method)(functools.partial(recorder.advance_async, method))


_METHODS: Final[dict[str, Callable[[object, StepRecorder, Callable[..., Any]], Callable[..., Any]]]] = {
    "close": _closing,
    "aclose": _closing,
    "send": _resuming,
    "throw": _resuming,
    "asend": _resuming_async,
    "athrow": _resuming_async,
}
