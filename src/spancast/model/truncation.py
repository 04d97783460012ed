"""Truncation of JSON text to valid JSON.

A list keeps its first and last items (the system message and the last turns), a string its
beginning. Sizes are bytes of UTF-8. The markers are those of OpenRouter Broadcast, "large values".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from spancast.model import json_codec
from spancast.model.json_codec import is_list, is_mapping

MARK: Final = "[truncated]"
SHORTEST_TEXT: Final = 32
_LEAST_ERROR: Final = 0.9
"""How much smaller than estimated a value with shortened texts may be: escapes are not spread evenly."""
_TOO_LARGE: Final = '{"openrouter_truncated":{"reason":"too_large"}}'


def fitted_json(text: str, max_length: int) -> str:
    """Return JSON ``text`` as JSON of at most ``max_length`` characters; any other text unchanged."""
    if len(text) <= max_length or text[:1] not in ("[", "{") or json_codec.decode(text) is None:
        return text
    if max_length >= len(_TOO_LARGE):
        return shortened(text, max_length)
    return "[]" if text[0] == "[" else "{}"


def shortened(text: str, max_bytes: int) -> str:
    """Return ``text`` in at most ``max_bytes`` bytes (at least 64); JSON stays valid JSON."""
    if len(text) * 4 <= max_bytes or len(text.encode("utf-8", "replace")) <= max_bytes:
        return text
    value = json_codec.decode(text) if text[:1] in ("[", "{") else None
    try:
        return _truncate_text(text, max_bytes) if value is None else _truncate_json(value, max_bytes)
    except RecursionError:
        return _TOO_LARGE


def _truncate_text(text: str, max_bytes: int) -> str:
    available = max(max_bytes - len(MARK), 0)
    return text.encode("utf-8", "replace")[:available].decode("utf-8", "ignore") + MARK


def _truncate_json(value: Any, max_bytes: int) -> str:  # noqa: ANN401 - any JSON
    text = json_codec.encode(value)
    size, texts = len(text.encode()), list(_long_texts(value))
    if size <= max_bytes:
        return text
    longest = max_bytes
    while longest >= SHORTEST_TEXT:
        left_out = sum(encoded * (1 - longest / own) for own, encoded in texts if own > longest)
        # Only what may fit is encoded, because each attempt costs as much as the whole value.
        if left_out and (size - left_out) * _LEAST_ERROR <= max_bytes:
            text = json_codec.encode(cut_texts(value, longest))
            if len(text.encode()) <= max_bytes:
                return text
        longest //= 2
    return _fewer_items(cut_texts(value, SHORTEST_TEXT) if texts else value, max_bytes)


def _long_texts(value: Any) -> Iterator[tuple[int, int]]:  # noqa: ANN401 - any JSON
    """Yield the bytes of each text in ``value`` that may be shortened, and of the same text as JSON."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            own = len(one.encode("utf-8", "replace"))
            if own > SHORTEST_TEXT:
                yield own, len(json_codec.encode(one).encode())
        elif is_mapping(one):
            waiting.extend(one.values())
        elif is_list(one):
            waiting.extend(one)


def cut_texts(value: Any, longest: int) -> Any:  # noqa: ANN401 - any JSON
    """Return ``value`` with every string truncated to ``longest`` bytes."""
    if isinstance(value, str):
        return value if len(value.encode("utf-8", "replace")) <= longest else _truncate_text(value, longest)
    if is_mapping(value):
        return {key: cut_texts(item, longest) for key, item in value.items()}
    return [cut_texts(item, longest) for item in value] if is_list(value) else value


def _fewer_items(value: Any, max_bytes: int) -> str:  # noqa: ANN401
    if is_list(value):
        keep = len(value) // 2
        while keep:
            first = value[: max(keep // 4, 1)]
            last = value[len(value) - (keep - len(first)) :] if keep > len(first) else []
            text = json_codec.encode([*first, _omitted(value[0], len(value) - keep), *last])
            if len(text.encode()) <= max_bytes:
                return text
            keep //= 2
    return _TOO_LARGE


def _omitted(example: Any, count: int) -> Any:  # noqa: ANN401
    if is_mapping(example) and "parts" in example:
        # Shaped like a message, so that readers of messages can parse it.
        return {"role": "system", "parts": [{"type": "text", "content": f"[{count} messages truncated]"}]}
    if is_mapping(example) and "role" in example:
        return {"role": "system", "content": f"[{count} messages truncated]"}
    return {"openrouter_truncated": {"omitted_items": count}}
