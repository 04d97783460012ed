"""Comet Opik.

Source: the mapping rules of its backend. ``gen_ai.input.*`` and ``gen_ai.output.*`` become input
and output unchanged; every ``gen_ai.usage.*`` becomes a key of usage. Parts have the names that its prices know, and
those of OpenRouter's Opik destination. ``gen_ai.usage.cost`` is the cost; older servers have no rule for it, so it is
metadata, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from spancast.encoding import genai_fields
from spancast.encoding.conventions import facts
from spancast.encoding.span_data import SpanData
from spancast.model import semconv

_METADATA: Final = "opik.metadata."
_RENAMED: Final = frozenset(
    {semconv.USAGE_CACHE_READ, semconv.USAGE_CACHE_WRITE, semconv.USAGE_REASONING, facts.CACHE_CREATION}
)


def map_span(span: SpanData) -> SpanData:
    """Return ``span`` with the attributes that Opik's rules read."""
    kept = facts.without(span.attributes, _RENAMED, semconv.TRACE_METADATA)
    return span.with_attributes({**kept, **facts.written(_attributes(span))})


def _attributes(span: SpanData) -> Iterator[tuple[str, Any]]:
    yield "thread_id", span.text(semconv.SESSION_ID, semconv.CONVERSATION_ID)
    yield "opik.tags", genai_fields.tags(span) or None
    yield _METADATA + "user_id", span.text(semconv.USER_ID)
    if facts.work(span) in ("llm", "embedding"):
        tokens, costs = facts.usage(span), facts.costs(span)
        yield facts.SYSTEM, span.text(semconv.PROVIDER_NAME)
        yield "gen_ai.usage.total_tokens", tokens.total
        yield "gen_ai.usage.cache_read_tokens", tokens.cache_read
        yield "gen_ai.usage.cached_tokens", tokens.cache_read
        yield "gen_ai.usage.cache_creation_tokens", tokens.cache_write
        yield "gen_ai.usage.reasoning_tokens", tokens.reasoning
        yield "gen_ai.usage.cost", costs["total_cost"] if costs else None
        for name, value in costs.items():
            yield _METADATA + name, value
    # The caller's own keys are last, so that they win.
    for name, value in genai_fields.metadata(span).items():
        yield _METADATA + name, value
