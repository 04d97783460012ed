"""``spancast run``: run a program with auto-instrumentation."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Final

from spancast.cli.command import Commands

SITE: Final = Path(__file__).parents[1] / "auto_instrumentation" / "site"


def add_commands(commands: Commands) -> None:
    """Add ``run``."""
    run = commands.add_parser("run", help="run a program with every supported SDK instrumented")
    run.add_argument(
        "command", nargs=argparse.REMAINDER, metavar="-- PROGRAM ...", help="the program and its arguments"
    )
    run.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        print("spancast run: no program given; expected e.g. `spancast run -- python app.py`", file=sys.stderr)
        return 2
    paths = [str(SITE), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    try:
        os.execvpe(command[0], command, environment)  # noqa: S606 - the user's own program
    except FileNotFoundError:
        print(f"spancast run: {command[0]}: not found", file=sys.stderr)
        return 127
