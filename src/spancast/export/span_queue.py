"""The queue of ended spans: O(1) work on the thread that ends a span, the rest on a worker thread.

The queue does not block or raise in the application's thread, and it is bounded in spans and bytes.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, ParamSpec, TypeAlias

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import TraceFlags

from spancast.diagnostics import counters, guarded, never_raise, warn_once
from spancast.export import process_exit
from spancast.export.genai_ancestors import GenAIAncestors
from spancast.export.worker_thread import CURRENT_THREAD, WakeFlag, WorkerThread
from spancast.model.unparsed import Unparsed

QueuedSpan: TypeAlias = tuple[ReadableSpan, bytes | None, Unparsed | None]
"""An ended span, its nearest GenAI ancestor unless that is its parent, and the part that is not parsed yet."""

P = ParamSpec("P")

MAX_SPANS: Final = 32_768
"""Spans that wait to be spooled: a busy process ends as many in 3 seconds, and the worker thread needs 10 for them."""
MAX_BYTES: Final = 64 << 20
"""Estimated memory of the queued spans: the size of their texts, and ``_SPAN_BYTES`` for the rest of each."""
_SPAN_BYTES: Final = 2048
BATCH_SPANS: Final = 512
SCHEDULE_DELAY_S: Final = 0.1
"""Delay between the end of a span and its spooling; ``kill -9`` loses the spans of this time."""
_MAX_OWN_SPANS: Final = 4096
_MARK: Final = "_spancast_handed_over"
_SAMPLED: Final = TraceFlags.SAMPLED
_MAX_UNMARKED: Final = 8192
_unmarked: Final[dict[tuple[int, int], object]] = {}
"""Trace and span ids of spans that could not be marked. Bounded; safe for threads without a lock."""


def _drop(reason: str) -> None:
    counters.add("received")
    counters.add("dropped", reason=reason)
    warn_once(f"dropped.{reason}", "spancast: a span was dropped (%s); see `dropped` in `spancast.stats()`", reason)


def _drop_on_error(function: Callable[P, None]) -> Callable[P, None]:
    """Wrap ``function`` so that a span counts as dropped if it raises."""
    return guarded(function, lambda _: _drop("internal_error"))


class SpanQueue(SpanProcessor):
    """A span processor that passes sampled spans to ``process``, at most ``BATCH_SPANS`` at a time, from one thread.

    If ``process`` raises, its spans count as dropped with the reason ``internal_error``.
    """

    def __init__(
        self, process: Callable[[Sequence[QueuedSpan]], None], max_spans: int = MAX_SPANS, max_bytes: int = MAX_BYTES
    ) -> None:
        self._process = guarded(process, _failed)
        self._max_spans = max_spans
        self._max_bytes = max_bytes
        self._queue: deque[tuple[QueuedSpan, int]] = deque()
        self._ancestors = GenAIAncestors()
        self._is_awake = False
        self._is_running = False
        self._is_stopped = False
        self._is_closed = False
        self._successor: SpanQueue | None = None
        self._reset()

    def _reset(self) -> None:
        self._has_spans = WakeFlag()
        self._flush_requested = WakeFlag()
        self._processing = threading.Lock()
        # Reentrant: the garbage collector may end a span on the thread that holds the lock.
        self._bytes_lock = threading.RLock()
        self._bytes = 0
        self._in_process = 0
        self._own_spans: set[int] = set()
        """Ids of open spans that were started on a worker thread."""
        # Not the condition is entered: Ctrl-C inside its methods, which are Python, could leave it locked.
        self._passes_lock = threading.RLock()
        self._passed = threading.Condition(self._passes_lock)
        self._passes_requested = self._passes_done = 0
        self._thread = WorkerThread("spancast span queue", self._run)

    @property
    def queued(self) -> int:
        """Return how many spans wait to be spooled or are being spooled."""
        return len(self._queue) + self._in_process

    @never_raise
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002 - the SDK's signature
        """Record GenAI ancestors, and spans that are started on worker threads."""
        if CURRENT_THREAD.is_worker:
            self._add_own_span(span)
        self._ancestors.on_start(span)

    def _add_own_span(self, span: ReadableSpan) -> None:
        context = span.get_span_context()
        if len(self._own_spans) >= _MAX_OWN_SPANS:
            # Some spans never end: a defect of an instrumentation must not fill the memory.
            self._own_spans.clear()
        if context is not None:
            self._own_spans.add(context.span_id)

    def on_end(self, span: ReadableSpan) -> None:
        """Queue an ended span that needs no parsing."""
        self.put(span)

    @_drop_on_error
    def put(self, span: ReadableSpan, unparsed: Unparsed | None = None) -> None:
        """Queue an ended span and the part of it that is not parsed yet.

        The span counts as dropped if the queue is full, after ``stop``, and if it can't be read.
        """
        if self._is_stopped and self._successor is not None:
            self._successor.put(span, unparsed)
            return
        context = span.context
        if context is None or not context.trace_flags & _SAMPLED or hasattr(span, _MARK):
            return
        # The thread of the start decides, because the garbage collector ends abandoned spans on any thread.
        is_own_span = bool(self._own_spans) and context.span_id in self._own_spans
        # All processors and exporters get the same object: the mark makes sure that it is queued once.
        try:
            setattr(span, _MARK, True)
        except (AttributeError, TypeError):
            # The span class of another library may not accept attributes.
            if not _is_new((context.trace_id, context.span_id)):
                return
        if is_own_span:
            self._own_spans.discard(context.span_id)
            return
        queue = self._queue
        if self._is_stopped or len(queue) >= self._max_spans or self._bytes >= self._max_bytes:
            _drop("after_shutdown" if self._is_stopped else "queue_full")
            return
        size = _SPAN_BYTES + (_content_bytes(span) if unparsed is None else unparsed.size_bytes)
        ancestor = None if span.parent is None else self._ancestors.nearest(span)
        with self._bytes_lock:
            self._bytes += size
        queue.append(((span, ancestor, unparsed), size))
        if not self._is_awake:
            self._wake()

    def _wake(self) -> None:
        self._is_awake = True
        if not self._is_running:
            self._is_running = True
            process_exit.arm()
            if not self._thread.start():
                # The system limit of threads is reached; the next span tries again.
                self._is_awake = self._is_running = False
        self._has_spans.set()

    def flush(self, timeout_s: float) -> bool:
        """Wait until all spans queued before this call are processed; False after ``timeout_s``."""
        with self._passes_lock:
            self._passes_requested += 1
            requested = self._passes_requested
        deadline_s = time.monotonic() + timeout_s
        if not self._is_closed and self._thread.start():
            self._flush_requested.set()
            self._has_spans.set()
            with self._passes_lock:
                return self._passed.wait_for(lambda: self._passes_done >= requested, timeout_s)
        # At the end of the interpreter no thread can be started, and none is after close(): process them on this one.
        return self._process_all(deadline_s)

    def stop(self, successor: SpanQueue | None = None) -> None:
        """Accept no more spans, but pass them to ``successor``; queued spans can still be flushed."""
        self._successor = successor
        self._is_stopped = True

    def close(self, timeout_s: float) -> None:
        """End the thread after the spans that are queued, or pass them to the successor; call it after ``stop``."""
        self._is_closed = True
        self._flush_requested.set()
        self._has_spans.set()
        self._thread.join(timeout_s)

    def after_fork_in_child(self) -> None:
        """Start empty: the parent delivers the queued spans."""
        self._queue.clear()
        self._is_awake = self._is_running = False
        self._reset()

    def _run(self) -> None:
        try:
            while True:
                self._has_spans.wait()
                self._flush_requested.wait(SCHEDULE_DELAY_S)
                self._is_awake = False
                self._pass()
                if self._is_closed:
                    return
        finally:
            # If the thread ended for any reason, the next span starts it again.
            self._is_awake = self._is_running = False
            if self._is_closed:
                # A span that was on its way into the queue.
                self._pass()

    def _pass(self) -> None:
        requested = self._passes_requested
        self._process_all(None)
        with self._passes_lock:
            self._passes_done = requested
            self._passed.notify_all()

    def _process_all(self, deadline_s: float | None) -> bool:
        with self._processing:
            while self._queue:
                if self._is_closed and self._successor is not None:
                    self._pass_on(self._successor)
                    break
                if deadline_s is not None and time.monotonic() > deadline_s:
                    return False
                # Set before the spans leave the queue, so that `queued` always includes them.
                self._in_process = min(len(self._queue), BATCH_SPANS)
                batch = [self._queue.popleft() for _ in range(self._in_process)]
                batch_bytes = sum(size for _, size in batch)
                with self._bytes_lock:
                    self._bytes -= batch_bytes
                lost = len(batch)
                try:
                    if self._process([ended for ended, _ in batch]) is None:
                        lost = 0
                finally:
                    if lost:
                        counters.add("dropped", lost, reason="internal_error")
                    self._in_process = 0
        return True

    def _pass_on(self, successor: SpanQueue) -> None:
        while self._queue:
            item = self._queue.popleft()
            with successor._bytes_lock:
                successor._bytes += item[1]
            successor._queue.append(item)
        successor._wake()


def _is_new(ids: tuple[int, int]) -> bool:
    if len(_unmarked) >= _MAX_UNMARKED:
        _unmarked.clear()
    mark = object()
    return _unmarked.setdefault(ids, mark) is mark


def _failed(error: Exception) -> Exception:
    return error


def _content_bytes(span: ReadableSpan) -> int:
    events = span.events or ()
    return _text_bytes(span.attributes) + sum([_text_bytes(event.attributes) for event in events])


def _text_bytes(attributes: Mapping[str, Any] | None) -> int:
    if not attributes:
        return 0
    total = 0
    # `copy`, if the mapping has it: the SDK's takes 2 µs for it and 14 to look up 20 keys, on the caller's thread.
    for value in getattr(attributes, "copy", lambda: dict(attributes))().values():
        # The exact types first: most values have one.
        kind = type(value)  # pyright: ignore[reportUnknownVariableType] - any value
        if kind is str:
            total += len(value)
        elif kind is int or kind is float or kind is bool:
            continue
        elif isinstance(value, (str, bytes)):
            total += len(value)
        elif isinstance(value, (tuple, list)):
            total += sum([len(one) for one in value if isinstance(one, (str, bytes))])  # pyright: ignore[reportUnknownVariableType]
    return total
