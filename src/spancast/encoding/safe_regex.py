"""Regular expressions of users, with a limit on how long one may take.

``re`` cannot be stopped and holds every thread up while it searches; the ``regex`` library can
and does not.
"""

from __future__ import annotations

import functools
from typing import Any, Final

TIMEOUT_S: Final = 0.2
"""An ordinary pattern takes microseconds; what takes longer than this never ends."""


@functools.cache
def _library() -> Any:  # noqa: ANN401 - a module, loaded when a pattern is configured
    import regex  # noqa: PLC0415 - 10 ms of import for those who need it

    return regex


def pattern_fault(pattern: str) -> str:
    """Return what is wrong with ``pattern``, nothing where it is a regular expression."""
    try:
        _library().compile(pattern)
    except _library().error as error:
        place = "" if error.pos is None else f" at character {error.pos}"
        return f"must be a regular expression: {error.msg}{place}"
    except RecursionError:
        return "must be a regular expression: it is nested too deeply"
    return ""


class Pattern:
    """A compiled expression. Raises nothing for any text; a search that takes too long has no answer."""

    def __init__(self, pattern: str) -> None:
        self._compiled: Any = _library().compile(pattern)

    def found(self, text: str) -> bool | None:
        """Tell whether it matches anywhere in ``text``; None where that took too long."""
        try:
            return self._compiled.search(text, timeout=TIMEOUT_S, concurrent=True) is not None
        except TimeoutError:
            return None

    def replaced(self, text: str, replacement: str) -> str | None:
        """Return ``text`` with each match replaced by ``replacement``, taken literally; None where it took too long."""

        def literally(_: object) -> str:
            return replacement

        try:
            return self._compiled.sub(literally, text, timeout=TIMEOUT_S, concurrent=True)
        except TimeoutError:
            return None
