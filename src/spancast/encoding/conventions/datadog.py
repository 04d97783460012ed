"""Datadog LLM Observability, by its OTLP intake.

Source: its page on OpenTelemetry instrumentation (``semconv.md`` 3.6): GenAI spans of 1.37 and later are
read as they are, OpenInference beside them. Groups have no operation and are named a chain by
``openinference.span.kind``. Its table of attributes is not public to us: session and user are written as
tags of OpenRouter's Datadog destination name them, and are unverified.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from spancast.encoding import genai_fields
from spancast.encoding.conventions import facts
from spancast.encoding.span_data import SpanData
from spancast.model import semconv


def rename(span: SpanData) -> SpanData:
    """Return ``span`` with what Datadog reads beside the GenAI conventions."""
    return span.with_attributes({**span.attributes, **facts.written(_written(span))})


def _written(span: SpanData) -> Iterator[tuple[str, Any]]:
    kind = facts.work(span)
    yield "session_id", span.text(semconv.SESSION_ID, semconv.CONVERSATION_ID)
    yield "user_id", span.text(semconv.USER_ID)
    if kind == "group":
        yield "openinference.span.kind", "CHAIN"
    if kind in ("llm", "embedding"):
        tokens, costs = facts.usage(span), genai_fields.costs(span)
        yield "gen_ai.usage.total_tokens", tokens.total
        yield facts.CACHE_CREATION, tokens.cache_write
        yield "gen_ai.usage.cost", costs.total
