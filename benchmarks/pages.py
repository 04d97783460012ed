"""A run as a table on the terminal, as docs/performance.md, and as images."""
# ruff: noqa: E501, RUF001 - prose, with its typography

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cases import case_of
from benchmarks.contestants import CONTESTANTS, PEERS
from benchmarks.environments import HERE, ROOT, python_of, versions
from benchmarks.footprint import Footprint
from benchmarks.measure import Result

PAGE = ROOT / "docs" / "performance.md"
IMAGES = ROOT / "docs" / "performance"
_GOALS = {"short": 0.6, "long": 0.4, "stream": 0.6, "async": 0.7, "error": 0.2}
_PROCESS_GOAL = 0.6
_PEER_GOAL = 4
_CHUNK_GOAL_US = 2.0
_IMPORT_GOAL_MS = 40
_MEMORY_GOAL_MIB = 14
_CHUNKS = 200 - 20


@dataclass(kw_only=True)
class Run:
    cases: dict[str, dict[str, Result]]
    curves: dict[str, dict[str, dict[str, Result]]]
    footprint: Footprint
    rounds: int
    curve_rounds: int
    command: str
    seconds: float


def table(run: Run) -> str:
    """Return the run for the terminal."""
    return "\n\n".join([_times(run, "thread"), _times(run, "process"), _goals(run), _footprint(run), _content(run)])


def write(run: Run) -> list[Path]:
    """Write the page and the images; returns their paths."""
    images = _draw(run)
    PAGE.write_text(_page(run, images))
    return [PAGE, *images]


def _everybody(run: Run) -> list[str]:
    present = {one for results in run.cases.values() for one in results}
    return [one for one in CONTESTANTS if one in present and not CONTESTANTS[one].is_baseline]


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [list(head), ["---", *("--:" for _ in head[1:])], *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def _times(run: Run, kind: str) -> str:
    titles = {"thread": "calling thread, CPU", "process": "whole process with export, CPU", "wall": "wall time"}
    cases = [name for name in run.cases if name != "stream_20"]
    rows = [[one, *(_cell(run.cases[name].get(one), kind) for name in cases)] for one in _everybody(run)]
    return _rows([titles[kind], *(case_of(name).title for name in cases)], rows)


def _cell(result: Result | None, kind: str) -> str:
    if result is None:
        return "–"
    middle = result.median(kind)
    if middle is None:
        return "failed"
    first, third = result.quartiles(kind)
    return f"{middle:.0f} ({first:.0f}…{third:.0f})"


def _ratio(run: Run, case: str, one: str, other: str, kind: str) -> float | None:
    mine, its = (run.cases[case].get(name) for name in (one, other))
    if not _is_clear(mine, kind) or not _is_clear(its, kind):
        return None
    top, bottom = (result.median(kind) if result else None for result in (mine, its))
    return top / bottom if top is not None and bottom else None


def _is_clear(result: Result | None, kind: str) -> bool:
    """Tell whether a cost stands out of the noise: the lower quartile is above nothing."""
    return result is not None and kind in result.above and result.quartiles(kind)[0] > 0


def _cheapest(run: Run, case: str, kind: str) -> tuple[str, float] | None:
    costs = [
        (result.median(kind) or 0.0, one)
        for one, result in run.cases[case].items()
        if one in PEERS and result.median(kind) is not None and not result.failure and _is_clear(result, kind)
    ]
    return (min(costs)[1], min(costs)[0]) if costs else None


def per_chunk(run: Run, one: str, kind: str = "thread") -> float | None:
    """Return microseconds per chunk: the slope between streams of 20 and of 200."""
    short, whole = (run.cases.get(name, {}).get(one) for name in ("stream_20", "stream"))
    low, high = (result.median(kind) if result else None for result in (short, whole))
    return (high - low) / _CHUNKS if low is not None and high is not None else None


def _goals(run: Run) -> str:
    rows: list[list[str]] = []
    for name in run.cases:
        if name == "stream_20":
            continue
        title = case_of(name).title
        for kind, goal in (("thread", _GOALS.get(name)), ("process", _PROCESS_GOAL if name in _GOALS else None)):
            ratio = _ratio(run, name, "spancast", "bare", kind)
            if ratio is not None:
                rows.append([f"{title}: {kind}, ratio to bare", f"{ratio:.2f}", *_verdict(ratio, goal, "≤")])
        peer, ours = _cheapest(run, name, "thread"), run.cases[name]["spancast"].median("thread")
        if peer is not None and ours and _is_clear(run.cases[name]["spancast"], "thread"):
            times = peer[1] / ours
            rows.append(
                [
                    f"{title}: thread, cheapest peer ({peer[0]}) / spancast",
                    f"{times:.1f}",
                    *_verdict(times, _PEER_GOAL, "≥"),
                ]
            )
    for one in _everybody(run):
        cost = per_chunk(run, one)
        if cost is not None:
            goal = _CHUNK_GOAL_US if one == "spancast" else None
            rows.append([f"per chunk above plain iteration, µs: {one}", f"{cost:.1f}", *_verdict(cost, goal, "≤")])
    return _rows(["", "measured", "goal", "met"], rows)


def _verdict(value: float, goal: float | None, sign: str) -> tuple[str, str]:
    if goal is None:
        return "", ""
    return f"{sign} {goal:g}", "yes" if (value <= goal if sign == "≤" else value >= goal) else "no"


def _footprint(run: Run) -> str:
    one = run.footprint
    taken = statistics.median(one.import_ms)
    return _rows(
        ["", "measured", "goal", "met"],
        [
            ["import spancast after openai and the SDK, ms", f"{taken:.0f} ({min(one.import_ms):.0f}…{max(one.import_ms):.0f})",
             *_verdict(taken, _IMPORT_GOAL_MS, "≤")],
            ["the same, CPU ms", f"{statistics.median(one.import_cpu_ms):.0f}", "", ""],
            ["idle memory above openai, SDK and exporter, MiB", f"{one.memory_mib:.1f}",
             *_verdict(one.memory_mib, _MEMORY_GOAL_MIB, "≤")],
            ["vendor SDKs and HTTP clients `import spancast` loads", ", ".join(one.unwanted) or "none", "none",
             "no" if one.unwanted else "yes"],
        ],
    )  # fmt: skip


def _content(run: Run) -> str:
    """Say, for each contestant, which cases' spans arrived whole, and what the others lacked."""
    rows: list[list[str]] = []
    for one in _everybody(run):
        whole, lacking, calls = 0, [], 0
        for name, results in run.cases.items():
            result = results.get(one)
            if result is None:
                continue
            title = case_of(name).title
            if result.failure:
                lacking.append(f"{title}: failed ({result.failure.strip().splitlines()[-1][:80]})")
                continue
            calls += result.calls
            missing = [f"{piece} {result.received.get(piece, 0)}/{result.calls}" for piece in result.missing()]
            if missing:
                lacking.append(f"{title}: {', '.join(missing)}")
            else:
                whole += 1
        rows.append([one, f"{calls}", f"{whole}", "; ".join(lacking).replace("|", "/")])
    return _rows(["spans at the receiver", "calls", "cases whole", "missing"], rows)


def _machine() -> str:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    return f"{os.cpu_count()} × {model}, {platform.system()} {platform.release()}, CPython {platform.python_version()}"


def _versions(run: Run) -> str:
    rows = []
    for one in _everybody(run):
        contestant = CONTESTANTS[one]
        found = versions(contestant.environment)
        where = "the benchmark's own" if contestant.environment == HERE else contestant.environment
        rows.append([one, f"{contestant.package} {found.get(contestant.package, '?')}", where,
                     found.get("openai", "?"), found.get("opentelemetry-sdk", "–")])  # fmt: skip
    return _rows(["contestant", "package", "environment", "openai", "opentelemetry-sdk"], rows)


def _page(run: Run, images: Sequence[Path]) -> str:
    day = time.strftime("%Y-%m-%d", time.gmtime())
    drawn = "\n\n".join(f"![cost with {path.stem}](performance/{path.name})" for path in images)
    if not run.curves:
        drawn = "Not measured in this run."
    elif not images:
        drawn = "No images: matplotlib could not be installed where this was run. The figures:"
    return f"""# Performance

Written by `{run.command}` on {day}; do not edit. The run took {run.seconds / 60:.0f} minutes.

Machine: {_machine()}.

Every figure is microseconds per call **above the same client uninstrumented**, the median of {run.rounds} rounds with the first and third quartile in brackets.
Each contestant runs in a process of its own, peers with many dependencies in an environment of their own, against an uninstrumented twin in that environment; rounds are
interleaved and their order shuffled, and what the twin took in the same turn is subtracted. The provider is a transport inside the process, so no network is measured; the receiver of
the traces is another process on 127.0.0.1. *bare* is a plain OpenTelemetry span written by hand with the same content ([benchmarks/bare.py](../benchmarks/bare.py)).

These machines are shared and small: where the quartiles of two contestants overlap, the run says nothing about which is cheaper, and a wide bracket is noise of the machine, not of the
contestant. Compare ratios within one run, not microseconds across runs.

## The calling thread

{_times(run, "thread")}

## The whole process, export included

{_times(run, "process")}

## Wall time

{_times(run, "wall")}

## Against the goals

A ratio of costs that do not stand out of the noise (lower quartile not above zero) is left out.

{_goals(run)}

## Before the first call

{_footprint(run)}

## Growth

Spancast and bare, {run.curve_rounds} rounds; the shade is the quartiles.

{drawn}

{_curves(run)}

## Was everything recorded?

Every span is counted at the receiver and searched for the model, both token counts, the first and the last message and the whole answer (of an error: its message).

{_content(run)}

`litellm` is its own client: its figure is `litellm.completion` with the callback `otel` above `litellm.completion` without. Contestants that have no such API, or no trace keys, have no figure there.

## Versions

{_versions(run)}

## Not measured yet

Fan-out to several destinations, memory under a dead destination, spool throughput and recovery: they come with the posting side.
"""


def _curves(run: Run) -> str:
    parts = []
    for name, points in run.curves.items():
        rows = [
            [
                point.partition("=")[2],
                *(_cell(results.get(one), kind) for kind in ("thread", "process") for one in ("bare", "spancast")),
            ]
            for point, results in points.items()
        ]
        head = [name, "bare, thread", "spancast, thread", "bare, process", "spancast, process"]
        parts.append(_rows(head, rows))
    return "\n\n".join(parts)


def _draw(run: Run) -> list[Path]:
    python = python_of("plots") if run.curves else None
    if python is None:
        if run.curves:
            print("no images: matplotlib could not be installed", file=sys.stderr)
        return []
    IMAGES.mkdir(exist_ok=True)
    paths = []
    for name, points in run.curves.items():
        lines: dict[str, list[list[float]]] = {}
        for point, results in points.items():
            for one in ("bare", "spancast"):
                for kind in ("thread", "process"):
                    middle = results[one].median(kind)
                    if middle is not None:
                        low, high = results[one].quartiles(kind)
                        lines.setdefault(f"{one}, {kind}", []).append(
                            [float(point.partition("=")[2]), middle, low, high]
                        )
        path = IMAGES / f"{name}.svg"
        told = json.dumps({"path": str(path), "axis": name, "lines": lines})
        subprocess.run([python, ROOT / "benchmarks" / "plot.py"], input=told.encode(), check=True, timeout=120)
        paths.append(path)
    return paths
