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

from spancast.errors import shielded
from spancast.model.identity_map import IdentityMap
from spancast.model.semconv import SCOPE_NAME
from spancast.recording.scope import AMBIENT, NOWHERE

_relays: Final[IdentityMap[TracerProvider, Relay]] = IdentityMap()


class Relay(SpanProcessor):
    """Stamps, and passes on to a target; to nobody while it has none.

    A target sees no start of our own spans, which tell all it could learn there when they end.
    """

    def __init__(self) -> None:
        self.target: SpanProcessor | None = None
        self.is_flushed_by_us = False

    def turn_to(self, target: SpanProcessor | None) -> None:
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
        if AMBIENT.get() is not NOWHERE:
            _stamp(span)
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


def relay_on(provider: TracerProvider) -> Relay | None:
    """Return the relay on ``provider``, put there now if need be; None where it takes no processors (ddtrace's)."""
    add: Any = getattr(provider, "add_span_processor", None)
    if add is None:
        return None
    relay = _relays.get(provider)
    if relay is None:
        relay = Relay()
        _relays.set(provider, relay)
        add(relay)
    return relay


def relays() -> Sequence[Relay]:
    """Return the relays on all providers that still are."""
    return _relays.values()


@shielded
def _stamp(span: Span) -> None:
    keys = AMBIENT.get().keys.without("generation_name", "span_name", "parent_span_id", "trace_id")
    present = span.attributes or {}
    span.set_attributes({name: value for name, value in keys.attributes().items() if name not in present})
