"""OTLP destinations over HTTP and gRPC, with retries and partial success as in the OTLP specification."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping
from typing import Any, Final, cast
from urllib.parse import urlsplit

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from spancast.destinations.config import NetworkConfig
from spancast.destinations.http import (
    MAX_WAIT_S,
    Credentials,
    HttpResult,
    HttpSender,
    merged,
    proxy_for,
    suppress_instrumentation,
)
from spancast.destinations.place import DEFAULT_PORTS
from spancast.destinations.protocol import Delivered, Encoder, Encoding, Outcome, Payload, Rejected, Retry
from spancast.encoding.otlp.encode import request_bytes
from spancast.encoding.otlp.json_form import request_json
from spancast.encoding.span_data import ResourceData, ScopeData, SpanData
from spancast.errors import ConfigError

CONTENT_TYPES: Final[Mapping[Encoding, str]] = {"protobuf": "application/x-protobuf", "json": "application/json"}
EXPORT: Final = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
TEST_SPAN: Final = "spancast-connection-test"
_TEST_TRACE_ID: Final = f"{1:032x}"
_TEST_SPAN_ID: Final = f"{1:016x}"
_INTERNAL: Final = 1
_NO_RESOURCE: Final[Mapping[str, str]] = {}

_RETRYABLE: Final = frozenset({"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"})
_INVALID_CREDENTIALS: Final = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED"})
_CONTENT_ERRORS: Final = frozenset({"INVALID_ARGUMENT", "INTERNAL", "UNKNOWN"})
"""Codes of servers that failed because of the content of a batch, intentionally or not."""
_TOO_LARGE: Final = re.compile(r"larger than max|exceeds maximum size")
"""Messages of gRPC for C, Python, Go and Java."""
_STATUS_DETAILS: Final = "grpc-status-details-bin"
_GRPC_OPTIONS: Final = (
    # The delivery worker controls retries; a channel by itself would wait for up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Two channels to one address belong to two destinations and must not share a connection.
    ("grpc.use_local_subchannel_pool", 1),
)
_inherited: Final[list[Any]] = []
"""Channels of the parent process, which a child process must not use or close."""


def connection_test_span(resource: Mapping[str, str] = _NO_RESOURCE) -> SpanData:
    """Return the span of a connection test."""
    now = time.time_ns()
    return SpanData(
        trace_id=_TEST_TRACE_ID,
        span_id=_TEST_SPAN_ID,
        parent_span_id="",
        name=TEST_SPAN,
        kind=_INTERNAL,
        start_ns=now,
        end_ns=now,
        status="unset",
        status_message="",
        attributes={},
        resource=ResourceData({"service.name": "spancast", **resource}),
        scope=ScopeData("spancast"),
    )


class OtlpHttpDestination:
    """Posts each batch to one URL."""

    def __init__(  # noqa: PLR0913 - five are options
        self,
        sender: HttpSender,
        encoder: Encoder,
        *,
        encoding: Encoding = "protobuf",
        gzip: bool = True,
        resource: Mapping[str, str] = _NO_RESOURCE,
        max_batch_spans: int | None = None,
        max_batch_bytes: int | None = None,
    ) -> None:
        self.encoder = encoder
        self.max_batch_spans = max_batch_spans
        self.max_batch_bytes = max_batch_bytes
        self._sender = sender
        self._encoding: Encoding = encoding
        self._gzip = gzip
        self._resource = resource

    def deliver(self, payload: Payload, timeout_s: float) -> Outcome:
        """Send ``payload``; the outcome has the number of spans that the server rejected."""
        body = payload.body(self._encoding, gzip=self._gzip)
        return self._outcome(
            self._sender.send(body, CONTENT_TYPES[self._encoding], gzip=self._gzip, timeout_s=timeout_s)
        )

    def test_connection(self, timeout_s: float) -> Outcome:
        """Send one span: many servers reject a request without spans."""
        encode = request_json if self._encoding == "json" else request_bytes
        body = encode([connection_test_span(self._resource)])
        return self._outcome(self._sender.send(body, CONTENT_TYPES[self._encoding], gzip=False, timeout_s=timeout_s))

    def close(self) -> None:
        """Close the connections."""
        self._sender.close()

    def _outcome(self, result: HttpResult) -> Outcome:
        if not isinstance(result.outcome, Delivered):
            return result.outcome
        is_json = "json" in result.headers.get("content-type", "") or result.body.lstrip().startswith(b"{")
        rejected, message = partial_json(result.body) if is_json else partial_protobuf(result.body)
        return Delivered(rejected, self._sender.redact(message))


class OtlpGrpcDestination:
    """Calls ``Export`` for each batch."""

    def __init__(
        self, endpoint: str, config: NetworkConfig, encoder: Encoder, *, product: str, compression: str = "gzip"
    ) -> None:
        """Raise ``ConfigError`` if a file cannot be used or gRPC does not support an option; do not connect yet."""
        self.encoder = encoder
        parts = urlsplit(endpoint)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        self._target = f"{host}:{parts.port or DEFAULT_PORTS[parts.scheme]}"
        self._label = f"{product} at {self._target} (gRPC)"
        import grpc  # noqa: PLC0415 - 30 ms, for gRPC only

        self._grpc: Any = grpc
        configured = {name: value.get_secret_value() for name, value in config.headers.items()}
        self._credentials = Credentials(endpoint, configured, config.headers_from)
        self._timeout = config.timeout
        self._compression = self._grpc.Compression.Gzip if compression == "gzip" else None
        self._tls = _channel_credentials(self._grpc, config) if parts.scheme == "https" else None
        self._proxy = proxy_for(endpoint, config.proxy)
        self._channel: tuple[int, Any, Any] | None = None

    def __repr__(self) -> str:
        return f"OtlpGrpcDestination({self._label})"

    def deliver(self, payload: Payload, timeout_s: float) -> Outcome:
        """Send ``payload``; the outcome has the number of spans that the server rejected."""
        return self._send(payload.body("protobuf", gzip=False), timeout_s)

    def test_connection(self, timeout_s: float) -> Outcome:
        """Send one span: many servers reject a request without spans."""
        return self._send(request_bytes([connection_test_span()]), timeout_s)

    def close(self) -> None:
        """Close the channel."""
        if self._channel is not None and self._channel[0] == os.getpid():
            self._channel[1].close()
        self._channel = None

    def _send(self, body: bytes, timeout_s: float) -> Outcome:
        deadline = time.monotonic() + min(timeout_s, self._timeout)
        given = self._credentials.headers()
        if given is None:
            return Retry(f"{self._label}: headers_from failed, nothing was sent")
        code, outcome = self._send_once(body, given, deadline)
        if code == "UNAUTHENTICATED" and (renew := self._credentials.renew()) is not None:
            _, outcome = self._send_once(body, renew, deadline)
        return outcome

    def _send_once(self, body: bytes, headers: Mapping[str, str], deadline: float) -> tuple[str, Outcome]:
        metadata = tuple((name.lower(), value) for name, value in merged(headers).items())
        try:
            with suppress_instrumentation():
                result = self._export()(
                    body,
                    timeout=max(deadline - time.monotonic(), 0.0),
                    metadata=metadata,
                    compression=self._compression,
                )
        except self._grpc.RpcError as error:
            code = str(error.code().name)
            return code, self._failure(code, str(error.details() or ""), retry_delay_s(error.trailing_metadata()))
        rejected, message = partial_protobuf(result)
        return "OK", Delivered(rejected, self._credentials.redact(message))

    def _failure(self, code: str, details: str, delay_s: float | None) -> Outcome:
        hint = ": invalid credentials" if code in _INVALID_CREDENTIALS else ""
        text = self._credentials.redact(details)
        reason = f"{self._label}: {code}{hint}{f' ({text})' if text else ''}"
        is_throttled = code == "RESOURCE_EXHAUSTED" and delay_s is not None
        # An invalid key may be corrected, so spans stay queued.
        if is_throttled or code in _RETRYABLE or code in _INVALID_CREDENTIALS:
            return Retry(reason, delay_s)
        is_large = code == "RESOURCE_EXHAUSTED" and _TOO_LARGE.search(details) is not None
        return Rejected(reason, too_large=is_large, invalid_content=code in _CONTENT_ERRORS)

    def _export(self) -> Any:  # noqa: ANN401 - grpc has no types
        if self._channel is None or self._channel[0] != os.getpid():
            if self._channel is not None:
                _inherited.append(self._channel)
            channel = self._open_channel()
            # Without serializers, request and response are bytes.
            self._channel = (os.getpid(), channel, channel.unary_unary(EXPORT))
        return self._channel[2]

    def _open_channel(self) -> Any:  # noqa: ANN401
        # gRPC's own rules for proxy variables differ from those of HTTP clients.
        proxy = (("grpc.http_proxy", self._proxy),) if self._proxy else (("grpc.enable_http_proxy", 0),)
        options = (*_GRPC_OPTIONS, *proxy)
        if self._tls is None:
            return self._grpc.insecure_channel(self._target, options=options)
        return self._grpc.secure_channel(self._target, self._tls, options=options)


def _channel_credentials(grpc: Any, config: NetworkConfig) -> Any:  # noqa: ANN401
    if not config.verify:
        raise ConfigError("verify: gRPC always checks certificates; set `ca_file` to the certificate of the server")
    files = (config.ca_file, config.key_file or config.cert_file if config.cert_file else None, config.cert_file)
    try:
        root, key, chain = (path.read_bytes() if path else None for path in files)
    except OSError as error:
        raise ConfigError(f"ca_file, cert_file, key_file: {error.filename} cannot be read") from None
    return grpc.ssl_channel_credentials(root, key, chain)


def retry_delay_s(metadata: Any) -> float | None:  # noqa: ANN401 - grpc has no types
    """Return the delay in seconds of a failed call's ``RetryInfo``, from 0 to one hour; None without one."""
    details = next((item.value for item in metadata or () if item.key == _STATUS_DETAILS), None)
    if details is None:
        return None
    from google.rpc.error_details_pb2 import RetryInfo  # noqa: PLC0415 - for gRPC only
    from google.rpc.status_pb2 import Status as RpcStatus  # noqa: PLC0415 - for gRPC only

    status, info = RpcStatus(), RetryInfo()
    try:
        status.ParseFromString(details)
        if not any(detail.Unpack(info) for detail in status.details):
            return None
    except DecodeError:
        return None
    return min(max(info.retry_delay.seconds + info.retry_delay.nanos / 1e9, 0.0), MAX_WAIT_S)


def partial_protobuf(body: bytes) -> tuple[int, str]:
    """Return the number of rejected spans and the message of an ``ExportTraceServiceResponse``."""
    try:
        response = ExportTraceServiceResponse.FromString(body).partial_success
    except DecodeError:
        # The status reported success; an unreadable body changes nothing.
        return 0, ""
    return max(response.rejected_spans, 0), response.error_message


def partial_json(body: bytes) -> tuple[int, str]:
    """Return the same for a response in JSON, in which 64-bit numbers are strings."""
    try:
        response: Any = json.loads(body)
        partial: Any = _part(response, "partialSuccess") or _part(response, "partial_success") or {}
        rejected = int(_part(partial, "rejectedSpans") or _part(partial, "rejected_spans") or 0)
    except (ValueError, TypeError, RecursionError):
        return 0, ""
    return max(rejected, 0), str(_part(partial, "errorMessage") or _part(partial, "error_message") or "")


def _part(response: Any, name: str) -> Any:  # noqa: ANN401 - any JSON
    return cast("dict[str, Any]", response).get(name) if isinstance(response, dict) else None
