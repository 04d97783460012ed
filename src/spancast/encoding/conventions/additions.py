"""Conventions that add attributes to a span, declared as rows of ``registry.py``."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from spancast.encoding import genai_fields
from spancast.encoding.conventions import facts
from spancast.encoding.conventions.registry import Convention, SpanMapper
from spancast.encoding.span_data import SpanData
from spancast.model import json_codec, semconv

_CALLS: Final = ("llm", "embedding")


def _session_uuid(span: SpanData) -> str | None:
    session = span.text(semconv.SESSION_ID, semconv.CONVERSATION_ID)
    return None if session is None else str(uuid.uuid5(uuid.NAMESPACE_OID, session))


FACTS: Final[Mapping[str, Callable[[SpanData], Any]]] = {
    "name": lambda span: span.name,
    "span_id": lambda span: span.span_id,
    "service": lambda span: span.resource.attributes.get("service.name"),
    "session_uuid": _session_uuid,
    "tags": lambda span: genai_fields.tags(span) or None,
    "total_tokens": lambda span: facts.usage(span).total,
    "cache_write": lambda span: facts.usage(span).cache_write,
    "total_cost": lambda span: genai_fields.costs(span).total,
    "cost_source": lambda span: genai_fields.costs(span).source,
    "finish_reason": genai_fields.finish_reason,
    "messages": facts.messages_json,
    "answers": facts.answers_json,
    "turns": facts.turns_json,
    "system": facts.system_text,
    "question": facts.question,
    "answer": facts.answer,
}
"""Sources of an addition that are no attribute of the canonical span."""


def mapper_of(row: Convention, first: SpanMapper | None) -> SpanMapper:
    """Return the function that adds the attributes of ``row`` to a span, after ``first`` unless None."""
    of_calls = {**row.copies, **row.of_calls}

    def map_span(span: SpanData) -> SpanData:
        mapped = span if first is None else first(span)
        kind = facts.work(span)
        copies = of_calls if kind in _CALLS else row.copies
        added = {} if kind == "other" else facts.written(_added(row, copies, kind, span))
        return mapped.with_attributes({**mapped.attributes, **added}) if added else mapped

    return _without_lists(map_span) if row.lists_as_json else map_span


def _without_lists(first: SpanMapper) -> SpanMapper:
    def map_span(span: SpanData) -> SpanData:
        mapped = first(span)
        attributes, resource = _texts(mapped.attributes), _texts(mapped.resource.attributes)
        if attributes is mapped.attributes and resource is mapped.resource.attributes:
            return mapped
        return replace(mapped, attributes=attributes, resource=replace(mapped.resource, attributes=resource))

    return map_span


def _texts(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    lists = {name: json_codec.encode(value) for name, value in attributes.items() if type(value) in (list, tuple)}
    return {**attributes, **lists} if lists else attributes


def _added(
    row: Convention, copies: Mapping[str, Sequence[str]], kind: facts.Work, span: SpanData
) -> Iterator[tuple[str, Any]]:
    for name, sources in copies.items():
        yield name, next((value for source in sources if (value := _value(span, source)) is not None), None)
    kind_attribute, kinds = row.kinds
    if kind_attribute:
        yield kind_attribute, kinds.get(kind, kinds["other"])
    if row.own_keys:
        for name, value in genai_fields.own_keys(span).items():
            yield row.own_keys + name, value
    if row.metadata:
        metadata = genai_fields.metadata(span)
        yield row.metadata, json_codec.encode(metadata) if metadata else None


def _value(span: SpanData, source: str) -> Any:  # noqa: ANN401 - any attribute value
    fact = FACTS.get(source)
    return span.first(source) if fact is None else fact(span)
