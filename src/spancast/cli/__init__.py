"""The ``spancast`` command. Each group of commands is a module with ``add_commands``."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import Final

from spancast.cli.command import FAILED, INTERRUPTED, OK, CommandError, Parser
from spancast.encoding.tree_view import printable
from spancast.errors import SpancastError
from spancast.model.version import VERSION

GROUPS: Final = {
    "demo": ("demo",),
    "traces": ("traces", "show"),
    "ui": ("ui",),
    "explain": ("explain",),
    "run": ("run",),
    "config_commands": ("check", "destinations", "schema"),
    "spool": ("spool",),
    "report": ("report",),
}
"""The commands by the module that adds them. Only the module of the given command is imported: it saves 0.5 s."""
_EPILOG: Final = """\
start here: spancast demo
help for a command: spancast COMMAND --help

exit status: 0 done, 1 failed, 2 wrong arguments, 130 interrupted"""


def parser(command: str = "") -> Parser:
    """Return the parser of the whole command line, or only of ``command`` if there is one of this name."""
    whole = Parser(
        prog="spancast",
        description="Look at recorded LLM calls, and at their delivery to your destinations.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=f"spancast {VERSION}")
    commands = whole.add_subparsers(required=True, metavar="COMMAND", title="commands")
    modules = [module for module, names in GROUPS.items() if command in names] or GROUPS
    for module in modules:
        importlib.import_module(f"{__name__}.{module}").add_commands(commands)
    return whole


def main(arguments: list[str] | None = None) -> int:
    """Run the command line ``arguments`` (without the program's name); return the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    if given == ["--version"]:
        print(f"spancast {VERSION}")
        return OK
    args, unknown = parser(given[0] if given else "").parse_known_args(given)
    words: list[str] | None = getattr(args, "words", None)
    if words is not None and not any(one.startswith("-") for one in unknown):
        # argparse does not accept the words of one argument before and after an option.
        words += unknown
    elif unknown:
        args.parser.error(f"unknown argument{'s' if len(unknown) > 1 else ''}: {' '.join(unknown)}")
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        # A terminal without Unicode shows `?` for the lines of a tree.
        reconfigure(errors="replace")
    try:
        status = int(args.run(args) or 0)
        sys.stdout.flush()
    except SpancastError as error:
        print("\n".join(map(printable, f"spancast: {error}".splitlines())), file=sys.stderr)
        return error.status if isinstance(error, CommandError) else FAILED
    except BrokenPipeError:
        # The reader closed the pipe; without this, the interpreter fails to flush stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    return status
