"""The exporters that the standard ``OTEL_*`` variables ask for, by their entry-point names."""

from __future__ import annotations

import os
from importlib.metadata import entry_points
from typing import Final

from opentelemetry.sdk.trace.export import SpanExporter

from spancast.errors import ConfigError

EXPORTER_VARIABLE: Final = "OTEL_TRACES_EXPORTER"
OURSELVES: Final = "spancast"
_GROUP: Final = "opentelemetry_traces_exporter"
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_OTLP: Final = {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}


def is_spancast_asked_for() -> bool:
    """Tell whether ``OTEL_TRACES_EXPORTER`` names spancast itself."""
    return OURSELVES in _names()


def environment_exporters() -> list[SpanExporter]:
    """Return what ``OTEL_TRACES_EXPORTER`` names, else OTLP where an endpoint is set, else nothing.

    ``otlp`` follows ``OTEL_EXPORTER_OTLP_PROTOCOL`` (``http/protobuf`` where it is not set).
    ``spancast`` is left out: a broadcast is no exporter of its own provider.

    Raises:
        ConfigError: A name or protocol is unknown; the message lists the installed ones.
    """
    return [_make(name) for name in _names() if name not in ("none", OURSELVES)]


def _names() -> list[str]:
    names = os.environ.get(EXPORTER_VARIABLE) or ("otlp" if any(map(os.environ.get, _ENDPOINTS)) else "")
    return [name.strip() for name in names.split(",") if name.strip()]


def _make(name: str) -> SpanExporter:
    if name == "otlp":
        protocol = next(filter(None, map(os.environ.get, _PROTOCOLS)), "http/protobuf")
        if protocol not in _OTLP:
            raise ConfigError(f"{_PROTOCOLS[1]}: {protocol!r} given, allowed are {', '.join(_OTLP)}")
        name = _OTLP[protocol]
    installed = {point.name: point for point in entry_points(group=_GROUP)}
    if name not in installed:
        raise ConfigError(f"{EXPORTER_VARIABLE}: {name!r} given, installed are {', '.join(sorted(installed))}")
    return installed[name].load()()
