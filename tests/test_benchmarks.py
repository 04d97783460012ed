"""The benchmark measures what it says: each contestant of this environment works and its spans are whole. No timing."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from benchmarks import delivery, fanout, goals, instructions, pages, posting, short_form, spooling
from benchmarks.bare import Bare
from benchmarks.candidates import CONTESTANTS, FLOOR, PEERS
from benchmarks.cases import ALL, CURVES, FIRST_SIX, case_of
from benchmarks.environments import HERE
from benchmarks.fanout import Fanout
from benchmarks.footprint import Footprint
from benchmarks.forked import ChildError, forked
from benchmarks.measure import Results, measure
from benchmarks.processes import receiver
from benchmarks.results import Result, ratio, refer

INSTALLED = [one for one in PEERS if CONTESTANTS[one].environment == HERE]
# The two left out differ from "long" and "stream" in numbers only.
CASES = [*(name for name in ALL if name not in {"thousand", "stream_20"}), "concurrency=2", "threads=2"]
# Zero code differs in how it starts: one case for each API and way of calling.
OF_ZERO_CODE = ["short", "stream", "async", "anthropic", "responses", "keys"]


def taken(cases: list[str], candidates: list[str]) -> Results:
    results = measure(cases, candidates, turns=1, visit_s=0.0)
    for case, of_case in results.items():
        for one, result in of_case.items():
            assert result.failure == "", (case, one)
            assert result.median("thread") is not None or not result.counted(), (case, one)
    return results


@pytest.fixture(scope="module")
def own() -> Results:
    found = taken(CASES, ["bare", "spancast"])
    for case, of_case in taken(OF_ZERO_CODE, ["spancast, zero-code"]).items():
        found[case].update(of_case)
    return found


@pytest.mark.parametrize("case", CASES)
def test_own_spans_are_whole_and_the_twins_calls_have_none(case: str, own: Results) -> None:
    for one, result in own[case].items():
        assert result.missing() == [], (one, result.received)
        assert result.received["calls"] == result.calls, one


def test_the_check_of_the_measure() -> None:
    found = taken(["short"], ["none", "bare again"])["short"]
    assert found["none"].received["requests"] == 0
    assert found["bare again"].received["calls"] == found["bare again"].calls


def test_zero_code_is_measured_where_it_can_be(own: Results) -> None:
    assert "spancast, zero-code" in own["short"]
    assert "spancast, zero-code" not in own["keys"]  # a program that knows nothing of it has no trace keys


def test_peers_of_this_environment() -> None:
    assert INSTALLED == ["genai-openai", "traceloop", "openinference"]
    for of_case in taken(["short", "stream"], INSTALLED).values():
        for one, result in of_case.items():
            assert result.missing() == [], (one, result.received)
            assert result.received["calls"] == result.calls, one


def test_points_of_the_curves_are_cases() -> None:
    for points in CURVES.values():
        for point in points:
            assert case_of(point).name == point
    assert len(case_of("chunks=50").pieces) == 51  # and the end mark
    assert len(case_of("messages=40").request["messages"]) == 40
    assert case_of("concurrency=200").unit == 200


def test_a_contestant_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONTESTANTS, "gone", CONTESTANTS["bare"])  # unknown to the worker's own process
    results = measure(["short"], ["gone", "none"], turns=1, visit_s=0.0)["short"]
    assert "KeyError: 'gone'" in results["gone"].failure
    assert results["gone"].median("thread") is None
    assert results["none"].failure == ""


def test_bare_is_set_up_for_every_case() -> None:
    from opentelemetry.trace import NoOpTracer

    for name in ALL:
        Bare(NoOpTracer(), case_of(name))


def quad(thread: float, probe: float = 100.0, stolen: int = 0, uneven: float = 1.0) -> dict[str, float]:
    return {"thread": thread, "wall": thread, "baseline": 1_000.0, "probe": probe, "stolen": stolen, "uneven": uneven}


def result(*processes: list[dict[str, float]], background: float = 5.0) -> Result:
    made = Result(candidate="")
    for quads in processes:
        batches = [{"background": background, "probe": 100.0, "stolen": 0, "uneven": 1.0}]
        made.take({"calls": 2, "quads": quads, "batches": batches})
    return made


def test_what_counts_is_judged_by_the_probe_and_the_machine() -> None:
    one = result([quad(10.0), quad(12.0), quad(99.0, uneven=1.3), quad(99.0, stolen=1)], [quad(20.0)])
    refer([one])
    assert [taken["thread"] for taken in one.counted()] == [10.0, 12.0, 20.0]
    assert one.median("thread") == 12.0
    assert one.spread("thread") == (11.0, 20.0)
    assert one.median("process") == 17.0
    assert one.spread("process") == (16.0, 25.0)
    assert (one.taken(), one.plain) == (5, 1_000.0)


def test_a_slow_core_is_divided_by_its_slowness() -> None:
    fast, slow = result([quad(10.0)] * 9), result([quad(30.0, probe=200.0)] * 9)
    refer([fast, slow])
    assert (fast.median("thread"), slow.median("thread"), slow.plain) == (10.0, 15.0, 500.0)


def pair(bare: list[float], ours: list[float]) -> Results:
    made = {"bare": result(*([quad(cost)] for cost in bare)), "spancast": result(*([quad(cost)] for cost in ours))}
    refer(made.values())
    return {"short": made}


def test_ratios() -> None:
    measured = pair([20.0, 10.0, 30.0], [9.0, 5.0, 100.0])
    assert ratio(measured["short"]["spancast"], measured["short"]["bare"], "thread") == (0.45, 0.45, 100 / 30)
    assert short_form.ratios(measured) == {"short thread": 0.45, "short process": 0.56}
    assert short_form.ratios(pair([-1.0, 20.0, 30.0], [9.0, 9.0, 9.0])).keys() == {"short process"}
    stored = json.loads(short_form.BASELINE.read_text())["ratios"]
    assert {name.partition(" ")[0] for name in stored} >= set(FIRST_SIX)


@pytest.mark.parametrize(
    ("bare", "ours", "fails"),
    [
        ([100.0, 110.0], [90.0, 100.0], False),
        ([100.0, 110.0], [190.0, 200.0], True),
        ([100.0, 250.0], [190.0, 200.0], False),  # one of bare's processes was as slow
        ([100.0, 110.0], [90.0, 900.0], False),  # one of ours was not
        ([5.0, 5.0], [90.0, 900.0], False),  # bare is half a hundredth of the call: noise
    ],
)
def test_only_a_doubled_ratio_fails_the_short_form(bare: list[float], ours: list[float], fails: bool) -> None:
    assert short_form.worse(pair(bare, ours), {"short thread": 0.8}) == ({("short", "thread")} if fails else set())
    assert short_form.worse(pair(bare, ours), {}) == set()
    assert "stored" in short_form.table(pair(bare, ours), {}, set())


def test_the_short_form_measures_again_before_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter([pair([100.0], [900.0]), pair([100.0], [80.0]), pair([100.0], [900.0]), pair([100.0], [900.0])])
    monkeypatch.setattr(short_form, "measure", lambda *_, **__: next(found))
    assert [short_form.run(store=False), short_form.run(store=False)] == [0, 1]


def test_goals_have_a_verdict_each() -> None:
    table = goals.of_calls(pair([100.0], [50.0]))
    assert "short: thread, ratio to bare" in table
    assert "0.50 (0.50…0.50) | 0.50, 0.50 | | ≤ 0.6 | yes" in " ".join(table.split())
    measured = pair([100.0], [50.0])
    floor = measured["short"][FLOOR] = result([quad(40.0)])
    refer([floor, *measured["short"].values()])
    assert "0.50, 0.50 | 0.40 | ≤ 0.6 | yes" in " ".join(goals.of_calls(measured).split())


def test_the_page_is_written_whatever_was_left_out() -> None:
    sizes = {"import_ms": [30.0], "import_cpu_ms": [29.0], "plain_mib": [50.0], "spancast_mib": [55.0]}
    run = pages.Run(
        cases=pair([100.0], [50.0]), curves={"messages": {"messages=10": pair([9.0], [8.0])["short"]}},
        footprint=Footprint(**sizes, unwanted=[]), fanout=Fanout(rounds=1), turns=1, peer_turns=1,
        command="make bench", seconds=60.0,
    )  # fmt: skip
    page = pages._page(run, [])
    assert "Written by `make bench`" in page
    assert (
        "Left out of this run: none, an empty span, bare again, spancast, metrics on, spancast, zero-code, genai-openai"
        in page
    )
    assert "| 10       | 9 (9…9)" in page
    assert "idle memory above openai, SDK and exporter, MiB" in pages.terminal(run)


def test_every_role_of_the_fan_out_delivers() -> None:
    found = Fanout(rounds=1)
    with receiver(4) as ports:
        for role in dict.fromkeys((name, min(count, 4)) for name, count in fanout.ROLES):
            fanout._run(found, role, 500, ports)
    assert found.failures == {}
    assert found.ratio(("same", 4), ("same", 1)) is not None


def test_the_spool_by_itself_and_after_a_kill() -> None:
    for in_memory in (False, True):
        assert forked(spooling.throughput, in_memory, 2).keys() == {"put_per_s", "taken_per_s"}
    found = spooling.recovery(1_024)
    assert (found["records"], found["whole"]) == (1_024, True)


def test_an_outage_is_counted() -> None:
    found = forked(delivery.outage, 1_000, 2)
    assert len(found["grown_mib"]) == 2
    told = posting.section(Fanout(rounds=1, outage=found), "")
    assert "1,000 spans, as fast as they can be made" in told


def test_a_child_that_fails_is_told() -> None:
    def wrong() -> dict[str, Any]:
        raise ValueError("no luck")

    with pytest.raises(ChildError, match="no luck"):
        forked(wrong)
    failing = Fanout(rounds=1)
    with contextlib.suppress(ChildError), fanout._told(failing, "this"):
        forked(wrong)
    assert failing.failures == {"this": "ValueError: no luck"}


def test_instructions_beside_the_goals() -> None:
    counted = {
        "an empty span": {"thread": 60.0, "plain": 900.0},
        "bare": {"thread": 100.0, "plain": 900.0},
        "spancast": {"thread": 50.0, "plain": 900.0},
        "langfuse": {"thread": 250.0, "plain": 900.0},
        "litellm": {"failure": "ended after 0 stages"},
    }
    table = instructions.table({"short": counted, "error": {**counted, "spancast": {"failure": "no"}}})
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    assert rows == [
        ["short", "100", "50", "0.50", "0.60", "≤ 0.6", "yes"],
        ["short: cheapest peer (langfuse)", "250", "50", "5.0", "", "≥ 4", "yes"],
        ["429 error", "failed", "", "", "", "", ""],
    ]


def test_instructions_kept_are_of_cases_and_contestants_there_are() -> None:
    kept = json.loads(instructions.KEPT.read_text())
    assert set(kept["counts"]) == set(instructions.CASES)
    for case, of_case in kept["counts"].items():
        assert set(of_case) <= set(CONTESTANTS), case
        assert {"bare", "spancast", FLOOR} <= set(of_case), case
