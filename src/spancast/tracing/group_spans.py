"""Where a span stands: trace > span > generation, from the trace keys and the active span.

Group spans (``trace_name``, ``span_name``) are kept open in a bounded registry, joined by
later calls with the same keys, and end with their last child: when idle, at flush, at
shutdown or when their ``with`` block ends. Must never: invent a remote parent.
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
    """An open group span. ``holders`` are running children and ``with`` blocks."""

    span: Span
    key: GroupKey | None
    holders: int = 0
    last_end_ns: int = 0
    idle_since_s: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class SpanParent:
    """Where to start a span: its parent context, links, the wanted id of a new trace, its groups."""

    context: Context
    links: list[Link]
    trace_id_override: int | None = None
    groups: tuple[Group, ...] = ()


class GroupSpans:
    """The registry of open groups, and the rule that places a span under them."""

    def __init__(self, starter: Callable[[], SpanFactory], *, idle_s: float = IDLE_S) -> None:
        self._starter = starter
        self._idle_s = idle_s
        self._forget()
        self._at_exit = False
        forget = weakref.WeakMethod(self._forget)
        after_fork_in_child(lambda: (method := forget()) and method())

    def resolve_parent(self, keys: TraceKeys, current: Context) -> SpanParent:
        """Return where a span with ``keys`` stands; opens or joins the groups that the keys name."""
        if current or keys.trace_id is None:
            return self._placed(keys, current)
        # The calls of a conversation name the same groups again and again.
        named = keys.trace_id, keys.trace_name, keys.span_name, keys.parent_span_id
        with self._changed:
            known = self._joined.get(named)
            if known is not None:
                for group in known.groups:
                    group.holders += 1
                return known
        resolve_parent = self._placed(keys, current)
        with self._changed:
            # Unless one has ended meanwhile.
            if all(group.key is not None and self._open.get(group.key) is group for group in resolve_parent.groups):
                if len(self._joined) >= MAX_GROUPS:
                    self._joined.clear()
                self._joined[named] = resolve_parent
        return resolve_parent

    def _placed(self, keys: TraceKeys, current: Context) -> SpanParent:
        parent = _parent_of(keys, current)
        if not keys.span_name and not (keys.trace_name and not _span_context(parent.context).is_valid):
            return parent
        # A group that nobody can name again (its trace id is random) lives as long as this call.
        is_joinable = keys.trace_id is not None or _span_context(parent.context).is_valid
        resolve_parent = parent
        if keys.trace_name and not _span_context(parent.context).is_valid:
            resolve_parent = self._under(resolve_parent, "trace", keys.trace_name, keys, is_joinable=is_joinable)
        if keys.span_name:
            resolve_parent = self._under(resolve_parent, "span", keys.span_name, keys, is_joinable=is_joinable)
        return resolve_parent

    def release(self, groups: tuple[Group, ...], end_ns: int) -> None:
        """A child of ``groups`` ended at ``end_ns``; groups that cannot be joined end with it."""
        now_s = time.monotonic()
        ended: list[Group] = []
        with self._changed:
            for group in reversed(groups):
                group.holders -= 1
                group.last_end_ns = max(group.last_end_ns, end_ns)
                group.idle_since_s = now_s
                if group.key is None and group.holders <= 0:
                    ended.append(group)
        for group in ended:
            group.span.end(group.last_end_ns)

    def close(self, groups: tuple[Group, ...], end_ns: int) -> None:
        """A ``with`` block that opened ``groups`` ended: they end too, unless others still hold them."""
        self.release(groups, end_ns)
        self._end(lambda group: group.holders <= 0 and any(group is one for one in groups))

    def end_idle(self) -> None:
        """End every group without running children; later calls with its keys open it anew."""
        self._end(lambda group: group.holders <= 0)

    def end_all(self) -> None:
        """End every group; children that still run keep their parent id."""
        self._end(lambda _: True)

    def _under(
        self, resolve_parent: SpanParent, level: Level, name: str, keys: TraceKeys, *, is_joinable: bool
    ) -> SpanParent:
        parent = _span_context(resolve_parent.context)
        trace_id = resolve_parent.trace_id_override or parent.trace_id
        key: GroupKey | None = (trace_id, parent.span_id, level, name) if is_joinable else None
        with self._changed:
            group = self._open.get(key) if key else None
            if group is None:
                links = resolve_parent.links if not resolve_parent.groups else []
                shared = keys.without("span_name", "generation_name", "parent_span_id").attributes()
                start = self._starter().start_span
                span = start(
                    name, resolve_parent.context, SpanKind.INTERNAL, shared, links, resolve_parent.trace_id_override
                )
                group = Group(span, key)
                if key:
                    self._open[key] = group
                    self._ensure_sweeper()
            group.holders += 1
            evicted = self._evict()
        for old in evicted:
            counters.add("groups_evicted")
            old.span.end(old.last_end_ns or None)
        return SpanParent(
            trace_api.set_span_in_context(group.span, resolve_parent.context), [], None, (*resolve_parent.groups, group)
        )

    def _evict(self) -> list[Group]:
        if len(self._open) <= MAX_GROUPS:
            return []
        key = next((key for key, group in self._open.items() if group.holders <= 0), next(iter(self._open)))
        self._joined.clear()
        return [self._open.pop(key)]

    def _end(self, is_due: Callable[[Group], bool]) -> None:
        with self._changed:
            due = [group for group in self._open.values() if is_due(group)]
            for group in due:
                if group.key:
                    del self._open[group.key]
            if due:
                self._joined.clear()
        # Children were opened after their parents and end before them.
        for group in reversed(due):
            group.span.end(group.last_end_ns or None)

    def _ensure_sweeper(self) -> None:
        if not self._at_exit:
            # Registered at the first group, hence after the provider's own hook, and so run before it.
            atexit.register(self.end_all)
            self._at_exit = True
        if self._sweeper is None or not self._sweeper.is_alive():
            self._sweeper = threading.Thread(target=self._sweep, name="spancast-groups", daemon=True)
            # No thread to spare: the next group asks again, and a flush ends this one.
            with suppress(RuntimeError, MemoryError):
                self._sweeper.start()

    def _sweep(self) -> None:
        while True:
            with self._changed:
                if not self._open:
                    self._sweeper = None
                    return
                now = time.monotonic()
                idle = [group.idle_since_s for group in self._open.values() if group.holders <= 0]
                wait_s = (min(idle) + self._idle_s - now) if idle else self._idle_s
                if wait_s > 0:
                    self._changed.wait(wait_s)
            oldest_s = time.monotonic() - self._idle_s
            self._end(lambda group: group.holders <= 0 and group.idle_since_s <= oldest_s)  # noqa: B023 - called at once

    def _forget(self) -> None:
        # In a forked child the open groups are the parent's to end, and its lock may be held for ever.
        self._open: OrderedDict[GroupKey, Group] = OrderedDict()
        self._joined: dict[tuple[str | None, ...], SpanParent] = {}
        """Where calls without an active span stood, by the keys they named; as long as no group has ended since."""
        self._changed = threading.Condition()
        self._sweeper: threading.Thread | None = None


def _parent_of(keys: TraceKeys, current: Context) -> SpanParent:
    active = _span_context(current)
    wanted = trace_id_of(keys.trace_id) if keys.trace_id else None
    # A caller who names a trace id other than the active one starts a new trace, linked to where it came from.
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
