"""OTLP by HTTP and gRPC against a real server: what arrives, and what its answers come to."""

from __future__ import annotations

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
from tests.destinations.payloads import VIEW, payload

from spancast.destinations import otlp, otlp_config
from spancast.destinations.otlp import OtlpGrpcDestination, OtlpHttpDestination, partial_json, retry_delay_s
from spancast.destinations.otlp_vendors import OTLP_VENDORS
from spancast.destinations.protocol import Delivered, Outcome, Rejected, Retry
from spancast.errors import ConfigError

CANARY = "sk-canary-0123456789"
SENT = [(one.trace_id, one.span_id) for one in payload().spans]
TEST_SPAN = ("0" * 31 + "1", "0" * 15 + "1")
URLS = {"langsmith": "endpoint", "sentry": "otlp_endpoint", "datadog": "url"}


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtlpReceiver]:
    for name in ("http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with OtlpReceiver() as running:
        yield running


def destination(endpoint: str, kind: str = "otlp", **others: Any) -> Any:
    told: Any = config(kind, endpoint=endpoint, **others)
    return otlp_config.create(told, VIEW)


def by_grpc(receiver: OtlpReceiver, **others: Any) -> Any:
    return destination(f"http://{receiver.grpc_target}", protocol="grpc", timeout=30, **others)


def outcome_of(made: Any, timeout_s: float = 30) -> Outcome:
    try:
        return made.deliver(payload(), timeout_s)
    finally:
        made.close()


# HTTP.


@pytest.mark.parametrize("protocol", [None, "http/protobuf", "http/json"])
@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_a_batch_arrives(receiver: OtlpReceiver, protocol: str | None, compression: str) -> None:
    made = destination(receiver.url, protocol=protocol, compression=compression, headers={"x-key": CANARY})
    assert outcome_of(made) == Delivered()
    assert receiver.spans == SENT
    [request] = receiver.requests
    assert request.path == "/v1/traces"
    assert request.is_gzip == (compression == "gzip")
    assert request.headers["x-key"] == CANARY
    is_json = protocol == "http/json"
    assert request.headers["content-type"] == ("application/json" if is_json else "application/x-protobuf")
    assert request.body == (payload().json if is_json else payload().protobuf)
    assert made.encoder is VIEW


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json", "grpc"])
@pytest.mark.parametrize(("rejected", "message"), [(2, "two are too old"), (0, "names are long"), (0, "")])
def test_partial_success_is_read(receiver: OtlpReceiver, protocol: str, rejected: int, message: str) -> None:
    receiver.answer_with(partial(rejected, message))
    made = by_grpc(receiver) if protocol == "grpc" else destination(receiver.url, protocol=protocol)
    assert outcome_of(made) == Delivered(rejected, message)


def test_the_message_of_a_partial_success_holds_no_credential(receiver: OtlpReceiver) -> None:
    receiver.answer_with(partial(1, f"refused for {CANARY}"))
    assert outcome_of(destination(receiver.url, headers={"x-key": CANARY})) == Delivered(1, "refused for ***")
    assert outcome_of(by_grpc(receiver, headers={"x-key": CANARY})) == Delivered(1, "refused for ***")


@pytest.mark.parametrize("body", [b"ok", b"\xff\xff", b"{", b"[1]", b'{"partialSuccess": {"rejectedSpans": "many"}}'])
@pytest.mark.parametrize("kind", ["application/json", "application/x-protobuf", "text/plain"])
def test_success_said_in_any_other_way_is_success(receiver: OtlpReceiver, body: bytes, kind: str) -> None:
    receiver.answer_with(status(200, body, {"Content-Type": kind}))
    assert outcome_of(destination(receiver.url)) == Delivered()


def test_json_is_read_whatever_was_asked(receiver: OtlpReceiver) -> None:
    receiver.answer_with(status(200, b' {"partialSuccess": {"rejectedSpans": 3}}'))
    assert outcome_of(destination(receiver.url)) == Delivered(3)
    assert partial_json(b'{"partial_success": {"rejected_spans": "4", "error_message": "m"}}') == (4, "m")
    assert partial_json(b'{"partialSuccess": null}') == (0, "")
    assert partial_json(b"[" * 100_000) == (0, "")


def test_failures_are_the_senders(receiver: OtlpReceiver) -> None:
    receiver.answer_with(status(503, headers={"Retry-After": "3"}))
    outcome = outcome_of(destination(receiver.url, kind="jaeger"))
    assert isinstance(outcome, Retry)
    assert outcome.after_s == 3.0
    assert outcome.reason.startswith("Jaeger at 127.0.0.1")


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json", "grpc"])
def test_connection_test_is_one_span(receiver: OtlpReceiver, protocol: str) -> None:
    made = by_grpc(receiver) if protocol == "grpc" else destination(receiver.url, protocol=protocol)
    assert made.test_connection(30) == Delivered()
    made.close()
    assert receiver.spans == [TEST_SPAN]


def test_the_test_span_names_the_destinations_project(receiver: OtlpReceiver) -> None:
    probe = otlp.connection_test_span({"openinference.project.name": "support"})
    assert (probe.name, probe.kind, probe.attributes) == ("spancast-connection-test", 1, {})
    assert (probe.trace_id, probe.span_id) == TEST_SPAN
    assert probe.resource.attributes == {"service.name": "spancast", "openinference.project.name": "support"}


@pytest.mark.parametrize("kind", OTLP_VENDORS)
def test_every_vendor_is_reached_with_its_headers(receiver: OtlpReceiver, kind: str) -> None:
    row = OTLP_VENDORS[kind]
    told: Any = config(kind, **{URLS.get(kind, "base_url"): receiver.url})
    made = otlp_config.create_vendor(told, VIEW)
    assert made.deliver(payload(), 30) == Delivered()
    assert made.test_connection(30) == Delivered()
    made.close()
    assert made.encoder is VIEW
    batch, test = receiver.requests
    wanted: Mapping[str, str] = otlp_config.target(row, told).headers
    assert {name: batch.headers[name.lower()] for name in wanted} == wanted
    assert batch.path == (row.path if kind != "sentry" else "/v1/traces")
    assert batch.is_gzip
    assert batch.body == payload().protobuf
    [spans] = ExportTraceServiceRequest.FromString(test.body).resource_spans
    resource = {pair.key: pair.value.string_value for pair in spans.resource.attributes}
    assert resource == {"service.name": "spancast", **otlp_config.target(row, told).resource}


# Which protocol.


@pytest.mark.parametrize(
    ("kind", "told", "wanted"),
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
def test_the_port_chooses_where_nothing_else_does(kind: str, told: dict[str, Any], wanted: type) -> None:
    chosen: Any = config(kind, **told)
    made = otlp_config.create(chosen, VIEW)
    assert type(made) is wanted
    made.close()


# gRPC.


def test_a_batch_arrives_by_grpc(receiver: OtlpReceiver) -> None:
    for compression in ("gzip", "none"):
        assert outcome_of(by_grpc(receiver, compression=compression, headers={"X-Key": CANARY})) == Delivered()
    assert receiver.spans == SENT * 2
    packed, plain = receiver.requests
    assert packed.body == plain.body == payload().protobuf
    assert packed.headers["x-key"] == CANARY


@pytest.mark.parametrize(
    "code", ["CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"]
)
def test_what_may_pass_is_tried_again_by_grpc(receiver: OtlpReceiver, code: str) -> None:
    receiver.answer_with(grpc_status(code, f"busy {CANARY}"))
    outcome = outcome_of(by_grpc(receiver, headers={"x-key": CANARY}))
    assert outcome == Retry(f"OTLP at {receiver.grpc_target} (gRPC): {code} (busy ***)")


@pytest.mark.parametrize("code", ["UNAUTHENTICATED", "PERMISSION_DENIED"])
def test_refused_credentials_may_be_restored(receiver: OtlpReceiver, code: str) -> None:
    receiver.answer_with(grpc_status(code))
    outcome = outcome_of(by_grpc(receiver))
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
def test_what_will_not_pass_is_refused_by_grpc(receiver: OtlpReceiver, code: str, invalid_content: bool) -> None:
    receiver.answer_with(grpc_status(code, "no"))
    where = f"OTLP at {receiver.grpc_target} (gRPC)"
    assert outcome_of(by_grpc(receiver)) == Rejected(f"{where}: {code} (no)", invalid_content=invalid_content)


@pytest.mark.parametrize(("asked_s", "seconds"), [(2.5, 2.5), (0, 0.0), (-3, 0.0), (100_000, 3600.0)])
def test_retry_info_is_honoured(receiver: OtlpReceiver, asked_s: float, seconds: float) -> None:
    for code in ("RESOURCE_EXHAUSTED", "UNAVAILABLE"):
        receiver.answer_with(grpc_status(code, retry_s=asked_s))
        outcome = outcome_of(by_grpc(receiver))
        assert isinstance(outcome, Retry)
        assert outcome.after_s == seconds


def test_details_that_are_none_of_ours_are_nothing() -> None:
    class Item:
        key = "grpc-status-details-bin"
        value = b"\xff"

    assert retry_delay_s([Item()]) is None
    Item.value = b""
    assert retry_delay_s([Item()]) is None
    assert retry_delay_s(None) is None


def test_a_message_too_large_asks_for_halves(receiver: OtlpReceiver) -> None:
    """The limit is gRPC's own; the server takes a megabyte."""
    made = by_grpc(receiver, compression="none")
    large = payload(list(_long_spans()))
    outcome = made.deliver(large, 30)
    made.close()
    assert isinstance(outcome, Rejected)
    assert outcome.too_large
    assert receiver.requests == []


def _long_spans() -> Iterator[Any]:
    from tests.destinations.spans import span

    yield span("long", 1, attributes={"text": "x" * 2_000_000})


def test_an_answer_that_never_comes_ends_in_time_by_grpc(receiver: OtlpReceiver) -> None:
    receiver.answer_with(hold(takes=False), ok())
    made = by_grpc(receiver)
    outcome = made.deliver(payload(), 0.3)
    assert isinstance(outcome, Retry)
    assert "DEADLINE_EXCEEDED" in outcome.reason
    receiver.release()
    assert outcome_of(made) == Delivered()


def test_a_lost_connection_is_tried_again(receiver: OtlpReceiver) -> None:
    receiver.answer_with(cut(takes=True), ok())
    made = by_grpc(receiver)
    assert isinstance(made.deliver(payload(), 30), Retry)
    assert outcome_of(made) == Delivered()


def test_nobody_there_is_tried_again_by_grpc() -> None:
    outcome = outcome_of(destination("http://127.0.0.1:1", protocol="grpc"))
    assert isinstance(outcome, Retry)
    assert "UNAVAILABLE" in outcome.reason


def test_headers_from_is_asked_again_by_grpc(receiver: OtlpReceiver) -> None:
    keys = iter(["old", "new"])

    def by_key(request: Request) -> Reply:
        return ok() if request.headers["x-key"] == "new" else grpc_status("UNAUTHENTICATED")

    receiver.answer_with(ok(), by_key)
    made = by_grpc(receiver, headers_from=lambda: {"X-Key": next(keys)})
    assert [made.deliver(payload(), 30), outcome_of(made)] == [Delivered(), Delivered()]
    assert [request.headers["x-key"] for request in receiver.requests] == ["old", "old", "new"]


def test_tls_by_grpc(tmp_path: Path) -> None:
    identity = certificate(tmp_path)
    with OtlpReceiver(tls=identity) as receiver:
        endpoint = f"https://{receiver.grpc_target}"
        assert outcome_of(destination(endpoint, protocol="grpc", ca_file=identity.cert)) == Delivered()
        outcome = outcome_of(destination(endpoint, protocol="grpc"))
        assert isinstance(outcome, Retry)
        assert "UNAVAILABLE" in outcome.reason
        with pytest.raises(ConfigError, match="gRPC always checks certificates"):
            destination(endpoint, protocol="grpc", verify=False)


def test_a_grpc_destination_shows_no_credential(receiver: OtlpReceiver) -> None:
    made = by_grpc(receiver, headers={"authorization": f"Bearer {CANARY}"})
    receiver.answer_with(grpc_status("INVALID_ARGUMENT", f"Bearer {CANARY} or {CANARY}"))
    assert CANARY not in f"{made!r} {outcome_of(made)!r}"


FORK = """
import os, sys
from tests.destinations.configs import config
from tests.destinations.payloads import VIEW, payload
from spancast.destinations import otlp_config
from spancast.destinations.protocol import Delivered

made = otlp_config.create(config("otlp", endpoint=sys.argv[1], protocol="grpc", timeout=60), VIEW)
assert made.deliver(payload(), 60) == Delivered()
child = os.fork()
if child == 0:
    outcome = made.deliver(payload(), 60)
    made.close()
    print(outcome, flush=True)
    os._exit(0 if outcome == Delivered() else 1)
assert os.waitpid(child, 0)[1] == 0
assert made.deliver(payload(), 60) == Delivered()
"""


def test_a_child_calls_by_a_channel_of_its_own(receiver: OtlpReceiver) -> None:
    """In a process of its own: gRPC forks only where no server of it runs."""
    endpoint = f"http://{receiver.grpc_target}"
    done = subprocess.run(
        [sys.executable, "-c", FORK, endpoint],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["src", "."])},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    first, child, last = (request.connection for request in receiver.requests)
    assert first == last != child


@pytest.mark.parametrize(
    ("kind", "told", "wanted"),
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
def test_what_stays_on_this_machine_is_not_compressed_unasked(kind: str, told: dict[str, Any], wanted: str) -> None:
    chosen: Any = config(kind, **told)
    assert chosen.effective_compression == wanted


def test_compression_follows_the_place(receiver: OtlpReceiver) -> None:
    made = otlp_config.create(cast("Any", config("otlp", endpoint=receiver.url)), VIEW)
    assert made.deliver(payload(), 30) == Delivered()
    made.close()
    assert not receiver.requests[0].is_gzip
