"""``spancast.trace(...)``: trace keys for every call inside, and the group spans they name.

Invariants (tests/tracing/test_trace_block.py):
    Nothing stays active in the caller's context after the exit. The exit may run in another context than the entry
    (a generator finalized elsewhere).

Each entry has a state of its own, because threads and tasks may share the ``TraceBlock``.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from types import CodeType, FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, ParamSpec, Self, TypeVar, cast

from opentelemetry import baggage
from opentelemetry import context as context_api
from opentelemetry import trace as trace_api
from opentelemetry.context import Context
from opentelemetry.trace import Span, Status, StatusCode

from spancast.model import semconv, trace_keys
from spancast.model.trace_keys import NO_KEYS, TraceKeys
from spancast.tracing.generator_steps import (
    Driven,
    async_generator_function,
    async_step,
    drive,
    drive_awaitable,
    generator_function,
    kind_of,
)
from spancast.tracing.group_scope import Group, GroupScope

if TYPE_CHECKING:
    from spancast.tracing.call_tracer import CallTracer

P = ParamSpec("P")
R = TypeVar("R")

MAX_LISTED_CALLS: Final = 64
_GENERATOR: Final = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


@dataclass(frozen=True, slots=True)
class CallIds:
    """The trace id and span id of a recorded call: 32 and 16 lowercase hex digits."""

    trace_id: str
    span_id: str


class ActiveKeys(NamedTuple):
    """The merged keys of the ``with spancast.trace(...)`` blocks around the caller, and their entries."""

    keys: TraceKeys
    entries: tuple[Entry, ...]


NO_ACTIVE_KEYS: Final = ActiveKeys(NO_KEYS, ())
ACTIVE_KEYS: Final[ContextVar[ActiveKeys]] = ContextVar("spancast.active_keys", default=NO_ACTIVE_KEYS)
"""Read at every call, so there is no accessor function."""


_in_generators: Final[dict[int, weakref.ref[Entry]]] = {}
"""The innermost entry of each running or suspended generator with an open block, by the id of its frame."""


def lost_entry() -> Entry | None:
    """Return the entry of the innermost generator on the stack that opened a block, if its context has been lost.

    A generator has the context of the code that drives it, which may be another thread or task at each step: a server
    that streams a response.
    """
    if not _in_generators:
        return None
    frame = inspect.currentframe()
    while frame is not None:
        known = _in_generators.get(id(frame))
        entry = None if known is None else known()
        if entry is not None and entry.code is frame.f_code:
            return None if entry in ACTIVE_KEYS.get().entries else entry.resumed()
        frame = frame.f_back
    return None


def baggage_keys(current: Context) -> TraceKeys:
    """Return ``session.id`` and ``user.id`` from OpenTelemetry baggage."""
    given = baggage.get_all(current)
    if semconv.SESSION_ID not in given and semconv.USER_ID not in given:
        return NO_KEYS
    return trace_keys.read(session_id=given.get(semconv.SESSION_ID), user=given.get(semconv.USER_ID))


def register_call(span: Span, entries: tuple[Entry, ...]) -> None:
    """Add the ids of ``span``, which started inside ``entries``, to each of their lists of calls, once to each list."""
    if (context := span.get_span_context()).is_valid:
        ids = CallIds(f"{context.trace_id:032x}", f"{context.span_id:016x}")
        for calls in {id(calls): calls for entry in entries for calls in entry.lists}.values():
            calls.append(ids)


class Entry:
    """The state of one entry into a ``spancast.trace(...)`` block.

    Many threads and tasks may enter the same ``TraceBlock`` at once.
    """

    def __init__(self, call_tracer: CallTracer, given: TraceKeys, opener: TraceBlock) -> None:
        self._groups: tuple[Group, ...] = ()
        self._call_tracer = call_tracer
        self.scope: Final = GroupScope()
        """Ends the groups that this entry and the calls inside open."""
        self.opener: Final = opener
        self.calls: Final[deque[CallIds]] = deque(maxlen=MAX_LISTED_CALLS)
        self.lists: Final = (self.calls, *opener.lists)
        self.trace_id: str | None = None
        self._given = given
        self._around = ACTIVE_KEYS.get()
        self.outer = context_api.get_current()
        self.context: Context | None = None
        """The OpenTelemetry context inside; None if this entry opened no span."""
        self._opened_groups = False
        self._keys_inside: ActiveKeys | None = None
        self._context_inside: Context | None = None
        self.code: CodeType | None = None
        """The code of the generator that this entry is in."""
        self._frame_id = 0
        self._driver: tuple[ActiveKeys, Context] | None = None
        self._entry_around: weakref.ref[Entry] | None = None
        if given.trace_name or given.span_name:
            self._open_spans(given.merged_over(self._around.keys))

    def keys_over(self, outer: TraceKeys) -> TraceKeys:
        """Return the keys of calls inside, if ``outer`` are the keys around this entry."""
        merged = self._given.merged_over(outer)
        # This entry has opened these spans; the calls inside must not open them again.
        return merged.without("span_name", "parent_span_id") if self._opened_groups else merged

    def active_keys(self) -> ActiveKeys:
        """Return the active keys of calls inside."""
        return _active_keys_of((*self._around.entries, self))

    def enter_frame(self, frame: FrameType | None) -> None:
        """Make calls from ``frame`` find this entry in any context, if it is the frame of a generator."""
        if frame is not None and frame.f_code.co_flags & _GENERATOR:
            self.code, self._frame_id = frame.f_code, id(frame)
            self._entry_around = _in_generators.get(self._frame_id)
            _in_generators[self._frame_id] = weakref.ref(self)

    def resumed(self) -> Self:
        """Return this entry, whose steps then run in the innermost span of it and of the blocks around it."""
        if self._context_inside is None:
            contexts = (entry.context for entry in reversed(self._around.entries))
            self._context_inside = next((context for context in contexts if context is not None), None)
        return self

    def driven_by_another(self) -> Self:
        """Return this entry, whose exit restores what is current now: it was opened inside an entry that was lost."""
        self._driver = ACTIVE_KEYS.get(), context_api.get_current()
        if self.context is None:
            self.context = self.outer
        return self

    def _exit_frame(self) -> None:
        if self.code is not None:
            self.code = None
            if self._entry_around is not None and self._entry_around() is not None:
                _in_generators[self._frame_id] = self._entry_around
            else:
                _in_generators.pop(self._frame_id, None)

    def attach(self) -> None:
        """Make the keys and the innermost span of this entry current in the caller's context."""
        # First the keys: ``detach`` checks them for something to undo.
        ACTIVE_KEYS.set(self.active_keys())
        if self.context is not None:
            context_api.attach(self.context)

    def detach(self) -> None:
        """Undo ``attach``, in any order of entries; the others in this context stay active.

        If Ctrl-C interrupts it, a second call does what is left.
        """
        entries = ACTIVE_KEYS.get().entries
        if self not in entries:
            # The exit runs in another context than the entry, so there is nothing to restore in this one.
            return
        if self._driver is not None:
            keys, context = self._driver
            context_api.attach(context)
            ACTIVE_KEYS.set(keys)
            return
        left = tuple(entry for entry in entries if entry is not self)
        # Generators in one context may exit in the order of their entries: the other block's span stays current.
        if self.context is not None and not any(entry.context is context_api.get_current() for entry in left):
            context_api.attach(self._context_around(left))
        ACTIVE_KEYS.set(_active_keys_of(left))

    def step(self, call: Callable[..., R], *args: Any, **kwargs: Any) -> R:  # noqa: ANN401 - the caller's own values
        """Return ``call(*args, **kwargs)``, called inside this entry; the next step restores the context it left."""
        former, outer = ACTIVE_KEYS.get(), context_api.get_current()
        context = outer if self._context_inside is None else self._context_inside
        active = self.active_keys() if self._keys_inside is None else self._keys_inside
        try:
            try:
                ACTIVE_KEYS.set(active)
                if context is not outer:
                    context_api.attach(context)
                return call(*args, **kwargs)
            finally:
                self._leave(former, outer, active, context)
        except BaseException:
            # Ctrl-C may have interrupted the lines above.
            self._leave(former, outer, active, context)
            raise

    def _leave(self, former: ActiveKeys, outer: Context, active: ActiveKeys, context: Context) -> None:
        """Restore what was current before a step with ``active`` keys and ``context``; keep what the step has left."""
        left, left_context = ACTIVE_KEYS.get(), context_api.get_current()
        if left is former:
            return
        if left is not active:
            self._keys_inside = left
        is_ours = self.context is not None or any(entry.context is left_context for entry in left.entries)
        # A context that the caller's code has attached stays attached, as it does without spancast.
        if is_ours or context is not outer:
            self._context_inside = left_context if is_ours else None
            if left_context is not outer:
                context_api.attach(outer)
        ACTIVE_KEYS.set(former)

    def __enter__(self) -> Self:
        """Start running the steps of one call."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End after the last step."""
        self._keys_inside = self._context_inside = None
        self.end(error)

    def end(self, error: BaseException | None) -> None:
        """End the spans opened in this entry; an exception sets the status ERROR on its own innermost one."""
        self._exit_frame()
        groups, self._groups = self._groups, ()
        if groups and isinstance(error, Exception) and groups[-1].span.is_recording():
            span = groups[-1].span
            span.set_attribute(semconv.ERROR_TYPE, type(error).__qualname__)
            span.set_status(Status(StatusCode.ERROR))
        self._call_tracer.group_spans.close(self.scope, groups, time.time_ns())

    def __del__(self) -> None:
        # A coroutine or generator was dropped before its first step.
        scope = getattr(self, "scope", None)
        if scope is not None and not scope.has_ended:
            self.end(None)

    def _context_around(self, left: tuple[Entry, ...]) -> Context:
        """Return the context around this entry, without the spans of entries that have exited since."""
        context = self.outer
        for entry in reversed(self._around.entries):
            if entry not in left and entry.context is context:
                context = entry.outer
        return context

    def _open_spans(self, merged: TraceKeys) -> None:
        opened = self._call_tracer.open_groups(self._given, merged, self.scope)
        if opened is None:
            return
        self._groups = opened.groups
        self._opened_groups = bool(opened.groups)
        self.context = self._context_inside = opened.context
        ids = trace_api.get_current_span(opened.context).get_span_context()
        self.trace_id = f"{ids.trace_id:032x}" if ids.is_valid else None


class TraceBlock:
    """A ``with spancast.trace(...)`` block; also ``async with`` and a decorator.

    One object may be entered any number of times: nested in itself, and by many threads and tasks at once.
    ``with ... as block`` gives a block for that one entry.
    """

    def __init__(self, call_tracer: CallTracer, keys: TraceKeys, entry: Entry | None = None) -> None:
        self._call_tracer = call_tracer
        self._given = keys
        self._entry = entry
        self._open: list[Entry] = []
        self.calls: deque[CallIds] = deque(maxlen=MAX_LISTED_CALLS) if entry is None else entry.calls
        """The ids of the last 64 calls made inside, the newest last; a stream is listed from its start.

        The calls of one entry if ``with ... as block`` gave this object, else those of all entries.
        """
        self.lists: Final[tuple[deque[CallIds], ...]] = (self.calls,) if entry is None else entry.lists
        self.trace_id: str | None = None if entry is None else entry.trace_id
        """The trace id (32 hex digits) of the span that the newest entry opened; None if it opened none."""

    def __enter__(self) -> TraceBlock:  # noqa: PYI034 - each entry has a block of its own
        """Add the keys to every call inside; open the spans that ``trace_name`` and ``span_name`` name."""
        return self._enter(inspect.currentframe())

    def _enter(self, own_frame: FrameType | None) -> TraceBlock:
        entry = self._begin()
        try:
            entry.attach()
            entry.enter_frame(own_frame and own_frame.f_back)
            self._open.append(entry)
            return TraceBlock(self._call_tracer, self._given, entry)
        except BaseException:
            # Ctrl-C in the lines above; the entry ends when it is garbage collected.
            entry.detach()
            with suppress(ValueError):
                self._open.remove(entry)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the spans that this block opened; an exception sets the status ERROR on the innermost one."""
        entry = None
        try:
            entry = self._active_entry()
            self._leave(entry, error)
        except BaseException:
            # Ctrl-C in the middle of it.
            entry = entry or self._active_entry()
            if entry is not None:
                entry.detach()
            raise

    def _active_entry(self) -> Entry | None:
        return next((entry for entry in reversed(ACTIVE_KEYS.get().entries) if entry.opener is self), None)

    def _leave(self, entry: Entry | None, error: BaseException | None) -> None:
        if entry is not None:
            entry.detach()
        try:
            self._open.remove(cast("Entry", entry))
        except ValueError:
            # The entry was in another context (a generator finalized elsewhere).
            entry = self._open.pop() if self._open else None
        if entry is not None:
            entry.end(error)

    async def __aenter__(self) -> TraceBlock:  # noqa: PYI034 - each entry has a block of its own
        """Enter as ``__enter__`` does."""
        return self._enter(inspect.currentframe())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Exit as ``__exit__`` does."""
        self.__exit__(kind, error, traceback)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return ``function`` with each call running in an entry of its own.

        Each step of a coroutine or a generator runs in the entry of its call, on any thread or task.
        """
        kind = kind_of(function)
        wrapper: Callable[..., Any]
        if kind == "coroutine":

            async def run_async(*args: P.args, **kwargs: P.kwargs) -> Any:  # noqa: ANN401 - the function's own result
                with self._begin() as entry:
                    return await drive_awaitable(cast("Any", function(*args, **kwargs)), entry.step)

            wrapper = run_async
        elif kind == "generator":

            def begin(*args: P.args, **kwargs: P.kwargs) -> Driven:
                entry = self._begin()
                return Driven(function(*args, **kwargs), entry.step, entry)

            wrapper = generator_function(begin)
        elif kind == "async generator":

            def begin_async(*args: P.args, **kwargs: P.kwargs) -> Driven:
                entry = self._begin()
                return Driven(function(*args, **kwargs), async_step(entry.step), entry)

            wrapper = async_generator_function(begin_async)
        else:

            def run(*args: P.args, **kwargs: P.kwargs) -> Any:  # noqa: ANN401 - the function's own result
                with ExitStack() as ending:
                    entry = ending.enter_context(self._begin())
                    result = entry.step(function, *args, **kwargs)
                    driven = drive(result, entry.step, entry)
                    if driven is None:
                        return result
                    # The entry ends with the last step.
                    ending.pop_all()
                    return driven

            wrapper = run
        return functools.update_wrapper(wrapper, function)

    def bind(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return ``function`` bound to the current context, on any thread that calls it.

        The context includes the keys and the span of this block's entry even if it has lost them: a generator that
        several threads or tasks drive loses its context at each ``yield``. A coroutine or generator that
        ``function`` returns runs in that context too.
        """
        captured = contextvars.copy_context()
        entry = self._entry
        if entry is not None and entry not in ACTIVE_KEYS.get().entries:
            captured.run(entry.attach)

        @functools.wraps(function)
        def bound(*args: P.args, **kwargs: P.kwargs) -> Any:  # noqa: ANN401 - the function's own result
            # A context can be entered only once at a time; with a copy, many threads can run it.
            context = captured.copy()
            result = context.run(function, *args, **kwargs)
            return drive(result, context.run, nullcontext()) or result

        return bound

    def _begin(self) -> Entry:
        lost = lost_entry()
        arguments = self._call_tracer, self._given, self
        entry = Entry(*arguments) if lost is None else lost.step(Entry, *arguments).driven_by_another()
        self.trace_id = entry.trace_id
        return entry


def _active_keys_of(entries: tuple[Entry, ...]) -> ActiveKeys:
    keys = NO_KEYS
    for entry in entries:
        keys = entry.keys_over(keys)
    return ActiveKeys(keys, entries) if entries else NO_ACTIVE_KEYS
