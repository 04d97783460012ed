"""The attributes that OpenRouter's Broadcast writes to OTLP destinations.

Source: captures of its payloads. Content is JSON text under ``trace.*``, ``span.*`` and ``gen_ai.*``; finish reasons
are a JSON text, not an array; metadata is on the trace and on the span.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from spancast.encoding import genai_fields
from spancast.encoding.conventions import facts
from spancast.encoding.span_data import SpanData
from spancast.model import json_codec, semconv

_RENAMED: Final = frozenset({
    semconv.USAGE_CACHE_READ, semconv.USAGE_CACHE_WRITE, semconv.USAGE_REASONING, semconv.USAGE_TOTAL_TOKENS,
    semconv.USAGE_COST, semconv.RESPONSE_FINISH_REASONS,
})  # fmt: skip
_DEFAULT_NAME: Final = "OpenRouter Request"


def map_span(span: SpanData) -> SpanData:
    """Return ``span`` with OpenRouter's attributes."""
    kept = facts.without(span.attributes, _RENAMED | facts.readable_content(span))
    return span.with_attributes({**kept, **facts.written(_attributes(span))})


def _attributes(span: SpanData) -> Iterator[tuple[str, Any]]:
    kind = facts.work(span)
    if kind == "other":
        return
    yield "trace.name", span.text(semconv.TRACE_NAME) or _DEFAULT_NAME
    yield "span.type", "generation" if kind in ("llm", "embedding") else "span"
    yield "span.level", genai_fields.level(span)
    yield "span.status_message", span.status_message or None
    for name, value in genai_fields.own_keys(span).items():
        yield f"span.metadata.{name}", value
    if kind in ("llm", "embedding"):
        yield from _call(span)
    request, response = facts.conversation_json(span), genai_fields.completion(span)
    yield "trace.input", request
    yield "span.input", request
    text = None if response is None else json_codec.encode(response)
    yield "trace.output", text
    yield "span.output", text


def _call(span: SpanData) -> Iterator[tuple[str, Any]]:
    tokens, costs = facts.usage(span), genai_fields.costs(span)
    yield facts.SYSTEM, span.text(semconv.PROVIDER_NAME)
    yield "gen_ai.usage.total_tokens", tokens.total
    yield "gen_ai.usage.input_tokens.cached", tokens.cache_read
    yield "gen_ai.usage.input_tokens.cache_write", tokens.cache_write
    yield "gen_ai.usage.output_tokens.reasoning", tokens.reasoning
    yield "gen_ai.usage.input_cost", costs.input
    yield "gen_ai.usage.output_cost", costs.output
    yield "gen_ai.usage.total_cost", costs.total
    yield "span.metadata.cost_source", costs.source
    reason = genai_fields.finish_reason(span)
    yield semconv.RESPONSE_FINISH_REASONS, json_codec.encode([reason]) if reason else None
    yield "gen_ai.response.finish_reason", reason
    yield "gen_ai.prompt", facts.conversation_json(span)
    tools = genai_fields.tools(span)
    yield "gen_ai.completion.tools", json_codec.encode(tools) if tools else None
    response = genai_fields.completion(span)
    if response is not None:
        yield "gen_ai.completion", json_codec.encode({**response, "rawRequest": genai_fields.model_parameters(span)})
