"""The SDK's id generator for a root span with the caller's trace id."""

from __future__ import annotations

from opentelemetry.sdk.trace.id_generator import IdGenerator


class FixedTraceIdGenerator(IdGenerator):
    """An id generator with a fixed trace id; span ids come from ``inner``, or it is ``span_id``.

    A copy of spancast's tracer uses it to start one root span, which so gets the caller's trace id without a
    made-up parent. ``is_random`` is the W3C level 2 random flag: an id that is a hash or the caller's is not random.
    """

    def __init__(
        self, trace_id: int, inner: IdGenerator, span_id: int | None = None, *, is_random: bool = False
    ) -> None:
        self._trace_id = trace_id
        self._inner = inner
        self._span_id = span_id
        self._is_random = is_random

    def generate_span_id(self) -> int:
        """Return the fixed span id, or a new one from the tracer's own generator."""
        return self._inner.generate_span_id() if self._span_id is None else self._span_id

    def generate_trace_id(self) -> int:
        """Return the fixed trace id."""
        return self._trace_id

    def is_trace_id_random(self) -> bool:
        """Return the random flag."""
        return self._is_random
