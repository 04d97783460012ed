"""LangSmith.

Source: its page "Trace with OpenTelemetry" and SDK 0.15, OpenRouter's LangSmith
destination. A chat session becomes a thread by ``langsmith.metadata.session_id``;
``langsmith.trace.session_id`` would name a tracing project. Run type and usage have LangSmith's own attributes; the
provider is ``gen_ai.system``. Messages are ``gen_ai.prompt`` and ``gen_ai.completion`` in chat form.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from spancast.encoding import genai_fields
from spancast.encoding.conventions import facts
from spancast.encoding.span_data import SpanData
from spancast.model import json_codec, semconv

_KINDS: Final[Mapping[str, str]] = {
    "llm": "llm", "embedding": "embedding", "tool": "tool", "agent": "chain", "retriever": "retriever",
    "group": "chain", "other": "chain",
}  # fmt: skip


def map_span(span: SpanData) -> SpanData:
    """Return ``span`` as a LangSmith run."""
    kept = facts.without(span.attributes, facts.readable_content(span), semconv.TRACE_METADATA)
    return span.with_attributes({**kept, **facts.written(_attributes(span))})


def _attributes(span: SpanData) -> Iterator[tuple[str, Any]]:
    kind = facts.work(span)
    yield "langsmith.span.kind", _KINDS[kind]
    yield "langsmith.trace.name", span.name
    tags = genai_fields.tags(span)
    yield "langsmith.span.tags", ", ".join(tags) if tags else None
    session = span.text(semconv.SESSION_ID, semconv.CONVERSATION_ID)
    yield "langsmith.metadata.session_id", session
    yield "langsmith.metadata.user_id", span.text(semconv.USER_ID)
    for name, value in genai_fields.metadata(span).items():
        yield f"langsmith.metadata.{name}", value
    if kind in ("llm", "embedding"):
        yield from _call(span)
    else:
        yield "gen_ai.prompt", facts.request_json(span)
        yield "gen_ai.completion", _completion(span)


def _call(span: SpanData) -> Iterator[tuple[str, Any]]:
    provider, name = span.text(semconv.PROVIDER_NAME), facts.model(span)
    yield facts.SYSTEM, provider
    yield "langsmith.metadata.ls_provider", provider
    yield "langsmith.metadata.ls_model_name", name
    yield "langsmith.metadata.ls_model_type", "chat" if facts.work(span) == "llm" else None
    yield "langsmith.usage_metadata", _usage(span)
    yield "langsmith.metadata.cost_source", genai_fields.costs(span).source
    yield "gen_ai.prompt", facts.request_json(span)
    yield "gen_ai.completion", _completion(span)


def _completion(span: SpanData) -> str | None:
    answers = genai_fields.answers(span)
    return None if answers is None else json_codec.encode({"messages": answers})


def _usage(span: SpanData) -> str | None:
    tokens, costs = facts.usage(span), genai_fields.costs(span)
    input_details = facts.given(cache_read=tokens.cache_read, cache_creation=tokens.cache_write)
    output_details = facts.given(reasoning=tokens.reasoning)
    usage = facts.given(
        input_tokens=tokens.input,
        output_tokens=tokens.output,
        total_tokens=tokens.total,
        input_token_details=input_details or None,
        output_token_details=output_details or None,
        input_cost=costs.input,
        output_cost=costs.output,
        total_cost=costs.total,
    )
    return json_codec.encode(usage) if usage else None
