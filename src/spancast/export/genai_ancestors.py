"""Which LLM span lies above a span, though others (HTTP, database) lie between: for destinations without those."""

from __future__ import annotations

from typing import Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext

from spancast.export.record_builder import is_genai_span

NO_GENAI_PARENT: Final = b""
_GENERATION: Final = 8192


class GenAIAncestors:
    """For spans that are no LLM spans, the nearest one above them. Bounded; safe for threads without a lock.

    What has been forgotten keeps its real parent.
    """

    def __init__(self) -> None:
        # Two generations: forgetting is one assignment, and needs no order and no lock.
        self._young: dict[int, bytes] = {}
        self._old: dict[int, bytes] = {}

    def started(self, span: ReadableSpan) -> None:
        """Remember ``span``, just started, if it is no LLM span."""
        if is_genai_span(span.instrumentation_scope, span.attributes):
            return
        context = span.get_span_context()
        if context is None:
            return
        above = self.above(span)
        if above is None:
            parent = span.parent
            above = NO_GENAI_PARENT if parent is None else _id(parent)
        if len(self._young) >= _GENERATION:
            self._old, self._young = self._young, {}
        self._young[context.span_id] = above

    def above(self, span: ReadableSpan) -> bytes | None:
        """Return the id of the nearest LLM span above ``span``, empty for none; None where that is its parent."""
        parent = span.parent
        if parent is None:
            return None
        found = self._young.get(parent.span_id)
        return self._old.get(parent.span_id) if found is None else found


def _id(context: SpanContext) -> bytes:
    return context.span_id.to_bytes(8, "big")
