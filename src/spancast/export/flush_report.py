"""The result of a flush, per destination; true only if nothing is queued and nothing was lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from spancast.diagnostics import one_line


@dataclass(frozen=True, slots=True)
class DestinationReport:
    """Spans of one destination since the last flush; ``queued`` is the number queued now.

    ``last_error`` is the latest reason of a failed delivery. Spans queued in a spool on disk are delivered later, by
    this process or the next.
    """

    delivered: int = 0
    queued: int = 0
    dead_lettered: int = 0
    dropped: int = 0
    last_error: str = ""

    def __bool__(self) -> bool:
        return not (self.queued or self.dead_lettered or self.dropped)


@dataclass(frozen=True, slots=True)
class FlushReport:
    """Reports by destination, and what concerns no single destination.

    ``dropped`` spans reached no queue of a destination. ``application_flushed`` is whether the span processors of the
    application flushed in time.
    """

    destinations: Mapping[str, DestinationReport] = field(default_factory=dict[str, DestinationReport])
    dropped: int = 0
    application_flushed: bool = True

    def __bool__(self) -> bool:
        return self.application_flushed and not self.dropped and all(self.destinations.values())

    def __str__(self) -> str:
        lines = [
            f"{name}: {report.delivered} delivered, {report.queued} queued,"
            f" {report.dead_lettered} dead-lettered, {report.dropped} dropped"
            + (f" ({one_line(report.last_error)})" if report.last_error and not report else "")
            for name, report in self.destinations.items()
        ]
        if self.dropped:
            lines.append(f"{self.dropped} dropped before any destination")
        if not self.application_flushed:
            lines.append("a span processor of the application did not finish in time")
        return "; ".join(lines) or "nothing to deliver to"
