"""The JSON Schema of ``spancast.yaml``, for editors, generated from the settings models."""

from __future__ import annotations

from typing import Any, Final, cast

from pydantic import BaseModel

from spancast.destinations.registry import ALIASES, DESTINATIONS, config_model

Schema = dict[str, Any]

_REFERENCE: Final[Schema] = {"type": "string", "pattern": r"\$\{env:"}
_ANNOTATIONS: Final = ("description", "default", "examples")
_SCALARS: Final = frozenset({"boolean", "number", "integer"})


def settings_schema(model: type[BaseModel]) -> Schema:
    """Return the JSON Schema of a configuration file that is validated by ``model``."""
    root = model.model_json_schema()
    parts: dict[str, Schema] = root.pop("$defs", {})
    for kind, row in DESTINATIONS.items():
        schema = config_model(kind).model_json_schema()
        parts |= schema.pop("$defs", {})
        aliases = [alias for alias, name in ALIASES.items() if name == kind]
        schema["properties"]["type"] = {"enum": [kind, *aliases], "description": row.about}
        parts[kind] = {**schema, "title": row.title}
    for part in (root, *parts.values()):
        _allow_references(part)
    properties = root["properties"]
    properties["destinations"] = {**_annotations(properties["destinations"]), **_destinations()}
    properties["spool"] = {
        **_annotations(properties["spool"]),
        "anyOf": [{"const": "memory"}, {"$ref": "#/$defs/SpoolSettings"}],
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **root,
        "title": "spancast.yaml",
        "patternProperties": {"^x-": {}},
        "$defs": parts,
    }


def _destinations() -> Schema:
    branches = [
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
        "allOf": branches,
    }
    return {"type": "object", "additionalProperties": one}


def _annotations(schema: Schema) -> Schema:
    return {name: value for name, value in schema.items() if name in _ANNOTATIONS}


def _allow_references(part: Schema) -> None:
    fields = cast("dict[str, Schema]", part.get("properties", {}))
    for name, schema in fields.items():
        fields[name] = _or_reference({key: value for key, value in schema.items() if key != "title"})


def _or_reference(schema: Schema) -> Schema:
    """Return ``schema`` for a field that also accepts ``${env:NAME}``."""
    rest = {name: value for name, value in schema.items() if name not in _ANNOTATIONS}
    options: list[Schema] = schema.get("anyOf", [rest])
    if not any(option.get("type") in _SCALARS or {"enum", "format", "pattern"} & option.keys() for option in options):
        return schema
    return {**_annotations(schema), "anyOf": [*options, _REFERENCE]}
