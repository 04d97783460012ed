"""Helicone.

Source: its server (``valhalla/jawn/src/managers/traceManager.ts``, 2026). It reads OpenLLMetry's earlier form: messages
and answers with their index in the name of the attribute. Each span becomes a request of its page; properties, user and
session are the headers of its proxy, as association properties.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from spancast.encoding import genai_fields
from spancast.encoding.conventions import facts, traceloop
from spancast.encoding.span_data import SpanData
from spancast.model import json_codec, semconv
from spancast.model.json_codec import is_list, is_mapping

_HEADER: Final = "traceloop.association.properties.Helicone-"


def map_span(span: SpanData) -> SpanData:
    """Return ``span`` with OpenLLMetry's attributes, messages by their index."""
    mapped = traceloop.map_span(span)
    if facts.work(span) not in ("llm", "embedding"):
        return mapped
    kept = facts.without(mapped.attributes, facts.readable_content(span))
    return mapped.with_attributes({**kept, **facts.written(_attributes(span)), **facts.written(_properties(span))})


def _attributes(span: SpanData) -> Iterator[tuple[str, Any]]:
    tokens = facts.usage(span)
    yield semconv.RESPONSE_MODEL, span.text(semconv.RESPONSE_MODEL, semconv.REQUEST_MODEL)
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


def _properties(span: SpanData) -> Iterator[tuple[str, Any]]:
    yield _HEADER + "User-Id", span.text(semconv.USER_ID)
    session = span.text(semconv.SESSION_ID, semconv.CONVERSATION_ID)
    if session is not None:
        yield _HEADER + "Session-Id", session
        yield _HEADER + "Session-Name", span.text(semconv.TRACE_NAME)
        # The place of the call in the tree of the session.
        names = (span.text(semconv.TRACE_NAME), span.text(semconv.SPAN_NAME), span.name)
        yield _HEADER + "Session-Path", "".join(f"/{name.replace('/', '-')}" for name in names if name)
    for name, value in genai_fields.own_keys(span).items():
        yield f"{_HEADER}Property-{name}", _text(value)


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
