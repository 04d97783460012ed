"""Runs the workers of one case side by side, a round each in turn, and takes off what the uninstrumented twin takes."""

from __future__ import annotations

import contextlib
import json
import os
import random
import selectors
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.cases import Case, case_of
from benchmarks.contestants import CONTESTANTS
from benchmarks.environments import ROOT, clean_environ, python_of

KINDS = ("thread", "process", "wall")
_ANSWER_S = 120.0
_GONE_S = 10.0


class WorkerError(Exception):
    """A worker did not start, or stopped; the message is the end of its stderr."""


class Worker:
    """One process of ``benchmarks.worker``, spoken to by lines."""

    def __init__(self, contestant: str, case: str, rounds: int, port: int, calls: int | None = None) -> None:
        one = CONTESTANTS[contestant]
        url = f"http://127.0.0.1:{port}"
        environ = clean_environ(
            OTEL_EXPORTER_OTLP_ENDPOINT=url,
            OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
            OTEL_EXPORTER="otlp_http",
            OTEL_METRICS_EXPORTER="none",
            OTEL_LOGS_EXPORTER="none",
            BENCH_RECEIVER=url,
            LANGFUSE_BASE_URL=url,
            LANGFUSE_HOST=url,
            BRAINTRUST_APP_URL=url,
            BRAINTRUST_API_URL=url,
            LITELLM_LOCAL_MODEL_COST_MAP="True",
            **one.environ,
        )
        more = ["--calls", str(calls)] if calls else []
        python = python_of(one.environment)
        if python is None:
            raise WorkerError(f"{contestant}: no environment")
        self.port = port
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.worker", contestant, case, str(rounds), "--gated", *more],
            cwd=ROOT, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
        )  # fmt: skip
        self._pending = b""

    def read(self) -> dict[str, Any]:
        """Return the next line of JSON the worker prints; what libraries print is passed over."""
        deadline = time.monotonic() + _ANSWER_S
        out = self._process.stdout
        assert out is not None
        with selectors.DefaultSelector() as selector:
            selector.register(out, selectors.EVENT_READ)
            while True:
                line, found, rest = self._pending.partition(b"\n")
                if found:
                    self._pending = rest
                    if line.startswith(b"{"):
                        return json.loads(line)
                    continue
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise WorkerError(f"no answer in {_ANSWER_S:.0f} s")
                data = os.read(out.fileno(), 1 << 16)
                if not data:
                    raise WorkerError(self._last_words())
                self._pending += data

    def round(self) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(b"go\n")
            self._process.stdin.flush()
        except OSError as error:
            raise WorkerError(self._last_words()) from error
        return self.read()

    def _last_words(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")[-1_500:] or "ended without a word"

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        try:
            self._process.wait(_GONE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_GONE_S)
        self._errors.close()


@contextlib.contextmanager
def receiver(count: int) -> Iterator[list[int]]:
    """Run the receiver; yields the numbers of its ports."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.receiver", str(count)],
        cwd=ROOT, env=clean_environ(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.stdin.close()
        process.stdout.close()
        try:
            process.wait(_GONE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_GONE_S)


def report(port: int, expected: dict[str, str]) -> dict[str, int]:
    """Return what came at ``port`` since the last report, by piece of content."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/report", json.dumps(expected).encode())
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=_ANSWER_S) as answer:
        return json.load(answer)


@dataclass(kw_only=True)
class Result:
    """What a contestant took in a case: microseconds per call of each round, and what the receiver got of it."""

    contestant: str
    calls: int = 0
    rounds: list[dict[str, float]] = field(default_factory=list)
    above: dict[str, list[float]] = field(default_factory=dict)
    """Kind of time -> microseconds per call above the uninstrumented twin in the same turn."""
    received: dict[str, int] = field(default_factory=dict)
    failure: str = ""

    def median(self, kind: str) -> float | None:
        values = self.above.get(kind)
        return statistics.median(values) if values else None

    def quartiles(self, kind: str) -> tuple[float, float]:
        values = self.above[kind]
        if len(values) < 2:  # noqa: PLR2004
            return values[0], values[0]
        first, _, third = statistics.quantiles(values, n=4, method="inclusive")
        return first, third

    def missing(self) -> list[str]:
        """Name the pieces that not every call's record held."""
        pieces = {piece: count for piece, count in self.received.items() if piece not in {"requests", "bytes"}}
        return [piece for piece, count in pieces.items() if count < self.calls]


def run_case(
    name: str, contestants: Sequence[str], rounds: int, ports: dict[str, int], calls: int | None = None
) -> dict[str, Result]:
    """Measure ``contestants`` (their uninstrumented twins with them) in one case."""
    case = case_of(name)
    wanted = [one for one in contestants if CONTESTANTS[one].takes(case)]
    twins = {CONTESTANTS[one].baseline for one in wanted}
    results = {one: Result(contestant=one) for one in [*sorted(twins), *(one for one in wanted if one not in twins)]}
    with contextlib.ExitStack() as stack:
        workers = _start(results, case, rounds, ports, calls, stack)
        order = list(workers)
        shuffled = random.Random(name)
        for _ in range(rounds):
            shuffled.shuffle(order)
            turn: dict[str, dict[str, float]] = {}
            for one in order:
                if results[one].failure:
                    continue
                try:
                    turn[one] = workers[one].round()
                except WorkerError as error:
                    results[one].failure = str(error)
            _note(results, turn)
            for one in turn:
                _count(results[one], ports[one], case)
    # What was sent late, by those that have no true flush, or at exit.
    for one, result in results.items():
        _count(result, ports[one], case)
    return results


def _start(  # noqa: PLR0913, PLR0917
    results: dict[str, Result], case: Case, rounds: int, ports: dict[str, int], calls: int | None,
    stack: contextlib.ExitStack,
) -> dict[str, Worker]:  # fmt: skip
    workers: dict[str, Worker] = {}
    for one, result in results.items():
        try:
            workers[one] = Worker(one, case.name, rounds, ports[one], calls)
        except WorkerError as error:  # noqa: PERF203 - one failing must not end the others
            result.failure = str(error)
        else:
            stack.callback(workers[one].close)
    for one, worker in workers.items():
        try:
            results[one].calls += worker.read()["calls"]
        except WorkerError as error:  # noqa: PERF203 - as above
            results[one].failure = str(error)
    return workers


def _note(results: dict[str, Result], turn: dict[str, dict[str, float]]) -> None:
    for one, taken in turn.items():
        result, twin = results[one], turn.get(CONTESTANTS[one].baseline)
        result.calls += int(taken["calls"])
        result.rounds.append(taken)
        if twin is not None and twin is not taken:
            for kind in KINDS:
                result.above.setdefault(kind, []).append(taken[kind] - twin[kind])


def _count(result: Result, port: int, case: Case) -> None:
    for piece, count in report(port, case.expected).items():
        result.received[piece] = result.received.get(piece, 0) + count
