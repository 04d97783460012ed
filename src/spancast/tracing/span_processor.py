"""Our span processor; one per provider, because a processor cannot be removed.

It adds the session, user and custom keys of a ``with spancast.trace(...)`` block to the spans that other
instrumentations start in it, and passes ended spans to a target. It runs on the application's threads, for every
span. ``configure()`` changes the target.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import Span as APISpan

from spancast.diagnostics import never_raise
from spancast.model.semconv import SCOPE_NAME
from spancast.model.trace_keys import TraceKeys
from spancast.model.unparsed import Parsed, Unparsed
from spancast.tracing.trace_block import ACTIVE_KEYS, NO_ACTIVE_KEYS, lost_entry

END_CALLBACKS: Final[dict[int, Callable[[], object]]] = {}
"""Functions to call at the end of a span, by span id."""


class Target(Protocol):
    """The receiver of ended spans: the export side."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Handle the start of a span of another instrumentation."""
        ...

    def put(self, span: ReadableSpan, unparsed: Unparsed | None = None) -> None:
        """Accept an ended span, once, and what remains to be parsed."""
        ...

    def shutdown(self) -> None:
        """Export the accepted spans; accept no more."""
        ...

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Export the accepted spans; return whether all are delivered and none was lost."""
        ...


class SpancastProcessor(SpanProcessor):
    """The span processor of one provider; passes spans to its target, if there is one.

    It does not pass on the start of our own spans: they have the same information when they end.
    """

    def __init__(self) -> None:
        self._target: Target | None = None
        self._only_ours = False
        self._unparsed: dict[int, Unparsed] = {}
        self.is_flushed_by_us = False

    def set_target(self, target: Target | None, *, only_ours: bool = False) -> None:
        """Pass ended spans to ``target`` from now on.

        ``only_ours`` is for a provider that is no longer in use: only spans of calls that still run on it are
        delivered.
        """
        self._target, self._only_ours = target, only_ours

    def end_unparsed(self, span: APISpan, parse: Callable[[ReadableSpan], Parsed | None], size_bytes: int) -> None:
        """End ``span``; the target calls ``parse`` later, on its own thread. ``size_bytes`` are the unparsed bytes."""
        span_id = span.get_span_context().span_id
        self._unparsed[span_id] = Unparsed(parse, size_bytes)
        try:
            # ``end`` calls ``on_end``, unless the application has already ended the span.
            span.end()
        finally:
            self._unparsed.pop(span_id, None)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Add the keys of the current block, then notify the target; our own spans already have their keys."""
        if _is_ours(span):
            return
        lost = lost_entry()
        active = ACTIVE_KEYS.get() if lost is None else lost.active_keys()
        if active is not NO_ACTIVE_KEYS:
            _add_active_keys(span, active.keys)
        if self._target is not None and not self._only_ours:
            self._target.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        """Pass ``span`` to the target, and call its end callback."""
        if END_CALLBACKS:
            _call_back(span)
        target = self._target
        if target is None or (self._only_ours and not _is_ours(span)):
            return
        unparsed = None
        if self._unparsed and (context := span.get_span_context()) is not None:
            unparsed = self._unparsed.get(context.span_id)
        target.put(span, unparsed)

    def shutdown(self) -> None:
        """Shut the target down, unless it now serves another provider."""
        if self._target is not None and not self._only_ours:
            self._target.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the target, unless it has been flushed or now serves another provider."""
        target = self._target
        return target is None or self._only_ours or self.is_flushed_by_us or target.force_flush(timeout_millis)


def _is_ours(span: ReadableSpan) -> bool:
    scope = span.instrumentation_scope
    return scope is not None and scope.name == SCOPE_NAME


@never_raise
def _call_back(span: ReadableSpan) -> None:
    context = span.get_span_context()
    callback = None if context is None else END_CALLBACKS.pop(context.span_id, None)
    if callback is not None:
        callback()


@never_raise
def _add_active_keys(span: Span, active: TraceKeys) -> None:
    keys = active.without("generation_name", "span_name", "parent_span_id", "trace_id")
    present = span.attributes or {}
    span.set_attributes({name: value for name, value in keys.attributes().items() if name not in present})
