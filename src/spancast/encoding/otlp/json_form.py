"""OTLP/JSON of an encoded request: hex ids, 64-bit integers as strings, enums as numbers.

Source: opentelemetry.io/docs/specs/otlp, "JSON Protobuf Encoding".
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable
from typing import Any, Final

import orjson
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

_VALUES: Final = {"string_value": "stringValue", "bool_value": "boolValue"}


def request_json(protobuf: bytes) -> bytes:
    """Return the ``ExportTraceServiceRequest`` ``protobuf`` in OTLP/JSON."""
    request = ExportTraceServiceRequest.FromString(protobuf)
    return orjson.dumps({"resourceSpans": [_resource_spans(one) for one in request.resource_spans]})


def _resource_spans(given: ResourceSpans) -> dict[str, Any]:
    return _told(
        {
            "resource": _told({"attributes": _pairs(given.resource.attributes)}),
            "scopeSpans": [_scope_spans(one) for one in given.scope_spans],
            "schemaUrl": given.schema_url,
        }
    )


def _scope_spans(given: ScopeSpans) -> dict[str, Any]:
    scope = given.scope
    told = {"name": scope.name, "version": scope.version, "attributes": _pairs(scope.attributes)}
    return {
        "scope": _told(told),
        "spans": [_span(span) for span in given.spans],
        **_told({"schemaUrl": given.schema_url}),
    }


def _span(span: Span) -> dict[str, Any]:
    told = {
        "traceId": span.trace_id.hex(),
        "spanId": span.span_id.hex(),
        "traceState": span.trace_state,
        "parentSpanId": span.parent_span_id.hex(),
        "flags": span.flags,
        "name": span.name,
        "kind": span.kind,
        "startTimeUnixNano": _time(span.start_time_unix_nano),
        "endTimeUnixNano": _time(span.end_time_unix_nano),
        "attributes": _pairs(span.attributes),
        "droppedAttributesCount": span.dropped_attributes_count,
        "events": [_event(event) for event in span.events],
        "droppedEventsCount": span.dropped_events_count,
        "links": [_link(link) for link in span.links],
        "droppedLinksCount": span.dropped_links_count,
    }
    status = _told({"message": span.status.message, "code": span.status.code})
    return {**_told(told), "status": status}


def _event(event: Span.Event) -> dict[str, Any]:
    return _told(
        {
            "timeUnixNano": _time(event.time_unix_nano),
            "name": event.name,
            "attributes": _pairs(event.attributes),
            "droppedAttributesCount": event.dropped_attributes_count,
        }
    )


def _link(link: Span.Link) -> dict[str, Any]:
    return _told(
        {
            "traceId": link.trace_id.hex(),
            "spanId": link.span_id.hex(),
            "traceState": link.trace_state,
            "attributes": _pairs(link.attributes),
            "droppedAttributesCount": link.dropped_attributes_count,
            "flags": link.flags,
        }
    )


def _time(at_ns: int) -> str:
    return str(at_ns) if at_ns else ""


def _told(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}


def _pairs(pairs: Iterable[KeyValue]) -> list[dict[str, Any]]:
    return [{"key": pair.key, "value": _value(pair.value)} for pair in pairs]


def _value(value: AnyValue) -> dict[str, Any]:  # noqa: PLR0911 - one case per kind of value
    kind = value.WhichOneof("value")
    if kind is None:
        return {}
    if kind == "int_value":
        return {"intValue": str(value.int_value)}
    if kind == "double_value":
        return {"doubleValue": _double(value.double_value)}
    if kind == "bytes_value":
        return {"bytesValue": base64.b64encode(value.bytes_value).decode()}
    if kind == "array_value":
        return {"arrayValue": {"values": [_value(item) for item in value.array_value.values]}}
    if kind == "kvlist_value":
        return {"kvlistValue": {"values": _pairs(value.kvlist_value.values)}}
    return {_VALUES[kind]: getattr(value, kind)} if kind in _VALUES else {}


def _double(value: float) -> float | str:
    # protobuf's JSON writes what JSON has no numbers for as these texts.
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
