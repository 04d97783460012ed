"""Wrappers of SDK methods: one description of a call gives the synchronous and the asynchronous wrapper.

Invariants (tests/contract/test_every_client.py):
    The caller gets the SDK's own object or exception. The context is restored when the method returns.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from typing import Any, NamedTuple, Protocol, TypeAlias

from spancast.diagnostics import never_raise
from spancast.instrumentation.http_body import whole_body
from spancast.instrumentation.patching import Hook, Method
from spancast.tracing.traced_call import TracedCall, around, unrecorded, unrecorded_async

Begun: TypeAlias = tuple[TracedCall | None, tuple[Any, ...], dict[str, Any], Any]
"""The traced call (None if the call is not recorded), the arguments for the method, and a note for ``record``."""


_Begin: TypeAlias = Callable[..., Begun | None]
_Step: TypeAlias = Callable[..., object]


class CallDescription(Protocol):
    """The description of one method of an SDK: how to find its request, its server and its result.

    Exceptions of ``begin``, ``record`` and ``fail`` are counted and do not reach the caller, except a
    ``SpancastError`` of strict mode from ``begin``.
    """

    def begin(self, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Begun:  # noqa: ANN401 - the SDK's object
        """Start recording a call of ``owner``'s method; remove trace keys from its arguments."""
        ...

    def record(self, traced_call: TracedCall, result: Any, note: Any) -> object | None:  # noqa: ANN401 - the SDK's result
        """Record the return value of the method.

        Returns:
            A replacement for the caller if the result cannot be recorded in place (a plain generator); else None.
        """
        ...

    def fail(self, traced_call: TracedCall, error: BaseException, note: Any) -> None:  # noqa: ANN401, ARG002 - begin's own
        """Record the exception that the caller gets."""
        # The provider may have sent a response, which costs tokens, although the SDK then rejected it.
        response, traced_call.http_response = traced_call.http_response, None
        traced_call.fail(error, whole_body(response))


class CallHooks(NamedTuple):
    """The wrappers of one description, for ``Patch`` and ``InstancePatch``."""

    sync: Hook
    asynchronous: Hook
    manager: Hook
    """Wraps a method that returns a context manager: its entering sends the request and returns the result."""
    async_manager: Hook


def wrap_call(description: CallDescription) -> CallHooks:
    """Return wrappers that record calls by ``description``: begin, call the method in the span, record, end."""
    begin, record, fail = never_raise(description.begin), never_raise(description.record), never_raise(description.fail)
    sync, asynchronous = _sync(begin, record, fail), _asynchronous(begin, record, fail)
    return CallHooks(sync, asynchronous, *_managers(sync, asynchronous))


def _sync(begin: _Begin, record: _Step, fail: _Step) -> Hook:
    def sync(method: Method) -> Method:
        def wrapper(owner: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's own result
            traced_call, args, kwargs, note = begin(owner, args, kwargs) or (None, args, kwargs, None)
            if traced_call is None or not traced_call.records_response:
                return unrecorded(traced_call, lambda: method(owner, *args, **kwargs))
            surroundings = around()
            try:
                # Twice, because Ctrl-C may interrupt any line of ours (tests/tracing/test_interrupts.py).
                try:
                    traced_call.attach()
                    result = method(owner, *args, **kwargs)
                finally:
                    traced_call.detach(surroundings)
            except BaseException as error:
                traced_call.detach(surroundings)
                fail(traced_call, error, note)
                # No effect if it has ended. Otherwise the traceback of the error would keep the call alive.
                traced_call.fail(error)
                raise
            instead = record(traced_call, result, note)
            return result if instead is None else instead

        return wrapper

    return sync


def _asynchronous(begin: _Begin, record: _Step, fail: _Step) -> Hook:
    def asynchronous(method: Method) -> Method:
        async def wrapper(owner: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's own result
            traced_call, args, kwargs, note = begin(owner, args, kwargs) or (None, args, kwargs, None)
            if traced_call is None or not traced_call.records_response:
                return await unrecorded_async(traced_call, lambda: method(owner, *args, **kwargs))
            surroundings = around()
            try:
                # Twice, because Ctrl-C may interrupt any line of ours (tests/tracing/test_interrupts.py).
                try:
                    traced_call.attach()
                    result = await method(owner, *args, **kwargs)
                finally:
                    traced_call.detach(surroundings)
            except BaseException as error:
                traced_call.detach(surroundings)
                fail(traced_call, error, note)
                traced_call.fail(error)
                raise
            instead = record(traced_call, result, note)
            return result if instead is None else instead

        return wrapper

    return asynchronous


def _managers(sync: Hook, asynchronous: Hook) -> tuple[Hook, Hook]:
    """Return wrappers of methods that return context managers, whose entering ``sync`` or ``asynchronous`` record."""

    def manager(method: Method) -> Method:
        def wrapper(owner: Any, *args: Any, **kwargs: Any) -> Generator[Any]:  # noqa: ANN401 - the SDK's own result
            with ExitStack() as stack:
                enter = sync(lambda *args, **kwargs: stack.enter_context(method(*args, **kwargs)))
                yield enter(owner, *args, **kwargs)

        return contextmanager(wrapper)

    def async_manager(method: Method) -> Method:
        async def wrapper(owner: Any, *args: Any, **kwargs: Any) -> AsyncGenerator[Any]:  # noqa: ANN401 - the SDK's own result
            async with AsyncExitStack() as stack:
                enter = asynchronous(lambda *args, **kwargs: stack.enter_async_context(method(*args, **kwargs)))
                yield await enter(owner, *args, **kwargs)

        return asynccontextmanager(wrapper)

    return manager, async_manager
