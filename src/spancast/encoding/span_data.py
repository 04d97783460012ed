"""A span of a payload as plain Python values, for destinations that do not speak OTLP.

Read from the payload's protobuf, so what privacy mode and masks took out is not here either.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Status

from spancast.encoding.otlp.decode import SpanFields, read_span
from spancast.model import semconv
from spancast.model.attribute_values import count_of, number_of, text_of
from spancast.model.span_record import SpanRecord

R = TypeVar("R")
StatusName = Literal["unset", "ok", "error"]

_STATUS: Final[Mapping[int, StatusName]] = {Status.STATUS_CODE_OK: "ok", Status.STATUS_CODE_ERROR: "error"}
_NS_PER_MS: Final = 1_000_000
_CONTEXTS_REMEMBERED: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class EventData:
    """Something that happened in a span."""

    name: str
    at_ns: int
    attributes: Mapping[str, Any]


@dataclass(slots=True, kw_only=True)
class SpanData:
    """An ended span; ids are lowercase hex, ``parent_span_id`` is empty for a root.

    Shared by all views of it, so it is never changed (``frozen`` would double the time to make one).
    """

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
    events: tuple[EventData, ...] = ()
    resource: Mapping[str, Any] = field(default_factory=dict[str, Any])
    scope: str = ""
    told: dict[str, Any] = field(init=False, default_factory=dict[str, Any], compare=False, repr=False)
    """What was read out of the attributes, by its name, so that JSON is parsed once for all who ask."""

    @property
    def duration_ms(self) -> float:
        """Return how long it took."""
        return (self.end_ns - self.start_ns) / _NS_PER_MS

    @property
    def is_generation(self) -> bool:
        """Tell whether it is a call of a model (and not a group, a tool or a web request)."""
        return semconv.OPERATION_NAME in self.attributes and semconv.REQUEST_MODEL in self.attributes

    def with_attributes(
        self,
        attributes: Mapping[str, Any],
        events: tuple[EventData, ...] | None = None,
        status_message: str | None = None,
    ) -> SpanData:
        """Return the same span with other ``attributes``: ``dataclasses.replace`` at a third of its time."""
        return SpanData(
            trace_id=self.trace_id,
            span_id=self.span_id,
            parent_span_id=self.parent_span_id,
            name=self.name,
            kind=self.kind,
            start_ns=self.start_ns,
            end_ns=self.end_ns,
            status=self.status,
            status_message=self.status_message if status_message is None else status_message,
            attributes=attributes,
            events=self.events if events is None else events,
            resource=self.resource,
            scope=self.scope,
        )

    def first(self, *names: str) -> Any:  # noqa: ANN401 - attribute values have any type
        """Return the value of the first attribute of ``names`` that is there, else None."""
        attributes = self.attributes
        for name in names:
            if name in attributes:
                return attributes[name]
        return None

    def text(self, *names: str) -> str | None:
        """Return what ``first`` finds as text, None if there is nothing."""
        attributes = self.attributes
        for name in names:
            if name in attributes:
                value = attributes[name]
                return value if type(value) is str else text_of(value)
        return None

    def number(self, *names: str) -> float | None:
        """Return what ``first`` finds as a number, None if it is none."""
        return number_of(self.first(*names))

    def count(self, *names: str) -> int | None:
        """Return what ``first`` finds as a count, None if it is none."""
        return count_of(self.first(*names))


def cached_on_span(reader: Callable[[SpanData], R]) -> Callable[[SpanData], R]:
    """Make ``reader`` read each span once. What it returns is shared by all who ask, so nobody may change it."""
    name = f"{reader.__module__}.{reader.__qualname__}"

    @functools.wraps(reader)
    def asked(span: SpanData) -> R:
        told = span.told
        if name not in told:
            told[name] = reader(span)
        return told[name]

    return asked


def read(protobuf: bytes) -> list[SpanData]:
    """Return the spans of an encoded ``ExportTraceServiceRequest``, in its order."""
    return list(_spans(ExportTraceServiceRequest.FromString(protobuf)))


def read_record(record: SpanRecord) -> SpanData:
    """Return the canonical span of ``record``."""
    return plain_span(read_span(record.body), record)


def plain_span(found: SpanFields, record: SpanRecord) -> SpanData:
    """Return what was ``found`` in ``record`` as its canonical span."""
    return _plain(found, _resource(record.resource), _scope_name(record.scope))


@functools.lru_cache(_CONTEXTS_REMEMBERED)
def _resource(head: bytes) -> Mapping[str, Any]:
    return attributes_of(ResourceSpans.FromString(head).resource.attributes)


@functools.lru_cache(_CONTEXTS_REMEMBERED)
def _scope_name(head: bytes) -> str:
    return ScopeSpans.FromString(head).scope.name


def _spans(request: ExportTraceServiceRequest) -> Iterator[SpanData]:
    for of_resource in request.resource_spans:
        resource = attributes_of(of_resource.resource.attributes)
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                yield _plain(read_span(span.SerializeToString()), resource, of_scope.scope.name)


def _plain(found: SpanFields, resource: Mapping[str, Any], scope: str) -> SpanData:
    return SpanData(
        trace_id=found.trace_id.hex(),
        span_id=found.span_id.hex(),
        parent_span_id=found.parent_span_id.hex(),
        name=found.name,
        kind=found.kind,
        start_ns=found.start_ns,
        end_ns=found.end_ns,
        status=_STATUS.get(found.status_code, "unset"),
        status_message=found.status_message,
        attributes=found.attributes,
        events=tuple(
            [EventData(name=event.name, at_ns=event.at_ns, attributes=event.attributes) for event in found.events]
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
