"""The messages of a call, formatted for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from spancast.cli.formatting import folded, width
from spancast.encoding.genai_fields import completion, conversation
from spancast.encoding.span_data import SpanData
from spancast.encoding.tree_view import printable
from spancast.model import json_codec
from spancast.model.json_codec import is_list, is_mapping
from spancast.model.privacy import may_pass

_INDENT: Final = "    "


def content_lines(span: SpanData) -> Iterator[str]:
    """Yield the content of ``span`` under a heading with its name; nothing if it has none."""
    request, response = conversation(span), completion(span)
    if request is None and response is None:
        attributes = {name: value for name, value in sorted(span.attributes.items()) if not may_pass(name, value)}
        if attributes:
            yield _heading(span)
        for name, value in attributes.items():
            yield _labelled(name, value)
        return
    yield _heading(span)
    for message in (request or {}).get("messages", ()):
        yield from _message(message)
    if response is not None:
        yield from _completion(response)


def _heading(span: SpanData) -> str:
    name = f"── {printable(span.name)} "
    return "\n" + name + "─" * max(width() - len(name), 0)


def _message(message: Mapping[str, Any]) -> Iterator[str]:
    content, calls = message.get("content"), message.get("tool_calls")
    calls = calls if is_list(calls) else ()
    if content or not calls:
        yield _labelled(str(message.get("role") or "message"), content)
    yield from map(_call, calls)


def _completion(response: Mapping[str, Any]) -> Iterator[str]:
    if response.get("reasoning"):
        yield _labelled("reasoning", response["reasoning"])
    calls = response.get("toolCalls") or ()
    if response.get("completion") or not calls:
        yield _labelled("assistant", response.get("completion"))
    yield from map(_call, calls)


def _call(call: object) -> str:
    function = call.get("function") if is_mapping(call) else None
    named: Mapping[str, Any] = function if is_mapping(function) else {}
    return _labelled("calls", f"{named.get('name')}({named.get('arguments')})")


def _labelled(label: str, content: object) -> str:
    text = content if isinstance(content, str) else "" if content is None else json_codec.encode(content)
    return folded(text, _INDENT, f"  {printable(label)}: ")
