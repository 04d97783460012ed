"""What a flush did, told per destination; true only where nothing waits and nothing was lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class DestinationReport:
    """Spans of one destination since the last flush; ``waiting`` is now, ``last_error`` what it said last.

    What waits in a spool on disk is delivered later, by this process or the next.
    """

    delivered: int = 0
    waiting: int = 0
    refused: int = 0
    dropped: int = 0
    last_error: str = ""

    def __bool__(self) -> bool:
        return not (self.waiting or self.refused or self.dropped)


@dataclass(frozen=True, slots=True)
class FlushReport:
    """Reports by destination, and what concerns none of them.

    ``dropped`` spans reached no destination's queue; ``others`` is the answer of the application's
    own span processors.
    """

    destinations: Mapping[str, DestinationReport] = field(default_factory=dict[str, DestinationReport])
    dropped: int = 0
    others: bool = True

    def __bool__(self) -> bool:
        return self.others and not self.dropped and all(self.destinations.values())

    def __str__(self) -> str:
        lines = [
            f"{name}: {told.delivered} delivered, {told.waiting} waiting,"
            f" {told.refused} refused, {told.dropped} dropped"
            + (f" ({told.last_error})" if told.last_error and not told else "")
            for name, told in self.destinations.items()
        ]
        if self.dropped:
            lines.append(f"{self.dropped} dropped before any destination")
        if not self.others:
            lines.append("a span processor of the application did not finish in time")
        return "; ".join(lines) or "nothing to deliver to"
