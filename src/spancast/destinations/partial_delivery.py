"""Delivery of rows to products that take each row by itself: requests within their limits, then only the rest.

The spans that were settled are in the outcome. The spool keeps them, so that a retry sends the rest only, also after a
restart.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

from spancast.destinations.protocol import Delivered, Failed, Failure, Outcome, PartlyDelivered, Rejected, Retry
from spancast.diagnostics import guarded, reason_of
from spancast.encoding.span_data import SpanData
from spancast.errors import SpancastError

_PAUSES_S: Final = (0.0, 0.2, 1.0)
"""Before each attempt of one delivery."""


class Row(NamedTuple):
    """A row of one span."""

    trace_id: str
    span_id: str
    body: bytes

    @property
    def key(self) -> tuple[str, str]:
        """Return both ids of the span."""
        return self.trace_id, self.span_id


@dataclass(frozen=True, slots=True)
class Partial:
    """The answer to a request whose rows were not all taken.

    ``again`` has the reasons of those to send again by their position, ``rejected`` those of permanent rejections.
    ``failure`` is the outcome of all rows that are not settled, if nothing more is to be sent now.
    """

    again: Mapping[int, str] = field(default_factory=dict[int, str])
    rejected: Mapping[int, str] = field(default_factory=dict[int, str])
    failure: Failure | None = None


Answer: TypeAlias = "Delivered | Retry | Rejected | Failed | Partial"
Send: TypeAlias = "Callable[[Sequence[Row], float], Answer]"
"""Sends one request within a number of seconds."""


def rows_of(spans: Iterable[SpanData], texts: Iterable[str], end: str = "") -> list[Row]:
    """Return a row for each of ``spans``, with its text and ``end``."""
    return [Row(span.trace_id, span.span_id, f"{text}{end}".encode()) for span, text in zip(spans, texts, strict=True)]


class PartialDelivery:
    """The delivery of one destination.

    A request has at most ``max_rows`` rows and ``max_bytes`` bytes, with ``row_overhead`` bytes for each row; a row has
    at most ``max_row_bytes`` bytes.
    """

    def __init__(
        self, product: str, *, max_rows: int, max_bytes: int, max_row_bytes: int | None = None, row_overhead: int = 0
    ) -> None:
        self._product = product
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._row_overhead = row_overhead
        self._max_row_bytes = max_bytes - row_overhead if max_row_bytes is None else max_row_bytes
        self._closed = threading.Event()

    def close(self) -> None:
        """End a pause between two attempts."""
        self._closed.set()

    def deliver(self, rows: Sequence[Row], send: Send, timeout_s: float) -> Outcome:
        """Send ``rows``; return the outcome of all of them."""
        largest = max((len(row.body) for row in rows), default=0)
        if largest > self._max_row_bytes:
            # Nothing is sent: the batch is divided until the row is alone, and its span is truncated then.
            reason = f"{self._product}: a row has {largest} bytes, the limit is {self._max_row_bytes}"
            return Rejected(reason, too_large=True)
        settled: dict[tuple[str, str], str] = {}
        # An exception is a failure too: what the product took before it is not sent again.
        failure = self._send_all(rows, guarded(send, _failed, SpancastError), time.monotonic() + timeout_s, settled)
        rejected = {key: reason for key, reason in settled.items() if reason}
        if failure is None:
            return Delivered(len(rejected), next(iter(rejected.values()), ""), frozenset(rejected))
        return PartlyDelivered(failure, frozenset(settled.keys() - rejected), rejected) if settled else failure

    def _send_all(
        self, rows: Sequence[Row], send: Send, deadline_s: float, settled: dict[tuple[str, str], str]
    ) -> Failure | None:
        """Add to ``settled`` the reason of the rejection of each row that is settled, empty if it was taken."""
        waiting = rows
        reason = ""
        for pause_s in _PAUSES_S:
            if not waiting or (pause_s and time.monotonic() + pause_s >= deadline_s) or self._closed.wait(pause_s):
                break
            again: list[Row] = []
            for part in self._parts(waiting):
                try:
                    answer = send(part, max(deadline_s - time.monotonic(), 0.001))
                except SpancastError as error:
                    # About a missing package or the configuration, never about a row.
                    return Retry(str(error))
                if not isinstance(answer, (Delivered, Partial)):
                    return answer
                partial = answer if isinstance(answer, Partial) else Partial()
                settled |= {
                    row.key: partial.rejected.get(position, "")
                    for position, row in enumerate(part)
                    if position not in partial.again
                }
                if partial.failure is not None:
                    return partial.failure
                again += [part[position] for position in partial.again]
                reason = next(iter(partial.again.values()), reason)
            waiting = again
        if not waiting:
            return None
        reason = reason.removeprefix(f"{self._product}: ")
        return Retry(f"{self._product}: {len(waiting)} of {len(rows)} rows were not taken: {reason}")

    def _parts(self, rows: Iterable[Row]) -> Iterator[Sequence[Row]]:
        part: list[Row] = []
        size = 0
        for row in rows:
            cost = len(row.body) + self._row_overhead
            if part and (len(part) == self._max_rows or size + cost > self._max_bytes):
                yield part
                part, size = [], 0
            part.append(row)
            size += cost
        if part:
            yield part


def _failed(error: Exception) -> Failed:
    return Failed(reason_of(error))
