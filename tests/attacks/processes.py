"""``kill -9``, SIGTERM and forks of whole programs whose spans go to a receiver in this process."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from tests.destinations.otlp_receiver import OtlpReceiver, ok, status
from tests.export.pipelines import otlp, pipeline_to

_PROGRAMS = Path(__file__).parents[1] / "export"
_ROOT = _PROGRAMS.parents[1]
_PATIENCE_S = 300.0
FORKS = ("main", "thread", "multiprocessing", "nested", "span_queue", "delivery")


class Killed(NamedTuple):
    """What became of the spans that had been spooled at each kill."""

    kills: int
    spooled: int
    lost: int
    twice: int


def numbers(receiver: OtlpReceiver) -> Counter[int]:
    """Return how often each numbered span arrived."""
    came: Counter[int] = Counter()
    for body in {request.body for request in receiver.requests}:
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for of_scope in of_resource.scope_spans:
                came.update(int(span.name.split()[1]) for span in of_scope.spans)
    return came


def started(program: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, _PROGRAMS / program, *map(str, arguments)], stdout=subprocess.PIPE, text=True, cwd=_ROOT
    )


def kill_9(folder: Path, kills: int, spans: int = 15_000) -> Killed:
    """Kill a program ``kills`` times, each at a random moment of ``spans`` spans; the receiver fails now and then."""
    chance = random.Random(20261123)
    spooled: set[int] = set()
    first = 0
    with OtlpReceiver() as receiver:
        receiver.answer_with(lambda _: status(503) if chance.random() < 0.2 else ok())
        for _ in range(kills):
            process = started("span_program.py", receiver.url, folder, "endless", first, 0)
            assert process.stdout is not None
            goal, line = first + chance.randrange(spans // 5, spans), ""
            while not line or int(line) < goal:
                line = process.stdout.readline()
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read().split()
            process.communicate()
            until = int(rest[-1]) if rest else int(line)
            spooled.update(range(first, until))
            # Spans that ended after its last message may be there or not.
            first = until + 1_000_000
        receiver.answer_with(ok())
        pipeline = pipeline_to({"receiver": otlp(receiver.url)}, folder, max_bytes=4 << 30)
        report = pipeline.flush(_PATIENCE_S)
        assert report, str(report)
        pipeline.shutdown()
        return Killed(
            kills, len(spooled), len(spooled - numbers(receiver).keys()), len(receiver.spans) - len(set(receiver.spans))
        )


def sigterm(folder: Path, how: str, count: int = 50) -> tuple[int, int]:
    """End a program by SIGTERM; return how many of its ``count`` spans arrived, by it or by the next, and its status."""
    with OtlpReceiver() as receiver:
        process = started("span_program.py", receiver.url, folder, how, 0, count)
        if how == "term":
            assert process.stdout is not None
            process.stdout.readline()
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=_PATIENCE_S)
        return len(numbers(receiver)), process.returncode


def fork(folder: Path, where: str) -> tuple[int, int]:
    """Run a program that forks; return how many of its numbered spans are missing, and how many arrived twice."""
    wanted = {*range(80), *range(10_000, 11_700), *(range(20_000, 21_700) if where == "nested" else ())}
    with OtlpReceiver() as receiver:
        process = started("fork_program.py", receiver.url, folder, where, "")
        printed, _ = process.communicate(timeout=_PATIENCE_S)
        assert process.returncode == 0, printed
        reports: list[dict[str, Any]] = [json.loads(line) for line in printed.splitlines()]
        assert all(one["flushed"] for one in reports), printed
        came = numbers(receiver)
    return len(wanted - came.keys()), sum(came[number] - 1 for number in came)
