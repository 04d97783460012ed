"""Spancast as a ``SpanExporter``: ``OTEL_TRACES_EXPORTER=spancast`` in any application.

The destinations are those of the file that ``SPANCAST_CONFIG`` names, else the OTLP endpoint of OpenTelemetry's
variables, else the local store.
"""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from spancast import wiring
from spancast.config import settings
from spancast.diagnostics import RaisedAsConfigError, counters, logger
from spancast.errors import SpancastError


class SpancastExporter(SpanExporter):
    """Hands spans to the present pipeline; those that reached it as a processor are not taken twice."""

    def __init__(self) -> None:
        """Configure, if spancast is not yet. A mistake is logged: it must not stop the provider that is being made."""
        if wiring.current_pipeline() is None:
            try:
                with RaisedAsConfigError("configure"):
                    given = settings.load()
                    wiring.start_pipeline(settings.in_effect(given, has_other_exporters=True) or given)
            except SpancastError as error:
                logger.error("spancast: not configured, so no span is exported: %s", error)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Queue ``spans``; what became of them is in ``spancast.stats()``."""
        if wiring.current_pipeline() is None:
            counters.add("received", len(spans))
            counters.add("dropped.not_configured", len(spans))
            return SpanExportResult.FAILURE
        for span in spans:
            wiring.hand_over(span)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Shut the pipeline down."""
        wiring.stop_pipeline()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Deliver; true only where nothing waits and nothing was lost."""
        pipeline = wiring.current_pipeline()
        return pipeline is None or bool(pipeline.flush(timeout_millis / 1000))
