"""A copy of JSON data and pydantic models as bytes, made in microseconds, that later changes do not reach.

``marshal`` accepts exact built-in types only, so it runs no code of the caller and the copy is equal to the original.
The fields of pydantic models that are None or not given are left out, as in JSON.
"""

from __future__ import annotations

import marshal
from contextlib import suppress
from typing import Any, Final

from spancast.model import json_codec

_VERSION: Final = 2
"""The last format that does not look for references to one object."""
NOT_PLAIN: Final = (AttributeError, RuntimeError, TypeError, ValueError)
"""What ``plain`` raises: something else is inside, another thread changes it, or it is too deep."""
_MAX_MODELS: Final = 256
_models: Final[set[type[Any]]] = set()
"""Classes of pydantic models that were seen."""
_SCALARS: Final = frozenset({str, bool, int, float, type(None)})
_BUILT_IN: Final = _SCALARS | {dict, list, tuple}


def keep(value: Any) -> bytes | None:  # noqa: ANN401 - any object
    """Return a copy of ``value``; None if it holds anything other than JSON data and pydantic models."""
    try:
        if type(value) not in _models:
            # Most requests are JSON data.
            with suppress(ValueError):
                return marshal.dumps(value, _VERSION)
        return marshal.dumps(plain(value), _VERSION)
    except NOT_PLAIN:
        return None


def restore(kept: bytes) -> Any:  # noqa: ANN401 - JSON has any shape
    """Return the value of a copy that ``keep`` has made in this process."""
    return marshal.loads(kept)  # noqa: S302 - our own bytes


def plain(value: Any) -> Any:  # noqa: ANN401 - any object
    """Return a copy of JSON data and pydantic models as JSON data.

    Raises:
        AttributeError, RuntimeError, TypeError, ValueError: It holds anything else, or changes (``NOT_PLAIN``).
    """
    kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
    if kind in _models:
        return _fields(value)
    if kind is dict:
        return {name: item if type(item) in _SCALARS else plain(item) for name, item in value.items()}
    if kind is list or kind is tuple:
        return [item if type(item) in _SCALARS else plain(item) for item in value]
    if kind in _SCALARS:
        return value
    if not hasattr(kind, "__pydantic_fields_set__"):
        raise TypeError(kind)
    if len(_models) >= _MAX_MODELS:
        _models.clear()
    _models.add(kind)
    return _fields(value)


def _fields(value: Any) -> dict[str, Any]:  # noqa: ANN401 - a pydantic model
    given: dict[str, Any] = value.__dict__
    extra = value.__pydantic_extra__
    if extra:
        given = {**given, **extra}
    found = given.copy()
    for name, item in given.items():
        kind: Any = type(item)  # pyright: ignore[reportUnknownVariableType]
        if kind in _models:
            found[name] = _fields(item)
        elif item is None or (kind not in _BUILT_IN and json_codec.is_sentinel(item)):
            del found[name]
        elif kind not in _SCALARS:
            found[name] = plain(item)
    return found
