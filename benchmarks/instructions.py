"""The same calls counted in machine instructions by Valgrind: what no neighbour of the machine can change.

Kept in ``instructions.json``, so that it can be done at any time, by ``make bench ARGS=--count``.
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

from benchmarks.candidates import CONTESTANTS, FLOOR, PEERS
from benchmarks.cases import ALL, case_of
from benchmarks.counted import SERIES, WARM_UP, calls_of
from benchmarks.environments import ROOT, python_of, versions
from benchmarks.goals import PEER, THREAD
from benchmarks.markdown import rows, verdict
from benchmarks.processes import environ_of, receiver, report

KEPT = Path(__file__).parent / "instructions.json"
CASES = tuple(name for name in ALL if name not in {"stream_20", "thousand"})
_OF_PEERS = frozenset(THREAD)
_TOGETHER = 2
_PATIENCE_S = 240.0

Counts = dict[str, dict[str, dict[str, Any]]]
"""Case -> contestant -> ``thread`` (above plain) and ``plain``, thousands of instructions a call; or a ``failure``."""


def missing() -> list[str]:
    """Return the programs this needs that are not installed."""
    return [program for program in ("valgrind", "callgrind_control") if shutil.which(program) is None]


def count(cases: Sequence[str], peers: Sequence[str]) -> Counts:
    """Count every case, two processes at a time."""
    wanted = [
        (case, one)
        for case in cases
        for one in (FLOOR, "bare", "spancast", *(peers if case in _OF_PEERS else ()))
        if CONTESTANTS[one].takes(case_of(case))
    ]
    found: Counts = {case: {} for case in cases}
    with receiver(_TOGETHER) as ports, ThreadPoolExecutor(_TOGETHER) as together:
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

        for (case, one), counted in zip(wanted, together.map(lambda pair: one_of(*pair), wanted), strict=True):
            found[case][one] = counted
            print(f"{case}: {one}: {counted}", file=sys.stderr, flush=True)
    return found


def _counted(candidate: str, case: str, port: int) -> dict[str, Any]:
    one, chosen = CONTESTANTS[candidate], case_of(case)
    calls = calls_of(chosen)
    python = python_of(one.environment)
    if python is None:
        raise RuntimeError("its environment could not be made")
    report(port, chosen.expected)
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            ["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no", "--separate-threads=yes",
             f"--callgrind-out-file={folder}/out", str(python), "-m", "benchmarks.counted", candidate, case],
            cwd=ROOT, env=environ_of(port, 1, one.environ), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        patience = threading.Timer(_PATIENCE_S, process.kill)
        patience.start()
        try:
            stages = list(_stages(process, Path(folder)))
        finally:
            patience.cancel()
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
    if [stage for stage, _ in stages] != ["plain", *["ours", "flush"] * SERIES, "plain"]:
        raise RuntimeError(f"ended after {len(stages)} stages")
    arrived = report(port, chosen.expected)
    # The warm-up's are among them; a contestant that lost some was not counted at what it is for.
    short = [piece for piece in chosen.expected if arrived.get(piece, 0) < (WARM_UP + SERIES) * calls]
    own, plain = (sum(took for stage, took in stages if stage == wanted) for wanted in ("ours", "plain"))
    per = SERIES * calls * 1_000
    return {
        "thread": round((own - plain) / per, 1),
        "plain": round(plain / per, 1),
        **({"lacking": short} if short and candidate != FLOOR else {}),
    }


def _stages(process: subprocess.Popen[str], folder: Path) -> Iterator[tuple[str, int]]:
    """Yield each stage with the instructions of the thread that calls."""
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


def _control(process: subprocess.Popen[str], *order: str) -> None:
    subprocess.run(["callgrind_control", *order, str(process.pid)], check=True, capture_output=True, timeout=60)


def _of_the_caller(dumps: Iterable[Path]) -> int:
    """Return what the first thread executed. What runs beside it is not told: see the page."""
    totals = (
        re.search(r"^totals: (\d+)", path.read_text(errors="replace"), re.MULTILINE)
        for path in dumps
        if path.name.endswith("-01")
    )
    return sum(int(total[1]) for total in totals if total)


def keep(found: Counts) -> None:
    """Store what was counted, with the versions it was counted of."""
    told = {one: versions(CONTESTANTS[one].environment).get(CONTESTANTS[one].package, "") for of_case in found.values()
            for one in of_case}  # fmt: skip
    kept = {"on": time.strftime("%Y-%m-%d", time.gmtime()), "versions": told, "counts": found}
    KEPT.write_text(json.dumps(kept, indent=1) + "\n")


def section() -> str:
    """Return the section of the page, of what was last counted."""
    if not KEPT.exists():
        return "Not counted yet: `make bench ARGS=--count`."
    kept = json.loads(KEPT.read_text())
    return f"Counted on {kept['on']} by `make bench ARGS=--count`.\n\n{table(kept['counts'])}"


def table(found: Counts) -> str:
    """Return instructions as ratios to bare, beside the goals for time."""
    lines: list[list[str]] = []
    for case, of_case in found.items():
        title = case_of(case).title
        bare, ours, floor = (of_case.get(one, {}).get("thread") for one in ("bare", "spancast", FLOOR))
        if not bare or ours is None:
            lines.append([title, "failed", "", "", "", "", ""])
            continue
        least = f"{floor / bare:.2f}" if floor is not None else ""
        now = ours / bare
        lines.append([title, f"{bare:.0f}", f"{ours:.0f}", f"{now:.2f}", least, *verdict(now, THREAD.get(case), "≤")])
        costs = [
            (told["thread"], one)
            for one, told in of_case.items()
            # Who did not record what the others did is not cheaper.
            if one in PEERS and told.get("thread", 0) > 0 and not told.get("lacking")
        ]
        if costs and ours > 0:
            cost, one = min(costs)
            what = f"{title}: cheapest peer ({one})"
            lines.append(
                [what, f"{cost:.0f}", f"{ours:.0f}", f"{cost / ours:.1f}", "", *verdict(cost / ours, PEER, "≥")]
            )
    head = ["thousands of instructions a call", "bare or peer", "spancast", "ratio", FLOOR, "goal, for time", "met"]
    return rows(head, lines)
