"""Reading wire data alike from plain JSON and from SDK objects.

Must never: copy a message, validate, or raise on a shape it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spancast.model.json_codec import is_mapping

_NOTHING: Mapping[str, Any] = {}
_NOT_PYDANTIC: Any = object()
_PLAIN = frozenset({str, int, float, bool, bytes, list, tuple})


def fields(value: object) -> Mapping[str, Any]:
    """Return the fields of a JSON object, a pydantic model or a plain object, unchanged.

    SDK models keep fields they do not know in ``__pydantic_extra__``; they are included.
    Anything that has no fields gives an empty mapping.
    """
    # Exact types first: this runs for every object of every chunk, and isinstance against an ABC is slow.
    kind = type(value)
    if kind is dict:
        return value  # pyright: ignore[reportReturnType]
    if value is None or kind in _PLAIN:
        return _NOTHING
    extra = getattr(value, "__pydantic_extra__", _NOT_PYDANTIC)
    if extra is None:
        return value.__dict__
    if extra is not _NOT_PYDANTIC:
        return {**value.__dict__, **extra} if extra else value.__dict__
    return value if is_mapping(value) else getattr(value, "__dict__", _NOTHING)


def items(value: object) -> list[Any] | tuple[Any, ...]:
    """Return a JSON array as it is, and an empty one for anything else."""
    return value if isinstance(value, (list, tuple)) else ()  # pyright: ignore[reportUnknownVariableType]


def text(value: object) -> str | None:
    """Return a non-empty string as it is, and None for anything else."""
    return value if value and isinstance(value, str) else None


def count(value: object) -> int | None:
    """Return a whole number (a token count) as int, and None for anything else, booleans included."""
    if type(value) is int or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return None
