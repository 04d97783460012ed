"""Where ended spans come in: O(1) on the thread that ends a span, everything else on a thread of ours.

Must never: block, raise, or grow without bound.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, ParamSpec, TypeAlias

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import TraceFlags

from spancast.diagnostics import counters, guarded, never_raise, warn_once
from spancast.export import process_exit
from spancast.export.genai_ancestors import GenAIAncestors
from spancast.export.worker_thread import CURRENT_THREAD, Bell, WorkerThread
from spancast.model import semconv
from spancast.model.unparsed import Unparsed

QueuedSpan: TypeAlias = tuple[ReadableSpan, bytes | None, Unparsed | None]
"""An ended span, the nearest LLM span above it unless that is its parent, and what is left to parse."""

P = ParamSpec("P")

MAX_SPANS: Final = 32_768
"""Spans that wait to be spooled: what a process ends within three seconds and one thread of ours takes ten for."""
MAX_BYTES: Final = 64 << 20
"""Of memory, roughly: what their messages take, and ``_SPAN_BYTES`` for the rest of each."""
_SPAN_BYTES: Final = 2048
BATCH_SPANS: Final = 512
SCHEDULE_DELAY_S: Final = 0.1
"""How long an ended span waits: what a ``kill -9`` loses."""
_MAX_OWN_WORK: Final = 4096
_MARK: Final = "_spancast_handed_over"
_SAMPLED: Final = TraceFlags.SAMPLED
_REMEMBERED: Final = 8192
_unmarked: Final[dict[tuple[int, int], object]] = {}
"""Trace and span ids of those that could not be marked. Bounded; safe for threads without a lock."""


def _drop(reason: str) -> None:
    counters.add("received")
    counters.add("dropped", reason=reason)
    warn_once(f"dropped.{reason}", "spancast: a span was dropped (%s); `dropped.%s` counts them", reason, reason)


def _counted(function: Callable[P, None]) -> Callable[P, None]:
    """Make ``function`` count a span as dropped if it raises."""
    return guarded(function, lambda _: _drop("internal_error"))


class SpanQueue(SpanProcessor):
    """Gives ``take`` the ended spans that were sampled, at most ``BATCH_SPANS`` at a time, from one thread.

    If ``take`` raises, its spans are counted in ``dropped.internal_error``.
    """

    def __init__(
        self, take: Callable[[Sequence[QueuedSpan]], None], max_spans: int = MAX_SPANS, max_bytes: int = MAX_BYTES
    ) -> None:
        self._take = guarded(take, _failed)
        self._max_spans = max_spans
        self._max_bytes = max_bytes
        self._queue: deque[tuple[QueuedSpan, int]] = deque()
        self._lineage = GenAIAncestors()
        self._is_awake = False
        self._is_running = False
        self._is_stopped = False
        self._begin()

    def _begin(self) -> None:
        self._news = Bell()
        self._hurry = Bell()
        self._taking = threading.Lock()
        # Reentrant: the collector may end a span on the very thread that counts.
        self._counting = threading.RLock()
        self._bytes = 0
        self._in_hand = 0
        self._own_work: set[int] = set()
        """Ids of open spans that began on a thread of ours."""
        self._passed = threading.Condition()
        self._passes_asked = self._passes_done = 0
        self._thread = WorkerThread("spancast intake", self._run)

    @property
    def waiting(self) -> int:
        """Return how many spans wait to be spooled, those that are being spooled included."""
        return len(self._queue) + self._in_hand

    @never_raise
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002 - the SDK's signature
        """Remember the parents of LLM spans that are none, and what our own threads begin."""
        if CURRENT_THREAD.is_ours:
            self._begun_by_us(span)
        self._lineage.started(span)

    def _begun_by_us(self, span: ReadableSpan) -> None:
        context = span.get_span_context()
        if len(self._own_work) >= _MAX_OWN_WORK:
            # Spans that never end: an instrumentation's defect must not fill the memory.
            self._own_work.clear()
        if context is not None:
            self._own_work.add(context.span_id)

    def on_end(self, span: ReadableSpan) -> None:
        """Queue an ended span that is complete."""
        self.put(span)

    @_counted
    def put(self, span: ReadableSpan, unparsed: Unparsed | None = None) -> None:
        """Queue an ended span, and what is left to parse of it.

        Counted as dropped if the queue is full, after ``stop``, and if the span can't be read.
        """
        context = span.context
        if context is None or not context.trace_flags & _SAMPLED or hasattr(span, _MARK):
            return
        # Where it began decides, not where it ends: the collector ends abandoned spans on any thread.
        is_own_work = bool(self._own_work) and context.span_id in self._own_work
        # All processors and exporters get the same object: however many ways lead here, it is taken once.
        try:
            setattr(span, _MARK, True)
        except (AttributeError, TypeError):
            # Another library's span, which takes no attribute.
            if not _is_new((context.trace_id, context.span_id)):
                return
        if is_own_work:
            self._own_work.discard(context.span_id)
            return
        queue = self._queue
        if self._is_stopped or len(queue) >= self._max_spans or self._bytes >= self._max_bytes:
            _drop("after_shutdown" if self._is_stopped else "queue_full")
            return
        size = _SPAN_BYTES + (_content_bytes(span) if unparsed is None else unparsed.size_bytes)
        above = None if span.parent is None else self._lineage.above(span)
        with self._counting:
            self._bytes += size
        queue.append(((span, above, unparsed), size))
        if not self._is_awake:
            self._is_awake = True
            if not self._is_running:
                self._is_running = True
                process_exit.expect()
                if not self._thread.start():
                    # The system has no thread to spare; the next span asks again.
                    self._is_awake = self._is_running = False
            self._news.ring()

    def drain(self, timeout_s: float) -> bool:
        """Return once what was queued before this call was taken; False where it was not within ``timeout_s``."""
        with self._passed:
            self._passes_asked += 1
            asked = self._passes_asked
        deadline_s = time.monotonic() + timeout_s
        if self._thread.start():
            self._hurry.ring()
            self._news.ring()
            with self._passed:
                return self._passed.wait_for(lambda: self._passes_done >= asked, timeout_s)
        # The interpreter ends and starts no threads any more: here and now.
        return self._take_all(deadline_s)

    def stop(self) -> None:
        """Take nothing more; what is queued can still be drained."""
        self._is_stopped = True

    def after_fork_in_child(self) -> None:
        """Begin empty: what is queued is the parent's to deliver."""
        self._queue.clear()
        self._is_awake = self._is_running = False
        self._begin()

    def _run(self) -> None:
        try:
            while True:
                self._news.wait()
                self._hurry.wait(SCHEDULE_DELAY_S)
                self._is_awake = False
                asked = self._passes_asked
                self._take_all(None)
                with self._passed:
                    self._passes_done = asked
                    self._passed.notify_all()
        finally:
            # Whatever ended it: the next span has it run again.
            self._is_awake = self._is_running = False

    def _take_all(self, deadline_s: float | None) -> bool:
        with self._taking:
            while self._queue:
                if deadline_s is not None and time.monotonic() > deadline_s:
                    return False
                # Before they leave the queue, so that they are missing from `waiting` at no moment.
                self._in_hand = min(len(self._queue), BATCH_SPANS)
                taken = [self._queue.popleft() for _ in range(self._in_hand)]
                taken_bytes = sum(size for _, size in taken)
                with self._counting:
                    self._bytes -= taken_bytes
                lost = len(taken)
                try:
                    if self._take([ended for ended, _ in taken]) is None:
                        lost = 0
                finally:
                    if lost:
                        counters.add("dropped", lost, reason="internal_error")
                    self._in_hand = 0
        return True


def _is_new(ids: tuple[int, int]) -> bool:
    if len(_unmarked) >= _REMEMBERED:
        _unmarked.clear()
    mark = object()
    return _unmarked.setdefault(ids, mark) is mark


def _failed(error: Exception) -> Exception:
    return error


def _content_bytes(span: ReadableSpan) -> int:
    attributes = span.attributes or {}
    said = attributes.get(semconv.INPUT_MESSAGES), attributes.get(semconv.OUTPUT_MESSAGES)
    return sum(len(text) for text in said if isinstance(text, str))
