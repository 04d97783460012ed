"""The receiver of all traces, in its own process. Stores request bodies and decodes them for a report only.

One port per candidate. ``POST /report`` with ``{piece: text}`` counts GenAI spans since the last report, and
how many contain each piece. Nothing is decoded earlier, so that measurements are not disturbed.
"""

from __future__ import annotations

import gzip
import json
import sys
import threading
import zlib
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_GENAI_ATTRIBUTES = frozenset({"gen_ai.request.model", "llm.model_name", "langfuse.observation.model.name"})
_GENAI_EVENTS = frozenset({"$ai_generation"})


class Port(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        self.bodies: list[tuple[str, str, bytes]] = []
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Port

    def do_POST(self) -> None:
        body = self._body()
        if self.path == "/report":
            bodies, self.server.bodies = self.server.bodies, []
            self._answer(report(bodies, json.loads(body)))
            return
        self.server.bodies.append((self.path, self.headers.get("content-encoding", ""), body))
        if "protobuf" in self.headers.get("content-type", ""):
            self._answer(None)
        else:
            self._answer(_handshake_response(self.path))

    def do_GET(self) -> None:
        self._answer(_handshake_response(self.path))

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("transfer-encoding", ""):
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        parts: list[bytes] = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, value: object) -> None:
        body = b"" if value is None else json.dumps(value).encode()
        self.send_response(200)
        if body:
            self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self._headers_buffer.append(b"\r\n" + body)
        self.flush_headers()

    def log_message(self, *_: Any) -> None:
        return


def _handshake_response(path: str) -> dict[str, Any]:
    """Return the response that a peer requires before it sends spans."""
    if path.startswith("/api/apikey/login"):
        return {"org_info": [{"id": "org", "name": "bench", "api_url": None, "proxy_url": None}]}
    if path.startswith("/api/project/register"):
        return {"project": {"id": "00000000-0000-4000-8000-000000000001", "name": "bench"}}
    return {"status": "Ok"}


def report(bodies: Iterable[tuple[str, str, bytes]], expected: dict[str, str]) -> dict[str, int]:
    """Count requests, bytes, calls and, for each piece, the records that contain it."""
    counts = {"requests": 0, "bytes": 0, "calls": 0, **dict.fromkeys(expected, 0)}
    for path, encoding, sent in bodies:
        counts["requests"] += 1
        counts["bytes"] += len(sent)
        body = gzip.decompress(sent) if encoding == "gzip" else zlib.decompress(sent) if encoding == "deflate" else sent
        for is_call, text in _records(path, body):
            counts["calls"] += is_call
            for piece, wanted in expected.items():
                counts[piece] += wanted in text
    return counts


def _records(path: str, body: bytes) -> Iterator[tuple[bool, str]]:
    if path.endswith("/v1/traces"):
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    yield _is_call(span), "\n".join(_span_texts(span))
        return
    if path.startswith("/v1/"):
        return
    try:
        value = json.loads(body)
    except ValueError:
        return
    events = value.get("batch") or value.get("rows") or () if isinstance(value, dict) else value
    for event in events if isinstance(events, list) else ():
        is_call = event.get("event") in _GENAI_EVENTS or (event.get("span_attributes") or {}).get("type") == "llm"
        yield is_call, json.dumps(event)


def _is_call(span: Any) -> bool:
    keys = {attribute.key for attribute in span.attributes}
    # logfire also writes a log, as a span without duration, for a streamed call.
    return bool(keys & _GENAI_ATTRIBUTES) and span.start_time_unix_nano != span.end_time_unix_nano


def _span_texts(span: Any) -> Iterator[str]:
    yield span.status.message
    for attributes in (span.attributes, *(event.attributes for event in span.events)):
        for attribute in attributes:
            yield from _texts(attribute.value)


def _texts(value: Any) -> Iterator[str]:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        for one in value.array_value.values:
            yield from _texts(one)
    elif kind == "kvlist_value":
        for one in value.kvlist_value.values:
            yield from _texts(one.value)
    elif kind is not None:
        yield str(getattr(value, kind))


def main() -> None:
    """Serve ``sys.argv[1]`` ports and print their numbers; end when stdin is closed."""
    ports = [Port() for _ in range(int(sys.argv[1]))]
    for port in ports:
        threading.Thread(target=port.serve_forever, daemon=True).start()
    print(json.dumps([port.server_address[1] for port in ports]), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
