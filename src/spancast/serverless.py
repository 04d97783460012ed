"""Flush before a serverless function returns: AWS Lambda, Cloud Functions, Cloud Run jobs.

The process of such a function is frozen as soon as it returns.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast, overload

from spancast.diagnostics import never_raise
from spancast.runtime import flush

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_TIMEOUT_S = 2.0


@overload
def flush_on_return(function: F) -> F: ...
@overload
def flush_on_return(*, timeout_s: float = DEFAULT_TIMEOUT_S) -> Callable[[F], F]: ...


def flush_on_return(function: F | None = None, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> F | Callable[[F], F]:
    """Deliver queued spans before ``function`` returns or raises, waiting at most ``timeout_s`` seconds.

    A decorator for functions and coroutine functions, with or without arguments. The return value and
    exceptions are unchanged. Spans that are not delivered in time stay in the spool for the next invocation.
    """
    if function is None:
        return lambda decorated: _decorate(decorated, timeout_s)
    return _decorate(function, timeout_s)


def _decorate(function: F, timeout_s: float) -> F:
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def flush_after_await(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - any function
            try:
                return await function(*args, **kwargs)
            finally:
                await asyncio.to_thread(never_raise(flush), timeout_s)

        return cast("F", flush_after_await)

    @functools.wraps(function)
    def flush_after(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - any function
        try:
            return function(*args, **kwargs)
        finally:
            never_raise(flush)(timeout_s)

    return cast("F", flush_after)
