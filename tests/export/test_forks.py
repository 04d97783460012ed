"""Forks at any place: all spans of the child arrive, and none is ignored as a span of a worker thread."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from opentelemetry import context as context_api
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from tests.destinations.otlp_receiver import OtlpReceiver, ok, status
from tests.export.pipelines import call, otlp, pipeline_to, tracing

from spancast.diagnostics import Count, counters
from spancast.dialects.openai_chat.answers import chat_answer, chat_chunks
from spancast.export import delivery_worker
from spancast.export.spool import sqlite_limits
from spancast.export.worker_thread import CURRENT_THREAD, WorkerThread
from spancast.runtime import RUNTIME
from spancast.statistics import stats_of
from spancast.testing import ReplayServer, Reply

PROGRAM = Path(__file__).with_name("fork_program.py")
ROOT = PROGRAM.parents[2]
CHILD = range(10_000, 11_700)
GRANDCHILD = range(20_000, 21_700)
PARENT = range(80)

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="NO FORK on this system")


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as running:
        yield running


def names(receiver: OtlpReceiver) -> Counter[str]:
    came: Counter[str] = Counter()
    for request in receiver.requests:
        for of_resource in ExportTraceServiceRequest.FromString(request.body).resource_spans:
            for of_scope in of_resource.scope_spans:
                came.update(span.name for span in of_scope.spans)
    return came


def in_child(work: Callable[[], str]) -> str:
    """Return what ``work`` returns in a forked child."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, work().encode())
        finally:
            os._exit(0)
    os.close(writing)
    result = os.read(reading, 1000).decode()
    os.close(reading)
    os.waitpid(child, 0)
    return result


def state() -> str:
    return f"{CURRENT_THREAD.is_worker} {context_api.get_value('suppress_instrumentation')}"


def test_fork_on_worker_thread_child_is_instrumented_again() -> None:
    result: list[str] = []
    thread = WorkerThread("forks", lambda: result.extend([state(), in_child(state), state()]))
    assert thread.start()
    assert thread.join(60)
    assert result == ["True True", "False None", "True True"]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        *((where, [CHILD]) for where in ("main", "thread", "span_queue", "delivery", "multiprocessing", "stream")),
        ("nested", [CHILD, GRANDCHILD]),
    ],
)
def test_fork_all_spans_of_child_arrive(
    where: str, expected: list[range], receiver: OtlpReceiver, tmp_path: Path, server: ReplayServer
) -> None:
    server.reply(Reply.stream(chat_chunks(chat_answer(), pieces=20)))
    process = subprocess.run(
        [sys.executable, str(PROGRAM), receiver.url, str(tmp_path), where, server.base_url],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=120, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    reports = [json.loads(line) for line in process.stdout.splitlines()]
    assert all(report["flushed"] for report in reports), reports
    assert {report["who"] for report in reports} == {"parent", *(f"child {numbers[0]}" for numbers in expected)}
    came = names(receiver)
    for numbers in (PARENT, *expected):
        missing = [number for number in numbers if not came[f"span {number}"]]
        assert not missing, f"{len(missing)} of {len(numbers)} are missing, {missing[0]} first"


def test_flush_in_child_reports_spans_of_child_only(receiver: OtlpReceiver) -> None:
    pipeline = pipeline_to({"one": otlp(receiver.url)}, None)
    room = pipeline.span_queue._max_spans

    def flushed() -> str:
        call(tracer)
        report = pipeline.flush(60)
        return f"{bool(report)} {report.dropped} {report.destinations['one'].delivered}"

    with tracing(pipeline) as tracer:
        pipeline.span_queue._max_spans = 0
        call(tracer)
        pipeline.span_queue._max_spans = room
        assert in_child(flushed) == "True 0 1"
        assert flushed() == "False 1 1"
    pipeline.shutdown()


@pytest.mark.parametrize("outcome", ["delivered", "dead_lettered"])
def test_child_delivers_spans_of_its_parent_both_statistics_are_right(
    outcome: str, receiver: OtlpReceiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The parent's thread delivers only if it is asked to.
    monkeypatch.setattr(delivery_worker, "BATCH_DELAY_S", 3600.0)
    receiver.answer_with(ok() if outcome == "delivered" else status(400))
    counters.clear()
    pipeline = pipeline_to({"one": otlp(receiver.url)}, tmp_path)

    def counts() -> str:
        report = pipeline.flush(60).destinations["one"]
        pipeline.count_others()
        found = stats_of(counters.read(), pipeline.span_queue.queued, pipeline.queues())
        one = found.destinations["one"]
        return (
            f"{found.received} received, {getattr(report, outcome)} and {getattr(one, outcome)} {outcome},"
            f" {one.delivered_by_others} by others, {one.delivered_for_others} for others, {one.queued} queued"
        )

    def work() -> str:
        call(tracer)
        return counts()

    with tracing(pipeline) as tracer:
        for _ in range(3):
            call(tracer)
        pipeline.span_queue.flush(60)
        by, for_others = (3, 3) if outcome == "delivered" else (0, 0)
        assert in_child(work) == f"1 received, 4 and 4 {outcome}, 0 by others, {for_others} for others, 0 queued"
        assert counts() == f"3 received, 3 and 3 {outcome}, {by} by others, 0 for others, 0 queued"
        call(tracer)
        assert counts() == f"4 received, 1 and 4 {outcome}, {by} by others, 0 for others, 0 queued"
    pipeline.shutdown()


def test_statistics_are_right_when_they_are_first_read(
    receiver: OtlpReceiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading the queue of a spool counts nothing, reading the statistics does; so does an idle process, later."""
    monkeypatch.setattr(delivery_worker, "BATCH_DELAY_S", 3600.0)
    counters.clear()
    RUNTIME.configure(
        os.devnull,
        tracer_provider=TracerProvider(shutdown_on_exit=False),
        spool={"path": str(tmp_path)},
        destinations={"one": otlp(receiver.url)},
    )
    pipeline = RUNTIME.pipeline
    assert pipeline is not None
    key = pipeline.workers[0].route.key

    def work() -> str:
        call(tracer)
        return str(pipeline.flush(60).destinations["one"].delivered)

    with tracing(pipeline) as tracer:
        for _ in range(3):
            call(tracer)
        pipeline.span_queue.flush(60)
        assert in_child(work) == "4"
        before = counters.read()
        assert pipeline.spool.state(key).queued == 0
        assert counters.read() == before
        one = RUNTIME.stats().destinations["one"]
        assert (one.delivered, one.delivered_by_others, one.queued) == (3, 3, 0)
        call(tracer)
        pipeline.span_queue.flush(60)
        assert in_child(work) == "2"
        monkeypatch.setattr(sqlite_limits.LimitEnforcer, "is_due", lambda *_: True)
        assert pipeline.spool.lease(key, max_records=1, max_bytes=1, now_s=time.time()) is None
        assert counters.read()[Count("delivered_by_others", "one")] == 4
    RUNTIME.shutdown()


AT_ONCE = """
import concurrent.futures.thread  # whose own hook, registered later, would let no two forks meet in ours
import os, threading
from spancast.export import fork_hooks

class Locked:
    def __init__(self):
        self.lock, self.ended = threading.RLock(), []
        self.begun, self.met = threading.Event(), threading.Event()

    def before_fork(self):
        if self.begun.is_set():
            self.met.set()
        self.lock.acquire()
        self.begun.set()
        self.met.wait(0.5)  # for a second fork to come that far, if it can

    def after_fork_in_parent(self):
        self.ended.append(threading.current_thread().name)
        self.lock.release()

    def after_fork_in_child(self):
        self.ended.append("child")

def fork():
    child = os.fork()
    if child == 0:
        os._exit(0 if locked.ended[-1:] == ["child"] else 1)
    result.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

locked, result = Locked(), []
fork_hooks.register(locked)
threads = [threading.Thread(target=fork, name=name, daemon=True) for name in ("first", "second")]
threads[0].start()
locked.begun.wait()
threads[1].start()
for thread in threads:
    thread.join()
print(result, locked.ended, locked.lock.acquire(timeout=10))
"""


def test_two_threads_fork_at_once_locks_are_released() -> None:
    # Python 3.12 and newer warn of a fork in a process with threads.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", AT_ONCE]
    process = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (process.stdout, process.stderr) == ("[0, 0] ['first', 'second'] True\n", "")
