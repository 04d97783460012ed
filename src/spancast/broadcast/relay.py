"""The processor on an application's provider: there for good, for providers give none back.

What it hands spans to can change: a second ``configure`` replaces, and never doubles.
"""

from __future__ import annotations

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor


class Relay(SpanProcessor):
    """Passes on to ``target``, to nobody while that is None."""

    def __init__(self) -> None:
        self.target: SpanProcessor | None = None
        self.is_flushed_by_us = False

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Pass on."""
        if self.target is not None:
            self.target.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        """Pass on."""
        if self.target is not None:
            self.target.on_end(span)

    def shutdown(self) -> None:
        """Pass on."""
        if self.target is not None:
            self.target.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Pass on, unless whoever flushes the provider has flushed the target."""
        return self.target is None or self.is_flushed_by_us or self.target.force_flush(timeout_millis)
