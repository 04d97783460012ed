"""The public names of spancast, read from the code; ``python docs/public_names.py`` stores them."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import inspect
import json
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import spancast
from spancast import cli
from spancast.cli.command import EXIT_STATUS, NOT_FOUND
from spancast.config import env_vars, otel_env
from spancast.config.settings import ModelPrices, Settings, SpoolSettings
from spancast.destinations import registry, span_store, store_index
from spancast.dialects import registry as dialects
from spancast.encoding.conventions.registry import CONVENTIONS
from spancast.export.flush_report import DestinationReport, FlushReport
from spancast.export.spool import sqlite_schema
from spancast.instrumentation import registry as clients
from spancast.instrumentation.patching import ClientPatches, ClientSpec
from spancast.model import semconv
from spancast.statistics import DestinationStats, Stats
from spancast.tracing.trace_block import TraceBlock

ROOT = Path(__file__).parents[1]
STORED = Path(__file__).with_name("public_names.json")
MODULES = ("spancast.testing", "spancast.destinations.protocol", "spancast.dialects.protocol")
"""Modules whose public names are public, besides ``spancast`` itself."""
CLASSES = (TraceBlock, ClientSpec, ClientPatches, registry.DestinationType)
"""What ``spancast.trace`` returns, and what other distributions make for their entry points."""
COUNTS = (Stats, DestinationStats, FlushReport, DestinationReport)


def public_names() -> dict[str, list[str]]:
    """Return every public name, by section; sorted, so that a difference is a change."""
    sections = {
        "functions and classes": _python_names(),
        "counts and reports": [f"{kind.__name__}.{one.name}" for kind in COUNTS for one in dataclasses.fields(kind)],
        "settings": _settings(),
        "environment variables": _variables(),
        "destination types": list(registry.DESTINATIONS),
        "destination fields": _destination_fields(),
        "conventions": list(CONVENTIONS),
        "SDKs": list(clients.CLIENTS),
        "dialects": list(dialects.DIALECTS),
        "commands and options": list(_commands(cli.parser())),
        "exit statuses": [str(status) for status in (*EXIT_STATUS, NOT_FOUND)],
        "attributes": [text for name, text in vars(semconv).items() if name.isupper() and _is_attribute(text)],
        "spool and store": _formats(),
        "entry points": _entry_points(),
        "extras": list(_project()["optional-dependencies"]),
    }
    return {section: sorted(set(names)) for section, names in sections.items()}


def _python_names() -> Iterator[str]:
    for name in spancast.__all__:
        yield from _with_members(f"spancast.{name}", getattr(spancast, name))
    for module in MODULES:
        loaded = importlib.import_module(module)
        own = [name for name, value in vars(loaded).items() if getattr(value, "__module__", "") == module]
        for name in getattr(loaded, "__all__", own):
            if not name.startswith("_"):
                yield from _with_members(f"{module}.{name}", getattr(loaded, name))
    for kind in CLASSES:
        yield from _with_members(f"{kind.__module__}.{kind.__name__}", kind)


def _with_members(name: str, value: object) -> Iterator[str]:
    yield f"{name}{_parameters(value)}"
    if inspect.isclass(value):
        members = {*vars(value), *inspect.get_annotations(value)}
        yield from (f"{name}.{one}" for one in members if not one.startswith("_"))


def _parameters(value: object) -> str:
    if not inspect.isfunction(value) and not inspect.ismethod(value):
        return ""
    signature = inspect.signature(value)
    plain = [one.replace(annotation=one.empty) for one in signature.parameters.values()]
    return str(signature.replace(parameters=plain, return_annotation=signature.empty))


def _settings() -> Iterator[str]:
    yield from Settings.model_fields
    yield from (f"spool.{name}" for name in SpoolSettings.model_fields)
    yield from (f"prices.*.{name}" for name in ModelPrices.model_fields)


def _variables() -> Iterator[str]:
    yield from (f"{env_vars.PREFIX}{name.upper()}" for name in Settings.model_fields)
    yield from (env_vars.FILE_VARIABLE, env_vars.CAPTURE_CONTENT_VARIABLE, otel_env.EXPORTER_VARIABLE)
    yield from ("OTEL_SDK_DISABLED", "XDG_STATE_HOME", "NO_COLOR")
    suffixes = ("ENDPOINT", "HEADERS", "INSECURE", *otel_env._FIELDS.values())  # noqa: SLF001 - their only list
    yield from (f"OTEL_EXPORTER_OTLP_{suffix}" for suffix in suffixes)


def _destination_fields() -> Iterator[str]:
    for kind in registry.DESTINATIONS:
        fields = registry.fields(kind)
        yield from (f"{'*' if field.is_common else kind}.{field.name}" for field in fields)


def _commands(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:  # noqa: SLF001 - argparse has no other list
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for command in action.choices.values():
                yield command.prog
                yield from _commands(command)
        else:
            words = [one for one in action.option_strings if one not in {"-h", "--help"}]
            words += [] if action.option_strings else [str(action.metavar or action.dest)]
            yield from (f"{parser.prog} {word}" for word in words)


def _is_attribute(value: Any) -> bool:  # noqa: ANN401 - whatever the module has
    return isinstance(value, str) and "." in value and not value.startswith("http")


def _formats() -> Iterator[str]:
    yield f"spool version {sqlite_schema.VERSION}"
    yield f"spool application id {sqlite_schema.APPLICATION_ID:#x}"
    yield f"store index version {store_index._VERSION}"  # noqa: SLF001 - a file format is public, its constant is not
    yield from (f"store column spans.{name}" for name in span_store._COLUMNS)  # noqa: SLF001 - its columns are public, their list is not


def _entry_points() -> Iterator[str]:
    yield from (f"{module.ENTRY_POINTS} (read)" for module in (clients, dialects, registry))
    for group, points in _project()["entry-points"].items():
        yield from (f"{group}: {name} (offered)" for name in points)
    yield from (f"script {name}" for name in _project()["scripts"])


def _project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def changes(stored: dict[str, list[str]], current: dict[str, list[str]]) -> list[str]:
    """Return a line for each name that was added or is gone."""
    lines: list[str] = []
    for section in sorted({*stored, *current}):
        before, now = set(stored.get(section, ())), set(current.get(section, ()))
        lines += [f"gone from {section}: {name}" for name in sorted(before - now)]
        lines += [f"new in {section}: {name}" for name in sorted(now - before)]
    return lines


if __name__ == "__main__":
    found = public_names()
    if STORED.exists():
        print("\n".join(changes(json.loads(STORED.read_text()), found)) or "no change")  # noqa: T201 - a command
    STORED.write_text(json.dumps(found, indent=1) + "\n")
    sys.exit()
