"""The parent of each span: trace > span > generation, from the trace keys and the active span.

Group spans (``trace_name``, ``span_name``) stay open in a bounded registry, and later calls with the same keys
join them. A group ends with its scope: the innermost ``with`` block or active span around the call that opened it.
Without a scope it ends when idle. All end at flush (if no child runs), at shutdown and at the end of the process. The
end time of a group is that of its last child. A remote parent is set only if the caller gives ``parent_span_id``.
"""

from __future__ import annotations

import functools
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from opentelemetry import trace as trace_api
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, TraceFlags

from spancast.diagnostics import after_fork_in_child, counters
from spancast.model import semconv
from spancast.model.call import Attributes
from spancast.model.span_ids import span_id_of, trace_id_of
from spancast.model.trace_keys import TraceKeys
from spancast.tracing.group_scope import Group, GroupKey, GroupScope, Level
from spancast.tracing.span_factory import SpanFactory
from spancast.tracing.span_processor import END_CALLBACKS
from spancast.tracing.trace_block import ACTIVE_KEYS

MAX_GROUPS: Final = 1_024
IDLE_S: Final = 5.0


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
        reset = weakref.WeakMethod(self._reset)
        after_fork_in_child(lambda: (method := reset()) and method())

    def resolve_parent(self, keys: TraceKeys, current: Context, block: GroupScope | None = None) -> SpanParent:
        """Return the parent of a span with ``keys``; open or join the groups that the keys name.

        A ``block`` joins no group: it opens its own.
        """
        if current or keys.trace_id is None or block is not None:
            return self._resolve(keys, current, block)
        # All calls of a conversation name the same groups, so the result is cached.
        named = keys.trace_id, keys.trace_name, keys.span_name, keys.parent_span_id
        with self._lock:
            known = self._parents.get(named)
            if known is not None:
                for group in known.groups:
                    group.ref_count += 1
                return known
        parent = self._resolve(keys, current, None)
        with self._lock:
            # Do not cache a group that has ended in the meantime.
            if all(group in self._open for group in parent.groups):
                if len(self._parents) >= MAX_GROUPS:
                    self._parents.clear()
                self._parents[named] = parent
        return parent

    def _resolve(self, keys: TraceKeys, current: Context, block: GroupScope | None) -> SpanParent:
        parent = _parent_of(keys, current)
        is_root = not _span_context(parent.context).is_valid
        # A group with a random trace id cannot be joined by a later call; it ends with this one.
        is_joinable = keys.trace_id is not None or not is_root
        if keys.trace_name and is_root:
            parent = self._open_group(parent, "trace", keys.trace_name, keys, block, is_joinable=is_joinable)
        if keys.span_name:
            parent = self._open_group(parent, "span", keys.span_name, keys, block, is_joinable=is_joinable)
        return parent

    def release(self, groups: tuple[Group, ...], end_ns: int) -> None:
        """Record that a child of ``groups`` ended at ``end_ns``; end the groups that cannot be joined."""
        now_s = time.monotonic()
        with self._lock:
            for group in groups:
                group.ref_count -= 1
                group.last_end_ns = max(group.last_end_ns, end_ns)
                group.idle_since_s = now_s
            due = [group for group in groups if group.key is None and group.ref_count <= 0]
            ended = self._remove(due) if due else due
        _end_spans(ended)

    def close(self, scope: GroupScope, own: tuple[Group, ...] = (), end_ns: int = 0) -> None:
        """End the groups opened in ``scope``, which ends; its ``own`` ones end at ``end_ns``, after the others."""
        with self._lock:
            scope.has_ended = True
            for group in own:
                group.last_end_ns = max(group.last_end_ns, end_ns)
            ended = self._remove(tuple(scope.groups))
        _end_spans(ended)

    def end_idle(self) -> None:
        """End every group without running children; later calls with its keys open a new one."""
        self._end(lambda group: group.ref_count <= 0)

    def end_all(self) -> None:
        """End every group; running children keep their parent id."""
        self._end(lambda _: True)

    def _open_group(  # noqa: PLR0913 - one argument per fact that decides whether a group is joined
        self,
        parent: SpanParent,
        level: Level,
        name: str,
        keys: TraceKeys,
        block: GroupScope | None,
        *,
        is_joinable: bool,
    ) -> SpanParent:
        ids = _span_context(parent.context)
        trace_id = parent.trace_id_override or ids.trace_id
        key: GroupKey | None = (trace_id, ids.span_id, level, name) if is_joinable else None
        evicted: list[Group] = []
        with self._lock:
            group = self._joinable.get(key) if key and block is None else None
            if group is None:
                links = parent.links if not parent.groups else []
                shared = functools.partial(_group_attributes, keys, name)
                start, override = self._span_factory().start_span, parent.trace_id_override
                span = start(name, parent.context, SpanKind.INTERNAL, shared, links, override)
                group = Group(span, key, block or self._scope_around(parent))
                evicted = self._add(group)
            group.ref_count += 1
        if evicted:
            counters.add("groups_evicted")
            _end_spans(evicted)
        return SpanParent(trace_api.set_span_in_context(group.span, parent.context), [], None, (*parent.groups, group))

    def _scope_around(self, parent: SpanParent) -> GroupScope | None:
        """Return the scope of a new group: that of its parent group, else that of the caller's block or span."""
        if parent.groups:
            return parent.groups[0].scope
        active = trace_api.get_current_span()
        entry = next((entry for entry in reversed(ACTIVE_KEYS.get().entries) if entry.scope.is_open), None)
        if entry is not None and active is trace_api.get_current_span(entry.context or entry.outer):
            # The block is inside the active span, or the active span is the block's own.
            return entry.scope
        if active.is_recording():
            span_id = active.get_span_context().span_id
            return self._span_scopes.get(span_id) or GroupScope(active)
        return None if entry is None else entry.scope

    def _add(self, group: Group) -> list[Group]:
        """Register ``group``; return the groups to end instead if there are too many."""
        self._open[group] = None
        if group.key:
            self._joinable[group.key] = group
        scope = group.scope
        if scope is not None:
            scope.groups[group] = None
            if scope.span is not None:
                span_id = scope.span.get_span_context().span_id
                self._span_scopes[span_id] = scope
                # A span whose provider does not have our processor ends unnoticed; then the idle time applies.
                END_CALLBACKS[span_id] = lambda: self.close(scope)
        if group.key:
            self._ensure_sweeper()
        if len(self._joinable) <= MAX_GROUPS:
            return []
        groups = list(self._joinable.values())
        return self._remove([next((one for one in groups if one.ref_count <= 0), groups[0])])

    def _remove(self, groups: Iterable[Group]) -> list[Group]:
        """Remove those of ``groups`` that are open; return them."""
        removed: list[Group] = []
        for group in groups:
            if group not in self._open:
                continue
            del self._open[group]
            removed.append(group)
            if group.key and self._joinable.get(group.key) is group:
                del self._joinable[group.key]
            scope = group.scope
            if scope is not None:
                scope.groups.pop(group, None)
                if scope.span is not None and not scope.groups:
                    span_id = scope.span.get_span_context().span_id
                    self._span_scopes.pop(span_id, None)
                    END_CALLBACKS.pop(span_id, None)
        if removed:
            self._parents.clear()
        return removed

    def _end(self, is_due: Callable[[Group], bool]) -> None:
        with self._lock:
            # A copy: the garbage collector may end a call, and its group, on this thread.
            ended = self._remove([group for group in list(self._open) if is_due(group)])
        _end_spans(ended)

    def _ensure_sweeper(self) -> None:
        if self._sweeper is None or not self._sweeper.is_alive():
            self._sweeper = threading.Thread(target=self._sweep, name="spancast-groups", daemon=True)
            # If no thread can be started, the next group tries again, and a flush ends this one.
            with suppress(RuntimeError, MemoryError):
                self._sweeper.start()

    def _sweep(self) -> None:
        while True:
            with self._lock:
                if not any(group.key for group in list(self._open)):
                    self._sweeper = None
                    return
                now_s = time.monotonic()
                idle = [group.idle_since_s for group in list(self._open) if group.is_idle]
                wait_s = (min(idle) + self._idle_s - now_s) if idle else self._idle_s
                if wait_s > 0:
                    self._changed.wait(wait_s)
            oldest_s = time.monotonic() - self._idle_s
            self._end(lambda group: group.is_idle and group.idle_since_s <= oldest_s)  # noqa: B023 - called at once

    def _reset(self) -> None:
        # In a forked child the parent process ends the open groups, and a lock held at the fork is never released.
        self._open: dict[Group, None] = {}
        """Every open group, in the order of opening."""
        self._joinable: dict[GroupKey, Group] = {}
        self._span_scopes: dict[int, GroupScope] = {}
        """The scopes of active spans with open groups, by span id."""
        self._parents: dict[tuple[str | None, ...], SpanParent] = {}
        """Cached parents of calls without an active span, by their keys; cleared when a group ends."""
        # Ctrl-C inside the methods of a condition, which are Python, could leave it locked; those of a lock are C.
        # Reentrant: the garbage collector may end a call, and its group, on a thread that holds the lock.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._sweeper: threading.Thread | None = None


def _group_attributes(keys: TraceKeys, name: str) -> Attributes:
    shared = keys.without("span_name", "generation_name", "parent_span_id").attributes()
    shared[semconv.OPERATION_NAME] = semconv.INVOKE_WORKFLOW
    shared[semconv.WORKFLOW_NAME] = name
    return shared


def _end_spans(groups: list[Group]) -> None:
    # Children are opened after their parents, so the reverse order ends them first.
    for group in reversed(groups):
        group.span.end(group.last_end_ns or None)


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
