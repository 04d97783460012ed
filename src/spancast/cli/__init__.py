"""The ``spancast`` command; each group of commands is a module with ``add_commands``."""

from __future__ import annotations

import argparse
from typing import Final

from spancast.cli import configuration, program

GROUPS: Final = (program, configuration)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line ``arguments`` (without the program's name); return the exit status."""
    parser = argparse.ArgumentParser(prog="spancast", description="Traces of LLM calls, everywhere.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for group in GROUPS:
        group.add_commands(commands)
    given = parser.parse_args(arguments)
    return int(given.run(given) or 0)
