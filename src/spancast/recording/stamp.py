"""Session, user and custom keys on every span started in a ``with spancast.trace(...)`` block.

Other instrumentations' spans included, so that a back end which filters by session finds them.
"""

from __future__ import annotations

from opentelemetry.context import Context
from opentelemetry.sdk.trace import Span, SpanProcessor

from spancast.errors import shielded
from spancast.model.trace_keys import NO_KEYS
from spancast.recording.scope import ambient_keys


class ScopeStamp(SpanProcessor):
    """Writes the ambient keys onto spans at their start; our own spans have them already."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002 - the SDK's signature
        """Stamp ``span``; constant time where no block is open."""
        keys = ambient_keys()
        if keys is not NO_KEYS:
            self._stamp(span)

    @shielded
    def _stamp(self, span: Span) -> None:
        scope = span.instrumentation_scope
        if scope is not None and scope.name == "spancast":
            return
        attributes = ambient_keys().without("generation_name", "span_name", "parent_span_id", "trace_id").attributes()
        present = span.attributes or {}
        span.set_attributes({name: value for name, value in attributes.items() if name not in present})
