"""Lunary.

Source: its server (``packages/backend/src/api/v1/otel``). It reads OpenLLMetry's earlier form: messages and answers
with their index in the name of the attribute.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from spancast.encoding import genai_fields
from spancast.encoding.conventions import facts, traceloop
from spancast.encoding.span_data import SpanData
from spancast.model import json_codec
from spancast.model.json_codec import is_list, is_mapping


def map_span(span: SpanData) -> SpanData:
    """Return ``span`` with OpenLLMetry's attributes, messages by their index."""
    mapped = traceloop.map_span(span)
    if facts.work(span) not in ("llm", "embedding"):
        return mapped
    kept = facts.without(mapped.attributes, facts.readable_content(span))
    return mapped.with_attributes({**kept, **facts.written(_attributes(span))})


def _attributes(span: SpanData) -> Iterator[tuple[str, Any]]:
    tokens = facts.usage(span)
    yield "gen_ai.usage.prompt_tokens", tokens.input
    yield "gen_ai.usage.completion_tokens", tokens.output
    for index, message in enumerate((genai_fields.conversation(span) or {}).get("messages", ())):
        yield from _message(f"gen_ai.prompt.{index}", message)
    for index, message in enumerate(genai_fields.answers(span) or ()):
        yield from _message(f"gen_ai.completion.{index}", message)
    for index, tool in enumerate(genai_fields.tools(span) or ()):
        definition = tool.get("function", tool) if is_mapping(tool) else None
        for name, value in definition.items() if is_mapping(definition) else ():
            yield f"llm.request.functions.{index}.{name}", _text(value)


def _message(prefix: str, message: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield f"{prefix}.role", message.get("role")
    yield f"{prefix}.content", _text(message.get("content"))
    yield f"{prefix}.reasoning", message.get("reasoning")
    yield f"{prefix}.finish_reason", message.get("finish_reason")
    yield f"{prefix}.tool_call_id", message.get("tool_call_id")
    calls = message.get("tool_calls")
    for index, call in enumerate(calls if is_list(calls) else ()):
        function = call.get("function") if is_mapping(call) else None
        if not is_mapping(call) or not is_mapping(function):
            continue
        yield f"{prefix}.tool_calls.{index}.id", call.get("id")
        yield f"{prefix}.tool_calls.{index}.name", function.get("name")
        yield f"{prefix}.tool_calls.{index}.arguments", _text(function.get("arguments"))


def _text(value: Any) -> str | None:  # noqa: ANN401 - any JSON value
    return value if value is None or isinstance(value, str) else json_codec.encode(value)
