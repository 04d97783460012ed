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
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from tests.destinations.otlp_receiver import OtlpReceiver, status
from tests.export.pipelines import otlp, pipeline_to
from tests.ports import own_port

PROGRAM = Path(__file__).with_name("span_program.py")
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
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*prefix, sys.executable, str(PROGRAM), getattr(receiver, "url", receiver), str(directory), how, str(first), str(count)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def numbers(receiver: OtlpReceiver) -> Counter[int]:
    came: Counter[int] = Counter()
    for request in receiver.requests:
        for of_resource in ExportTraceServiceRequest.FromString(request.body).resource_spans:
            for of_scope in of_resource.scope_spans:
                came.update(int(span.name.removeprefix("span ")) for span in of_scope.spans)
    return came


@pytest.mark.parametrize("spool", ["disk", "memory"])
@pytest.mark.parametrize("how", ["exit", "spawned", "threads"])
def test_interpreter_exit_delivers(how: str, spool: str, receiver: OtlpReceiver, tmp_path: Path) -> None:
    process = program(receiver, tmp_path if spool == "disk" else "memory", how)
    _, output = process.communicate(timeout=60)
    assert (process.returncode, output) == (0, "")
    assert numbers(receiver) == Counter(range(200))


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
