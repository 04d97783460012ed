"""An ended span as data: the only thing that is queued, kept on disk and posted.

The body is the canonical OTLP ``Span`` message (protobuf), encoded once; whatever a
destination wants otherwise is a view of it (``encoding/encoder.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, field

FactValue = str | int | float | bool


@dataclass(slots=True, kw_only=True)
class SpanRecord:
    """One ended span; not changed once it is queued (``frozen`` would cost a microsecond for each).

    ``trace_id`` has 16 bytes, ``span_id`` and ``parent_span_id`` 8 (empty for a root).
    ``resource`` and ``scope`` are encoded OTLP ``ResourceSpans`` / ``ScopeSpans`` without what
    lies in them (so with their schema URLs), the same object for all spans of one provider /
    tracer. ``is_genai`` is true of model calls, of their groups and of what else speaks a
    convention for LLMs. ``facts`` is what the rules of a route read: operation, model,
    provider, session_id, user_id, api_key_name, finish_reason, total_cost (USD),
    total_tokens, prompt_tokens, completion_tokens, error (its type), genai_parent (the nearest
    LLM span above, hex, where the parent is none), parent_sampled (False where the parent
    was not), and input, output (only until the record is queued).
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

    @property
    def size_bytes(self) -> int:
        """Return what the record takes in a payload, in bytes, resource and scope not counted."""
        return len(self.body)
