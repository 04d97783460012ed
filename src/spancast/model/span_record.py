"""An ended span as it is queued, kept on disk and delivered: ids beside the JSON of the neutral span.

What a destination receives is made of that span by an encoder (``encoding/encoder.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, field

FactValue = str | int | float | bool


@dataclass(slots=True, kw_only=True, weakref_slot=True)
class SpanRecord:
    """One ended span; not modified after it is queued (not ``frozen``, which takes a microsecond longer).

    ``trace_id`` has 16 bytes, ``span_id`` and ``parent_span_id`` 8 (empty for a root).
    ``body`` is the JSON of the span, ``resource`` and ``scope`` are the JSON of what made it, the same
    object for all spans of one provider / tracer. ``is_genai`` is true for model calls, group spans
    and other spans that follow a GenAI convention. ``facts`` are the fields that filters read
    (``export/record_builder.py``), empty afterwards. ``held`` is the decoded span while it is in memory.
    """

    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes = b""
    end_ns: int
    is_genai: bool
    resource: bytes
    scope: bytes
    body: bytes
    facts: dict[str, FactValue] = field(default_factory=dict[str, FactValue])
    held: object = field(default=None, compare=False, repr=False)

    @property
    def size_bytes(self) -> int:
        """Return the size of ``body`` in bytes."""
        return len(self.body)
