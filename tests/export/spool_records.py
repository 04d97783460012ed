"""Records and a clock for the tests of the spool."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from spancast.export.spool.protocol import DeliveryState, Lease, Spool
from spancast.model.span_record import SpanRecord

START_S = 1_700_000_000.0


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now_s = START_S

    def __call__(self) -> float:
        return self.now_s


def record(number: int, *, trace: int = 1, size: int = 40, end_s: float = START_S) -> SpanRecord:
    return SpanRecord(
        trace_id=trace.to_bytes(16, "big"),
        span_id=(number + 1).to_bytes(8, "big"),
        parent_span_id=b"" if number == 0 else (1).to_bytes(8, "big"),
        end_ns=int(end_s) * 10**9,
        is_genai=number % 2 == 0,
        resource=b"resource",
        scope=b"scope",
        body=number.to_bytes(8, "big") + bytes([number % 251]) * (size - 8),
    )


def records(numbers: Iterable[int], **options: int) -> list[SpanRecord]:
    return [record(number, **options) for number in numbers]


def numbers(lease: Lease | None) -> list[int]:
    return [] if lease is None else [int.from_bytes(entry.record.body[:8], "big") for entry in lease.entries]


def take(
    spool: Spool, route: str, now_s: float = START_S, *, most: int = 1000, most_bytes: int = 1 << 30
) -> Lease | None:
    return spool.lease(route, max_records=most, max_bytes=most_bytes, now_s=now_s)


def deliver(spool: Spool, route: str, now_s: float = START_S, *, most: int = 1000) -> list[int]:
    """Lease and acknowledge until nothing is queued; return the numbers of the records."""
    delivered: list[int] = []
    while lease := take(spool, route, now_s, most=most):
        delivered += numbers(lease)
        spool.ack(lease)
    return delivered


def part(lease: Lease, first: int, last: int | None = None) -> Lease:
    return replace(lease, entries=lease.entries[first:last])


def states_of(spool: Spool, trace: int = 1) -> dict[int, dict[str, DeliveryState]]:
    """Return state by span number and route."""
    return {
        int.from_bytes(found.span_id, "big") - 1: {state.route: state for state in found.states}
        for found in spool.history(trace.to_bytes(16, "big"))
    }
