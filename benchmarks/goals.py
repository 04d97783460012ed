"""The goals, each with the measured value."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from benchmarks.candidates import (
    AROUND_CLIENT,
    DECORATED,
    ENQUEUES_ONLY,
    FLOOR,
    METRICS,
    OPEN_GROUPS,
    OWN_EXPORTER,
    PEERS,
)
from benchmarks.cases import case_of
from benchmarks.fanout import Fanout
from benchmarks.footprint import Footprint
from benchmarks.markdown import rows, verdict
from benchmarks.measure import Results
from benchmarks.results import Result, ratio, unscaled_ratios

THREAD = {"short": 0.9, "long": 0.6, "stream": 0.8, "async": 0.9, "error": 0.2, "megabyte": 0.15}
PROCESS = {"short": 0.75, "long": 0.9, "stream": 1.0}
_OWN_EXPORTER = 1.1
OF_OWN_EXPORTER = {**dict.fromkeys(THREAD, _OWN_EXPORTER), "short": 1.3}
"""spancast on the application's provider: nothing can be deferred, because the application's exporter sees the span."""
_PEER = 3
_PEER_OF_ERROR = 2
_CHUNK_US = 2.0
_FANOUT = 1.2
_FANOUT_OF_FOUR_ENCODERS = 3
_MEMORY = 1.2
_IMPORT_MS = 25
_SPANS_PER_S = 15_000
_IDLE_MIB = 14
_CHUNKS = 200 - 20
_HEAD = ["", "measured", "goal", "met"]


def peer_goal(name: str) -> int:
    """Return how many times spancast's cost the cheapest peer is to have in the case ``name``."""
    return _PEER_OF_ERROR if name == "error" else _PEER


def of_calls(cases: Results) -> str:
    """Return the table of the goals of a call: against bare and against the cheapest peer."""
    lines: list[list[str]] = []
    for name, by_candidate in cases.items():
        if name == "stream_20":
            continue
        title = case_of(name).title
        for one, kind, goals in (
            ("spancast", "thread", THREAD), ("spancast", "process", PROCESS), (OWN_EXPORTER, "thread", OF_OWN_EXPORTER)
        ):  # fmt: skip
            if one in by_candidate:
                lines.append(
                    _against_bare(f"{title}: {one}, {kind}, ratio to bare", by_candidate, one, kind, goals.get(name))
                )
        ours = by_candidate["spancast"].median("thread")
        peer = cheapest(cases, name)
        if peer is not None and ours is not None:
            # A cost of zero or less is noise: no verdict.
            times = peer[1] / ours if ours > 0 else None
            what = f"{title}: thread, cheapest peer ({peer[0]}) / spancast"
            lines.append([what, f"{times:.1f}" if times else "noise", "", "", *verdict(times, peer_goal(name), "≥")])
    return rows(["", "measured", "unscaled, by baseline", FLOOR, *_HEAD[2:]], lines)


def _against_bare(what: str, by_candidate: Mapping[str, Result], one: str, kind: str, goal: float | None) -> list[str]:
    bare = by_candidate["bare"]
    found = ratio(by_candidate[one], bare, kind)
    measured = f"{found[0]:.2f} ({found[1]:.2f}…{found[2]:.2f})" if found else "noise"
    least = ratio(by_candidate[FLOOR], bare, kind) if FLOOR in by_candidate else None
    floor = f"{least[0]:.2f}" if least else ""
    return [
        what,
        measured,
        unscaled_ratios(by_candidate[one], bare, kind),
        floor,
        *verdict(found and found[0], goal, "≤"),
    ]


_PATHS = (
    ("short", DECORATED, "bare", "thread", 0.8),
    ("long", DECORATED, "bare", "thread", 0.5),
    ("error", DECORATED, "bare", "thread", 0.25),
    ("stream", DECORATED, "bare", "thread", 1.2),
    ("short", AROUND_CLIENT, "spancast", "thread", 1.2),
    ("short", OPEN_GROUPS, "spancast", "thread", 1.3),
    ("keys", "spancast", "bare", "thread", 1.3),
    ("short", METRICS, "spancast", "process", 1.2),
    ("stream", METRICS, "spancast", "process", 1.3),
)
"""Case, candidate, what it is compared with, kind of time, goal."""


def of_paths(cases: Results) -> str:
    """Return the table of the goals beside instrumented clients: decorated functions, trace keys, metrics."""
    lines: list[list[str]] = []
    for name, one, other, kind, goal in _PATHS:
        by_candidate = cases.get(name, {})
        if one in by_candidate and other in by_candidate:
            found = ratio(by_candidate[one], by_candidate[other], kind)
            measured = f"{found[0]:.2f} ({found[1]:.2f}…{found[2]:.2f})" if found else "noise"
            what = f"{case_of(name).title}: {one}, {kind}, ratio to {other}"
            lines.append([what, measured, *verdict(found and found[0], goal, "≤")])
    return rows(_HEAD, lines)


def cheapest(cases: Results, name: str) -> tuple[str, float] | None:
    """Return the peer with the lowest cost on the calling thread, among those whose cost is above the noise."""
    costs = [
        (cost, one)
        for one, result in cases[name].items()
        if one in PEERS
        and one not in ENQUEUES_ONLY
        and not result.failure
        and result.is_clear("thread")
        and (cost := result.median("thread"))
    ]
    return (min(costs)[1], min(costs)[0]) if costs else None


def per_chunk(cases: Results, one: str) -> float | None:
    """Return the cost per chunk in µs: the slope between streams of 20 and 200 chunks."""
    short, long = (cases.get(name, {}).get(one) for name in ("stream_20", "stream"))
    low, high = (result.median("thread") if result else None for result in (short, long))
    return (high - low) / _CHUNKS if low is not None and high is not None else None


def of_chunks(cases: Results) -> str:
    """Return the table of the cost per chunk of a stream."""
    lines: list[list[str]] = []
    for one in dict.fromkeys(one for by_candidate in cases.values() for one in by_candidate):
        cost = per_chunk(cases, one)
        if cost is not None:
            goal = _CHUNK_US if one == "spancast" else None
            lines.append([f"per chunk above plain iteration, µs: {one}", f"{cost:.1f}", *verdict(cost, goal, "≤")])
    return rows(_HEAD, lines)


def of_the_process(footprint: Footprint, fanout: Fanout | None) -> str:
    """Return the table of the goals of a process: import time, idle memory, many destinations."""
    import_ms, memory = statistics.median(footprint.import_ms), footprint.memory_mib
    lines = [
        ["import spancast after openai and the SDK, ms",
         f"{import_ms:.0f} ({min(footprint.import_ms):.0f}…{max(footprint.import_ms):.0f})",
         *verdict(import_ms, _IMPORT_MS, "≤")],
        ["the same, CPU ms", f"{statistics.median(footprint.import_cpu_ms):.0f}", "", ""],
        ["idle memory above openai, SDK and exporter, MiB", f"{memory:.1f}", *verdict(memory, _IDLE_MIB, "≤")],
        ["vendor SDKs, grpc and HTTP clients loaded by `import spancast`",
         ", ".join(footprint.unwanted) or "none", "none", "no" if footprint.unwanted else "yes"],
    ]  # fmt: skip
    for role, what, goal in (("same", "one encoder", _FANOUT), ("mixed", "four encoders", _FANOUT_OF_FOUR_ENCODERS)):
        found = fanout.ratio((role, 8), ("same", 1)) if fanout else None
        measured = f"{found[0]:.2f} ({found[1]:.2f}…{found[2]:.2f})" if found else "not measured"
        lines.append(
            [f"8 destinations of {what} against 1, CPU per span", measured, *verdict(found and found[0], goal, "≤")]
        )
    rate = fanout.rate(("burst", 1)) if fanout else None
    measured = f"{rate:,.0f}" if rate else "not measured"
    lines.append(["one process through the spool on disk, spans/s", measured, *verdict(rate, _SPANS_PER_S, "≥")])
    return rows(_HEAD, [*lines, _outage(fanout)])


def _outage(fanout: Fanout | None) -> list[str]:
    found = fanout.outage if fanout else {}
    what = "memory with a dead destination, MiB growth after half and after all of a million spans"
    if not found:
        return [what, "not measured", "bounded", "not measured"]
    growth = found["grown_mib"]
    half, total = growth[len(growth) // 2 - 1], growth[-1]
    # Bounded means: twice as many spans take at most a fifth more memory.
    return [what, f"{half:.0f}, {total:.0f}", "bounded", "yes" if total <= _MEMORY * max(half, 1.0) else "no"]
