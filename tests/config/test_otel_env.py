"""OpenTelemetry's variables: the endpoints and exporters they name become spancast destinations with a spool."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from tests.destinations.otlp_receiver import OtlpReceiver, Reply, certificate, hold, ok, redirect, status

import spancast
from spancast import runtime
from spancast.cli import main
from spancast.config import settings

TIMEOUT_S = 30.0
CANARY = "hunter2-canary"


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as running:
        yield running


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in [*os.environ]:
        if name.startswith(("OTEL_", "SPANCAST_")):
            monkeypatch.delenv(name)
    yield
    spancast.shutdown(1)


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> Any:
    def set_all(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"OTEL_{name}", value)

    return set_all


def one_span(name: str = "kept") -> None:
    with spancast.trace(trace_name=name):
        pass


def destinations() -> Mapping[str, Any]:
    effective = settings.in_effect(settings.load())
    assert effective is not None
    return effective.destinations


FAULTS: dict[str, tuple[Reply | None, str]] = {
    "401": (status(401), "HTTP 401: invalid credentials"),
    "500": (status(500, b"out of order"), "HTTP 500 (out of order)"),
    "unreachable": (None, "Connection refused"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_otlp_endpoint_down_flush_fails_then_all_spans_arrive(fault: str, variables: Any) -> None:
    reply, reason = FAULTS[fault]
    with OtlpReceiver() as failing:
        variables(EXPORTER_OTLP_ENDPOINT=failing.url)
        spancast.configure()
        if reply is not None:
            failing.answer_with(reply)
            one_span()
            report = spancast.flush(0.5)
    if reply is None:
        one_span()
        report = spancast.flush(0.5)
    assert not report
    assert report.destinations["otlp"].queued == 1
    assert reason in str(report)
    with OtlpReceiver(port=failing.port) as back:
        assert spancast.flush(TIMEOUT_S)
        assert len(back.spans) == 1


def test_otlp_redirect_flush_fails_and_spans_can_be_requeued(receiver: OtlpReceiver, variables: Any) -> None:
    variables(EXPORTER_OTLP_ENDPOINT=receiver.url)
    spancast.configure()
    receiver.answer_with(redirect("https://login.test/sso", 302), ok())
    one_span()
    report = spancast.flush(TIMEOUT_S)
    assert not report
    assert "1 dead-lettered" in str(report)
    assert "HTTP 302, redirect to login.test/sso" in str(report)
    spancast.shutdown(TIMEOUT_S)
    assert main(["spool", "requeue"]) == 0
    assert len(receiver.spans) == 1


PROGRAM = """
import spancast, sys
spancast.configure()
with spancast.trace(trace_name=sys.argv[1]):
    pass
"""


def test_otlp_spans_of_ended_process_are_delivered_by_next_process(variables: Any) -> None:
    with OtlpReceiver() as gone:
        variables(EXPORTER_OTLP_ENDPOINT=gone.url)
    run = [sys.executable, "-c", PROGRAM]
    subprocess.run([*run, "first"], check=True, timeout=60)
    with OtlpReceiver(port=gone.port) as back:
        subprocess.run([*run, "second"], check=True, timeout=60)
        assert len(back.spans) == 2


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ({"EXPORTER_OTLP_ENDPOINT": "{}"}, "/v1/traces"),
        ({"EXPORTER_OTLP_ENDPOINT": " {}/ "}, "/v1/traces"),
        ({"EXPORTER_OTLP_ENDPOINT": "{}/otlp/"}, "/otlp/v1/traces"),
        ({"EXPORTER_OTLP_ENDPOINT": "{}/v1/traces"}, "/v1/traces"),
        ({"EXPORTER_OTLP_TRACES_ENDPOINT": "{}/ingest"}, "/ingest"),
        ({"EXPORTER_OTLP_TRACES_ENDPOINT": "{}/ingest/?a=b"}, "/ingest/?a=b"),
        ({"EXPORTER_OTLP_TRACES_ENDPOINT": "{}"}, "/"),
        (
            {"EXPORTER_OTLP_ENDPOINT": "http://other.test:1", "EXPORTER_OTLP_TRACES_ENDPOINT": "{}/v1/traces"},
            "/v1/traces",
        ),
        ({"EXPORTER_OTLP_ENDPOINT": "{}", "EXPORTER_OTLP_TRACES_ENDPOINT": ""}, "/v1/traces"),
        ({"TRACES_EXPORTER": "otlp", "EXPORTER_OTLP_ENDPOINT": "{}"}, "/v1/traces"),
        ({"TRACES_EXPORTER": "otlp_proto_http", "EXPORTER_OTLP_ENDPOINT": "{}"}, "/v1/traces"),
        ({"TRACES_EXPORTER": "spancast", "EXPORTER_OTLP_ENDPOINT": "{}"}, "/v1/traces"),
    ],
)
def test_otlp_endpoint_path(values: dict[str, str], path: str, receiver: OtlpReceiver, variables: Any) -> None:
    variables(**{name: value.format(receiver.url) for name, value in values.items()})
    spancast.configure()
    one_span()
    assert spancast.flush(TIMEOUT_S)
    assert [request.path for request in receiver.requests] == [path]
    assert len(receiver.spans) == 1


@pytest.mark.parametrize(
    ("protocol", "content_type"), [("http/json", "application/json"), ("http/protobuf", "application/x-protobuf")]
)
def test_otlp_http_protocol(protocol: str, content_type: str, receiver: OtlpReceiver, variables: Any) -> None:
    variables(
        EXPORTER_OTLP_ENDPOINT=receiver.url, EXPORTER_OTLP_PROTOCOL="grpc", EXPORTER_OTLP_TRACES_PROTOCOL=protocol
    )
    spancast.configure()
    one_span()
    assert spancast.flush(TIMEOUT_S)
    assert receiver.requests[0].headers["content-type"] == content_type


@pytest.mark.parametrize(
    "values",
    [
        {"EXPORTER_OTLP_ENDPOINT": "http://{}", "EXPORTER_OTLP_PROTOCOL": "grpc"},
        {"EXPORTER_OTLP_ENDPOINT": "http://{}", "TRACES_EXPORTER": "otlp_proto_grpc"},
        {"EXPORTER_OTLP_ENDPOINT": "{}", "EXPORTER_OTLP_PROTOCOL": "grpc", "EXPORTER_OTLP_INSECURE": "true"},
    ],
)
def test_otlp_grpc_delivers(values: dict[str, str], receiver: OtlpReceiver, variables: Any) -> None:
    variables(
        **{name: value.format(receiver.grpc_target) for name, value in values.items()},
        EXPORTER_OTLP_HEADERS=f"Authorization=Bearer%20{CANARY}",
    )
    spancast.configure()
    one_span()
    report = spancast.flush(TIMEOUT_S)
    assert report, str(report)
    [request] = receiver.requests
    assert (request.method, request.headers["authorization"]) == ("gRPC", f"Bearer {CANARY}")


def test_otlp_grpc_without_scheme_uses_tls_unless_insecure(variables: Any) -> None:
    variables(EXPORTER_OTLP_ENDPOINT="collector:4317", EXPORTER_OTLP_PROTOCOL="grpc")
    assert destinations()["otlp"].endpoint == "https://collector:4317"


@pytest.mark.parametrize(
    ("values", "endpoint", "protocol"),
    [
        ({"TRACES_EXPORTER": "otlp"}, "http://localhost:4318", "http/protobuf"),
        ({"TRACES_EXPORTER": "otlp", "EXPORTER_OTLP_PROTOCOL": "grpc"}, "http://localhost:4317", "grpc"),
        ({"EXPORTER_OTLP_ENDPOINT": "http://h:4317"}, "http://h:4317", "grpc"),
        ({"EXPORTER_OTLP_ENDPOINT": "http://h:4318"}, "http://h:4318", "http/protobuf"),
    ],
)
def test_otlp_unset_variables_use_defaults(
    values: dict[str, str], endpoint: str, protocol: str, variables: Any
) -> None:
    variables(**values)
    config = destinations()["otlp"]
    assert (config.endpoint, config.effective_protocol, config.timeout, config.spans) == (
        endpoint,
        protocol,
        10.0,
        "all",
    )


def test_otlp_traces_variables_override_general_ones(tmp_path: Path, variables: Any) -> None:
    file = certificate(tmp_path)
    variables(
        EXPORTER_OTLP_ENDPOINT="https://h",
        EXPORTER_OTLP_HEADERS="a=1,b=2", EXPORTER_OTLP_TRACES_HEADERS="b=3",
        EXPORTER_OTLP_TIMEOUT="20", EXPORTER_OTLP_TRACES_TIMEOUT="2.5",
        EXPORTER_OTLP_COMPRESSION="none", EXPORTER_OTLP_TRACES_COMPRESSION="GZIP",
        EXPORTER_OTLP_CERTIFICATE="/none", EXPORTER_OTLP_TRACES_CERTIFICATE=str(file.cert),
        EXPORTER_OTLP_CLIENT_CERTIFICATE="/none", EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE=str(file.cert),
        EXPORTER_OTLP_CLIENT_KEY="/none", EXPORTER_OTLP_TRACES_CLIENT_KEY=str(file.key),
    )  # fmt: skip
    config = destinations()["otlp"]
    assert {name: value.get_secret_value() for name, value in config.headers.items()} == {"b": "3"}
    assert (config.timeout, config.compression) == (2.5, "gzip")
    assert (config.ca_file, config.cert_file, config.key_file) == (file.cert, file.cert, file.key)


def test_otlp_server_and_client_certificates(tmp_path: Path, variables: Any) -> None:
    client, server = certificate(tmp_path / "ours"), certificate(tmp_path / "theirs")
    with OtlpReceiver(tls=server, client_ca=client.cert) as receiver:
        variables(
            EXPORTER_OTLP_ENDPOINT=receiver.url, EXPORTER_OTLP_CERTIFICATE=str(server.cert),
            EXPORTER_OTLP_CLIENT_CERTIFICATE=str(client.cert), EXPORTER_OTLP_CLIENT_KEY=str(client.key),
        )  # fmt: skip
        spancast.configure()
        one_span()
        report = spancast.flush(TIMEOUT_S)
        assert report, str(report)
        assert len(receiver.spans) == 1


def test_otlp_timeout_in_seconds_ends_delivery(receiver: OtlpReceiver, variables: Any) -> None:
    variables(EXPORTER_OTLP_ENDPOINT=receiver.url, EXPORTER_OTLP_TIMEOUT="0.2")
    spancast.configure()
    receiver.answer_with(hold())
    one_span()
    report = spancast.flush(1)
    assert "no response in time" in str(report)


def test_otlp_timeout_in_milliseconds_warns(variables: Any, caplog: pytest.LogCaptureFixture) -> None:
    variables(EXPORTER_OTLP_ENDPOINT="http://h", EXPORTER_OTLP_TIMEOUT="10000")
    assert destinations()["otlp"].timeout == 10_000
    assert "OTEL_EXPORTER_OTLP_TIMEOUT is in seconds" in caplog.text


def test_otlp_headers_are_decoded_sent_and_never_shown(
    receiver: OtlpReceiver, variables: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    variables(
        EXPORTER_OTLP_ENDPOINT=receiver.url,
        EXPORTER_OTLP_HEADERS=f"Authorization=Basic%20{CANARY}%3D%3D, x-plain = {CANARY} with spaces ,,x-key=a=b%2Cc",
    )
    receiver.answer_with(status(401, f"no such key {CANARY}==".encode()), ok())
    spancast.configure()
    one_span()
    report = spancast.flush(TIMEOUT_S)
    assert report
    headers = receiver.requests[0].headers
    assert (headers["authorization"], headers["x-plain"], headers["x-key"]) == (
        f"Basic {CANARY}==", f"{CANARY} with spaces", "a=b,c",
    )  # fmt: skip
    pipeline = runtime.RUNTIME.pipeline
    shown = [repr(destinations()), str(report), caplog.text, repr(pipeline.workers[0].route)]
    assert not [text for text in shown if CANARY in text]
    spancast.shutdown(TIMEOUT_S)
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert kept, "the spool is on disk"
    assert not [path for path in kept if CANARY.encode() in path.read_bytes()]


ERRORS: dict[str, tuple[dict[str, str], str]] = {
    "no scheme": (
        {"EXPORTER_OTLP_ENDPOINT": f"{CANARY}:4318"},
        "OTEL_EXPORTER_OTLP_ENDPOINT: must be a URL that starts with http:// or https:// and names a host",
    ),
    "no scheme, of traces": (
        {"EXPORTER_OTLP_ENDPOINT": "http://h", "EXPORTER_OTLP_TRACES_ENDPOINT": f"{CANARY}/v1/traces"},
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: must be a URL that starts",
    ),
    "another scheme": ({"EXPORTER_OTLP_ENDPOINT": f"ftp://{CANARY}"}, "OTEL_EXPORTER_OTLP_ENDPOINT: must be a URL"),
    "no host": ({"EXPORTER_OTLP_ENDPOINT": f"http:///{CANARY}"}, "OTEL_EXPORTER_OTLP_ENDPOINT: must be a URL"),
    "a bad port": ({"EXPORTER_OTLP_ENDPOINT": f"http://h:{CANARY}"}, "OTEL_EXPORTER_OTLP_ENDPOINT: must be a URL"),
    "protocol": (
        {"EXPORTER_OTLP_PROTOCOL": "carrier pigeon"},
        "OTEL_EXPORTER_OTLP_PROTOCOL: must be one of http/protobuf, http/json, grpc",
    ),
    "compression": (
        {"EXPORTER_OTLP_TRACES_COMPRESSION": "br"},
        "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION: must be one of gzip, none",
    ),
    "timeout": ({"EXPORTER_OTLP_TIMEOUT": "soon"}, "OTEL_EXPORTER_OTLP_TIMEOUT: must be a duration"),
    "a timeout below zero": ({"EXPORTER_OTLP_TIMEOUT": "-1"}, "OTEL_EXPORTER_OTLP_TIMEOUT: must be a duration"),
    "insecure": ({"EXPORTER_OTLP_INSECURE": "perhaps"}, "OTEL_EXPORTER_OTLP_INSECURE: must be true or false"),
    "certificate": (
        {"EXPORTER_OTLP_CERTIFICATE": "/no/such.pem"}, "OTEL_EXPORTER_OTLP_CERTIFICATE: must name a file that exists",
    ),
    "a key without its certificate": (
        {"EXPORTER_OTLP_CLIENT_KEY": __file__}, "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE: is missing",
    ),
    "a header without a name": (
        {"EXPORTER_OTLP_HEADERS": f"a=1,Bearer {CANARY}"},
        "OTEL_EXPORTER_OTLP_HEADERS: entry 2 must be `name=value`, separated by commas, values percent-encoded",
    ),
    "a credential that looks like a name": ({"EXPORTER_OTLP_HEADERS": f"{CANARY}="}, "entry 1 must be `name=value`"),
    "a header that is not UTF-8": ({"EXPORTER_OTLP_HEADERS": f"a={CANARY}%ff"}, "OTEL_EXPORTER_OTLP_HEADERS: entry 1"),
    "a header with a line break": ({"EXPORTER_OTLP_HEADERS": f"a={CANARY}%0Ab"}, "OTEL_EXPORTER_OTLP_HEADERS: must not"),
    "an unknown exporter": (
        {"TRACES_EXPORTER": "jaeger,otlp"}, "OTEL_TRACES_EXPORTER: unknown exporter 'jaeger'; installed are console",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_otlp_invalid_variable_error_names_variable_without_value(case: str, variables: Any) -> None:
    values, message = ERRORS[case]
    variables(**{"EXPORTER_OTLP_ENDPOINT": "http://h:4318", **values})
    with pytest.raises(spancast.ConfigError) as error:
        spancast.configure()
    assert message in str(error.value)
    assert CANARY not in str(error.value)


def test_otlp_all_errors_are_listed(variables: Any) -> None:
    variables(TRACES_EXPORTER="otlp,jaeger", EXPORTER_OTLP_ENDPOINT="h:4318", EXPORTER_OTLP_COMPRESSION="br")
    with pytest.raises(spancast.ConfigError, match="3 errors"):
        spancast.configure()


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({}, []),
        ({"TRACES_EXPORTER": " otlp , none,otlp", "EXPORTER_OTLP_ENDPOINT": "http://h"}, ["otlp"]),
        ({"TRACES_EXPORTER": "console"}, ["console"]),
        ({"TRACES_EXPORTER": "otlp,console"}, ["otlp", "console"]),
        ({"TRACES_EXPORTER": "spancast"}, []),
    ],
)
def test_in_effect_named_exporters(values: dict[str, str], names: list[str], variables: Any) -> None:
    variables(**values)
    assert list(destinations()) == names


@pytest.mark.parametrize(
    "values",
    [{"TRACES_EXPORTER": "none", "EXPORTER_OTLP_ENDPOINT": "not read"}, {"SDK_DISABLED": "True"}],
    ids=["none", "disabled"],
)
def test_in_effect_none_exporter_or_disabled_sdk_sends_nothing(
    values: dict[str, str], variables: Any, tmp_path: Path
) -> None:
    variables(**values)
    spancast.configure()
    one_span()
    assert spancast.flush(TIMEOUT_S).destinations == {}
    assert list(tmp_path.iterdir()) == []


def test_in_effect_disabled_sdk_ignores_destinations(receiver: OtlpReceiver, variables: Any, tmp_path: Path) -> None:
    variables(SDK_DISABLED="true")
    spancast.configure(destinations={"one": {"type": "otlp", "endpoint": receiver.url}})
    one_span()
    assert spancast.flush(TIMEOUT_S)
    assert (receiver.requests, list(tmp_path.iterdir())) == ([], [])


def test_console_exporter_prints_spans_of_own_process(tmp_path: Path, variables: Any) -> None:
    """Its address is unknown, so no span stays in a spool from which another process would print it."""
    variables(TRACES_EXPORTER="console")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "printed"], check=True, timeout=60, capture_output=True, text=True
    )
    assert '"name": "printed"' in done.stdout
    assert not list(tmp_path.rglob("spool*"))


def test_in_effect_destinations_ignore_unnamed_endpoint(receiver: OtlpReceiver, variables: Any) -> None:
    variables(EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    spancast.configure(destinations={"otlp": {"type": "otlp", "endpoint": receiver.url}}, spool="memory")
    one_span()
    report = spancast.flush(TIMEOUT_S)
    assert report
    assert list(report.destinations) == ["otlp"]


def test_in_effect_named_exporter_is_added_to_destinations(receiver: OtlpReceiver, variables: Any) -> None:
    variables(TRACES_EXPORTER="otlp", EXPORTER_OTLP_ENDPOINT=f"{receiver.url}/second")
    spancast.configure(destinations={"otlp": {"type": "otlp", "endpoint": receiver.url}}, spool="memory")
    one_span()
    assert spancast.flush(TIMEOUT_S)
    assert sorted(request.path for request in receiver.requests) == ["/second/v1/traces", "/v1/traces"]


def test_in_effect_own_provider_exports_are_not_duplicated(receiver: OtlpReceiver, variables: Any) -> None:
    variables(EXPORTER_OTLP_ENDPOINT=receiver.url, TRACES_EXPORTER="otlp")
    spancast.configure(tracer_provider=TracerProvider(shutdown_on_exit=False))
    one_span()
    assert spancast.flush(TIMEOUT_S).destinations == {}


def test_configure_again_uses_new_variables(receiver: OtlpReceiver, variables: Any) -> None:
    variables(EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    spancast.configure()
    variables(EXPORTER_OTLP_ENDPOINT=receiver.url)
    spancast.configure()
    one_span()
    assert spancast.flush(TIMEOUT_S)
    assert len(receiver.spans) == 1


def test_check_tests_destinations_of_variables(
    receiver: OtlpReceiver, variables: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    variables(EXPORTER_OTLP_ENDPOINT=receiver.url)
    assert main(["check"]) == 0
    assert "otlp (otlp)" in capsys.readouterr().out
    variables(EXPORTER_OTLP_ENDPOINT="h:4318")
    assert main(["check"]) == 1
    assert "OTEL_EXPORTER_OTLP_ENDPOINT: must be a URL" in capsys.readouterr().err
