"""What is wrong with a configuration, in words: where, what was given, what is allowed, what was meant.

Must never: quote a value, but for numbers where a number belongs and misspelt names.
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

from spancast.config.field_schema import FieldSchema, shape_of
from spancast.errors import ConfigError

Path: TypeAlias = tuple[Any, ...]
"""Keys and indices that lead to a value."""

_SHAPED: Final = frozenset(
    {
        "bool_parsing", "bool_type", "float_parsing", "float_type", "finite_number", "int_parsing", "int_type",
        "int_from_float", "greater_than", "greater_than_equal", "less_than", "less_than_equal", "string_type",
        "string_too_short", "too_short", "literal_error", "list_type", "tuple_type", "model_type",
        "model_attributes_type", "path_type",
    }
)  # fmt: skip
"""Errors whose field's shape says better what is allowed than pydantic does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldError:
    """One thing that is wrong; ``origin`` is the file or variable it stands in, nothing for a keyword."""

    path: Path
    text: str
    origin: str = ""

    def __str__(self) -> str:
        behind = f" [{self.origin}]" if self.origin else ""
        return f"{path_text(self.path)}: {self.text}{behind}"


def path_text(path: Path) -> str:
    """Return ``path`` as users write it: ``destinations.a.mask[0].pattern``."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in path]
    return "".join(parts).removeprefix(".")


def config_error(mistakes: Sequence[FieldError]) -> ConfigError:
    """Return the error that tells all ``mistakes``, each on a line of its own."""
    if len(mistakes) == 1:
        return ConfigError(str(mistakes[0]))
    lines = "".join(f"\n  {mistake}" for mistake in mistakes)
    return ConfigError(f"{len(mistakes)} mistakes in the configuration:{lines}")


def aliases_of(field: str, info: FieldInfo) -> list[str]:
    """Return every name ``field`` may be given by, its own first."""
    return [str(name) for name in getattr(info.validation_alias, "choices", [])] or [field]


def aliases(model: type[BaseModel]) -> dict[str, str]:
    """Return the field's name for every name a field of ``model`` may be given by."""
    return {alias: name for name, info in model.model_fields.items() for alias in aliases_of(name, info)}


def suggestion(given: object, allowed: Iterable[str], *, cutoff: float = 0.6) -> str:
    """Return the one of ``allowed`` that ``given`` is nearest to, nothing where none is near."""
    near = difflib.get_close_matches(to_snake(str(given)), list(allowed), 1, cutoff)
    return near[0] if near else ""


def unknown(what: str, given: object, allowed: Iterable[str]) -> str:
    """Return the sentence for a name ``given`` that is none of ``allowed``."""
    names = list(allowed)
    meant = suggestion(given, names)
    asked = f"; did you mean `{meant}`?" if meant else "."
    return f"unknown {what} `{given}`{asked} Allowed are {', '.join(names)}"


def field_errors(error: ValidationError, model: type[BaseModel], given: Mapping[str, Any]) -> list[FieldError]:
    """Return what ``error`` says about ``given``, a configuration of ``model``; paths begin below it."""
    return [_mistake(one, model, given) for one in error.errors(include_url=False)]


def _mistake(error: ErrorDetails, model: type[BaseModel], given: Mapping[str, Any]) -> FieldError:
    path = tuple(part for part in error["loc"] if part != "[key]")
    if error["type"] == "extra_forbidden":
        return FieldError(path=path, text=_extra(path, model, given))
    shape = shape_of(model, (aliases(model).get(str(path[0]), path[0]), *path[1:])) if path else FieldSchema({})
    if error["type"] == "missing":
        return FieldError(path=path, text=f"is missing; it must be {shape.expected or 'a value'}")
    return FieldError(path=path, text=_told(error, shape) + _given(error["input"], shape))


def _extra(path: Path, model: type[BaseModel], given: Mapping[str, Any]) -> str:
    beside: Any = given
    for part in path[:-1]:
        beside = beside[part]
    parent = path[:-1]
    known = aliases(model) if not parent else {}
    allowed = list(dict.fromkeys(known.values())) or list(shape_of(model, parent).names)
    name = str(path[-1])
    field = known.get(name, to_snake(name))
    baseline = next((one for one in beside if one != name and known.get(one, to_snake(str(one))) == field), None)
    if field in allowed and baseline is not None:
        return f"is given twice, as `{baseline}` too"
    return unknown("field", name, allowed)


def _told(error: ErrorDetails, shape: FieldSchema) -> str:
    kind = error["type"]
    if kind == "value_error":
        told = str(error.get("ctx", {}).get("error", "is wrong"))
    elif kind == "spancast":
        told = error["msg"]
    elif kind in _SHAPED and shape.expected:
        told = f"must be {shape.expected}"
    else:
        told = error["msg"].replace("Input should be", "must be")
        told = told[:1].lower() + told[1:]
    value: object = error["input"]
    if kind == "string_type" and isinstance(value, (int, float)):
        told += "; put it in quotes"
    meant = suggestion(value, shape.choices) if isinstance(value, str) else ""
    return f"{told}; did you mean `{meant}`?" if meant else told


def _given(value: object, shape: FieldSchema) -> str:
    if value is None:
        return ""
    kind = type(value).__name__
    shown = f" {value}" if shape.is_number and isinstance(value, (bool, int, float)) else ""
    return f" (given: {kind}{shown})"
