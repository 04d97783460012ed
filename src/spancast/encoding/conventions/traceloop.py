"""Traceloop, OpenLLMetry.

Source: traceloop-sdk 0.62 and opentelemetry-semantic-conventions-ai 0.5. Keys of
the caller, session and user are association properties, on every span. Messages keep the ``gen_ai.*`` form, which its
SDK writes too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from spancast.encoding import genai_fields
from spancast.encoding.conventions import facts
from spancast.encoding.span_data import SpanData
from spancast.model import semconv

_PROPERTY: Final = "traceloop.association.properties."
_KINDS: Final[Mapping[str, str]] = {"tool": "tool", "agent": "agent"}


def map_span(span: SpanData) -> SpanData:
    """Return ``span`` with OpenLLMetry's attributes added."""
    kept = facts.without(span.attributes, frozenset(), semconv.TRACE_METADATA)
    return span.with_attributes({**kept, **facts.written(_attributes(span))})


def _attributes(span: SpanData) -> Iterator[tuple[str, Any]]:
    kind = facts.work(span)
    yield _PROPERTY + "session_id", span.text(semconv.SESSION_ID, semconv.CONVERSATION_ID)
    yield _PROPERTY + "user_id", span.text(semconv.USER_ID)
    for name, value in genai_fields.metadata(span).items():
        yield _PROPERTY + name, value
    yield "traceloop.workflow.name", span.text(semconv.TRACE_NAME)
    if kind == "group":
        yield "traceloop.span.kind", "task" if span.parent_span_id else "workflow"
        yield "traceloop.entity.name", span.name
        yield "traceloop.entity.input", facts.question(span)
        yield "traceloop.entity.output", facts.answer(span)
    elif kind in _KINDS:
        yield "traceloop.span.kind", _KINDS[kind]
        yield "traceloop.entity.name", span.first("gen_ai.tool.name", "gen_ai.agent.name") or span.name
    elif kind in ("llm", "embedding"):
        tokens = facts.usage(span)
        yield facts.SYSTEM, span.text(semconv.PROVIDER_NAME)
        yield "gen_ai.usage.total_tokens", tokens.total
        yield "llm.usage.total_tokens", tokens.total
        yield "gen_ai.usage.reasoning_tokens", tokens.reasoning
        yield "gen_ai.usage.cost", genai_fields.costs(span).total
        yield _PROPERTY + "cost_source", genai_fields.costs(span).source
        yield "gen_ai.is_streaming", span.first(semconv.REQUEST_STREAM)
        yield "gen_ai.user", span.text(semconv.USER_ID)
        yield "gen_ai.response.finish_reason", genai_fields.finish_reason(span)
        yield "gen_ai.request.reasoning_effort", span.first(semconv.REQUEST_REASONING_LEVEL)
