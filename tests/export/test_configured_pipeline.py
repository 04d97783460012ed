"""``configure`` with destinations, from the application's side: the spans that arrive and the reports."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace as trace_api
from opentelemetry.instrumentation.urllib3 import URLLib3Instrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from tests.destinations.otlp_receiver import OtlpReceiver, ok, status
from tests.export.pipelines import PATIENCE_S, report_when
from tests.ports import own_port

import spancast
from spancast import runtime

ROOT = Path(__file__).parents[1]


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as running:
        yield running


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "SPANCAST_CONFIG", "OTEL_TRACES_SAMPLER"):
        monkeypatch.delenv(name, raising=False)
    yield
    spancast.shutdown(1)


def to(receiver: OtlpReceiver, **more: Any) -> dict[str, Any]:
    return {"one": {"type": "otlp", "endpoint": receiver.url, "spans": "all", **more}}


def test_configure_keywords_override_file(receiver: OtlpReceiver, tmp_path: Path) -> None:
    file = tmp_path / "spancast.yaml"
    file.write_text(
        f"service_name: from-file\nspool: memory\n"
        f"destinations:\n  one: {{type: otlp, endpoint: '{receiver.url}', spans: all}}\n"
    )
    spancast.configure(file, service_name="from-keyword")
    with spancast.trace(trace_name="kept"):
        pass
    assert spancast.flush(PATIENCE_S)
    assert b"from-keyword" in receiver.requests[0].body
    assert len(receiver.spans) == 1


def test_configure_twice_delivers_once(receiver: OtlpReceiver) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    for _ in range(3):
        spancast.configure(tracer_provider=provider, spool="memory", destinations=to(receiver))
    provider.get_tracer("app").start_span("once").end()
    assert spancast.flush(PATIENCE_S)
    assert len(receiver.spans) == 1
    spancast.configure(tracer_provider=provider)
    provider.get_tracer("app").start_span("not to be sent").end()
    assert spancast.flush(PATIENCE_S)
    assert len(receiver.spans) == 1


def test_unsampled_remote_parent_does_not_stop_export(receiver: OtlpReceiver) -> None:
    spancast.configure(
        spool="memory", destinations={**to(receiver), "obeys": {**to(receiver)["one"], "respect_parent_sampling": True}}
    )
    remote = SpanContext(0xABC, 0xDEF, is_remote=True, trace_flags=TraceFlags(0))
    with trace_api.use_span(NonRecordingSpan(remote)):
        provider = runtime.CALL_TRACER.settings.tracer_provider
        assert provider is not None
        provider.get_tracer("spancast").start_span("chat").end()
    report = spancast.flush(PATIENCE_S)
    assert (report.destinations["one"].delivered, report.destinations["obeys"].delivered) == (1, 0)
    assert spancast.stats().destinations["obeys"].sampled_out >= 1


def test_health_as_metrics(receiver: OtlpReceiver) -> None:
    reader = InMemoryMetricReader()
    receiver.answer_with(ok(), status(400))
    spancast.configure(
        tracer_provider=(provider := TracerProvider(shutdown_on_exit=False)),
        meter_provider=MeterProvider([reader], shutdown_on_exit=False),
        spool="memory", destinations=to(receiver),
    )  # fmt: skip
    before = points(reader)
    provider.get_tracer("x").start_span("taken").end()
    spancast.flush(PATIENCE_S)
    provider.get_tracer("x").start_span("refused").end()
    spancast.flush(PATIENCE_S)
    after = points(reader)

    def grown(name: str, **labels: str) -> float:
        key = (name, frozenset(labels.items()))
        return after.get(key, 0) - before.get(key, 0)

    component = {"otel.component.name": "one", "otel.component.type": "otlp"}
    ours = {"otel.component.name": "spancast", "otel.component.type": "spancast"}
    assert grown("otel.sdk.exporter.span.exported", **component) == 1
    assert grown("otel.sdk.exporter.span.exported", **component, **{"error.type": "dead_lettered"}) == 1
    assert grown("otel.sdk.processor.span.processed", **ours) == 2
    assert after["otel.sdk.exporter.span.inflight", frozenset(component.items())] == 0


def points(reader: InMemoryMetricReader) -> dict[tuple[str, frozenset[Any]], float]:
    data = reader.get_metrics_data()
    return {
        (metric.name, frozenset((point.attributes or {}).items())): point.value  # type: ignore[union-attr]
        for of_resource in (data.resource_metrics if data else ())
        for of_scope in of_resource.scope_metrics
        for metric in of_scope.metrics
        for point in metric.data.data_points
    }


def test_own_http_requests_are_not_traced(receiver: OtlpReceiver) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    URLLib3Instrumentor().instrument(tracer_provider=provider)
    try:
        spancast.configure(tracer_provider=provider, spool="memory", destinations=to(receiver))
        provider.get_tracer("x").start_span("one").end()
        assert spancast.flush(PATIENCE_S)
        assert spancast.flush(PATIENCE_S)
    finally:
        URLLib3Instrumentor().uninstrument()
    assert len(receiver.spans) == 1


def test_flush_reports_dead_destination() -> None:
    url = f"http://127.0.0.1:{own_port()}"
    spancast.configure(spool="memory", destinations={"dead": {"type": "otlp", "endpoint": url, "spans": "all"}})
    with spancast.trace(trace_name="lost"):
        pass
    report = report_when(spancast.flush, lambda report: report.destinations["dead"].queued)
    assert not report
    assert report.destinations["dead"].queued == 1
    assert "dead: 0 delivered, 1 queued" in str(report)


APPLICATION = """
from opentelemetry import trace
import openai  # a supported SDK, recorded by the entry point of spancast's own
tracer = trace.get_tracer("application")
with tracer.start_as_current_span("work"):
    pass
"""


@pytest.mark.parametrize("instrumentors", ["with", "without"])
def test_exporter_entry_point_delivers_spans(instrumentors: str, receiver: OtlpReceiver, tmp_path: Path) -> None:
    """``OTEL_TRACES_EXPORTER=spancast``; with our instrumentor in the same process, spans are exported once too."""
    file = tmp_path / "spancast.yaml"
    file.write_text(f"destinations:\n  one: {{type: otlp, endpoint: '{receiver.url}', spans: all}}\n")
    environ = {
        **os.environ, "OTEL_TRACES_EXPORTER": "spancast", "SPANCAST_CONFIG": str(file), "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
    }  # fmt: skip
    if instrumentors == "without":
        environ["OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"] = "spancast"
    program = Path(sys.executable).parent / "opentelemetry-instrument"
    done = subprocess.run(
        [str(program), sys.executable, "-c", APPLICATION],
        env=environ, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(receiver.spans) == 1, done.stderr


LAMBDA = """
import asyncio, sys
import spancast
spancast.configure(sys.argv[1])
@spancast.flush_on_return
def handler(event):
    with spancast.trace(trace_name="invocation"):
        return event
@spancast.flush_on_return(timeout_s=20)
async def failing():
    with spancast.trace(trace_name="async invocation"):
        raise KeyError("the user's own")
assert handler("same object") == "same object"
try:
    asyncio.run(failing())
except KeyError:
    print("returned", flush=True)
sys.stdin.read()
"""


def test_flush_on_return_delivers_before_freeze(receiver: OtlpReceiver, tmp_path: Path) -> None:
    """SIGSTOP right after the handler returned; no span is left for the next invocation."""
    file = tmp_path / "spancast.yaml"
    file.write_text(f"destinations:\n  one: {{type: otlp, endpoint: '{receiver.url}', spans: all}}\n")
    process = subprocess.Popen(
        [sys.executable, "-c", LAMBDA, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "returned\n"
        process.send_signal(signal.SIGSTOP)
        assert len(receiver.spans) == 2
    finally:
        process.kill()
        process.communicate()
