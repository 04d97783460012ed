"""JSON text made smaller that stays JSON. Pure.

A list keeps its beginning and its end (the system message and the last turns), texts their
beginning. Sizes are bytes of UTF-8. Words of the marks: OpenRouter Broadcast, "large values".
"""

from __future__ import annotations

from typing import Any, Final

from spancast.model import json_codec
from spancast.model.json_codec import is_list, is_mapping

MARK: Final = "[truncated]"
SHORTEST_TEXT: Final = 32
_TOO_LARGE: Final = '{"openrouter_truncated":{"reason":"too_large"}}'


def fitted_json(text: str, max_length: int) -> str:
    """Return ``text`` in ``max_length`` characters and still JSON if it is JSON; anything else as it is."""
    if len(text) <= max_length or text[:1] not in ("[", "{") or json_codec.decode(text) is None:
        return text
    if max_length >= len(_TOO_LARGE):
        return shortened(text, max_length)
    return "[]" if text[0] == "[" else "{}"


def shortened(text: str, max_bytes: int) -> str:
    """Return ``text`` in ``max_bytes`` bytes (64 at least); where it is JSON, the result is JSON."""
    if len(text) * 4 <= max_bytes or len(text.encode("utf-8", "replace")) <= max_bytes:
        return text
    value = json_codec.decode(text) if text[:1] in ("[", "{") else None
    try:
        return _cut(text, max_bytes) if value is None else _smaller_json(value, max_bytes)
    except RecursionError:
        return _TOO_LARGE


def _cut(text: str, max_bytes: int) -> str:
    room = max(max_bytes - len(MARK), 0)
    return text.encode("utf-8", "replace")[:room].decode("utf-8", "ignore") + MARK


def _smaller_json(value: Any, max_bytes: int) -> str:  # noqa: ANN401 - any JSON
    longest = max_bytes
    while longest >= SHORTEST_TEXT:
        text = json_codec.encode(cut_texts(value, longest))
        if len(text.encode()) <= max_bytes:
            return text
        longest //= 2
    return _fewer_items(cut_texts(value, SHORTEST_TEXT), max_bytes)


def cut_texts(value: Any, longest: int) -> Any:  # noqa: ANN401 - any JSON
    """Return ``value`` with no text over ``longest`` bytes."""
    if isinstance(value, str):
        return value if len(value.encode("utf-8", "replace")) <= longest else _cut(value, longest)
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
        # A message like the others, so that readers of messages go on reading.
        return {"role": "system", "parts": [{"type": "text", "content": f"[{count} messages truncated]"}]}
    if is_mapping(example) and "role" in example:
        return {"role": "system", "content": f"[{count} messages truncated]"}
    return {"openrouter_truncated": {"omitted_items": count}}
