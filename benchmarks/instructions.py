"""The same calls measured in machine instructions by Valgrind, which other load on the machine does not change.

``make bench ARGS=--count`` stores the counts in ``instructions.json``.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from benchmarks.candidates import CANDIDATES, ENQUEUES_ONLY, FLOOR, OWN_EXPORTER, PEERS
from benchmarks.cases import ALL, case_of
from benchmarks.counted import SERIES, WARM_UP, calls_of
from benchmarks.environments import ROOT, python_of, versions
from benchmarks.goals import OF_OWN_EXPORTER, THREAD, peer_goal
from benchmarks.markdown import rows, verdict
from benchmarks.processes import environ_of, receiver, report

STORED = Path(__file__).parent / "instructions.json"
CASES = tuple(name for name in ALL if name not in {"stream_20", "thousand"})
_WORKERS = 2
_TIMEOUT_S = 900.0

Counts = dict[str, dict[str, dict[str, Any]]]
"""Case -> candidate -> thousands of instructions per call, ``thread`` (above plain) and ``plain``; or ``failure``."""


def missing() -> list[str]:
    """Return the required programs that are not installed."""
    return [program for program in ("valgrind", "callgrind_control") if shutil.which(program) is None]


def count(cases: Sequence[str], peers: Sequence[str]) -> Counts:
    """Count every case, two processes at a time."""
    wanted = [
        (case, one)
        for case in cases
        for one in (FLOOR, "bare", "spancast", *((OWN_EXPORTER, *peers) if case in THREAD else ()))
        if CANDIDATES[one].supports(case_of(case))
    ]
    found: Counts = {case: {} for case in cases}
    with receiver(_WORKERS) as ports, ThreadPoolExecutor(_WORKERS) as pool:
        free: SimpleQueue[int] = SimpleQueue()
        for port in ports:
            free.put(port)

        def one_of(case: str, one: str) -> dict[str, Any]:
            port = free.get()
            try:
                return _counted(one, case, port)
            except (OSError, subprocess.SubprocessError, RuntimeError) as error:
                return {"failure": str(error)[-200:]}
            finally:
                free.put(port)

        for (case, one), counted in zip(wanted, pool.map(lambda pair: one_of(*pair), wanted), strict=True):
            found[case][one] = counted
            print(f"{case}: {one}: {counted}", file=sys.stderr, flush=True)
    return found


def _counted(candidate: str, case: str, port: int) -> dict[str, Any]:
    one, chosen = CANDIDATES[candidate], case_of(case)
    calls = calls_of(chosen)
    python = python_of(one.environment)
    if python is None:
        raise RuntimeError(f"cannot create environment {one.environment}")
    report(port, chosen.expected)
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            ["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no", "--separate-threads=yes",
             f"--callgrind-out-file={folder}/out", str(python), "-m", "benchmarks.counted", candidate, case],
            cwd=ROOT, env=environ_of(port, 1, one.environ), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        watchdog = threading.Timer(_TIMEOUT_S, process.kill)
        watchdog.start()
        try:
            stages = list(_stages(process, Path(folder)))
        finally:
            watchdog.cancel()
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
    if [stage for stage, _ in stages] != ["plain", *["ours", "flush"] * SERIES, "plain"]:
        raise RuntimeError(f"ended after {len(stages)} stages")
    arrived = report(port, chosen.expected)
    # Includes the warm-up's. A candidate that lost some did less work than the others.
    short = [piece for piece in chosen.expected if arrived.get(piece, 0) < (WARM_UP + SERIES) * calls]
    own, plain = (sum(executed for stage, executed in stages if stage == wanted) for wanted in ("ours", "plain"))
    per = SERIES * calls * 1_000
    return {
        "thread": round((own - plain) / per, 1),
        "plain": round(plain / per, 1),
        **({"lacking": short} if short and candidate != FLOOR else {}),
    }


def _stages(process: subprocess.Popen[str], folder: Path) -> Iterator[tuple[str, int]]:
    """Yield the name and the calling thread's instructions of each stage."""
    assert process.stdout is not None
    assert process.stdin is not None
    seen: set[Path] = set()
    for line in process.stdout:
        mark, _, stage = line.strip().partition("counted: ")
        if mark or not stage:
            continue
        if stage == "ready":
            _control(process, "-i", "on")
            _control(process, "-z")
        else:
            _control(process, "-d", stage)
            new = {path for path in folder.iterdir() if re.search(r"\.\d+-\d+$", path.name)} - seen
            seen |= new
            yield stage, _of_the_caller(new)
        process.stdin.write("\n")
        process.stdin.flush()


def _control(process: subprocess.Popen[str], *command: str) -> None:
    subprocess.run(["callgrind_control", *command, str(process.pid)], check=True, capture_output=True, timeout=60)


def _of_the_caller(dumps: Iterable[Path]) -> int:
    """Return the instructions of the first thread. Other threads are not counted; the page says why."""
    totals = (
        re.search(r"^totals: (\d+)", path.read_text(errors="replace"), re.MULTILINE)
        for path in dumps
        if path.name.endswith("-01")
    )
    return sum(int(total[1]) for total in totals if total)


def store(found: Counts) -> None:
    """Store the counts with the versions of the candidates; keep those of peers that were not counted."""
    before: dict[str, Any] = json.loads(STORED.read_text()) if STORED.exists() else {"counts": {}, "versions": {}}
    names = {one for by_candidate in found.values() for one in by_candidate}
    today = time.strftime("%Y-%m-%d", time.gmtime())
    installed = {
        one: versions(CANDIDATES[one].environment).get(CANDIDATES[one].package, "")
        for one in CANDIDATES
        if one in names
    }
    kept = {
        case: {one: counts for one, counts in before["counts"].get(case, {}).items() if one in PEERS} for case in found
    }
    stored = {
        "on": today,
        "peers_on": today if not names.isdisjoint(PEERS) else before.get("peers_on", before.get("on", "")),
        "versions": {**before["versions"], **installed},
        "counts": {case: {**kept[case], **by_candidate} for case, by_candidate in found.items()},
    }
    STORED.write_text(json.dumps(stored, indent=1) + "\n")


def section() -> str:
    """Return the section of the page, from the stored counts."""
    if not STORED.exists():
        return "Not counted yet: `make bench ARGS=--count`."
    stored = json.loads(STORED.read_text())
    when = f"Counted on {stored['on']} by `make bench ARGS=--count`; the peers on {stored['peers_on']}."
    return f"{when}\n\n{table(stored['counts'])}"


def table(found: Counts) -> str:
    """Return the table of instructions as ratios to bare, with the goals for time."""
    lines: list[list[str]] = []
    for case, by_candidate in found.items():
        title = case_of(case).title
        bare, ours, floor = (by_candidate.get(one, {}).get("thread") for one in ("bare", "spancast", FLOOR))
        if not bare or ours is None:
            lines.append([title, "failed", "", "", "", "", ""])
            continue
        least = f"{floor / bare:.2f}" if floor is not None else ""
        now = ours / bare
        lines.append([title, f"{bare:.0f}", f"{ours:.0f}", f"{now:.2f}", least, *verdict(now, THREAD.get(case), "≤")])
        own = by_candidate.get(OWN_EXPORTER, {}).get("thread")
        if own is not None:
            goal = verdict(own / bare, OF_OWN_EXPORTER.get(case), "≤")
            lines.append([f"{title}: {OWN_EXPORTER}", f"{bare:.0f}", f"{own:.0f}", f"{own / bare:.2f}", least, *goal])
        costs = [
            (counts["thread"], one)
            for one, counts in by_candidate.items()
            # A candidate that recorded less is not cheaper.
            if one in PEERS and one not in ENQUEUES_ONLY and counts.get("thread", 0) > 0 and not counts.get("lacking")
        ]
        if costs and ours > 0:
            cost, one = min(costs)
            what = f"{title}: cheapest peer ({one})"
            lines.append(
                [
                    what,
                    f"{cost:.0f}",
                    f"{ours:.0f}",
                    f"{cost / ours:.1f}",
                    "",
                    *verdict(cost / ours, peer_goal(case), "≥"),
                ]
            )
    head = ["thousands of instructions per call", "bare or peer", "spancast", "ratio", FLOOR, "goal, for time", "met"]
    return rows(head, lines)
