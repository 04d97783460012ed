"""For functions whose process is frozen as soon as they return: AWS Lambda, Cloud Functions, Cloud Run jobs.

Must never: hold the answer back longer than told, or change what the function returns or raises.
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
    """Deliver what was handed over before ``function`` returns, or raises, in ``timeout_s`` seconds at most.

    A decorator for handlers, functions and coroutine functions, with or without arguments. What
    is not delivered by then waits in the spool for the next invocation.
    """
    if function is None:
        return lambda given: _flushed(given, timeout_s)
    return _flushed(function, timeout_s)


def _flushed(function: F, timeout_s: float) -> F:
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def after(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the function is anybody's
            try:
                return await function(*args, **kwargs)
            finally:
                await asyncio.to_thread(never_raise(flush), timeout_s)

        return cast("F", after)

    @functools.wraps(function)
    def then(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as above
        try:
            return function(*args, **kwargs)
        finally:
            never_raise(flush)(timeout_s)

    return cast("F", then)
