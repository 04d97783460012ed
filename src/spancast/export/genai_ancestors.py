"""Find the nearest GenAI ancestor of a span.

Destinations that receive only GenAI spans use it as the parent, in place of a span of HTTP or a database.
"""

from __future__ import annotations

from typing import Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext

from spancast.export.record_builder import is_genai_span

NO_GENAI_PARENT: Final = b""
_GENERATION: Final = 8192


class GenAIAncestors:
    """The nearest GenAI ancestor of each span that is not a GenAI span. Bounded; safe for threads without a lock.

    If the entry of a parent was evicted, its children keep their real parent.
    """

    def __init__(self) -> None:
        # Two generations: eviction is one assignment and needs no order and no lock.
        self._young: dict[int, bytes] = {}
        self._old: dict[int, bytes] = {}

    def on_start(self, span: ReadableSpan) -> None:
        """Record the ancestor of ``span``, just started, unless it is a GenAI span."""
        if is_genai_span(span.instrumentation_scope, span.attributes):
            return
        context = span.get_span_context()
        if context is None:
            return
        ancestor = self.nearest(span)
        if ancestor is None:
            parent = span.parent
            ancestor = NO_GENAI_PARENT if parent is None else _id(parent)
        if len(self._young) >= _GENERATION:
            self._old, self._young = self._young, {}
        self._young[context.span_id] = ancestor

    def nearest(self, span: ReadableSpan) -> bytes | None:
        """Return the id of the nearest GenAI ancestor, empty if there is none; None if the parent is to be kept."""
        parent = span.parent
        if parent is None:
            return None
        found = self._young.get(parent.span_id)
        return self._old.get(parent.span_id) if found is None else found


def _id(context: SpanContext) -> bytes:
    return context.span_id.to_bytes(8, "big")
