"""``spancast run``: run a program with auto-instrumentation."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Final

from spancast.cli.command import NOT_FOUND, USAGE_ERROR, Commands, add_command

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
    try:
        os.execvpe(command[0], command, environment)  # noqa: S606 - the user's own program
    except FileNotFoundError:
        print(f"spancast run: {command[0]}: not found", file=sys.stderr)
        return NOT_FOUND
