"""A span of a payload as plain Python values, for destinations that do not speak OTLP.

Read from the payload's protobuf, so what privacy mode and masks took out is not here either.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from spancast.model import semconv
from spancast.model.span_record import SpanRecord

StatusName = Literal["unset", "ok", "error"]

_STATUS: Final[Mapping[int, StatusName]] = {Status.STATUS_CODE_OK: "ok", Status.STATUS_CODE_ERROR: "error"}
_NS_PER_MS: Final = 1_000_000
_CONTEXTS_REMEMBERED: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainEvent:
    """Something that happened in a span."""

    name: str
    at_ns: int
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainSpan:
    """An ended span; ids are lowercase hex, ``parent_span_id`` is empty for a root."""

    trace_id: str
    span_id: str
    parent_span_id: str
    name: str
    kind: int
    start_ns: int
    end_ns: int
    status: StatusName
    status_message: str
    attributes: Mapping[str, Any]
    events: tuple[PlainEvent, ...] = ()
    resource: Mapping[str, Any] = field(default_factory=dict[str, Any])
    scope: str = ""

    @property
    def duration_ms(self) -> float:
        """Return how long it took."""
        return (self.end_ns - self.start_ns) / _NS_PER_MS

    @property
    def is_generation(self) -> bool:
        """Tell whether it is a call of a model (and not a group, a tool or a web request)."""
        return semconv.OPERATION_NAME in self.attributes and semconv.REQUEST_MODEL in self.attributes

    def first(self, *names: str) -> Any:  # noqa: ANN401 - attribute values have any type
        """Return the value of the first attribute of ``names`` that is there, else None."""
        return next((self.attributes[name] for name in names if name in self.attributes), None)


def read(protobuf: bytes) -> list[PlainSpan]:
    """Return the spans of an encoded ``ExportTraceServiceRequest``, in its order."""
    return list(_spans(ExportTraceServiceRequest.FromString(protobuf)))


def read_record(record: SpanRecord) -> PlainSpan:
    """Return the canonical span of ``record``."""
    return _plain(Span.FromString(record.body), _resource(record.resource), _scope_name(record.scope))


@functools.lru_cache(_CONTEXTS_REMEMBERED)
def _resource(head: bytes) -> Mapping[str, Any]:
    return attributes_of(ResourceSpans.FromString(head).resource.attributes)


@functools.lru_cache(_CONTEXTS_REMEMBERED)
def _scope_name(head: bytes) -> str:
    return ScopeSpans.FromString(head).scope.name


def _spans(request: ExportTraceServiceRequest) -> Iterator[PlainSpan]:
    for of_resource in request.resource_spans:
        resource = attributes_of(of_resource.resource.attributes)
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                yield _plain(span, resource, of_scope.scope.name)


def _plain(span: Span, resource: Mapping[str, Any], scope: str) -> PlainSpan:
    return PlainSpan(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=span.parent_span_id.hex(),
        name=span.name,
        kind=span.kind,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        status=_STATUS.get(span.status.code, "unset"),
        status_message=span.status.message,
        attributes=attributes_of(span.attributes),
        events=tuple(
            PlainEvent(name=event.name, at_ns=event.time_unix_nano, attributes=attributes_of(event.attributes))
            for event in span.events
        ),
        resource=resource,
        scope=scope,
    )


def attributes_of(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    """Return OTLP key values as a plain dict."""
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:  # noqa: ANN401
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return attributes_of(value.kvlist_value.values)
    return None if kind is None else getattr(value, kind)
