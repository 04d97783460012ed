"""The seam of the queue: one shared log of records, a cursor and retry state per route.

At least once: what ``put`` returned for is delivered, or buried with a reason that can be
listed. Implementations: ``sqlite_spool`` (disk) and ``memory_spool``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from spancast.model.span_record import SpanRecord


@dataclass(frozen=True, slots=True)
class Entry:
    """A record with its place in the log."""

    sequence: int
    record: SpanRecord


@dataclass(frozen=True, slots=True)
class Claim:
    """Records leased to one courier, oldest first; ``attempts`` counts earlier tries of this range."""

    route: str
    entries: tuple[Entry, ...]
    attempts: int


@dataclass(frozen=True, slots=True)
class Buried:
    """A record a route will not deliver, with why and when (Unix seconds)."""

    route: str
    sequence: int
    trace_id: str
    span_id: str
    reason: str
    at_s: float


@dataclass(frozen=True, slots=True)
class RouteState:
    """What a route has before it, for ``spancast spool`` and ``stats()``."""

    waiting: int
    waiting_bytes: int
    buried: int
    attempts: int
    due_s: float
    last_error: str


class Spool(Protocol):
    """The queue between the processor and the couriers; safe for threads (and, on disk, processes)."""

    def put(self, records: Sequence[SpanRecord], skipped: Mapping[str, Mapping[int, str]]) -> int:
        """Append ``records``; ``skipped[route][index]`` is why that route does not take that one.

        Returns how many old records had to be dropped to stay within bounds.
        """
        ...

    def claim(self, route: str, *, max_records: int, max_bytes: int, now_s: float) -> Claim | None:
        """Lease the next records of ``route`` that are due, or None."""
        ...

    def acknowledge(self, claim: Claim) -> None:
        """Move the route's cursor past the claim: delivered."""
        ...

    def retry_at(self, claim: Claim, due_s: float, reason: str) -> None:
        """Give the claim back, not to be leased before ``due_s`` (Unix seconds)."""
        ...

    def bury(self, claim: Claim, sequences: Sequence[int], reason: str) -> None:
        """Refused for good: list ``sequences`` with the reason; the rest of the claim is acknowledged."""
        ...

    def state(self, route: str) -> RouteState:
        """Return what waits for ``route`` and what was buried."""
        ...

    def buried(self, route: str | None = None, limit: int = 100) -> list[Buried]:
        """List what was refused, newest first."""
        ...

    def close(self) -> None:
        """Close files; what waits stays on disk."""
        ...
