"""Divide a batch that fails or is rejected, until the spans that cause it are found.

An *answer* is an outcome that shows that the destination works: delivered or rejected. A batch that is rejected for its
content or its size is halved. So is a batch that *fails* (``Failed``: the destination or our own code raised, or an
exporter returned only "failure"), as long as the destination answers for other spans:

1. If no span of the lease was answered yet, up to ``PROBES`` of its spans, chosen at random, are sent alone. If all of
   them fail, the cause may be outside the spans (the network, memory, a missing package): the lease is retried later,
   and nothing is dead-lettered.
2. Otherwise the batch is halved. A span that fails alone is deferred until another span is answered, then sent once
   more. If it fails again, it is dead-lettered with the reason.
3. If ``IN_A_ROW`` spans were deferred without an answer in between, other spans of the lease are probed as in 1.
4. If the lease failed before as in 1, and the destination has taken another lease since, that counts as an answer.

Of a batch that was partly delivered, the rest alone is divided. What was delivered before a failure is in ``early``.

Invariants (``tests/export/test_division.py``): a lease is settled from its front, each span once. A failure
dead-letters no span unless another span was answered. A destination that fails for every span gets 1 + ``PROBES``
requests per lease, any other destination at most four requests per span.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Final, NamedTuple, TypeAlias

from spancast.destinations.protocol import Delivered, Failed, Outcome, PartlyDelivered, Rejected, Retry
from spancast.export.spool.protocol import Entry

PROBES: Final = 4
IN_A_ROW: Final = 8

Send: TypeAlias = "Callable[[Sequence[Entry]], Outcome | None]"
"""Returns None if another process took over the lease."""


class Settled(NamedTuple):
    """The next ``entries`` of a lease with their final outcome; ``rejected`` are the sequences to dead-letter."""

    entries: tuple[Entry, ...]
    outcome: Delivered | Rejected
    rejected: tuple[int, ...] = ()


class _StoppedError(Exception):
    """Nothing more is sent of this lease."""


class Division:
    """The delivery of one lease.

    ``failure`` is why the part that is not settled has to be retried, None if all is settled or the lease is lost.
    ``has_answer`` is whether the destination answered; the parameter is rule 4.
    """

    def __init__(self, entries: tuple[Entry, ...], send: Send, *, has_answer: bool = False) -> None:
        self.failure: Retry | Failed | None = None
        self.is_lost = False
        self.has_answer = has_answer
        self._parts = deque([entries])
        self._send_entries = send
        self._early: dict[int, str | None] = {}
        """Sequences that were settled before their part: None if delivered, else the reason of the rejection."""
        self._deferred: list[Entry] = []
        self._rejected_in_a_row = 0

    def run(self) -> Generator[Settled, None, None]:
        """Send all parts; yield the settled entries, from the front."""
        try:
            while self._parts:
                yield from self._send_next()
            if self._deferred:
                self._require_answer()
                yield from self._settle_deferred()
        except _StoppedError:
            return
        self.failure = None

    def early(self, entries: Iterable[Entry]) -> Mapping[int, str | None]:
        """Return which of ``entries`` are settled already: None if delivered, else the reason of the rejection."""
        return {sequence: self._early[sequence] for sequence, _ in entries if sequence in self._early}

    def _send_next(self) -> Generator[Settled, None, None]:
        part = self._parts.popleft()
        unsent = self._not_settled(part)
        if not unsent and self._deferred:
            # A probe delivered it, maybe long ago: not an answer that decides about the spans deferred before it.
            self._deferred += part
            return
        outcome = self._send(unsent) if unsent else Delivered()
        unsent = self._not_settled(unsent)
        if isinstance(outcome, Failed):
            if len(part) > 1:
                if not self.has_answer:
                    self._probe_others(unsent)
                self._halve(part)
                return
            self._deferred += part
            if len(self._not_settled(self._deferred)) >= IN_A_ROW:
                self._probe_others(self._remaining())
                yield from self._settle_deferred()
            return
        self.has_answer = True
        if isinstance(outcome, Rejected) and len(part) > 1 and self._may_be_halved(outcome, unsent):
            self._halve(part)
            return
        # The deferred spans are before this part in the log.
        yield from self._settle_deferred()
        yield from self._settled(part, outcome)

    def _not_settled(self, entries: Iterable[Entry]) -> tuple[Entry, ...]:
        return tuple([entry for entry in entries if entry.sequence not in self._early])

    def _remaining(self) -> tuple[Entry, ...]:
        return self._not_settled(entry for part in self._parts for entry in part)

    def _halve(self, part: tuple[Entry, ...]) -> None:
        middle = len(part) // 2
        self._parts.extendleft((part[middle:], part[:middle]))

    def _may_be_halved(self, outcome: Rejected, unsent: Sequence[Entry]) -> bool:
        if not (outcome.too_large or outcome.invalid_content):
            return False
        if self._rejected_in_a_row >= IN_A_ROW and self._is_any_delivered((*unsent, *self._remaining())):
            self._rejected_in_a_row = 0
        # If a destination rejects every span, the spans are not sent one by one.
        return self._rejected_in_a_row < IN_A_ROW

    def _settled(self, part: tuple[Entry, ...], outcome: Delivered | Rejected) -> Generator[Settled, None, None]:
        for reason, members in groupby(part, lambda entry: self._early.get(entry.sequence)):
            entries = tuple(members)
            if reason is None:
                yield self._settled_by(entries, outcome)
            else:
                yield Settled(entries, Rejected(reason), tuple([entry.sequence for entry in entries]))

    def _settled_by(self, part: tuple[Entry, ...], outcome: Delivered | Rejected) -> Settled:
        if isinstance(outcome, Delivered):
            self._rejected_in_a_row = 0
            named = outcome.rejected_spans
            rejected = [entry.sequence for entry in part if named and _ids(entry) in named]
            return Settled(part, outcome, tuple(rejected))
        self._rejected_in_a_row += 1
        return Settled(part, outcome, tuple([entry.sequence for entry in self._not_settled(part)]))

    def _settle_deferred(self) -> Generator[Settled, None, None]:
        """Send the deferred spans once more, because another span was answered since."""
        deferred, self._deferred = self._deferred, []
        for entry in deferred:
            outcome = Delivered() if entry.sequence in self._early else self._send((entry,))
            yield from self._settled((entry,), Rejected(outcome.reason) if isinstance(outcome, Failed) else outcome)

    def _probe_others(self, candidates: Sequence[Entry]) -> None:
        """Probe ``candidates``; stop unless one of them is answered."""
        if candidates and not any(not isinstance(outcome, Failed) for outcome in self._probe(candidates)):
            raise _StoppedError
        self._require_answer()

    def _is_any_delivered(self, candidates: Sequence[Entry]) -> bool:
        return any(isinstance(outcome, Delivered) for outcome in self._probe(candidates))

    def _probe(self, candidates: Sequence[Entry]) -> Generator[Delivered | Rejected | Failed, None, None]:
        chosen = random.sample(candidates, min(PROBES, len(candidates)))
        for entry in sorted(chosen, key=lambda entry: entry.sequence):
            outcome = self._send((entry,))
            if isinstance(outcome, Delivered) and not outcome.rejected:
                self._early[entry.sequence] = None
            self.has_answer = self.has_answer or not isinstance(outcome, Failed)
            yield outcome

    def _require_answer(self) -> None:
        if not self.has_answer:
            raise _StoppedError

    def _send(self, entries: Sequence[Entry]) -> Delivered | Rejected | Failed:
        outcome = self._send_entries(entries)
        if outcome is None:
            self.is_lost, self.failure = True, None
            raise _StoppedError
        if isinstance(outcome, PartlyDelivered):
            self._note_early(entries, outcome)
            outcome = outcome.rest
        if isinstance(outcome, (Retry, Failed)):
            self.failure = outcome
        if isinstance(outcome, Retry):
            raise _StoppedError
        return outcome

    def _note_early(self, entries: Iterable[Entry], outcome: PartlyDelivered) -> None:
        for entry in entries:
            if _ids(entry) in outcome.delivered:
                self._early[entry.sequence] = None
            elif (reason := outcome.rejected.get(_ids(entry))) is not None:
                self._early[entry.sequence] = reason
        self.has_answer = self.has_answer or bool(outcome.delivered or outcome.rejected)


def _ids(entry: Entry) -> tuple[str, str]:
    return entry.record.trace_id.hex(), entry.record.span_id.hex()
