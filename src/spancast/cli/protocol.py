"""The seam of the command line: a module of commands has ``add_commands(commands)``.

It sets ``run`` of each parser to a function from the parsed arguments to the exit status.
"""

from __future__ import annotations

import argparse
from typing import Protocol


class Commands(Protocol):
    """What ``add_subparsers()`` returns; argparse has no public name for it."""

    def add_parser(self, name: str, *, help: str) -> argparse.ArgumentParser:  # noqa: A002 - argparse's own word
        """Add the command ``name``, ``help`` being its line in the list."""
        ...
