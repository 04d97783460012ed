"""Capture of exceptions, and their tracebacks as text.

``traceback.format_exception`` checks every source file on disk again and computes carets. This module uses
``linecache``, which reads each file once. ``capture`` stores code and instruction of each frame; the line number is
looked up when the text is formatted, because CPython scans a line table for it. Frames are not stored: they would
keep the caller's variables alive (``tests/tracing/test_exception_capture.py``).
"""

from __future__ import annotations

import linecache
from dataclasses import dataclass
from types import CodeType, TracebackType
from typing import Final

from spancast.model import json_codec

MAX_FRAMES: Final = 64
MAX_CAUSES: Final = 4
_CAUSE: Final = "The above exception was the direct cause of the following exception:"
_CONTEXT: Final = "During handling of the above exception, another exception occurred:"
_MAX_LINES: Final = 1024
_lines: Final[dict[tuple[int, int], tuple[CodeType, int]]] = {}
"""Line number by code id and instruction. The value holds the code, so that its id is not reused."""


@dataclass(slots=True)
class CapturedException:
    """One exception of a chain: its last line, its frames, and the sentence that links it to the one it caused.

    ``frames`` are pairs, the outermost first: the code, and the byte offset of the instruction that raised.
    """

    line: str
    frames: list[tuple[CodeType, int]]
    link: str


def capture(error: BaseException) -> list[CapturedException]:
    """Return ``error`` and its causes, at most ``MAX_CAUSES`` in all, the first cause last."""
    chain: list[CapturedException] = []
    seen: list[BaseException] = []
    current: BaseException | None = error
    link = ""
    while current is not None and len(chain) < MAX_CAUSES and all(current is not one for one in seen):
        seen.append(current)
        line = f"{type(current).__qualname__}: {message_of(current)}"
        chain.append(CapturedException(line, _frames(current.__traceback__), link))
        if current.__cause__ is not None:
            current, link = current.__cause__, _CAUSE
        elif current.__context__ is not None and not current.__suppress_context__:
            current, link = current.__context__, _CONTEXT
        else:
            current = None
    return chain


def traceback_text(chain: list[CapturedException]) -> str:
    """Return the stack trace of an exception and its causes, the first cause first, as Python prints it."""
    lines: list[str] = []
    for captured in reversed(chain):
        lines.append("Traceback (most recent call last):")
        for code, instruction in captured.frames:
            number = _line_of(code, instruction)
            lines.append(f'  File "{code.co_filename}", line {number}, in {code.co_name}')
            source = linecache.getline(code.co_filename, number).strip()
            if source:
                lines.append("    " + source)
        lines.append(captured.line)
        if captured.link:
            lines.extend(("", captured.link, ""))
    return "\n".join(lines)


def message_of(error: BaseException) -> str:
    """Return ``str(error)``, or the class name if that raises."""
    try:
        # An SDK's message may quote a response that contains half of a surrogate pair.
        return json_codec.well_formed(str(error))
    except Exception:  # noqa: BLE001 - a user's exception may have a broken __str__
        return type(error).__name__


def _frames(traceback: TracebackType | None) -> list[tuple[CodeType, int]]:
    frames: list[tuple[CodeType, int]] = []
    while traceback is not None and len(frames) < MAX_FRAMES:
        frames.append((traceback.tb_frame.f_code, traceback.tb_lasti))
        traceback = traceback.tb_next
    return frames


def _line_of(code: CodeType, instruction: int) -> int:
    # Errors recur at the same places. The key is the id: the hash of a code object covers all its instructions.
    known = _lines.get((id(code), instruction))
    if known is None:
        if len(_lines) >= _MAX_LINES:
            _lines.clear()
        known = _lines[id(code), instruction] = (code, _line_in(code, instruction))
    return known[1]


def _line_in(code: CodeType, instruction: int) -> int:
    if instruction >= 0:
        for start, end, line in code.co_lines():
            if start <= instruction < end and line is not None:
                return line
    # tblib and others build tracebacks of other processes, with code objects that start at the line that raised.
    return code.co_firstlineno
