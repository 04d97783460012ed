"""Decode OTLP of other programs, protobuf or JSON, into neutral spans, with the protobuf library."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from spancast.encoding.span_data import EventData, LinkData, ResourceData, ScopeData, SpanData, StatusName

_DEPTH: Final = 200
_IDS: Final = frozenset({"traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id"})
_STATUS: Final[Mapping[int, StatusName]] = {Status.STATUS_CODE_OK: "ok", Status.STATUS_CODE_ERROR: "error"}


def read(protobuf: bytes) -> list[SpanData]:
    """Return the spans of an encoded ``ExportTraceServiceRequest``, in its order.

    Raises:
        google.protobuf.message.DecodeError: ``protobuf`` is not such a message.
    """
    return _spans(ExportTraceServiceRequest.FromString(protobuf))


def _spans(request: ExportTraceServiceRequest) -> list[SpanData]:
    spans: list[SpanData] = []
    for of_resource in request.resource_spans:
        resource = ResourceData(attributes_of(of_resource.resource.attributes), of_resource.schema_url)
        for of_scope in of_resource.scope_spans:
            given = of_scope.scope
            scope = ScopeData(given.name, given.version, attributes_of(given.attributes), of_scope.schema_url)
            spans += [_span(span, resource, scope) for span in of_scope.spans]
    return spans


def _span(span: Span, resource: ResourceData, scope: ScopeData) -> SpanData:
    return SpanData(
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
            EventData(
                name=event.name,
                at_ns=event.time_unix_nano,
                attributes=attributes_of(event.attributes),
                dropped_attributes=event.dropped_attributes_count,
            )
            for event in span.events
        ),
        links=tuple(
            LinkData(
                trace_id=link.trace_id.hex(),
                span_id=link.span_id.hex(),
                attributes=attributes_of(link.attributes),
                dropped_attributes=link.dropped_attributes_count,
                flags=link.flags,
            )
            for link in span.links
        ),
        trace_state=span.trace_state,
        flags=span.flags,
        dropped_attributes=span.dropped_attributes_count,
        dropped_events=span.dropped_events_count,
        dropped_links=span.dropped_links_count,
        resource=resource,
        scope=scope,
    )


def attributes_of(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    """Return OTLP key values as a plain dict."""
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:  # noqa: ANN401 - any attribute value
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return attributes_of(value.kvlist_value.values)
    return None if kind is None else getattr(value, kind)


def read_json(body: bytes) -> list[SpanData]:
    """Return the spans of an ``ExportTraceServiceRequest`` in OTLP/JSON, in its order.

    Raises:
        ValueError: ``body`` is not such a message.
    """
    try:
        decoded = json.loads(body)
        if not isinstance(decoded, dict):
            raise ValueError(f"expected an object, got {type(decoded).__name__}")  # noqa: TRY004 - one error for all
        request = json_format.ParseDict(
            _with_base64(decoded), ExportTraceServiceRequest(), ignore_unknown_fields=True, max_recursion_depth=_DEPTH
        )
    except (RecursionError, json_format.ParseError) as error:
        raise ValueError(str(error)) from None
    return _spans(request)


def _with_base64(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return JSON with ids in base64, as protobuf reads bytes; OTLP has them in hex."""
    if isinstance(value, list):
        return [_with_base64(item) for item in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    return {
        key: base64.b64encode(bytes.fromhex(item)).decode()
        if key in _IDS and isinstance(item, str)
        else _with_base64(item)
        for key, item in cast("dict[str, Any]", value).items()
    }
