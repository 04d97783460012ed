"""The PostHog convention, for its OTLP endpoint.

Source: the OpenTelemetry mapping of PostHog's ingestion (``rust/capture/src/otel`` and
``nodejs/src/ingestion/pipelines/ai/otel`` in PostHog/posthog) and the properties of its AI events.
An unknown attribute becomes an event property of the same name, so fields without a mapping are
written as ``$ai_*`` properties. A given cost takes precedence over PostHog's prices.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from spancast.encoding import genai_fields
from spancast.encoding.conventions import facts
from spancast.encoding.span_data import SpanData
from spancast.model import semconv
from spancast.model.json_codec import is_mapping

_RENAMED: Final = frozenset({
    semconv.USAGE_CACHE_READ, semconv.USAGE_CACHE_WRITE, semconv.USAGE_REASONING, semconv.USAGE_COST,
    facts.CACHE_CREATION,
})  # fmt: skip
_OTHER_READERS: Final = ("ai.", "traceloop.", "anthropic.", "langwatch.", "openinference.")
"""An attribute with such a name makes PostHog read the span as that of another instrumentation."""
_NO_CHAT: Final = frozenset({"text_completion", "generate_content"})
"""Operations that PostHog knows as calls of a model by ``llm.request.type`` only."""


def map_span(span: SpanData) -> SpanData:
    """Return ``span`` with the attributes that PostHog reads."""
    kept = facts.without(span.attributes, _RENAMED | facts.readable_content(span), semconv.TRACE_METADATA)
    return span.with_attributes({**kept, **facts.written(_attributes(span))})


def _attributes(span: SpanData) -> Iterator[tuple[str, Any]]:
    # If it is missing, PostHog derives an anonymous id from the session or the trace.
    yield "posthog.distinct_id", span.text(semconv.USER_ID)
    yield from properties(span)
    if facts.work(span) in ("llm", "embedding"):
        yield "llm.request.type", "completion" if span.first(semconv.OPERATION_NAME) in _NO_CHAT else None
        yield semconv.INPUT_MESSAGES, facts.messages_json(span)
        yield semconv.OUTPUT_MESSAGES, facts.answers_json(span)


def properties(span: SpanData) -> Iterator[tuple[str, Any]]:
    """Yield the properties that its events have, however they are sent."""
    yield "$ai_session_id", span.text(semconv.SESSION_ID, semconv.CONVERSATION_ID)
    for name, value in genai_fields.own_keys(span).items():
        yield f"metadata.{name}" if name.startswith(_OTHER_READERS) else name, value
    yield "$ai_trace_name", span.text(semconv.TRACE_NAME)
    if span.status == "error":
        yield "$ai_is_error", True
        yield "$ai_error", span.status_message or span.text(semconv.ERROR_TYPE)
    if facts.work(span) in ("llm", "embedding"):
        yield from _call(span)
    else:
        yield "$ai_input_state", facts.question(span)
        yield "$ai_output_state", facts.answer(span)


def _call(span: SpanData) -> Iterator[tuple[str, Any]]:
    tokens, costs = facts.usage(span), genai_fields.costs(span)
    # By default PostHog reads the input tokens of Claude models as exclusive of cached tokens.
    yield "$ai_cache_reporting_exclusive", False
    yield "$ai_cache_read_input_tokens", tokens.cache_read
    yield "$ai_cache_creation_input_tokens", tokens.cache_write
    yield "$ai_reasoning_tokens", tokens.reasoning
    yield "$ai_total_cost_usd", costs.total
    yield "$ai_input_cost_usd", costs.input
    yield "$ai_output_cost_usd", costs.output
    yield "cost_source", costs.source
    yield "$ai_stop_reason", genai_fields.finish_reason(span)
    yield "$ai_stream", span.first(semconv.REQUEST_STREAM)
    yield "$ai_time_to_first_token", span.number(semconv.RESPONSE_TIME_TO_FIRST_CHUNK)
    # Only messages are decoded from JSON text.
    yield "$ai_tools", [_tool(tool) for tool in genai_fields.tools(span) or ()] or None


def _tool(tool: object) -> object:
    """Return ``tool`` in the form of Chat Completions, which PostHog's SDK has too, if it is a function."""
    if not is_mapping(tool) or "function" in tool or tool.get("type", "function") != "function":
        return tool
    return {"type": "function", "function": {name: value for name, value in tool.items() if name != "type"}}
