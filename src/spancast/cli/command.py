"""The interface of command modules: each has ``add_commands(commands)``.

``add_commands`` sets ``run`` of each parser to a function of the parsed arguments that returns the exit status.
"""

from __future__ import annotations

import argparse
from typing import Final, Protocol

from spancast.errors import SpancastError

OK: Final = 0
FAILED: Final = 1
USAGE_ERROR: Final = 2


class CommandError(SpancastError):
    """A failed command: the message for the user and the exit ``status``."""

    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(message)
        self.status = status


class Commands(Protocol):
    """The type of ``add_subparsers()``, which argparse does not export."""

    def add_parser(self, name: str, *, help: str) -> argparse.ArgumentParser:  # noqa: A002 - argparse's name
        """Add the command ``name`` with its line of help."""
        ...
