"""Any OpenTelemetry ``SpanExporter`` of an installed package, named as in ``OTEL_TRACES_EXPORTER``.

Its result has two values only, so a failure is always tried again.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, Literal

from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from pydantic import Field

from spancast.destinations.config import DestinationConfig
from spancast.destinations.protocol import Delivered, Outcome, Payload, RetryAfter, View
from spancast.destinations.quantities import Text
from spancast.errors import ConfigError, shielded

ENTRY_POINTS: Final = "opentelemetry_traces_exporter"
_OURSELVES: Final = "spancast"


class ExporterConfig(DestinationConfig, frozen=True):
    """An installed ``SpanExporter``."""

    type: Literal["exporter"]
    exporter: Text = Field(description="Its `opentelemetry_traces_exporter` name: `console`, `otlp_proto_grpc`, …")
    options: dict[str, Any] = Field(default_factory=dict, description="Keywords it is made with.")
    spans: Literal["llm", "all"] = Field("all", description="LLM spans and their groups only, or whole traces.")
