"""What a field may hold, in words, read from the JSON Schema of its model. Pure."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from pydantic import BaseModel
from pydantic.alias_generators import to_snake

Schema = Mapping[str, Any]

_NOTHING: Final[Schema] = {}
_WORDS: Final = {"string": "a text", "array": "a list", "object": "a mapping", "boolean": "true or false"}


@dataclass(frozen=True, slots=True)
class FieldSchema:
    """The JSON Schema of one place in the configuration."""

    schema: Schema

    @property
    def is_number(self) -> bool:
        """Tell whether nothing but a number belongs here, so that one may be quoted."""
        return self.schema.get("type") in ("number", "integer")

    @property
    def choices(self) -> Sequence[str]:
        """Return the texts that are allowed where only some are."""
        only = (self.schema["const"],) if "const" in self.schema else ()
        return [one for one in self.schema.get("enum", only) if isinstance(one, str)]

    @property
    def names(self) -> Sequence[str]:
        """Return the names of the fields of a mapping."""
        return list(self.schema.get("properties", ()))

    @property
    def expected(self) -> str:
        """Return what is allowed, as it stands behind "must be"; nothing where the schema does not say."""
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
        return _WORDS.get(str(kind), "")


def _range(schema: Schema) -> str:
    low, high, above = (schema.get(name) for name in ("minimum", "maximum", "exclusiveMinimum"))
    if low is not None and high is not None:
        return f" from {low:g} to {high:g}"
    if above is not None:
        return f" above {above:g}"
    return "" if low is None else f" of at least {low:g}"


def shape_of(model: type[BaseModel], path: Sequence[Any]) -> FieldSchema:
    """Return the shape of what stands at ``path`` below ``model``."""
    whole = _schema(model)
    schema: Schema = whole
    for part in path:
        schema = _child(_plain(schema, whole), part)
    return FieldSchema(_plain(schema, whole))


@functools.lru_cache(maxsize=8)
def _schema(model: type[BaseModel]) -> Schema:
    return model.model_json_schema()


def _child(schema: Schema, part: object) -> Schema:
    if isinstance(part, int):
        return schema.get("items", _NOTHING)
    properties = schema.get("properties", _NOTHING)
    name = str(part)
    found: Any = properties.get(name) or properties.get(to_snake(name)) or schema.get("additionalProperties")
    return cast("Schema", found) if isinstance(found, Mapping) else _NOTHING


def _plain(schema: Schema, whole: Schema) -> Schema:
    """Return ``schema`` without references, null, and short forms beside a mapping."""
    while True:
        if "$ref" in schema:
            schema = whole["$defs"][str(schema["$ref"]).rpartition("/")[2]]
            continue
        ways = [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]
        mappings = [one for one in ways if "$ref" in one]
        if len(ways) == 1:
            schema = ways[0]
        elif mappings:
            schema = mappings[0]
        else:
            return schema
