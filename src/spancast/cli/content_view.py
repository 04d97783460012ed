"""The messages of the calls of a trace, formatted for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from rich.text import Text

from spancast.cli.formatting import number
from spancast.cli.terminal import FAINT, GOOD, HEADING, MODEL, Line, folded, width
from spancast.encoding.genai_fields import completion, conversation
from spancast.encoding.redaction import without_group_texts
from spancast.encoding.span_data import SpanData
from spancast.encoding.tree_view import printable
from spancast.model import json_codec
from spancast.model.json_codec import is_list, is_mapping
from spancast.model.privacy import may_pass

_INDENT: Final = "    "
_STYLES: Final[Mapping[str, str]] = {"user": MODEL, "assistant": GOOD}
_LEAST_REPEATED: Final = 2


def content_lines(spans: Iterable[SpanData]) -> Iterator[Line]:
    """Yield the content of each span under a heading with its name.

    Messages that a call has in common with an earlier one are not repeated, nor are those of calls at their group.
    """
    earlier: list[list[str]] = []
    for span in map(without_group_texts, spans):
        lines = list(_span_lines(span, earlier))
        if lines:
            yield ""
            yield _heading(span)
            yield from lines


def _span_lines(span: SpanData, earlier: list[list[str]]) -> Iterator[Line]:
    request, response = conversation(span), completion(span)
    if request is None and response is None:
        for name, value in sorted(span.attributes.items()):
            if not may_pass(name, value):
                yield from _labelled(name, value)
        return
    messages: Sequence[Mapping[str, Any]] = (request or {}).get("messages", ())
    encoded = [json_codec.encode(message) for message in messages]
    repeated = max((_common(encoded, one) for one in earlier), default=0)
    if repeated < _LEAST_REPEATED:
        repeated = 0
    else:
        yield Text(f"  ({number(repeated, 'message')} as above)", FAINT)
    earlier.append(encoded)
    for message in messages[repeated:]:
        yield from _message(message)
    if response is not None:
        yield from _completion(response)


def _common(these: Sequence[str], others: Sequence[str]) -> int:
    return next(
        (at for at, (one, other) in enumerate(zip(these, others, strict=False)) if one != other),
        min(len(these), len(others)),
    )


def _heading(span: SpanData) -> Text:
    heading = Text().append("── ", FAINT).append(f"{printable(span.name)} ", HEADING)
    return heading.append("─" * max(width() - heading.cell_len, 0), FAINT)


def _message(message: Mapping[str, Any]) -> Iterator[Line]:
    content, calls = message.get("content"), message.get("tool_calls")
    calls = calls if is_list(calls) else ()
    if content or not calls:
        yield from _labelled(str(message.get("role") or "message"), content)
    for call in calls:
        yield from _call(call)


def _completion(response: Mapping[str, Any]) -> Iterator[Line]:
    if response.get("reasoning"):
        yield from _labelled("reasoning", response["reasoning"])
    calls = response.get("toolCalls") or ()
    if response.get("completion") or not calls:
        yield from _labelled("assistant", response.get("completion"))
    for call in calls:
        yield from _call(call)


def _call(call: object) -> Iterator[Line]:
    function = call.get("function") if is_mapping(call) else None
    named: Mapping[str, Any] = function if is_mapping(function) else {}
    return _labelled("calls", f"{named.get('name')}({named.get('arguments')})")


def _labelled(label: str, content: object) -> Iterator[Line]:
    text = content if isinstance(content, str) else "" if content is None else json_codec.encode(content)
    return folded(text, _INDENT, Text(f"  {printable(label)}: ", _STYLES.get(label, HEADING)))
