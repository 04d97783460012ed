"""Descriptions of the values that a field accepts, from the JSON Schema of its model."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from pydantic import BaseModel
from pydantic.alias_generators import to_snake

Schema = Mapping[str, Any]

_NOTHING: Final[Schema] = {}
_TYPE_NAMES: Final = {"string": "a text", "array": "a list", "object": "a mapping", "boolean": "true or false"}


@dataclass(frozen=True, slots=True)
class FieldSchema:
    """The JSON Schema of one field of the configuration."""

    schema: Schema

    @property
    def is_number(self) -> bool:
        """Return whether the field accepts only numbers, so that a given number may be quoted."""
        return self.schema.get("type") in ("number", "integer")

    @property
    def choices(self) -> Sequence[str]:
        """Return the allowed strings if the field is an enumeration."""
        constant = (self.schema["const"],) if "const" in self.schema else ()
        return [one for one in self.schema.get("enum", constant) if isinstance(one, str)]

    @property
    def names(self) -> Sequence[str]:
        """Return the field names of a mapping."""
        return list(self.schema.get("properties", ()))

    @property
    def description(self) -> str:
        """Return a description of the allowed values that follows "must be"; empty if the schema has none."""
        schema, kind = self.schema, self.schema.get("type")
        if schema.get("format") == "password":
            return "a text (it is a secret)"
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.is_number:
            return ("a number" if kind == "number" else "a whole number") + _range(schema)
        if kind == "array" and schema.get("minItems"):
            return "a list that is not empty"
        if schema.get("examples"):
            return f"a value such as {' or '.join(f'`{one}`' for one in schema['examples'])}"
        return _TYPE_NAMES.get(str(kind), "")


def _range(schema: Schema) -> str:
    minimum, maximum, above = (schema.get(name) for name in ("minimum", "maximum", "exclusiveMinimum"))
    if minimum is not None and maximum is not None:
        return f" from {minimum:g} to {maximum:g}"
    if above is not None:
        return f" above {above:g}"
    return "" if minimum is None else f" of at least {minimum:g}"


def schema_at(model: type[BaseModel], path: Sequence[Any]) -> FieldSchema:
    """Return the schema of the field at ``path`` of ``model``."""
    root = _schema(model)
    schema: Schema = root
    for part in path:
        schema = _child(_resolve(schema, root), part)
    return FieldSchema(_resolve(schema, root))


@functools.lru_cache(maxsize=8)
def _schema(model: type[BaseModel]) -> Schema:
    return model.model_json_schema()


def _child(schema: Schema, part: object) -> Schema:
    if isinstance(part, int):
        return schema.get("items", _NOTHING)
    properties = schema.get("properties", _NOTHING)
    name = str(part)
    child: Any = properties.get(name) or properties.get(to_snake(name)) or schema.get("additionalProperties")
    return cast("Schema", child) if isinstance(child, Mapping) else _NOTHING


def _resolve(schema: Schema, root: Schema) -> Schema:
    """Return ``schema`` with references resolved, without null and without the short form of a mapping."""
    while True:
        if "$ref" in schema:
            schema = root["$defs"][str(schema["$ref"]).rpartition("/")[2]]
            continue
        options = [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]
        mappings = [one for one in options if "$ref" in one]
        if len(options) == 1:
            schema = options[0]
        elif mappings:
            schema = mappings[0]
        else:
            return schema
