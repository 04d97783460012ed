"""Braintrust.

Source: its pages on OpenTelemetry and SDK 0.48; names of metrics from OpenRouter's
Braintrust destination. Its own ``braintrust.*`` fields contain usage and messages, so that ``gen_ai.usage.*`` and the
messages are removed: Braintrust would read them twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from spancast.encoding import genai_fields
from spancast.encoding.conventions import facts
from spancast.encoding.span_data import SpanData
from spancast.model import json_codec, semconv

_TYPES: Final[Mapping[str, str]] = {
    "llm": "llm", "embedding": "llm", "tool": "tool", "agent": "task", "retriever": "function", "group": "task",
}  # fmt: skip
_USAGE: Final = "gen_ai.usage."


def map_span(span: SpanData) -> SpanData:
    """Return ``span`` with the fields of Braintrust."""
    kept = facts.without(span.attributes, facts.readable_content(span), semconv.TRACE_METADATA, _USAGE)
    return span.with_attributes({**kept, **facts.written(_attributes(span))})


def _attributes(span: SpanData) -> Iterator[tuple[str, Any]]:
    kind = facts.work(span)
    if kind != "other":
        yield "braintrust.span_attributes", json_codec.encode({"type": _TYPES[kind], "name": span.name})
    session = span.text(semconv.SESSION_ID, semconv.CONVERSATION_ID)
    fields = facts.given(session_id=session, user_id=span.text(semconv.USER_ID))
    if kind in ("llm", "embedding"):
        fields |= facts.given(model=facts.model(span), provider=span.text(semconv.PROVIDER_NAME))
        fields |= genai_fields.model_parameters(span)
        fields |= facts.given(cost_source=genai_fields.costs(span).source)
    # The caller's own keys are last, so that they win.
    metadata = {**fields, **genai_fields.metadata(span)}
    yield "braintrust.metadata", json_codec.encode(metadata) if metadata else None
    yield "braintrust.tags", genai_fields.tags(span) or None
    metrics = _metrics(span)
    yield "braintrust.metrics", json_codec.encode(metrics) if metrics else None
    yield "braintrust.input_json", facts.messages_json(span)
    yield "braintrust.output_json", facts.answers_json(span)


def _metrics(span: SpanData) -> dict[str, Any]:
    tokens = facts.usage(span)
    return facts.given(
        prompt_tokens=tokens.input,
        completion_tokens=tokens.output,
        tokens=tokens.total,
        prompt_cached_tokens=tokens.cache_read,
        prompt_cache_creation_tokens=tokens.cache_write,
        completion_reasoning_tokens=tokens.reasoning,
        estimated_cost=genai_fields.costs(span).total,
        time_to_first_token=span.number(semconv.RESPONSE_TIME_TO_FIRST_CHUNK),
    )
