"""The processor on an application's provider: there for good, for providers give none back.

What it hands spans to can change: a second ``configure`` replaces, and never doubles.
"""

from __future__ import annotations

from opentelemetry.sdk.trace import SpanProcessor


class Relay(SpanProcessor):
    """Passes on to a target, to nobody while it has none.

    Every span passes here on its caller's thread, so the target's own methods stand in place of ours.
    """

    def __init__(self) -> None:
        self.target: SpanProcessor | None = None
        self.is_flushed_by_us = False

    def turn_to(self, target: SpanProcessor | None) -> None:
        """Pass on to ``target`` from now on."""
        self.target = target
        for name in ("on_start", "on_end"):
            if target is None:
                vars(self).pop(name, None)
            else:
                setattr(self, name, getattr(target, name))

    def shutdown(self) -> None:
        """Pass on."""
        if self.target is not None:
            self.target.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Pass on, unless whoever flushes the provider has flushed the target."""
        return self.target is None or self.is_flushed_by_us or self.target.force_flush(timeout_millis)
