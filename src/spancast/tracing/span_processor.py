"""Our span processor; one per provider, because a processor cannot be removed.

It adds the session, user and custom keys of a ``with spancast.trace(...)`` block to the spans that other
instrumentations start in it, and passes ended spans to a target. It runs on the application's threads, for every
span. ``configure()`` changes the target.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import Span as APISpan

from spancast.diagnostics import never_raise
from spancast.model.call import Attributes
from spancast.model.semconv import SCOPE_NAME
from spancast.model.trace_keys import TraceKeys
from spancast.model.unparsed import Parsed, Unparsed
from spancast.tracing.trace_block import ACTIVE_KEYS, NO_ACTIVE_KEYS, lost_entry

if TYPE_CHECKING:
    from spancast.tracing.deferred_span import DeferredSpan

_NO_ATTRIBUTES: Final[Attributes] = {}
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
        self.running: Final[dict[int, DeferredSpan]] = {}
        """Running spans that the SDK has not made, by span id. A traced call ends its span in any case."""
        self.is_flushed_by_us = False

    def set_target(self, target: Target | None, *, only_ours: bool = False) -> None:
        """Pass ended spans to ``target`` from now on.

        ``only_ours`` is for a provider that is no longer in use: only spans of calls that still run on it are
        delivered.
        """
        self._target, self._only_ours = target, only_ours

    @property
    def has_target(self) -> bool:
        """Return whether ended spans are passed on; not for a provider that is no longer in use."""
        return self._target is not None and not self._only_ours

    def make_running(self) -> None:
        """Let the SDK make the running spans, for a processor that is added now."""
        for span in list(self.running.values()):
            span.made()

    def end_unparsed(self, span: APISpan, unparsed: Unparsed) -> None:
        """End ``span``; the target parses ``unparsed`` later, on its own thread."""
        span_id = span.get_span_context().span_id
        self._unparsed[span_id] = unparsed
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

    def on_end(self, span: ReadableSpan, complete: Callable[[ReadableSpan], Parsed] | None = None) -> None:
        """Pass ``span`` to the target, and call its end callback.

        ``complete`` adds the attributes of a deferred span, which does not have them, unless the traced call does.
        """
        if END_CALLBACKS:
            _call_back(span)
        unparsed = None
        if (self._unparsed or complete is not None) and (context := span.get_span_context()) is not None:
            unparsed = self._unparsed.get(context.span_id)
            if complete is not None:
                self.running.pop(context.span_id, None)
                unparsed = unparsed or Unparsed(complete, 0, _NO_ATTRIBUTES)
        target = self._target
        if target is not None and (not self._only_ours or _is_ours(span)):
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
    _add_missing(span, keys.attributes())


def _add_missing(span: APISpan, attributes: Attributes) -> None:
    present: Any = getattr(span, "attributes", None) or ()
    span.set_attributes({name: value for name, value in attributes.items() if name not in present})
