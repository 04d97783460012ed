"""The contract of every spool."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.export.spool_records import START_S, Clock, deliver, numbers, part, record, records, states_of, take

from spancast import diagnostics
from spancast.diagnostics import Count, counters
from spancast.export.spool.disk import SqliteSpool
from spancast.export.spool.memory import MemorySpool
from spancast.export.spool.protocol import DeliveryState, Spool

KIB = 1 << 10
MIB = 1 << 20


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make(
    kind: str,
    folder: Path,
    clock: Clock,
    *,
    max_bytes: int = 64 * MIB,
    max_age_s: float = math.inf,
    keep_delivered_s: float = math.inf,
) -> Spool:
    options = {"max_age_s": max_age_s, "keep_delivered_s": keep_delivered_s, "clock": clock}
    if kind == "memory":
        return MemorySpool(max_bytes, **options)
    return SqliteSpool(folder / "spool.db", max_bytes=max_bytes, **options)


@pytest.fixture(params=["memory", "sqlite"])
def kind(request: pytest.FixtureRequest) -> Iterator[str]:
    counters.clear()
    diagnostics.reset_warnings()
    yield request.param
    counters.clear()


@pytest.fixture
def spool(kind: str, tmp_path: Path, clock: Clock) -> Iterator[Spool]:
    made = make(kind, tmp_path, clock)
    made.register(["a", "b"])
    yield made
    made.close()


# Order, once each


def test_each_route_gets_every_record_in_order(spool: Spool) -> None:
    assert spool.put(records(range(5)), {}) == 0
    assert spool.put(records(range(5, 8)), {}) == 0
    assert deliver(spool, "a", most=3) == list(range(8))
    assert take(spool, "a") is None
    assert deliver(spool, "b") == list(range(8))


def test_lease_returns_records_as_given(spool: Spool) -> None:
    other = replace(record(8), resource=b"other resource", scope="ü".encode(), is_genai=False)
    spool.put([record(7), other], {})
    lease = take(spool, "a")
    assert lease is not None
    assert [entry.record for entry in lease.entries] == [record(7), other]


def test_put_of_nothing(spool: Spool) -> None:
    assert spool.put([], {}) == 0
    assert take(spool, "a") is None


def test_lease_is_bounded_by_records_and_bytes(spool: Spool) -> None:
    spool.put(records(range(10), size=100), {})
    assert len(numbers(take(spool, "a", most=4))) == 4
    assert len(numbers(take(spool, "b", most_bytes=350))) == 3


def test_record_over_byte_limit_is_leased_alone(spool: Spool) -> None:
    spool.put(records(range(2), size=1000), {})
    assert numbers(take(spool, "a", most_bytes=10)) == [0]


def test_at_most_one_lease_per_route(spool: Spool) -> None:
    spool.put(records(range(4)), {})
    lease = take(spool, "a", most=2)
    assert lease is not None
    assert take(spool, "a") is None
    assert numbers(take(spool, "b")) == [0, 1, 2, 3]
    spool.ack(lease)
    assert numbers(take(spool, "a")) == [2, 3]


def test_lease_expires_after_thirty_seconds(spool: Spool) -> None:
    spool.put(records(range(2)), {})
    lease = take(spool, "a")
    assert lease is not None
    assert take(spool, "a", START_S + 29) is None
    assert spool.extend(lease, START_S + 29)
    assert take(spool, "a", START_S + 58) is None
    assert numbers(take(spool, "a", START_S + 59)) == [0, 1]
    assert not spool.extend(lease, START_S + 59)


def test_clock_set_back_does_not_block_delivery(spool: Spool) -> None:
    spool.put(records(range(2)), {})
    year_s = 366 * 86_400
    lease = take(spool, "a", START_S + year_s)
    assert lease is not None
    lease = take(spool, "a")
    assert lease is not None
    spool.nack(lease, START_S + year_s, "503")
    assert numbers(take(spool, "a")) == [0, 1]


def test_clock_set_back_after_a_failure_ends_the_wait(spool: Spool, clock: Clock) -> None:
    spool.put(records(range(2)), {})
    lease = take(spool, "a")
    assert lease is not None
    spool.nack(lease, START_S + 60, "503")
    assert spool.state("a").due_s == START_S + 60
    assert take(spool, "a", START_S + 59) is None
    clock.now_s -= 600
    assert spool.state("a").due_s == 0
    assert numbers(take(spool, "a", clock.now_s)) == [0, 1]


def test_clock_set_back_during_a_lease_ends_it(spool: Spool) -> None:
    spool.put(records(range(2)), {})
    assert take(spool, "a") is not None
    assert numbers(take(spool, "a", START_S - 600)) == [0, 1]


def test_early_lease_does_not_wait_for_the_due_time(spool: Spool) -> None:
    spool.put(records(range(2)), {})
    lease = take(spool, "a")
    assert lease is not None
    spool.nack(lease, START_S + 60, "503")
    early = spool.lease("a", max_records=9, max_bytes=MIB, now_s=START_S, is_early=True)
    assert numbers(early) == [0, 1]
    assert spool.lease("a", max_records=9, max_bytes=MIB, now_s=START_S, is_early=True) is None


# Outcomes


def test_nack_respects_due_time_and_counts_attempts(spool: Spool) -> None:
    spool.put(records(range(3)), {})
    for attempt in range(3):
        lease = take(spool, "a", START_S + attempt * 10, most=2)
        assert lease is not None
        assert (numbers(lease), lease.attempts) == ([0, 1], attempt)
        spool.nack(lease, START_S + attempt * 10 + 10, "503")
        assert take(spool, "a", START_S + attempt * 10 + 9) is None
    state = spool.state("a")
    assert (state.attempts, state.due_s, state.last_error, state.queued) == (3, START_S + 30, "503", 3)
    lease = take(spool, "a", START_S + 30)
    assert lease is not None
    spool.ack(lease)
    state = spool.state("a")
    assert (state.attempts, state.due_s, state.last_error, state.queued) == (0, 0.0, "", 0)
    assert spool.state("b").queued == 3


def test_outcome_of_lost_lease(spool: Spool) -> None:
    """An ack counts even if the lease is lost; a nack is ignored, because another process has the lease."""
    spool.put(records(range(3)), {})
    lost = take(spool, "a", most=2)
    assert lost is not None
    held = take(spool, "a", START_S + 31, most=1)
    assert held is not None
    spool.nack(lost, START_S + 1000, "too late")
    assert spool.state("a").attempts == 0
    spool.ack(lost)
    assert take(spool, "a", START_S + 31) is None
    spool.ack(held)
    assert numbers(take(spool, "a", START_S + 31)) == [2]


def test_dead_letters_are_listed_and_rest_is_delivered(spool: Spool, clock: Clock) -> None:
    spool.put(records(range(4)), {})
    lease = take(spool, "a")
    assert lease is not None
    clock.now_s += 5
    spool.dead_letter(lease, [lease.entries[1].sequence, lease.entries[3].sequence], "400 bad attribute")
    listed = spool.dead_letters("a")
    assert [(item.span_id, item.reason, item.at_s) for item in listed] == [
        ((4).to_bytes(8, "big").hex(), "400 bad attribute", START_S + 5),
        ((2).to_bytes(8, "big").hex(), "400 bad attribute", START_S + 5),
    ]
    assert spool.dead_letters() == listed
    assert spool.dead_letters("b") == []
    assert spool.dead_letters(limit=1) == listed[:1]
    assert take(spool, "a") is None
    state = spool.state("a")
    assert (state.dead_lettered, state.delivered, state.last_delivered_s) == (2, 2, START_S + 5)
    assert {number: fate["a"].state for number, fate in states_of(spool).items()} == {
        0: "delivered", 1: "buried", 2: "delivered", 3: "buried",
    }  # fmt: skip


def test_lease_is_settled_in_parts(spool: Spool) -> None:
    spool.put(records(range(6)), {})
    lease = take(spool, "a")
    assert lease is not None
    spool.ack(part(lease, 0, 2))
    assert take(spool, "a") is None, "the rest is still leased"
    spool.dead_letter(part(lease, 2, 4), [lease.entries[3].sequence], "400")
    spool.nack(part(lease, 4), START_S + 5, "503")
    assert take(spool, "a", START_S + 4) is None
    assert numbers(take(spool, "a", START_S + 5)) == [4, 5]


@pytest.mark.parametrize("kept_s", [0.0, math.inf])
def test_single_records_of_a_lease_are_settled(kind: str, kept_s: float, tmp_path: Path, clock: Clock) -> None:
    spool = make(kind, tmp_path, clock, keep_delivered_s=kept_s)
    spool.register(["a"])
    for first in (0, 3, 6):
        spool.put(records(range(first, first + 3)), {})
    lease = take(spool, "a")
    assert lease is not None
    places = [entry.sequence for entry in lease.entries]
    spool.settle(lease, [places[number] for number in (0, 1, 2, 5, 8)], {places[4]: "no column"})
    spool.nack(part(lease, 3, 4), START_S, "busy")
    assert [letter.reason for letter in spool.dead_letters()] == ["no column"]
    state = spool.state("a")
    assert (state.queued, state.delivered, state.dead_lettered) == (3, 5, 1)
    again = take(spool, "a")
    assert numbers(again) == [3, 6, 7]
    assert again is not None
    spool.ack(again)
    assert take(spool, "a") is None
    state = spool.state("a")
    assert (state.queued, state.delivered, state.dead_lettered) == (0, 8, 1)
    assert spool.usage().records == (9 if kept_s else 3), "the content of what is delivered is kept or forgotten"
    assert spool.requeue("a") == 1
    replay = take(spool, "a")
    assert replay is not None
    spool.settle(replay, [replay.entries[0].sequence], {})
    spool.nack(replace(replay, entries=()), START_S, "busy")
    assert take(spool, "a") is None
    assert spool.usage().records == (9 if kept_s else 0)
    spool.close()


def test_ack_of_empty_lease_does_nothing(spool: Spool) -> None:
    spool.put(records(range(2)), {})
    lease = take(spool, "a")
    assert lease is not None
    spool.ack(part(lease, 0, 0))
    spool.dead_letter(part(lease, 0, 0), [], "400")
    assert spool.state("a").queued == 2


def test_ack_twice_is_idempotent(spool: Spool) -> None:
    spool.put(records(range(4)), {})
    lease = take(spool, "a", most=2)
    assert lease is not None
    spool.ack(lease)
    spool.ack(lease)
    assert deliver(spool, "a") == [2, 3]


# Routes


def test_skipped_records_are_passed_over(spool: Spool) -> None:
    spool.put(records(range(6)), {"a": {0: "sampled out", 1: "sampled out", 3: "filtered", 5: "filtered"}})
    assert spool.state("a").queued == 2
    assert deliver(spool, "a", most=1) == [2, 4]
    assert deliver(spool, "b") == list(range(6))
    known = states_of(spool)
    assert [known[number]["a"] for number in (0, 3)] == [
        DeliveryState("a", "skipped", "sampled out"),
        DeliveryState("a", "skipped", "filtered"),
    ]
    assert known[2]["a"].state == "delivered"


def test_run_of_skipped_records_is_scanned_once(spool: Spool) -> None:
    for _ in range(3):
        spool.put(records(range(100)), {"a": dict.fromkeys(range(100), "sampled out")})
    assert take(spool, "a") is None
    spool.put(records([7]), {})
    assert deliver(spool, "a") == [7]


def test_new_route_begins_at_end_of_log(spool: Spool) -> None:
    spool.put(records(range(2)), {})
    spool.register(["a", "b", "late"])
    spool.put(records(range(2, 4)), {})
    assert deliver(spool, "late") == [2, 3]
    assert states_of(spool)[0]["late"].state == "absent"
    assert spool.routes() == ["a", "b", "late"]


def test_unregistered_route_gets_no_records(spool: Spool) -> None:
    """A destination of another configuration on the same spool, whose filters have not seen these records."""
    assert take(spool, "theirs") is None
    spool.put(records(range(2)), {})
    assert take(spool, "theirs") is None
    assert spool.state("theirs").queued == 0
    assert states_of(spool)[0]["theirs"] == DeliveryState("theirs", "absent")


def test_without_registration_records_are_for_every_route(kind: str, tmp_path: Path, clock: Clock) -> None:
    spool = make(kind, tmp_path, clock)
    assert take(spool, "a") is None
    spool.put(records(range(2)), {"b": {0: "filtered"}})
    assert deliver(spool, "a") == [0, 1]
    assert deliver(spool, "b") == [1]
    spool.close()


def test_unknown_route(spool: Spool) -> None:
    assert spool.state("unknown").queued == 0
    assert spool.routes() == ["a", "b"]


# Replays


def test_replay_for_new_route(spool: Spool, clock: Clock) -> None:
    spool.put([record(number, end_s=START_S + number) for number in range(6)], {})
    deliver(spool, "a")
    spool.register(["a", "b", "new"])
    assert spool.replay("new", START_S + 1, START_S + 5) == 4
    assert spool.state("new").queued == 4
    spool.put(records([9]), {})
    lease = take(spool, "new", most=3)
    assert lease is not None
    assert (numbers(lease), lease.is_replay) == ([1, 2, 3], True)
    spool.ack(part(lease, 0, 1))
    spool.nack(part(lease, 1), START_S, "503")
    clock.now_s += 5
    assert deliver(spool, "new") == [2, 3, 4, 9]
    known = states_of(spool)
    assert known[0]["new"].state == "absent"
    assert known[2]["new"] == DeliveryState("new", "delivered", at_s=START_S + 5)
    assert deliver(spool, "a") == [9]
    assert deliver(spool, "b") == [0, 1, 2, 3, 4, 5, 9]


def test_replay_skips_queued_records(spool: Spool) -> None:
    spool.put(records(range(4)), {"a": {1: "sampled out"}})
    lease = take(spool, "a", most=1)
    assert lease is not None
    spool.ack(lease)
    assert spool.replay("a", 0, math.inf) == 1, "only the delivered one; the skipped one stays skipped"
    assert spool.replay("a", 0, math.inf) == 0
    assert deliver(spool, "a") == [0, 2, 3]


def test_replay_with_filter(spool: Spool) -> None:
    spool.put(records(range(4)), {"a": {1: "sampled out"}})
    spool.register(["a", "b", "new"])
    assert spool.replay("new", 0, math.inf, evaluate=lambda r: None if r != record(2) else "filtered") == 3
    assert deliver(spool, "new") == [0, 1, 3]
    assert states_of(spool)[2]["new"] == DeliveryState("new", "skipped", "filtered")
    deliver(spool, "a")
    assert spool.replay("a", 0, math.inf, evaluate=lambda _: None) == 4
    assert deliver(spool, "a") == [0, 1, 2, 3]


@pytest.mark.parametrize("sizes", [[8], [3, 5], [4, 4], [1] * 8])
def test_replay_across_the_cursor_delivers_each_once(spool: Spool, sizes: list[int]) -> None:
    number = 0
    for size in sizes:
        skipped = {index: "sampled out" for index in range(size) if number + index in (3, 4, 5)}
        spool.put(records(range(number, number + size)), {"a": skipped})
        number += size
    lease = take(spool, "a", most=3)
    assert lease is not None
    spool.ack(lease)
    assert spool.replay("a", 0, math.inf, evaluate=lambda _: None) == 6
    assert deliver(spool, "a") == list(range(8))
    assert {fate["a"].state for fate in states_of(spool).values()} == {"delivered"}
    assert spool.state("a").delivered == 11


def test_replay_of_one_trace(spool: Spool) -> None:
    spool.put(records(range(3), trace=1) + records(range(3, 5), trace=2), {})
    deliver(spool, "a")
    assert spool.replay("a", 0, math.inf, trace_id=(2).to_bytes(16, "big")) == 2
    assert deliver(spool, "a") == [3, 4]


def test_replay_of_records_queued_for_another_route(spool: Spool) -> None:
    spool.put(records(range(6)), {"b": {0: "filtered"}})
    assert deliver(spool, "a") == [0, 1, 2, 3, 4, 5]
    first = take(spool, "b", most=2)
    assert first is not None
    spool.ack(first)
    spool.register(["a", "b", "c"])
    assert spool.replay("b", 0, math.inf, trace_id=None) == 2
    assert spool.replay("c", 0, math.inf, waiting_for="b") == 5
    assert deliver(spool, "c") == [1, 2, 3, 4, 5]
    assert deliver(spool, "b") == [1, 2, 3, 4, 5]
    assert spool.replay("c", 0, math.inf, waiting_for="b") == 0


def test_replay_is_delivered_between_its_steps_and_each_record_once(spool: Spool) -> None:
    for first in range(0, 4000, 500):
        spool.put(records(range(first, first + 500)), {})
    lease = take(spool, "a", most=1500)
    assert lease is not None
    spool.ack(lease)
    between: list[list[int]] = []
    assert spool.replay("a", 0, math.inf, on_step=lambda: between.append(deliver(spool, "a"))) == 1500
    assert len(between[0]) > 1000, "after the first step"
    assert sorted(number for numbers_ in between for number in numbers_) == list(range(4000))
    assert not spool.has_queued("a")


def test_replay_of_many_batches(spool: Spool) -> None:
    spool.put(records(range(2500)), {})
    deliver(spool, "a")
    assert spool.replay("a", 0, math.inf) == 2500
    assert deliver(spool, "a") == list(range(2500))


def test_requeue_delivers_dead_letters(spool: Spool) -> None:
    spool.put(records(range(4)), {})
    lease = take(spool, "a")
    assert lease is not None
    buried = [entry.sequence for entry in lease.entries[1:]]
    spool.dead_letter(lease, buried, "401")
    assert spool.requeue("a", buried[:1]) == 1
    again = take(spool, "a")
    assert again is not None
    assert numbers(again) == [1]
    spool.dead_letter(again, [entry.sequence for entry in again.entries], "still 401")
    assert [item.reason for item in spool.dead_letters("a")].count("still 401") == 1
    assert spool.requeue("a") == 3
    assert deliver(spool, "a") == [1, 2, 3]
    assert spool.dead_letters("a") == []
    assert all(fate["a"].state == "delivered" for fate in states_of(spool).values())


# Dead letters and purging


def test_purge_all_queued_records(spool: Spool, clock: Clock) -> None:
    spool.put(records(range(4)), {})
    lease = take(spool, "a", most=1)
    assert lease is not None
    spool.ack(lease)
    spool.replay("a", 0, math.inf)
    clock.now_s += 5
    assert spool.purge("a") == 4
    assert take(spool, "a") is None
    known = states_of(spool)
    assert {known[number]["a"] for number in range(4)} == {DeliveryState("a", "dropped", "purged", START_S + 5)}
    assert counters.read()[Count("dropped", "a", "purged")] == 4
    assert spool.state("a").dropped == 4
    spool.put(records([9]), {})
    assert deliver(spool, "a") == [9]
    assert deliver(spool, "b") == [0, 1, 2, 3, 9]


def test_purge_some_records(spool: Spool) -> None:
    spool.put(records(range(5)), {})
    lease = take(spool, "a", most=2)
    assert lease is not None
    sequences = [entry.sequence for entry in lease.entries]
    spool.dead_letter(lease, sequences[1:], "400")
    assert spool.purge("a", [sequences[0], sequences[1], sequences[1] + 2]) == 2, "delivered ones are not given up"
    assert spool.dead_letters("a") == []
    assert deliver(spool, "a") == [2, 4]
    known = states_of(spool)
    assert [known[number]["a"].state for number in range(5)] == [
        "delivered",
        "dropped",
        "delivered",
        "dropped",
        "delivered",
    ]


# Limits


def test_full_spool_evicts_oldest_and_counts(
    kind: str, tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    spool = make(kind, tmp_path, clock, max_bytes=MIB)
    spool.register(["a", "b"])
    spool.put(records(range(50), size=10 * KIB), {"b": dict.fromkeys(range(50), "sampled out")})
    dropped = sum(
        spool.put(records(range(start, start + 50), trace=start, size=10 * KIB), {}) for start in (50, 100, 150)
    )
    counts = counters.read()
    left = deliver(spool, "a")
    assert left == list(range(200 - len(left), 200))
    assert 60 < len(left) < 105
    assert dropped == counts[Count("dropped", "a", "spool_full")] == spool.state("a").dropped == 200 - len(left)
    assert counts[Count("dropped", "b", "spool_full")] == dropped - 50
    assert caplog.text.count("dropped") == 2, "logged once for each route"
    assert states_of(spool, trace=1)[0]["a"] == DeliveryState("a", "dropped", "spool_full", START_S)
    listed = spool.dropped("a", limit=1000)
    assert [one.sequence for one in listed] == list(range(dropped, 0, -1))
    assert {one.reason for one in listed} == {"spool_full"}
    assert {one.route for one in spool.dropped(limit=1000)} == {"a", "b"}
    assert "b" not in states_of(spool, trace=1)[0]
    assert spool.usage().bytes_used <= MIB
    spool.close()


def test_full_spool_evicts_delivered_without_count(kind: str, tmp_path: Path, clock: Clock) -> None:
    spool = make(kind, tmp_path, clock, max_bytes=MIB)
    spool.register(["a"])
    for start in range(0, 1000, 20):
        assert spool.put(records(range(start, start + 20), size=10 * KIB), {}) == 0
        assert deliver(spool, "a") == list(range(start, start + 20))
    assert counters.read() == {}
    assert spool.usage().records > 0
    spool.close()


def test_small_puts_stay_within_limit(kind: str, tmp_path: Path, clock: Clock) -> None:
    spool = make(kind, tmp_path, clock, max_bytes=MIB)
    spool.register(["a"])
    for number in range(2000):
        spool.put(records([number], size=KIB * (1 + number % 12)), {})
        assert spool.usage().bytes_used <= MIB + 12 * KIB, number
    spool.close()


def test_dropped_lists_purged_records_only(kind: str, tmp_path: Path, clock: Clock) -> None:
    spool = make(kind, tmp_path, clock)
    spool.register(["a", "b"])
    spool.put(records(range(4)), {"a": {1: "sampled out"}})
    lease = spool.lease("a", max_records=1, max_bytes=MIB, now_s=clock.now_s)
    assert lease is not None
    spool.ack(lease)
    assert spool.purge("a") == 2
    spool.put(records([4]), {})
    listed = spool.dropped()
    assert [(one.route, one.sequence, one.reason) for one in listed] == [
        ("a", sequence + lease.entries[0].sequence, "purged") for sequence in (3, 2)
    ]
    assert spool.dropped("b") == []
    assert spool.purge("b", [1]) == 1
    assert [one.sequence for one in spool.dropped("b")] == [1]
    assert spool.replay("b", -math.inf, math.inf, evaluate=lambda _: None) > 0
    assert spool.dropped("b") == [], "it has been given once more"
    spool.close()


def test_batch_over_limit_keeps_newest_records(kind: str, tmp_path: Path, clock: Clock) -> None:
    spool = make(kind, tmp_path, clock, max_bytes=MIB)
    spool.register(["a"])
    dropped = spool.put(records(range(300), size=10 * KIB), {})
    left = deliver(spool, "a")
    assert left[-1] == 299
    assert len(left) + dropped == 300
    spool.close()


def test_records_over_max_age_are_evicted_and_counted(
    kind: str, tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    spool = make(kind, tmp_path, clock, max_age_s=60)
    spool.register(["a", "b"])
    spool.put(records(range(3)), {})
    deliver(spool, "b")
    clock.now_s += 40
    spool.put(records(range(3, 6)), {})
    clock.now_s += 40
    assert spool.enforce_limits() == 3
    assert counters.read() == {Count("dropped", "a", "expired"): 3}
    assert "max_age" in caplog.text
    assert deliver(spool, "a") == [3, 4, 5]
    clock.now_s += 100
    assert spool.put(records([9]), {}) == 3
    assert counters.read() == {Count("dropped", "a", "expired"): 3, Count("dropped", "b", "expired"): 3}
    assert deliver(spool, "a") == [9]
    assert states_of(spool)[9]["a"].state == "delivered"
    assert states_of(spool)[3] == {"b": DeliveryState("b", "dropped", "expired", clock.now_s)}
    spool.close()


def test_ack_of_evicted_record_counts_as_delivered(kind: str, tmp_path: Path, clock: Clock) -> None:
    spool = make(kind, tmp_path, clock, max_age_s=60)
    spool.register(["a"])
    spool.put(records(range(3)), {})
    lease = take(spool, "a")
    assert lease is not None
    clock.now_s += 100
    assert spool.enforce_limits() == 3
    assert spool.state("a").dropped == 3
    spool.ack(lease)
    state = spool.state("a")
    assert (state.dropped, state.delivered, state.queued) == (0, 3, 0)
    spool.put(records([9]), {})
    assert deliver(spool, "a", clock.now_s) == [9]
    spool.close()


def test_evicted_dead_letter_keeps_reason(kind: str, tmp_path: Path, clock: Clock) -> None:
    spool = make(kind, tmp_path, clock, max_age_s=60)
    spool.register(["a"])
    spool.put(records(range(2)), {})
    lease = take(spool, "a")
    assert lease is not None
    spool.dead_letter(lease, [lease.entries[0].sequence], "401")
    clock.now_s += 100
    assert spool.enforce_limits() == 0
    assert spool.dead_letters("a") == []
    assert states_of(spool)[0]["a"].reason == "rejected: 401; later evicted from the spool"
    assert spool.requeue("a") == 0
    spool.close()


# Delivered records


def test_keep_delivered_zero_deletes_content_and_keeps_history(kind: str, tmp_path: Path, clock: Clock) -> None:
    spool = make(kind, tmp_path, clock, keep_delivered_s=0)
    spool.register(["a", "b"])
    spool.put(records(range(4)), {"b": {3: "sampled out"}})
    assert deliver(spool, "a") == [0, 1, 2, 3]
    assert spool.records((1).to_bytes(16, "big")) == records(range(4)), "b has not had it"
    assert deliver(spool, "b") == [0, 1, 2]
    assert spool.records((1).to_bytes(16, "big")) == []
    assert spool.usage().records == 0
    known = states_of(spool)
    assert [known[number]["a"].state for number in range(4)] == ["delivered"] * 4
    assert [known[number]["b"].state for number in range(4)] == ["delivered"] * 3 + ["skipped"]
    assert spool.history((1).to_bytes(16, "big"))[2].span_id == record(2).span_id
    assert spool.replay("a", 0, math.inf) == 0
    spool.put(records(range(4, 6)), {})
    assert deliver(spool, "a") == [4, 5]
    spool.close()


def test_delivered_content_is_kept_for_a_while(kind: str, tmp_path: Path, clock: Clock) -> None:
    spool = make(kind, tmp_path, clock, keep_delivered_s=3600)
    spool.register(["a"])
    spool.put(records(range(3)), {})
    clock.now_s += 3000
    assert deliver(spool, "a", clock.now_s) == [0, 1, 2]
    clock.now_s += 3000
    assert spool.enforce_limits() == 0
    assert len(spool.records((1).to_bytes(16, "big"))) == 3, "not an hour since the delivery"
    assert spool.replay("a", 0, math.inf) == 3
    clock.now_s += 3000
    spool.enforce_limits()
    assert deliver(spool, "a", clock.now_s) == [0, 1, 2], "what waits for a replay is kept"
    clock.now_s += 4000
    assert take(spool, "a", clock.now_s) is None, "an idle process forgets it, too"
    assert spool.records((1).to_bytes(16, "big")) == []
    spool.close()


def test_dead_letter_content_is_kept_when_batch_is_deleted(kind: str, tmp_path: Path, clock: Clock) -> None:
    spool = make(kind, tmp_path, clock, keep_delivered_s=0)
    spool.register(["a", "b"])
    spool.put(records(range(5)), {})
    assert deliver(spool, "b") == [0, 1, 2, 3, 4]
    lease = take(spool, "a")
    assert lease is not None
    spool.dead_letter(lease, [lease.entries[2].sequence], "400")
    assert spool.records((1).to_bytes(16, "big")) == [record(2)]
    assert spool.replay("b", 0, math.inf) == 1
    assert deliver(spool, "b") == [2]
    assert spool.requeue("a") == 1
    assert deliver(spool, "a") == [2]
    assert spool.records((1).to_bytes(16, "big")) == []
    spool.close()


# Reading


def test_history_and_records_of_trace(spool: Spool) -> None:
    spool.put(records(range(3), trace=1), {})
    spool.put(records(range(3, 5), trace=2), {})
    lease = take(spool, "a", most=1)
    assert lease is not None
    spool.ack(lease)
    found = spool.history((1).to_bytes(16, "big"))
    assert [(item.span_id, item.parent_span_id, item.is_genai, item.put_s) for item in found] == [
        ((number + 1).to_bytes(8, "big"), b"" if number == 0 else (1).to_bytes(8, "big"), number != 1, START_S)
        for number in range(3)
    ]
    assert found[0].states == (DeliveryState("a", "delivered", at_s=START_S), DeliveryState("b", "waiting"))
    assert found[1].states == (DeliveryState("a", "waiting"), DeliveryState("b", "waiting"))
    assert spool.records((2).to_bytes(16, "big")) == records(range(3, 5), trace=2)
    assert spool.history(bytes(16)) == []
    assert spool.records(bytes(16)) == []


def test_history_has_delivery_times(spool: Spool, clock: Clock) -> None:
    spool.put(records(range(6)), {"a": {2: "filtered"}})
    for _ in range(3):
        lease = take(spool, "a", most=2)
        if lease is not None:
            spool.ack(lease)
        clock.now_s += 10
    assert {number: fate["a"].at_s - START_S for number, fate in states_of(spool).items() if fate["a"].state == "delivered"} == {
        0: 0, 1: 0, 3: 10, 4: 10, 5: 20,
    }  # fmt: skip


def test_usage(spool: Spool, kind: str) -> None:
    assert (spool.usage().records, spool.usage().oldest_s) == (0, 0.0)
    spool.put(records(range(100), size=10 * KIB), {})
    size = spool.usage()
    assert (size.records, size.oldest_s, size.in_memory, size.error) == (100, START_S, 0, "")
    assert size.bytes_used > 1_000_000
    assert (size.bytes_on_disk >= size.bytes_used) == (kind == "sqlite")
    state = spool.state("a")
    assert (state.queued, state.queued_bytes) == (100, 100 * 10 * KIB)


# Any run of events


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, 5), st.frozensets(st.integers(0, 4))),
        st.tuples(st.just("ack"), st.integers(1, 4), st.integers(0, 4)),
        st.tuples(st.just("retry"), st.integers(1, 4), st.integers(0, 4)),
        st.tuples(st.just("bury"), st.integers(1, 4), st.integers(0, 4)),
        st.tuples(st.just("lose"), st.integers(1, 4), st.just(0)),
        st.tuples(st.just("requeue"), st.just(0), st.just(0)),
    ),
    max_size=30,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(events=EVENTS)
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_every_record_is_delivered_dead_lettered_or_queued(
    kind: str, events: list[tuple[str, int, int | frozenset[int]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    clock = Clock()
    spool = make(kind, tmp_path_factory.mktemp("spool"), clock)
    spool.register(["a"])
    wanted: list[int] = []
    delivered: list[int] = []
    refused: set[int] = set()
    count = 0
    for event, amount, detail in events:
        clock.now_s += 1
        if event == "put":
            assert isinstance(detail, frozenset)
            spool.put(
                records(range(count, count + amount)), {"a": {index: "filtered" for index in detail if index < amount}}
            )
            wanted += [count + index for index in range(amount) if index not in detail]
            count += amount
            continue
        if event == "requeue":
            assert spool.requeue("a") == len(refused)
            refused.clear()
            continue
        lease = take(spool, "a", clock.now_s, most=amount)
        if lease is None:
            assert set(wanted) == set(delivered) | refused
            continue
        assert isinstance(detail, int)
        leading = part(lease, 0, min(detail, len(lease.entries)))
        if event in ("ack", "retry"):
            spool.ack(leading)
            delivered += numbers(leading)
            spool.nack(part(lease, len(leading.entries)), clock.now_s, event)
        elif event == "bury":
            spool.dead_letter(lease, [entry.sequence for entry in leading.entries], event)
            refused |= set(numbers(leading))
            delivered += numbers(lease)[len(leading.entries) :]
        else:
            clock.now_s += 31
        assert {item.span_id for item in spool.dead_letters("a")} == {
            (number + 1).to_bytes(8, "big").hex() for number in refused
        }
        assert spool.state("a").queued == len(wanted) - len(delivered) - len(refused)
    delivered += deliver(spool, "a", clock.now_s + 31)
    assert sorted(delivered) == sorted(set(wanted) - refused)
    spool.close()
