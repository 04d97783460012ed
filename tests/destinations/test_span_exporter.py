"""Tests of the ``exporter`` destination: an installed ``SpanExporter`` receives spans equal to the ended ones."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode
from tests.export.pipelines import pipeline_to, report_when

from spancast.destinations import registry
from spancast.destinations.protocol import Delivered, Retry
from spancast.diagnostics import reraise_internal_errors
from spancast.errors import ConfigError


class CollectingExporter(SpanExporter):
    """An exporter whose first export fails."""

    instances: list[CollectingExporter] = []  # noqa: RUF012 - read by the tests

    def __init__(self, project: str = "") -> None:
        self.project = project
        self.spans: list[ReadableSpan] = []
        self.answers = [SpanExportResult.FAILURE]
        self.instances.append(self)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self.answers:
            return self.answers.pop()
        self.spans.extend(spans)
        return SpanExportResult.SUCCESS


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Add an installed package with an entry point."""
    module = ModuleType("collecting_exporter")
    module.CollectingExporter = CollectingExporter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "collecting_exporter", module)
    info = tmp_path / "site" / "collecting-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: collecting\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[opentelemetry_traces_exporter]\ncollecting = collecting_exporter:CollectingExporter\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    CollectingExporter.instances.clear()


def assert_equal(left: ReadableSpan, right: ReadableSpan) -> None:
    for name in ("name", "kind", "start_time", "end_time", "parent", "status", "resource", "instrumentation_scope"):
        assert _comparable(getattr(left, name)) == _comparable(getattr(right, name)), name
    assert _comparable(left.get_span_context()) == _comparable(right.get_span_context())
    assert dict(left.attributes or {}) == dict(right.attributes or {})
    assert [(e.name, e.timestamp, dict(e.attributes or {})) for e in left.events] == [
        (e.name, e.timestamp, dict(e.attributes or {})) for e in right.events
    ]
    assert [(_comparable(link.context), dict(link.attributes or {})) for link in left.links] == [
        (_comparable(link.context), dict(link.attributes or {})) for link in right.links
    ]


def _comparable(value: Any) -> Any:
    if isinstance(value, SpanContext):
        # The OTLP encoder sends only the flag "is remote"; all spans here are sampled.
        return value.trace_id, value.span_id, value.is_remote, value.trace_state, value.trace_flags.sampled
    return (value.status_code, value.description) if hasattr(value, "status_code") else value


def test_export_passes_spans_equal_to_the_ended_ones(installed: None, tmp_path: Path) -> None:
    expected = InMemorySpanExporter()
    pipeline = pipeline_to({"other": {"type": "exporter", "exporter": "collecting", "options": {"project": "p"}}}, None)
    provider = TracerProvider(
        resource=Resource({"service.name": "x", "list": ["a"]}, "https://schema"), shutdown_on_exit=False
    )
    provider.add_span_processor(SimpleSpanProcessor(expected))
    provider.add_span_processor(pipeline.processor)
    tracer = provider.get_tracer("scope", "2", "https://other", {"k": 1})
    with tracer.start_as_current_span(
        "outer", kind=SpanKind.CLIENT, attributes={"a": [1, 2], "b": True, "c": 1.5}
    ) as outer:
        outer.add_event("event", {"k": "v"})
        with tracer.start_as_current_span("inner", links=[Link(outer.get_span_context(), {"l": "m"})]) as inner:
            inner.set_status(StatusCode.ERROR, "why")
    assert pipeline.flush(30)
    exporter = CollectingExporter.instances[-1]
    assert exporter.project == "p"
    for actual, wanted in zip(exporter.spans, expected.get_finished_spans(), strict=True):
        assert_equal(actual, wanted)
    pipeline.shutdown()


def test_export_that_raises_is_retried(installed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def export(self: CollectingExporter, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        raise OSError("a key in a text")

    former = reraise_internal_errors(enabled=False)
    monkeypatch.setattr(CollectingExporter, "export", export)
    pipeline = pipeline_to({"other": {"type": "exporter", "exporter": "collecting"}}, None)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(pipeline.processor)
    provider.get_tracer("x").start_span("y").end()
    report = report_when(pipeline.flush, lambda report: report.destinations["other"].last_error)
    assert report.destinations["other"].queued == 1
    assert report.destinations["other"].last_error == "exporter collecting: it raised OSError"
    pipeline.shutdown(0.1)
    reraise_internal_errors(enabled=former)


def test_unknown_or_failing_exporter_raises_config_error(installed: None) -> None:
    with pytest.raises(
        ConfigError, match=r"destinations\.other: exporter: unknown exporter 'nothing'; installed are .*collecting"
    ):
        pipeline_to({"other": {"type": "exporter", "exporter": "nothing"}}, None)
    with pytest.raises(ConfigError, match="collecting cannot be created: TypeError"):
        pipeline_to({"other": {"type": "exporter", "exporter": "collecting", "options": {"no": 1}}}, None)


def test_connection_test_exports_an_empty_batch(installed: None) -> None:
    """An export without spans fails if the endpoint is unreachable, and sends no artificial span."""
    config = registry.config_model("exporter").model_validate({"type": "exporter", "exporter": "collecting"})
    destination = registry.create(config, "other")
    (exporter,) = CollectingExporter.instances
    assert destination.test_connection(1) == Retry("exporter collecting: failure")
    assert destination.test_connection(1) == Delivered()
    assert exporter.spans == []


@pytest.mark.parametrize("answer", [False, OSError("a key in a text")], ids=["refused", "raised"])
def test_connection_test_with_failing_force_flush_is_retried(
    installed: None, monkeypatch: pytest.MonkeyPatch, answer: object
) -> None:

    def force_flush(self: CollectingExporter, timeout_millis: int = 30_000) -> bool:
        if isinstance(answer, OSError):
            raise answer
        return bool(answer)

    monkeypatch.setattr(CollectingExporter, "force_flush", force_flush)
    config = registry.config_model("exporter").model_validate({"type": "exporter", "exporter": "collecting"})
    destination = registry.create(config, "other")
    CollectingExporter.instances[0].answers.clear()
    former = reraise_internal_errors(enabled=False)
    assert destination.test_connection(1) == Retry("exporter collecting: force_flush failed")
    reraise_internal_errors(enabled=former)
