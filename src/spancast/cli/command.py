"""The seam of the command line: a module of commands has ``add_commands(commands)``.

It sets ``run`` of each parser to a function from the parsed arguments to the exit status.
"""

from __future__ import annotations

import argparse
from typing import Final, Protocol

from spancast.errors import SpancastError

FINE: Final = 0
FAILED: Final = 1
WRONG_USE: Final = 2


class CommandError(SpancastError):
    """Why a command ends without what was asked of it, in words for the user; ``status`` is its exit status."""

    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(message)
        self.status = status


class Commands(Protocol):
    """What ``add_subparsers()`` returns; argparse has no public name for it."""

    def add_parser(self, name: str, *, help: str) -> argparse.ArgumentParser:  # noqa: A002 - argparse's own word
        """Add the command ``name``, ``help`` being its line in the list."""
        ...
