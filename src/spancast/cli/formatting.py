"""Numbers, times and columns, formatted for a terminal."""

from __future__ import annotations

import json
import shutil
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from spancast.encoding.tree_view import printable

_KIB: Final = 1024.0
_UNITS: Final = ("B", "KiB", "MiB", "GiB")
_DURATION_UNITS: Final = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))
_DAY_S: Final = 86_400.0
_MIN_IN_UNIT: Final = 1.5
_GAP: Final = "  "
_DROPPED: Final[Mapping[str, str]] = {
    "expired": "older than the spool's max_age",
    "spool_full": "the spool was full",
}


def width() -> int:
    """Return the number of characters per line."""
    return shutil.get_terminal_size((80, 24)).columns


def why_dropped(reason: str) -> str:
    """Return a description of the spool's drop ``reason``."""
    return _DROPPED.get(reason, reason)


def number(count: int, one: str) -> str:
    """Return ``1 span`` or ``1,200 spans``."""
    return f"{count:,} {one}{'' if count == 1 else 's'}"


def size(count: float) -> str:
    """Return bytes as ``5.0 KiB``."""
    unit = 0
    while count >= _KIB and unit < len(_UNITS) - 1:
        count /= _KIB
        unit += 1
    return f"{count:.0f} B" if not unit else f"{count:.1f} {_UNITS[unit]}"


def lapse(seconds: float) -> str:
    """Return a duration in its largest unit: ``45 s``, ``12 min``, ``3 h``, ``9 d``."""
    for unit_s, unit in _DURATION_UNITS:
        if seconds >= unit_s * _MIN_IN_UNIT or unit_s == 1:
            return f"{max(seconds, 0) / unit_s:.0f} {unit}"
    return ""


def moment(at_s: float, now_s: float | None = None) -> str:
    """Return Unix seconds in local time: ``14:05:09`` within a day, else ``11-22 14:05``."""
    local = datetime.fromtimestamp(at_s, tz=UTC).astimezone()
    is_recent = abs((time.time() if now_s is None else now_s) - at_s) < _DAY_S
    return f"{local:%H:%M:%S}" if is_recent else f"{local:%m-%d %H:%M}"


def iso(at_s: float) -> str | None:
    """Return Unix seconds as an ISO 8601 time in UTC, None for 0."""
    text = datetime.fromtimestamp(at_s, tz=UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z") if at_s else None


def cut(text: str, room: int) -> str:
    """Return ``text`` on one line of at most ``room`` characters."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= room else line[: max(room - 1, 0)] + "…"


def folded(text: str, indent: str, first: str | None = None) -> str:
    """Return ``text`` wrapped to the terminal, indented by ``indent`` (the first line by ``first``, if given)."""
    lines: list[str] = []
    for line in text.splitlines() or [""]:
        begin = indent if lines or first is None else first
        lines += textwrap.wrap(
            printable(line), width(), initial_indent=begin, subsequent_indent=indent, break_on_hyphens=False
        ) or [begin.rstrip()]
    return "\n".join(lines)


def columns(rows: Sequence[Sequence[str]], right: Sequence[int] = (), last: int | None = None) -> Iterator[str]:
    """Yield ``rows`` in columns; ``right`` columns are right-aligned, column ``last`` is shortened to fit."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    if last is not None and widths:
        used = sum(widths) - widths[last] + len(_GAP) * (len(widths) - 1)
        widths[last] = min(widths[last], max(width() - used, 8))
    for row in rows:
        cells = [
            cut(cell, room) if at == last else cell for at, (cell, room) in enumerate(zip(row, widths, strict=True))
        ]
        yield _GAP.join(
            cell.rjust(room) if at in right else cell.ljust(room)
            for at, (cell, room) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()


def as_json(value: Mapping[str, Any] | Sequence[Any]) -> str:
    """Return ``value`` as ASCII JSON, which any output encoding can hold."""
    return json.dumps(value, indent=2)
