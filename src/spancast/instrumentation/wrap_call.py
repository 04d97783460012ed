"""One description of an SDK's call makes the synchronous and the asynchronous wrapper of its method.

Invariants (tests/contract/test_every_client.py):
    The caller gets the SDK's own object or exception. Nothing of ours is active once the method has returned.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, TypeAlias

from spancast.diagnostics import never_raise
from spancast.instrumentation.patching import Hook, Method
from spancast.instrumentation.stream_recorder import whole_body
from spancast.tracing.traced_call import TracedCall

Begun: TypeAlias = tuple[TracedCall | None, tuple[Any, ...], dict[str, Any], Any]
"""The recording (None if there is nothing to record), what to call the method with, and a note of the description's."""


class CallDescription(Protocol):
    """How one method of an SDK is recorded: where its request, its server and its result are.

    What ``begin``, ``record`` and ``fail`` raise is counted and never reaches the caller, a ``SpancastError`` of
    strict mode from ``begin`` excepted.
    """

    def begin(self, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Begun:  # noqa: ANN401 - the SDK's object
        """Start the recording of a call of ``owner``'s method; take trace keys out of its arguments."""
        ...

    def record(self, traced_call: TracedCall, result: Any, note: Any) -> object | None:  # noqa: ANN401 - the SDK's result
        """Record what the method returned.

        Returns:
            What the caller gets instead, if the result can't be recorded in place (a plain generator); else None.
        """
        ...

    def fail(self, traced_call: TracedCall, error: BaseException, note: Any) -> None:  # noqa: ANN401, ARG002 - begin's own
        """Record the exception the caller gets."""
        # The provider may have answered, and the caller pays for what the SDK then refused.
        response, traced_call.http_response = traced_call.http_response, None
        traced_call.fail(error, whole_body(response))


class CallHooks(NamedTuple):
    """The wrappers of one description, for ``Patch`` and ``InstancePatch``."""

    sync: Hook
    asynchronous: Hook


def wrap_call(description: CallDescription) -> CallHooks:
    """Return the wrappers that record calls as ``description`` says: begin, call within the span, record, end."""
    begin, record, fail = never_raise(description.begin), never_raise(description.record), never_raise(description.fail)

    def sync(method: Method) -> Method:
        def wrapper(owner: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's own result
            traced_call, args, kwargs, note = begin(owner, args, kwargs) or (None, args, kwargs, None)
            if traced_call is None or not traced_call.records_response:
                return method(owner, *args, **kwargs)
            entered = traced_call.enter()
            try:
                result = method(owner, *args, **kwargs)
            except BaseException as error:
                traced_call.leave(entered)
                fail(traced_call, error, note)
                # Harmless if it has ended; the traceback of the error would keep a recording that has not.
                traced_call.fail(error)
                raise
            traced_call.leave(entered)
            instead = record(traced_call, result, note)
            return result if instead is None else instead

        return wrapper

    def asynchronous(method: Method) -> Method:
        async def wrapper(owner: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's own result
            traced_call, args, kwargs, note = begin(owner, args, kwargs) or (None, args, kwargs, None)
            if traced_call is None or not traced_call.records_response:
                return await method(owner, *args, **kwargs)
            entered = traced_call.enter()
            try:
                result = await method(owner, *args, **kwargs)
            except BaseException as error:
                traced_call.leave(entered)
                fail(traced_call, error, note)
                traced_call.fail(error)
                raise
            traced_call.leave(entered)
            instead = record(traced_call, result, note)
            return result if instead is None else instead

        return wrapper

    return CallHooks(sync, asynchronous)
