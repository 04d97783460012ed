"""An OTLP/HTTP receiver: spans of any program, in protobuf or JSON, into the local store."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from typing import Final

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from spancast.encoding.otlp.decode import read, read_json
from spancast.encoding.span_data import SpanData, well_formed
from spancast.ui.openinference_spans import as_call

_PROTOBUF: Final = "application/x-protobuf"
_JSON: Final = "application/json"
_ENCODINGS: Final = ("", "identity", "gzip", "deflate")
_MAX_BYTES: Final = 64 << 20
_TRACE_ID: Final = 32
_SPAN_ID: Final = 16
_MAX_INT64: Final = (1 << 63) - 1

Write = Callable[[Sequence[SpanData]], None]


async def receive(request: Request, write: Write) -> Response:
    """Store the spans of an OTLP request; one without valid ids or times is rejected and counted in the response."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in (_PROTOBUF, _JSON):
        return PlainTextResponse(f"expected {_PROTOBUF} or {_JSON}, got {kind or 'no content type'}", 415)
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding not in _ENCODINGS:
        return PlainTextResponse(f"expected the content encoding gzip or deflate, got {encoding}", 415)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BYTES:
            return PlainTextResponse(f"more than {_MAX_BYTES} bytes", 413)
    try:
        content = _decompressed(bytes(body), encoding)
        spans = await (run_in_threadpool(read, content) if kind == _PROTOBUF else run_in_threadpool(read_json, content))
    except OverflowError:
        return PlainTextResponse(f"more than {_MAX_BYTES} bytes", 413)
    except (ValueError, DecodeError, zlib.error, RecursionError) as error:
        return PlainTextResponse(f"not an ExportTraceServiceRequest: {error}", 400)
    valid = [well_formed(as_call(span)) for span in spans if _is_valid(span)]
    await run_in_threadpool(write, valid)
    return _response(kind, len(spans) - len(valid))


def _decompressed(body: bytes, encoding: str) -> bytes:
    if encoding not in ("gzip", "deflate"):
        return body
    content = b""
    # A gzip file may have several members.
    while body:
        decompressor = zlib.decompressobj(zlib.MAX_WBITS | 32)
        content += decompressor.decompress(body, _MAX_BYTES - len(content) + 1)
        if len(content) > _MAX_BYTES:
            raise OverflowError
        if not decompressor.eof:
            raise ValueError("the compressed body is not complete")
        body = decompressor.unused_data
    return content


def _is_valid(span: SpanData) -> bool:
    ids = len(span.trace_id) == _TRACE_ID and len(span.span_id) == _SPAN_ID
    return ids and bool(int(span.trace_id, 16)) and 0 < span.start_ns <= _MAX_INT64 and span.end_ns <= _MAX_INT64


def _response(kind: str, rejected: int) -> Response:
    message = "expected ids of 16 and 8 bytes, and a start time" if rejected else ""
    if kind == _JSON:
        partial = {"partialSuccess": {"rejectedSpans": str(rejected), "errorMessage": message}} if rejected else {}
        return Response(json.dumps(partial), media_type=_JSON)
    response = ExportTraceServiceResponse()
    if rejected:
        response.partial_success.CopyFrom(ExportTracePartialSuccess(rejected_spans=rejected, error_message=message))
    return Response(response.SerializeToString(), media_type=_PROTOBUF)
