"""How one contestant is timed against its twin, inside one process and call by call."""

from __future__ import annotations

import asyncio
import copy
import gc
import os
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.calling import AsyncCall, Batch, Steps, all_at_once, batch_of
from benchmarks.cases import Case
from benchmarks.running import Running

KINDS = ("thread", "process", "wall")
_WARM_UP = 30
_PATIENCE = 2.5
_FEWEST = 3
_DOCUMENT = [{"role": "user", "content": [str(number)], "size": number} for number in range(40)]
_US = 1_000


class Stopwatch:
    """A contestant and its twin at one case; what either takes is given in µs per call."""

    def __init__(self, case: Case, baseline: Running, running: Running) -> None:
        self.once = self._quad
        """Measures once: ``thread`` and ``wall`` above the ``baseline``, what a ``probe`` took, ticks ``stolen``."""
        self._twin = baseline
        self._unit = case.unit
        self._batch_calls = case.calls
        self._running = running
        self._plain, self._ours = batch_of(baseline, case), batch_of(running, case)
        self.calls = 0
        """Calls of the contestant so far."""
        if case.is_stream and not running.is_switch:
            self.once = self._lockstep
        elif case.is_async and not running.is_switch:
            self.once = self._interleaved
            self._loop = asyncio.new_event_loop()

    def settle(self, seconds: float) -> None:
        """Warm both up, and leave what is loaded by now out of later collections."""
        end = time.monotonic() + seconds
        for _ in range(max(2, _WARM_UP // self._unit)):
            self._plain(self._unit)
            self._running.on()
            self._make(self._unit)
            self._flush()
            if time.monotonic() > end:
                break
        gc.collect()
        # The collector stays on, as users have it (a call leaves it next to nothing).
        # But a full collection of a big process takes 30 ms and falls on whoever comes by; it must not decide anything.
        gc.freeze()

    def _quad(self) -> dict[str, float]:
        """Time twin, contestant, contestant, twin: one unit of calls each, so that what drifts falls on both.

        What the contestant does on other threads is waited for before the twin goes on, or the twin would pay a
        part of it; before either begins one unit is not timed, for what came before has cleared the caches.
        """
        stolen, probes = steal(), [probe()]
        self._plain(self._unit)
        first = self._timed(self._plain)
        self._running.on()
        ours = self._timed(self._make), self._timed(self._make)
        self._flush()
        probes.append(probe())
        self._plain(self._unit)
        last = self._timed(self._plain)
        per = 2 * self._unit * _US
        return {
            "thread": (ours[0][0] + ours[1][0] - first[0] - last[0]) / per,
            "wall": (ours[0][1] + ours[1][1] - first[1] - last[1]) / per,
            "baseline": (first[0] + last[0]) / per,
            **_speed(probes),
            "stolen": steal() - stolen,
        }

    def _lockstep(self) -> dict[str, float]:
        """Read two streams side by side, a chunk of each in turn; twice, so that each is the first to begin once."""
        stolen, probes = steal(), [probe()]
        thread = wall = plain = 0
        for begins in (0, 1):
            self._running.on()
            self.calls += 1
            baseline, ours = sides = Steps(self._twin), Steps(self._running)
            turn = begins
            while any([sides[turn % 2].step(), sides[(turn + 1) % 2].step()]):
                turn += 1
            self._flush()
            thread += ours.thread - baseline.thread
            wall += ours.wall - baseline.wall
            plain += baseline.thread
            probes.append(probe())
        return {
            "thread": thread / 2 / _US,
            "wall": wall / 2 / _US,
            "baseline": plain / 2 / _US,
            **_speed(probes),
            # A change of speed in the midst falls on both, chunk by chunk.
            "uneven": 1.0,
            "stolen": steal() - stolen,
        }

    def _interleaved(self) -> dict[str, float]:
        """Make both sides' calls together on one loop, one of each in turn; twice, so that each is the first once."""
        stolen, probes = steal(), [probe()]
        thread = wall = plain = 0
        for begins in (0, 1):
            self._running.on()
            self.calls += self._unit
            baselines = [AsyncCall(self._twin) for _ in range(self._unit)]
            ours = [AsyncCall(self._running) for _ in range(self._unit)]
            pairs = zip(*((baselines, ours) if begins else (ours, baselines)), strict=True)
            all_at_once(self._loop, [call for pair in pairs for call in pair])
            self._flush()
            took = sum(call.thread for call in baselines)
            thread += sum(call.thread for call in ours) - took
            wall += sum(call.wall for call in ours) - sum(call.wall for call in baselines)
            plain += took
            probes.append(probe())
        per = 2 * self._unit * _US
        # As with streams: a change of speed falls on both.
        return {
            "thread": thread / per, "wall": wall / per, "baseline": plain / per, **_speed(probes), "uneven": 1.0,
            "stolen": steal() - stolen,
        }  # fmt: skip

    def batch(self) -> dict[str, float]:
        """Count the CPU that is not the caller's own of many calls in a row, from the first to the end of a flush."""
        stolen, probes = steal(), [probe()]
        self._running.on()
        process, caller = time.process_time_ns(), time.thread_time_ns()
        elsewhere = self._make(self._batch_calls)
        flushing = time.thread_time_ns()
        caller = flushing - caller + elsewhere
        self._flush()
        process = time.process_time_ns() - process
        probes.append(probe())
        return {
            "background": (process - caller) / self._batch_calls / _US,
            **_speed(probes),
            "stolen": steal() - stolen,
        }

    def _timed(self, batch: Batch) -> tuple[int, int]:
        wall, thread = time.perf_counter_ns(), time.thread_time_ns()
        elsewhere = batch(self._unit)
        return time.thread_time_ns() - thread + elsewhere, time.perf_counter_ns() - wall

    def _make(self, calls: int) -> int:
        self.calls += calls
        return self._ours(calls)

    def _flush(self) -> None:
        self._running.flush()
        self._running.off()


def repeated(once: Callable[[], dict[str, float]], seconds: float, at_least: int) -> list[dict[str, float]]:
    """Call ``once`` for ``seconds``; longer for what takes long, so that there are some of it."""
    found: list[dict[str, float]] = []
    started = time.monotonic()
    while True:
        found.append(once())
        taken = time.monotonic() - started
        enough = len(found) >= at_least or taken > seconds * _PATIENCE
        if len(found) >= min(at_least, _FEWEST) and taken >= seconds and enough:
            return found


def probe() -> int:
    """Return the ns of some work that is the same everywhere: how fast is the core at this moment?

    A core whose sibling is busy is half as fast for seconds, and which of two contestants meets that is luck.
    What is known to take half as long is divided by it. The twin itself is not asked: where it is quick by chance,
    the difference from it is great by the same chance.
    """
    started = time.thread_time_ns()
    copy.deepcopy(_DOCUMENT)
    return time.thread_time_ns() - started


def _speed(probes: list[int]) -> dict[str, float]:
    return {"probe": sum(probes) / len(probes) / _US, "uneven": max(probes) / min(probes)}


def steal() -> int:
    """Return the ticks (10 ms) another guest of the machine has taken from this process's only core; 0 elsewhere."""
    if not hasattr(os, "sched_getaffinity"):
        return 0
    cores = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    lines = (line.split() for line in Path("/proc/stat").read_text().splitlines())
    return sum(int(fields[8]) for fields in lines if fields[0] in cores)


def pin(*, to_last: bool) -> None:
    """Keep this process on one core, workers on the last and the receiver on the first, where there are two."""
    if not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(0, {cores[-1 if to_last else 0]})
