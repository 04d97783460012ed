"""A ``Payload`` encoded with the protobuf library, for tests of a single destination."""

from __future__ import annotations

import base64
import gzip as gzip_module
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status
from tests.destinations.spans import conversation

from spancast.destinations.protocol import Encoder, Payload
from spancast.encoding.span_data import SpanData, read_record
from spancast.model.span_record import SpanRecord

_IDS = {"traceId", "spanId", "parentSpanId"}


class PlainPayload:
    """The payload of an encoder without redaction and convention."""

    held_bytes = 0

    def __init__(self, spans: Iterable[SpanData]) -> None:
        self.spans: Sequence[SpanData] = list(spans)

    @property
    def protobuf(self) -> bytes:
        return self._request().SerializeToString()

    @property
    def json(self) -> bytes:
        return json.dumps(_hex_ids(MessageToDict(self._request()))).encode()

    def body(self, encoding: str, *, gzip: bool) -> bytes:
        plain = self.protobuf if encoding == "protobuf" else self.json
        return gzip_module.compress(plain) if gzip else plain

    def truncated(self, max_span_bytes: int) -> Payload:
        raise NotImplementedError

    def _request(self) -> ExportTraceServiceRequest:
        return ExportTraceServiceRequest(
            resource_spans=[
                ResourceSpans(
                    resource=Resource(attributes=_pairs(one.resource.attributes)),
                    scope_spans=[ScopeSpans(scope=InstrumentationScope(name=one.scope.name), spans=[_message(one)])],
                )
                for one in self.spans
            ]
        )


def _message(one: SpanData) -> Span:
    codes = {"unset": Status.STATUS_CODE_UNSET, "ok": Status.STATUS_CODE_OK, "error": Status.STATUS_CODE_ERROR}
    return Span(
        trace_id=bytes.fromhex(one.trace_id),
        span_id=bytes.fromhex(one.span_id),
        parent_span_id=bytes.fromhex(one.parent_span_id),
        name=one.name,
        kind=one.kind,  # type: ignore[arg-type]
        start_time_unix_nano=one.start_ns,
        end_time_unix_nano=one.end_ns,
        attributes=_pairs(one.attributes),
        events=[Span.Event(name=e.name, time_unix_nano=e.at_ns, attributes=_pairs(e.attributes)) for e in one.events],
        status=Status(code=codes[one.status], message=one.status_message),
    )


def _pairs(attributes: Mapping[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=name, value=_any(value)) for name, value in attributes.items()]


def _any(value: Any) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, (list, tuple)):
        return AnyValue(array_value=ArrayValue(values=[_any(item) for item in value]))
    return AnyValue(string_value=value)


class PlainEncoder:
    cache_key = "plain"

    def payload(self, records: Iterable[SpanRecord]) -> Payload:
        return PlainPayload(map(read_record, records))


ENCODER: Encoder = PlainEncoder()


def payload(spans: Iterable[SpanData] | None = None) -> Payload:
    """Return ``spans`` as a batch; without ``spans``, a support conversation."""
    return PlainPayload(conversation() if spans is None else spans)


def _hex_ids(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _hex_ids(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_hex_ids(item) for item in value]
    return base64.b64decode(value).hex() if name in _IDS else value
