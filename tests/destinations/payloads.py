"""A payload as the seam describes it, encoded by protobuf's own means: for tests of one destination."""

from __future__ import annotations

import base64
import gzip as gzip_module
import json
from collections.abc import Iterable
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span
from tests.destinations.spans import conversation, records

from spancast.destinations.protocol import Encoder, Payload
from spancast.encoding.span_data import SpanData
from spancast.model.span_record import SpanRecord

_IDS = {"traceId", "spanId", "parentSpanId"}


class PlainPayload:
    """What a view without redaction and convention would give."""

    def __init__(self, given: Iterable[SpanRecord]) -> None:
        self.records = list(given)

    @property
    def protobuf(self) -> bytes:
        return self._request().SerializeToString()

    @property
    def json(self) -> bytes:
        return json.dumps(_hex_ids(MessageToDict(self._request()))).encode()

    def body(self, encoding: str, *, gzip: bool) -> bytes:
        plain = self.protobuf if encoding == "protobuf" else self.json
        return gzip_module.compress(plain) if gzip else plain

    def shortened(self, max_span_bytes: int) -> Payload:
        raise NotImplementedError

    def _request(self) -> ExportTraceServiceRequest:
        request = ExportTraceServiceRequest()
        for record in self.records:
            of_resource = ResourceSpans.FromString(record.resource)
            of_scope = ScopeSpans.FromString(record.scope)
            of_scope.spans.append(Span.FromString(record.body))
            of_resource.scope_spans.append(of_scope)
            request.resource_spans.append(of_resource)
        return request


class PlainView:
    key = "plain"

    def payload(self, records: Iterable[SpanRecord]) -> Payload:
        return PlainPayload(records)


VIEW: Encoder = PlainView()


def payload(spans: Iterable[SpanData] | None = None, **facts: Any) -> Payload:
    """Return ``spans`` (a support conversation where none are given) as a batch."""
    return PlainPayload(records(conversation() if spans is None else spans, **facts))


def _hex_ids(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _hex_ids(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_hex_ids(item) for item in value]
    return base64.b64decode(value).hex() if name in _IDS else value
