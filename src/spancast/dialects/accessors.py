"""Lenient field access for JSON data and SDK objects.

Nothing is copied or validated, and no shape raises an exception.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spancast.model.json_codec import is_absent, is_list, is_mapping

_NOTHING: Mapping[str, Any] = {}
_NOT_PYDANTIC: Any = object()
_WITHOUT_FIELDS = frozenset({str, int, float, bool, bytes, list, tuple})


def fields(value: object) -> Mapping[str, Any]:
    """Return the fields of a JSON object, a pydantic model or a plain object, unchanged.

    Unknown fields of SDK models, kept in ``__pydantic_extra__``, are included.
    A value without fields gives an empty mapping.
    """
    # Exact types first: this runs for every object of every chunk, and isinstance with an ABC is slow.
    kind = type(value)
    if kind is dict:
        return value  # pyright: ignore[reportReturnType]
    if value is None or kind in _WITHOUT_FIELDS:
        return _NOTHING
    if isinstance(value, dict):
        # Attributes of dashscope's may raise KeyError.
        return value  # pyright: ignore[reportUnknownVariableType]
    extra = getattr(value, "__pydantic_extra__", _NOT_PYDANTIC)
    if extra is None:
        return value.__dict__
    if extra is not _NOT_PYDANTIC:
        return {**value.__dict__, **extra} if extra else value.__dict__
    return value if is_mapping(value) else getattr(value, "__dict__", _NOTHING)


def items(value: object) -> list[Any] | tuple[Any, ...]:
    """Return a JSON array unchanged, an empty tuple for anything else."""
    return value if isinstance(value, (list, tuple)) else ()  # pyright: ignore[reportUnknownVariableType]


def listed(value: object) -> list[Any] | tuple[Any, ...]:
    """Return a JSON array unchanged; any other value, which some servers send in its place, as the only item."""
    return items(value) or (() if is_absent(value) or is_list(value) else (value,))


def text(value: object) -> str | None:
    """Return a non-empty string unchanged, None for anything else."""
    return value if value and isinstance(value, str) else None


def count(value: object) -> int | None:
    """Return an integral number (a token count) as int, None for anything else, including booleans."""
    if type(value) is int or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return None
