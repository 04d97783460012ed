"""Reports of a run: tables for the terminal, and docs/performance.md."""
# ruff: noqa: E501, RUF001 - prose with typographic characters

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import goals, instructions, posting
from benchmarks.candidates import CANDIDATES, FLOOR
from benchmarks.cases import case_of
from benchmarks.crowds import Crowds
from benchmarks.drawing import COMPARED, draw
from benchmarks.environments import HERE, ROOT, versions
from benchmarks.fanout import Fanout
from benchmarks.footprint import Footprint
from benchmarks.markdown import rows
from benchmarks.measure import Results
from benchmarks.results import MAX_UNEVEN, Result, ratio

PAGE = ROOT / "docs" / "performance.md"
_USERS = ("short", "long", "stream", "error")
_SECOND_US = 1_000_000
_NAMES = {"bare": "a span written by hand", "spancast, own exporter": "spancast beside an exporter of the application"}
_KINDS = {"thread": "calling thread, CPU", "process": "whole process with export, CPU", "wall": "wall time"}


@dataclass(kw_only=True)
class Run:
    cases: Results
    curves: dict[str, Results]
    footprint: Footprint
    fanout: Fanout | None
    crowds: Crowds | None = None
    rounds: int
    peer_rounds: int
    command: str
    seconds: float


def terminal(run: Run) -> str:
    """Return the report for the terminal."""
    parts = [
        times(run, "thread"),
        times(run, "process"),
        check(run),
        goals.of_calls(run.cases),
        goals.of_paths(run.cases),
        goals.of_chunks(run.cases),
    ]
    return "\n\n".join([*parts, goals.of_the_process(run.footprint, run.fanout), _crowds(run), content(run)])


def _crowds(run: Run) -> str:
    return run.crowds.table() if run.crowds else "Many calls at once: not measured in this run."


def write(run: Run) -> list[Path]:
    """Write the page and the images; return their paths."""
    images = draw(run.curves, run.fanout)
    PAGE.write_text(_page(run, images))
    return [PAGE, *images]


def measured_candidates(run: Run) -> list[str]:
    present = {one for by_candidate in run.cases.values() for one in by_candidate}
    return [one for one in CANDIDATES if one in present]


def listed_candidates(run: Run) -> list[str]:
    return [one for one in measured_candidates(run) if one not in {"none", "bare again"}]


def times(run: Run, kind: str) -> str:
    cases = [name for name in run.cases if name != "stream_20"]
    lines = [[one, *(cell(run.cases[name].get(one), kind) for name in cases)] for one in listed_candidates(run)]
    lines.append(["*uninstrumented call*", *(f"{_plain(run.cases[name]):.0f}" for name in cases)])
    return rows([_KINDS[kind], *(case_of(name).title for name in cases)], lines)


def for_users(run: Run) -> str:
    """Return what a call costs in µs, thread / process, and the process time of a short one in a call of a second."""
    cases = [name for name in _USERS if name in run.cases]
    short = run.cases.get("short", {})
    lines: list[list[str]] = []
    for one in listed_candidates(run):
        if one == FLOOR:
            continue
        cells = [
            "–" if both is None else "failed" if None in both else f"{both[0]:.0f} / {both[1]:.0f}"
            for both in _both(run, cases, one)
        ]
        whole = short[one].median("process") if one in short else None
        lines.append([_NAMES.get(one, one), *cells, f"{whole / _SECOND_US:.3%}" if whole is not None else "–"])
    return rows(["µs per call, thread / process", *(case_of(name).title for name in cases), "of a call of 1 s"], lines)


def _both(run: Run, cases: Sequence[str], one: str) -> list[tuple[float | None, float | None] | None]:
    """Return thread and process in each case: None if it was not measured in a case, of None if that failed."""
    results = [run.cases[name].get(one) for name in cases]
    return [(result.median("thread"), result.median("process")) if result else None for result in results]


def cell(result: Result | None, kind: str) -> str:
    if result is None:
        return "–"
    median = result.median(kind)
    if median is None:
        return "failed"
    least, most = result.spread(kind)
    return f"{median:.0f} ({least:.0f}…{most:.0f})"


def _plain(by_candidate: dict[str, Result]) -> float:
    return next((by_candidate[one].plain for one in ("bare", "spancast") if one in by_candidate), 0.0)


def check(run: Run) -> str:
    """Return the table that checks the benchmark: differences that must be 0 and ratios that must be 1."""
    lines: list[list[str]] = []
    for name, by_candidate in run.cases.items():
        none, again, bare = (by_candidate.get(one) for one in ("none", "bare again", "bare"))
        if none is None or again is None or bare is None:
            continue
        valid = sum(len(result.valid_samples()) for result in by_candidate.values())
        total = sum(result.sample_count() for result in by_candidate.values())
        line = [case_of(name).title, cell(none, "thread")]
        for kind in ("thread", "process"):
            found = ratio(again, bare, kind)
            line.append(f"{found[0]:.2f} ({found[1]:.2f}…{found[2]:.2f})" if found else "noise")
        lines.append([*line, f"{_plain(by_candidate):.0f}", f"{total - valid} of {total}"])
    head = [
        "",
        "none, µs (0)",
        "bare again / bare, thread (1)",
        "the same, process (1)",
        "uninstrumented call, µs",
        "samples discarded",
    ]
    return rows(head, lines)


def content(run: Run) -> str:
    """Return the table of the cases whose spans arrived complete, and of the content missing in the others."""
    lines: list[list[str]] = []
    for one in listed_candidates(run):
        if one == FLOOR:
            continue
        complete, incomplete, calls = 0, [], 0
        for name, by_candidate in run.cases.items():
            result = by_candidate.get(one)
            if result is None:
                continue
            title = case_of(name).title
            if result.failure:
                incomplete.append(f"{title}: failed ({result.failure.strip().splitlines()[-1][:80]})")
                continue
            calls += result.calls
            missing = [f"{piece} {result.received.get(piece, 0)}/{result.calls}" for piece in result.missing()]
            if missing:
                incomplete.append(f"{title}: {', '.join(missing)}")
            else:
                complete += 1
        lines.append([one, f"{calls}", f"{complete}", "; ".join(incomplete).replace("|", "/")])
    return rows(["spans at the receiver", "calls", "complete cases", "missing"], lines)


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if "model name" in line), platform.processor())
    return f"{os.cpu_count()} × {model}, {platform.system()} {platform.release()}, CPython {platform.python_version()}"


def _versions(run: Run) -> str:
    lines: list[list[str]] = []
    for one in listed_candidates(run):
        candidate = CANDIDATES[one]
        found = versions(candidate.environment)
        environment = "the benchmark's own" if candidate.environment == HERE else candidate.environment
        lines.append([one, f"{candidate.package} {found.get(candidate.package, '?')}", environment,
                      found.get("openai", "?"), found.get("opentelemetry-sdk", "–")])  # fmt: skip
    return rows(["candidate", "package", "environment", "openai", "opentelemetry-sdk"], lines)


def _curves(run: Run) -> str:
    parts: list[str] = []
    for name, points in run.curves.items():
        lines = [
            [
                point.partition("=")[2],
                *(cell(by_candidate.get(one), kind) for kind in ("thread", "process") for one in COMPARED),
            ]
            for point, by_candidate in points.items()
        ]
        parts.append(rows([name, "bare, thread", "spancast, thread", "bare, process", "spancast, process"], lines))
    return "\n\n".join(parts) or "Not measured in this run."


def _omissions(run: Run) -> str:
    missing = [one for one in CANDIDATES if one not in measured_candidates(run)]
    failed = {one for by_candidate in run.cases.values() for one, result in by_candidate.items() if result.failure}
    sentences = [f"Not in this run: {', '.join(missing)}."] if missing else []
    if failed:
        sentences.append(f"Failed in at least one case, see below: {', '.join(sorted(failed))}.")
    return " ".join(sentences)


def _page(run: Run, images: Sequence[Path]) -> str:
    drawn = {path.stem: f"![cost with {path.stem}](performance/{path.name})" for path in images}
    curves = "\n\n".join(drawn[name] for name in run.curves if name in drawn)
    return f"""# Performance

What tracing adds to a call: CPU time of the calling thread, and of the whole process with the export of the trace, in µs above the same call without tracing. The last column is the process time of a short call as a part of a call
that takes a second. The names below *a span written by hand* are other libraries, each as its documentation says.

{for_users(run)}

Written by `{run.command}` on {time.strftime("%Y-%m-%d", time.gmtime())}; do not edit. The run took {run.seconds / 60:.0f} minutes. {_omissions(run)}

Machine: {_machine()}.

## How it is measured

Every figure is in microseconds per call **above the same client without instrumentation**. Each candidate runs in its own processes; peers with many dependencies run in their own environments.
The *baseline* is the uninstrumented client in the same process. A *sample* times baseline, candidate, candidate, baseline, one call each. Two streams are read side by side, alternating by chunk. Asynchronous calls of both run on one event loop, alternating, and the steps of each call are timed.
A sample gives one figure: the time of the candidate's two calls minus that of the baseline's two calls. The provider is a transport inside the process, so no network is measured. The receiver of the traces is another process on
127.0.0.1 and another core.

- *bare* is an OpenTelemetry span written by hand with the same content ([benchmarks/bare.py](../benchmarks/bare.py)), exported by the SDK's batch processor.
- *an empty span* is the same span with only the five attributes that the conventions require at its start: the minimum cost of a tracer that leaves starting and ending spans to the SDK.
- *trace keys* name two groups around the call. bare opens one span for all its calls. spancast's groups end with each flush: two calls are timed per flush, so spancast creates two more spans for them.
- *spancast, own exporter* is spancast on a tracer provider of the application with the SDK's batch processor and exporter, as in bare, and with one destination of its own that encodes each batch and discards it.
- *spancast, metrics on* also records metrics of every call with an SDK meter provider and an in-memory reader, collected before each flush.
- *spancast, decorated function* is `@spancast.instrument` on a function (for streams a generator function) that calls an uninstrumented client; its baseline is the same function without it. *decorated, client too* instruments the client as well: one span, of the function.
- *spancast, open groups* names two groups with three trace keys in each call. They stay open, as in a server; only the spans of the calls are flushed.
- *spancast, zero-code* is a program without spancast in its code, started by `opentelemetry-instrument`, with all other instrumentations disabled, exported by the SDK's batch processor.

How to read the figures:

- **The first figure** is the median of all samples. **In brackets** are the minimum and maximum of the medians of single processes: {run.rounds} for bare and spancast, {run.peer_rounds} for each peer. Each process has another hash seed and
  memory layout; the order of the candidates is shuffled.
- **These cores halve their speed** for seconds while a neighbour on the host is busy. Fixed work (the *probe*) therefore runs before and during each sample, and the sample's time is divided by the slowdown of the probe compared with
  the fastest tenth of this run: figures are those of a core at full speed. A sample is discarded if the times of its probes differ by a factor of more than {MAX_UNEVEN:g}, or if the hypervisor took the core away.
  The candidate's own times do not decide.
- **Calling thread** is the CPU time of the thread (or threads) that call. Work on other threads finishes before the baseline continues, so that the baseline does not pay for it.
- **Whole process** adds the CPU time of all other threads and of the final flush, for a series of calls ({case_of("short").calls} short ones). The baseline's is not subtracted.
- All threads of the worker share one core, so *wall* is the time a caller waits on a busy machine. Garbage collection is on; objects loaded before the first sample are frozen out of it.

Compare ratios within one run, not microseconds across runs.

## Floors

Where a goal is not met, this is what remains and what was tried.

- **Metrics.** The SDK takes 12 to 25 µs for a measurement: it copies the attributes (5), makes a key of them (8), and looks for an exemplar (3); it has no measurement of several values and no instrument that is bound to attributes. A call has three histograms
  (duration, input tokens, output tokens; a stream a fourth), on the export thread. Tokens are added up and read once per collection. What is left of the profile is the SDK.
- **The whole process.** Of the profile of a short call, most is one call each of steps that cannot be left out: parsing, the record, one JSON for the spool, one protobuf for the destination, the request. Nothing is encoded twice, a batch is one transaction of the spool and one request.
  The rate of one process is limited by the SDK, which takes nearly half of the time of a span with 20 attributes to create it, all of it with the interpreter's lock (the spans of that row are an application's own, on its own provider).
- **A decorated generator.** Per chunk of a real stream, alternating with its reading by the SDK: to make the span current in a step and undo it takes 1.7 µs (two context variables, each set and restored; no step may be left out, as the span must not be current while the caller has the chunk), and to keep the text of the chunk 2.6 µs
  (a loop that only appends `chunk.choices[0].delta.content` to a list: 1.7 to 2.5). It is read at once: chunks are mutable, callers change them in the loop that gets them, and a change must not be recorded. Everything else of the stream is read on the export thread.
- **A decorated function.** Arguments and result are mutable, so they are copied as bytes (`marshal`; a pydantic model field by field, 0.6 µs for each of its objects) and parsed on the export thread. Anything that cannot be copied so is parsed at once. The SDK makes no span unless other code reads or changes it.
- **A decorated function around an instrumented client.** The function's own result is recorded, which may not be the client's, so it is copied although the client's response is kept, too. To keep the client's response alone, if the function returns that object, was tried: no difference that can be measured.
- **Open groups.** The three keys are read and checked, taken out of the request (the SDK's options are copied for that) and matched with their groups: 100 thousand instructions beside a call's 176 to 188, a quarter of them in the interpreter's loop and no C function above 5. Parsed keys that are kept for the next call of the conversation were tried: 3 thousand less.
- **Trace keys, flushed after every call.** A flush ends the groups, so each call has three spans instead of one, all of which are encoded and sent.

## Validity of the measurement

*none* is a second uninstrumented client measured like a candidate, and *bare again* is bare measured again in other processes. The distance of the first from 0 and of the others from 1 is the error of the figures below.

{check(run)}

## The calling thread

{times(run, "thread")}

## The whole process, with export

{times(run, "process")}

## Wall time

{times(run, "wall")}

## Against the goals

In brackets are the minimum and maximum over the rounds. `noise`: bare's own cost is not above zero in every process. The next column has the same ratio unscaled, and scaled by the
baseline instead of the probe: if the three differ, the machine's speed decides and not the code. *an empty span* is the floor, in the same measure.

{goals.of_calls(run.cases)}

{goals.of_paths(run.cases)}

{goals.of_chunks(run.cases)}

{goals.of_the_process(run.footprint, run.fanout)}

Many calls at once, each with its export, against as many calls one after the other: a decorated function that returns at once, so that no SDK hides what grows. All tasks are open at the same time. The processor time is that of all processes, and every span was counted at the receiver.

{_crowds(run)}

What remains of a million spans that wait in the spool: `make million` measures the commands and the page. A command first imports its modules (0.3 s of processor time); `flush` and `replay` then send the first batch after one pass over the queue, `explain` searches it once. Memory stays below 150 MiB.

## Instructions

Time on a shared machine depends on its other load; the number of instructions of the calling thread does not. Valgrind counts them for the same clients, cases and receiver. One process runs baseline, candidate, flush, candidate, flush,
baseline, with {case_of("short").calls} short calls per stage (fewer if they are slow). The count does not include the kernel, and does not show cache misses. The whole process is not counted: under
Valgrind everything is fifty times slower, so periodic background work runs fifty times as often per call. A peer whose spans lacked content is not a candidate for the cheapest.
Anthropic's SDK creates its own span per call, in the baseline too, although nothing exports it here. spancast suppresses that span, so the difference is less than the cost of spancast itself.

{instructions.section()}

## Growth

spancast and bare. The shaded area is from the minimum to the maximum over the processes. *concurrency* is the number of concurrent calls on one event loop; *threads* is the number of calling threads (CPU time of all of them).

{curves}

{_curves(run)}

{posting.section(run.fanout, drawn.get("destinations", ""))}

## Recorded content

The receiver counts every span and searches it for the model, both token counts, the first and the last message and the complete response (of an error: its message).

{content(run)}

`litellm` is its own client: its figure is `litellm.completion` with the callback `otel` above `litellm.completion` without it. It records on another thread, so its cost is in the whole process rather than the calling thread. Candidates without such an API, or without trace keys, have no figure in that case.

## Versions

{_versions(run)}
"""
