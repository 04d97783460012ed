"""Cost of a call if many are made at once: threads, asyncio tasks, processes with one spool; each against one.

The call is a decorated function, so that no SDK hides what grows. Every span is counted at the receiver.
"""

from __future__ import annotations

import asyncio
import os
import resource
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import spancast
from benchmarks.cases import MODEL
from benchmarks.forked import ChildError, forked
from benchmarks.markdown import rows, verdict
from benchmarks.processes import receiver, report

CALLS = 10_000
PROCESSES = 16
_GOAL = 1.5
_US = 1_000_000
_WARM_UP = 200
_MESSAGES = [{"role": "user", "content": "Where is my order? It was sent on Monday."}]
_ANSWER = {"role": "assistant", "content": "It left the warehouse on Monday and will be with you tomorrow."}
_RESPONSE = {
    "id": "c-1", "model": MODEL, "choices": [{"index": 0, "message": _ANSWER, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 12, "completion_tokens": 14, "total_tokens": 26},
}  # fmt: skip


@dataclass(kw_only=True)
class Crowds:
    """µs of processor time per call with export, and kind of crowd -> (one, many)."""

    costs: dict[str, tuple[float, float]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def table(self) -> str:
        """Return the table with the goals."""
        lines = [
            [what, f"{one:.0f}", f"{many:.0f}", f"{many / one:.2f}", *verdict(many / one, _GOAL, "≤")]
            for what, (one, many) in self.costs.items()
        ]
        failed = [[what, why, "", "", "", "failed"] for what, why in self.failures.items()]
        return rows(["µs CPU per call, with export", "one", "many", "ratio", "goal", "met"], [*lines, *failed])


def measure(calls: int = CALLS, processes: int = PROCESSES, rounds: int = 3) -> Crowds:
    """Measure each kind of crowd and one caller with as many calls in turn; return the medians of all ``rounds``."""
    found = Crowds()
    for what, one, many in (
        ("100 threads", (_threads, 1), (_threads, 100)),
        (f"{calls:,} asyncio tasks", (_tasks, 1), (_tasks, calls)),
        (f"{processes} processes, one spool", (_threads, 1, 1), (_threads, 1, processes)),
    ):
        try:
            pairs = [(_cost(calls, *one), _cost(calls, *many)) for _ in range(rounds)]
            one_us, many_us = zip(*pairs, strict=True)
            found.costs[what] = statistics.median(one_us), statistics.median(many_us)
        except ChildError as error:
            found.failures[what] = str(error).strip().splitlines()[-1][:200]
    return found


def _cost(calls: int, run: Callable[[int, int], None], width: int, processes: int = 1) -> float:
    with receiver(1) as [port], tempfile.TemporaryDirectory(prefix="spancast-bench-") as folder:
        own = calls // processes
        used = forked(_crowd, port, folder, run, own, width, processes, timeout_s=600.0)["cpu_s"]
        arrived, made = report(port, {})["calls"], processes * (own + _WARM_UP)
    if arrived != made:
        raise ChildError(f"{arrived} of {made} spans arrived")
    return used / (processes * own) * _US


def _crowd(  # noqa: PLR0913, PLR0917 - what to run, and where to
    port: int, folder: str, run: Callable[[int, int], None], calls: int, width: int, processes: int
) -> dict[str, Any]:
    """Run ``processes`` children with one spool; return the processor time of their calls and their export."""
    # All begin at the same time, when the last one is warm.
    ready, go = os.pipe(), os.pipe()
    results = os.pipe()
    for _ in range(processes):
        if not os.fork():
            _member(port, folder, run, calls, width, ready[1], go[0], results[1])
    for _ in range(processes):
        os.read(ready[0], 1)
    os.write(go[1], b"." * processes)
    used = [float(os.read(results[0], 16)) for _ in range(processes)]
    for _ in range(processes):
        os.wait()
    return {"cpu_s": sum(used)}


def _member(  # noqa: PLR0913, PLR0917 - pipes and what to run
    port: int, folder: str, run: Callable[[int, int], None], calls: int, width: int, ready: int, go: int, result: int
) -> None:
    bench = {"type": "otlp", "endpoint": f"http://127.0.0.1:{port}"}
    spancast.configure(spool={"path": folder}, destinations={"bench": bench})
    run(_WARM_UP, 1)
    spancast.flush(60.0)
    os.write(ready, b".")
    os.read(go, 1)
    before = _used()
    run(calls, width)
    # What another process has leased is delivered by that one.
    while not spancast.flush(60.0):
        time.sleep(0.01)
    os.write(result, f"{_used() - before:016.9f}"[:16].encode())
    spancast.shutdown()
    os._exit(0)


def _used() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


@spancast.instrument
def _ask(model: str, messages: list[dict[str, str]]) -> dict[str, Any]:  # noqa: ARG001 - the request
    return _RESPONSE


@spancast.instrument
async def _ask_later(model: str, messages: list[dict[str, str]], gate: asyncio.Event) -> dict[str, Any]:  # noqa: ARG001
    await gate.wait()
    return _RESPONSE


def _threads(calls: int, width: int) -> None:
    def ask() -> None:
        for _ in range(calls // width):
            _ask(MODEL, _MESSAGES)

    threads = [threading.Thread(target=ask) for _ in range(width)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _tasks(calls: int, width: int) -> None:
    async def ask(count: int) -> None:
        gate = asyncio.Event()
        tasks = [asyncio.create_task(_ask_later(MODEL, _MESSAGES, gate)) for _ in range(count)]
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(*tasks)

    async def every() -> None:
        for _ in range(calls // width):
            await ask(width)

    asyncio.run(every())


if __name__ == "__main__":
    print(measure().table())
