"""Conversion of request parameters and response fields to attributes, by a table per dialect.

``PARAMETERS`` maps a wire name to a ``Row`` (canonical name, reader). ``skip`` has the names
that are read elsewhere (messages, tools, model, trace keys)::

    PARAMETERS = {"temperature": Row(semconv.REQUEST_TEMPERATURE, number), ...}
    attributes = read_parameters(body, PARAMETERS, SKIP)

Other parameters are kept as ``spancast.request.<wire name>``; ``model/privacy.py`` decides which of
them are recorded without content.

Invariants: no credential is recorded, no body raises, a value of the wrong type has no
conventional name (``test_parameters.py``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from spancast.dialects import accessors
from spancast.dialects.sanitize import SECRETS, to_json_string
from spancast.model import json_codec, semconv
from spancast.model.call import Attributes, AttributeValue

Reader: TypeAlias = Callable[[object], "AttributeValue | None"]
"""Reads one wire value: None if its type is wrong, ``[]`` if it is valid but not recorded."""


class Row(NamedTuple):
    """A known parameter or field: its attribute name and reader."""

    name: str
    read: Reader


_INT64: Final = 2**63
_COMMON_TYPES: Final = frozenset({str, bool, int, float, list, dict})
"""The most common types, which are never sentinels."""


def read_parameters(body: Mapping[str, Any], table: Mapping[str, Row], skip: frozenset[str]) -> Attributes:
    """Return the parameters of ``body`` by canonical name, the unknown ones under ``spancast.request.``.

    A known parameter of the wrong type becomes text under ``spancast.request.``.
    """
    attributes: Attributes = {}
    for wire_name, value in body.items():
        if value is None or wire_name in skip or (type(value) not in _COMMON_TYPES and json_codec.is_sentinel(value)):
            continue
        row = table.get(wire_name)
        name = row.name if row is not None else f"{semconv.REQUEST}{wire_name}"
        if row is None:
            if str(wire_name).lower() not in SECRETS:
                attributes[name] = attribute_value(value)
            continue
        converted = row.read(value)
        if converted is None:
            attributes[f"{semconv.REQUEST}{wire_name}"] = json_attribute(value)
        elif converted != []:
            attributes[name] = converted
    return attributes


class Range(NamedTuple):
    """The documented range of a parameter, both ends included; ``maximum`` is None without an upper limit."""

    minimum: float
    maximum: float | None = None


def out_of_range(body: Mapping[str, Any], ranges: Mapping[str, Range]) -> list[str]:
    """Return an error for each number of ``body`` outside its documented range; the request is sent unchanged."""
    validation_errors: list[str] = []
    for wire_name, value in body.items():
        allowed_range = ranges.get(wire_name)
        if allowed_range is None or isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        minimum, maximum = allowed_range
        if not value >= minimum or (maximum is not None and value > maximum):
            allowed = f"{minimum} or more is" if maximum is None else f"{minimum} to {maximum} is"
            validation_errors.append(
                f"{wire_name}: {type(value).__name__} {value} given, {allowed} allowed; sent as it is"
            )
    return validation_errors


def read_fields(
    response: Mapping[str, Any], table: Mapping[str, Row], skip: frozenset[str], *, nested: bool = False
) -> Attributes:
    """Return the scalar fields of a response, the unknown ones under ``spancast.response.``.

    Unknown nested fields are kept as JSON text if ``nested``. An SDK's private fields, which start with an
    underscore, are left out.
    """
    attributes: Attributes = {}
    for wire_name, value in response.items():
        if value is None or value == "" or wire_name in skip:
            continue
        row = table.get(wire_name)
        if row is not None:
            converted = row.read(value)
            if converted is not None and converted != []:
                attributes[row.name] = converted
        elif isinstance(value, (str, bool, int, float)):
            if not str(wire_name).startswith("_"):
                attributes[f"{semconv.RESPONSE}{wire_name}"] = attribute_value(value)
        elif nested and _is_nested(value) and str(wire_name).lower() not in SECRETS:
            attributes[f"{semconv.RESPONSE}{wire_name}"] = attribute_value(value)
    return attributes


def _is_nested(value: object) -> bool:
    return json_codec.is_mapping(value) or json_codec.is_list(value) or hasattr(value, "__pydantic_fields_set__")


def attribute_value(value: object) -> AttributeValue:
    """Return ``value`` as an attribute value: scalars and lists of strings unchanged, the rest as JSON text."""
    if isinstance(value, (str, bool)):
        return value
    if isinstance(value, int):
        return value if -_INT64 <= value < _INT64 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return string_list(accessors.items(value)) or json_attribute(value)


def json_attribute(value: object) -> str:
    """Return a string unchanged, any other value as JSON text without credentials and nulls."""
    return value if isinstance(value, str) else to_json_string(value)


def text(value: object) -> str | None:
    """Read a string."""
    return value if isinstance(value, str) else None


def string_list(value: object) -> list[str] | None:
    """Read a string or a list of strings as a list of strings."""
    if isinstance(value, str):
        return [value]
    values = accessors.items(value)
    return list(values) if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in values) else None


def integer(value: object) -> int | None:
    """Read an integral number that fits into 64 bits."""
    converted = accessors.count(value)
    return converted if converted is not None and -_INT64 <= converted < _INT64 else None


def number(value: object) -> float | None:
    """Read a finite number as float: the conventions require a double even for ``1``."""
    if type(value) is float:
        return value if math.isfinite(value) else None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            converted = float(value)
        except OverflowError:
            return None
        return converted if math.isfinite(converted) else None
    return None


def true_flag(value: object) -> AttributeValue | None:
    """Read a flag that is recorded only if true (``gen_ai.request.stream``)."""
    if isinstance(value, bool):
        return value or []
    return None


def service_tier(value: object) -> AttributeValue | None:
    """Read ``service_tier``; by the OpenAI conventions, ``auto`` is not recorded."""
    if isinstance(value, str):
        return [] if value == "auto" else value
    return None
