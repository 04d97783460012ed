"""Which queued records this process made.

Processes that share a spool deliver each other's records; the statistics of each then need to know whose they were.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Final

from spancast.diagnostics import after_fork_in_child
from spancast.export.spool.sqlite_history import Extent, runs


class OwnRecords:
    """The records of this process that it has seen queued, as ranges per log and route; a forked child has none."""

    def __init__(self) -> None:
        self._reset()
        after_fork_in_child(self._reset)

    def _reset(self) -> None:
        self._queued: dict[tuple[str, str], list[Extent]] = {}
        self._lock = threading.RLock()

    def add(self, log: str, route: str, first: int, last: int) -> None:
        """Add new records, the newest of ``log``."""
        with self._lock:
            ranges = self._queued.setdefault((log, route), [])
            if ranges and ranges[-1][1] + 1 == first:
                first, _ = ranges.pop()
            ranges.append((first, last))

    def has_any(self, log: str, route: str) -> bool:
        """Return whether this process has seen records of its own queued that are not settled."""
        return bool(self._queued.get((log, route)))

    def settle(self, log: str, route: str, sequences: Sequence[int]) -> int:
        """Remove ascending ``sequences``, which this process has settled; return how many of them it had made."""
        with self._lock:
            settled, self._queued[log, route] = split(self._queued.get((log, route), ()), runs(sequences))
        return sum(last - first + 1 for first, last in settled)

    def keep(self, log: str, route: str, waiting: Iterable[Extent]) -> list[Extent]:
        """Keep those that are ``waiting``; return the others, which another process has settled."""
        with self._lock:
            self._queued[log, route], gone = split(self._queued.get((log, route), ()), sorted(waiting))
        return gone


def split(ranges: Iterable[Extent], others: Iterable[Extent]) -> tuple[list[Extent], list[Extent]]:
    """Return the parts of ascending ``ranges`` inside and outside of ascending ``others``."""
    inside: list[Extent] = []
    outside: list[Extent] = []
    left = deque(others)
    for first, last in ranges:
        while left and left[0][1] < first:
            left.popleft()
        for begin, end in takewhile(lambda one: one[0] <= last, left):  # noqa: B023 - used at once
            if begin > first:
                outside.append((first, begin - 1))
            inside.append((max(first, begin), min(last, end)))
            first = end + 1  # noqa: PLW2901 - the rest of the range
        if first <= last:
            outside.append((first, last))
    return inside, outside


OWN_RECORDS: Final = OwnRecords()
