"""Values and spans too large for a destination, made smaller; JSON stays JSON. Pure.

A list keeps its beginning and its end (the system message and the last turns), texts their
beginning. Sizes are bytes of UTF-8. Words of the marks: OpenRouter Broadcast, "large values".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from spancast.destinations.plain_span import PlainEvent, PlainSpan
from spancast.model import json_text
from spancast.model.json_text import is_list, is_mapping

MARK: Final = "[truncated]"
_TRUNCATED: Final = ".truncated"
_ORIGINAL_BYTES: Final = ".original_bytes"
_TOO_LARGE: Final = '{"openrouter_truncated":{"reason":"too_large"}}'
_SHORTEST_TEXT: Final = 32
_MIN_VALUE: Final = 64
_NUMBER_BYTES: Final = 8


def shortened(text: str, max_bytes: int) -> str:
    """Return ``text`` in ``max_bytes`` bytes (64 at least); where it is JSON, the result is JSON."""
    if len(text) * 4 <= max_bytes or len(text.encode("utf-8", "replace")) <= max_bytes:
        return text
    value = json_text.decode(text) if text[:1] in ("[", "{") else None
    try:
        return _cut(text, max_bytes) if value is None else _smaller_json(value, max_bytes)
    except RecursionError:
        return _TOO_LARGE


def _cut(text: str, max_bytes: int) -> str:
    room = max(max_bytes - len(MARK), 0)
    return text.encode("utf-8", "replace")[:room].decode("utf-8", "ignore") + MARK


def _smaller_json(value: Any, max_bytes: int) -> str:  # noqa: ANN401 - any JSON
    longest = max_bytes
    while longest >= _SHORTEST_TEXT:
        text = json_text.encode(_cut_texts(value, longest))
        if len(text.encode()) <= max_bytes:
            return text
        longest //= 2
    return _fewer_items(_cut_texts(value, _SHORTEST_TEXT), max_bytes)


def _cut_texts(value: Any, longest: int) -> Any:  # noqa: ANN401
    if isinstance(value, str):
        return value if len(value.encode("utf-8", "replace")) <= longest else _cut(value, longest)
    if is_mapping(value):
        return {key: _cut_texts(item, longest) for key, item in value.items()}
    return [_cut_texts(item, longest) for item in value] if is_list(value) else value


def _fewer_items(value: Any, max_bytes: int) -> str:  # noqa: ANN401
    if is_list(value):
        keep = len(value) // 2
        while keep:
            first = value[: max(keep // 4, 1)]
            last = value[len(value) - (keep - len(first)) :] if keep > len(first) else []
            text = json_text.encode([*first, _omitted(value[0], len(value) - keep), *last])
            if len(text.encode()) <= max_bytes:
                return text
            keep //= 2
    return _TOO_LARGE


def _omitted(example: Any, count: int) -> Any:  # noqa: ANN401
    if is_mapping(example) and "parts" in example:
        # A message like the others, so that readers of messages go on reading.
        return {"role": "system", "parts": [{"type": "text", "content": f"[{count} messages truncated]"}]}
    if is_mapping(example) and "role" in example:
        return {"role": "system", "content": f"[{count} messages truncated]"}
    return {"openrouter_truncated": {"omitted_items": count}}


def with_short_values(span: PlainSpan, max_bytes: int) -> PlainSpan:
    """Return ``span`` with no text over ``max_bytes``; a shortened attribute is marked beside it."""
    return replace(
        span,
        attributes=_short_values(span.attributes, max_bytes),
        events=tuple(_short_event(event, max_bytes) for event in span.events),
        status_message=shortened(span.status_message, max_bytes),
    )


def _short_event(event: PlainEvent, max_bytes: int) -> PlainEvent:
    return replace(event, attributes=_short_values(event.attributes, max_bytes))


def _short_values(attributes: Mapping[str, Any], max_bytes: int) -> Mapping[str, Any]:
    short: dict[str, Any] = {}
    for name, value in attributes.items():
        told = _short_value(value, max_bytes)
        short[name] = told
        if told is not value:
            short[name + _TRUNCATED] = True
            short[name + _ORIGINAL_BYTES] = _size(value)
    return short


def _short_value(value: Any, max_bytes: int) -> Any:  # noqa: ANN401 - any attribute value
    if isinstance(value, str):
        return shortened(value, max_bytes)
    if not is_list(value) or _size(value) <= max_bytes:
        return value
    room = max(max_bytes // len(value), _SHORTEST_TEXT)
    return [_cut_texts(item, room) for item in value[: max(max_bytes // _SHORTEST_TEXT, 1)]]


def _size(value: Any) -> int:  # noqa: ANN401
    if isinstance(value, str):
        return len(value.encode("utf-8", "replace"))
    return sum(map(_size, value)) if is_list(value) else _NUMBER_BYTES


def size_steps(span: PlainSpan) -> list[int]:
    """Return ever smaller limits for the values of ``span``, to be tried until it is small enough."""
    attributes = [span.attributes, *(event.attributes for event in span.events)]
    longest = max((_size(value) for given in attributes for value in given.values()), default=0)
    longest = max(longest, _size(span.status_message))
    steps: list[int] = []
    while longest > _MIN_VALUE:
        longest //= 2
        steps.append(max(longest, _MIN_VALUE))
    return steps
