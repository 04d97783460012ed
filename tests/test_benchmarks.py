"""The benchmark measures what it says: each contestant of this environment works and its spans are whole. No timing."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from benchmarks import __main__ as runner
from benchmarks.bare import Bare
from benchmarks.cases import ALL, CURVES, FIRST_SIX, case_of
from benchmarks.contestants import CONTESTANTS, PEERS
from benchmarks.environments import HERE
from benchmarks.measure import Result, receiver, run_case

OWN = ["bare", "spancast"]
INSTALLED = [one for one in PEERS if CONTESTANTS[one].environment == HERE]
# One worker starts in a second or more: the two left out differ from "long" and "stream" in numbers only.
CASES = [name for name in ALL if name not in {"thousand", "stream_20"}]
TINY = 2


@pytest.fixture(scope="module")
def ports() -> Iterator[dict[str, int]]:
    names = ["none", *OWN, *INSTALLED]
    with receiver(len(names)) as numbers:
        yield dict(zip(names, numbers, strict=True))


def run(case: str, contestants: list[str], ports: dict[str, int]) -> dict[str, Result]:
    results = run_case(case, contestants, 1, ports, calls=TINY)
    for one, result in results.items():
        assert result.failure == "", one
        assert len(result.rounds) == 1
        assert result.calls == 2 * TINY  # a round to warm up, a round
    assert results["none"].received["requests"] == 0
    return results


@pytest.mark.parametrize("case", CASES)
def test_own_spans_are_whole(case: str, ports: dict[str, int]) -> None:
    results = run(case, OWN, ports)
    for one in OWN:
        assert results[one].missing() == [], results[one].received
        assert results[one].received["calls"] == results[one].calls
        assert results[one].above.keys() == {"thread", "process", "wall"}


@pytest.mark.parametrize("case", ["short", "stream"])
def test_peers_of_this_environment(case: str, ports: dict[str, int]) -> None:
    assert INSTALLED == ["genai-openai", "traceloop", "openinference"]
    results = run(case, INSTALLED, ports)
    for one in INSTALLED:
        assert results[one].missing() == [], (one, results[one].received)


def test_points_of_the_curves_are_cases() -> None:
    for points in CURVES.values():
        for point in points:
            assert case_of(point).name == point
    assert len(case_of("chunks=50").pieces) == 51  # and the end mark
    assert len(case_of("messages=40").request["messages"]) == 40


def test_a_worker_that_fails_is_told(ports: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONTESTANTS, "gone", CONTESTANTS["bare"])  # unknown to the worker's own process
    results = run_case("short", ["gone"], 1, {**ports, "gone": ports["bare"]}, calls=TINY)
    assert "invalid choice" in results["gone"].failure
    assert results["gone"].median("thread") is None


def test_ratios_and_the_stored_ones() -> None:
    bare, ours = Result(contestant="bare"), Result(contestant="spancast")
    bare.above, ours.above = {"thread": [10.0, 20.0, 30.0]}, {"thread": [9.0, 5.0, 100.0]}
    assert runner.ratios({"short": {"bare": bare, "spancast": ours}}) == {"short thread": 0.45}
    stored = json.loads(runner.BASELINE.read_text())["ratios"]
    assert {name.partition(" ")[0] for name in stored} >= set(FIRST_SIX)


def test_bare_is_set_up_for_every_case() -> None:
    from opentelemetry.trace import NoOpTracer

    for name in ALL:
        Bare(NoOpTracer(), case_of(name))
