"""Numbers, times and columns as people read them in a terminal."""

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
_SPELLED: Final = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))
_DAY_S: Final = 86_400.0
_MOST_READ_AT_ONCE: Final = 1.5
_GAP: Final = "  "
_DROPPED: Final[Mapping[str, str]] = {
    "spool_age": "it waited for longer than the spool's max_age",
    "spool_full": "the spool was full",
}


def width() -> int:
    """Return how many characters fit on a line."""
    return shutil.get_terminal_size((80, 24)).columns


def why_dropped(reason: str) -> str:
    """Return the spool's reason for dropping a record as a sentence."""
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
    """Return a stretch of time in its largest unit: ``45 s``, ``12 min``, ``3 h``, ``9 d``."""
    for unit_s, unit in _SPELLED:
        if seconds >= unit_s * _MOST_READ_AT_ONCE or unit_s == 1:
            return f"{max(seconds, 0) / unit_s:.0f} {unit}"
    return ""


def moment(at_s: float, now_s: float | None = None) -> str:
    """Return Unix seconds in local time: ``14:05:09`` within a day, ``11-22 14:05`` before."""
    local = datetime.fromtimestamp(at_s, tz=UTC).astimezone()
    is_near = abs((time.time() if now_s is None else now_s) - at_s) < _DAY_S
    return f"{local:%H:%M:%S}" if is_near else f"{local:%m-%d %H:%M}"


def iso(at_s: float) -> str | None:
    """Return Unix seconds as UTC for a script, None for 0."""
    text = datetime.fromtimestamp(at_s, tz=UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z") if at_s else None


def cut(text: str, room: int) -> str:
    """Return ``text`` on one line of ``room`` characters."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= room else line[: max(room - 1, 0)] + "…"


def folded(text: str, indent: str, first: str | None = None) -> str:
    """Return ``text`` wrapped to the terminal, behind ``indent`` (behind ``first`` on the first line)."""
    lines: list[str] = []
    for line in text.splitlines() or [""]:
        begin = indent if lines or first is None else first
        lines += textwrap.wrap(
            printable(line), width(), initial_indent=begin, subsequent_indent=indent, break_on_hyphens=False
        ) or [begin.rstrip()]
    return "\n".join(lines)


def columns(rows: Sequence[Sequence[str]], right: Sequence[int] = (), last: int | None = None) -> Iterator[str]:
    """Yield ``rows`` in columns, those of ``right`` aligned right, the column ``last`` cut to what is left."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    if last is not None and widths:
        taken = sum(widths) - widths[last] + len(_GAP) * (len(widths) - 1)
        widths[last] = min(widths[last], max(width() - taken, 8))
    for row in rows:
        cells = [
            cut(cell, room) if at == last else cell for at, (cell, room) in enumerate(zip(row, widths, strict=True))
        ]
        yield _GAP.join(
            cell.rjust(room) if at in right else cell.ljust(room)
            for at, (cell, room) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()


def as_json(value: Mapping[str, Any] | Sequence[Any]) -> str:
    """Return ``value`` as JSON for a script, whatever the encoding of its pipe."""
    return json.dumps(value, indent=2)
