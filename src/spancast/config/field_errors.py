"""Configuration errors: the path of the field, the allowed values, the type given and a suggestion.

A message quotes only misspelled names and the numbers given for number fields: any other value may be a secret.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from pydantic import BaseModel, ValidationError
from pydantic.alias_generators import to_snake
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from spancast.config.field_schema import FieldSchema, schema_at
from spancast.errors import ConfigError

Path: TypeAlias = tuple[Any, ...]
"""Keys and indices that lead to a value."""

_DESCRIBED_BY_SCHEMA: Final = frozenset(
    {
        "bool_parsing", "bool_type", "float_parsing", "float_type", "finite_number", "int_parsing", "int_type",
        "int_from_float", "greater_than", "greater_than_equal", "less_than", "less_than_equal", "string_type",
        "string_too_short", "too_short", "literal_error", "list_type", "tuple_type", "model_type",
        "model_attributes_type", "path_type",
    }
)  # fmt: skip
"""Pydantic error types that are replaced by a description of the field's schema, which is clearer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldError:
    """One error; ``origin`` is the file or variable that contains it, empty for a keyword argument."""

    path: Path
    text: str
    origin: str = ""

    def __str__(self) -> str:
        suffix = f" [{self.origin}]" if self.origin else ""
        return f"{path_text(self.path)}: {self.text}{suffix}"


def path_text(path: Path) -> str:
    """Return ``path`` as users write it: ``destinations.a.mask[0].pattern``."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in path]
    return "".join(parts).removeprefix(".")


def config_error(errors: Sequence[FieldError]) -> ConfigError:
    """Return one ``ConfigError`` that lists all ``errors``, one per line."""
    if len(errors) == 1:
        return ConfigError(str(errors[0]))
    lines = "".join(f"\n  {error}" for error in errors)
    return ConfigError(f"{len(errors)} errors in the configuration:{lines}")


def aliases_of(field: str, info: FieldInfo) -> list[str]:
    """Return every name that ``field`` accepts, its own first."""
    return [str(name) for name in getattr(info.validation_alias, "choices", [])] or [field]


def aliases(model: type[BaseModel]) -> dict[str, str]:
    """Return the field name for every name that a field of ``model`` accepts."""
    return {alias: name for name, info in model.model_fields.items() for alias in aliases_of(name, info)}


def suggestion(given: object, allowed: Iterable[str], *, cutoff: float = 0.6) -> str:
    """Return the one of ``allowed`` that is most similar to ``given``, or an empty string if none is."""
    matches = difflib.get_close_matches(to_snake(str(given)), list(allowed), 1, cutoff)
    return matches[0] if matches else ""


def unknown(what: str, given: object, allowed: Iterable[str]) -> str:
    """Return the error text for a name ``given`` that is not in ``allowed``."""
    names = list(allowed)
    suggested = suggestion(given, names)
    hint = f"; did you mean `{suggested}`?" if suggested else "."
    return f"unknown {what} `{given}`{hint} Allowed are {', '.join(names)}"


def field_errors(error: ValidationError, model: type[BaseModel], given: Mapping[str, Any]) -> list[FieldError]:
    """Convert pydantic's ``error`` about ``given``, a configuration of ``model``; paths are relative to ``model``."""
    return [_field_error(one, model, given) for one in error.errors(include_url=False)]


def _field_error(error: ErrorDetails, model: type[BaseModel], given: Mapping[str, Any]) -> FieldError:
    path = tuple(part for part in error["loc"] if part != "[key]")
    if error["type"] == "extra_forbidden":
        return FieldError(path=path, text=_extra_field_text(path, model, given))
    schema = schema_at(model, (aliases(model).get(str(path[0]), path[0]), *path[1:])) if path else FieldSchema({})
    if error["type"] == "missing":
        return FieldError(path=path, text=f"is missing; it must be {schema.description or 'a value'}")
    return FieldError(path=path, text=_message(error, schema) + _type_given(error["input"], schema))


def _extra_field_text(path: Path, model: type[BaseModel], given: Mapping[str, Any]) -> str:
    siblings: Any = given
    for part in path[:-1]:
        siblings = siblings[part]
    parent = path[:-1]
    known = aliases(model) if not parent else {}
    allowed = list(dict.fromkeys(known.values())) or list(schema_at(model, parent).names)
    name = str(path[-1])
    field = known.get(name, to_snake(name))
    other = next((one for one in siblings if one != name and known.get(one, to_snake(str(one))) == field), None)
    if field in allowed and other is not None:
        return f"is given twice, as `{other}` too"
    return unknown("field", name, allowed)


def _message(error: ErrorDetails, schema: FieldSchema) -> str:
    kind = error["type"]
    if kind == "value_error":
        message = str(error.get("ctx", {}).get("error", "is wrong"))
    elif kind == "spancast":
        message = error["msg"]
    elif kind in _DESCRIBED_BY_SCHEMA and schema.description:
        message = f"must be {schema.description}"
    else:
        message = error["msg"].replace("Input should be", "must be")
        message = message[:1].lower() + message[1:]
    value: object = error["input"]
    if kind == "string_type" and isinstance(value, (int, float)):
        message += "; put it in quotes"
    suggested = suggestion(value, schema.choices) if isinstance(value, str) else ""
    return f"{message}; did you mean `{suggested}`?" if suggested else message


def _type_given(value: object, schema: FieldSchema) -> str:
    if value is None:
        return ""
    kind = type(value).__name__
    shown = f" {value}" if schema.is_number and isinstance(value, (bool, int, float)) else ""
    return f" (given: {kind}{shown})"
