"""Lines, wrapped text and columns for a terminal, in colour if it has colours.

Text of spans passes ``printable`` before it is drawn, so that it cannot control the terminal.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeAlias

from rich.console import Console
from rich.text import Text

from spancast.encoding.tree_view import printable

Line: TypeAlias = str | Text
"""A line without line breaks; a text is printed as it is, control characters replaced."""

HEADING: Final = "bold"
FAINT: Final = "dim"
MODEL: Final = "cyan"
ERROR: Final = "red"
WARNING: Final = "yellow"
GOOD: Final = "green"

GAP: Final = "  "
_FILE_WIDTH: Final = 120
_NARROWEST: Final = 20
_LEAST: Final = 14
_SHORTEST: Final = 8
_TIED: Final = "\ue000"
"""Stands for a space at which a line is not broken: rich breaks lines at every kind of space."""


def width() -> int:
    """Return the number of characters per line: of the terminal or ``COLUMNS``, 120 in a file or a pipe."""
    return max(shutil.get_terminal_size((80 if sys.stdout.isatty() else _FILE_WIDTH, 24)).columns, _NARROWEST)


def show(lines: Iterable[Line]) -> None:
    """Print ``lines``, without colours if the output is no terminal or ``NO_COLOR`` is set."""
    console = Console(
        file=sys.stdout, width=width(), highlight=False, color_system=None if os.environ.get("NO_COLOR") else "auto"
    )
    for line in lines:
        console.print(as_text(line), soft_wrap=True)


def as_text(line: Line, style: str = "") -> Text:
    """Return ``line`` as ``Text``, a plain one in ``style``."""
    return Text(printable(line), style) if isinstance(line, str) else line


def cut(text: str, room: int) -> str:
    """Return ``text`` on one line of at most ``room`` characters."""
    line = Text(printable(" ".join(text.split())))
    line.truncate(max(room, 1), overflow="ellipsis")
    return line.plain


def tied(text: str) -> str:
    """Return ``text`` for a line of ``folded`` that is not broken inside ``text``."""
    return text.replace(" ", _TIED)


def untied(line: Text) -> Text:
    """Return a copy of ``line`` with spaces for those that ``tied`` replaced."""
    line = line.copy()
    line.plain = line.plain.replace(_TIED, " ")
    return line


def folded(text: Line, indent: str = "", first: Line | None = None) -> Iterator[Text]:
    """Yield ``text`` wrapped to the terminal, indented by ``indent`` (the first line begins with ``first`` instead)."""
    lines = [Text(printable(line.expandtabs())) for line in text.splitlines()] if isinstance(text, str) else [text]
    begin = as_text(indent if first is None else first)
    room = max(width() - len(indent), _SHORTEST)
    console = Console(file=sys.stdout, width=room)
    for line in lines or [Text()]:
        whole = Text().append_text(begin).append_text(line)
        start, body = whole[: len(indent)], whole[len(indent) :]
        for part in body.wrap(console, room):
            drawn = Text().append_text(start).append_text(part)
            drawn.rstrip()
            yield untied(drawn)
            start = begin = Text(indent)


def columns(
    rows: Sequence[Sequence[Line]], right: Sequence[int] = (), last: int | None = None, optional: Sequence[int] = ()
) -> Iterator[Text]:
    """Yield ``rows`` in columns under the first row, their heading.

    ``right`` columns are aligned right, column ``last`` is shortened to fit. If that is not enough, the ``optional``
    columns are left out, in this order.
    """
    cells = [[as_text(cell, "" if number else HEADING) for cell in row] for number, row in enumerate(rows)]
    widths = [max(cell.cell_len for cell in column) for column in zip(*cells, strict=True)]
    kept = list(range(len(widths)))
    if last is not None and widths:
        for column in optional:
            if _used(widths, kept) - widths[last] + min(widths[last], _LEAST) > width():
                kept.remove(column)
        widths[last] = min(widths[last], max(width() - _used(widths, kept) + widths[last], _SHORTEST))
    for row in cells:
        line = Text()
        for column in kept:
            cell, room = row[column].copy(), widths[column]
            cell.truncate(room, overflow="ellipsis")
            space = " " * (room - cell.cell_len)
            line.append(GAP if line else "")
            line = line.append(space).append_text(cell) if column in right else line.append_text(cell).append(space)
        line.rstrip()
        yield line


def _used(widths: Sequence[int], kept: Sequence[int]) -> int:
    return sum(widths[column] for column in kept) + len(GAP) * (len(kept) - 1)
