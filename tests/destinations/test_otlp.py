"""Tests of the OTLP destinations over HTTP and gRPC with a real server: requests and outcomes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from tests.destinations.configs import config
from tests.destinations.otlp_receiver import (
    OtlpReceiver,
    Reply,
    Request,
    certificate,
    cut,
    grpc_status,
    hold,
    ok,
    partial,
    status,
)
from tests.destinations.payloads import ENCODER, payload

from spancast.destinations import otlp, otlp_config
from spancast.destinations.otlp import OtlpGrpcDestination, OtlpHttpDestination, partial_json, retry_delay_s
from spancast.destinations.otlp_vendors import OTLP_VENDORS
from spancast.destinations.protocol import Delivered, Outcome, Rejected, Retry
from spancast.errors import ConfigError

CANARY = "sk-canary-0123456789"
SENT = [(one.trace_id, one.span_id) for one in payload().spans]
TEST_SPAN = ("0" * 31 + "1", "0" * 15 + "1")
URLS = {"langsmith": "endpoint", "posthog": "endpoint", "sentry": "otlp_endpoint", "datadog": "url"}


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtlpReceiver]:
    for name in ("http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with OtlpReceiver() as running:
        yield running


def destination(endpoint: str, kind: str = "otlp", **others: Any) -> Any:
    chosen: Any = config(kind, endpoint=endpoint, **others)
    return otlp_config.create(chosen, ENCODER)


def grpc_destination(receiver: OtlpReceiver, **others: Any) -> Any:
    return destination(f"http://{receiver.grpc_target}", protocol="grpc", timeout=30, **others)


def outcome_of(target: Any, timeout_s: float = 30) -> Outcome:
    try:
        return target.deliver(payload(), timeout_s)
    finally:
        target.close()


# HTTP.


@pytest.mark.parametrize("protocol", [None, "http/protobuf", "http/json"])
@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_deliver_over_http_sends_the_batch(receiver: OtlpReceiver, protocol: str | None, compression: str) -> None:
    target = destination(receiver.url, protocol=protocol, compression=compression, headers={"x-key": CANARY})
    assert outcome_of(target) == Delivered()
    assert receiver.spans == SENT
    [request] = receiver.requests
    assert request.path == "/v1/traces"
    assert request.is_gzip == (compression == "gzip")
    assert request.headers["x-key"] == CANARY
    is_json = protocol == "http/json"
    assert request.headers["content-type"] == ("application/json" if is_json else "application/x-protobuf")
    assert request.body == (payload().json if is_json else payload().protobuf)
    assert target.encoder is ENCODER


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json", "grpc"])
@pytest.mark.parametrize(("rejected", "message"), [(2, "two are too old"), (0, "names are long"), (0, "")])
def test_deliver_with_partial_success_returns_rejected_count(
    receiver: OtlpReceiver, protocol: str, rejected: int, message: str
) -> None:
    receiver.answer_with(partial(rejected, message))
    target = grpc_destination(receiver) if protocol == "grpc" else destination(receiver.url, protocol=protocol)
    assert outcome_of(target) == Delivered(rejected, message)


def test_deliver_with_partial_success_hides_credentials(receiver: OtlpReceiver) -> None:
    receiver.answer_with(partial(1, f"refused for {CANARY}"))
    assert outcome_of(destination(receiver.url, headers={"x-key": CANARY})) == Delivered(1, "refused for ***")
    assert outcome_of(grpc_destination(receiver, headers={"x-key": CANARY})) == Delivered(1, "refused for ***")


@pytest.mark.parametrize("body", [b"ok", b"\xff\xff", b"{", b"[1]", b'{"partialSuccess": {"rejectedSpans": "many"}}'])
@pytest.mark.parametrize("kind", ["application/json", "application/x-protobuf", "text/plain"])
def test_deliver_with_200_and_any_body_is_delivered(receiver: OtlpReceiver, body: bytes, kind: str) -> None:
    receiver.answer_with(status(200, body, {"Content-Type": kind}))
    assert outcome_of(destination(receiver.url)) == Delivered()


def test_partial_success_in_json_is_read_for_protobuf_requests(receiver: OtlpReceiver) -> None:
    receiver.answer_with(status(200, b' {"partialSuccess": {"rejectedSpans": 3}}'))
    assert outcome_of(destination(receiver.url)) == Delivered(3)
    assert partial_json(b'{"partial_success": {"rejected_spans": "4", "error_message": "m"}}') == (4, "m")
    assert partial_json(b'{"partialSuccess": null}') == (0, "")
    assert partial_json(b"[" * 100_000) == (0, "")


def test_deliver_with_503_is_retried_after_the_given_time(receiver: OtlpReceiver) -> None:
    receiver.answer_with(status(503, headers={"Retry-After": "3"}))
    outcome = outcome_of(destination(receiver.url, kind="jaeger"))
    assert isinstance(outcome, Retry)
    assert outcome.after_s == 3.0
    assert outcome.reason.startswith("Jaeger at 127.0.0.1")


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json", "grpc"])
def test_connection_test_sends_one_span(receiver: OtlpReceiver, protocol: str) -> None:
    target = grpc_destination(receiver) if protocol == "grpc" else destination(receiver.url, protocol=protocol)
    assert target.test_connection(30) == Delivered()
    target.close()
    assert receiver.spans == [TEST_SPAN]


def test_connection_test_span_names_the_project_of_the_destination(receiver: OtlpReceiver) -> None:
    span = otlp.connection_test_span({"openinference.project.name": "support"})
    assert (span.name, span.kind, span.attributes) == ("spancast-connection-test", 1, {})
    assert (span.trace_id, span.span_id) == TEST_SPAN
    assert span.resource.attributes == {"service.name": "spancast", "openinference.project.name": "support"}


# Those with credentials of a cloud are in test_cloud_auth.py.
@pytest.mark.parametrize("kind", [kind for kind, row in OTLP_VENDORS.items() if row.auth is None])
def test_vendor_destination_sends_its_headers_and_resource(receiver: OtlpReceiver, kind: str) -> None:
    row = OTLP_VENDORS[kind]
    # Those with an intake of their own take OTLP, too.
    intake = {"intake": "otlp"} if kind in ("datadog", "posthog") else {}
    chosen: Any = config(kind, **{URLS.get(kind, "base_url"): receiver.url}, **intake)
    target = otlp_config.create_vendor(chosen, ENCODER)
    assert target.deliver(payload(), 30) == Delivered()
    assert target.test_connection(30) == Delivered()
    target.close()
    assert target.encoder is ENCODER
    batch, test = receiver.requests
    wanted: Mapping[str, str] = otlp_config.target(row, chosen).headers
    assert {name: batch.headers[name.lower()] for name in wanted} == wanted
    assert batch.path == (row.path if kind != "sentry" else "/v1/traces")
    assert batch.is_gzip == row.compresses
    if row.accepted[0] == "json":
        assert batch.body == payload().json
        [spans] = json.loads(test.body)["resourceSpans"]
        resource = {pair["key"]: pair["value"]["stringValue"] for pair in spans["resource"]["attributes"]}
    else:
        assert batch.body == payload().protobuf
        [spans] = ExportTraceServiceRequest.FromString(test.body).resource_spans
        resource = {pair.key: pair.value.string_value for pair in spans.resource.attributes}
    assert resource == {"service.name": "spancast", **otlp_config.target(row, chosen).resource}


# Choice of the protocol.


@pytest.mark.parametrize(
    ("kind", "fields", "expected"),
    [
        ("otlp", {"endpoint": "http://h:4317"}, OtlpGrpcDestination),
        ("otlp", {"endpoint": "http://h:4318"}, OtlpHttpDestination),
        ("otlp", {"endpoint": "https://h"}, OtlpHttpDestination),
        ("otel-collector", {"endpoint": "http://h:4317", "protocol": "http/json"}, OtlpHttpDestination),
        ("jaeger", {"endpoint": "https://[::1]:4317", "compression": "none"}, OtlpGrpcDestination),
        ("jaeger", {}, OtlpHttpDestination),
        ("otlp", {"endpoint": "https://h", "protocol": "grpc"}, OtlpGrpcDestination),
    ],
)
def test_create_without_protocol_selects_it_by_port(kind: str, fields: dict[str, Any], expected: type) -> None:
    chosen: Any = config(kind, **fields)
    target = otlp_config.create(chosen, ENCODER)
    assert type(target) is expected
    target.close()


# gRPC.


def test_deliver_over_grpc_sends_the_batch(receiver: OtlpReceiver) -> None:
    for compression in ("gzip", "none"):
        assert outcome_of(grpc_destination(receiver, compression=compression, headers={"X-Key": CANARY})) == Delivered()
    assert receiver.spans == SENT * 2
    packed, plain = receiver.requests
    assert packed.body == plain.body == payload().protobuf
    assert packed.headers["x-key"] == CANARY


@pytest.mark.parametrize(
    "code", ["CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"]
)
def test_deliver_over_grpc_with_transient_status_is_retried(receiver: OtlpReceiver, code: str) -> None:
    receiver.answer_with(grpc_status(code, f"busy {CANARY}"))
    outcome = outcome_of(grpc_destination(receiver, headers={"x-key": CANARY}))
    assert outcome == Retry(f"OTLP at {receiver.grpc_target} (gRPC): {code} (busy ***)")


@pytest.mark.parametrize("code", ["UNAUTHENTICATED", "PERMISSION_DENIED"])
def test_deliver_over_grpc_with_refused_credentials_is_retried(receiver: OtlpReceiver, code: str) -> None:
    receiver.answer_with(grpc_status(code))
    outcome = outcome_of(grpc_destination(receiver))
    assert isinstance(outcome, Retry)
    assert "invalid credentials" in outcome.reason


@pytest.mark.parametrize(
    ("code", "invalid_content"),
    [
        ("INVALID_ARGUMENT", True),
        ("INTERNAL", True),
        ("UNKNOWN", True),
        ("NOT_FOUND", False),
        ("UNIMPLEMENTED", False),
        ("FAILED_PRECONDITION", False),
        ("RESOURCE_EXHAUSTED", False),
    ],
)
def test_deliver_over_grpc_with_permanent_status_is_rejected(
    receiver: OtlpReceiver, code: str, invalid_content: bool
) -> None:
    receiver.answer_with(grpc_status(code, "no"))
    prefix = f"OTLP at {receiver.grpc_target} (gRPC)"
    assert outcome_of(grpc_destination(receiver)) == Rejected(f"{prefix}: {code} (no)", invalid_content=invalid_content)


@pytest.mark.parametrize(("delay_s", "seconds"), [(2.5, 2.5), (0, 0.0), (-3, 0.0), (100_000, 3600.0)])
def test_deliver_over_grpc_with_retry_info_returns_its_delay(
    receiver: OtlpReceiver, delay_s: float, seconds: float
) -> None:
    for code in ("RESOURCE_EXHAUSTED", "UNAVAILABLE"):
        receiver.answer_with(grpc_status(code, retry_s=delay_s))
        outcome = outcome_of(grpc_destination(receiver))
        assert isinstance(outcome, Retry)
        assert outcome.after_s == seconds


def test_retry_delay_s_of_invalid_details_returns_none() -> None:
    class Item:
        key = "grpc-status-details-bin"
        value = b"\xff"

    assert retry_delay_s([Item()]) is None
    Item.value = b""
    assert retry_delay_s([Item()]) is None
    assert retry_delay_s(None) is None


def test_deliver_over_grpc_with_oversized_message_is_rejected_as_too_large(receiver: OtlpReceiver) -> None:
    """The gRPC server limits messages to a megabyte."""
    target = grpc_destination(receiver, compression="none")
    large = payload(list(_long_spans()))
    outcome = target.deliver(large, 30)
    target.close()
    assert isinstance(outcome, Rejected)
    assert outcome.too_large
    assert receiver.requests == []


def _long_spans() -> Iterator[Any]:
    from tests.destinations.spans import span

    yield span("long", 1, attributes={"text": "x" * 2_000_000})


def test_deliver_over_grpc_without_reply_times_out(receiver: OtlpReceiver) -> None:
    receiver.answer_with(hold(takes=False), ok())
    target = grpc_destination(receiver)
    outcome = target.deliver(payload(), 0.3)
    assert isinstance(outcome, Retry)
    assert "DEADLINE_EXCEEDED" in outcome.reason
    receiver.release()
    assert outcome_of(target) == Delivered()


def test_deliver_over_grpc_with_closed_connection_is_retried(receiver: OtlpReceiver) -> None:
    receiver.answer_with(cut(takes=True), ok())
    target = grpc_destination(receiver)
    assert isinstance(target.deliver(payload(), 30), Retry)
    assert outcome_of(target) == Delivered()


def test_deliver_over_grpc_to_closed_port_is_retried() -> None:
    outcome = outcome_of(destination("http://127.0.0.1:1", protocol="grpc"))
    assert isinstance(outcome, Retry)
    assert "UNAVAILABLE" in outcome.reason


def test_headers_from_is_called_again_after_unauthenticated(receiver: OtlpReceiver) -> None:
    keys = iter(["old", "new"])

    def by_key(request: Request) -> Reply:
        return ok() if request.headers["x-key"] == "new" else grpc_status("UNAUTHENTICATED")

    receiver.answer_with(ok(), by_key)
    target = grpc_destination(receiver, headers_from=lambda: {"X-Key": next(keys)})
    assert [target.deliver(payload(), 30), outcome_of(target)] == [Delivered(), Delivered()]
    assert [request.headers["x-key"] for request in receiver.requests] == ["old", "old", "new"]


def test_deliver_over_grpc_with_tls_checks_the_certificate(tmp_path: Path) -> None:
    identity = certificate(tmp_path)
    with OtlpReceiver(tls=identity) as receiver:
        endpoint = f"https://{receiver.grpc_target}"
        assert outcome_of(destination(endpoint, protocol="grpc", ca_file=identity.cert)) == Delivered()
        outcome = outcome_of(destination(endpoint, protocol="grpc"))
        assert isinstance(outcome, Retry)
        assert "UNAVAILABLE" in outcome.reason
        with pytest.raises(ConfigError, match="gRPC always checks certificates"):
            destination(endpoint, protocol="grpc", verify=False)


def test_deliver_over_grpc_hides_credentials(receiver: OtlpReceiver) -> None:
    target = grpc_destination(receiver, headers={"authorization": f"Bearer {CANARY}"})
    receiver.answer_with(grpc_status("INVALID_ARGUMENT", f"Bearer {CANARY} or {CANARY}"))
    assert CANARY not in f"{target!r} {outcome_of(target)!r}"


FORK = """
import os, sys
from tests.destinations.configs import config
from tests.destinations.payloads import ENCODER, payload
from spancast.destinations import otlp_config
from spancast.destinations.protocol import Delivered

target = otlp_config.create(config("otlp", endpoint=sys.argv[1], protocol="grpc", timeout=60), ENCODER)
assert target.deliver(payload(), 60) == Delivered()
child = os.fork()
if child == 0:
    outcome = target.deliver(payload(), 60)
    target.close()
    print(outcome, flush=True)
    os._exit(0 if outcome == Delivered() else 1)
assert os.waitpid(child, 0)[1] == 0
assert target.deliver(payload(), 60) == Delivered()
"""


def test_deliver_over_grpc_in_forked_child_uses_its_own_channel(receiver: OtlpReceiver) -> None:
    """Runs in a subprocess: gRPC supports fork only in a process without a gRPC server."""
    endpoint = f"http://{receiver.grpc_target}"
    completed = subprocess.run(
        [sys.executable, "-c", FORK, endpoint],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["src", "."])},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert completed.returncode == 0, completed.stderr.decode()
    first, child, last = (request.connection for request in receiver.requests)
    assert first == last != child


@pytest.mark.parametrize(
    ("kind", "fields", "expected"),
    [
        ("otlp", {"endpoint": "http://localhost:4318"}, "none"),
        ("otlp", {"endpoint": "http://127.0.0.1:4317"}, "none"),
        ("otlp", {"endpoint": "http://127.1.2.3"}, "none"),
        ("otlp", {"endpoint": "http://[::1]:4318"}, "none"),
        ("jaeger", {}, "none"),
        ("otel-collector", {"endpoint": "http://collector.localhost"}, "none"),
        ("otel-collector", {"endpoint": "http://collector:4318"}, "gzip"),
        ("otlp", {"endpoint": "https://127.0.0.1.example.com"}, "gzip"),
        ("otlp", {"endpoint": "https://127.example.com"}, "gzip"),
        ("otlp", {"endpoint": "http://10.0.0.1:4317"}, "gzip"),
        ("otlp", {"endpoint": "http://localhost:4318", "compression": "gzip"}, "gzip"),
        ("otlp", {"endpoint": "https://h", "compression": "none"}, "none"),
    ],
)
def test_compression_default_is_none_for_loopback_addresses(kind: str, fields: dict[str, Any], expected: str) -> None:
    chosen: Any = config(kind, **fields)
    assert chosen.effective_compression == expected


def test_deliver_to_loopback_is_not_compressed(receiver: OtlpReceiver) -> None:
    target = otlp_config.create(cast("Any", config("otlp", endpoint=receiver.url)), ENCODER)
    assert target.deliver(payload(), 30) == Delivered()
    target.close()
    assert not receiver.requests[0].is_gzip
