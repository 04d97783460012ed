"""The seam of the queue: one shared log of records, a cursor and retry state per route.

At least once: what ``put`` returned for is delivered, or buried with a reason that can be
listed. Implementations: ``sqlite_spool`` (disk) and ``memory_spool``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from spancast.model.span_record import FactValue, SpanRecord


def route_key(name: str, fingerprint: str) -> str:
    """Return how a spool knows the destination ``name`` that sends to the place of ``fingerprint``.

    Names hold no ``@``. Without a fingerprint it is the name alone.
    """
    return f"{name}@{fingerprint}" if fingerprint else name


def route_name(route: str) -> str:
    """Return the destination's name in ``route``."""
    return route.partition("@")[0]


def counted_as(route: str, own: Collection[str] | None) -> str:
    """Return under which name records of ``route`` are counted: the destination's for those of this process, ``own``.

    Another program's route of that name keeps its fingerprint, so that the two are not mixed up.
    """
    return route_name(route) if own is not None and route in own else route


class Entry(NamedTuple):
    """A record with its place in the log; its facts have no ``input`` and ``output``."""

    sequence: int
    record: SpanRecord


@dataclass(frozen=True, slots=True)
class Lease:
    """Records leased to one courier, oldest first; ``attempts`` counts earlier tries of this range.

    ``lease`` names the lease and ``is_replay`` tells records taken again from new ones. ``log``
    is the log that the sequences belong to: another file gives the same sequences to other records. A
    claim may be settled in parts, always from its front: ``ack`` and ``bury`` of
    ``dataclasses.replace(claim, entries=claim.entries[:n])`` keep the lease for the rest, and
    ``nack`` gives back what was not settled. What lies before a settled part is taken for
    settled as well.
    """

    route: str
    entries: tuple[Entry, ...]
    attempts: int
    lease: str = ""
    is_replay: bool = False
    log: str = ""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record a route will not deliver, refused or dropped, with why and when (Unix seconds)."""

    route: str
    sequence: int
    trace_id: str
    span_id: str
    reason: str
    at_s: float


@dataclass(frozen=True, slots=True)
class QueueStats:
    """What a route has before it, for ``spancast spool`` and ``stats()``.

    ``delivered`` and ``dropped`` count since the spool was made, over all processes;
    ``last_delivered_s`` is Unix seconds, 0 for never.
    """

    waiting: int
    waiting_bytes: int
    buried: int
    attempts: int
    due_s: float
    last_error: str
    delivered: int = 0
    dropped: int = 0
    last_delivered_s: float = 0.0


@dataclass(frozen=True, slots=True)
class DeliveryState:
    """What became of one record at one route.

    ``at_s`` (Unix seconds) is when it was delivered, buried or dropped, else 0. ``absent``: the
    route was not configured where the record was made.
    """

    route: str
    state: Literal["waiting", "delivered", "skipped", "buried", "dropped", "absent"]
    reason: str = ""
    at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class RecordHistory:
    """A record the spool knows, with its fates; ``put_s`` 0 and no facts if only the fates are left."""

    sequence: int
    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes
    end_ns: int
    is_genai: bool
    put_s: float
    facts: Mapping[str, FactValue]
    fates: tuple[DeliveryState, ...]


@dataclass(frozen=True, slots=True)
class SpoolUsage:
    """How much a spool holds. ``trouble`` is why the disk is not used at the moment, else empty.

    ``overflow`` counts records that are in memory because of it. ``oldest_s`` is Unix seconds,
    0 for an empty spool; ``bytes_used`` leaves out pages that wait for reuse.
    """

    path: str
    records: int
    bytes_on_disk: int
    bytes_used: int
    oldest_s: float
    overflow: int = 0
    trouble: str = ""


class Spool(Protocol):
    """The queue between the processor and the couriers; safe for threads (and, on disk, processes)."""

    def register(self, routes: Sequence[str]) -> None:
        """Name the routes this process judges its records for (as ``route_key``); before the first ``put``.

        A route not seen before begins at the end of the log. What this process puts is meant
        for these routes alone: a route of another configuration on the same spool never gets
        records its rules have not seen. Without this call records are for every route.
        """
        ...

    def put(self, records: Sequence[SpanRecord], skipped: Mapping[str, Mapping[int, str]]) -> int:
        """Append ``records``; ``skipped[route][index]`` is why that route does not take that one.

        Returns how many old records had to be dropped to stay within bounds.
        """
        ...

    def claim(self, route: str, *, max_records: int, max_bytes: int, now_s: float) -> Lease | None:
        """Lease the next records of ``route`` that are due, or None; one claim per route at a time."""
        ...

    def renew(self, claim: Lease, now_s: float) -> bool:
        """Lengthen the lease to its 30 s from ``now_s``; False if it was lost, to another process or with its file."""
        ...

    def ack(self, claim: Lease) -> None:
        """Move the route's cursor past the claim: delivered."""
        ...

    def nack(self, claim: Lease, due_s: float, reason: str) -> None:
        """Give the claim back, not to be leased before ``due_s`` (Unix seconds).

        If the file it was leased from is gone, its records are counted in ``dropped.<name>.spool_replaced``.
        """
        ...

    def bury(self, claim: Lease, sequences: Sequence[int], reason: str) -> None:
        """Refused for good: list ``sequences`` with the reason; the rest of the claim is acknowledged."""
        ...

    def state(self, route: str) -> QueueStats:
        """Return what waits for ``route`` and what was buried."""
        ...

    def buried(self, route: str | None = None, limit: int = 100) -> list[DeadLetter]:
        """List what was refused, newest first."""
        ...

    def close(self) -> None:
        """Give back the leases, close files; what waits stays on disk."""
        ...


class SpoolAdmin(Spool, Protocol):
    """What the command line asks of a spool beside the queue: the past, and what became of it."""

    def routes(self) -> list[str]:
        """Return all routes the spool knows, of other processes too."""
        ...

    def replay(  # noqa: PLR0913 - limits, each with its name
        self,
        route: str,
        since_s: float,
        until_s: float,
        *,
        trace_id: bytes | None = None,
        waiting_for: str | None = None,
        evaluate: Callable[[SpanRecord], str | None] | None = None,
    ) -> int:
        """Give ``route`` the kept records that ended in [since_s, until_s] once more; return how many.

        ``waiting_for`` is another route: only what waits for it. ``evaluate`` is the route's rules: why
        it does not take a record, or None. Without it the verdicts of the time stand, and what was
        skipped then stays skipped.
        """
        ...

    def requeue(self, route: str, sequences: Sequence[int] | None = None) -> int:
        """Let refused records (all of ``route``, or these) be delivered again; return how many."""
        ...

    def drop(self, route: str, sequences: Sequence[int] | None = None) -> int:
        """Give up what waits for ``route``, or these records, waiting or buried; return how many."""
        ...

    def dropped(self, route: str | None = None, limit: int = 100) -> list[DeadLetter]:
        """List what was given up and why, newest first: 10,000 at most are remembered once they left the log."""
        ...

    def find(self, trace_id: bytes) -> list[RecordHistory]:
        """Return the records of a trace and their fates, oldest first."""
        ...

    def records(self, trace_id: bytes) -> list[SpanRecord]:
        """Return the records of a trace that are still kept, oldest first."""
        ...

    def enforce_limits(self) -> int:
        """Drop what is over the bounds of bytes and age; return how many records still waited.

        Every ``put`` does; a process that puts nothing for long may want to as well.
        """
        ...

    def size(self) -> SpoolUsage:
        """Return how much the spool holds."""
        ...
