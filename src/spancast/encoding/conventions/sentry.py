"""Sentry.

Source: sentry-conventions of August 2026 and its page on AI agents. ``sentry.op``
and the response's model make a span part of the AI dashboards. Some types differ from OpenTelemetry's: seed, finish
reasons and instructions are plain strings. Sentry drops span events, so an error is an attribute too. OpenRouter's page
says that Sentry drops ``trace.*``: the name and the caller's own keys are under ``metadata.``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from spancast.encoding import genai_fields
from spancast.encoding.conventions import facts
from spancast.encoding.span_data import SpanData
from spancast.model import json_codec, semconv
from spancast.model.json_codec import is_list, is_mapping

_OPERATION_TYPES: Final[Mapping[str, str]] = {
    "llm": "ai_client", "embedding": "ai_client", "retriever": "ai_client", "tool": "tool", "agent": "agent",
}  # fmt: skip
_RENAMED: Final = frozenset({semconv.USAGE_CACHE_WRITE, semconv.SYSTEM_INSTRUCTIONS, semconv.TRACE_NAME})


def map_span(span: SpanData) -> SpanData:
    """Return ``span`` with the attributes that Sentry's AI dashboards read."""
    kept = facts.without(span.attributes, _RENAMED, semconv.TRACE_METADATA)
    return span.with_attributes({**kept, **facts.written(_attributes(span))})


def _attributes(span: SpanData) -> Iterator[tuple[str, Any]]:
    kind, operation = facts.work(span), span.first(semconv.OPERATION_NAME)
    yield "sentry.op", f"gen_ai.{operation}" if operation else None
    yield "gen_ai.operation.type", _OPERATION_TYPES.get(kind)
    yield "metadata.trace_name", span.text(semconv.TRACE_NAME)
    for name, value in genai_fields.own_keys(span).items():
        yield f"metadata.{name}", value
    if span.status == "error":
        failures = [event.attributes for event in span.events if event.name == "exception"]
        failure: Mapping[str, Any] = failures[0] if failures else {}
        yield semconv.ERROR_TYPE, span.text(semconv.ERROR_TYPE) or failure.get(semconv.EXCEPTION_TYPE)
        message = span.status_message or failure.get(semconv.EXCEPTION_MESSAGE)
        yield "error.message", message
        yield "sentry.status.message", message
    if kind in ("llm", "embedding"):
        yield from _call(span)


def _call(span: SpanData) -> Iterator[tuple[str, Any]]:
    tokens, costs = facts.usage(span), genai_fields.costs(span)
    # Spans without it are not shown; for a failed call it is the requested model.
    yield semconv.RESPONSE_MODEL, facts.model(span)
    yield "gen_ai.usage.total_tokens", tokens.total
    yield facts.CACHE_CREATION, tokens.cache_write
    yield "gen_ai.cost.total_tokens", costs.total
    yield "gen_ai.cost.input_tokens", costs.input
    yield "gen_ai.cost.output_tokens", costs.output
    yield "gen_ai.response.streaming", span.first(semconv.REQUEST_STREAM)
    reason, seed = genai_fields.finish_reason(span), span.first(semconv.REQUEST_SEED)
    yield semconv.RESPONSE_FINISH_REASONS, json_codec.encode([reason]) if reason else None
    yield semconv.REQUEST_SEED, None if seed is None else str(seed)
    yield semconv.SYSTEM_INSTRUCTIONS, _as_text(span.first(semconv.SYSTEM_INSTRUCTIONS))


def _as_text(given: object) -> str | None:
    if not isinstance(given, str):
        return None
    parts = json_codec.decode(given)
    if not is_list(parts):
        return given
    return "\n".join(str(part.get("content", "")) for part in parts if is_mapping(part))
