"""``spancast.trace(...)``: keys for every call inside, and the spans they name.

Must never: leave anything active in the caller's context, or break a ``with`` block whose
exit runs in another context than its entry (a generator finalised elsewhere).
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import inspect
import time
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar, Token
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, ParamSpec, Self, TypeVar, cast

from opentelemetry import baggage
from opentelemetry import context as context_api
from opentelemetry import trace as trace_api
from opentelemetry.context import Context
from opentelemetry.trace import Span, Status, StatusCode, propagation

from spancast.model import semconv, trace_keys
from spancast.model.trace_keys import NO_KEYS, TraceKeys

if TYPE_CHECKING:
    from spancast.recording.recorder import Recorder
    from spancast.recording.span_tree import Group

P = ParamSpec("P")
R = TypeVar("R")

REMEMBERED: Final = 64

_runtime: Final[Any] = getattr(context_api, "_RUNTIME_CONTEXT", None)
"""What is behind ``opentelemetry.context``, chosen when that was loaded."""
attach: Final[Callable[[Context], object]] = context_api.attach if _runtime is None else _runtime.attach
current_context: Final[Callable[[], Context]] = context_api.get_current if _runtime is None else _runtime.get_current
_SPAN_KEY: Final[str | None] = getattr(propagation, "_SPAN_KEY", None)


@dataclass(frozen=True, slots=True)
class SpanIds:
    """Where a recorded call can be found: 32 and 16 lowercase hex digits."""

    trace_id: str
    span_id: str


class Ambient(NamedTuple):
    """What the ``with spancast.trace(...)`` blocks around the caller give him: their keys merged, and themselves."""

    keys: TraceKeys
    scopes: tuple[Scope, ...]


NOWHERE: Final = Ambient(NO_KEYS, ())
AMBIENT: Final[ContextVar[Ambient]] = ContextVar("spancast.ambient", default=NOWHERE)
"""Asked by every call, hence without a function around it."""


def baggage_keys(current: Context) -> TraceKeys:
    """Return ``session.id`` and ``user.id`` from OpenTelemetry baggage."""
    session_id, user = baggage.get_baggage(semconv.SESSION_ID, current), baggage.get_baggage(semconv.USER_ID, current)
    if session_id is None and user is None:
        return NO_KEYS
    return trace_keys.read(session_id=session_id, user=user)


def remember(span: Span, scopes: tuple[Scope, ...]) -> None:
    """Let ``scopes`` know of a call whose span started inside."""
    if (context := span.get_span_context()).is_valid:
        ids = SpanIds(f"{context.trace_id:032x}", f"{context.span_id:016x}")
        for scope in scopes:
            scope.calls.append(ids)


class Scope:
    """One ``with spancast.trace(...)`` block; also ``async with`` and a decorator.

    ``calls`` lists the ids of the last 64 calls made inside, newest last, streams included
    from the moment they start.
    """

    def __init__(self, recorder: Recorder, keys: TraceKeys) -> None:
        self._recorder = recorder
        self._given = keys
        self._groups: tuple[Group, ...] = ()
        self._undo: list[Callable[[], None]] = []
        self.calls: deque[SpanIds] = deque(maxlen=REMEMBERED)
        self.trace_id: str | None = None
        """The trace id (32 hex digits) of the span this block opened, or of its ``trace_id`` key."""

    def __enter__(self) -> Self:
        """Give the keys to every call inside; open the spans that ``trace_name`` and ``span_name`` name."""
        around = AMBIENT.get()
        merged = self._given.over(around.keys)
        if self._given.trace_name or self._given.span_name:
            self._open_spans(merged)
        # What has become a span here must not become one again for each call inside.
        inherited = merged.without("span_name", "parent_span_id") if self._groups else merged
        token = AMBIENT.set(Ambient(inherited, (*around.scopes, self)))
        self._undo.append(lambda: _reset(token))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the spans this block opened; an exception marks the innermost as failed."""
        for undo in reversed(self._undo):
            undo()
        self._undo.clear()
        if self._groups:
            span = self._groups[-1].span
            if error is not None and isinstance(error, Exception):
                span.set_attribute(semconv.ERROR_TYPE, type(error).__qualname__)
                span.set_status(Status(StatusCode.ERROR))
            self._recorder.tree.close(self._groups, time.time_ns())
            self._groups = ()

    async def __aenter__(self) -> Self:
        """As ``__enter__``."""
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """As ``__exit__``."""
        self.__exit__(kind, error, traceback)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Run every call of ``function`` in a block of its own with these keys."""
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def run_async(*args: P.args, **kwargs: P.kwargs) -> Any:  # noqa: ANN401 - the function's own result
                with Scope(self._recorder, self._given):
                    return await function(*args, **kwargs)

            return cast("Callable[P, R]", run_async)

        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            with Scope(self._recorder, self._given):
                return function(*args, **kwargs)

        return run

    def bind(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return ``function`` made to run with the context of this moment, on whatever thread calls it."""
        captured = contextvars.copy_context()

        @functools.wraps(function)
        def bound(*args: P.args, **kwargs: P.kwargs) -> R:
            # A context can be entered once at a time; a copy lets many threads run it.
            return captured.copy().run(function, *args, **kwargs)

        return bound

    def _open_spans(self, merged: TraceKeys) -> None:
        opened = self._recorder.open_groups(self._given, merged)
        if opened is None:
            return
        self._groups = opened.groups
        ids = trace_api.get_current_span(opened.context).get_span_context()
        self.trace_id = f"{ids.trace_id:032x}" if ids.is_valid else None
        token = attach(opened.context)
        self._undo.append(lambda: detach(token))


def _reset(token: Token[Ambient]) -> None:
    # Exited in another context than entered: that context dies by itself, nothing to restore here.
    with contextlib.suppress(ValueError):
        AMBIENT.reset(token)


def context_of(span: Span, current: Context) -> Context:
    """Do what ``opentelemetry.trace.set_span_in_context`` does, without two copies and functions between."""
    if _SPAN_KEY is None:
        return trace_api.set_span_in_context(span, current)
    return Context({**current, _SPAN_KEY: span})


def detach(token: object) -> None:
    """Take an attached OpenTelemetry context back, silently where it was attached in another context.

    ``opentelemetry.context.detach`` logs an error there ("Failed to detach context"), which
    users of async generators see by the thousand.
    """
    if _runtime is None:
        context_api.detach(cast("Any", token))
        return
    try:
        _runtime.detach(token)
    except ValueError:
        return
