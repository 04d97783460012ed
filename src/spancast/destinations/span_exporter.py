"""The exporter destination: an installed ``SpanExporter``, named as in ``OTEL_TRACES_EXPORTER``.

An exporter returns success or failure only, and may raise: a failure may concern one span or all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, Literal

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.trace.status import Status, StatusCode
from pydantic import Field

from spancast.destinations.config import DestinationConfig
from spancast.destinations.field_types import Text
from spancast.destinations.place import Place, plain_url, secrets_of, where_stream_goes
from spancast.destinations.protocol import Delivered, Destination, Encoder, Failed, Outcome, Payload, Retry
from spancast.diagnostics import RaisedAsConfigError, guarded, never_raise
from spancast.encoding.otlp.encode import by_origin
from spancast.encoding.span_data import SpanData, StatusName
from spancast.errors import ConfigError

ENTRY_POINTS: Final = "opentelemetry_traces_exporter"
_STATUS: Final[Mapping[StatusName, StatusCode]] = {
    "unset": StatusCode.UNSET, "ok": StatusCode.OK, "error": StatusCode.ERROR,
}  # fmt: skip
_OWN_EXPORTER: Final = "spancast"
_VARIABLES: Final = "OTEL_EXPORTER_"
_REMOTE: Final = 0x200
"""``SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK`` of OTLP."""


class ExporterConfig(DestinationConfig, frozen=True):
    """An installed ``SpanExporter``."""

    type: Literal["exporter"]
    exporter: Text = Field(description="Its `opentelemetry_traces_exporter` name: `console`, `otlp_proto_grpc`, …")
    options: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments of its constructor.")
    spans: Literal["genai", "all"] = Field("all", description="GenAI spans and group spans only, or complete traces.")

    def place(self) -> Place:
        """Return the exporter with everything that may set its address: options and variables."""
        options = {name: _comparable(value) for name, value in self.options.items()}
        variables = {name: _comparable(value) for name, value in os.environ.items() if name.startswith(_VARIABLES)}
        return Place(
            address={
                "exporter": self.exporter,
                "goes_to": where_stream_goes("stdout") if self.exporter == "console" else None,
            },
            credentials={"options": _text(options), "variables": _text(variables)},
        )


def _comparable(value: Any) -> Any:  # noqa: ANN401 - any option
    is_url = isinstance(value, str) and value.startswith(("http://", "https://"))
    return [plain_url(value), secrets_of(value)] if is_url else value


def _text(values: Mapping[str, Any]) -> str | None:
    # Objects are compared by type, which is the same in every process.
    pairs = sorted(values.items(), key=lambda pair: pair[0])
    return json.dumps(pairs, skipkeys=True, default=lambda value: type(value).__qualname__) if pairs else None


def installed_exporters() -> dict[str, EntryPoint]:
    """Return the exporters of all installed packages by name, except spancast's."""
    return {point.name: point for point in entry_points(group=ENTRY_POINTS) if point.name != _OWN_EXPORTER}


def create(config: ExporterConfig, encoder: Encoder) -> Destination:
    """Return the destination for the exporter named in ``config``.

    Raises:
        ConfigError: The exporter is not installed or cannot be created with ``options``.
    """
    installed = installed_exporters()
    if config.exporter not in installed:
        raise ConfigError(
            f"exporter: unknown exporter {config.exporter!r}; installed are {', '.join(sorted(installed))}"
        )
    # The error text may quote an option, which may be a key.
    with RaisedAsConfigError(f"exporter: {config.exporter} cannot be created", is_secret=True):
        exporter = installed[config.exporter].load()(**config.options)
    return ExporterDestination(config.exporter, exporter, encoder)


class ExporterDestination:
    """Delivers to one exporter, from one thread at a time, as its contract requires."""

    def __init__(self, name: str, exporter: SpanExporter, encoder: Encoder) -> None:
        self.encoder = encoder
        self._name = name
        self._exporter = exporter
        self._export = guarded(exporter.export, _exception_text)

    def deliver(self, payload: Payload, timeout_s: float) -> Outcome:  # noqa: ARG002 - the exporter has its own
        """Export the spans; anything but success is a failure."""
        return self._export_spans(readable_spans(payload.spans))

    def test_connection(self, timeout_s: float) -> Outcome:
        """Export an empty list: network exporters send a request for it."""
        outcome = self._export_spans([])
        if isinstance(outcome, Failed):
            return Retry(outcome.reason)
        # Exporters without a queue return None, like the SDK's default method; an exception is a failure.
        flushed = never_raise(lambda: self._exporter.force_flush(int(timeout_s * 1000)) is not False)()
        return outcome if flushed else Retry(f"exporter {self._name}: force_flush failed")

    def _export_spans(self, spans: Sequence[ReadableSpan]) -> Delivered | Failed:
        result = self._export(spans)
        if result is SpanExportResult.SUCCESS:
            return Delivered()
        # Only the type of an exception is shown: its text may quote a span or a key.
        return Failed(f"exporter {self._name}: {result if isinstance(result, str) else 'failure'}")

    def close(self) -> None:
        """Shut down the exporter."""
        never_raise(self._exporter.shutdown)()


def _exception_text(error: Exception) -> str:
    return f"it raised {type(error).__name__}"


def readable_spans(spans: Iterable[SpanData]) -> list[ReadableSpan]:
    """Return ``spans`` as spans of the SDK, for an SDK exporter."""
    readable: list[ReadableSpan] = []
    for of_resource, scopes in by_origin(spans):
        resource = Resource(_attributes(of_resource.attributes), of_resource.schema_url or None)
        for of_scope, members in scopes:
            attributes = _attributes(of_scope.attributes)
            scope = InstrumentationScope(
                of_scope.name, of_scope.version or None, of_scope.schema_url or None, attributes
            )
            readable += [_readable(span, resource, scope) for span in members]
    return readable


def _readable(span: SpanData, resource: Resource, scope: InstrumentationScope) -> ReadableSpan:
    is_remote = bool(span.flags & _REMOTE)
    parent = _context(span.trace_id, span.parent_span_id, "", is_remote=is_remote) if span.parent_span_id else None
    code = _STATUS[span.status]
    return ReadableSpan(
        name=span.name,
        context=_context(span.trace_id, span.span_id, span.trace_state),
        parent=parent,
        resource=resource,
        attributes=_attributes(span.attributes),
        events=[Event(event.name, _attributes(event.attributes), event.at_ns) for event in span.events],
        links=[Link(_context(link.trace_id, link.span_id, ""), _attributes(link.attributes)) for link in span.links],
        kind=SpanKind(max(span.kind - 1, 0)),
        status=Status(code, span.status_message if code is StatusCode.ERROR else None),
        start_time=span.start_ns,
        end_time=span.end_ns,
        instrumentation_scope=scope,
    )


def _context(trace_id: str, span_id: str, state: str, *, is_remote: bool = False) -> SpanContext:
    return SpanContext(
        int(trace_id, 16),
        int(span_id, 16),
        is_remote,
        TraceFlags(TraceFlags.SAMPLED),
        TraceState.from_header([state]) if state else TraceState(),
    )


def _attributes(given: Mapping[str, Any]) -> dict[str, Any]:
    # The SDK's own spans have tuples where OTLP has arrays.
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}  # pyright: ignore[reportUnknownArgumentType] - any attribute value
