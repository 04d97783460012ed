"""Load objects by name: ``module:NAME`` of the built-in registries, and entry points of installed distributions.

Entry points are read on first use. A broken one is logged with its name and skipped.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from spancast.diagnostics import RaisedAsConfigError, warn_once
from spancast.errors import ConfigError


def load(reference: str) -> Any:  # noqa: ANN401 - any object
    """Import and return the object ``module:NAME``."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


def installed(group: str, expected: str, is_valid: Callable[[Any], bool], name: str | None = None) -> dict[str, Any]:
    """Return the objects that installed distributions offer in ``group`` by name, only ``name`` if given.

    Objects that are not ``is_valid`` are skipped with a warning; ``expected`` is the text for it.
    """
    found = entry_points(group=group) if name is None else entry_points(group=group, name=name)
    return {point.name: value for point in found for value in _loaded(point, expected, is_valid)}


def _loaded(point: EntryPoint, expected: str, is_valid: Callable[[Any], bool]) -> Iterator[Any]:
    named = f"entry point {point.name} = {point.value} of {point.group}"
    try:
        # The distribution's own code runs here and may raise anything.
        with RaisedAsConfigError(named):
            value = point.load()
            reason = None if is_valid(value) else f"{named}: expected {expected}, got {type(value).__name__}"
    except ConfigError as error:
        value, reason = None, str(error)
    if reason is None:
        yield value
    else:
        warn_once(named, "spancast: %s; left out", reason)
