"""``spancast run``: run a program with auto-instrumentation."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from spancast.cli.command import NOT_FOUND, USAGE_ERROR, Commands, add_command
from spancast.cli.options import add_config_option
from spancast.config import settings
from spancast.config.env_vars import FILE_VARIABLE
from spancast.errors import SpancastError
from spancast.export.pipeline import routes_of

SITE: Final = Path(__file__).parents[1] / "auto_instrumentation" / "site"


def add_commands(commands: Commands) -> None:
    """Add ``run``."""
    run = add_command(
        commands,
        "run",
        "run a Python program with every supported SDK recorded, without a change of its code",
        "spancast run -- python app.py",
        status="that of the program; 2 no program given, 127 program not found",
    )
    add_config_option(run)
    run.add_argument(
        "command", nargs=argparse.REMAINDER, metavar="-- PROGRAM ...", help="the program and its arguments"
    )
    run.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        print("spancast run: no program given; expected e.g. `spancast run -- python app.py`", file=sys.stderr)
        return USAGE_ERROR
    paths = [str(SITE), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    file: Path | None = getattr(args, "config", None) or settings.find()
    if file is not None:
        # The program may change its directory before it starts others.
        environment[FILE_VARIABLE] = str(file.absolute())
    # An error is logged by each process that it concerns.
    with suppress(SpancastError):
        given = settings.load(file)
        effective = settings.in_effect(given)
        # Raises if a destination lacks a package.
        routes_of(effective.destinations if effective is not None else {})
        if line := settings.summary(given, effective, file):
            print(line, file=sys.stderr, flush=True)
    try:
        os.execvpe(command[0], command, environment)  # noqa: S606 - the user's own program
    except FileNotFoundError:
        print(f"spancast run: {command[0]}: not found", file=sys.stderr)
        return NOT_FOUND
