"""The JSON Schema of ``spancast.yaml``, for editors: from the models, in the names of their fields."""

from __future__ import annotations

from typing import Any, Final, cast

from pydantic import BaseModel

from spancast.destinations.registry import ALIASES, DESTINATIONS, config_model

Schema = dict[str, Any]

_REFERENCE: Final[Schema] = {"type": "string", "pattern": r"\$\{env:"}
_ABOUT: Final = ("description", "default", "examples")
_SCALARS: Final = frozenset({"boolean", "number", "integer"})


def schema_of(model: type[BaseModel]) -> Schema:
    """Return the JSON Schema of a file of ``model``."""
    whole = model.model_json_schema()
    parts: dict[str, Schema] = whole.pop("$defs", {})
    for kind, row in DESTINATIONS.items():
        schema = config_model(kind).model_json_schema()
        parts |= schema.pop("$defs", {})
        others = [alias for alias, name in ALIASES.items() if name == kind]
        schema["properties"]["type"] = {"enum": [kind, *others], "description": row.about}
        parts[kind] = {**schema, "title": row.title}
    for part in (whole, *parts.values()):
        _or_references(part)
    properties = whole["properties"]
    properties["destinations"] = {**_about(properties["destinations"]), **_destinations()}
    properties["spool"] = {
        **_about(properties["spool"]),
        "anyOf": [{"const": "memory"}, {"$ref": "#/$defs/SpoolSettings"}],
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **whole,
        "title": "spancast.yaml",
        "patternProperties": {"^x-": {}},
        "$defs": parts,
    }


def _destinations() -> Schema:
    kinds = [
        {
            "if": {"properties": {"type": {"enum": [kind, *(one for one in ALIASES if ALIASES[one] == kind)]}}},
            "then": {"$ref": f"#/$defs/{kind}"},
        }
        for kind in DESTINATIONS
    ]
    one: Schema = {
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"enum": [*DESTINATIONS, *ALIASES]}},
        "allOf": kinds,
    }
    return {"type": "object", "additionalProperties": one}


def _about(schema: Schema) -> Schema:
    return {name: value for name, value in schema.items() if name in _ABOUT}


def _or_references(part: Schema) -> None:
    fields = cast("dict[str, Schema]", part.get("properties", {}))
    for name, schema in fields.items():
        fields[name] = _or_a_reference({key: value for key, value in schema.items() if key != "title"})


def _or_a_reference(schema: Schema) -> Schema:
    """Return ``schema`` for a field that may also be written ``${env:NAME}``."""
    rest = {name: value for name, value in schema.items() if name not in _ABOUT}
    ways: list[Schema] = schema.get("anyOf", [rest])
    if not any(way.get("type") in _SCALARS or {"enum", "format", "pattern"} & way.keys() for way in ways):
        return schema
    return {**_about(schema), "anyOf": [*ways, _REFERENCE]}
