"""``spancast report``: versions, configuration, spool and store, for a public issue.

Only what cannot be a secret is printed: numbers, switches, names of a fixed list, versions. A text of the configuration
is ``set``, a path in the home directory begins with ``~``, an error of a destination is its status and kind alone.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import sqlite3
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, entry_points, requires, version
from pathlib import Path
from typing import Any, Final, cast

from pydantic import BaseModel, SecretStr
from rich.text import Text

from spancast.cli.command import OK, CommandError, Commands, add_command
from spancast.cli.formatting import as_json, iso, number
from spancast.cli.naming import Naming
from spancast.cli.options import (
    NoSpoolError,
    add_config_option,
    add_json_option,
    add_spool_option,
    is_json,
    load_settings,
    opened_spool,
    store_path,
)
from spancast.cli.terminal import HEADING, Line, folded, show
from spancast.config.env_vars import PREFIX, find
from spancast.config.field_schema import schema_at
from spancast.config.settings import Settings
from spancast.destinations.config import DestinationConfig
from spancast.destinations.span_store import Store
from spancast.errors import ConfigError
from spancast.export.spool.protocol import DeadLetter, QueueStats, Spool, SpoolUsage, route_name
from spancast.instrumentation.registry import CLIENTS, installed_clients
from spancast.model.version import VERSION

_INDENT: Final = "  "
_MOST_DEAD_LETTERS: Final = 1000
_VARIABLES: Final = (PREFIX, "OTEL_")
_REQUIREMENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HTTP_STATUS: Final = re.compile(r"HTTP [1-5]\d\d\b")
_EXCEPTION: Final = re.compile(r"\b[A-Z][A-Za-z]{2,50}(?:Error|Exception|Timeout|Refused)\b")
_INSTRUMENTATIONS: Final = "opentelemetry_instrumentor"


def add_commands(commands: Commands) -> None:
    """Add ``report``."""
    report = add_command(
        commands,
        "report",
        "print versions, configuration, counters, spool and store, without secrets: for an issue",
        "spancast report > report.txt",
        "It has no credential, no prompt, no address and no text of your configuration, only which fields are set."
        " Names of destinations and paths outside of your home directory are in it. Counters are those of the spool,"
        " over all processes; those of a running process are `spancast.stats()`.",
    )
    add_config_option(report)
    add_spool_option(report)
    add_json_option(report)
    report.set_defaults(run=_report)


def _report(args: argparse.Namespace) -> int:
    data: dict[str, Any] = {"versions": _versions(), "sdks": _sdks(), "other_instrumentations": _instrumentations()}
    try:
        settings = load_settings(args)
    except ConfigError as error:
        # Its text quotes misspelled names, which the user has written.
        errors = number(max(len(str(error).splitlines()) - 1, 1), "error")
        unread = {"error": f"not read: the configuration has {errors}; `spancast check` prints them"}
        data |= {"configuration": _file(args) | unread, "spool": unread, "store": unread}
    else:
        data |= {
            "configuration": _file(args) | _configuration(settings),
            "spool": _spool(args, settings),
            "store": _store(args),
        }
    if is_json(args):
        print(as_json(data))
    else:
        show(_lines(data))
    return OK


def _versions() -> dict[str, str]:
    found = {
        "spancast": VERSION,
        "python": f"{platform.python_implementation()} {platform.python_version()}{_threads()}",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "sqlite": sqlite3.sqlite_version,
    }
    try:
        required = requires("spancast") or ()
    except PackageNotFoundError:  # a frozen program
        required = ()
    names = (match[0] for one in required if (match := _REQUIREMENT.match(one)))
    return found | _installed(name for name in names if name != "spancast")


def _threads() -> str:
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        return ""
    is_enabled = getattr(sys, "_is_gil_enabled", lambda: True)()
    return f", free-threaded, GIL {'on' if is_enabled else 'off'}"


def _installed(names: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in sorted(set(names)):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _sdks() -> dict[str, str]:
    specs = {**CLIENTS, **installed_clients()}
    found = _installed(spec.distribution for spec in specs.values())
    supported = {spec.distribution: spec.min_version for spec in specs.values()}
    return {
        name: f"{installed} (supported: {supported[name]} and newer{_too_old(installed, supported[name])})"
        for name, installed in found.items()
    }


def _too_old(installed: str, oldest: str) -> str:
    return "; THIS ONE IS OLDER" if _numbers(installed) < _numbers(oldest) else ""


def _numbers(text: str) -> list[int]:
    # The numbers of the release: `1.0.0b9` is 1.0.0.
    released = re.match(r"\d+(?:\.\d+)*", text)
    return [int(part) for part in released[0].split(".")] if released else []


def _instrumentations() -> dict[str, str]:
    """Return other instrumentations of OpenTelemetry: two for one SDK are a frequent reason of odd traces."""
    owners = {point.dist.name for point in entry_points(group=_INSTRUMENTATIONS) if point.dist is not None}
    return _installed(owners - {"spancast"})


def _file(args: argparse.Namespace) -> dict[str, Any]:
    path: Path | None = getattr(args, "config", None) or find()
    variables = sorted(name for name in os.environ if name.startswith(_VARIABLES))
    return {"file": _shortened(path.absolute()) if path else "none", "variables": variables}


def _configuration(settings: Settings) -> dict[str, Any]:
    given = _fields(settings, leave_out={"destinations"})
    destinations = {
        name: {"type": config.type, **_fields(cast("BaseModel", config), leave_out={"type"})}
        for name, config in settings.destinations.items()
    }
    return {"settings": given, "destinations": destinations}


def _fields(model: BaseModel, leave_out: Iterable[str] = ()) -> dict[str, Any]:
    names = sorted(model.model_fields_set - set(leave_out))
    return {name: _shown(getattr(model, name), schema_at(type(model), (name,)).choices) for name in names}


def _shown(value: object, choices: Sequence[str]) -> Any:  # noqa: ANN401 - data for JSON
    if value is None or isinstance(value, (bool, int, float)) or (isinstance(value, str) and value in choices):
        return value
    if isinstance(value, BaseModel):
        return _fields(value)
    if isinstance(value, Mapping):
        return f"{len(cast('Mapping[Any, Any]', value))} set"
    if isinstance(value, (list, tuple)):
        items = cast("Sequence[object]", value)
        is_models = any(isinstance(item, BaseModel) for item in items)
        return [_shown(item, ()) for item in items] if is_models else f"{len(items)} set"
    return "set (secret)" if isinstance(value, SecretStr) else "set"


def _spool(args: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    limits = {"max_bytes": settings.spool.limit_bytes, "max_age_s": settings.spool.max_age}
    try:
        with opened_spool(args) as spool:
            configured = {name: config for name, config in settings.destinations.items() if config.enabled}
            return {**_usage(spool.usage()), **limits, "destinations": _routes(spool, configured)}
    except (NoSpoolError, CommandError, ConfigError) as error:
        return {"error": _shortened(str(error)), **limits}


def _usage(usage: SpoolUsage) -> dict[str, Any]:
    return {
        "path": _shortened(usage.path),
        "spans": usage.records,
        "bytes_on_disk": usage.bytes_on_disk,
        "oldest": iso(usage.oldest_s),
    }


def _routes(spool: Spool, configured: Mapping[str, DestinationConfig]) -> dict[str, Any]:
    naming = Naming(spool.routes(), configured)
    data: dict[str, Any] = {}
    for route in naming.routes:
        state = spool.state(route)
        if not naming.is_elsewhere(route):
            data[naming.shown(route)] = _state(state, spool.dead_letters(route, _MOST_DEAD_LETTERS))
            continue
        # Without its fingerprint, which is a hash of an account.
        other = data.setdefault(f"{route_name(route)} (other addresses or accounts)", {"destinations": 0, "queued": 0})
        other["destinations"] += 1
        other["queued"] += state.queued
    return data


def _state(state: QueueStats, dead_letters: Sequence[DeadLetter]) -> dict[str, Any]:
    reasons = Counter(_kind(one.reason) for one in dead_letters)
    return {
        "queued": state.queued,
        "delivered": state.delivered,
        "dead_lettered": state.dead_lettered,
        "dropped": state.dropped,
        "failed_attempts": state.attempts,
        "last_delivery": iso(state.last_delivered_s),
        "last_error": _kind(state.last_error),
        "dead_letter_reasons": dict(reasons),
    }


def _kind(text: str) -> str:
    """Return the status and the kind of an error: its text has what a server answered."""
    found = [*_HTTP_STATUS.findall(text)[:1], *_EXCEPTION.findall(text)[:1]]
    return " ".join(found) or ("another error; `spancast spool` prints it" if text else "")


def _store(args: argparse.Namespace) -> dict[str, Any]:
    try:
        path = store_path(args)
    except CommandError as error:
        return {"error": str(error)}
    place = {"path": _shortened(path)}
    try:
        usage = Store(path).usage()
    except (sqlite3.Error, OSError) as error:
        return {**place, "error": f"cannot be read: {type(error).__name__}"}
    if usage is None:
        return {**place, "error": "there is no file"}
    return {**place, "spans": usage.spans, "bytes_on_disk": usage.bytes_on_disk, "oldest": iso(usage.oldest_s)}


def _shortened(text: str | Path) -> str:
    """Return ``text`` with ``~`` for the home directory."""
    try:
        home = str(Path.home())
    except RuntimeError:
        return str(text)
    return str(text) if home == os.sep else str(text).replace(home, "~")


def _lines(data: Mapping[str, Any]) -> Iterator[Line]:
    for title, section in data.items():
        yield Text(title.replace("_", " "), HEADING)
        yield from _tree(section, _INDENT) if section else (f"{_INDENT}none",)
        yield ""


def _tree(value: Mapping[str, Any] | Sequence[Any], indent: str) -> Iterator[Line]:
    named = value.items() if isinstance(value, Mapping) else ((str(place), one) for place, one in enumerate(value, 1))
    for name, inner in named:
        if isinstance(inner, (dict, list)) and inner:
            yield f"{indent}{name}:"
            yield from _tree(cast("dict[str, Any] | list[Any]", inner), indent + _INDENT)
        else:
            shown = "none" if inner in (None, "", [], {}) else cast("object", inner)
            text = str(shown).lower() if isinstance(shown, bool) else str(shown)
            yield from folded(text, indent + _INDENT * 2, f"{indent}{name}: ")
