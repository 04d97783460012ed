"""Every way that a process ends or forks: its spans arrive, from it or from the next process."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from tests.destinations.otlp_receiver import OtlpReceiver, ok, status
from tests.export.pipelines import otlp, pipeline_to
from tests.ports import own_port

PROGRAM = Path(__file__).with_name("span_program.py")
OPEN_SPANS = Path(__file__).with_name("open_span_program.py")
ALL_OPEN = ["Support", "block", "chat called", "chat streamed", "triage"]
ROOT = PROGRAM.parents[2]
UNSHARE = ("unshare", "--pid", "--fork", "--kill-child")
CAN_UNSHARE = bool(shutil.which("unshare")) and not subprocess.run([*UNSHARE, "true"], check=False).returncode


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as running:
        yield running


def program(
    receiver: OtlpReceiver | str,
    directory: Path | str,
    how: str,
    first: int = 0,
    count: int = 200,
    prefix: Sequence[str] = (),
    path: Path = PROGRAM,
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*prefix, sys.executable, str(path), getattr(receiver, "url", receiver), str(directory), how, str(first), str(count)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def numbers(receiver: OtlpReceiver) -> Counter[int]:
    return Counter(
        int(span.name.removeprefix("span ")) for request in receiver.requests for span in spans_in(request.body)
    )


def spans_in(body: bytes) -> Iterator[Span]:
    for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        for of_scope in of_resource.scope_spans:
            yield from of_scope.spans


@pytest.mark.parametrize("spool", ["disk", "memory"])
@pytest.mark.parametrize("how", ["exit", "exit without threads", "spawned", "threads"])
def test_interpreter_exit_delivers(how: str, spool: str, receiver: OtlpReceiver, tmp_path: Path) -> None:
    process = program(receiver, tmp_path if spool == "disk" else "memory", how)
    _, output = process.communicate(timeout=60)
    assert (process.returncode, output) == (0, "")
    assert numbers(receiver) == Counter(range(200))


@pytest.mark.parametrize("how", ["exit", "exit without threads"])
def test_interpreter_exit_tries_again_with_a_spool_in_memory(how: str, receiver: OtlpReceiver) -> None:
    receiver.answer_with(status(503), ok())
    process = program(receiver, "memory", how)
    _, output = process.communicate(timeout=60)
    assert (process.returncode, len(receiver.spans)) == (0, 200)
    assert "will retry" in output


@pytest.mark.parametrize("spool", ["disk", "memory"])
def test_sigterm_delivers_before_exit(spool: str, receiver: OtlpReceiver, tmp_path: Path) -> None:
    process = program(receiver, tmp_path if spool == "disk" else "memory", "term")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    _, output = process.communicate(timeout=60)
    assert (process.returncode, output) == (-signal.SIGTERM, "")
    assert numbers(receiver) == Counter(range(200))


@pytest.mark.parametrize("how", ["term in spool", "term in counters"])
def test_sigterm_while_the_main_thread_holds_a_lock_delivers(how: str, receiver: OtlpReceiver, tmp_path: Path) -> None:
    """The shutdown does not wait for a lock that the interrupted thread holds; its limit is longer than this test."""
    process = program(receiver, tmp_path, how)
    _, output = process.communicate(timeout=60)
    assert (process.returncode, output) == (-signal.SIGTERM, "")
    assert numbers(receiver) == Counter(range(200))


@pytest.mark.parametrize("how", ["exit", "term", "pool", "executor", "spawned", "stream"])
def test_open_groups_blocks_and_streams_end_with_the_process(how: str, receiver: OtlpReceiver, tmp_path: Path) -> None:
    process = program(receiver, tmp_path, how, path=OPEN_SPANS)
    assert process.stdout is not None
    if how == "term":
        assert process.stdout.readline() == "ready\n"
        process.terminate()
    _, output = process.communicate(timeout=60)
    assert (process.returncode, output) == (-signal.SIGTERM if how == "term" else 0, "")
    names = sorted(span.name for request in receiver.requests for span in spans_in(request.body))
    assert names == (["chat streamed"] if how == "stream" else ALL_OPEN)


def test_call_in_flight_at_sigterm_has_a_span_with_an_error(receiver: OtlpReceiver, tmp_path: Path) -> None:
    process = program(receiver, tmp_path, "in call", path=OPEN_SPANS)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    _, output = process.communicate(timeout=60)
    assert (process.returncode, output) == (-signal.SIGTERM, "")
    [span] = [span for request in receiver.requests for span in spans_in(request.body)]
    found = {one.key: one.value.string_value for one in span.attributes}
    assert (span.name, found["error.type"], found["spancast.response.incomplete"]) == (
        "chat unanswered", "interrupted", "abandoned",
    )  # fmt: skip
    assert "May I?" in found["gen_ai.input.messages"]


@pytest.mark.skipif(not CAN_UNSHARE, reason="no new pid namespace can be made here")
def test_sigterm_of_the_first_process_of_a_container_leaves_delivery_running(
    receiver: OtlpReceiver, tmp_path: Path
) -> None:
    process = program(receiver, tmp_path, "first process", prefix=UNSHARE)
    _, output = process.communicate(timeout=60)
    assert (process.returncode, output) == (0, "")
    assert numbers(receiver) == Counter(range(400))


@pytest.mark.parametrize("spool", ["disk", "memory"])
@pytest.mark.parametrize(("how", "count"), [("pool", 600), ("prefork", 400)])
def test_child_processes_deliver(how: str, count: int, spool: str, receiver: OtlpReceiver, tmp_path: Path) -> None:
    process = program(receiver, tmp_path if spool == "disk" else "memory", how)
    _, output = process.communicate(timeout=60)
    assert (process.returncode, output) == (0, "")
    assert numbers(receiver) == Counter(range(count))


def test_forked_child_that_ends_by_os_exit_delivers_or_leaves_its_spans_in_the_spool(
    receiver: OtlpReceiver, tmp_path: Path
) -> None:
    """As RQ's work horse ends; `multiprocessing`, whose children end so too, has run finalizers before."""
    process = program(receiver, tmp_path, "exits")
    _, output = process.communicate(timeout=60)
    assert (process.returncode, output) == (0, "")
    pipeline = pipeline_to({"receiver": otlp(receiver.url)}, tmp_path)
    assert pipeline.flush(30)
    pipeline.shutdown()
    # A child may end in the middle of a delivery, which is then repeated.
    assert sorted(numbers(receiver)) == list(range(400))


@pytest.mark.skipif(find_spec("celery") is None, reason="celery is not installed")
def test_celery_workers_that_are_replaced_deliver(receiver: OtlpReceiver, tmp_path: Path) -> None:
    """Celery ends a worker by SIGTERM or ``os._exit``, without ``atexit`` and without finalizers."""
    broker = tmp_path / "broker"
    broker.mkdir()
    places = {"BROKER": str(broker), "SPOOL": str(tmp_path / "spool"), "URL": receiver.url, "PYTHONPATH": str(ROOT)}
    celery = [sys.executable, "-m", "celery", "-A", "tests.export.celery_app"]
    send = "from tests.export.celery_app import work\nfor number in range(8): work.delay(number)"
    environment = {**os.environ, **places}
    subprocess.run([sys.executable, "-c", send], check=True, cwd=ROOT, env=environment, timeout=60)
    worker = subprocess.Popen(
        [*celery, "worker", "-P", "prefork", "-c", "2", "--max-tasks-per-child", "2", "-l", "ERROR"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT, env=environment,
    )  # fmt: skip
    assert worker.stdout is not None
    made = [line for line in iter_until(worker.stdout, 8) if line == "made\n"]
    worker.terminate()
    worker.communicate(timeout=60)
    pipeline = pipeline_to({"receiver": otlp(receiver.url)}, tmp_path / "spool")
    assert pipeline.flush(30)
    pipeline.shutdown()
    assert len(made) == 8
    assert numbers(receiver) == Counter(range(8))


def iter_until(lines: Iterable[str], count: int) -> Iterator[str]:
    """Yield lines until ``count`` of them say that a span was made."""
    for line in lines:
        yield line
        count -= line == "made\n"
        if not count:
            return


def test_dead_destination_does_not_delay_process_exit(tmp_path: Path) -> None:
    """With a spool on disk the process does not wait; the next process delivers."""
    with OtlpReceiver(port=own_port()) as receiver:
        receiver.answer_with(status(503))
        process = program(receiver, tmp_path, "exit")
        _, output = process.communicate(timeout=60)
        assert process.returncode == 0
        assert "will retry" in output
    with OtlpReceiver(port=receiver.port) as back:
        pipeline = pipeline_to({"receiver": otlp(back.url)}, tmp_path)
        assert pipeline.flush(30)
        assert numbers(back) == Counter(range(200))
        pipeline.shutdown()


def test_silent_destination_does_not_delay_the_end_of_a_pool(tmp_path: Path) -> None:
    """The limit of the program is longer than this test; its children leave the spans in the spool."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        process = program(f"http://127.0.0.1:{silent.getsockname()[1]}", tmp_path, "pool", count=0)
        assert process.stdout is not None
        readable, _, _ = select.select([process.stdout], [], [], 30)
        process.kill()
        output, errors = process.communicate()
    assert readable, errors
    assert output == "joined\n"
    with OtlpReceiver() as receiver:
        pipeline = pipeline_to({"receiver": otlp(receiver.url)}, tmp_path)
        queued = [pipeline.spool.state(key).queued for key in pipeline.spool.routes()]
        pipeline.shutdown()
    assert sum(queued) == 400
