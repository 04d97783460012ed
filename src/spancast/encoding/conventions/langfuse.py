"""Langfuse.

Source: its server's ``OtelIngestionProcessor`` of August 2026, OpenRouter's
Langfuse destination. Usage is written as ``usage_details``, in parts that add up: the server subtracts cached and
reasoning tokens from ``gen_ai.usage.*`` by old names only, and would count ``cache_write`` twice. A cost, charged or
estimated, takes precedence over Langfuse's prices. Messages are written once, as ``langfuse.observation.input`` and
``output``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from spancast.encoding import genai_fields
from spancast.encoding.conventions import facts
from spancast.encoding.span_data import SpanData
from spancast.model import json_codec, semconv

_TYPES: Final[Mapping[str, str]] = {
    "llm": "generation", "embedding": "embedding", "tool": "tool", "agent": "agent", "retriever": "retriever",
    "group": "span",
}  # fmt: skip


def map_span(span: SpanData) -> SpanData:
    """Return ``span`` with the attributes that Langfuse prefers."""
    kept = facts.without(span.attributes, facts.readable_content(span), semconv.TRACE_METADATA)
    return span.with_attributes({**kept, **facts.written(_attributes(span))})


def _attributes(span: SpanData) -> Iterator[tuple[str, Any]]:
    kind = facts.work(span)
    yield "langfuse.observation.type", _TYPES.get(kind)
    yield "langfuse.trace.name", span.text(semconv.TRACE_NAME)
    yield "langfuse.user.id", span.text(semconv.USER_ID)
    yield "langfuse.session.id", span.text(semconv.SESSION_ID, semconv.CONVERSATION_ID)
    yield "langfuse.trace.tags", genai_fields.tags(span) or None
    own = genai_fields.own_keys(span)
    yield "langfuse.environment", _text(own.get("environment"))
    yield "langfuse.release", _text(own.get("release"))
    for name, value in own.items():
        yield f"langfuse.trace.metadata.{name}", value
        yield f"langfuse.observation.metadata.{name}", value
    if span.status == "error":
        yield "langfuse.observation.level", "ERROR"
        yield "langfuse.observation.status_message", span.status_message or span.text(semconv.ERROR_TYPE)
    if kind in ("llm", "embedding"):
        yield from _call(span)
    else:
        yield "langfuse.observation.input", facts.question(span)
        yield "langfuse.observation.output", facts.answer(span)
        if kind == "group" and not span.parent_span_id:
            yield "langfuse.trace.input", facts.question(span)
            yield "langfuse.trace.output", facts.answer(span)


def _call(span: SpanData) -> Iterator[tuple[str, Any]]:
    tokens, costs = facts.usage(span), genai_fields.costs(span)
    charged = facts.given(input=costs.input, output=costs.output, total=costs.total)
    parameters, first_ns = genai_fields.model_parameters(span), genai_fields.first_chunk_ns(span)
    yield "langfuse.observation.model.name", facts.model(span)
    yield "langfuse.observation.model.parameters", json_codec.encode(parameters) if parameters else None
    yield "langfuse.observation.usage_details", json_codec.encode(facts.details(tokens)) if tokens.is_known else None
    yield "langfuse.observation.cost_details", json_codec.encode(charged) if charged else None
    yield "langfuse.observation.metadata.cost_source", costs.source
    yield "langfuse.observation.completion_start_time", genai_fields.iso_time(first_ns) if first_ns else None
    yield "langfuse.observation.input", facts.request_json(span)
    yield "langfuse.observation.output", facts.answers_json(span)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
