"""What was said in a call, for a terminal."""

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


def told(span: SpanData) -> Iterator[str]:
    """Yield what ``span`` holds of content, under its name; nothing where it holds none."""
    asked, answered = conversation(span), completion(span)
    if asked is None and answered is None:
        rest = {name: value for name, value in sorted(span.attributes.items()) if not may_pass(name, value)}
        if rest:
            yield _heading(span)
        for name, value in rest.items():
            yield _said(name, value)
        return
    yield _heading(span)
    for message in (asked or {}).get("messages", ()):
        yield from _message(message)
    if answered is not None:
        yield from _answer(answered)


def _heading(span: SpanData) -> str:
    name = f"── {printable(span.name)} "
    return "\n" + name + "─" * max(width() - len(name), 0)


def _message(message: Mapping[str, Any]) -> Iterator[str]:
    content, calls = message.get("content"), message.get("tool_calls")
    calls = calls if is_list(calls) else ()
    if content or not calls:
        yield _said(str(message.get("role") or "message"), content)
    yield from map(_call, calls)


def _answer(answered: Mapping[str, Any]) -> Iterator[str]:
    if answered.get("reasoning"):
        yield _said("reasoning", answered["reasoning"])
    calls = answered.get("toolCalls") or ()
    if answered.get("completion") or not calls:
        yield _said("assistant", answered.get("completion"))
    yield from map(_call, calls)


def _call(call: object) -> str:
    function = call.get("function") if is_mapping(call) else None
    named: Mapping[str, Any] = function if is_mapping(function) else {}
    return _said("calls", f"{named.get('name')}({named.get('arguments')})")


def _said(who: str, content: object) -> str:
    text = content if isinstance(content, str) else "" if content is None else json_codec.encode(content)
    return folded(text, _INDENT, f"  {printable(who)}: ")
