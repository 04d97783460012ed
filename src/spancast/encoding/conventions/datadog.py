"""Datadog LLM Observability, by its OTLP intake.

Source: its page on OpenTelemetry instrumentation. It reads GenAI spans of version 1.37 and later,
and OpenInference. The session is ``gen_ai.conversation.id``. It reads a user by OpenInference's name only, and no cost:
both are metadata, which is one JSON attribute.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from spancast.encoding import genai_fields
from spancast.encoding.conventions import facts
from spancast.encoding.span_data import SpanData
from spancast.model import json_codec, semconv


def map_span(span: SpanData) -> SpanData:
    """Return ``span`` with the attributes that Datadog reads in addition to the GenAI conventions."""
    return span.with_attributes({**span.attributes, **facts.written(_attributes(span))})


def _attributes(span: SpanData) -> Iterator[tuple[str, Any]]:
    session, conversation = span.text(semconv.SESSION_ID), span.text(semconv.CONVERSATION_ID)
    yield semconv.CONVERSATION_ID, session or conversation
    fields = facts.given(
        user_id=span.text(semconv.USER_ID),
        conversation_id=conversation if session not in (None, conversation) else None,
    )
    metadata = {**facts.costs(span), **fields, **genai_fields.metadata(span)}
    yield "_dd.ml_obs.metadata", json_codec.encode(metadata) if metadata else None
    if facts.work(span) in ("llm", "embedding"):
        tokens, costs = facts.usage(span), genai_fields.costs(span)
        yield "gen_ai.usage.total_tokens", tokens.total
        yield facts.CACHE_CREATION, tokens.cache_write
        yield "gen_ai.usage.cost", costs.total
