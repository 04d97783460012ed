"""Who delivers: one thread per route takes batches from the spool and obeys what the destination answers.

Must never: let one route wait for another, send faster to a destination that fails, or settle
what was not answered.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Final

from spancast.destinations.protocol import Delivered, Destination, Failed, Outcome, Payload, Rejected, Retry
from spancast.diagnostics import counters, guarded, logger, never_raise, reason_of, warn_once
from spancast.errors import SpancastError
from spancast.export.division import Division, Send
from spancast.export.filtering import DestinationFilter
from spancast.export.payload_cache import PayloadCache
from spancast.export.spool.protocol import Entry, Lease, QueueStats, Spool, route_key
from spancast.export.worker_thread import WorkerThread

BATCH_RECORDS: Final = 1024
BATCH_BYTES: Final = 2 << 20
"""Under the 4 MiB that gRPC servers take by default, metadata and renaming included."""
PROBE_BATCH: Final = 16
BATCH_DELAY_S: Final = 1.0
FIRST_BACKOFF_S: Final = 1.0
LONGEST_BACKOFF_S: Final = 120.0
FAILURES_TO_OPEN: Final = 5
_RENEW_AFTER_S: Final = 10.0
_SMALLEST_SPAN_BYTES: Final = 4096
_IDLE_S: Final = 5.0
_PACE_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Route:
    """One destination with its rules, under its name in the configuration; ``kind`` is its type there.

    ``fingerprint`` is that of the place it sends to.
    """

    name: str
    rules: DestinationFilter
    destination: Destination
    timeout_s: float = 10.0
    kind: str = ""
    fingerprint: str = ""

    @property
    def key(self) -> str:
        """Return how the spool knows it."""
        return route_key(self.name, self.fingerprint)


class DeliveryWorker:
    """Delivers for one route. ``clock`` is Unix seconds, as the spool's; ``jitter`` returns 0 to 1."""

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
        self._changed = threading.Condition()
        self._passes = self._passes_asked = self._passes_done = 0
        self._has_news = False
        self._is_hurried = False
        self._is_stopped = False
        self._backs_off_until_s = 0.0
        self._server_said_until_s = 0.0
        self._failures = 0
        self.last_refusal = ""
        """Why the destination last refused a span for good, in this process."""
        self._unanswered: AbstractSet[tuple[str, int]] = frozenset()
        """The sequences of the last claim that failed without an answer for any span."""
        self._took_since = False
        self._sent = guarded(self._send, _failed)
        self._max_records: int = getattr(route.destination, "max_batch_spans", None) or BATCH_RECORDS
        self._max_bytes: int = getattr(route.destination, "max_batch_bytes", None) or BATCH_BYTES
        self._thread = WorkerThread(f"spancast {route.name}", self._run)

    @property
    def is_open(self) -> bool:
        """Tell whether the circuit is open: the destination failed so often that only probes are sent."""
        return self._failures >= FAILURES_TO_OPEN

    def notify(self) -> None:
        """Say that the spool has something new."""
        if not self._has_news:
            with self._changed:
                self._has_news = True
                self._changed.notify_all()

    def hurry(self) -> int:
        """Deliver what waits now, without the wait for a fuller batch or for our own back-off.

        Returns a number for ``settle``.
        """
        with self._changed:
            self._passes_asked += 1
            self._has_news = self._is_hurried = True
            self._changed.notify_all()
            return self._passes_asked

    def settle(self, asked: int, deadline_s: float, *, patient: bool) -> QueueStats:
        """Return what waits once the pass ``asked`` is done and nothing waits, or ``deadline_s`` is past.

        ``deadline_s`` is of ``time.monotonic()``. The wait ends early where nothing will be tried
        before it; without ``patient`` the first failed try is enough.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._passes_done >= asked or self._is_stopped, _left(deadline_s))
        # In this order: a pass between the two is seen, not waited for.
        seen, state = self._passes, self._spool.state(self.route.key)
        while patient and state.waiting and not self._is_stopped and max(self._waits_s(), 0) < _left(deadline_s):
            with self._changed:
                wait_s = min(_left(deadline_s), _PACE_S)
                if not self._changed.wait_for(lambda: self._passes > seen or self._is_stopped, wait_s):  # noqa: B023 - asked at once
                    # Another process may have had the lease, and tells nobody when it gives it back.
                    self.notify()
            seen, state = self._passes, self._spool.state(self.route.key)
        return state

    def start(self) -> None:
        """Start the thread, unless it runs or none can be started."""
        if self._thread.is_running:
            return
        if not self._backs_off_until_s:
            # A back-off outlives the process that began it.
            self._backs_off_until_s = self._spool.state(self.route.key).due_s
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end after the batch it is sending."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()

    def after_fork_in_child(self, payloads: PayloadCache) -> None:
        """Begin anew: the parent's thread is not here, and what it waited for is its own."""
        self._payloads = payloads
        self._changed = threading.Condition()
        self._has_news = self._is_hurried = False
        self._passes = self._passes_asked = self._passes_done = 0
        self._thread.forget()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread to end; False if it did not."""
        return self._thread.join(timeout_s)

    def _run(self) -> None:
        while self._wait():
            asked = self._passes_asked
            while not self._is_stopped and self.deliver_next():
                pass
            with self._changed:
                self._passes += 1
                self._passes_done = max(self._passes_done, asked)
                self._changed.notify_all()

    def _wait(self) -> bool:
        with self._changed:
            # News of other processes are not told, so the spool is looked at from time to time.
            self._changed.wait_for(lambda: self._has_news or self._is_stopped, self._idle_s())
            if self._has_news and not self._is_hurried and not self._is_stopped:
                self._changed.wait_for(lambda: self._is_hurried or self._is_stopped, BATCH_DELAY_S)
            self._has_news = False
            return not self._is_stopped

    def _waits_s(self) -> float:
        return max(self._backs_off_until_s, self._server_said_until_s) - self._clock()

    def _idle_s(self) -> float:
        due_s = self._waits_s()
        return min(max(due_s, 0.05), _IDLE_S) if due_s > 0 else _IDLE_S

    @never_raise
    def deliver_next(self) -> bool:
        """Deliver the next batch that is due; False where there was none or it has to wait."""
        now_s = self._clock()
        hurried, self._is_hurried = self._is_hurried, False
        if now_s < self._server_said_until_s or (now_s < self._backs_off_until_s and not hurried):
            return False
        # Own back-off is in the spool too, for the next process; in a hurry it does not hold.
        asked_s = max(now_s, self._backs_off_until_s) if hurried else now_s
        claim = self._spool.claim(
            self.route.key,
            max_records=min(PROBE_BATCH, self._max_records) if self.is_open else self._max_records,
            max_bytes=self._max_bytes,
            now_s=asked_s,
        )
        if claim is None:
            return False
        if self._deliver(claim):
            self._is_hurried = self._is_hurried or hurried
            return True
        return False

    def _deliver(self, claim: Lease) -> bool:
        is_heard = bool(self._unanswered) and self._took_since and _sequences(claim) <= self._unanswered
        division = Division(claim.entries, self._sender(claim), is_heard=is_heard)
        left = claim.entries
        for entries, outcome, refused in division.run():
            left = left[len(entries) :]
            settled = replace(claim, entries=entries)
            if isinstance(outcome, Rejected):
                self._bury(settled, refused, outcome.reason)
            else:
                self._took(settled, outcome)
        if division.failure is None:
            if division.is_lost and left:
                # If the spool's file is gone, no process has the rest; else this changes nothing.
                self._spool.nack(replace(claim, entries=left), self._clock(), "the lease was lost")
            elif not division.is_lost:
                self._failures = 0
            return True
        if not division.is_heard:
            self._unanswered, self._took_since = _sequences(claim), False
        self._retry(replace(claim, entries=left), division.failure)
        return False

    def _sender(self, claim: Lease) -> Send:
        renewed_s = time.monotonic()

        def send(entries: Sequence[Entry]) -> Outcome | None:
            nonlocal renewed_s
            if time.monotonic() - renewed_s > _RENEW_AFTER_S:
                if not self._spool.renew(claim, self._clock()):
                    return None
                renewed_s = time.monotonic()
            return self._sent(claim.log, entries)

        return send

    def _send(self, log: str, part: Sequence[Entry]) -> Outcome:
        payload = self._payloads.payload(self.route.destination.encoder, log, part)
        outcome = self._delivered(payload)
        if len(part) > 1 or not isinstance(outcome, Rejected) or not outcome.too_large:
            return outcome
        # One span that is too large alone: smaller, rather than not at all.
        limit = part[0].record.size_bytes // 4
        while limit > _SMALLEST_SPAN_BYTES and isinstance(outcome, Rejected) and outcome.too_large:
            outcome = self._delivered(payload.truncated(limit))
            limit //= 4
        return outcome

    def _delivered(self, payload: Payload) -> Outcome:
        try:
            return self.route.destination.deliver(payload, self.route.timeout_s)
        except SpancastError as error:
            # Raised on purpose, and so about a package or the configuration, never about a span.
            return Retry(str(error))

    def _took(self, claim: Lease, outcome: Delivered) -> None:
        name = self.route.name
        self._spool.ack(claim)
        self._took_since = True
        counters.add("delivered", len(claim.entries) - outcome.rejected, destination=name)
        self._backs_off_until_s = self._server_said_until_s = 0.0
        if outcome.rejected:
            counters.add("rejected", outcome.rejected, destination=name)
            self.last_refusal = outcome.message
            warn_once(
                f"rejected:{name}",
                "spancast: %s refused %d spans of a batch it took (partial success): %s",
                name,
                outcome.rejected,
                outcome.message,
            )
        elif outcome.message:
            logger.info("spancast: %s took a batch and says: %s", name, outcome.message)

    def _retry(self, claim: Lease, outcome: Retry | Failed) -> None:
        name = self.route.name
        self._failures += 1
        now_s = self._clock()
        attempts = max(claim.attempts, self._failures - 1)
        backoff_s = min(FIRST_BACKOFF_S * 2 ** min(attempts, 10), LONGEST_BACKOFF_S)
        # Between half and the whole, so that a thousand processes do not come back in step.
        self._backs_off_until_s = now_s + backoff_s * (0.5 + self._jitter() / 2)
        seconds = outcome.after_s if isinstance(outcome, Retry) else None
        self._server_said_until_s = now_s + seconds if seconds else 0.0
        due_s = max(self._backs_off_until_s, self._server_said_until_s)
        self._spool.nack(claim, due_s, outcome.reason)
        counters.add("retries", destination=name)
        warn_once(
            f"retry:{name}:{outcome.reason[:40]}",
            "spancast: %s did not take a batch (%s); it is kept and tried again",
            name,
            outcome.reason,
        )

    def _bury(self, claim: Lease, sequences: Sequence[int], reason: str) -> None:
        name = self.route.name
        self._spool.bury(claim, sequences, reason)
        counters.add("dead_lettered", len(sequences), destination=name)
        counters.add("delivered", len(claim.entries) - len(sequences), destination=name)
        self.last_refusal = reason
        warn_once(
            f"refused:{name}:{reason[:40]}",
            "spancast: %s refused spans for good (%s); `spancast spool` lists them and can send them again",
            name,
            reason,
        )


def _sequences(claim: Lease) -> AbstractSet[tuple[str, int]]:
    return {(claim.log, entry.sequence) for entry in claim.entries}


def _failed(error: Exception) -> Outcome:
    return Failed(reason_of(error))


def _left(deadline_s: float) -> float:
    return max(deadline_s - time.monotonic(), 0)
