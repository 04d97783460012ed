"""W&B Weave.

Source: its trace server. Its message reader takes ``content``, not ``parts``: messages are written
in chat form under the same names. Custom keys and the cost go to ``wandb.attributes``, which it merges into the
attributes of the call; a session is a thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from spancast.encoding import genai_fields
from spancast.encoding.conventions import facts
from spancast.encoding.span_data import SpanData
from spancast.model import json_codec, semconv

_KINDS: Final[Mapping[str, str]] = {
    "llm": "llm", "embedding": "embedding", "tool": "tool", "agent": "agent", "retriever": "retriever",
    "group": "chain",
}  # fmt: skip


def map_span(span: SpanData) -> SpanData:
    """Return ``span`` with the attributes that Weave reads."""
    kept = facts.without(span.attributes, facts.readable_content(span), semconv.TRACE_METADATA)
    return span.with_attributes({**kept, **facts.written(_attributes(span))})


def _attributes(span: SpanData) -> Iterator[tuple[str, Any]]:
    kind = facts.work(span)
    yield "weave.span.kind", _KINDS.get(kind)
    yield "wandb.display_name", span.name if kind != "other" else None
    session = span.text(semconv.SESSION_ID, semconv.CONVERSATION_ID)
    yield "wandb.thread_id", session
    yield "wandb.is_turn", True if session is not None and not span.parent_span_id else None
    tokens = facts.usage(span)
    fields = facts.given(session_id=session, user_id=span.text(semconv.USER_ID))
    attributes = {**fields, **facts.costs(span), **genai_fields.metadata(span)}
    yield "wandb.attributes", json_codec.encode(attributes) if attributes else None
    if kind in ("llm", "embedding"):
        yield "llm.provider", span.text(semconv.PROVIDER_NAME)
        yield "llm.usage.total_tokens", tokens.total
        yield "gen_ai.usage.reasoning_tokens", tokens.reasoning
    yield semconv.INPUT_MESSAGES, facts.messages_json(span)
    yield semconv.OUTPUT_MESSAGES, facts.answers_json(span)
