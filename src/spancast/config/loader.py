"""Settings loader: merges file, environment and keywords, validates once and reports all errors together."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from pydantic import BaseModel, ValidationError

from spancast.config.env_substitution import EnvSubstitution
from spancast.config.env_vars import CAPTURE_CONTENT_VARIABLE, FILE_VARIABLE, PREFIX
from spancast.config.field_errors import FieldError, aliases, config_error, field_errors, suggestion, unknown
from spancast.config.field_schema import schema_at
from spancast.diagnostics import warn_once

ModelT = TypeVar("ModelT", bound=BaseModel)

_CAPTURE_VALUES: Final = frozenset({"true", "span_only", "span_and_event"})
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_NAME_RULE: Final = "a destination's name has up to 64 letters, digits, `_`, `-` and `.`, and a letter or digit first"
_VARIABLE_SIMILARITY: Final = 0.8
_DESTINATIONS: Final = "destinations"


@dataclass(frozen=True, slots=True, kw_only=True)
class RawField:
    """One field as given: the name used, the value and its origin (file or variable; empty for a keyword)."""

    name: str
    value: Any
    origin: str = ""
    is_file: bool = False


def load_settings(model: type[ModelT], path: Path | None, keywords: Mapping[str, Any]) -> ModelT:
    """Return a ``model`` of ``keywords``, which override the environment, which overrides the file at ``path``.

    Raises:
        ConfigError: Lists every error.
    """
    errors: list[FieldError] = []
    fields: dict[str, RawField] = {}
    if path is not None:
        from spancast.config.yaml_loader import read_file  # noqa: PLC0415 - most programs have no file

        fields |= _fields_of(model, read_file(path), errors, origin=str(path), is_file=True)
    fields |= _environment(model, errors)
    fields |= _fields_of(model, keywords, errors)
    values: dict[str, Any] = {}
    for field, given in fields.items():
        values[field] = _substitute(given, errors)
    destinations = _destinations(values.get(_DESTINATIONS), fields.get(_DESTINATIONS), errors)
    if destinations is not None:
        values[_DESTINATIONS] = destinations
    result = _validate(model, values, fields, errors)
    if errors or result is None:
        raise config_error(errors)
    return result


def _fields_of(
    model: type[BaseModel],
    given: Mapping[str, Any],
    errors: list[FieldError],
    *,
    origin: str = "",
    is_file: bool = False,
) -> dict[str, RawField]:
    known, fields = aliases(model), dict[str, RawField]()
    for name, value in given.items():
        field = known.get(name)
        if value is None or str(name).startswith("x-"):
            continue
        if field is None:
            message = unknown("field", name, model.model_fields)
            errors.append(FieldError(path=(name,), text=message, origin=origin))
        elif field in fields:
            message = f"is given twice, as `{fields[field].name}` too"
            errors.append(FieldError(path=(name,), text=message, origin=origin))
        else:
            fields[field] = RawField(name=name, value=value, origin=origin, is_file=is_file)
    return fields


def _environment(model: type[BaseModel], errors: list[FieldError]) -> dict[str, RawField]:
    fields: dict[str, RawField] = {}
    capture = os.environ.get(CAPTURE_CONTENT_VARIABLE)
    if capture is not None:
        does_capture = capture.strip().lower() in _CAPTURE_VALUES
        fields["capture_content"] = RawField(
            name="capture_content", value=does_capture, origin=CAPTURE_CONTENT_VARIABLE
        )
    variables = {PREFIX + field.upper(): field for field in model.model_fields}
    for variable, text in os.environ.items():
        if not variable.startswith(PREFIX) or variable == FILE_VARIABLE or not text.strip():
            continue
        if variable not in variables:
            _warn_if_misspelled(variable, list(variables))
            continue
        field = variables[variable]
        try:
            value = _parse_variable(model, field, text)
        except ValueError as error:
            errors.append(FieldError(path=(field,), text=str(error), origin=variable))
        else:
            fields[field] = RawField(name=field, value=value, origin=variable)
    return fields


def _parse_variable(model: type[BaseModel], field: str, text: str) -> Any:  # noqa: ANN401 - whatever YAML holds
    schema = schema_at(model, (field,))
    # Not parsed as YAML: a service name of 1.10 is not a number.
    if schema.schema.get("type") == "string":
        return text.strip()
    from spancast.config.yaml_loader import parse_yaml  # noqa: PLC0415 - most programs set no such variable

    return parse_yaml(text)


def _warn_if_misspelled(variable: str, known: list[str]) -> None:
    suggested = suggestion(
        variable.removeprefix(PREFIX),
        [name.removeprefix(PREFIX).lower() for name in known],
        cutoff=_VARIABLE_SIMILARITY,
    )
    if suggested:
        warn_once(
            f"variable:{variable}",
            "spancast: unknown variable %s; did you mean %s?",
            variable,
            PREFIX + suggested.upper(),
        )


def _substitute(given: RawField, errors: list[FieldError]) -> Any:  # noqa: ANN401 - whatever was given
    substitution = EnvSubstitution(origin=given.origin, is_file=given.is_file)
    try:
        value = substitution.substitute(given.value, (given.name,))
    except RecursionError:
        errors.append(FieldError(path=(given.name,), text="contains itself", origin=given.origin))
        return None
    errors.extend(substitution.errors)
    return value


def _destinations(value: Any, given: RawField | None, errors: list[FieldError]) -> dict[str, BaseModel] | None:  # noqa: ANN401
    if given is None or value is None:
        return None
    if not isinstance(value, Mapping):
        message = f"must be a mapping of names to destinations (given: {type(value).__name__})"
        errors.append(FieldError(path=(given.name,), text=message, origin=given.origin))
        return None
    result: dict[str, BaseModel] = {}
    for name, entry in cast("Mapping[Any, Any]", value).items():
        path = (given.name, str(name))
        found: list[FieldError] = []
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            found.append(FieldError(path=path, text=_NAME_RULE))
        config = _destination(entry, path, found)
        _add_errors(found, errors, given.origin)
        if config is not None:
            result[str(name)] = config
    return result


def _destination(entry: Any, path: tuple[Any, ...], found: list[FieldError]) -> BaseModel | None:  # noqa: ANN401
    # The registry of destinations takes as long to import as all else that reads settings.
    from spancast.destinations import registry  # noqa: PLC0415 - see above
    from spancast.destinations.object_destination import ObjectConfig, fault_of  # noqa: PLC0415 - see above

    if isinstance(entry, registry.DestinationConfig):
        return entry
    if not isinstance(entry, Mapping) and _is_data(entry):
        message = (
            f"must be a mapping with `type` and the fields of that type, or an object (given: {type(entry).__name__})"
        )
        found.append(FieldError(path=path, text=message))
        return None
    fields = cast("Mapping[str, Any]", entry if isinstance(entry, Mapping) else {"type": entry})
    type_name = fields.get("type")
    model: type[BaseModel]
    if _is_data(type_name):
        kind = registry.canonical(type_name) if isinstance(type_name, str) else None
        if kind is None:
            kinds = [*registry.DESTINATIONS, *registry.installed_destinations()]
            found.append(FieldError(path=(*path, "type"), text=_type_error(type_name, kinds)))
            return None
        model, values = registry.config_model(kind), {**fields, "type": kind}
    else:
        fault = fault_of(type_name)
        if fault is not None:
            found.append(FieldError(path=path, text=fault))
            return None
        model, values = ObjectConfig, {**fields, "type": "object", "destination": type_name}
    try:
        return model.model_validate(values)
    except ValidationError as error:
        found.extend(
            FieldError(path=(*path, *item.path), text=item.text) for item in field_errors(error, model, values)
        )
        return None


def _is_data(value: object) -> bool:
    return type(value).__module__ == "builtins"


def _type_error(type_name: object, kinds: list[str]) -> str:
    if isinstance(type_name, str):
        return unknown("type", type_name, kinds)
    return f"must be one of {', '.join(kinds)} (given: {'nothing' if type_name is None else type(type_name).__name__})"


def _validate(
    model: type[ModelT], values: Mapping[str, Any], fields: Mapping[str, RawField], errors: list[FieldError]
) -> ModelT | None:
    values_as_given = {fields[field].name: value for field, value in values.items() if value is not None}
    try:
        return model.model_validate(values_as_given)
    except ValidationError as error:
        known = aliases(model)
        for item in field_errors(error, model, values_as_given):
            origin = fields[known[str(item.path[0])]].origin
            _add_errors([item], errors, origin)
        return None


def _add_errors(found: list[FieldError], errors: list[FieldError], origin: str) -> None:
    """Add ``found`` except errors at or below a path that already has one: they are its consequences."""
    known = [item.path for item in errors]
    new = [item for item in found if not any(item.path[: len(path)] == path for path in known)]
    errors.extend(FieldError(path=item.path, text=item.text, origin=origin) for item in new)
