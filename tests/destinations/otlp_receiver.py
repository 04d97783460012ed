"""An OTLP server over HTTP (protobuf and JSON) and gRPC that can fail in many ways.

    with OtlpReceiver() as receiver:
        receiver.answer_with(status(503, headers={"Retry-After": "2"}), ok())  # in order; the last one repeats
        ...                                # send to receiver.url or receiver.grpc_target
        assert receiver.wait_for(lambda: len(receiver.spans) == 4)
        receiver.spans                     # [(trace id, span id), ...] of accepted spans, in hex
        receiver.requests                  # all requests, accepted or not

``answer_with`` accepts replies, or functions that get a ``Request`` and return a reply. ``hold()`` replies after
``receiver.release()``. To simulate a restart, start a second server on the port of the first:
``OtlpReceiver(port=former.port)``.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import gzip
import ipaddress
import json
import ssl
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
TIMEOUT_S = 30.0
_POLL_S = 0.005
_LONG = 10_000_000

SpanId: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One received request. ``body`` is decompressed, header names are lower-case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    is_gzip: bool
    spans: tuple[SpanId, ...]
    connection: tuple[Any, ...]
    """The client's address; equal for requests on one connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A reply, created by the functions below."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes | None = None
    """None for an ``ExportTraceServiceResponse`` in the encoding of the request."""
    rejected: int = 0
    message: str = ""
    code: str = "OK"
    """The gRPC status. An HTTP request gets ``status``."""
    retry_s: float | None = None
    """RetryInfo of the gRPC status."""
    fault: Literal["", "hold", "deaf", "drip", "drip_head", "cut"] = ""
    takes: bool = True
    """True if the server accepts the spans."""


Answer: TypeAlias = "Reply | Callable[[Request], Reply]"


def ok() -> Reply:
    """Accept the batch."""
    return Reply()


def status(code: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Reply:
    """Reply with an HTTP status; only 2xx accepts the batch."""
    return Reply(status=code, body=body, headers=headers or {}, takes=200 <= code < 300)


def redirect(to: str, code: int = 302) -> Reply:
    """Reply with a redirect."""
    return status(code, headers={"Location": to})


def html(code: int = 200) -> Reply:
    """Reply with an HTML page, like a single-page app for any path."""
    return Reply(
        status=code, body=b"<!DOCTYPE html><html><body>Log in</body></html>", headers={"Content-Type": "text/html"},
        takes=False,
    )  # fmt: skip


def partial(rejected: int, message: str = "") -> Reply:
    """Accept the batch except ``rejected`` spans (OTLP partial success; ``spans`` still has all of them)."""
    return Reply(rejected=rejected, message=message)


def hold(*, takes: bool = True) -> Reply:
    """Read the request and reply after ``release()``."""
    return Reply(fault="hold", takes=takes)


def deaf() -> Reply:
    """Do not read the body before ``release()`` (HTTP)."""
    return Reply(fault="deaf", takes=False)


def drip(*, head: bool = False) -> Reply:
    """Reply 200 byte by byte, without end, until the client closes the connection (``receiver.hang_ups``; HTTP)."""
    return Reply(fault="drip_head" if head else "drip", takes=False)


def cut(*, takes: bool = False) -> Reply:
    """Read the request, then close the connection without a reply (gRPC: UNAVAILABLE)."""
    return Reply(fault="cut", code="UNAVAILABLE", takes=takes)


def grpc_status(code: str, message: str = "", retry_s: float | None = None) -> Reply:
    """Reply with a gRPC status such as ``RESOURCE_EXHAUSTED``, and with RetryInfo if ``retry_s`` is given."""
    return Reply(status=503, code=code, message=message, retry_s=retry_s, takes=False)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A self-signed certificate. ``cert`` is also the CA file that trusts it."""

    cert: Path
    key: Path


def certificate(directory: Path, host: str = "127.0.0.1") -> Certificate:
    """Create a certificate for ``host`` in ``directory``."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = dt.datetime.now(tz=dt.UTC)
    try:
        alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        alternative = x509.DNSName(host)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    directory.mkdir(parents=True, exist_ok=True)
    found = Certificate(directory / f"{host}.pem", directory / f"{host}.key")
    found.cert.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    found.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return found


class OtlpReceiver:
    """The server. With ``client_ca`` it requires a client certificate (HTTP)."""

    def __init__(self, *, port: int = 0, tls: Certificate | None = None, client_ca: Path | None = None) -> None:
        self._changed = threading.Condition()
        self._requests: list[Request] = []
        self._spans: list[SpanId] = []
        self._script: list[Answer] = [ok()]
        self._hang_ups = 0
        self._released = 0
        self._is_closing = False
        self._tls = tls
        self._grpc: Any = None
        self._grpc_target = ""
        self._http = _server(self, port, tls, client_ca)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._http.shutdown()
        self._thread.join()
        self._http.hang_up()
        self._http.server_close()
        if self._grpc is not None:
            self._grpc.stop(0).wait()

    @property
    def port(self) -> int:
        """Return the port of ``url``."""
        return int(self._http.server_address[1])

    @property
    def url(self) -> str:
        """Return the base URL of the HTTP endpoint; the server replies on any path."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def grpc_target(self) -> str:
        """Return ``host:port`` of the gRPC endpoint; the first access starts it."""
        if self._grpc is None:
            self._grpc = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", 1_000_000)])
            self._grpc.add_generic_rpc_handlers((_GrpcHandler(self),))
            port = _bind(self._grpc, self._tls)
            self._grpc.start()
            self._grpc_target = f"127.0.0.1:{port}"
        return self._grpc_target

    @property
    def requests(self) -> list[Request]:
        """Return all requests in the order of arrival."""
        with self._changed:
            return list(self._requests)

    @property
    def spans(self) -> list[SpanId]:
        """Return the ids of all accepted spans, with duplicates."""
        with self._changed:
            return list(self._spans)

    @property
    def hang_ups(self) -> int:
        """Return the number of clients that closed the connection during a ``drip`` reply."""
        with self._changed:
            return self._hang_ups

    def answer_with(self, *answers: Answer) -> None:
        """Reply to the next requests with ``answers`` in order, and to all later ones with the last."""
        with self._changed:
            self._script = list(answers)

    def release(self) -> None:
        """Continue every held request."""
        with self._changed:
            self._released += 1
            self._changed.notify_all()

    def wait_for(self, predicate: Callable[[], bool], timeout_s: float = TIMEOUT_S) -> bool:
        """Wait until ``predicate`` is true; it is checked after every event of the server."""
        with self._changed:
            return self._changed.wait_for(predicate, timeout_s)

    # For the handlers below.

    def next_answer(self) -> Answer:
        with self._changed:
            return self._script.pop(0) if len(self._script) > 1 else self._script[0]

    def on_request(self, request: Request) -> None:
        with self._changed:
            self._requests.append(request)
            self._changed.notify_all()

    def on_accepted(self, request: Request) -> None:
        with self._changed:
            self._spans.extend(request.spans)
            self._changed.notify_all()

    def on_hang_up(self) -> None:
        with self._changed:
            self._hang_ups += 1
            self._changed.notify_all()

    def wait_for_release(self, is_gone: Callable[[], bool] = lambda: False) -> None:
        with self._changed:
            before = self._released
            while self._released == before and not self._is_closing and not is_gone():
                self._changed.wait(_POLL_S * 10)

    def is_closing(self, poll_s: float = _POLL_S) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._is_closing, poll_s)


def spans_of(body: bytes, content_type: str = "application/x-protobuf") -> tuple[SpanId, ...]:
    """Return the span ids in an ``ExportTraceServiceRequest``; empty for an empty body."""
    if not body:
        return ()
    if "json" in content_type:
        request = json.loads(body)
        return tuple(
            (span["traceId"], span["spanId"])
            for resource in request["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        )
    message = ExportTraceServiceRequest.FromString(body)
    return tuple(
        (span.trace_id.hex(), span.span_id.hex())
        for resource in message.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    )


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    # Do not wait for handlers: tests reuse the port of a closed server at once.
    block_on_close = False

    def __init__(self, receiver: OtlpReceiver, port: int, context: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.receiver = receiver
        self._context = context
        self._open: set[Any] = set()
        self._lock = threading.Lock()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
        try:
            # The handshake runs in the connection's thread, not in the accepting one.
            if self._context is not None:
                request = self._wrapped(request)
            if request is not None:
                super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._open.discard(request)

    def _wrapped(self, request: Any) -> Any:
        assert self._context is not None
        try:
            wrapped = self._context.wrap_socket(request, server_side=True)
        except OSError:
            with self._lock:
                self._open.discard(request)
            request.close()
            return None
        with self._lock:
            self._open.discard(request)
            self._open.add(wrapped)
        return wrapped

    def hang_up(self) -> None:
        with self._lock:
            for request in self._open:
                with contextlib.suppress(OSError):
                    request.shutdown(2)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors: tests close connections on purpose."""


def _server(receiver: OtlpReceiver, port: int, tls: Certificate | None, client_ca: Path | None) -> _Server:
    if tls is None:
        return _Server(receiver, port, None)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.cert, tls.key)
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return _Server(receiver, port, context)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        receiver = self.server.receiver
        answer = receiver.next_answer()
        if isinstance(answer, Reply) and answer.fault == "deaf":
            self.close_connection = True
            receiver.wait_for_release()
            return
        request = self._request()
        receiver.on_request(request)
        reply = answer if isinstance(answer, Reply) else answer(request)
        if reply.fault == "hold":
            receiver.wait_for_release()
        if reply.takes:
            receiver.on_accepted(request)
        if reply.fault == "cut":
            self.close_connection = True
        elif reply.fault.startswith("drip"):
            self._drip(head=reply.fault == "drip_head")
        else:
            self._answer(reply, request)

    do_PUT = do_POST  # noqa: N815 - names of the base class
    do_GET = do_POST  # noqa: N815

    def do_CONNECT(self) -> None:
        self.server.receiver.on_request(
            Request(method="CONNECT", path=self.path, headers={k.lower(): v for k, v in self.headers.items()}, body=b"",
                    is_gzip=False, spans=(), connection=self.client_address)
        )  # fmt: skip
        self.close_connection = True
        self.send_error(502)

    def _request(self) -> Request:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        is_gzip = self.headers.get("Content-Encoding") == "gzip"
        body = gzip.decompress(raw) if is_gzip else raw
        return Request(
            method=self.command,
            path=self.path,
            headers={name.lower(): value for name, value in self.headers.items()},
            body=body,
            is_gzip=is_gzip,
            spans=spans_of(body, self.headers.get("Content-Type", "")),
            connection=self.client_address,
        )

    def _answer(self, reply: Reply, request: Request) -> None:
        is_json = "json" in request.headers.get("content-type", "")
        body = reply.body
        headers = dict(reply.headers)
        if body is None:
            body = _response(reply, is_json=is_json)
            headers.setdefault("Content-Type", "application/json" if is_json else "application/x-protobuf")
        self.send_response(reply.status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _drip(self, *, head: bool) -> None:
        self.close_connection = True
        start = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        start += "X-Slow: " if head else f"Content-Length: {_LONG}\r\n\r\n"
        try:
            self.wfile.write(start.encode())
            while not self.server.receiver.is_closing():
                self.wfile.write(b"x")
        except OSError:
            self.server.receiver.on_hang_up()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Do not log."""


def _response(reply: Reply, *, is_json: bool) -> bytes:
    has_partial_success = bool(reply.rejected or (reply.message and reply.code == "OK"))
    if is_json:
        partial_success = {"rejectedSpans": str(reply.rejected), "errorMessage": reply.message}
        return json.dumps({"partialSuccess": partial_success} if has_partial_success else {}).encode()
    message = ExportTracePartialSuccess(rejected_spans=reply.rejected, error_message=reply.message)
    return ExportTraceServiceResponse(partial_success=message if has_partial_success else None).SerializeToString()


class _GrpcHandler(grpc.GenericRpcHandler):
    def __init__(self, receiver: OtlpReceiver) -> None:
        self._receiver = receiver

    def service(self, handler_call_details: Any) -> Any:
        if handler_call_details.method != EXPORT:
            return None
        return grpc.unary_unary_rpc_method_handler(self._export)

    def _export(self, body: bytes, context: Any) -> bytes:
        answer = self._receiver.next_answer()
        headers = {item.key: item.value for item in context.invocation_metadata()}
        request = Request(
            method="gRPC", path=EXPORT, headers=headers, body=body, is_gzip=False, spans=spans_of(body),
            connection=(context.peer(),),
        )  # fmt: skip
        self._receiver.on_request(request)
        reply = answer if isinstance(answer, Reply) else answer(request)
        if reply.fault == "hold":
            self._receiver.wait_for_release(lambda: not context.is_active())
        if reply.takes:
            self._receiver.on_accepted(request)
        if reply.code != "OK":
            self._fail(reply, context)
        return _response(reply, is_json=False)

    def _fail(self, reply: Reply, context: Any) -> None:
        code = grpc.StatusCode[reply.code]
        if reply.retry_s is not None:
            delay = Duration()
            delay.FromNanoseconds(round(reply.retry_s * 1e9))
            detail = AnyMessage()
            detail.Pack(RetryInfo(retry_delay=delay))
            status = Status(code=code.value[0], message=reply.message, details=[detail])
            context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(code, reply.message)


def _bind(server: Any, tls: Certificate | None) -> int:
    if tls is None:
        return int(server.add_insecure_port("127.0.0.1:0"))
    pair = (tls.key.read_bytes(), tls.cert.read_bytes())
    return int(server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair])))
