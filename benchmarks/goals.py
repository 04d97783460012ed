"""The goals, each with what was measured."""

from __future__ import annotations

import statistics

from benchmarks.candidates import FLOOR, PEERS
from benchmarks.cases import case_of
from benchmarks.fanout import Fanout
from benchmarks.footprint import Footprint
from benchmarks.markdown import rows, verdict
from benchmarks.measure import Results
from benchmarks.results import otherwise, ratio

THREAD = {"short": 0.6, "long": 0.4, "stream": 0.6, "async": 0.7, "error": 0.2}
_PROCESS = 0.6
PEER = 4
_CHUNK_US = 2.0
_FANOUT = 1.2
_IMPORT_MS = 40
_IDLE_MIB = 14
_CHUNKS = 200 - 20
_HEAD = ["", "measured", "goal", "met"]


def of_calls(cases: Results) -> str:
    """Return the table of what is asked of one call: against bare, and against the cheapest peer."""
    lines: list[list[str]] = []
    for name, of_case in cases.items():
        if name == "stream_20":
            continue
        title = case_of(name).title
        for kind, goal in (("thread", THREAD.get(name)), ("process", _PROCESS if name in THREAD else None)):
            found = ratio(of_case["spancast"], of_case["bare"], kind)
            told = f"{found[0]:.2f} ({found[1]:.2f}…{found[2]:.2f})" if found else "noise"
            others = otherwise(of_case["spancast"], of_case["bare"], kind)
            least = ratio(of_case[FLOOR], of_case["bare"], kind) if FLOOR in of_case else None
            floor = f"{least[0]:.2f}" if least else ""
            lines.append(
                [f"{title}: {kind}, ratio to bare", told, others, floor, *verdict(found and found[0], goal, "≤")]
            )
        ours = of_case["spancast"].median("thread")
        peer = cheapest(cases, name)
        if peer is not None and ours is not None:
            # A cost that is nothing, or less, is not told from the noise: no verdict comes of it.
            times = peer[1] / ours if ours > 0 else None
            what = f"{title}: thread, cheapest peer ({peer[0]}) / spancast"
            lines.append([what, f"{times:.1f}" if times else "noise", "", "", *verdict(times, PEER, "≥")])
    return rows(["", "measured", "unscaled, by the twin", FLOOR, *_HEAD[2:]], lines)


def cheapest(cases: Results, name: str) -> tuple[str, float] | None:
    """Return the peer whose cost on the calling thread is least, of those that can be told from nothing."""
    costs = [
        (cost, one)
        for one, result in cases[name].items()
        if one in PEERS and not result.failure and result.is_clear("thread") and (cost := result.median("thread"))
    ]
    return (min(costs)[1], min(costs)[0]) if costs else None


def per_chunk(cases: Results, one: str) -> float | None:
    """Return microseconds per chunk: the slope between streams of 20 and of 200."""
    short, whole = (cases.get(name, {}).get(one) for name in ("stream_20", "stream"))
    low, high = (result.median("thread") if result else None for result in (short, whole))
    return (high - low) / _CHUNKS if low is not None and high is not None else None


def of_chunks(cases: Results) -> str:
    """Return the table of what a chunk of a stream costs."""
    lines: list[list[str]] = []
    for one in dict.fromkeys(one for of_case in cases.values() for one in of_case):
        cost = per_chunk(cases, one)
        if cost is not None:
            goal = _CHUNK_US if one == "spancast" else None
            lines.append([f"per chunk above plain iteration, µs: {one}", f"{cost:.1f}", *verdict(cost, goal, "≤")])
    return rows(_HEAD, lines)


def of_the_process(footprint: Footprint, fanout: Fanout | None) -> str:
    """Return the table of what is asked of the process: to start, to be there, to deliver to many."""
    taken, memory = statistics.median(footprint.import_ms), footprint.memory_mib
    lines = [
        ["import spancast after openai and the SDK, ms",
         f"{taken:.0f} ({min(footprint.import_ms):.0f}…{max(footprint.import_ms):.0f})",
         *verdict(taken, _IMPORT_MS, "≤")],
        ["the same, CPU ms", f"{statistics.median(footprint.import_cpu_ms):.0f}", "", ""],
        ["idle memory above openai, SDK and exporter, MiB", f"{memory:.1f}", *verdict(memory, _IDLE_MIB, "≤")],
        ["vendor SDKs, grpc and HTTP clients `import spancast` loads", ", ".join(footprint.unwanted) or "none", "none",
         "no" if footprint.unwanted else "yes"],
    ]  # fmt: skip
    found = fanout.ratio(("same", 8), ("same", 1)) if fanout else None
    told = f"{found[0]:.2f} ({found[1]:.2f}…{found[2]:.2f})" if found else "not measured"
    lines.append(["8 destinations against 1, CPU per span", told, *verdict(found and found[0], _FANOUT, "≤")])
    return rows(_HEAD, [*lines, _outage(fanout)])


def _outage(fanout: Fanout | None) -> list[str]:
    found = fanout.outage if fanout else {}
    what = "memory with a dead destination, MiB grown after half and after all of a million spans"
    if not found:
        return [what, "not measured", "bounded", "not measured"]
    grown = found["grown_mib"]
    half, whole = grown[len(grown) // 2 - 1], grown[-1]
    # Twice as many spans and not a fifth more memory: it is bounded by something else.
    return [what, f"{half:.0f}, {whole:.0f}", "bounded", "yes" if whole <= _FANOUT * max(half, 1.0) else "no"]
