"""Regular expressions of users, with a timeout.

``re`` has no timeout and blocks all threads while it searches; the ``regex`` library has one and releases the GIL.
"""

from __future__ import annotations

import functools
import time
from typing import Any, Final

TIMEOUT_S: Final = 0.2
"""An ordinary pattern takes microseconds; a search that takes longer than this is likely not to end."""
SHORTEST_TIMEOUT_S: Final = 0.005
_RECOVERY_S: Final = 60.0
"""After so long without a timeout, a pattern has ``TIMEOUT_S`` again."""


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
    except ValueError as error:  # of the library's own conversions, for example for `{0s<`
        return f"must be a regular expression: {error}"
    return ""


class Pattern:
    """A compiled regular expression. Methods do not raise; they return None after a timeout.

    Each timeout shortens the next, because one thread evaluates the patterns of all destinations: 512 slow values take
    3 seconds, not 100.
    """

    def __init__(self, pattern: str) -> None:
        self._compiled: Any = _library().compile(pattern)
        self._timeout_s = TIMEOUT_S
        self._recovers_s = 0.0

    def search(self, text: str) -> bool | None:
        """Return whether the pattern matches anywhere in ``text``; None after a timeout."""
        try:
            return self._compiled.search(text, timeout=self._limit_s(), concurrent=True) is not None
        except TimeoutError:
            return self._timed_out()

    def replace(self, text: str, replacement: str) -> str | None:
        """Return ``text`` with each match replaced by the literal ``replacement``; None after a timeout."""

        def literally(_: object) -> str:
            return replacement

        try:
            return self._compiled.sub(literally, text, timeout=self._limit_s(), concurrent=True)
        except TimeoutError:
            return self._timed_out()

    def _limit_s(self) -> float:
        if self._timeout_s < TIMEOUT_S and time.monotonic() >= self._recovers_s:
            self._timeout_s = TIMEOUT_S
        return self._timeout_s

    def _timed_out(self) -> None:
        self._timeout_s = max(self._timeout_s / 4, SHORTEST_TIMEOUT_S)
        self._recovers_s = time.monotonic() + _RECOVERY_S
