"""The parent of each span: trace > span > generation, from the trace keys and the active span.

Group spans (``trace_name``, ``span_name``) stay open in a bounded registry, and later calls with the same keys
join them. They end when idle, at flush, at shutdown, or when their ``with`` block ends; their end time is that of
their last child. A remote parent is set only if the caller gives ``parent_span_id``.
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from opentelemetry import trace as trace_api
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags

from spancast.diagnostics import after_fork_in_child, counters
from spancast.model.trace_keys import TraceKeys
from spancast.tracing.id_generator import span_id_of, trace_id_of
from spancast.tracing.span_factory import SpanFactory

MAX_GROUPS: Final = 1_024
IDLE_S: Final = 30.0

Level: TypeAlias = Literal["trace", "span"]
GroupKey: TypeAlias = tuple[int, int, Level, str]
"""(trace id, parent span id or 0, level, name)."""


@dataclass(slots=True, eq=False)
class Group:
    """An open group span. ``ref_count`` counts its running children and ``with`` blocks."""

    span: Span
    key: GroupKey | None
    ref_count: int = 0
    last_end_ns: int = 0
    idle_since_s: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class SpanParent:
    """The parent context of a new span, its links, the id of a new trace if one is given, and its groups."""

    context: Context
    links: list[Link]
    trace_id_override: int | None = None
    groups: tuple[Group, ...] = ()


class GroupSpans:
    """The registry of open group spans; resolves the parent of each span."""

    def __init__(self, span_factory: Callable[[], SpanFactory], *, idle_s: float = IDLE_S) -> None:
        self._span_factory = span_factory
        self._idle_s = idle_s
        self._reset()
        self._at_exit = False
        reset = weakref.WeakMethod(self._reset)
        after_fork_in_child(lambda: (method := reset()) and method())

    def resolve_parent(self, keys: TraceKeys, current: Context) -> SpanParent:
        """Return the parent of a span with ``keys``; open or join the groups that the keys name."""
        if current or keys.trace_id is None:
            return self._resolve(keys, current)
        # All calls of a conversation name the same groups, so the result is cached.
        named = keys.trace_id, keys.trace_name, keys.span_name, keys.parent_span_id
        with self._changed:
            known = self._parents.get(named)
            if known is not None:
                for group in known.groups:
                    group.ref_count += 1
                return known
        parent = self._resolve(keys, current)
        with self._changed:
            # Do not cache a group that has ended in the meantime.
            if all(group.key is not None and self._open.get(group.key) is group for group in parent.groups):
                if len(self._parents) >= MAX_GROUPS:
                    self._parents.clear()
                self._parents[named] = parent
        return parent

    def _resolve(self, keys: TraceKeys, current: Context) -> SpanParent:
        parent = _parent_of(keys, current)
        if not keys.span_name and not (keys.trace_name and not _span_context(parent.context).is_valid):
            return parent
        # A group with a random trace id cannot be joined by a later call; it ends with this one.
        is_joinable = keys.trace_id is not None or _span_context(parent.context).is_valid
        if keys.trace_name and not _span_context(parent.context).is_valid:
            parent = self._open_group(parent, "trace", keys.trace_name, keys, is_joinable=is_joinable)
        if keys.span_name:
            parent = self._open_group(parent, "span", keys.span_name, keys, is_joinable=is_joinable)
        return parent

    def release(self, groups: tuple[Group, ...], end_ns: int) -> None:
        """Record that a child of ``groups`` ended at ``end_ns``; end the groups that cannot be joined."""
        now_s = time.monotonic()
        ended: list[Group] = []
        with self._changed:
            for group in reversed(groups):
                group.ref_count -= 1
                group.last_end_ns = max(group.last_end_ns, end_ns)
                group.idle_since_s = now_s
                if group.key is None and group.ref_count <= 0:
                    ended.append(group)
        for group in ended:
            group.span.end(group.last_end_ns)

    def close(self, groups: tuple[Group, ...], end_ns: int) -> None:
        """End ``groups`` with the ``with`` block that opened them, except those that others still use."""
        self.release(groups, end_ns)
        self._end(lambda group: group.ref_count <= 0 and any(group is one for one in groups))

    def end_idle(self) -> None:
        """End every group without running children; later calls with its keys open a new one."""
        self._end(lambda group: group.ref_count <= 0)

    def end_all(self) -> None:
        """End every group; running children keep their parent id."""
        self._end(lambda _: True)

    def _open_group(
        self, parent: SpanParent, level: Level, name: str, keys: TraceKeys, *, is_joinable: bool
    ) -> SpanParent:
        ids = _span_context(parent.context)
        trace_id = parent.trace_id_override or ids.trace_id
        key: GroupKey | None = (trace_id, ids.span_id, level, name) if is_joinable else None
        with self._changed:
            group = self._open.get(key) if key else None
            if group is None:
                links = parent.links if not parent.groups else []
                shared = keys.without("span_name", "generation_name", "parent_span_id").attributes()
                start = self._span_factory().start_span
                span = start(name, parent.context, SpanKind.INTERNAL, shared, links, parent.trace_id_override)
                group = Group(span, key)
                if key:
                    self._open[key] = group
                    self._ensure_sweeper()
            group.ref_count += 1
            evicted = self._evict()
        for old in evicted:
            counters.add("groups_evicted")
            old.span.end(old.last_end_ns or None)
        return SpanParent(trace_api.set_span_in_context(group.span, parent.context), [], None, (*parent.groups, group))

    def _evict(self) -> list[Group]:
        if len(self._open) <= MAX_GROUPS:
            return []
        key = next((key for key, group in self._open.items() if group.ref_count <= 0), next(iter(self._open)))
        self._parents.clear()
        return [self._open.pop(key)]

    def _end(self, is_due: Callable[[Group], bool]) -> None:
        with self._changed:
            due = [group for group in self._open.values() if is_due(group)]
            for group in due:
                if group.key:
                    del self._open[group.key]
            if due:
                self._parents.clear()
        # Children are opened after their parents, so the reverse order ends them first.
        for group in reversed(due):
            group.span.end(group.last_end_ns or None)

    def _ensure_sweeper(self) -> None:
        if not self._at_exit:
            # atexit hooks run in reverse order: registered after the provider's hook, this one runs before it.
            atexit.register(self.end_all)
            self._at_exit = True
        if self._sweeper is None or not self._sweeper.is_alive():
            self._sweeper = threading.Thread(target=self._sweep, name="spancast-groups", daemon=True)
            # If no thread can be started, the next group tries again, and a flush ends this one.
            with suppress(RuntimeError, MemoryError):
                self._sweeper.start()

    def _sweep(self) -> None:
        while True:
            with self._changed:
                if not self._open:
                    self._sweeper = None
                    return
                now = time.monotonic()
                idle = [group.idle_since_s for group in self._open.values() if group.ref_count <= 0]
                wait_s = (min(idle) + self._idle_s - now) if idle else self._idle_s
                if wait_s > 0:
                    self._changed.wait(wait_s)
            oldest_s = time.monotonic() - self._idle_s
            self._end(lambda group: group.ref_count <= 0 and group.idle_since_s <= oldest_s)  # noqa: B023 - called at once

    def _reset(self) -> None:
        # In a forked child the parent process ends the open groups, and a lock held at the fork is never released.
        self._open: OrderedDict[GroupKey, Group] = OrderedDict()
        self._parents: dict[tuple[str | None, ...], SpanParent] = {}
        """Cached parents of calls without an active span, by their keys; cleared when a group ends."""
        self._changed = threading.Condition()
        self._sweeper: threading.Thread | None = None


def _parent_of(keys: TraceKeys, current: Context) -> SpanParent:
    active = _span_context(current)
    wanted = trace_id_of(keys.trace_id) if keys.trace_id else None
    # A trace id other than the active one starts a new trace, linked to the active span.
    leaves = wanted is not None and wanted != active.trace_id
    links = [Link(active)] if leaves and active.is_valid else []
    trace_id = wanted or active.trace_id
    if keys.parent_span_id and trace_id:
        flags = active.trace_flags if active.is_valid and not leaves else TraceFlags(TraceFlags.SAMPLED)
        named = SpanContext(trace_id, span_id_of(keys.parent_span_id), is_remote=True, trace_flags=flags)
        return SpanParent(trace_api.set_span_in_context(NonRecordingSpan(named), current), links)
    if leaves:
        return SpanParent(trace_api.set_span_in_context(trace_api.INVALID_SPAN, current), links, wanted)
    return SpanParent(current, links)


def _span_context(context: Context) -> SpanContext:
    return trace_api.get_current_span(context).get_span_context()
