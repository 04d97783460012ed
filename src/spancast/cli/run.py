"""``spancast run``: run a program with auto-instrumentation."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from spancast.cli.command import NOT_FOUND, USAGE_ERROR, Commands, add_command
from spancast.cli.options import add_config_option
from spancast.config import settings
from spancast.config.env_vars import FILE_VARIABLE, find
from spancast.errors import SpancastError
from spancast.export.pipeline import routes_of

_SIGNALLED: Final = 128
"""Exit status of a program that a signal ended, minus the signal's number, as in a shell."""
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
        "--ui", action="store_true", help="show the traces in a browser while the program runs: see `spancast ui`"
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
    if shutil.which(command[0]) is None:
        print(f"spancast run: {command[0]}: not found", file=sys.stderr)
        return NOT_FOUND
    paths = [str(SITE), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    file: Path | None = getattr(args, "config", None) or find()
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
        if args.ui:
            return _beside_page(args, command, environment)
        if not hasattr(os, "fork"):
            # Windows starts another process, and would not wait for it.
            return subprocess.run(command, env=environment, check=False).returncode  # noqa: S603 - as below
        os.execvpe(command[0], command, environment)  # noqa: S606 - the user's own program
    except FileNotFoundError:
        print(f"spancast run: {command[0]}: not found", file=sys.stderr)
        return NOT_FOUND


def _beside_page(args: argparse.Namespace, command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the program while the page is served; in a terminal the page stays until Ctrl-C."""
    from spancast.cli.ui import serving  # noqa: PLC0415 - it imports the commands of the spool

    with serving(args) as page:
        print(page.about, file=sys.stderr, flush=True)
        program = subprocess.Popen(command, env=environment)  # noqa: S603 - the user's own program

        def terminate(_: int, __: object) -> None:
            program.terminate()

        signal.signal(signal.SIGTERM, terminate)
        while program.returncode is None:
            # The terminal sends Ctrl-C to the program, too, which decides when it ends.
            with suppress(KeyboardInterrupt):
                program.wait()
        status = program.returncode
        if sys.stderr.isatty():
            print(f"the program ended with status {status}; the page stays until Ctrl-C", file=sys.stderr)
            page.wait()
    return status if status >= 0 else _SIGNALLED - status
