"""The ``spancast`` command. Each group of commands is a module with ``add_commands``."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Final

from spancast.cli import config_commands, demo, explain, run, spool, traces
from spancast.cli.command import FAILED, CommandError
from spancast.errors import SpancastError

GROUPS: Final = (demo, run, config_commands, traces, explain, spool)
_INTERRUPTED: Final = 130


def main(arguments: list[str] | None = None) -> int:
    """Run the command line ``arguments`` (without the program's name); return the exit status."""
    parser = argparse.ArgumentParser(prog="spancast", description="Trace LLM calls and export them anywhere.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for group in GROUPS:
        group.add_commands(commands)
    args = parser.parse_args(arguments)
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        # A terminal without Unicode shows `?` for the lines of a tree.
        reconfigure(errors="replace")
    try:
        status = int(args.run(args) or 0)
        sys.stdout.flush()
    except SpancastError as error:
        print(f"spancast: {error}", file=sys.stderr)
        return error.status if isinstance(error, CommandError) else FAILED
    except BrokenPipeError:
        # The reader closed the pipe; without this, the interpreter fails to flush stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        return _INTERRUPTED
    return status
