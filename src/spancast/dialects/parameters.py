"""Request parameters to attributes, by a table of each dialect; one pass over the body.

How a dialect uses it: ``PARAMETERS`` maps a wire name to a ``Row`` (canonical name, reader),
``skip`` names what is read elsewhere (messages, tools, model, trace keys)::

    PARAMETERS = {"temperature": Row(semconv.REQUEST_TEMPERATURE, decimal), ...}
    attributes = read_parameters(body, PARAMETERS, SKIP)

Everything else is kept as ``spancast.request.<wire name>``. What of it may be recorded where content is not
captured, ``model/privacy.py`` knows.
Must never: record a credential, raise for what a caller passed, or put a value of the
wrong type under a conventional name.
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
"""Reads one wire value: None where its type is wrong, ``[]`` where it is right but says nothing."""


class Row(NamedTuple):
    """One known parameter: the attribute it becomes and the reader of its type."""

    name: str
    read: Reader


_INT64: Final = 2**63
_PLAIN: Final = frozenset({str, bool, int, float, list, dict})
"""What most values are: no need to look further at one of these."""


def read_parameters(body: Mapping[str, Any], table: Mapping[str, Row], skip: frozenset[str]) -> Attributes:
    """Return the parameters of ``body`` by canonical name, the unknown ones under ``spancast.request.``.

    A known parameter of the wrong type becomes text under ``spancast.request.``.
    """
    found: Attributes = {}
    for wire_name, value in body.items():
        if value is None or wire_name in skip or (type(value) not in _PLAIN and json_codec.is_sentinel(value)):
            continue
        row = table.get(wire_name)
        name = row.name if row is not None else f"{semconv.REQUEST}{wire_name}"
        if row is None:
            if str(wire_name).lower() not in SECRETS:
                found[name] = attribute_value(value)
            continue
        kept = row.read(value)
        if kept is None:
            found[f"{semconv.REQUEST}{wire_name}"] = json_attribute(value)
        elif kept != []:
            found[name] = kept
    return found


class Range(NamedTuple):
    """What numbers an API documents for a parameter, both ends included; ``most`` None has no upper end."""

    least: float
    most: float | None = None


def out_of_range(body: Mapping[str, Any], ranges: Mapping[str, Range]) -> list[str]:
    """Return a sentence for each number of ``body`` outside its documented range; the request is sent as it is."""
    validation_errors: list[str] = []
    for wire_name, value in body.items():
        allowed_range = ranges.get(wire_name)
        if allowed_range is None or isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        least, most = allowed_range
        if not value >= least or (most is not None and value > most):
            allowed = f"{least} or more is" if most is None else f"{least} to {most} is"
            validation_errors.append(
                f"{wire_name}: {type(value).__name__} {value} given, {allowed} allowed; sent as it is"
            )
    return validation_errors


def read_fields(
    answer: Mapping[str, Any], table: Mapping[str, Row], skip: frozenset[str], *, nested: bool = False
) -> Attributes:
    """Return the scalar fields of an answer, the unknown ones under ``spancast.response.``.

    Unknown nested fields are kept as JSON text if ``nested``. An SDK's own fields, which begin with an
    underscore, are left out.
    """
    found: Attributes = {}
    for wire_name, value in answer.items():
        if value is None or wire_name in skip:
            continue
        row = table.get(wire_name)
        if row is not None:
            kept = row.read(value)
            if kept is not None and kept != []:
                found[row.name] = kept
        elif isinstance(value, (str, bool, int, float)):
            if not str(wire_name).startswith("_"):
                found[f"{semconv.RESPONSE}{wire_name}"] = attribute_value(value)
        elif nested and _is_nested(value) and str(wire_name).lower() not in SECRETS:
            found[f"{semconv.RESPONSE}{wire_name}"] = attribute_value(value)
    return found


def _is_nested(value: object) -> bool:
    return json_codec.is_mapping(value) or json_codec.is_list(value) or hasattr(value, "__pydantic_fields_set__")


def attribute_value(value: object) -> AttributeValue:
    """Return ``value`` as an attribute: scalars and lists of strings typed, the rest as JSON text."""
    if isinstance(value, (str, bool)):
        return value
    if isinstance(value, int):
        return value if -_INT64 <= value < _INT64 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return texts(accessors.items(value)) or json_attribute(value)


def json_attribute(value: object) -> str:
    """Return ``value`` as text: a string as it is, the rest as JSON without credentials and nulls."""
    return value if isinstance(value, str) else to_json_string(value)


def text(value: object) -> str | None:
    """Read a string."""
    return value if isinstance(value, str) else None


def texts(value: object) -> list[str] | None:
    """Read a string or a list of strings as a list of strings."""
    if isinstance(value, str):
        return [value]
    listed = accessors.items(value)
    return list(listed) if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in listed) else None


def whole(value: object) -> int | None:
    """Read a whole number that fits an attribute (64 bits)."""
    number = accessors.count(value)
    return number if number is not None and -_INT64 <= number < _INT64 else None


def decimal(value: object) -> float | None:
    """Read a finite number as float: the conventions want doubles where callers write ``1``."""
    if type(value) is float:
        return value if math.isfinite(value) else None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            return None
        return number if math.isfinite(number) else None
    return None


def true_flag(value: object) -> AttributeValue | None:
    """Read a flag that is written only when it is set (``gen_ai.request.stream``)."""
    if isinstance(value, bool):
        return value or []
    return None


def tier(value: object) -> AttributeValue | None:
    """Read ``service_tier``; the OpenAI refinement leaves ``auto`` out."""
    if isinstance(value, str):
        return [] if value == "auto" else value
    return None
