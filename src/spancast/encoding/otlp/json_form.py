"""OTLP/JSON of spans: hex ids, 64-bit integers as strings, enums as numbers, bytes in base64.

Source: opentelemetry.io/docs/specs/otlp, "JSON Protobuf Encoding".
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

from spancast.encoding.otlp.encode import STATUS_CODES, by_origin
from spancast.encoding.span_data import EventData, LinkData, ScopeData, SpanData, plain_value

_INT64: Final = 1 << 63


def request_json(spans: Iterable[SpanData]) -> bytes:
    """Return ``spans`` as an ``ExportTraceServiceRequest`` in OTLP/JSON, by resource and scope."""
    return orjson.dumps(
        {
            "resourceSpans": [
                _present(
                    {
                        "resource": _present({"attributes": _pairs(resource.attributes)}),
                        "scopeSpans": [_scope_spans(scope, members) for scope, members in scopes],
                        "schemaUrl": resource.schema_url,
                    }
                )
                for resource, scopes in by_origin(spans)
            ]
        }
    )


def _scope_spans(scope: ScopeData, spans: Iterable[SpanData]) -> dict[str, Any]:
    fields = {"name": scope.name, "version": scope.version, "attributes": _pairs(scope.attributes)}
    return {
        "scope": _present(fields),
        "spans": [_span(span) for span in spans],
        **_present({"schemaUrl": scope.schema_url}),
    }


def _span(span: SpanData) -> dict[str, Any]:
    fields = {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "traceState": span.trace_state,
        "parentSpanId": span.parent_span_id,
        "flags": span.flags,
        "name": span.name,
        "kind": span.kind,
        "startTimeUnixNano": _time(span.start_ns),
        "endTimeUnixNano": _time(span.end_ns),
        "attributes": _pairs(span.attributes),
        "droppedAttributesCount": span.dropped_attributes,
        "events": [_event(event) for event in span.events],
        "droppedEventsCount": span.dropped_events,
        "links": [_link(link) for link in span.links],
        "droppedLinksCount": span.dropped_links,
    }
    status = _present({"message": span.status_message, "code": STATUS_CODES[span.status]})
    return {**_present(fields), "status": status}


def _event(event: EventData) -> dict[str, Any]:
    return _present(
        {
            "timeUnixNano": _time(event.at_ns),
            "name": event.name,
            "attributes": _pairs(event.attributes),
            "droppedAttributesCount": event.dropped_attributes,
        }
    )


def _link(link: LinkData) -> dict[str, Any]:
    return _present(
        {
            "traceId": link.trace_id,
            "spanId": link.span_id,
            "attributes": _pairs(link.attributes),
            "droppedAttributesCount": link.dropped_attributes,
            "flags": link.flags,
        }
    )


def _time(at_ns: int) -> str:
    return str(at_ns) if at_ns else ""


def _present(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}


def _pairs(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in attributes.items()]


def _value(value: Any) -> dict[str, Any]:  # noqa: ANN401, PLR0911 - one case per kind of value
    kind = type(value)  # pyright: ignore[reportUnknownVariableType] - any value
    if kind is str:
        return {"stringValue": value}
    if kind is bool:
        return {"boolValue": value}
    if kind is int and -_INT64 <= value < _INT64:
        return {"intValue": str(value)}
    if kind is float:
        return {"doubleValue": _double(value)}
    if kind is list:
        return {"arrayValue": {"values": [_value(item) for item in value]}}
    if kind is dict:
        return {"kvlistValue": {"values": _pairs(value)}}
    if kind is bytes:
        return {"bytesValue": base64.b64encode(value).decode()}
    return {} if value is None else _value(plain_value(value))


def _double(value: float) -> float | str:
    # The JSON format of protobuf writes NaN and the infinities as these strings.
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
