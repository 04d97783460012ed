"""Programs in their own process: their environment, and a receiver of the spans that they send."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spancast.testing import ReplayServer

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
ON_STDERR = re.compile(
    r"(spancast: (\S+/spancast.yaml is used; )?traces (go to .*|are stored on this machine; see them with: spancast traces)\n)?"
)
"""What spancast prints of itself."""


class Receiver(ThreadingHTTPServer):
    """An OTLP/HTTP receiver that stores the received spans."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.services: set[str] = set()
        self.agents: set[str] = set()
        """The first word of each user agent, which identifies the exporter."""
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def tree(self) -> dict[str, Any]:
        spans = sorted(self.spans, key=lambda span: span.start_time_unix_nano)
        nodes: dict[bytes, dict[str, Any]] = {span.span_id: {} for span in spans}
        root: dict[str, Any] = {}
        for span in spans:
            nodes.get(span.parent_span_id, root)[span.name] = nodes[span.span_id]
        return root

    def attribute(self, name: str) -> set[Any]:
        return {a.value.string_value for span in self.spans for a in span.attributes if a.key == name}


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        if self.path == "/v1/traces":
            self.server.agents.add(self.headers["user-agent"].partition("/")[0].partition("-")[0])
            for resource_spans in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.server.services |= {
                    a.value.string_value for a in resource_spans.resource.attributes if a.key == "service.name"
                }
                for scope in resource_spans.scope_spans:
                    self.server.spans.extend(scope.spans)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        return


@contextmanager
def running_receiver() -> Iterator[Receiver]:
    with Receiver() as running, ThreadPoolExecutor(1) as pool:
        pool.submit(running.serve_forever)
        try:
            yield running
        finally:
            running.shutdown()


def environment(server: ReplayServer, state: Path, **more: str) -> dict[str, str]:
    """Return the environment of a program: keys and addresses of ``server`` for the SDKs, its own state directory."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "SPANCAST_"))},
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "sk-test",
        "ANTHROPIC_BASE_URL": server.url, "ANTHROPIC_API_KEY": "test",
        "OPENROUTER_BASE_URL": server.base_url, "OPENROUTER_API_KEY": "test",
        "XDG_STATE_HOME": str(state),
        **more,
    }  # fmt: skip


def output(command: list[str], env: dict[str, str], folder: Path = ROOT) -> str:
    """Run ``command`` in ``folder`` and return what it prints; it must succeed and print nothing unusual to stderr."""
    completed = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert completed.returncode == 0, completed.stderr + completed.stdout
    assert ON_STDERR.fullmatch(completed.stderr), completed.stderr
    return completed.stdout
