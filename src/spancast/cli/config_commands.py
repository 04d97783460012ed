"""``spancast schema``, ``destinations`` and ``check``: what can be configured, and whether it is right."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from spancast.cli.command import Commands
from spancast.cli.connection_test import verdicts
from spancast.cli.options import effective
from spancast.config import settings
from spancast.config.field_errors import unknown
from spancast.destinations import registry
from spancast.destinations.config import DestinationConfig
from spancast.destinations.field_types import read_duration
from spancast.destinations.registry import DESTINATIONS, FieldDoc
from spancast.errors import ConfigError

_WIDTH: Final = 110
_FINE: Final = 0
_FAILED: Final = 1
_WRONG_USE: Final = 2


def add_commands(commands: Commands) -> None:
    """Add ``schema``, ``destinations`` and ``check``."""
    schema = commands.add_parser("schema", help="print the JSON Schema of spancast.yaml, for editors")
    schema.set_defaults(run=_schema)
    destinations = commands.add_parser("destinations", help="list the types of destinations, or the fields of one")
    destinations.add_argument("type", nargs="?", metavar="TYPE", help="show the fields of this type")
    destinations.set_defaults(run=_destinations)
    check = commands.add_parser("check", help="validate the configuration and test every connection")
    check.add_argument(
        "file", nargs="?", type=Path, metavar="FILE", help="default: SPANCAST_CONFIG, else ./spancast.yaml"
    )
    check.add_argument("--offline", action="store_true", help="validate only")
    check.add_argument(
        "--timeout", type=_duration, metavar="TIME", help="how long each may take, e.g. 5s; default: its own timeout"
    )
    check.set_defaults(run=_check)


def _duration(text: str) -> float:
    try:
        return read_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _schema(_: argparse.Namespace) -> int:
    print(json.dumps(settings.json_schema(), indent=2))
    return _FINE


def _destinations(given: argparse.Namespace) -> int:
    if given.type is None:
        print("\n".join(_columns((name, row.about) for name, row in DESTINATIONS.items())))
        return _FINE
    kind = registry.canonical(given.type)
    if kind is None:
        print(f"spancast destinations: {unknown('type', given.type, DESTINATIONS)}", file=sys.stderr)
        return _WRONG_USE
    for block in _described(kind):
        print(block)
    return _FINE


def _described(kind: str) -> Iterator[str]:
    row, facts = DESTINATIONS[kind], registry.fields(kind)
    yield f"{row.title} (type: {kind})\n{row.about}\n"
    if row.extra:
        yield f"Needs: pip install 'spancast[{row.extra}]'"
    yield f"Attribute convention: {row.convention}"
    if row.source:
        yield f"Source: {row.source}"
    own = [fact for fact in facts if not fact.is_common]
    if own:
        yield f"\nIts own fields:\n{_fields(own)}"
    yield f"\nFields of every type:\n{_fields([fact for fact in facts if fact.is_common])}"
    if row.extra_help:
        yield f"\n{registry.resolved(row.extra_help)()}"


def _fields(facts: Iterable[FieldDoc]) -> str:
    return "\n".join(_columns((fact.name, f"{fact.about}{_marks(fact)}") for fact in facts))


def _marks(fact: FieldDoc) -> str:
    marks = ["required"] if fact.required else [f"default: {fact.default}"] if fact.default else []
    marks += [f"allowed: {', '.join(fact.choices)}"] if fact.choices else []
    marks += ["secret"] if fact.is_secret else []
    return f" [{'; '.join(marks)}]" if marks else ""


def _columns(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    entries = list(rows)
    width = max((len(name) for name, _ in entries), default=0)
    for name, text in entries:
        behind = " " * (width + 4)
        lines = textwrap.wrap(text, _WIDTH, initial_indent=behind, subsequent_indent=behind) or [""]
        yield f"  {name:<{width}}  {lines[0].strip()}".rstrip()
        yield from lines[1:]


def _check(given: argparse.Namespace) -> int:
    path = given.file or settings.find()
    try:
        read = effective(settings.load(path))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return _FAILED
    wanted = {name: config for name, config in read.destinations.items() if config.enabled}
    number = "1 destination" if len(wanted) == 1 else f"{len(wanted)} destinations"
    print(f"{path or 'environment'}: valid; {number} enabled")
    for name, config in read.destinations.items():
        if name not in wanted:
            print(f"  off   {name} ({config.type})")
    return _FINE if given.offline else _tested(wanted, given.timeout)


def _tested(destinations: Mapping[str, DestinationConfig], timeout_s: float | None) -> int:
    status = _FINE
    for verdict in verdicts(destinations, timeout_s):
        told = f": {verdict.text}" if verdict.text else ""
        print(f"  {'ok  ' if verdict.is_ok else 'FAIL'}  {verdict.name} ({destinations[verdict.name].type}){told}")
        status = status if verdict.is_ok else _FAILED
    return status
