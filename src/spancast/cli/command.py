"""The interface of command modules: each has ``add_commands(commands)``.

``add_commands`` sets ``run`` of each parser to a function of the parsed arguments that returns the exit status.
"""

from __future__ import annotations

import argparse
import shutil
import textwrap
from typing import Any, Final, NoReturn

from spancast.errors import SpancastError

OK: Final = 0
FAILED: Final = 1
USAGE_ERROR: Final = 2
INTERRUPTED: Final = 130
NOT_FOUND: Final = 127
EXIT_STATUS: Final = {
    OK: "done",
    FAILED: "failed: the reason is on stderr; for `check` also a failed test, for `spool flush` also a span that waits",
    USAGE_ERROR: "wrong arguments, or a destination that does not exist",
    INTERRUPTED: "interrupted with Ctrl-C",
}
"""The meaning of each exit status; ``spancast run`` has that of the program, 127 if there is no such program."""

_STATUS: Final = "0 done, 1 failed, 2 wrong arguments"
_HELP_WIDTH: Final = 78

Commands = Any
"""The type of ``add_subparsers()``, which argparse does not export."""


class CommandError(SpancastError):
    """A failed command: the message for the user and the exit ``status``."""

    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(message)
        self.status = status


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence and an example."""

    example: str = ""

    def error(self, message: str) -> NoReturn:
        """Print ``message`` and exit with status 2."""
        example = f"  example: {self.example}\n" if self.example else ""
        self.exit(USAGE_ERROR, f"{self.prog}: {message}\n{example}  see `{self.prog} --help`\n")


def add_command(  # noqa: PLR0913, PLR0917 - texts
    commands: Commands, name: str, summary: str, example: str, about: str = "", status: str = _STATUS
) -> Parser:
    """Add the command ``name``: ``summary`` is for the list of commands, ``about`` adds to it in the command's help."""
    parser: Parser = commands.add_parser(
        name,
        help=summary,
        description=_filled(f"{summary[0].upper()}{summary[1:]}. {about}".strip()),
        epilog=f"example:\n  {example}\n\n{_filled(f'exit status: {status}')}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.example = example
    parser.set_defaults(parser=parser)
    return parser


def _filled(text: str) -> str:
    # As argparse fills the help of options.
    return textwrap.fill(text, min(shutil.get_terminal_size().columns - 2, _HELP_WIDTH))
