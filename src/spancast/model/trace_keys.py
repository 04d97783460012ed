"""The trace keys a caller passes, read, checked and merged key by key.

Rules: OpenRouter's API reference (``trace``, ``session_id``, ``user``, ``metadata``) and
design §3. A wrong key never breaks the call: it is clipped or left out, and the reason is
kept in ``validation_errors``; strict callers turn those into a ``TraceKeyError``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from spancast.model import json_codec, semconv
from spancast.model.call import Attributes, AttributeValue
from spancast.model.json_data import clean, json_data, json_string, key_text, unknown

SESSION_ID_LIMIT: Final = 256
USER_LIMIT: Final = 128
NAME_LIMIT: Final = 1_024
METADATA_PAIRS: Final = 16
METADATA_KEY_LIMIT: Final = 64
METADATA_VALUE_LIMIT: Final = 512
VALUE_LIMIT: Final = 65_536
"""Characters of one custom value; a longer one is cut and noted."""
MAX_DEPTH: Final = 4
"""How deep nested objects become dotted keys; what lies deeper is JSON text."""
MAX_CUSTOM_ATTRIBUTES: Final = 48
"""Custom attributes per span, of OpenTelemetry's default limit of 128 in all; the rest share one JSON attribute."""
OVERFLOW_ATTRIBUTE: Final = "spancast.trace.metadata"

_INT64 = 2**63
NAMES: Final = frozenset(("trace_id", "trace_name", "span_name", "generation_name", "parent_span_id"))
_OF_THE_CALL = frozenset(("session_id", "user"))
_SCALARS = frozenset({str, bool, int, float})
_NO_CUSTOM: Mapping[str, Any] = {}


# Not frozen, which would cost a microsecond an object; changed by nobody all the same.
@dataclass(slots=True, kw_only=True)
class TraceKeys:
    """The keys of one call, each None where nobody gave it.

    ``custom`` holds the caller's own keys, their values as JSON data. ``enabled`` is False
    where the caller wrote ``trace={"enabled": False}``: this call is not traced at all.
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

    def over(self, other: TraceKeys) -> TraceKeys:
        """Return these keys, each missing one taken from ``other``."""
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
        """Return these keys without the named ones (and without problems already told)."""
        return replace(self, validation_errors=(), **dict.fromkeys(names))

    def attributes(self) -> Attributes:
        """Return session, user, names and custom keys by canonical attribute name."""
        named: Attributes = {}
        if self.session_id:
            named[semconv.SESSION_ID] = named[semconv.CONVERSATION_ID] = self.session_id
        if self.user:
            named[semconv.USER_ID] = self.user
        if self.trace_name:
            named[semconv.TRACE_NAME] = self.trace_name
        if self.trace_id:
            named[semconv.RAW_TRACE_ID] = self.trace_id
        if self.parent_span_id:
            named[semconv.RAW_PARENT_SPAN_ID] = self.parent_span_id
        if self.span_name:
            named[semconv.SPAN_NAME] = self.span_name
        if self.generation_name:
            named[semconv.GENERATION_NAME] = self.generation_name
        if self.custom:
            named.update(flatten(self.custom))
        return named


NO_KEYS: Final = TraceKeys()


def read(trace: object = None, *, session_id: object = None, user: object = None, metadata: object = None) -> TraceKeys:
    """Read one source of keys; whatever is wrong with them ends up in ``validation_errors``.

    What is no JSON becomes JSON data (``json_data``), a name or a session the text that it has.
    """
    validation_errors: list[str] = []
    given = _mapping("trace", trace, validation_errors)
    known: dict[str, Any] = {}
    custom: dict[str, Any] = {}
    for key, value in given.items():
        if key in NAMES:
            # Right, as nearly all are, before what looks for what is wrong.
            is_right = type(value) is str and 0 < len(value) <= NAME_LIMIT and value.isascii()
            known[key] = value if is_right else _name(f"trace.{key}", value, NAME_LIMIT, validation_errors)
        elif key not in _OF_THE_CALL and not (key == "enabled" and value is False):
            custom[key if type(key) is str else _key(key, validation_errors)] = value
    if metadata is not None:
        for key, value in _read_metadata(metadata, validation_errors).items():
            custom.setdefault(key, value)
    if not all(map(str.isascii, custom)):
        custom = {clean(key): value for key, value in custom.items()}
    given_custom = custom
    if not {*map(type, custom.values())} <= _SCALARS:
        # Copied: what the caller changes afterwards is not read.
        custom = {key: json_data(value) for key, value in custom.items() if not json_codec.is_absent(value)}
    validation_errors += _value_problems(given_custom, custom)
    session_id, user = _first(session_id, given.get("session_id")), _first(user, given.get("user"))
    return TraceKeys(
        **known,
        session_id=None if session_id is None else _name("session_id", session_id, SESSION_ID_LIMIT, validation_errors),
        user=None if user is None else _name("user", user, USER_LIMIT, validation_errors),
        custom=custom,
        enabled=given.get("enabled") is not False,
        validation_errors=tuple(validation_errors),
    )


def flatten(custom: Mapping[str, Any]) -> Attributes:
    """Return ``trace.metadata.<key>`` attributes; nested objects dotted, the rest as JSON text."""
    flat: Attributes = {}
    _flatten(custom, semconv.TRACE_METADATA, MAX_DEPTH, flat)
    if len(flat) <= MAX_CUSTOM_ATTRIBUTES:
        return flat
    kept = dict(list(flat.items())[: MAX_CUSTOM_ATTRIBUTES - 1])
    start = len(semconv.TRACE_METADATA)
    kept[OVERFLOW_ATTRIBUTE] = json_codec.encode({key[start:]: value for key, value in flat.items() if key not in kept})
    return kept


def attribute_value(value: object) -> AttributeValue:
    """Return JSON data as an attribute: scalars and homogeneous lists as they are, else JSON text."""
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
        is_plain = kinds in ({str}, {bool}) or (
            kinds in ({int}, {float}) and all(attribute_value(item) == item for item in value)
        )
        if is_plain:
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


def _mapping(name: str, value: object, validation_errors: list[str]) -> Mapping[str, Any]:
    if json_codec.is_absent(value):
        return _NO_CUSTOM
    if json_codec.is_mapping(value):
        return value
    # openrouter's TraceConfig and other models that hold the keys as fields
    if hasattr(value, "__pydantic_fields_set__"):
        held: dict[str, Any] = {**value.__dict__, **(getattr(value, "__pydantic_extra__", None) or {})}
        return {key: item for key, item in held.items() if not json_codec.is_absent(item)}
    validation_errors.append(f"{name}: {type(value).__name__} given, an object of keys is allowed; ignored")
    return _NO_CUSTOM


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
        if len(str(key)) > METADATA_KEY_LIMIT or (isinstance(value, str) and len(value) > METADATA_VALUE_LIMIT):
            validation_errors.append(
                f"metadata: a pair is longer than the {METADATA_KEY_LIMIT}/{METADATA_VALUE_LIMIT} characters allowed"
            )
            break
    return {_key(key, validation_errors): value for key, value in pairs.items()}


def _value_problems(given: Mapping[str, Any], custom: Mapping[str, Any]) -> list[str]:
    found: list[str] = []
    for key, value in given.items():
        if isinstance(value, float) and not math.isfinite(value):
            found.append(f"trace.{key}: {value} given, a finite number is allowed; written as text")
        elif isinstance(value, str) and len(value) > VALUE_LIMIT:
            found.append(f"trace.{key}: {len(value)} characters, at most {VALUE_LIMIT} are kept; cut")
        elif type(value) not in _SCALARS and custom.get(key) == unknown(value):
            found.append(f"trace.{key}: {type(value).__name__} given, a JSON value is allowed; written as its type")
    return found


def _first(value: object, other: object) -> object:
    if type(value) is str or not json_codec.is_absent(value):
        return value
    return None if json_codec.is_absent(other) else other
