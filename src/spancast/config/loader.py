"""From file, environment and keywords to one checked ``Settings``; every mistake of all of them at once."""

from __future__ import annotations

import importlib
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
from spancast.config.field_schema import shape_of
from spancast.diagnostics import warn_once

ModelT = TypeVar("ModelT", bound=BaseModel)

_YAML: Final = "spancast.config.yaml_loader"
_TABLE: Final = "spancast.destinations.registry"
_CAPTURING: Final = frozenset({"true", "span_only", "span_and_event"})
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_NAME_FORM: Final = "a destination's name has up to 64 letters, digits, `_`, `-` and `.`, and a letter or digit first"
_NEAR_VARIABLE: Final = 0.8
_DESTINATIONS: Final = "destinations"


@dataclass(frozen=True, slots=True, kw_only=True)
class RawField:
    """One field as somebody gave it: under which name, where, and what."""

    name: str
    value: Any
    origin: str = ""
    is_file: bool = False


def settings_of(model: type[ModelT], path: Path | None, keywords: Mapping[str, Any]) -> ModelT:
    """Return ``model`` filled with ``keywords`` over environment over the file at ``path``.

    Raises:
        ConfigError: Lists every mistake.
    """
    mistakes: list[FieldError] = []
    fields: dict[str, RawField] = {}
    if path is not None:
        read = importlib.import_module(_YAML).read_file(path)
        fields |= _layer(model, read, mistakes, origin=str(path), is_file=True)
    fields |= _environment(model, mistakes)
    fields |= _layer(model, keywords, mistakes)
    values: dict[str, Any] = {}
    for field, given in fields.items():
        values[field] = _resolved(given, mistakes)
    destinations = _destinations(values.get(_DESTINATIONS), fields.get(_DESTINATIONS), mistakes)
    if destinations is not None:
        values[_DESTINATIONS] = destinations
    made = _made(model, values, fields, mistakes)
    if mistakes or made is None:
        raise config_error(mistakes)
    return made


def _layer(
    model: type[BaseModel],
    given: Mapping[str, Any],
    mistakes: list[FieldError],
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
            told = unknown("field", name, model.model_fields)
            mistakes.append(FieldError(path=(name,), text=told, origin=origin))
        elif field in fields:
            told = f"is given twice, as `{fields[field].name}` too"
            mistakes.append(FieldError(path=(name,), text=told, origin=origin))
        else:
            fields[field] = RawField(name=name, value=value, origin=origin, is_file=is_file)
    return fields


def _environment(model: type[BaseModel], mistakes: list[FieldError]) -> dict[str, RawField]:
    fields: dict[str, RawField] = {}
    capture = os.environ.get(CAPTURE_CONTENT_VARIABLE)
    if capture is not None:
        does_capture = capture.strip().lower() in _CAPTURING
        fields["capture_content"] = RawField(
            name="capture_content", value=does_capture, origin=CAPTURE_CONTENT_VARIABLE
        )
    variables = {PREFIX + field.upper(): field for field in model.model_fields}
    for variable, text in os.environ.items():
        if not variable.startswith(PREFIX) or variable == FILE_VARIABLE or not text.strip():
            continue
        if variable not in variables:
            _warn_of(variable, list(variables))
            continue
        field = variables[variable]
        try:
            value = _variable(model, field, text)
        except ValueError as error:
            mistakes.append(FieldError(path=(field,), text=str(error), origin=variable))
        else:
            fields[field] = RawField(name=field, value=value, origin=variable)
    return fields


def _variable(model: type[BaseModel], field: str, text: str) -> Any:  # noqa: ANN401 - whatever YAML holds
    shape = shape_of(model, (field,))
    # A service called 1.10 is no number.
    return text.strip() if shape.schema.get("type") == "string" else importlib.import_module(_YAML).parsed(text)


def _warn_of(variable: str, known: list[str]) -> None:
    meant = suggestion(
        variable.removeprefix(PREFIX), [name.removeprefix(PREFIX).lower() for name in known], cutoff=_NEAR_VARIABLE
    )
    if meant:
        warn_once(
            f"variable:{variable}", "spancast: %s is not read; did you mean %s?", variable, PREFIX + meant.upper()
        )


def _resolved(given: RawField, mistakes: list[FieldError]) -> Any:  # noqa: ANN401 - whatever was given
    references = EnvSubstitution(origin=given.origin, is_file=given.is_file)
    try:
        value = references.resolved(given.value, (given.name,))
    except RecursionError:
        mistakes.append(FieldError(path=(given.name,), text="holds itself", origin=given.origin))
        return None
    mistakes.extend(references.mistakes)
    return value


def _destinations(value: Any, given: RawField | None, mistakes: list[FieldError]) -> dict[str, BaseModel] | None:  # noqa: ANN401
    if given is None or value is None:
        return None
    if not isinstance(value, Mapping):
        told = f"must be a mapping of names to destinations (given: {type(value).__name__})"
        mistakes.append(FieldError(path=(given.name,), text=told, origin=given.origin))
        return None
    made: dict[str, BaseModel] = {}
    for name, entry in cast("Mapping[Any, Any]", value).items():
        path = (given.name, str(name))
        found: list[FieldError] = []
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            found.append(FieldError(path=path, text=_NAME_FORM))
        config = _destination(entry, path, found)
        _add(found, mistakes, given.origin)
        if config is not None:
            made[str(name)] = config
    return made


def _destination(entry: Any, path: tuple[Any, ...], found: list[FieldError]) -> BaseModel | None:  # noqa: ANN401
    table = importlib.import_module(_TABLE)
    if isinstance(entry, table.DestinationConfig):
        return cast("BaseModel", entry)
    if not isinstance(entry, Mapping):
        told = f"must be a mapping with `type` and the fields of that type (given: {type(entry).__name__})"
        found.append(FieldError(path=path, text=told))
        return None
    fields = cast("Mapping[str, Any]", entry)
    written = fields.get("type")
    kind = table.canonical(written) if isinstance(written, str) else None
    if kind is None:
        found.append(FieldError(path=(*path, "type"), text=_wrong_type(written, list(table.DESTINATIONS))))
        return None
    model: type[BaseModel] = table.config_model(kind)
    values = {**fields, "type": kind}
    try:
        return model.model_validate(values)
    except ValidationError as error:
        found.extend(FieldError(path=(*path, *one.path), text=one.text) for one in field_errors(error, model, values))
        return None


def _wrong_type(written: object, kinds: list[str]) -> str:
    if isinstance(written, str):
        return unknown("type", written, kinds)
    return f"must be one of {', '.join(kinds)} (given: {'nothing' if written is None else type(written).__name__})"


def _made(
    model: type[ModelT], values: Mapping[str, Any], fields: Mapping[str, RawField], mistakes: list[FieldError]
) -> ModelT | None:
    named = {fields[field].name: value for field, value in values.items() if value is not None}
    try:
        return model.model_validate(named)
    except ValidationError as error:
        known = aliases(model)
        for one in field_errors(error, model, named):
            origin = fields[known[str(one.path[0])]].origin
            _add([one], mistakes, origin)
        return None


def _add(found: list[FieldError], mistakes: list[FieldError], origin: str) -> None:
    """Add what is not the consequence of a mistake at the same place or above it."""
    known = [one.path for one in mistakes]
    news = [one for one in found if not any(one.path[: len(path)] == path for path in known)]
    mistakes.extend(FieldError(path=one.path, text=one.text, origin=origin) for one in news)
