"""Truncate values and spans to the size limits of a destination; JSON stays valid. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from spancast.encoding.span_data import EventData, SpanData
from spancast.model.json_codec import is_list
from spancast.model.truncation import SHORTEST_TEXT, cut_texts, shortened

TRUNCATED: Final = ".truncated"
ORIGINAL_BYTES: Final = ".original_bytes"
_MIN_VALUE: Final = 64
_NUMBER_BYTES: Final = 8


def truncate_values(span: SpanData, max_bytes: int) -> SpanData:
    """Return ``span`` with texts of at most ``max_bytes``; two attributes beside a truncated one mark it."""
    return replace(
        span,
        attributes=_short_values(span.attributes, max_bytes),
        events=tuple(_short_event(event, max_bytes) for event in span.events),
        status_message=shortened(span.status_message, max_bytes),
    )


def _short_event(event: EventData, max_bytes: int) -> EventData:
    return replace(event, attributes=_short_values(event.attributes, max_bytes))


def _short_values(attributes: Mapping[str, Any], max_bytes: int) -> Mapping[str, Any]:
    truncated_attributes: dict[str, Any] = {}
    for name, value in attributes.items():
        truncated = _short_value(value, max_bytes)
        truncated_attributes[name] = truncated
        if truncated is not value:
            truncated_attributes[name + TRUNCATED] = True
            truncated_attributes[name + ORIGINAL_BYTES] = _size(value)
    return truncated_attributes


def _short_value(value: Any, max_bytes: int) -> Any:  # noqa: ANN401 - any attribute value
    if isinstance(value, str):
        return shortened(value, max_bytes)
    if not is_list(value) or _size(value) <= max_bytes:
        return value
    room = max(max_bytes // len(value), SHORTEST_TEXT)
    return [cut_texts(item, room) for item in value[: max(max_bytes // SHORTEST_TEXT, 1)]]


def _size(value: Any) -> int:  # noqa: ANN401
    if isinstance(value, str):
        return len(value.encode("utf-8", "replace"))
    return sum(map(_size, value)) if is_list(value) else _NUMBER_BYTES


def size_steps(span: SpanData, excess: int) -> list[int]:
    """Return decreasing limits for the values of ``span``, to try until it has ``excess`` bytes less.

    They begin with the first that is expected to be enough, because each attempt costs as much as the whole span.
    """
    attributes = [span.attributes, *(event.attributes for event in span.events)]
    sizes = [_size(value) for given in attributes for value in given.values()]
    sizes.append(_size(span.status_message))
    longest = max(sizes)
    steps: list[int] = []
    while longest > _MIN_VALUE:
        longest //= 2
        step = max(longest, _MIN_VALUE)
        if step == _MIN_VALUE or sum(size - step for size in sizes if size > step) >= excess:
            steps.append(step)
    return steps
