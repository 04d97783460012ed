"""Trace keys: parsing, validation and merging.

Rules: OpenRouter's API reference (``trace``, ``session_id``, ``user``, ``metadata``). An
invalid key never fails the call: it is truncated or left out, and the reason is added to
``validation_errors``. With ``strict``, the caller raises these as a ``TraceKeyError``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast

from spancast.diagnostics import attempt
from spancast.model import json_codec, semconv
from spancast.model.call import Attributes, AttributeValue
from spancast.model.json_data import clean, json_data, json_string, key_text, unknown
from spancast.model.key_spelling import nearest_key

SESSION_ID_LIMIT: Final = 256
USER_LIMIT: Final = 128
NAME_LIMIT: Final = 1_024
METADATA_PAIRS: Final = 16
METADATA_KEY_LIMIT: Final = 64
METADATA_VALUE_LIMIT: Final = 512
VALUE_LIMIT: Final = 65_536
"""Characters of one custom value; a longer one is truncated and reported."""
MAX_DEPTH: Final = 4
"""Levels of nested objects that become dotted keys; deeper ones become JSON text."""
MAX_CUSTOM_ATTRIBUTES: Final = 48
"""Custom attributes per span, of OpenTelemetry's default limit of 128 in all; the rest share one JSON attribute."""
OVERFLOW_ATTRIBUTE: Final = "spancast.trace.metadata"

_INT64 = 2**63
NAMES: Final = frozenset(("trace_id", "trace_name", "span_name", "generation_name", "parent_span_id"))
_TOP_LEVEL = frozenset(("session_id", "user"))
_SCALARS = frozenset({str, bool, int, float})
_NO_CUSTOM: Mapping[str, Any] = {}


# Not frozen: that takes a microsecond longer per object. Not modified after creation.
@dataclass(slots=True, kw_only=True)
class TraceKeys:
    """The keys of one call; a key that is not given is None.

    ``custom`` holds the caller's own keys, their values as JSON data. ``enabled`` is False
    if the caller gave ``trace={"enabled": False}``: this call is not traced.
    """

    trace_id: str | None = None
    trace_name: str | None = None
    span_name: str | None = None
    generation_name: str | None = None
    parent_span_id: str | None = None
    session_id: str | None = None
    user: str | None = None
    custom: Mapping[str, Any] = field(default_factory=lambda: _NO_CUSTOM)
    enabled: bool = True
    validation_errors: tuple[str, ...] = ()

    def merged_over(self, other: TraceKeys) -> TraceKeys:
        """Return these keys, with missing ones taken from ``other``."""
        if other is NO_KEYS:
            return self
        if self is NO_KEYS:
            return other
        return TraceKeys(
            trace_id=self.trace_id or other.trace_id,
            trace_name=self.trace_name or other.trace_name,
            span_name=self.span_name or other.span_name,
            generation_name=self.generation_name or other.generation_name,
            parent_span_id=self.parent_span_id or other.parent_span_id,
            session_id=self.session_id or other.session_id,
            user=self.user or other.user,
            custom={**other.custom, **self.custom} if other.custom else self.custom,
            enabled=self.enabled and other.enabled,
            validation_errors=self.validation_errors + other.validation_errors,
        )

    def without(self, *names: str) -> TraceKeys:
        """Return these keys without ``names`` and without the validation errors, which are already reported."""
        return replace(self, validation_errors=(), **dict.fromkeys(names))

    def attributes(self) -> Attributes:
        """Return session, user, names and custom keys by canonical attribute name."""
        attributes: Attributes = {}
        if self.session_id:
            attributes[semconv.SESSION_ID] = attributes[semconv.CONVERSATION_ID] = self.session_id
        if self.user:
            attributes[semconv.USER_ID] = self.user
        if self.trace_name:
            attributes[semconv.TRACE_NAME] = self.trace_name
        if self.trace_id:
            attributes[semconv.RAW_TRACE_ID] = self.trace_id
        if self.parent_span_id:
            attributes[semconv.RAW_PARENT_SPAN_ID] = self.parent_span_id
        if self.span_name:
            attributes[semconv.SPAN_NAME] = self.span_name
        if self.generation_name:
            attributes[semconv.GENERATION_NAME] = self.generation_name
        if self.custom:
            attributes.update(flatten(self.custom))
        return attributes


NO_KEYS: Final = TraceKeys()


def read(trace: object = None, *, session_id: object = None, user: object = None, metadata: object = None) -> TraceKeys:
    """Parse one source of keys; errors in them are added to ``validation_errors``.

    A value that is not JSON is converted by ``json_data``, a name or a session by ``json_string``.
    """
    validation_errors: list[str] = []
    given = _mapping("trace", trace, validation_errors)
    known: dict[str, Any] = {}
    custom: dict[str, Any] = {}
    for key, value in given.items():
        if not isinstance(key, str):
            custom[_key(key, validation_errors)] = value
        elif key in NAMES:
            # Fast path: almost all names are valid.
            is_valid = type(value) is str and 0 < len(value) <= NAME_LIMIT and value.isascii()
            known[key] = value if is_valid else _name(f"trace.{key}", value, NAME_LIMIT, validation_errors)
        elif key not in _TOP_LEVEL and not (key == "enabled" and value is False):
            custom[key] = value
            if meant := nearest_key(key):
                validation_errors.append(
                    f"trace.{key}: unknown key (did you mean `{meant}`?); recorded as a custom one"
                )
    if metadata is not None:
        for key, value in _read_metadata(metadata, validation_errors).items():
            custom.setdefault(key, value)
    if custom:
        custom = _read_custom(custom, validation_errors)
    session_id, user = _first(session_id, given.get("session_id")), _first(user, given.get("user"))
    return TraceKeys(
        **known,
        session_id=None if session_id is None else _name("session_id", session_id, SESSION_ID_LIMIT, validation_errors),
        user=None if user is None else _name("user", user, USER_LIMIT, validation_errors),
        custom=custom,
        enabled=given.get("enabled") is not False,
        validation_errors=tuple(validation_errors),
    )


def _read_custom(given: dict[str, Any], validation_errors: list[str]) -> dict[str, Any]:
    if not all(map(str.isascii, given)):
        given = {clean(key): value for key, value in given.items()}
    custom = given
    if not {*map(type, given.values())} <= _SCALARS:
        # Copied, so that later changes by the caller have no effect.
        custom = {key: json_data(value) for key, value in given.items() if not json_codec.is_absent(value)}
    validation_errors += _value_errors(given, custom)
    return custom


def refusal(problem: str) -> str:
    """Return a validation error without what is done about it ("; ignored"), if it is raised instead."""
    return problem.rpartition("; ")[0] or problem


def flatten(custom: Mapping[str, Any]) -> Attributes:
    """Return ``trace.metadata.<key>`` attributes; nested objects become dotted names, the rest JSON text."""
    flat: Attributes = {}
    _flatten(custom, semconv.TRACE_METADATA, MAX_DEPTH, flat)
    if len(flat) <= MAX_CUSTOM_ATTRIBUTES:
        return flat
    kept = dict(list(flat.items())[: MAX_CUSTOM_ATTRIBUTES - 1])
    start = len(semconv.TRACE_METADATA)
    kept[OVERFLOW_ATTRIBUTE] = json_codec.encode({key[start:]: value for key, value in flat.items() if key not in kept})
    return kept


def attribute_value(value: object) -> AttributeValue:
    """Return JSON data as an attribute value: scalars and homogeneous lists unchanged, else JSON text."""
    if isinstance(value, str):
        return clean(value)[:VALUE_LIMIT]
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if -_INT64 <= value < _INT64 else json_data(value)[:VALUE_LIMIT]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    if json_codec.is_list(value) and value and len(value) <= METADATA_VALUE_LIMIT:
        kinds: set[type] = {type(item) for item in value}
        is_homogeneous = kinds in ({str}, {bool}) or (
            kinds in ({int}, {float}) and all(attribute_value(item) == item for item in value)
        )
        if is_homogeneous:
            return list(value)
    return json_codec.encode(value)[:VALUE_LIMIT]


def _flatten(value: Mapping[str, Any], prefix: str, depth: int, into: Attributes) -> None:
    for key, item in value.items():
        name = f"{prefix}{key!s}"
        if type(item) in _SCALARS:
            into[name] = attribute_value(item)
        elif json_codec.is_mapping(item) and item and depth > 1:
            _flatten(item, name + ".", depth - 1, into)
        elif not json_codec.is_absent(item):
            into[name] = attribute_value(item)


def _mapping(name: str, value: object, validation_errors: list[str]) -> Mapping[Any, Any]:
    if type(value) is dict:
        return cast("dict[Any, Any]", value).copy()
    if json_codec.is_absent(value):
        return _NO_CUSTOM
    pairs = attempt(_pairs, value)
    if pairs is not None:
        return pairs
    validation_errors.append(f"{name}: {type(value).__name__} given, an object of keys is allowed; ignored")
    return _NO_CUSTOM


def _pairs(value: object) -> Mapping[Any, Any] | None:
    if json_codec.is_mapping(value):
        return dict(value)
    # openrouter's TraceConfig and other pydantic models with the keys as fields
    if hasattr(value, "__pydantic_fields_set__"):
        fields_set: dict[str, Any] = {**value.__dict__, **(getattr(value, "__pydantic_extra__", None) or {})}
        return {key: item for key, item in fields_set.items() if not json_codec.is_absent(item)}
    return None


def _name(name: str, value: object, limit: int, validation_errors: list[str]) -> str | None:
    if value is None or json_codec.is_sentinel(value):
        return None
    text = value if type(value) is str and value.isascii() else json_string(value)
    if text is None:
        validation_errors.append(
            f"{name}: {type(value).__name__} given, a string of 1 to {limit} characters is allowed; ignored"
        )
        return None
    if not text:
        validation_errors.append(f"{name}: empty, a string of 1 to {limit} characters is allowed; ignored")
        return None
    if len(text) > limit:
        validation_errors.append(f"{name}: {len(text)} characters, at most {limit} are allowed; cut")
        return text[:limit]
    return text


def _key(key: object, validation_errors: list[str]) -> str:
    if isinstance(key, str):
        return key
    validation_errors.append(f"trace: a key of type {type(key).__name__} given, strings are allowed; written as text")
    return key_text(key)


def _read_metadata(metadata: object, validation_errors: list[str]) -> Mapping[str, Any]:
    if metadata is None:
        return _NO_CUSTOM
    pairs = _mapping("metadata", metadata, validation_errors)
    if len(pairs) > METADATA_PAIRS:
        validation_errors.append(f"metadata: {len(pairs)} pairs, at most {METADATA_PAIRS} are allowed")
    for key, value in pairs.items():
        name = key if isinstance(key, str) else key_text(key)
        if len(name) > METADATA_KEY_LIMIT or (isinstance(value, str) and len(value) > METADATA_VALUE_LIMIT):
            validation_errors.append(
                f"metadata: a pair is longer than the {METADATA_KEY_LIMIT}/{METADATA_VALUE_LIMIT} characters allowed"
            )
            break
    return {_key(key, validation_errors): value for key, value in pairs.items()}


def _value_errors(given: Mapping[str, Any], custom: Mapping[str, Any]) -> list[str]:
    errors: list[str] = []
    for key, value in given.items():
        if isinstance(value, float) and not math.isfinite(value):
            errors.append(f"trace.{key}: {value} given, a finite number is allowed; written as text")
        elif isinstance(value, str) and len(value) > VALUE_LIMIT:
            errors.append(f"trace.{key}: {len(value)} characters, at most {VALUE_LIMIT} are kept; cut")
        elif type(value) not in _SCALARS and custom.get(key) == unknown(value):
            errors.append(f"trace.{key}: {type(value).__name__} given, a JSON value is allowed; written as its type")
    return errors


def _first(value: object, other: object) -> object:
    if type(value) is str or not json_codec.is_absent(value):
        return value
    return None if json_codec.is_absent(other) else other
