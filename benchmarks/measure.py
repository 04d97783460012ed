"""Measures cases: in each turn every contestant has a new process, and in each case all are visited in turn."""

from __future__ import annotations

import contextlib
import random
import sys
import time
from collections.abc import Mapping, Sequence

from benchmarks.candidates import CONTESTANTS, OWN
from benchmarks.cases import case_of
from benchmarks.processes import Worker, WorkerError, receiver, report
from benchmarks.results import Result, refer

Results = dict[str, dict[str, Result]]
"""Case -> contestant -> what was found."""
_VISIT_S = 1.0
_OF_PEERS = 0.5
"""A peer is asked for a factor of four, not for a tenth: shorter visits do."""


def measure(
    cases: Sequence[str],
    candidates: Sequence[str],
    *,
    turns: int,
    peer_turns: int = 0,
    visit_s: float = _VISIT_S,
) -> Results:
    """Run every case; a contestant that fails is told in its ``failure``. Says on stderr how far it is."""
    results = {
        name: {one: Result(candidate=one) for one in candidates if CONTESTANTS[one].takes(case_of(name))}
        for name in cases
    }
    with receiver(len(candidates)) as numbers:
        ports = dict(zip(candidates, numbers, strict=True))
        for turn in range(turns):
            started = time.monotonic()
            wanted = _wanted(results, turn, turns, peer_turns or turns)
            _turn(turn, wanted, results, ports, visit_s)
            print(f"turn {turn + 1} of {turns}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    refer(result for of_case in results.values() for result in of_case.values())
    return results


def _wanted(results: Results, turn: int, turns: int, peer_turns: int) -> dict[str, list[str]]:
    """Return whom to visit in this turn, by case."""
    found: dict[str, list[str]] = {}
    for name, of_case in results.items():
        for one, result in of_case.items():
            last = turns if one in OWN else peer_turns
            # A failure is the environment's or the code's, not the turn's: once is enough.
            if turn < last and not result.failure:
                found.setdefault(name, []).append(one)
    return found


def _turn(
    turn: int, wanted: Mapping[str, Sequence[str]], results: Results, ports: Mapping[str, int], visit_s: float
) -> None:
    """Another process, layout and hash seed for everybody, so that the luck of one is not the result."""
    with contextlib.ExitStack() as stack:
        workers = _all_started(wanted, results, turn, ports, stack)
        for name, ones in wanted.items():
            case, order = case_of(name), [one for one in ones if one in workers]
            random.Random(f"{name} {turn}").shuffle(order)
            for one in order:
                result = results[name][one]
                try:
                    result.take(workers[one].measure(name, visit_s * (case.visit if one in OWN else _OF_PEERS)))
                except WorkerError as error:
                    result.failure = str(error)
                    # Whatever state it is in: the next case has a new one.
                    with contextlib.suppress(WorkerError):
                        workers[one] = _started(one, ports[one], turn, stack)
                # The child has ended, so what it sends late, or at its end, is there as well.
                for piece, count in report(ports[one], case.expected).items():
                    result.received[piece] = result.received.get(piece, 0) + count


def _all_started(
    wanted: Mapping[str, Sequence[str]], results: Results, turn: int, ports: Mapping[str, int],
    stack: contextlib.ExitStack,
) -> dict[str, Worker]:  # fmt: skip
    """Start all of a turn side by side; those that do not start are told."""
    everybody = list(dict.fromkeys(one for ones in wanted.values() for one in ones))
    workers: dict[str, Worker] = {}
    for one in [*everybody, *everybody]:
        try:
            if one in workers:
                workers[one].ready()
            else:
                workers[one] = _begun(one, ports[one], turn, stack)
        except WorkerError as error:
            workers.pop(one, None)
            for name, ones in wanted.items():
                if one in ones:
                    results[name][one].failure = str(error)
    return workers


def _begun(candidate: str, port: int, turn: int, stack: contextlib.ExitStack) -> Worker:
    worker = Worker(candidate, port, seed=turn + 1)
    stack.callback(worker.close)
    return worker


def _started(candidate: str, port: int, turn: int, stack: contextlib.ExitStack) -> Worker:
    worker = _begun(candidate, port, turn, stack)
    worker.ready()
    return worker
