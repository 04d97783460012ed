"""Conversion of any Python value to JSON data, for trace keys in a request and on a span.

The rules per type are in docs/trace-keys.md. The value itself is not changed.

Invariants: never raises; an SDK can send the result (``test_json_data.py``).
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import enum
import math
from collections import deque
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final, cast

from spancast.diagnostics import attempt
from spancast.model import json_codec
from spancast.model.json_codec import CIRCULAR, TOO_DEEP

_INT64: Final = 2**63
_MAX_DEPTH: Final = 64
_MAX_VALUES: Final = 100_000
_TOO_MANY: Final = "<too many>"
_SCALARS: Final[frozenset[type]] = frozenset({str, bool, int, float, type(None)})
_JSON_TYPES: Final[frozenset[type]] = _SCALARS | {list, tuple, dict}


def json_data(value: object) -> Any:  # noqa: ANN401 - JSON has any shape
    """Return a copy of ``value`` as JSON data: exactly None, bool, int, float, str, list and dict."""
    return _Conversion().data(value, 0)


def sendable(value: object) -> Any:  # noqa: ANN401 - JSON has any shape
    """Return ``value`` itself if an SDK can send it unchanged, else a copy as JSON data."""
    conversion = _Conversion()
    data = conversion.data(value, 0)
    return data if conversion.is_needed else value


def is_json_type(value: object) -> bool:
    """Return whether JSON has a type for ``value``, regardless of its items."""
    return math.isfinite(value) if type(value) is float else type(value) in _JSON_TYPES


def json_string(value: object) -> str | None:
    """Return ``value`` as a string; None for a number, a container and an object without ``__str__``."""
    if isinstance(value, (int, float)):
        return None
    data = json_data(value)
    return data if isinstance(data, str) and data != unknown(value) else None


def unknown(value: object) -> str:
    """Return the placeholder for an object without ``__str__``: its type name in angle brackets."""
    return f"<{type(value).__name__}>"


def clean(text: str) -> str:
    """Return ``text`` with ``?`` for each lone surrogate, which UTF-8 cannot encode."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


class _Conversion:
    """The conversion of one value to JSON data."""

    def __init__(self) -> None:
        self.is_needed = False
        """True if the value cannot be sent unchanged."""
        self._parents: set[int] = set()
        self._remaining = _MAX_VALUES

    def data(self, value: object, depth: int) -> Any:  # noqa: ANN401 - JSON has any shape
        kind = cast("type[Any]", type(value))
        self._remaining -= 1
        if kind in _SCALARS:
            return self._scalar(cast("Any", value))
        if id(value) in self._parents or depth >= _MAX_DEPTH or self._remaining < 0:
            self.is_needed = True
            return CIRCULAR if id(value) in self._parents else TOO_DEEP if depth >= _MAX_DEPTH else _TOO_MANY
        self.is_needed |= kind not in _JSON_TYPES
        self._parents.add(id(value))
        try:
            converted = attempt(self._convert, value, depth)
        finally:
            self._parents.discard(id(value))
        if converted is None:
            self.is_needed = True
            return unknown(value)
        return converted[0]

    def _convert(self, value: Any, depth: int) -> tuple[Any]:  # noqa: ANN401, PLR0911 - one case per kind of object
        if json_codec.is_mapping(value):
            return (self._object(value, depth),)
        if isinstance(value, (list, tuple, deque)):
            return ([self.data(item, depth + 1) for item in cast("list[Any]", value)],)
        if json_codec.is_sentinel(value):
            return (None,)
        if isinstance(value, type):
            return (value.__name__,)
        if isinstance(value, enum.Enum):
            return (self.data(value.value, depth + 1),)
        if isinstance(value, AbstractSet):
            return (self._array(cast("AbstractSet[Any]", value), depth),)
        fields = _fields_of(value)
        if fields is not None:
            return (self._object(fields, depth),)
        simple = _simple(value)
        return (self.data(simple, depth + 1),)

    def _object(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        items: dict[str, Any] = {}
        for key, item in value.items():
            if json_codec.is_sentinel(item):
                self.is_needed = True
            else:
                items[self._key(key)] = self.data(item, depth + 1)
        return items

    def _array(self, value: AbstractSet[Any], depth: int) -> list[Any]:
        # Sorted if possible, so that the result is deterministic.
        ordered: list[Any] | None = attempt(sorted, value)
        return [self.data(item, depth + 1) for item in (value if ordered is None else ordered)]

    def _key(self, key: object) -> str:
        if type(key) is str:
            return self._string(key)
        self.is_needed = True
        return key_text(key)

    def _string(self, text: str) -> str:
        cleaned = clean(text)
        self.is_needed |= cleaned != text
        return cleaned

    def _scalar(self, value: str | bool | float | None) -> str | bool | float | None:
        if isinstance(value, str):
            return self._string(value)
        if isinstance(value, float) and not math.isfinite(value):
            self.is_needed = True
            return str(value)
        if isinstance(value, int) and not -_INT64 <= value < _INT64:
            self.is_needed = True
            # Python limits the number of decimal digits.
            return attempt(str, value) or hex(value)
        return value


def key_text(key: object) -> str:
    """Return ``key`` of a mapping as a key of a JSON object."""
    if key is None or isinstance(key, bool):
        return {None: "null", True: "true", False: "false"}[key]
    data = json_data(key)
    return data if isinstance(data, str) else str(data) if isinstance(data, (int, float)) else unknown(key)


def _fields_of(value: Any) -> Mapping[str, Any] | None:  # noqa: ANN401 - any object
    """Return the fields of a pydantic model (without None) or a dataclass; None if ``value`` is neither."""
    if hasattr(cast("type[Any]", type(value)), "__pydantic_fields_set__"):
        fields_set: dict[str, Any] = {**value.__dict__, **(getattr(value, "__pydantic_extra__", None) or {})}
        return {key: item for key, item in fields_set.items() if not json_codec.is_absent(item)}
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    return None


def _simple(value: Any) -> Any:  # noqa: ANN401, PLR0911 - one case per kind of object
    """Return ``value`` as a simpler type: str, int, float, bytes as text, ISO dates, seconds, numpy lists."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _text_of_bytes(bytes(cast("bytes", value)))
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    # The default `__str__` contains a memory address.
    return unknown(value) if type(value).__str__ is object.__str__ else str.__str__(str(value))


def _text_of_bytes(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()
