"""The protocol of a spool: one shared log of records, with a cursor and retry state per route.

Delivery is at least once: a record that ``put`` accepted is delivered, dead-lettered or dropped, with a reason that can
be listed. Implementations: ``disk.SqliteSpool`` and ``memory.MemorySpool``, both on ``log.SpoolLog``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from spancast.model.span_record import SpanRecord


def route_key(name: str, fingerprint: str) -> str:
    """Return the key in a spool of the destination ``name`` that sends to the address and account of ``fingerprint``.

    Names contain no ``@``. Without a fingerprint the key is the name alone.
    """
    return f"{name}@{fingerprint}" if fingerprint else name


def route_name(route: str) -> str:
    """Return the name of the destination in the key ``route``."""
    return route.partition("@")[0]


def counted_as(route: str, own: Collection[str] | None) -> str:
    """Return the name for counters of ``route``: the destination's name if the route is in ``own``, of this process.

    Routes of other programs keep their fingerprint, so that two destinations of one name are counted apart.
    """
    return route_name(route) if own is not None and route in own else route


class Entry(NamedTuple):
    """A record with its sequence in the log."""

    sequence: int
    record: SpanRecord


@dataclass(frozen=True, slots=True)
class Lease:
    """Records leased to one delivery worker, oldest first; ``attempts`` counts earlier attempts for this range.

    ``name`` is unique; ``is_replay`` is true for records that are delivered once more. ``log`` identifies the log of
    the sequences: another file gives the same sequences to other records. A lease may be settled in parts, always from
    its front: ``ack`` and ``dead_letter`` of ``dataclasses.replace(lease, entries=lease.entries[:n])`` keep the rest
    leased, and ``nack`` returns the entries that were not settled.
    """

    route: str
    entries: tuple[Entry, ...]
    attempts: int
    name: str = ""
    is_replay: bool = False
    log: str = ""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that a route does not deliver, rejected or dropped, with the reason and the time (Unix seconds)."""

    route: str
    sequence: int
    trace_id: str
    span_id: str
    reason: str
    at_s: float


@dataclass(frozen=True, slots=True)
class QueueStats:
    """The queue of one route, for ``spancast spool`` and ``stats()``.

    ``queued_bytes`` is an estimate if only a part of a batch is queued. ``delivered`` and ``dropped`` count since the
    spool was created, over all processes. ``last_delivered_s`` is Unix seconds, 0 for never.
    """

    queued: int
    queued_bytes: int
    dead_lettered: int
    attempts: int
    due_s: float
    last_error: str
    delivered: int = 0
    dropped: int = 0
    last_delivered_s: float = 0.0


@dataclass(frozen=True, slots=True)
class DeliveryState:
    """The state of one record at one route.

    ``at_s`` (Unix seconds) is the time of a delivery, dead-lettering or drop, else 0. ``absent``: the route was not
    configured in the process that made the record.
    """

    route: str
    state: Literal["waiting", "delivered", "skipped", "buried", "dropped", "absent"]
    reason: str = ""
    at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class RecordHistory:
    """A record and its state at each route; ``put_s`` is 0 if only the states are left."""

    sequence: int
    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes
    end_ns: int
    is_genai: bool
    put_s: float
    states: tuple[DeliveryState, ...]


@dataclass(frozen=True, slots=True)
class SpoolUsage:
    """The size of a spool. ``error`` is why the disk is not used at the moment, else empty.

    ``records`` counts records with their content; ``in_memory`` of them are queued in memory because the disk could not
    be used. ``oldest_s`` is Unix seconds, 0 for an empty spool; ``bytes_used`` excludes free pages.
    """

    path: str
    records: int
    bytes_on_disk: int
    bytes_used: int
    oldest_s: float
    in_memory: int = 0
    error: str = ""


class Spool(Protocol):
    """A queue between the span processor and the delivery workers; safe for threads (and, on disk, processes)."""

    def register(self, routes: Sequence[str]) -> None:
        """Set the routes (as ``route_key``) that this process filters its records for, before the first ``put``.

        A new route begins at the end of the log. Records of this process are for these routes alone, so that a route
        of another configuration on the same spool gets no records that its filter has not seen. Without this call
        records are for every route.
        """
        ...

    def put(self, records: Sequence[SpanRecord], skipped: Mapping[str, Mapping[int, str]]) -> int:
        """Append ``records``; return how many old records were dropped to stay within the limits.

        ``skipped[route][index]`` is the reason that the route does not take that record.
        """
        ...

    def lease(
        self, route: str, *, max_records: int, max_bytes: int, now_s: float, is_early: bool = False
    ) -> Lease | None:
        """Lease the next records of ``route`` that are due, or return None; at most one lease per route exists.

        With ``is_early``, records are due before the time that ``nack`` set.

        Replays come first: they are older, and finite. After every second failed attempt in a row the log comes first,
        so that a replay that always fails does not block other records.
        """
        ...

    def extend(self, lease: Lease, now_s: float) -> bool:
        """Extend the lease to 30 s from ``now_s``; False if another process has it, or the file is gone."""
        ...

    def ack(self, lease: Lease) -> None:
        """Mark the records as delivered and move the route's cursor past them."""
        ...

    def nack(self, lease: Lease, due_s: float, reason: str) -> None:
        """Return the records to the queue; they are not leased again before ``due_s`` (Unix seconds).

        If the file they were leased from is gone, they count as dropped with the reason ``spool_replaced``.
        """
        ...

    def dead_letter(self, lease: Lease, sequences: Sequence[int], reason: str) -> None:
        """Dead-letter ``sequences`` with the reason; acknowledge the other records of the lease."""
        ...

    def settle(self, lease: Lease, delivered: Sequence[int], rejected: Mapping[int, str]) -> None:
        """Mark single sequences of the lease as delivered or, with the reason, as dead letters.

        They may be anywhere in the lease, whose other records stay leased. ``nack`` follows with these.
        """
        ...

    def state(self, route: str) -> QueueStats:
        """Return the queue of ``route``."""
        ...

    def has_queued(self, route: str) -> bool:
        """Return whether anything is queued for ``route``, without counting it."""
        ...

    def due_s(self, route: str) -> float:
        """Return when the next attempt is due (Unix seconds), 0 for now."""
        ...

    def count_others(self, route: str) -> None:
        """Count what another process did with records of this one since the last call.

        An idle ``lease`` does it from time to time.
        """
        ...

    def close(self) -> None:
        """Release the leases and close files; records queued on disk stay there, records in memory are dropped."""
        ...

    def routes(self) -> list[str]:
        """Return all routes in the spool, including those of other processes."""
        ...

    def dead_letters(self, route: str | None = None, limit: int = 100) -> list[DeadLetter]:
        """List dead letters, newest first."""
        ...

    def dropped(self, route: str | None = None, limit: int = 100) -> list[DeadLetter]:
        """List dropped records with the reason, newest first; at most 10,000 are kept after eviction."""
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
        on_step: Callable[[], object] | None = None,
    ) -> int:
        """Queue stored records that ended in [since_s, until_s) once more for ``route``; return how many.

        With ``waiting_for``, another route, only records queued for that route. ``evaluate`` applies the filter of the
        route and returns the reason to skip a record, or None. Without it, records that were skipped stay skipped.
        ``on_step`` is called after every thousand records or so, which can be leased from then on.
        """
        ...

    def requeue(self, route: str, sequences: Sequence[int] | None = None) -> int:
        """Queue dead letters (all of ``route``, or these) once more; return how many."""
        ...

    def purge(self, route: str, sequences: Sequence[int] | None = None) -> int:
        """Drop all records queued for ``route``, or these records, queued or dead-lettered; return how many."""
        ...

    def history(self, trace_id: bytes) -> list[RecordHistory]:
        """Return the records of a trace with their states, oldest first."""
        ...

    def records(self, trace_id: bytes, history: Sequence[RecordHistory] = ()) -> list[SpanRecord]:
        """Return the stored records of a trace, oldest first; with its ``history`` the spool is not searched again."""
        ...

    def enforce_limits(self) -> int:
        """Enforce the limits of bytes, age and ``keep_delivered``; return how many queued records were dropped.

        ``put`` and an idle ``lease`` do it from time to time.
        """
        ...

    def location(self) -> tuple[str, str]:
        """Return the path, and why the disk is not used at the moment, else an empty text; reads no records."""
        ...

    def usage(self) -> SpoolUsage:
        """Return the size of the spool."""
        ...
