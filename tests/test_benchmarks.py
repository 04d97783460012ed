"""Tests of the benchmark: every candidate installed here works and its spans are complete. No timing."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks import crowds, delivery, fanout, goals, instructions, pages, posting, short_form, spooling
from benchmarks.bare import Bare
from benchmarks.candidates import AROUND_CLIENT, CANDIDATES, DECORATED, FLOOR, OPEN_GROUPS, OWN_EXPORTER, PEERS
from benchmarks.cases import ALL, CURVES, FIRST_SIX, case_of
from benchmarks.environments import HERE
from benchmarks.fanout import Fanout
from benchmarks.footprint import Footprint
from benchmarks.forked import ChildError, forked
from benchmarks.measure import Results, measure
from benchmarks.processes import receiver
from benchmarks.results import Result, ratio, set_reference

INSTALLED = [one for one in PEERS if CANDIDATES[one].environment == HERE]
# The two excluded cases differ from "long" and "stream" only in size.
CASES = [*(name for name in ALL if name not in {"thousand", "stream_20"}), "concurrency=2", "threads=2"]
# Only the start differs with zero code: one case per API and kind of call.
OF_ZERO_CODE = ["short", "stream", "async", "anthropic", "responses", "keys"]
OF_FUNCTIONS = ["short", "long", "stream", "error"]


def measure_once(cases: list[str], candidates: list[str]) -> Results:
    results = measure(cases, candidates, rounds=1, duration_s=0.0)
    for case, by_candidate in results.items():
        for one, result in by_candidate.items():
            assert result.failure == "", (case, one)
            assert result.median("thread") is not None or not result.valid_samples(), (case, one)
    return results


@pytest.fixture(scope="module")
def own() -> Results:
    found = measure_once(CASES, ["bare", "spancast"])
    for case, by_candidate in measure_once(OF_ZERO_CODE, ["spancast, zero-code", OWN_EXPORTER]).items():
        found[case].update(by_candidate)
    for case, by_candidate in measure_once(OF_FUNCTIONS, [DECORATED, AROUND_CLIENT, OPEN_GROUPS]).items():
        found[case].update(by_candidate)
    return found


@pytest.mark.parametrize("case", CASES)
def test_measure_own_candidates_gives_one_complete_span_per_call(case: str, own: Results) -> None:
    for one, result in own[case].items():
        assert result.missing() == [], (one, result.received)
        assert result.received["calls"] == result.calls, one


def test_measure_check_candidates_gives_spans_only_for_bare_again() -> None:
    found = measure_once(["short"], ["none", "bare again"])["short"]
    assert found["none"].received["requests"] == 0
    assert found["bare again"].received["calls"] == found["bare again"].calls


def test_measure_zero_code_skips_cases_with_trace_keys(own: Results) -> None:
    assert "spancast, zero-code" in own["short"]
    assert "spancast, zero-code" not in own["keys"]  # a program without spancast in its code has no trace keys


def test_measure_installed_peers_gives_one_complete_span_per_call() -> None:
    assert INSTALLED == ["genai-openai", "traceloop", "openinference"]
    for by_candidate in measure_once(["short", "stream"], INSTALLED).values():
        for one, result in by_candidate.items():
            assert result.missing() == [], (one, result.received)
            assert result.received["calls"] == result.calls, one


def test_case_of_curve_point_returns_a_case_of_that_size() -> None:
    for points in CURVES.values():
        for point in points:
            assert case_of(point).name == point
    assert len(case_of("chunks=50").pieces) == 51  # and the end mark
    assert len(case_of("messages=40").request["messages"]) == 40
    assert case_of("concurrency=200").unit == 200


def test_measure_failing_candidate_stores_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CANDIDATES, "gone", CANDIDATES["bare"])  # unknown in the worker process
    results = measure(["short"], ["gone", "none"], rounds=1, duration_s=0.0)["short"]
    assert "KeyError: 'gone'" in results["gone"].failure
    assert results["gone"].median("thread") is None
    assert results["none"].failure == ""


def test_bare_accepts_every_case() -> None:
    from opentelemetry.trace import NoOpTracer

    for name in ALL:
        Bare(NoOpTracer(), case_of(name))


def sample(thread: float, probe: float = 100.0, stolen: int = 0, uneven: float = 1.0) -> dict[str, float]:
    return {"thread": thread, "wall": thread, "baseline": 1_000.0, "probe": probe, "stolen": stolen, "uneven": uneven}


def result(*processes: list[dict[str, float]], background: float = 5.0) -> Result:
    result = Result(candidate="")
    for samples in processes:
        batches = [{"background": background, "probe": 100.0, "stolen": 0, "uneven": 1.0}]
        result.add({"calls": 2, "samples": samples, "batches": batches})
    return result


def test_result_discards_samples_with_uneven_probes_or_stolen_time() -> None:
    one = result([sample(10.0), sample(12.0), sample(99.0, uneven=1.3), sample(99.0, stolen=1)], [sample(20.0)])
    set_reference([one])
    assert [sample["thread"] for sample in one.valid_samples()] == [10.0, 12.0, 20.0]
    assert one.median("thread") == 12.0
    assert one.spread("thread") == (11.0, 20.0)
    assert one.median("process") == 17.0
    assert one.spread("process") == (16.0, 25.0)
    assert (one.sample_count(), one.plain) == (5, 1_000.0)


def test_result_on_a_slow_core_is_scaled_by_the_probe() -> None:
    fast, slow = result([sample(10.0)] * 9), result([sample(30.0, probe=200.0)] * 9)
    set_reference([fast, slow])
    assert (fast.median("thread"), slow.median("thread"), slow.plain) == (10.0, 15.0, 500.0)


def pair(bare: list[float], ours: list[float]) -> Results:
    results = {
        "bare": result(*([sample(cost)] for cost in bare)),
        "spancast": result(*([sample(cost)] for cost in ours)),
    }
    set_reference(results.values())
    return {"short": results}


def test_ratio_returns_median_minimum_and_maximum() -> None:
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
        ([100.0, 110.0], [90.0, 900.0], False),  # one of spancast's was not
        ([5.0, 5.0], [90.0, 900.0], False),  # bare costs 0.5 % of the call: noise
    ],
)
def test_worse_returns_only_ratios_doubled_in_every_process(bare: list[float], ours: list[float], fails: bool) -> None:
    assert short_form.worse(pair(bare, ours), {"short thread": 0.8}) == ({("short", "thread")} if fails else set())
    assert short_form.worse(pair(bare, ours), {}) == set()
    assert "stored" in short_form.table(pair(bare, ours), {}, set())


def test_short_form_fails_only_if_doubled_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter([pair([100.0], [900.0]), pair([100.0], [80.0]), pair([100.0], [900.0]), pair([100.0], [900.0])])
    monkeypatch.setattr(short_form, "measure", lambda *_, **__: next(found))
    assert [short_form.run(store=False), short_form.run(store=False)] == [0, 1]


def test_goals_of_calls_returns_a_verdict_per_goal() -> None:
    table = goals.of_calls(pair([100.0], [50.0]))
    assert "short: spancast, thread, ratio to bare" in table
    assert "0.50 (0.50…0.50) | 0.50, 0.50 | | ≤ 0.9 | yes" in " ".join(table.split())
    measured = pair([100.0], [50.0])
    floor = measured["short"][FLOOR] = result([sample(40.0)])
    own = measured["short"][OWN_EXPORTER] = result([sample(140.0)])
    peers = {one: result([sample(cost)]) for one, cost in (("litellm", 60.0), ("langfuse", 200.0))}
    measured["short"].update(peers)
    set_reference([floor, own, *measured["short"].values()])
    table = " ".join(goals.of_calls(measured).split())
    assert "0.50, 0.50 | 0.40 | ≤ 0.9 | yes" in table
    assert "short: spancast, own exporter, thread, ratio to bare | 1.40" in table
    assert "| ≤ 1.3 | no" in table
    assert "short: thread, cheapest peer (langfuse) / spancast | 4.0 | | | ≥ 3 | yes" in table, "litellm only enqueues"


def test_goals_of_paths_returns_a_verdict_per_goal() -> None:
    measured = pair([100.0], [50.0])
    measured["short"].update({DECORATED: result([sample(70.0)]), OPEN_GROUPS: result([sample(80.0)])})
    set_reference(measured["short"].values())
    table = " ".join(goals.of_paths(measured).split())
    assert "decorated function, thread, ratio to bare | 0.70 (0.70…0.70) | ≤ 0.8 | yes" in table
    assert "open groups, thread, ratio to spancast | 1.60 (1.60…1.60) | ≤ 1.3 | no" in table


def test_page_is_written_for_an_incomplete_run() -> None:
    sizes = {"import_ms": [30.0], "import_cpu_ms": [29.0], "plain_mib": [50.0], "spancast_mib": [55.0]}
    run = pages.Run(
        cases=pair([100.0], [50.0]), curves={"messages": {"messages=10": pair([9.0], [8.0])["short"]}},
        footprint=Footprint(**sizes, unwanted=[]), fanout=Fanout(rounds=1), rounds=1, peer_rounds=1,
        command="make bench", seconds=60.0,
    )  # fmt: skip
    page = pages._page(run, [])
    assert "Written by `make bench`" in page
    assert (
        "Not in this run: none, an empty span, bare again, spancast, own exporter, spancast, metrics on, spancast, "
        "decorated function, spancast, decorated, client too, spancast, open groups, spancast, zero-code, genai-openai"
        in page
    )
    assert "| 10       | 9 (9…9)" in page
    assert "idle memory above openai, SDK and exporter, MiB" in pages.terminal(run)


def test_fanout_delivers_in_every_role() -> None:
    found = Fanout(rounds=1)
    with receiver(4) as ports:
        for role in dict.fromkeys((name, min(count, 4)) for name, count in fanout.ROLES):
            fanout._run(found, role, 500, ports)
    assert found.failures == {}
    assert found.ratio(("same", 4), ("same", 1)) is not None


def test_crowds_deliver_every_span() -> None:
    found = crowds.measure(calls=100, processes=2, rounds=1)
    assert found.failures == {}
    assert list(found.costs) == ["100 threads", "100 asyncio tasks", "2 processes, one spool"]
    assert "| 100 threads" in found.table()


def test_spooling_measures_throughput_and_recovery() -> None:
    for in_memory in (False, True):
        assert forked(spooling.throughput, in_memory, 2).keys() == {"appended_per_s", "leased_per_s"}
    found = spooling.recovery(1_024)
    assert (found["records"], found["complete"]) == (1_024, True)


def test_outage_section_has_the_number_of_spans() -> None:
    found = forked(delivery.outage, 1_000, 2)
    assert len(found["grown_mib"]) == 2
    section = posting.section(Fanout(rounds=1, outage=found), "")
    assert "1,000 spans, created as fast as possible" in section


def test_forked_failing_function_raises_child_error() -> None:
    def fail() -> dict[str, Any]:
        raise ValueError("expected failure")

    with pytest.raises(ChildError, match="expected failure"):
        forked(fail)
    failing = Fanout(rounds=1)
    with contextlib.suppress(ChildError), fanout._collect_failure(failing, "this"):
        forked(fail)
    assert failing.failures == {"this": "ValueError: expected failure"}


def test_instructions_table_has_ratios_and_verdicts() -> None:
    counts = {
        "an empty span": {"thread": 60.0, "plain": 900.0},
        "bare": {"thread": 100.0, "plain": 900.0},
        "spancast": {"thread": 50.0, "plain": 900.0},
        "spancast, own exporter": {"thread": 120.0, "plain": 900.0},
        "langfuse": {"thread": 250.0, "plain": 900.0},
        "litellm": {"failure": "ended after 0 stages"},
    }
    table = instructions.table({"short": counts, "error": {**counts, "spancast": {"failure": "no"}}})
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    assert rows == [
        ["short", "100", "50", "0.50", "0.60", "≤ 0.9", "yes"],
        ["short: spancast, own exporter", "100", "120", "1.20", "0.60", "≤ 1.3", "yes"],
        ["short: cheapest peer (langfuse)", "250", "50", "5.0", "", "≥ 3", "yes"],
        ["429 error", "failed", "", "", "", "", ""],
    ]


def test_stored_instructions_keep_the_peers_of_an_earlier_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(instructions, "STORED", tmp_path / "instructions.json")
    monkeypatch.setattr(instructions, "versions", lambda _: {"spancast": "9"})
    instructions.store({"short": {"spancast": {"thread": 1.0}, "langfuse": {"thread": 2.0}}})
    instructions.store({"short": {"spancast": {"thread": 3.0}}})
    stored = json.loads(instructions.STORED.read_text())
    assert stored["counts"] == {"short": {"spancast": {"thread": 3.0}, "langfuse": {"thread": 2.0}}}
    assert stored["versions"] == {"spancast": "9", "langfuse": ""}


def test_stored_instructions_match_the_cases_and_candidates() -> None:
    stored = json.loads(instructions.STORED.read_text())
    assert set(stored["counts"]) == set(instructions.CASES)
    for case, by_candidate in stored["counts"].items():
        assert set(by_candidate) <= set(CANDIDATES), case
        assert {"bare", "spancast", FLOOR} <= set(by_candidate), case
