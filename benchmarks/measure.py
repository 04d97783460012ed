"""Measure cases in rounds. A round starts a new process per candidate; each case is measured in all of them."""

from __future__ import annotations

import contextlib
import random
import sys
import time
from collections.abc import Mapping, Sequence

from benchmarks.candidates import CANDIDATES, OWN
from benchmarks.cases import case_of
from benchmarks.processes import Worker, WorkerError, receiver, report
from benchmarks.results import Result, set_reference

Results = dict[str, dict[str, Result]]
"""Case -> candidate -> result."""
_DURATION_S = 1.0
_PEER_FACTOR = 0.5
"""Peers are compared by a factor of four, not by a tenth, so they are measured for a shorter time."""


def measure(
    cases: Sequence[str],
    candidates: Sequence[str],
    *,
    rounds: int,
    peer_rounds: int = 0,
    duration_s: float = _DURATION_S,
) -> Results:
    """Run every case. The ``failure`` of a result is the error of its candidate. Progress is printed on stderr."""
    results = {
        name: {one: Result(candidate=one) for one in candidates if CANDIDATES[one].supports(case_of(name))}
        for name in cases
    }
    with receiver(len(candidates)) as numbers:
        ports = dict(zip(candidates, numbers, strict=True))
        for index in range(rounds):
            started = time.monotonic()
            wanted = _wanted(results, index, rounds, peer_rounds or rounds)
            _run_round(index, wanted, results, ports, duration_s)
            print(f"round {index + 1} of {rounds}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    set_reference(result for by_candidate in results.values() for result in by_candidate.values())
    return results


def _wanted(results: Results, index: int, rounds: int, peer_rounds: int) -> dict[str, list[str]]:
    """Return the candidates to measure in this round, by case."""
    found: dict[str, list[str]] = {}
    for name, by_candidate in results.items():
        for one, result in by_candidate.items():
            last = rounds if one in OWN else peer_rounds
            # A failure comes from the environment or the code, so the next round would fail too.
            if index < last and not result.failure:
                found.setdefault(name, []).append(one)
    return found


def _run_round(
    index: int, wanted: Mapping[str, Sequence[str]], results: Results, ports: Mapping[str, int], duration_s: float
) -> None:
    """Measure one round, in new processes: memory layout and hash seed affect the time of a single process."""
    with contextlib.ExitStack() as stack:
        workers = _start_all(wanted, results, index, ports, stack)
        for name, ones in wanted.items():
            case, order = case_of(name), [one for one in ones if one in workers]
            random.Random(f"{name} {index}").shuffle(order)
            for one in order:
                result = results[name][one]
                try:
                    factor = case.duration_factor if one in OWN else _PEER_FACTOR
                    result.add(workers[one].measure(name, duration_s * factor))
                except WorkerError as error:
                    result.failure = str(error)
                    # The worker's state is unknown: the next case gets a new one.
                    with contextlib.suppress(WorkerError):
                        workers[one] = _start(one, ports[one], index, stack)
                # The child has ended, so spans sent at its exit have arrived too.
                for piece, count in report(ports[one], case.expected).items():
                    result.received[piece] = result.received.get(piece, 0) + count


def _start_all(
    wanted: Mapping[str, Sequence[str]], results: Results, index: int, ports: Mapping[str, int],
    stack: contextlib.ExitStack,
) -> dict[str, Worker]:  # fmt: skip
    """Start all workers of a round concurrently; store the errors of those that fail."""
    candidates = list(dict.fromkeys(one for ones in wanted.values() for one in ones))
    workers: dict[str, Worker] = {}
    for one in [*candidates, *candidates]:
        try:
            if one in workers:
                workers[one].ready()
            else:
                workers[one] = _spawn(one, ports[one], index, stack)
        except WorkerError as error:
            workers.pop(one, None)
            for name, ones in wanted.items():
                if one in ones:
                    results[name][one].failure = str(error)
    return workers


def _spawn(candidate: str, port: int, index: int, stack: contextlib.ExitStack) -> Worker:
    worker = Worker(candidate, port, seed=index + 1)
    stack.callback(worker.close)
    return worker


def _start(candidate: str, port: int, index: int, stack: contextlib.ExitStack) -> Worker:
    worker = _spawn(candidate, port, index, stack)
    worker.ready()
    return worker
