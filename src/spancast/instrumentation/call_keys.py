"""Trace keys among the arguments of the methods of SDKs.

``KeyHooks`` is for SDKs whose requests have no place for them: they are bound to one call of a public method. The
method that sends the request, which the public method calls, reads them. Nothing is held over a yield: the public
method returns before a stream is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final

from spancast.diagnostics import counters
from spancast.instrumentation.patching import InstrumentedClients, Method, hide_frame

NAMES: Final = frozenset(("trace", "session_id"))
_NO_KEYS: Final[Mapping[str, Any]] = {}
_given: Final[ContextVar[Mapping[str, Any]]] = ContextVar("spancast.call_keys", default=_NO_KEYS)


def has_keys(kwargs: Mapping[str, Any]) -> bool:
    """Return whether there are trace keys among keyword arguments."""
    return "trace" in kwargs or "session_id" in kwargs


def without_keys(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return keyword arguments, or the fields of a request, without trace keys."""
    return {name: value for name, value in fields.items() if name not in NAMES}


def drop_keys(method: Method, instrumented: InstrumentedClients) -> Method:
    """Remove trace keys from the arguments of a method that is not recorded, and count that."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's own result
        if has_keys(kwargs) and args and instrumented.covers(args[0]):
            counters.add("keys_not_traced")
            kwargs = without_keys(kwargs)
        return method(*args, **kwargs)

    return hide_frame(wrapper)


def keys_of_call() -> Mapping[str, Any]:
    """Return the trace keys that were given to the public method that is running."""
    return _given.get()


class KeyHooks:
    """Wrappers of public methods that remove trace keys from the arguments and keep them during the call."""

    def __init__(self, instrumented: InstrumentedClients) -> None:
        self._instrumented = instrumented

    def sync(self, method: Method) -> Method:
        """Wrap a method; also one that returns a generator that has not started."""

        def wrapper(owner: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's own result
            if not has_keys(kwargs) or not self._instrumented.covers(owner):
                return method(owner, *args, **kwargs)
            token = _given.set({name: kwargs.pop(name) for name in NAMES & kwargs.keys()})
            try:
                return method(owner, *args, **kwargs)
            finally:
                _given.reset(token)

        return hide_frame(wrapper)

    def asynchronous(self, method: Method) -> Method:
        """Wrap a coroutine function."""

        async def wrapper(owner: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's own result
            if not has_keys(kwargs) or not self._instrumented.covers(owner):
                return await method(owner, *args, **kwargs)
            token = _given.set({name: kwargs.pop(name) for name in NAMES & kwargs.keys()})
            try:
                return await method(owner, *args, **kwargs)
            finally:
                _given.reset(token)

        return hide_frame(wrapper)
