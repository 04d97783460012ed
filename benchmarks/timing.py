"""Time a candidate against its baseline, in one process and per call."""

from __future__ import annotations

import asyncio
import copy
import gc
import os
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.calling import AsyncCall, Batch, TimedStream, batch_of, run_concurrently
from benchmarks.cases import Case
from benchmarks.running import Running

KINDS = ("thread", "process", "wall")
_WARM_UP = 30
_MAX_OVERTIME = 2.5
_MIN_RESULTS = 3
_DOCUMENT = [{"role": "user", "content": [str(number)], "size": number} for number in range(40)]
_US = 1_000


class Stopwatch:
    """Measures a candidate and its baseline in one case; times are in µs per call."""

    def __init__(self, case: Case, baseline: Running, running: Running) -> None:
        self.once = self._sample
        """Takes one sample: ``thread`` and ``wall`` above the ``baseline``, time of the ``probe``, ticks ``stolen``."""
        self._baseline = baseline
        self._unit = case.unit
        self._batch_calls = case.calls
        self._running = running
        self._plain, self._ours = batch_of(baseline, case), batch_of(running, case)
        self.calls = 0
        """Calls of the candidate so far."""
        if case.is_stream and not running.is_switch:
            self.once = self._lockstep
        elif case.is_async and not running.is_switch:
            self.once = self._interleaved
            self._loop = asyncio.new_event_loop()

    def warm_up(self, seconds: float) -> None:
        """Warm up both for at most ``seconds``; exclude the loaded objects from later garbage collections."""
        end = time.monotonic() + seconds
        for _ in range(max(2, _WARM_UP // self._unit)):
            self._plain(self._unit)
            self._running.on()
            self._candidate_calls(self._unit)
            self._flush()
            if time.monotonic() > end:
                break
        gc.collect()
        # Garbage collection stays on, as in production.
        # A full collection of a large process takes 30 ms in one arbitrary call; freezing the objects avoids it.
        gc.freeze()

    def _sample(self) -> dict[str, float]:
        """Time baseline, candidate, candidate, baseline: one unit of calls each, so that drift affects both.

        The candidate's other threads finish before the baseline continues, so that it does not pay for them.
        Before the first timed unit of the baseline, an untimed one fills the caches.
        """
        stolen, probes = steal(), [probe()]
        self._plain(self._unit)
        first = self._timed(self._plain)
        self._running.on()
        traced = self._timed(self._candidate_calls), self._timed(self._candidate_calls)
        self._flush()
        probes.append(probe())
        self._plain(self._unit)
        last = self._timed(self._plain)
        per = 2 * self._unit * _US
        return {
            "thread": (traced[0][0] + traced[1][0] - first[0] - last[0]) / per,
            "wall": (traced[0][1] + traced[1][1] - first[1] - last[1]) / per,
            "baseline": (first[0] + last[0]) / per,
            **_speed(probes),
            "stolen": steal() - stolen,
        }

    def _lockstep(self) -> dict[str, float]:
        """Read two streams, alternating by chunk; twice, so that each side starts once."""
        stolen, probes = steal(), [probe()]
        thread = wall = plain = 0
        for starts in (0, 1):
            self._running.on()
            self.calls += 1
            baseline, ours = sides = TimedStream(self._baseline), TimedStream(self._running)
            first = starts
            while any([sides[first % 2].step(), sides[(first + 1) % 2].step()]):
                first += 1
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
            # A change of speed affects both sides.
            "uneven": 1.0,
            "stolen": steal() - stolen,
        }

    def _interleaved(self) -> dict[str, float]:
        """Make both sides' calls on one event loop, alternating; twice, so that each side starts once."""
        stolen, probes = steal(), [probe()]
        thread = wall = plain = 0
        for starts in (0, 1):
            self._running.on()
            self.calls += self._unit
            baselines = [AsyncCall(self._baseline) for _ in range(self._unit)]
            ours = [AsyncCall(self._running) for _ in range(self._unit)]
            pairs = zip(*((baselines, ours) if starts else (ours, baselines)), strict=True)
            run_concurrently(self._loop, [call for pair in pairs for call in pair])
            self._flush()
            baseline_time = sum(call.thread for call in baselines)
            thread += sum(call.thread for call in ours) - baseline_time
            wall += sum(call.wall for call in ours) - sum(call.wall for call in baselines)
            plain += baseline_time
            probes.append(probe())
        per = 2 * self._unit * _US
        # A change of speed affects both sides.
        return {
            "thread": thread / per, "wall": wall / per, "baseline": plain / per, **_speed(probes), "uneven": 1.0,
            "stolen": steal() - stolen,
        }  # fmt: skip

    def batch(self) -> dict[str, float]:
        """Measure the CPU time of other threads during many calls and the flush, plus the caller's during the flush."""
        stolen, probes = steal(), [probe()]
        self._running.on()
        process, caller = time.process_time_ns(), time.thread_time_ns()
        elsewhere = self._candidate_calls(self._batch_calls)
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

    def _candidate_calls(self, calls: int) -> int:
        self.calls += calls
        return self._ours(calls)

    def _flush(self) -> None:
        self._running.flush()
        self._running.off()


def repeated(once: Callable[[], dict[str, float]], seconds: float, at_least: int) -> list[dict[str, float]]:
    """Call ``once`` for ``seconds``, up to 2.5 times as long to reach ``at_least`` results."""
    found: list[dict[str, float]] = []
    started = time.monotonic()
    while True:
        found.append(once())
        elapsed = time.monotonic() - started
        enough = len(found) >= at_least or elapsed > seconds * _MAX_OVERTIME
        if len(found) >= min(at_least, _MIN_RESULTS) and elapsed >= seconds and enough:
            return found


def probe() -> int:
    """Return the duration of fixed work in ns, which shows the current speed of the core.

    A core whose sibling is busy runs at half speed for seconds; times are divided by the probe's to compensate.
    The baseline cannot be the probe: a baseline that is fast by chance makes the difference from it large by the
    same chance.
    """
    started = time.thread_time_ns()
    copy.deepcopy(_DOCUMENT)
    return time.thread_time_ns() - started


def _speed(probes: list[int]) -> dict[str, float]:
    return {"probe": sum(probes) / len(probes) / _US, "uneven": max(probes) / min(probes)}


def steal() -> int:
    """Return the ticks (10 ms) that other guests of the host took from this process's core; 0 if unknown."""
    if not hasattr(os, "sched_getaffinity"):
        return 0
    cores = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    lines = (line.split() for line in Path("/proc/stat").read_text().splitlines())
    return sum(int(fields[8]) for fields in lines if fields[0] in cores)


def pin(*, to_last: bool) -> None:
    """Pin this process to one core, if there are several: workers to the last, the receiver to the first."""
    if not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(0, {cores[-1 if to_last else 0]})
