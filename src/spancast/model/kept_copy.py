"""A copy of JSON data and pydantic models as bytes, made in microseconds, that later changes do not reach.

``marshal`` accepts exact built-in types only, so it runs no code of the caller and the copy is equal to the original.
The fields of pydantic models that are None or not given are left out, as in JSON.
"""

from __future__ import annotations

import marshal
from typing import Any, Final, cast

from spancast.model import json_codec

_VERSION: Final = 2
"""The last format that does not look for references to one object."""
_SCALARS: Final = frozenset({str, bool, int, float, type(None)})


def keep(value: Any) -> bytes | None:  # noqa: ANN401 - any object
    """Return a copy of ``value``; None if it holds anything other than JSON data and pydantic models."""
    try:
        return marshal.dumps(value, _VERSION)
    except ValueError:
        # Something that is no built-in type.
        pass
    try:
        return marshal.dumps(_plain(value), _VERSION)
    except (AttributeError, RuntimeError, TypeError, ValueError):
        # Another thread may change it, or it is too deep.
        return None


def restore(kept: bytes) -> Any:  # noqa: ANN401 - JSON has any shape
    """Return the value of a copy that ``keep`` has made in this process."""
    return marshal.loads(kept)  # noqa: S302 - our own bytes


def _plain(value: Any) -> Any:  # noqa: ANN401 - any object
    kind = cast("type[Any]", type(value))
    if kind in _SCALARS:
        return value
    if kind is dict:
        return {name: item if type(item) in _SCALARS else _plain(item) for name, item in value.items()}
    if kind is list or kind is tuple:
        return [item if type(item) in _SCALARS else _plain(item) for item in value]
    if not hasattr(kind, "__pydantic_fields_set__"):
        raise TypeError(kind)
    fields: dict[str, Any] = value.__dict__
    extra = value.__pydantic_extra__
    found: dict[str, Any] = {}
    for name, item in (fields if not extra else {**fields, **extra}).items():
        if type(item) in _SCALARS:
            if item is not None:
                found[name] = item
        elif not json_codec.is_sentinel(item):
            found[name] = _plain(item)
    return found
