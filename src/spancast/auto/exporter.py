"""Spancast as a ``SpanExporter``: ``OTEL_TRACES_EXPORTER=spancast`` in any application.

The destinations are those of the file that ``SPANCAST_CONFIG`` names, else the OTLP endpoint of OpenTelemetry's
variables, else the local store.
"""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from spancast import settings, wiring
from spancast.errors import RaisedAsConfigError, SpancastError, logger, tally


class SpancastExporter(SpanExporter):
    """Hands spans to the present broadcast; those that reached it as a processor are not taken twice."""

    def __init__(self) -> None:
        """Configure, if spancast is not yet. A mistake is logged: it must not stop the provider that is being made."""
        if wiring.present() is None:
            try:
                with RaisedAsConfigError("configure"):
                    given = settings.load()
                    wiring.replace_broadcast(settings.in_effect(given, has_other_exporters=True) or given)
            except SpancastError as error:
                logger.error("spancast: not configured, so no span is exported: %s", error)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Queue ``spans``; what became of them is in ``spancast.stats()``."""
        if wiring.present() is None:
            tally.add("handed_over", len(spans))
            tally.add("dropped.not_configured", len(spans))
            return SpanExportResult.FAILURE
        for span in spans:
            wiring.hand_over(span)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Shut the broadcast down."""
        wiring.remove_broadcast()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Deliver; true only where nothing waits and nothing was lost."""
        broadcast = wiring.present()
        return broadcast is None or bool(broadcast.flush(timeout_millis / 1000))
