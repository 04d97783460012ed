"""Regular expressions of users, with a timeout.

``re`` has no timeout and blocks all threads while it searches; the ``regex`` library has one and releases the GIL.
"""

from __future__ import annotations

import functools
from typing import Any, Final

TIMEOUT_S: Final = 0.2
"""An ordinary pattern takes microseconds; a search that takes longer than this is likely not to end."""


@functools.cache
def _library() -> Any:  # noqa: ANN401 - a module, loaded when a pattern is configured
    import regex  # noqa: PLC0415 - the import takes 10 ms, and is needed only if a pattern is configured

    return regex


def pattern_fault(pattern: str) -> str:
    """Return why ``pattern`` is not a valid regular expression, an empty string if it is."""
    try:
        _library().compile(pattern)
    except _library().error as error:
        position = "" if error.pos is None else f" at character {error.pos}"
        return f"must be a regular expression: {error.msg}{position}"
    except RecursionError:
        return "must be a regular expression: it is nested too deeply"
    return ""


class Pattern:
    """A compiled regular expression. Methods do not raise; they return None after a timeout."""

    def __init__(self, pattern: str) -> None:
        self._compiled: Any = _library().compile(pattern)

    def search(self, text: str) -> bool | None:
        """Return whether the pattern matches anywhere in ``text``; None after a timeout."""
        try:
            return self._compiled.search(text, timeout=TIMEOUT_S, concurrent=True) is not None
        except TimeoutError:
            return None

    def replace(self, text: str, replacement: str) -> str | None:
        """Return ``text`` with each match replaced by the literal ``replacement``; None after a timeout."""

        def literally(_: object) -> str:
            return replacement

        try:
            return self._compiled.sub(literally, text, timeout=TIMEOUT_S, concurrent=True)
        except TimeoutError:
            return None
