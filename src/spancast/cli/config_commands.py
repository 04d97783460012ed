"""``spancast schema``, ``destinations`` and ``check``: describe and validate the configuration."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from rich.text import Text

from spancast.cli.command import FAILED, OK, USAGE_ERROR, CommandError, Commands, add_command
from spancast.cli.connection_test import check_connections
from spancast.cli.options import add_config_option, duration, load_settings, with_otel_destinations
from spancast.cli.terminal import ERROR, GOOD, HEADING, Line, folded, show
from spancast.config import settings
from spancast.config.env_vars import find
from spancast.config.field_errors import unknown
from spancast.destinations import registry
from spancast.destinations.config import DestinationConfig
from spancast.destinations.registry import DESTINATIONS, FieldDoc
from spancast.encoding.tree_view import printable
from spancast.export.spool.directory import unusable
from spancast.model.entry_points import load

_CREATE: Final = "create-table"


def add_commands(commands: Commands) -> None:
    """Add ``schema``, ``destinations`` and ``check``."""
    schema = add_command(
        commands,
        "schema",
        "print the JSON Schema of spancast.yaml, for completion in an editor",
        "spancast schema > spancast.schema.json",
    )
    schema.set_defaults(run=_schema)
    destinations = add_command(
        commands,
        "destinations",
        "list the types of destinations, or the fields of one type, or create a table",
        "spancast destinations langfuse",
        "`spancast destinations create-table NAME` prints the statement that creates the table of the configured"
        " destination NAME; with --run it is executed with the destination's own credentials.",
    )
    destinations.add_argument("type", nargs="?", metavar="TYPE", help=f"show the fields of this type, or `{_CREATE}`")
    destinations.add_argument("name", nargs="?", metavar="NAME", help=f"with `{_CREATE}`: name of the destination")
    destinations.add_argument(
        "--run", dest="execute", action="store_true", help=f"with `{_CREATE}`: execute the statement"
    )
    add_config_option(destinations)
    destinations.set_defaults(run=_destinations)
    check = add_command(
        commands,
        "check",
        "validate spancast.yaml and test the connection to every destination",
        "spancast check --timeout 5s",
        "All errors are printed at once, each with the path of its field.",
        "0 all is well, 1 an error in the file or a failed test, 2 wrong arguments",
    )
    check.add_argument(
        "file", nargs="?", type=Path, metavar="FILE", help="default: SPANCAST_CONFIG, else ./spancast.yaml"
    )
    check.add_argument("--offline", action="store_true", help="validate without connecting")
    check.add_argument(
        "--timeout",
        type=duration,
        metavar="TIME",
        help="time limit of each test, e.g. 5s; default: the destination's timeout",
    )
    check.set_defaults(run=_check)


def _schema(_: argparse.Namespace) -> int:
    print(json.dumps(settings.json_schema(), indent=2))
    return OK


def _destinations(args: argparse.Namespace) -> int:
    if args.type == _CREATE:
        return _create_table(args)
    if args.name is not None or args.execute:
        raise CommandError(f"NAME and --run belong to `spancast destinations {_CREATE} NAME`", USAGE_ERROR)
    if args.type is None:
        rows = {**DESTINATIONS, **registry.installed_destinations()}
        show(_columns((name, row.about) for name, row in rows.items()))
        return OK
    kind = registry.canonical(args.type)
    if kind is None:
        raise CommandError(unknown("type", args.type, DESTINATIONS), USAGE_ERROR)
    show(_describe(kind))
    return OK


def _create_table(args: argparse.Namespace) -> int:
    configured = load_settings(args).destinations
    tables = {name: config for name, config in configured.items() if hasattr(config, "ddl")}
    if args.name not in tables:
        named = f"configured: {', '.join(tables)}" if tables else "no destination with a table is configured"
        raise CommandError(f"expected the name of a destination with a table, got {args.name}; {named}", USAGE_ERROR)
    config: Any = tables[args.name]
    if not args.execute:
        print(config.ddl() + ";")
        return OK
    # With `create_table`, the connection test creates the table unless it exists.
    return _test({args.name: config.model_copy(update={"create_table": True})}, None)


def _describe(kind: str) -> Iterator[Line]:
    row, docs = registry.row_of(kind), registry.fields(kind)
    yield Text(f"{row.title} (type: {kind})", HEADING)
    yield from folded(row.about)
    yield ""
    if row.extra:
        yield f"Needs: pip install 'spancast[{row.extra}]'"
    yield f"Attribute convention: {row.convention}"
    if row.source:
        yield f"Source: {row.source}"
    of_this_type = [doc for doc in docs if not doc.is_common]
    if of_this_type:
        yield from _field_list("Fields of this type:", of_this_type)
    yield from _field_list("Fields of every type:", [doc for doc in docs if doc.is_common])
    if row.extra_help:
        yield from ("", *load(row.extra_help)().splitlines())


def _field_list(title: str, docs: Iterable[FieldDoc]) -> Iterator[Line]:
    yield from ("", title)
    yield from _columns((doc.name, f"{doc.about}{_constraints(doc)}") for doc in docs)


def _constraints(doc: FieldDoc) -> str:
    constraints = ["required"] if doc.required else [f"default: {doc.default}"] if doc.default else []
    constraints += [f"allowed: {', '.join(doc.choices)}"] if doc.choices else []
    constraints += ["secret"] if doc.is_secret else []
    return f" [{'; '.join(constraints)}]" if constraints else ""


def _columns(rows: Iterable[tuple[str, str]]) -> Iterator[Line]:
    entries = list(rows)
    room = max((len(name) for name, _ in entries), default=0)
    for name, text in entries:
        yield from folded(text, " " * (room + 4), Text("  ").append(f"{name:<{room}}", HEADING).append("  "))


def _check(args: argparse.Namespace) -> int:
    path = args.file or find()
    loaded = with_otel_destinations(settings.load(path))
    if path is None and not loaded.destinations:
        raise CommandError(
            "no configuration: SPANCAST_CONFIG is not set, there is no ./spancast.yaml, and no environment variable"
            " names a destination; without one, traces are stored on this machine",
            FAILED,
        )
    enabled = {name: config for name, config in loaded.destinations.items() if config.enabled}
    count = "1 destination" if len(enabled) == 1 else f"{len(enabled)} destinations"
    print(f"{path or 'environment'}: valid; {count} enabled")
    if not loaded.destinations and (line := settings.summary(loaded, settings.in_effect(loaded))):
        print(line)
    for name, config in loaded.destinations.items():
        if name not in enabled:
            print(f"  off   {name} ({config.type})")
    status = _check_spool(loaded.spool) if enabled else OK
    return status if args.offline else max(status, _test(enabled, args.timeout))


def _check_spool(spool: settings.SpoolSettings) -> int:
    if spool.memory:
        return OK
    if spool.path is None:
        problem = "there is no home directory; set spool.path, XDG_STATE_HOME or `spool: memory`"
    else:
        problem = unusable(spool.path, spool.limit_bytes, spool.max_age)
    if problem:
        show(folded(Text("  ").append("FAIL  ", ERROR).append(f"spool: {printable(problem)}"), " " * 8, ""))
    return FAILED if problem else OK


def _test(destinations: Mapping[str, DestinationConfig], timeout_s: float | None) -> int:
    status = OK
    for result in check_connections(destinations, timeout_s):
        line = Text("  ").append("ok    " if result.is_ok else "FAIL  ", GOOD if result.is_ok else ERROR)
        text = f": {printable(result.text)}" if result.text else ""
        show(folded(line.append(f"{result.name} ({destinations[result.name].type}){text}"), " " * 8, ""))
        status = status if result.is_ok else FAILED
    return status
