"""Our one processor on a provider: there for good, for providers give none back.

It gives spans that others start in a ``with spancast.trace(...)`` block the block's session, user and
custom keys, so that a back end which filters by session finds them, and hands all spans to a target.
That can change: a second ``configure`` replaces, and never doubles. Every span of the application
passes here on its own thread. Must never: raise, or cost where there is nothing to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import TracerProvider

from spancast.diagnostics import never_raise
from spancast.model.identity_map import IdentityMap
from spancast.model.semconv import SCOPE_NAME
from spancast.tracing.trace_block import ACTIVE_KEYS, NO_ACTIVE_KEYS

_relays: Final[IdentityMap[TracerProvider, SpancastProcessor]] = IdentityMap()


class SpancastProcessor(SpanProcessor):
    """Stamps, and passes on to a target; to nobody while it has none.

    A target sees no start of our own spans, which tell all it could learn there when they end.
    """

    def __init__(self) -> None:
        self.target: SpanProcessor | None = None
        self.is_flushed_by_us = False

    def set_target(self, target: SpanProcessor | None) -> None:
        """Pass on to ``target`` from now on."""
        self.target = target
        if target is None:
            vars(self).pop("on_end", None)
        else:
            # Its own method in place of ours: a call less for each span.
            self.on_end = target.on_end

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Stamp and pass on; our own spans have their keys already."""
        scope = span.instrumentation_scope
        if scope is not None and scope.name == SCOPE_NAME:
            return
        if ACTIVE_KEYS.get() is not NO_ACTIVE_KEYS:
            _add_active_keys(span)
        if self.target is not None:
            self.target.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        """Pass on."""

    def shutdown(self) -> None:
        """Pass on."""
        if self.target is not None:
            self.target.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Pass on, unless whoever flushes the provider has flushed the target."""
        return self.target is None or self.is_flushed_by_us or self.target.force_flush(timeout_millis)


def install_processor(provider: TracerProvider) -> SpancastProcessor | None:
    """Return the relay on ``provider``, put there now if need be; None where it takes no processors (ddtrace's)."""
    add: Any = getattr(provider, "add_span_processor", None)
    if add is None:
        return None
    relay = _relays.get(provider)
    if relay is None:
        relay = SpancastProcessor()
        _relays.set(provider, relay)
        add(relay)
    return relay


def processors() -> Sequence[SpancastProcessor]:
    """Return the relays on all providers that still are."""
    return _relays.values()


@never_raise
def _add_active_keys(span: Span) -> None:
    keys = ACTIVE_KEYS.get().keys.without("generation_name", "span_name", "parent_span_id", "trace_id")
    present = span.attributes or {}
    span.set_attributes({name: value for name, value in keys.attributes().items() if name not in present})
