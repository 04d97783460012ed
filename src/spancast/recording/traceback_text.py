"""A traceback as text, once and cheaply.

``traceback.format_exception`` checks every source file on disk again and computes carets;
this reads what ``linecache`` already holds or reads each file once.
"""

from __future__ import annotations

import linecache
from types import TracebackType
from typing import Final

MAX_FRAMES: Final = 64
MAX_CAUSES: Final = 4


def traceback_text(error: BaseException) -> str:
    """Return the stack trace of ``error`` and of its causes, outermost cause first, as Python prints it."""
    chain: list[tuple[BaseException, str]] = []
    current: BaseException | None = error
    link = ""
    while current is not None and len(chain) < MAX_CAUSES and all(current is not seen for seen, _ in chain):
        chain.append((current, link))
        if current.__cause__ is not None:
            current, link = current.__cause__, "The above exception was the direct cause of the following exception:"
        elif current.__context__ is not None and not current.__suppress_context__:
            current, link = current.__context__, "During handling of the above exception, another exception occurred:"
        else:
            current = None
    lines: list[str] = []
    for one, text in reversed(chain):
        lines.append("Traceback (most recent call last):")
        lines.extend(_frames(one.__traceback__))
        lines.append(f"{type(one).__qualname__}: {message_of(one)}")
        if text:
            lines.extend(("", text, ""))
    return "\n".join(lines)


def message_of(error: BaseException) -> str:
    """Return ``str(error)``, and the class name where that itself fails."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a user's exception may have a broken __str__
        return type(error).__name__


def _frames(traceback: TracebackType | None) -> list[str]:
    lines: list[str] = []
    while traceback is not None and len(lines) < MAX_FRAMES * 2:
        code = traceback.tb_frame.f_code
        line = traceback.tb_lineno
        lines.append(f'  File "{code.co_filename}", line {line}, in {code.co_name}')
        source = linecache.getline(code.co_filename, line).strip()
        if source:
            lines.append("    " + source)
        traceback = traceback.tb_next
    return lines
