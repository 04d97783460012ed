"""PostHog, by its OTLP endpoint.

Source: its ingestion's OpenTelemetry mapping and the properties of its AI events.
An attribute without a mapping becomes an event property of the same name, so fields without a mapping are written as
the ``$ai_*`` property itself. Input tokens exclude cached tokens for Anthropic, and include them for other providers.
The charged cost wins over its prices.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from spancast.encoding import genai_fields
from spancast.encoding.conventions import facts
from spancast.encoding.span_data import SpanData
from spancast.model import semconv

_RENAMED: Final = frozenset({
    semconv.USAGE_CACHE_READ, semconv.USAGE_CACHE_WRITE, semconv.USAGE_REASONING, semconv.USAGE_COST,
    facts.CACHE_CREATION,
})  # fmt: skip
_EXCLUDES_CACHED: Final = "anthropic"


def map_span(span: SpanData) -> SpanData:
    """Return ``span`` with the attributes that PostHog maps to events."""
    kept = facts.without(span.attributes, _RENAMED | facts.readable_content(span), semconv.TRACE_METADATA)
    return span.with_attributes({**kept, **facts.written(_attributes(span))})


def _attributes(span: SpanData) -> Iterator[tuple[str, Any]]:
    session = span.text(semconv.SESSION_ID, semconv.CONVERSATION_ID)
    # Without an id PostHog creates a random person for every span.
    yield "posthog.distinct_id", span.text(semconv.USER_ID) or session or span.trace_id
    yield "$ai_session_id", session
    yield from genai_fields.own_keys(span).items()
    yield "$ai_trace_name", span.text(semconv.TRACE_NAME)
    if span.status == "error":
        yield "$ai_is_error", True
        yield "$ai_error", span.status_message or span.text(semconv.ERROR_TYPE)
    if facts.work(span) in ("llm", "embedding"):
        yield from _call(span)


def _call(span: SpanData) -> Iterator[tuple[str, Any]]:
    tokens, costs = facts.usage(span), genai_fields.costs(span)
    if span.text(semconv.PROVIDER_NAME) == _EXCLUDES_CACHED and tokens.input is not None:
        yield semconv.USAGE_INPUT_TOKENS, max(tokens.input - (tokens.cache_read or 0) - (tokens.cache_write or 0), 0)
    yield "$ai_cache_read_input_tokens", tokens.cache_read
    yield "$ai_cache_creation_input_tokens", tokens.cache_write
    yield "$ai_reasoning_tokens", tokens.reasoning
    yield "$ai_total_cost_usd", costs.total
    yield "$ai_input_cost_usd", costs.input
    yield "$ai_output_cost_usd", costs.output
    yield "$ai_stream", span.first(semconv.REQUEST_STREAM)
    yield "$ai_time_to_first_token", span.number(semconv.RESPONSE_TIME_TO_FIRST_CHUNK)
    yield semconv.INPUT_MESSAGES, facts.messages_json(span)
    yield semconv.OUTPUT_MESSAGES, facts.answers_json(span)
    tools = genai_fields.tools(span)
    yield "$ai_tools", None if tools is None else span.first(semconv.TOOL_DEFINITIONS)
