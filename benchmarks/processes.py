"""The child processes: workers, which read and write lines of JSON, and the receiver."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.candidates import CANDIDATES
from benchmarks.environments import ROOT, clean_environ, python_of

_START_TIMEOUT_S = 90.0
_ANSWER_TIMEOUT_S = 60.0
_EXIT_TIMEOUT_S = 5.0


class WorkerError(Exception):
    """A worker did not start, failed or timed out. The message is the end of its stderr or traceback."""


class Worker:
    """One process of ``benchmarks.worker``. ``seed`` is its hash seed, the same for all workers of a round."""

    def __init__(self, candidate: str, port: int, seed: int) -> None:
        one = CANDIDATES[candidate]
        python = python_of(one.environment)
        if python is None:
            raise WorkerError(f"{candidate}: cannot create environment {one.environment}")
        programs = [str(Path(python).with_name(name)) for name in one.program]
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        self._process = subprocess.Popen(
            [*programs, str(python), "-m", "benchmarks.worker", candidate],
            cwd=ROOT, env=environ_of(port, seed, one.environ), start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
        )  # fmt: skip
        self._pending = b""

    def ready(self) -> None:
        self._read(_START_TIMEOUT_S)

    def measure(self, case: str, seconds: float) -> dict[str, Any]:
        """Return the result of ``worker.measure``, run in a child of the worker."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"case": case, "seconds": seconds}).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise WorkerError(self._error_output()) from error
        found = self._read(_ANSWER_TIMEOUT_S)
        if "failure" in found:
            raise WorkerError(found["failure"])
        return found

    def _read(self, timeout_s: float) -> dict[str, Any]:
        """Return the next line of JSON; skip other lines, which libraries print."""
        deadline = time.monotonic() + timeout_s
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
                    self.close()
                    raise WorkerError(f"no answer within {timeout_s:.0f} s")
                data = os.read(out.fileno(), 1 << 16)
                if not data:
                    raise WorkerError(self._error_output())
                self._pending += data

    def _error_output(self) -> str:
        if self._errors.closed:
            return "stopped"
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")[-1_500:] or "ended without output"

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        try:
            self._process.wait(_EXIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            # Its session includes a child that hangs.
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(_EXIT_TIMEOUT_S)
        self._errors.close()


def environ_of(port: int, seed: int, more: dict[str, str]) -> dict[str, str]:
    """Return the environment variables of a candidate's process that sends to ``port``."""
    url = f"http://127.0.0.1:{port}"
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": url,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER": "otlp_http",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "BENCH_RECEIVER": url,
        "LANGFUSE_BASE_URL": url,
        "LANGFUSE_HOST": url,
        "BRAINTRUST_APP_URL": url,
        "BRAINTRUST_API_URL": url,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "PYTHONHASHSEED": str(seed),
    }
    return clean_environ(**{**variables, **more})


@contextlib.contextmanager
def receiver(count: int) -> Iterator[list[int]]:
    """Run the receiver; yield its port numbers."""
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
            process.wait(_EXIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_EXIT_TIMEOUT_S)


def report(port: int, expected: dict[str, str]) -> dict[str, int]:
    """Return the counts of ``port`` since the last report, by piece of content."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/report", json.dumps(expected).encode())
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=_ANSWER_TIMEOUT_S) as response:
        return json.load(response)
