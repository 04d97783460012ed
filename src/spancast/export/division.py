"""A claim sent in ever smaller parts, until what fails stands alone.

A batch that is refused for its content or its size is halved. So is a batch that *fails* (``Failed``: the destination
or our own code raised, or an exporter said no more than "failure"), as long as the destination answers for others:

1. If nothing of the claim was answered yet, up to ``PROBES`` of its spans, chosen at random, are sent alone. If all of
   them fail, the cause may have nothing to do with them (the network, memory, a missing package): the claim is tried
   again later, and nothing is dead-lettered.
2. Else the batch is halved. A span that fails alone is put aside until another one is answered, and sent once more. If
   it fails again, it is dead-lettered with the reason.
3. If ``IN_A_ROW`` spans were put aside with no answer in between, others of the claim are asked as in 1.
4. If the claim failed before as in 1, and the destination has taken another claim since, that counts as an answer.

Invariants (``tests/export/test_division.py``): a claim is settled from its front, each span once. A failure
dead-letters no span unless another span was answered. A destination that fails for every span is asked 1 + ``PROBES``
times for a claim, any other at most four times for each span.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Final, NamedTuple, TypeAlias

from spancast.destinations.protocol import Delivered, Failed, Outcome, Rejected, Retry
from spancast.export.spool.protocol import Entry

PROBES: Final = 4
IN_A_ROW: Final = 8

Send: TypeAlias = "Callable[[Sequence[Entry]], Outcome | None]"
"""Returns None if the claim was lost to another process."""


class Settled(NamedTuple):
    """The next ``entries`` of a claim, done with; ``refused`` are the sequences that were not taken."""

    entries: tuple[Entry, ...]
    outcome: Delivered | Rejected
    refused: tuple[int, ...] = ()


class _StoppedError(Exception):
    """Nothing more is sent of this claim."""


class Division:
    """One claim on its way.

    ``failure`` is why the part that is not settled has to be tried again, None if all is settled or the claim is lost.
    ``is_heard`` tells whether the destination answered; given, it is rule 4.
    """

    def __init__(self, entries: tuple[Entry, ...], send: Send, *, is_heard: bool = False) -> None:
        self.failure: Retry | Failed | None = None
        self.is_lost = False
        self.is_heard = is_heard
        self._parts = deque([entries])
        self._ask = send
        self._taken: set[int] = set()
        """Sequences that a probe delivered before it was their turn."""
        self._aside: list[Entry] = []
        self._refused_in_a_row = 0

    def run(self) -> Generator[Settled, None, None]:
        """Send all parts; yield what is settled, from the front."""
        try:
            while self._parts:
                yield from self._next()
            if self._aside:
                self._expect_an_answer()
                yield from self._decided()
        except _StoppedError:
            return
        self.failure = None

    def _next(self) -> Generator[Settled, None, None]:
        part = self._parts.popleft()
        overridden = self._unsent(part)
        if not overridden and self._aside:
            # Taken by a probe, which may be long ago: no answer that decides what was put aside before it.
            self._aside += part
            return
        outcome = self._sent(overridden) if overridden else Delivered()
        if isinstance(outcome, Failed):
            if len(part) > 1:
                if not self.is_heard:
                    self._ask_others(overridden)
                self._halve(part)
                return
            self._aside += part
            if len(self._unsent(self._aside)) >= IN_A_ROW:
                self._ask_others(self._ahead())
                yield from self._decided()
            return
        self.is_heard = True
        if isinstance(outcome, Rejected) and len(part) > 1 and self._may_be_halved(outcome, overridden):
            self._halve(part)
            return
        # What was put aside lies before this part.
        yield from self._decided()
        yield self._settled(part, outcome)

    def _unsent(self, entries: Iterable[Entry]) -> tuple[Entry, ...]:
        return tuple([entry for entry in entries if entry.sequence not in self._taken])

    def _ahead(self) -> tuple[Entry, ...]:
        return self._unsent(entry for part in self._parts for entry in part)

    def _halve(self, part: tuple[Entry, ...]) -> None:
        middle = len(part) // 2
        self._parts.extendleft((part[middle:], part[:middle]))

    def _may_be_halved(self, outcome: Rejected, overridden: Sequence[Entry]) -> bool:
        if not (outcome.too_large or outcome.invalid_content):
            return False
        if self._refused_in_a_row >= IN_A_ROW and self._is_one_taken((*overridden, *self._ahead())):
            self._refused_in_a_row = 0
        # A destination that refuses every span it is asked for is not asked for each of them.
        return self._refused_in_a_row < IN_A_ROW

    def _settled(self, part: tuple[Entry, ...], outcome: Delivered | Rejected) -> Settled:
        if isinstance(outcome, Delivered):
            self._refused_in_a_row = 0
            return Settled(part, outcome)
        self._refused_in_a_row += 1
        return Settled(part, outcome, tuple([entry.sequence for entry in self._unsent(part)]))

    def _decided(self) -> Generator[Settled, None, None]:
        """Send once more what was put aside: another span was answered since."""
        aside, self._aside = self._aside, []
        for entry in aside:
            outcome = Delivered() if entry.sequence in self._taken else self._sent((entry,))
            yield self._settled((entry,), Rejected(outcome.reason) if isinstance(outcome, Failed) else outcome)

    def _ask_others(self, candidates: Sequence[Entry]) -> None:
        """Stop unless one of ``candidates`` is answered."""
        if candidates and not any(not isinstance(outcome, Failed) for outcome in self._probed(candidates)):
            raise _StoppedError
        self._expect_an_answer()

    def _is_one_taken(self, candidates: Sequence[Entry]) -> bool:
        return any(isinstance(outcome, Delivered) for outcome in self._probed(candidates))

    def _probed(self, candidates: Sequence[Entry]) -> Generator[Delivered | Rejected | Failed, None, None]:
        chosen = random.sample(candidates, min(PROBES, len(candidates)))
        for entry in sorted(chosen, key=lambda entry: entry.sequence):
            outcome = self._sent((entry,))
            if isinstance(outcome, Delivered) and not outcome.rejected:
                self._taken.add(entry.sequence)
            self.is_heard = self.is_heard or not isinstance(outcome, Failed)
            yield outcome

    def _expect_an_answer(self) -> None:
        if not self.is_heard:
            raise _StoppedError

    def _sent(self, entries: Sequence[Entry]) -> Delivered | Rejected | Failed:
        outcome = self._ask(entries)
        if outcome is None:
            self.is_lost, self.failure = True, None
            raise _StoppedError
        if isinstance(outcome, (Retry, Failed)):
            self.failure = outcome
        if isinstance(outcome, Retry):
            raise _StoppedError
        return outcome
