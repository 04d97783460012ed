"""JSON encoder for any Python value, and a lenient decoder.

Encoding calls no methods of user objects except those of pydantic and dataclasses.

Invariants: never raises; the result is valid JSON (``test_json_codec.py``).
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any, TypeGuard

import orjson

_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
_MAX_DEPTH = 64
_DECIMAL_BITS = 2048
"""Longer integers are written in hexadecimal: Python limits decimal conversion to 640 to 4,300 digits."""
_UNREADABLE = "<unserializable>"
CIRCULAR = "<circular>"
_BYTE_ORDER_MARK = "\ufeff"
_TWO_TO_63 = 1 << 63
TOO_DEEP = "<too deep>"

# "Not given" sentinels of the SDKs (openai, anthropic: NotGiven, Omit; openrouter: Unset).
_SENTINELS = frozenset({"NotGiven", "Omit", "Unset", "PydanticUndefinedType"})


def is_mapping(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Return whether ``value`` is a JSON object; its keys are assumed to be strings."""
    # `dict` first: the check against the abstract class takes five times as long.
    return isinstance(value, (dict, Mapping))


def is_list(value: object) -> TypeGuard[list[Any] | tuple[Any, ...]]:
    """Return whether ``value`` is a JSON array."""
    return isinstance(value, (list, tuple))


def _is_set(value: object) -> TypeGuard[AbstractSet[Any]]:
    return isinstance(value, AbstractSet)


def is_sentinel(value: object) -> bool:
    """Return whether ``value`` is an SDK's sentinel for "this argument was not given"."""
    return type(value).__name__ in _SENTINELS


def is_absent(value: object) -> bool:
    """Return whether ``value`` is None or an SDK's "not given" sentinel."""
    return value is None or is_sentinel(value)


def encode(value: object) -> str:
    """Return ``value`` as compact JSON text.

    pydantic models and dataclasses become objects without their None fields, sets
    become lists, bytes become ``<n bytes>``, sentinels and NaN become null, integers of
    more than 2,048 bits become hexadecimal text, anything else its ``type`` name.
    Cycles and values nested deeper than 64 levels are replaced by a marker.
    """
    try:
        return orjson.dumps(value, _to_plain, _OPTIONS).decode()
    except (TypeError, ValueError, RecursionError):
        # Rare: lone surrogates, integers over 64 bits, cycles and keys that orjson rejects.
        return json.dumps(_simplify(value, 0, set()), ensure_ascii=True, separators=(",", ":"))


def integer_text(value: int) -> str:
    """Return ``value`` in decimal, or in hexadecimal if it has more than 2,048 bits."""
    return str(value) if value.bit_length() <= _DECIMAL_BITS else hex(value)


def decode(text: str | bytes) -> Any:  # noqa: ANN401 - JSON has any shape
    """Return the value of JSON ``text``, or None if it is not JSON.

    Everything that the standard ``json`` module accepts is accepted, because the SDKs use it: lone
    surrogates (each becomes ``?``), NaN and infinities (null), a byte-order mark. Bytes that are not UTF-8, which no
    SDK reads, are replaced.
    """
    try:
        return orjson.loads(text)
    except ValueError:
        return _decode_leniently(text)


def well_formed(text: str) -> str:
    """Return ``text`` with ``?`` for each lone surrogate, which UTF-8 cannot encode."""
    return text.encode("utf-8", "replace").decode()


def _decode_leniently(text: str | bytes) -> Any:  # noqa: ANN401 - JSON has any shape
    # For bytes, the standard module skips the mark itself.
    given = text.removeprefix(_BYTE_ORDER_MARK) if isinstance(text, str) else text
    try:
        try:
            value = json.loads(given, parse_int=_number)
        except UnicodeDecodeError as error:
            value = json.loads(error.object.decode("utf-8", "replace"), parse_int=_number)
        return _simplify(value, 0, set())
    except (ValueError, RecursionError):
        return None


def _number(digits: str) -> float:
    # Same as orjson: an integer that is too large for a span attribute becomes a float.
    number = int(digits)
    return number if -_TWO_TO_63 <= number < 2 * _TWO_TO_63 else float(digits)


def _to_plain(value: object) -> object:  # noqa: PLR0911 - one case per kind of object
    if is_sentinel(value):
        return None
    if isinstance(value, type):
        # Before the fields: a pydantic class has the same `__pydantic_fields_set__` as its instances.
        return value.__name__
    if is_mapping(value):
        return dict(value)
    fields = getattr(value, "__pydantic_fields_set__", None)
    if fields is not None:
        present: dict[str, Any] = {**value.__dict__, **(getattr(value, "__pydantic_extra__", None) or {})}
        return {key: item for key, item in present.items() if not is_absent(item)}
    if _is_set(value):
        return list(value)
    if is_list(value):
        return list(value)
    if isinstance(value, (bytes, bytearray)):
        return f"<{len(value)} bytes>"
    if isinstance(value, BaseException):
        return type(value).__name__
    return f"<{type(value).__name__}>"


def _simplify(value: object, depth: int, seen: set[int]) -> Any:  # noqa: ANN401, PLR0911 - one case per JSON type
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if value.bit_length() <= _DECIMAL_BITS else hex(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return well_formed(value)
    if depth >= _MAX_DEPTH:
        return TOO_DEEP
    if id(value) in seen:
        return CIRCULAR
    seen.add(id(value))
    try:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
        if is_mapping(value):
            return {_key(key): _simplify(item, depth + 1, seen) for key, item in value.items()}
        if _is_set(value) or is_list(value):
            return [_simplify(item, depth + 1, seen) for item in value]
        plain = _to_plain(value)
        return plain if isinstance(plain, (str, type(None))) else _simplify(plain, depth + 1, seen)
    finally:
        seen.discard(id(value))


def _key(key: object) -> str:
    if isinstance(key, str):
        return well_formed(key)
    if type(key) is int:
        return integer_text(key)
    return str(key) if isinstance(key, (int, float, bool, type(None))) else _UNREADABLE
