"""The rules of ``export/division.py``, for any lease and any destination."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.export.spool_records import record

from spancast.destinations.protocol import Delivered, Failed, Outcome, Rejected, Retry
from spancast.export.division import IN_A_ROW, PROBES, Division, Settled
from spancast.export.spool.protocol import Entry


class Destination:
    """A destination that returns ``answer`` of the spans and records the delivered spans."""

    def __init__(self, answer: Callable[[Sequence[int]], Outcome | None]) -> None:
        self._answer = answer
        self.asked: list[tuple[int, ...]] = []
        self.took: Counter[int] = Counter()

    def __call__(self, entries: Sequence[Entry]) -> Outcome | None:
        sequences = [entry.sequence for entry in entries]
        assert sequences, "nothing is never sent"
        self.asked.append(tuple(sequences))
        outcome = self._answer(sequences)
        if isinstance(outcome, Delivered):
            self.took.update(sequences)
        return outcome


def entries(count: int) -> tuple[Entry, ...]:
    return tuple(Entry(number, record(number)) for number in range(count))


def divided(
    count: int, answer: Callable[[Sequence[int]], Outcome | None], *, has_answer: bool = False
) -> tuple[Division, Destination, list[Settled]]:
    destination = Destination(answer)
    division = Division(entries(count), destination, has_answer=has_answer)
    settled = list(division.run())
    order = [entry.sequence for one in settled for entry in one.entries]
    assert order == list(range(len(order))), "from the front, each once"
    return division, destination, settled


def refused(settled: Sequence[Settled]) -> dict[int, str]:
    return {
        sequence: one.outcome.reason
        for one in settled
        if isinstance(one.outcome, Rejected)
        for sequence in one.rejected
    }


def failing(odd: set[int]) -> Callable[[Sequence[int]], Outcome]:
    return lambda sent: Failed("odd") if odd & set(sent) else Delivered()


@pytest.mark.parametrize("count", [2, 3, 16, 201, 1024])
@pytest.mark.parametrize("position", ["first", "middle", "last"])
def test_one_failing_span_is_found_at_any_position(position: str, count: int) -> None:
    odd = {"first": 0, "middle": count // 2, "last": count - 1}[position]
    division, destination, settled = divided(count, failing({odd}))
    assert division.failure is None
    assert refused(settled) == {odd: "odd"}
    assert destination.took == Counter(set(range(count)) - {odd}), "each once"
    assert len(destination.asked) <= 2 * count.bit_length() + PROBES + 3


@settings(deadline=None)
@given(st.integers(2, 60).flatmap(lambda count: st.tuples(st.just(count), st.sets(st.integers(0, count - 1)))))
def test_failing_spans_are_found_unless_all_probes_fail(given: tuple[int, set[int]]) -> None:
    count, odd = given
    division, destination, settled = divided(count, failing(odd))
    assert len(destination.asked) <= 4 * count
    assert set(refused(settled)) <= odd
    if division.failure is None:
        assert set(refused(settled)) == odd
        assert destination.took == Counter(set(range(count)) - odd)
    else:
        assert len(odd) >= PROBES or len(odd) == count
        # Settled spans have the right outcome; spans delivered after them are sent again.
        assert {entry.sequence for one in settled for entry in one.entries} <= odd | set(destination.took)
    if len(odd) == count:
        assert settled == []


@settings(deadline=None)
@given(st.integers(1, 200))
def test_failure_for_every_span_dead_letters_nothing(count: int) -> None:
    division, destination, settled = divided(count, lambda _: Failed("network"))
    assert (division.failure, settled, division.has_answer) == (Failed("network"), [], False)
    assert len(destination.asked) == (1 if count == 1 else 1 + min(PROBES, count))


def test_destination_down_midway_dead_letters_nothing() -> None:
    """It answers at first, and from the middle of the lease on for nothing any more."""
    gone: list[bool] = []

    def answer(sent: Sequence[int]) -> Outcome:
        if len(sent) == 64 or gone:
            return Failed("network")
        if len(sent) > 1 and sent[0] >= 32:
            gone.append(True)
            return Failed("network")
        return Delivered()

    for _ in range(20):
        gone.clear()
        division, _, settled = divided(64, answer)
        assert division.failure == Failed("network")
        assert refused(settled) == {}


def test_many_failing_spans_in_a_row() -> None:
    odd = set(range(20, 60))
    division, destination, settled = divided(400, failing(odd))
    while division.failure is not None:
        # All probes failed by chance: as after a back-off.
        division, destination, settled = divided(400, failing(odd))
    assert set(refused(settled)) == odd
    assert destination.took == Counter(set(range(400)) - odd)


def test_span_fails_once_is_sent_again() -> None:
    once: list[int] = []

    def once_alone(sent: Sequence[int]) -> Outcome:
        if len(sent) > 1 and 5 in sent:
            return Failed("beside others")
        if list(sent) == [5] and not once:
            once.append(5)
            return Failed("alone, once")
        return Delivered()

    division, destination, settled = divided(32, once_alone)
    assert division.failure is None
    assert refused(settled) == {}
    assert destination.took == Counter(range(32))


def test_single_span_waits_for_answer_to_another() -> None:
    division, destination, settled = divided(1, failing({0}))
    assert (division.failure, settled, destination.asked) == (Failed("odd"), [], [(0,)])
    division, destination, settled = divided(1, failing({0}), has_answer=True)
    assert (division.failure, refused(settled)) == (None, {0: "odd"})
    assert destination.asked == [(0,), (0,)]


def test_retry_after_stops_the_lease() -> None:
    division, destination, settled = divided(16, lambda sent: Failed("odd") if len(sent) == 16 else Retry("busy", 7.0))
    assert (division.failure, settled) == (Retry("busy", 7.0), [])
    assert len(destination.asked) == 2


def test_lost_lease_is_not_settled() -> None:
    division, destination, settled = divided(16, lambda sent: Failed("odd") if len(sent) == 16 else None)
    assert (division.is_lost, division.failure, settled) == (True, None, [])
    assert len(destination.asked) == 2


def test_rejected_span_is_found() -> None:
    bad = {3, 40}
    division, destination, settled = divided(
        64, lambda sent: Rejected("bad", invalid_content=True) if bad & set(sent) else Delivered()
    )
    assert division.failure is None
    assert refused(settled) == dict.fromkeys(bad, "bad")
    assert destination.took == Counter(set(range(64)) - bad)


def test_many_rejections_in_a_row_do_not_reject_good_spans() -> None:
    bad = set(range(3 * IN_A_ROW))
    _, destination, settled = divided(
        400, lambda sent: Rejected("bad", invalid_content=True) if bad & set(sent) else Delivered()
    )
    assert set(refused(settled)) == bad
    assert destination.took == Counter(set(range(400)) - bad)


def test_destination_rejecting_everything_gets_few_requests() -> None:
    division, destination, settled = divided(1000, lambda _: Rejected("no", invalid_content=True))
    assert division.failure is None
    assert len(refused(settled)) == 1000
    assert len(destination.asked) < 100


def test_rejection_of_batch_rejects_all_spans() -> None:
    _, destination, settled = divided(50, lambda _: Rejected("HTTP 404"))
    assert (len(destination.asked), len(refused(settled))) == (1, 50)


def test_span_delivered_by_probe_is_not_sent_again() -> None:
    """The batch fails, one span is delivered, then the rest is rejected: only spans not delivered are rejected."""
    division, destination, settled = divided(
        8, lambda sent: Delivered() if len(sent) == 1 else Failed("odd") if len(sent) == 8 else Rejected("HTTP 404")
    )
    assert division.failure is None
    [(taken, count)] = destination.took.items()
    assert count == 1
    assert set(refused(settled)) == set(range(8)) - {taken}


def test_partial_success_of_probe_is_reported_by_batch() -> None:
    _, _, settled = divided(4, lambda sent: Failed("odd") if len(sent) == 4 else Delivered(rejected=1))
    assert sum(one.outcome.rejected for one in settled if isinstance(one.outcome, Delivered)) == len(settled)
    assert refused(settled) == {}
