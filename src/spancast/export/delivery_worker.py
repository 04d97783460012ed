"""Delivery worker: one thread per destination that leases batches from the spool and acts on the outcome.

The outcome of a batch is acknowledged, returned for a retry with back-off, or dead-lettered. Destinations do not wait
for each other.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Final

from spancast.destinations.protocol import (
    Delivered,
    Destination,
    Failed,
    Outcome,
    PartlyDelivered,
    Payload,
    Rejected,
    Retry,
)
from spancast.diagnostics import counters, guarded, logger, never_raise, reason_of, warn_once
from spancast.errors import SpancastError
from spancast.export.division import Division, Send
from spancast.export.filtering import DestinationFilter
from spancast.export.payload_cache import PayloadCache
from spancast.export.quoted_content import without_quotes
from spancast.export.spool.protocol import Entry, Lease, QueueStats, Spool, route_key
from spancast.export.worker_thread import WorkerThread, as_worker

BATCH_RECORDS: Final = 1024
BATCH_BYTES: Final = 2 << 20
"""Below the 4 MiB limit of gRPC servers, with room for metadata and for what a convention adds."""
PROBE_BATCH: Final = 16
BATCH_DELAY_S: Final = 0.5
"""A trace should be at its destinations a second after its end; a longer delay means fewer requests."""
FIRST_BACKOFF_S: Final = 1.0
LONGEST_BACKOFF_S: Final = 120.0
FAILURES_TO_OPEN: Final = 5
_EXTEND_AFTER_S: Final = 10.0
_SMALLEST_SPAN_BYTES: Final = 4096
_IDLE_S: Final = 5.0
_PACE_S: Final = 0.25
_REASON_KIND: Final = 40
_MAX_REASONS: Final = 8


@dataclass(frozen=True, slots=True)
class Route:
    """One destination with its filter; ``name`` and ``kind`` are its name and type in the configuration.

    ``fingerprint`` identifies the address and the account it sends to.
    """

    name: str
    rules: DestinationFilter
    destination: Destination
    timeout_s: float = 10.0
    kind: str = ""
    fingerprint: str = ""

    @property
    def key(self) -> str:
        """Return the key of this destination in the spool."""
        return route_key(self.name, self.fingerprint)


class DeliveryWorker:
    """The delivery thread of one route. ``clock`` returns Unix seconds, as for the spool; ``jitter`` returns 0 to 1."""

    def __init__(
        self,
        route: Route,
        spool: Spool,
        payloads: PayloadCache,
        clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.route = route
        self._spool = spool
        self._payloads = payloads
        self._clock = clock
        self._jitter = jitter
        # Not the condition is entered: Ctrl-C inside its methods, which are Python, could leave it locked.
        self._state_lock = threading.RLock()
        self._condition = threading.Condition(self._state_lock)
        self._passes = self._passes_requested = self._passes_done = 0
        self._has_new_records = False
        self._is_flushing = False
        self._is_stopped = False
        self._deadline_s: float | None = None
        self._backoff_until_s = 0.0
        self._retry_after_until_s = 0.0
        self._longest_wait_s = 0.0
        """How long the current back-off is. If more is left of it, the clock was set back."""
        self._failures = 0
        self._logged_reasons: set[str] = set()
        """Reasons logged since the last delivery, so that each outage is logged once."""
        self.last_rejection = ""
        """The latest reason of a permanent rejection by the destination, in this process."""
        self._unanswered: AbstractSet[tuple[str, int]] = frozenset()
        """The log and sequences of the last lease that failed without an answer for any span."""
        self._has_delivered_since = False
        self._send_safely = guarded(self._send, _failed)
        self._max_records: int = min(
            getattr(route.destination, "max_batch_spans", None) or BATCH_RECORDS, BATCH_RECORDS
        )
        self._max_bytes: int = min(getattr(route.destination, "max_batch_bytes", None) or BATCH_BYTES, BATCH_BYTES)
        self._thread = WorkerThread(f"spancast {route.name}", self._run)

    @property
    def is_failing(self) -> bool:
        """Return whether the last delivery has failed."""
        return self._failures > 0

    @property
    def is_circuit_open(self) -> bool:
        """Return whether the circuit is open: after ``FAILURES_TO_OPEN`` failures only small batches are sent."""
        return self._failures >= FAILURES_TO_OPEN

    def wake(self) -> None:
        """Signal that the spool has new records."""
        if not self._has_new_records:
            with self._state_lock:
                self._has_new_records = True
                self._condition.notify_all()

    def request_flush(self) -> int:
        """Start to deliver all queued records, without waiting for a fuller batch or the end of the own back-off.

        Return a pass number for ``wait_until_idle``.
        """
        with self._state_lock:
            self._passes_requested += 1
            self._has_new_records = self._is_flushing = True
            self._condition.notify_all()
            return self._passes_requested

    def wait_until_idle(self, requested: int, deadline_s: float, *, patient: bool) -> QueueStats:
        """Wait until the pass ``requested`` is done and nothing is queued, or until ``deadline_s``; return the queue.

        ``deadline_s`` is a time of ``time.monotonic()``. The wait ends early if the next attempt is due after it;
        without ``patient`` it ends after the first failed attempt.
        """
        self.wait_for_pass(requested, deadline_s)
        # Read the pass number first: a pass that ends between the two reads must not be waited for.
        seen, queued = self._passes, self._spool.has_queued(self.route.key)
        while patient and queued and not self._is_stopped and max(self._backoff_left_s(), 0) < _left(deadline_s):
            with self._state_lock:
                wait_s = min(_left(deadline_s), _PACE_S)
                if not self._condition.wait_for(lambda: self._passes > seen or self._is_stopped, wait_s):  # noqa: B023 - called at once
                    # Another process may have had the lease, and there is no signal when it releases it.
                    self.wake()
            seen, queued = self._passes, self._spool.has_queued(self.route.key)
        return self._spool.state(self.route.key)

    def wait_for_pass(self, requested: int, deadline_s: float) -> None:
        """Wait until the pass ``requested`` is done, or until ``deadline_s``."""
        with self._state_lock:
            self._condition.wait_for(lambda: self._passes_done >= requested or self._is_stopped, _left(deadline_s))

    def start(self) -> bool:
        """Start the thread unless it runs; False if none can be started (system limit, or the interpreter ends)."""
        if self._thread.is_running:
            return True
        if not self._backoff_until_s:
            # The spool keeps the back-off of an earlier process.
            self._backoff_until_s = self._spool.due_s(self.route.key)
            self._longest_wait_s = self._backoff_until_s - self._clock()
        return self._thread.start()

    def deliver_here(self, deadline_s: float, *, patient: bool) -> None:
        """Deliver on this thread until ``deadline_s`` of ``time.monotonic()``; ``patient`` as in ``wait_until_idle``.

        For the end of the interpreter: Python 3.12 starts no thread there, and a short program has not started ours.
        """
        self._deadline_s = deadline_s
        try:
            with as_worker():
                while _left(deadline_s):
                    if self.deliver_next():
                        continue
                    wait_s = self._backoff_left_s()
                    if not patient or not 0 < wait_s < _left(deadline_s):
                        break
                    time.sleep(wait_s)
        finally:
            self._deadline_s = None
            with self._state_lock:
                self._passes_done = self._passes_requested

    def stop(self) -> None:
        """Request that the thread ends after the batch it is sending."""
        with self._state_lock:
            self._is_stopped = True
            self._condition.notify_all()

    def after_fork_in_child(self, payloads: PayloadCache) -> None:
        """Reset the state of the thread: the child process does not have it."""
        self._payloads = payloads
        # Not the condition is entered: Ctrl-C inside its methods, which are Python, could leave it locked.
        self._state_lock = threading.RLock()
        self._condition = threading.Condition(self._state_lock)
        self._has_new_records = self._is_flushing = False
        self._passes = self._passes_requested = self._passes_done = 0
        self._thread.reset_after_fork()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread to end; False if it still runs after ``timeout_s``."""
        return self._thread.join(timeout_s)

    def _run(self) -> None:
        while self._wait():
            requested = self._passes_requested
            while not self._is_stopped and self.deliver_next():
                pass
            with self._state_lock:
                self._passes += 1
                self._passes_done = max(self._passes_done, requested)
                self._condition.notify_all()

    def _wait(self) -> bool:
        with self._state_lock:
            # There is no signal for records of other processes, so the spool is polled.
            self._condition.wait_for(lambda: self._has_new_records or self._is_stopped, self._idle_s())
            if self._has_new_records and not self._is_flushing and not self._is_stopped:
                self._condition.wait_for(lambda: self._is_flushing or self._is_stopped, BATCH_DELAY_S)
            self._has_new_records = False
            return not self._is_stopped

    def _due_s(self) -> float:
        return max(self._backoff_until_s, self._retry_after_until_s)

    def _backoff_left_s(self) -> float:
        left_s = self._due_s() - self._clock()
        return 0.0 if left_s > self._longest_wait_s else left_s

    def _idle_s(self) -> float:
        due_s = self._backoff_left_s()
        return min(max(due_s, 0.05), _IDLE_S) if due_s > 0 else _IDLE_S

    @never_raise
    def deliver_next(self) -> bool:
        """Deliver the next batch that is due; False if there is none or it has to be retried later."""
        now_s = self._clock()
        is_flush, self._is_flushing = self._is_flushing, False
        if self._backoff_left_s() > 0 and (now_s < self._retry_after_until_s or not is_flush):
            return False
        lease = self._spool.lease(
            self.route.key,
            max_records=min(PROBE_BATCH, self._max_records) if self.is_circuit_open else self._max_records,
            max_bytes=self._max_bytes,
            now_s=now_s,
            # The back-off is stored in the spool too, for the next process; a flush ignores it, and so does a wait that
            # is over although the clock was set back.
            is_early=self._due_s() > now_s,
        )
        if lease is None:
            return False
        if self._deliver(lease):
            self._is_flushing = self._is_flushing or is_flush
            return True
        return False

    def _deliver(self, lease: Lease) -> bool:
        has_answer = bool(self._unanswered) and self._has_delivered_since and _sequences(lease) <= self._unanswered
        division = Division(lease.entries, self._sender(lease), has_answer=has_answer)
        left = lease.entries
        for entries, outcome, rejected in division.run():
            left = left[len(entries) :]
            settled = replace(lease, entries=entries)
            if isinstance(outcome, Rejected):
                self._dead_letter(settled, rejected, outcome.reason)
                continue
            if rejected:
                self._dead_letter(settled, rejected, outcome.message)
            else:
                self._ack(settled, outcome)
            self._note_success()
        if early := division.early(left):
            self._settle(replace(lease, entries=left), early)
            left = tuple([entry for entry in left if entry.sequence not in early])
        if division.failure is None:
            if division.is_lost and left:
                # If the file of the spool is gone, no process has the rest: nack() counts it. Else it does nothing.
                self._spool.nack(replace(lease, entries=left), self._clock(), "the lease was lost")
            elif not division.is_lost:
                self._failures = 0
            return True
        if not division.has_answer:
            self._unanswered, self._has_delivered_since = _sequences(lease), False
        self._retry(replace(lease, entries=left), division.failure)
        return False

    def _sender(self, lease: Lease) -> Send:
        extended_s = time.monotonic()

        def send(entries: Sequence[Entry]) -> Outcome | None:
            nonlocal extended_s
            if time.monotonic() - extended_s > _EXTEND_AFTER_S:
                if not self._spool.extend(lease, self._clock()):
                    return None
                extended_s = time.monotonic()
            return self._send_safely(lease.log, entries)

        return send

    def _send(self, log: str, part: Sequence[Entry]) -> Outcome:
        payload = self._payloads.payload(self.route.destination.encoder, log, part)
        outcome = _quoting_nothing(self._call_destination(payload), part)
        if len(part) > 1 or not isinstance(outcome, Rejected) or not outcome.too_large:
            return outcome
        # A single span that is too large is sent truncated.
        limit = part[0].record.size_bytes // 4
        while limit > _SMALLEST_SPAN_BYTES and isinstance(outcome, Rejected) and outcome.too_large:
            outcome = self._call_destination(payload.truncated(limit))
            limit //= 4
        return outcome

    def _call_destination(self, payload: Payload) -> Outcome:
        deadline_s, timeout_s = self._deadline_s, self.route.timeout_s
        if deadline_s is not None:
            timeout_s = min(timeout_s, _left(deadline_s))
        try:
            return self.route.destination.deliver(payload, timeout_s)
        except SpancastError as error:
            # This type is about a missing package or the configuration, never about a span.
            return Retry(str(error))

    def _ack(self, lease: Lease, outcome: Delivered) -> None:
        name = self.route.name
        self._spool.ack(lease)
        # A server may name more spans than it got.
        rejected = min(max(outcome.rejected, 0), len(lease.entries))
        counters.add("delivered", len(lease.entries) - rejected, destination=name)
        if rejected:
            counters.add("rejected", rejected, destination=name)
            self.last_rejection = outcome.message
            warn_once(
                f"rejected:{name}",
                "spancast: %s rejected %d spans of a batch (partial success): %s",
                name,
                rejected,
                outcome.message,
            )
        elif outcome.message:
            logger.info("spancast: %s accepted a batch with the message: %s", name, outcome.message)

    def _settle(self, lease: Lease, early: Mapping[int, str | None]) -> None:
        name = self.route.name
        rejected = {sequence: reason for sequence, reason in early.items() if reason is not None}
        self._spool.settle(lease, [sequence for sequence in early if sequence not in rejected], rejected)
        counters.add("delivered", len(early) - len(rejected), destination=name)
        if rejected:
            counters.add("dead_lettered", len(rejected), destination=name)
            self._warn_of_rejection(next(iter(rejected.values())))

    def _note_success(self) -> None:
        self._has_delivered_since = True
        self._backoff_until_s = self._retry_after_until_s = 0.0
        if self._logged_reasons:
            self._logged_reasons.clear()
            logger.warning("spancast: export to %s works again", self.route.name)

    def _retry(self, lease: Lease, outcome: Retry | Failed) -> None:
        name = self.route.name
        self._failures += 1
        now_s = self._clock()
        attempts = max(lease.attempts, self._failures - 1)
        backoff_s = min(FIRST_BACKOFF_S * 2 ** min(attempts, 10), LONGEST_BACKOFF_S)
        # Jitter between half and all of it, so that many processes do not retry at the same time.
        self._backoff_until_s = now_s + backoff_s * (0.5 + self._jitter() / 2)
        seconds = outcome.after_s if isinstance(outcome, Retry) else None
        self._retry_after_until_s = now_s + seconds if seconds else 0.0
        due_s = self._due_s()
        self._longest_wait_s = due_s - now_s
        self._spool.nack(lease, due_s, outcome.reason)
        counters.add("retries", destination=name)
        kind = outcome.reason[:_REASON_KIND]
        if kind not in self._logged_reasons and len(self._logged_reasons) < _MAX_REASONS:
            self._logged_reasons.add(kind)
            logger.warning("spancast: export to %s failed: %s; will retry", name, outcome.reason)

    def _dead_letter(self, lease: Lease, sequences: Sequence[int], reason: str) -> None:
        name = self.route.name
        self._spool.dead_letter(lease, sequences, reason)
        counters.add("dead_lettered", len(sequences), destination=name)
        counters.add("delivered", len(lease.entries) - len(sequences), destination=name)
        self._warn_of_rejection(reason)

    def _warn_of_rejection(self, reason: str) -> None:
        name = self.route.name
        self.last_rejection = reason
        warn_once(
            f"refused:{name}:{reason[:40]}",
            "spancast: %s rejected spans permanently: %s; see `spancast spool`",
            name,
            reason,
        )


def _sequences(lease: Lease) -> AbstractSet[tuple[str, int]]:
    return {(lease.log, entry.sequence) for entry in lease.entries}


def _quoting_nothing(outcome: Outcome, part: Sequence[Entry]) -> Outcome:
    """Return ``outcome`` without what its texts quote of ``part``."""
    if isinstance(outcome, Delivered):
        return replace(outcome, message=without_quotes(outcome.message, part)) if outcome.message else outcome
    if isinstance(outcome, PartlyDelivered):
        rest = replace(outcome.rest, reason=without_quotes(outcome.rest.reason, part))
        # A product gives the same reason to many spans.
        known = {reason: without_quotes(reason, part) for reason in set(outcome.rejected.values())}
        return replace(outcome, rest=rest, rejected={ids: known[reason] for ids, reason in outcome.rejected.items()})
    return replace(outcome, reason=without_quotes(outcome.reason, part))


def _failed(error: Exception) -> Outcome:
    return Failed(reason_of(error))


def _left(deadline_s: float) -> float:
    return max(deadline_s - time.monotonic(), 0)
