"""A run as tables on the terminal, and as docs/performance.md."""
# ruff: noqa: E501, RUF001 - prose, with its typography

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import goals, instructions, posting
from benchmarks.candidates import CONTESTANTS, FLOOR
from benchmarks.cases import case_of
from benchmarks.drawing import WHO, draw
from benchmarks.environments import HERE, ROOT, versions
from benchmarks.fanout import Fanout
from benchmarks.footprint import Footprint
from benchmarks.markdown import rows
from benchmarks.measure import Results
from benchmarks.results import EVEN, Result, ratio

PAGE = ROOT / "docs" / "performance.md"
_KINDS = {"thread": "calling thread, CPU", "process": "whole process with export, CPU", "wall": "wall time"}


@dataclass(kw_only=True)
class Run:
    cases: Results
    curves: dict[str, Results]
    footprint: Footprint
    fanout: Fanout | None
    turns: int
    peer_turns: int
    command: str
    seconds: float


def terminal(run: Run) -> str:
    """Return the run for the terminal."""
    parts = [
        times(run, "thread"),
        times(run, "process"),
        check(run),
        goals.of_calls(run.cases),
        goals.of_chunks(run.cases),
    ]
    return "\n\n".join([*parts, goals.of_the_process(run.footprint, run.fanout), content(run)])


def write(run: Run) -> list[Path]:
    """Write the page and the images; returns their paths."""
    images = draw(run.curves, run.fanout)
    PAGE.write_text(_page(run, images))
    return [PAGE, *images]


def everybody(run: Run) -> list[str]:
    present = {one for of_case in run.cases.values() for one in of_case}
    return [one for one in CONTESTANTS if one in present]


def shown(run: Run) -> list[str]:
    return [one for one in everybody(run) if one not in {"none", "bare again"}]


def times(run: Run, kind: str) -> str:
    cases = [name for name in run.cases if name != "stream_20"]
    lines = [[one, *(cell(run.cases[name].get(one), kind) for name in cases)] for one in shown(run)]
    lines.append(["*the plain call*", *(f"{_plain(run.cases[name]):.0f}" for name in cases)])
    return rows([_KINDS[kind], *(case_of(name).title for name in cases)], lines)


def cell(result: Result | None, kind: str) -> str:
    if result is None:
        return "–"
    middle = result.median(kind)
    if middle is None:
        return "failed"
    least, most = result.spread(kind)
    return f"{middle:.0f} ({least:.0f}…{most:.0f})"


def _plain(of_case: dict[str, Result]) -> float:
    return next((of_case[one].plain for one in ("bare", "spancast") if one in of_case), 0.0)


def check(run: Run) -> str:
    """Return the check of the measure: what must be nothing, and what must be one."""
    lines: list[list[str]] = []
    for name, of_case in run.cases.items():
        none, again, bare = (of_case.get(one) for one in ("none", "bare again", "bare"))
        if none is None or again is None or bare is None:
            continue
        counted = sum(len(one.counted()) for one in of_case.values())
        taken = sum(one.taken() for one in of_case.values())
        line = [case_of(name).title, cell(none, "thread")]
        for kind in ("thread", "process"):
            found = ratio(again, bare, kind)
            line.append(f"{found[0]:.2f} ({found[1]:.2f}…{found[2]:.2f})" if found else "noise")
        lines.append([*line, f"{_plain(of_case):.0f}", f"{taken - counted} of {taken}"])
    head = [
        "",
        "nothing, µs (0)",
        "bare again / bare, thread (1)",
        "the same, process (1)",
        "the plain call, µs",
        "quads left out",
    ]
    return rows(head, lines)


def content(run: Run) -> str:
    """Say, for each contestant, which cases' spans arrived whole, and what the others lacked."""
    lines: list[list[str]] = []
    for one in shown(run):
        if one == FLOOR:
            continue
        whole, lacking, calls = 0, [], 0
        for name, of_case in run.cases.items():
            result = of_case.get(one)
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
        lines.append([one, f"{calls}", f"{whole}", "; ".join(lacking).replace("|", "/")])
    return rows(["spans at the receiver", "calls", "cases whole", "missing"], lines)


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if "model name" in line), platform.processor())
    return f"{os.cpu_count()} × {model}, {platform.system()} {platform.release()}, CPython {platform.python_version()}"


def _versions(run: Run) -> str:
    lines: list[list[str]] = []
    for one in shown(run):
        candidate = CONTESTANTS[one]
        found = versions(candidate.environment)
        where = "the benchmark's own" if candidate.environment == HERE else candidate.environment
        lines.append([one, f"{candidate.package} {found.get(candidate.package, '?')}", where,
                      found.get("openai", "?"), found.get("opentelemetry-sdk", "–")])  # fmt: skip
    return rows(["candidate", "package", "environment", "openai", "opentelemetry-sdk"], lines)


def _curves(run: Run) -> str:
    parts: list[str] = []
    for name, points in run.curves.items():
        lines = [
            [point.partition("=")[2], *(cell(of_case.get(one), kind) for kind in ("thread", "process") for one in WHO)]
            for point, of_case in points.items()
        ]
        parts.append(rows([name, "bare, thread", "spancast, thread", "bare, process", "spancast, process"], lines))
    return "\n\n".join(parts) or "Not measured in this run."


def _left_out(run: Run) -> str:
    missing = [one for one in CONTESTANTS if one not in everybody(run)]
    failed = {one for of_case in run.cases.values() for one, result in of_case.items() if result.failure}
    told = [f"Left out of this run: {', '.join(missing)}."] if missing else []
    if failed:
        told.append(f"Failed in some case, see below: {', '.join(sorted(failed))}.")
    return " ".join(told)


def _page(run: Run, images: Sequence[Path]) -> str:
    drawn = {path.stem: f"![cost with {path.stem}](performance/{path.name})" for path in images}
    curves = "\n\n".join(drawn[name] for name in run.curves if name in drawn)
    return f"""# Performance

Written by `{run.command}` on {time.strftime("%Y-%m-%d", time.gmtime())}; do not edit. The run took {run.seconds / 60:.0f} minutes. {_left_out(run)}

Machine: {_machine()}.

## How it is measured

Every figure is microseconds per call **above the same client uninstrumented**. Each contestant runs in processes of its own, peers with many dependencies in environments of their own;
the uninstrumented client, its *twin*, is called in the same process, in turn with the contestant's: twin, contestant, contestant, twin (a *quad*), one call each; streams side by side, a chunk of each in turn, and asynchronous calls on one loop, one of each in turn, each call's own steps timed.
A quad gives one figure, what the contestant's two calls took more than the twin's two. The provider is a transport inside the process, so no network is measured; the receiver of the traces is another process on
127.0.0.1 and another core. *bare* is a plain OpenTelemetry span written by hand with the same content ([benchmarks/bare.py](../benchmarks/bare.py)), exported by the SDK's batch processor.
*an empty span* is the same with nothing but the five attributes that conventions want at the start of a span: what a tracer costs at least that leaves starting and ending its spans to the SDK.
*trace keys* name two groups around the call; bare opens one span for all its calls, once, while spancast's groups end with each flush and begin anew: here, where two calls are timed and then flushed, that is two more spans in two calls.
*spancast, metrics on* also measures every call for an SDK meter provider with a reader in memory, collected before each flush.
*spancast, zero-code* is a program that knows nothing of it, started by `opentelemetry-instrument`, all other instrumentations off, exported by the SDK's batch processor.

- **The middle figure** is the median of all quads; **in brackets** are the least and the greatest of the medians of single processes: {run.turns} for bare and spancast, {run.peer_turns} for each peer, with another hash seed and
  memory layout in each, all contestants in shuffled order in each.
- **These cores halve their speed** for seconds when a neighbour works. So some fixed work (the *probe*) is done before and amid each quad, and the quad's figure is divided by how much longer the probe took than in
  the quickest tenth of this run: figures are those of a core at full speed. A quad is left out where the probe's times are more than {EVEN:g} apart, so that the speed changed meanwhile, or where the hypervisor took the core away.
  The contestant's own figures are asked for neither.
- **Calling thread** is the CPU time of the thread (or threads) that call. What runs on other threads is waited for before the twin goes on, so that it does not pay for it.
- **Whole process** adds the CPU of all other threads, and of the flush at the end, of a series of calls in a row ({case_of("short").calls} short ones); it is counted, not compared.
- The worker has one core to itself, all threads together, which makes *wall* what a caller waits for on a busy machine. The collector is on; what is loaded before the first quad is frozen out of it.

Compare ratios within one run, not microseconds across runs.

## The check of the measure

*nothing* is a second uninstrumented client measured as if it were a contestant, and *bare again* is bare once more, in other processes. How far the first is from 0 and the others are from 1 is how far the figures below can be trusted.

{check(run)}

## The calling thread

{times(run, "thread")}

## The whole process, export included

{times(run, "process")}

## Wall time

{times(run, "wall")}

## Against the goals

In brackets the least and the greatest of processes of one turn. `noise`: bare itself is not told from nothing in every process. Beside it the same ratio from the same quads with nothing scaled, and scaled by what the
twin took instead of the probe: where the three disagree, the machine's speed decides and not the code. Then what *an empty span* costs, in the same measure: the floor.

{goals.of_calls(run.cases)}

{goals.of_chunks(run.cases)}

{goals.of_the_process(run.footprint, run.fanout)}

## The same in instructions

Time on a shared machine depends on the neighbour; how many instructions the calling thread executes does not. Valgrind counts them: the same clients, cases and receiver, one process each, twin, contestant, flush, contestant, flush,
twin, {case_of("short").calls} short calls in a row each time (fewer of what is long). What it does not see is the work of the kernel, and that code which has left the caches takes longer than code that has not. The whole process is not told: below
Valgrind everything takes fifty times as long, so who works at intervals in the background does so fifty times as often. A peer whose spans lacked some of the content is not among the cheapest.
Anthropic's SDK makes a span of its own for each call, the twin's too, though here it goes nowhere; spancast has it make none, so that one call is one span. So what a call costs more with spancast is less there than what spancast does.

{instructions.section()}

## Growth

Spancast and bare. The shade is from the least to the greatest process. *concurrency* is calls together on one event loop, *threads* is calls on so many threads (the CPU of all of them).

{curves}

{_curves(run)}

{posting.section(run.fanout, drawn.get("destinations", ""))}

## Was everything recorded?

Every span is counted at the receiver and searched for the model, both token counts, the first and the last message and the whole answer (of an error: its message).

{content(run)}

`litellm` is its own client: its figure is `litellm.completion` with the callback `otel` above `litellm.completion` without. It records on a thread of its own, so its calling thread tells little of its cost and its whole process tells it. Contestants that have no such API, or no trace keys, have no figure there.

## Versions

{_versions(run)}
"""
