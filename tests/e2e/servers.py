"""Real servers as child processes on free ports: Jaeger and the Collector, read through their APIs."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tests.ports import own_port

ROOT = Path(__file__).parents[2]
DEADLINE_S = 60.0
_POLL_S = 0.05

T = TypeVar("T")


def binary(name: str, *, is_heavy: bool = False) -> Path:
    """Return the binary that ``servers/build`` built; if missing, skip the test, or fail if servers are required.

    A heavy one is required by ``make engines`` only, which sets ``SPANCAST_REQUIRE_SERVERS=all``.
    """
    found = subprocess.run(
        [str(ROOT / "servers" / "build"), "--print", name], capture_output=True, text=True, check=False
    )
    if found.returncode == 0:
        return Path(found.stdout.strip())
    message = f"NO REAL SERVER: {name} is not built, run `{f'servers/build {name}' if is_heavy else 'make servers'}`"
    required = os.environ.get("SPANCAST_REQUIRE_SERVERS")
    if required == "all" or (required and not is_heavy):
        pytest.fail(message)
    pytest.skip(message)


def get_json(url: str) -> Any:
    """Return the JSON at ``url``; None if the response is not 2xx or not JSON."""
    body = get(url)
    try:
        return None if body is None else json.loads(body or b"null")
    except json.JSONDecodeError:
        return None


def get(url: str) -> bytes | None:
    """Return the body at ``url``; None if the response is not 2xx."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bytes(answer.read())
    except (OSError, http.client.HTTPException):
        return None


def post(url: str, body: bytes, **headers: str) -> bytes:
    """Post ``body``, as JSON unless ``headers`` set another type; return the response body; fail if it is not 2xx."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, body, {"content-type": "application/json", **named})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            message = f"{url}: {error.code} {error.read(500)!r}"
        raise AssertionError(message) from None


def poll(read: Callable[[], T | None], what: str, *, deadline_s: float = DEADLINE_S) -> T:
    """Call ``read`` until it returns a value; fail at the deadline."""
    until = time.monotonic() + deadline_s
    never = threading.Event()
    while time.monotonic() < until:
        found = read()
        if found is not None:
            return found
        never.wait(_POLL_S)
    message = f"{what}: not found within {deadline_s:.0f} s"
    raise AssertionError(message)


class Server:
    """A child process and its children; ready when its health page responds."""

    def __init__(
        self, arguments: list[str], environment: dict[str, str], health: str,
        *, folder: Path = ROOT, start_deadline_s: float = DEADLINE_S,
    ) -> None:  # fmt: skip
        self._arguments = arguments
        self._environment = environment
        self._health = health
        self._folder = folder
        self._start_deadline_s = start_deadline_s
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._arguments, env={**os.environ, **self._environment}, cwd=self._folder,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            poll(self._ready, self._arguments[0], deadline_s=self._start_deadline_s)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Send SIGTERM and wait for the end."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL, like a crash."""
        self._end(signal.SIGKILL)

    def _ready(self) -> bool | None:
        assert self._process is not None
        assert self._process.poll() is None, f"{self._arguments[0]} exited with {self._process.returncode} at start"
        return None if get(self._health) is None else True

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, how)
            self._process.wait(30)
            self._process = None

    def __enter__(self) -> Any:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Jaeger(Server):
    """Jaeger 2 with memory storage; ``otlp_grpc``, ``otlp_http`` and ``query`` are its addresses."""

    def __init__(self) -> None:
        health, query, query_grpc, grpc, http = (own_port() for _ in range(5))
        self.otlp_grpc = f"127.0.0.1:{grpc}"
        self.otlp_http = f"http://127.0.0.1:{http}"
        self.query = f"http://127.0.0.1:{query}"
        super().__init__(
            [str(binary("jaeger")), "--config", "servers/jaeger.yaml"],
            {
                "JAEGER_HEALTH_PORT": str(health), "JAEGER_QUERY_PORT": str(query),
                "JAEGER_QUERY_GRPC_PORT": str(query_grpc), "JAEGER_OTLP_GRPC_PORT": str(grpc),
                "JAEGER_OTLP_HTTP_PORT": str(http),
            },
            f"http://127.0.0.1:{health}/status",
        )  # fmt: skip

    def trace(self, trace_id: str, *, spans: int = 1) -> dict[str, Any]:
        """Wait until the trace has ``spans`` spans; return it in the format of Jaeger's query API."""

        def read() -> dict[str, Any] | None:
            answer = get_json(f"{self.query}/api/traces/{trace_id}")
            found = (answer or {}).get("data") or []
            return found[0] if found and len(found[0]["spans"]) >= spans else None

        return poll(read, f"trace {trace_id} with {spans} spans in Jaeger")

    def services(self) -> list[str]:
        """Return the names of the services in Jaeger."""
        return sorted((get_json(f"{self.query}/api/services") or {}).get("data") or [])


class Collector(Server):
    """The Collector with the unmodified otel-collector.yaml of this repository."""

    def __init__(self, jaeger: Jaeger, queue: Path) -> None:
        health, grpc, http = (own_port() for _ in range(3))
        self.otlp_grpc = f"127.0.0.1:{grpc}"
        self.otlp_http = f"http://127.0.0.1:{http}"
        super().__init__(
            [str(binary("otelcol")), "--config", "otel-collector.yaml"],
            {
                "OTLP_GRPC_ENDPOINT": f"127.0.0.1:{grpc}", "OTLP_HTTP_ENDPOINT": f"127.0.0.1:{http}",
                "HEALTH_ENDPOINT": f"127.0.0.1:{health}", "JAEGER_ENDPOINT": jaeger.otlp_grpc,
                "QUEUE_DIRECTORY": str(queue),
            },
            f"http://127.0.0.1:{health}/",
        )  # fmt: skip


def tree(trace: dict[str, Any]) -> dict[str, Any]:
    """Return a Jaeger trace as nested span names, sorted by start."""
    spans = sorted(trace["spans"], key=lambda span: span["startTime"])
    nodes: dict[str, dict[str, Any]] = {span["spanID"]: {} for span in spans}
    root: dict[str, Any] = {}
    for span in spans:
        parent = next((r["spanID"] for r in span["references"] if r["refType"] == "CHILD_OF"), "")
        siblings, name = nodes.get(parent, root), span["operationName"]
        while name in siblings:
            name += "'"
        siblings[name] = nodes[span["spanID"]]
    return root


def tags(span: dict[str, Any]) -> dict[str, Any]:
    """Return the tags of a span in Jaeger."""
    return {tag["key"]: tag["value"] for tag in span["tags"]}
