"""The ``SpanExporter`` of ``OTEL_TRACES_EXPORTER=spancast``, for any application.

The destinations are those of the file that ``SPANCAST_CONFIG`` names or of ``./spancast.yaml``, else the OTLP endpoint
of OpenTelemetry's variables, else the local store.
"""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from spancast.config import settings
from spancast.diagnostics import RaisedAsConfigError, counters
from spancast.errors import SpancastError

# The exit hooks of this module must run after those of the provider, so it is imported before the provider is made.
from spancast.export.pipeline import ExportPipeline
from spancast.export.worker_thread import CURRENT_THREAD
from spancast.model.semconv import SCOPE_NAME
from spancast.runtime import RUNTIME


class SpancastExporter(SpanExporter):
    """An exporter to the current pipeline; spans that its processor already queued are not queued twice."""

    def __init__(self) -> None:
        """Configure spancast if needed. Errors are logged: the provider under construction must not fail."""
        if RUNTIME.pipeline is None:
            try:
                with RaisedAsConfigError("configure"):
                    found = settings.find()
                    given = settings.load(found)
                    effective = settings.in_effect(given, has_other_exporters=True) or given
                    RUNTIME.start_pipeline(effective)
                    RUNTIME.print_once(settings.summary(given, effective, found))
            except SpancastError as error:
                RUNTIME.log_once(error)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Queue ``spans``; ``spancast.stats()`` reports their delivery."""
        pipeline: ExportPipeline | None = RUNTIME.pipeline
        if pipeline is None:
            counters.add("received", len(spans))
            counters.add("dropped", len(spans), reason="not_configured")
            return SpanExportResult.FAILURE
        for span in spans:
            # The thread that started the span is unknown. If it ends on a worker thread it is a span of our own
            # export, unless it is a call.
            scope = span.instrumentation_scope
            if not CURRENT_THREAD.is_worker or (scope is not None and scope.name == SCOPE_NAME):
                pipeline.span_queue.on_end(span)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Shut down the pipeline."""
        RUNTIME.stop_pipeline()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Deliver queued spans; return True only if none is left and none was lost."""
        pipeline = RUNTIME.pipeline
        return pipeline is None or bool(pipeline.flush(timeout_millis / 1000))
