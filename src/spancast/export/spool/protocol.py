"""The protocol of the queue: one shared log of records, and a cursor and retry state per route.

At least once: a record that ``put`` accepted is delivered, dead-lettered or dropped, with a reason that can be listed.
Implementations: ``sqlite_spool`` (disk) and ``memory_spool``, both on ``spool_log``.
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
    """Records leased to one delivery worker, oldest first; ``attempts`` counts earlier tries of this range.

    ``lease`` names the lease; ``is_replay`` is true for records that are delivered once more. ``log`` is the log that
    the sequences belong to: another file gives the same sequences to other records. A claim may be settled in parts,
    always from its front: ``ack`` and ``bury`` of ``dataclasses.replace(claim, entries=claim.entries[:n])``
    keep the lease for the rest, and ``nack`` returns what was not settled.
    """

    route: str
    entries: tuple[Entry, ...]
    attempts: int
    lease: str = ""
    is_replay: bool = False
    log: str = ""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that a route does not deliver, refused or dropped, with the reason and the time (Unix seconds)."""

    route: str
    sequence: int
    trace_id: str
    span_id: str
    reason: str
    at_s: float


@dataclass(frozen=True, slots=True)
class QueueStats:
    """The queue of one route, for ``spancast spool`` and ``stats()``.

    ``waiting_bytes`` is about right for a batch of which only a part waits. ``delivered`` and ``dropped`` count since
    the spool was made, over all processes; ``last_delivered_s`` is Unix seconds, 0 for never.
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
    """The state of one record at one route.

    ``at_s`` (Unix seconds) is when it was delivered, buried or dropped, else 0. ``absent``: the route was not
    configured in the process that made the record.
    """

    route: str
    state: Literal["waiting", "delivered", "skipped", "buried", "dropped", "absent"]
    reason: str = ""
    at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class RecordHistory:
    """A record that the spool knows, with its fates; if only these are left, ``put_s`` is 0 and there are no facts."""

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
    """The size of a spool. ``trouble`` is why the disk is not used at the moment, else empty.

    ``records`` are those whose content is kept, ``overflow`` those of them that wait in memory because the disk could
    not be used. ``oldest_s`` is Unix seconds, 0 for an empty spool; ``bytes_used`` leaves out free pages.
    """

    path: str
    records: int
    bytes_on_disk: int
    bytes_used: int
    oldest_s: float
    overflow: int = 0
    trouble: str = ""


class Spool(Protocol):
    """A queue between the span processor and the delivery workers; safe for threads (and, on disk, processes)."""

    def register(self, routes: Sequence[str]) -> None:
        """Set the routes (as ``route_key``) that this process filters its records for, before the first ``put``.

        A new route begins at the end of the log. What this process puts is meant for these routes alone: a route of
        another configuration on the same spool never gets records that its rules have not seen. Without this call
        records are for every route.
        """
        ...

    def put(self, records: Sequence[SpanRecord], skipped: Mapping[str, Mapping[int, str]]) -> int:
        """Append ``records``; ``skipped[route][index]`` is the reason that the route does not take that record.

        Return how many old records were dropped to stay within the bounds.
        """
        ...

    def claim(self, route: str, *, max_records: int, max_bytes: int, now_s: float) -> Lease | None:
        """Lease the next records of ``route`` that are due, or return None; one claim per route at a time.

        Replays come first: they are older, and finite. After every second failed try in a row the log comes first, so
        that a replay that always fails holds up nothing else.
        """
        ...

    def renew(self, claim: Lease, now_s: float) -> bool:
        """Extend the lease to 30 s from ``now_s``; False if another process has it, or the file is gone."""
        ...

    def ack(self, claim: Lease) -> None:
        """Record the claim as delivered and move the route's cursor past it."""
        ...

    def nack(self, claim: Lease, due_s: float, reason: str) -> None:
        """Return the claim; it is not leased again before ``due_s`` (Unix seconds).

        If the file it was leased from is gone, its records are counted in ``dropped.<name>.spool_replaced``.
        """
        ...

    def bury(self, claim: Lease, sequences: Sequence[int], reason: str) -> None:
        """Dead-letter ``sequences`` with the reason; acknowledge the rest of the claim."""
        ...

    def state(self, route: str) -> QueueStats:
        """Return the queue of ``route``."""
        ...

    def close(self) -> None:
        """Release the leases and close files; what waits on disk stays there, what waits in memory is dropped."""
        ...

    def routes(self) -> list[str]:
        """Return all routes that the spool knows, those of other processes included."""
        ...

    def buried(self, route: str | None = None, limit: int = 100) -> list[DeadLetter]:
        """List dead letters, newest first."""
        ...

    def dropped(self, route: str | None = None, limit: int = 100) -> list[DeadLetter]:
        """List what was dropped and why, newest first; at most 10,000 records are remembered after eviction."""
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
        """Queue kept records that ended in [since_s, until_s) once more for ``route``; return how many.

        ``waiting_for`` is another route: only what waits for it. ``evaluate`` applies the route's filters: the reason
        it does not take a record, or None. Without it the earlier verdicts stand, and what was skipped stays skipped.
        """
        ...

    def requeue(self, route: str, sequences: Sequence[int] | None = None) -> int:
        """Queue dead letters (all of ``route``, or these) once more; return how many."""
        ...

    def drop(self, route: str, sequences: Sequence[int] | None = None) -> int:
        """Drop what waits for ``route``, or these records, waiting or dead-lettered; return how many."""
        ...

    def find(self, trace_id: bytes) -> list[RecordHistory]:
        """Return the records of a trace and their fates, oldest first."""
        ...

    def records(self, trace_id: bytes) -> list[SpanRecord]:
        """Return the records of a trace whose content is kept, oldest first."""
        ...

    def enforce_limits(self) -> int:
        """Enforce the bounds of bytes, age and ``keep_delivered``; return how many waiting records were dropped.

        ``put`` and an idle ``claim`` do it from time to time.
        """
        ...

    def size(self) -> SpoolUsage:
        """Return how much the spool holds."""
        ...
