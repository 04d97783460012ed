"""OTLP/HTTP into the store: by OpenTelemetry's own exporter, by our destination, and by wrong requests."""

from __future__ import annotations

import gzip
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from tests.destinations.spans import TRACE_ID, conversation
from tests.ui.served import served

from spancast.destinations.span_store import Store
from spancast.encoding.otlp import json_form
from spancast.encoding.otlp.decode import read_json
from spancast.encoding.otlp.encode import request_bytes
from spancast.encoding.redaction import Redaction


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "new" / "spans.db")


@pytest.fixture
def url(store: Store) -> Iterator[str]:
    with served(store.path) as address:
        yield f"{address}/v1/traces"


def post(url: str, body: bytes, kind: str = "application/json", **headers: str) -> tuple[int, bytes]:
    request = urllib.request.Request(url, body, {"Content-Type": kind, **headers})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_exporter_of_opentelemetry_is_received(store: Store, url: str) -> None:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(url)))
    with provider.get_tracer("other").start_as_current_span("POST /chat") as span:
        span.set_attribute("gen_ai.operation.name", "chat")
    provider.shutdown()
    [stored] = store.trace(f"{span.get_span_context().trace_id:032x}")
    assert (stored.name, stored.scope.name, dict(stored.attributes)) == (
        "POST /chat",
        "other",
        {"gen_ai.operation.name": "chat"},
    )


@pytest.mark.parametrize("is_compressed", [False, True])
@pytest.mark.parametrize("kind", ["application/x-protobuf", "application/json"])
def test_spans_of_both_forms_are_the_same(store: Store, url: str, kind: str, *, is_compressed: bool) -> None:
    sent = conversation()
    body = request_bytes(sent) if kind.endswith("protobuf") else json_form.request_json(sent)
    headers = {"Content-Encoding": "gzip"} if is_compressed else {}
    status, answer = post(url, gzip.compress(body) if is_compressed else body, kind, **headers)
    assert status == 200
    assert answer == (b"" if kind.endswith("protobuf") else b"{}")
    assert store.trace(TRACE_ID) == sorted(sent, key=lambda one: one.start_ns)


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b'{"resourceSpans": 1}', "application/json", 400),
        (b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"xyz"}]}]}]}', "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"\xff\xff", "application/x-protobuf", 400),
        (b"{}", "text/plain", 415),
        (b"{}", "application/json; charset=utf-8", 200),
        (b"", "application/x-protobuf", 200),
    ],
)
def test_wrong_request_is_refused(store: Store, url: str, body: bytes, kind: str, status: int) -> None:
    assert post(url, body, kind)[0] == status
    assert store.traces() == []


def test_compressed_bomb_is_refused(store: Store, url: str) -> None:
    assert post(url, gzip.compress(bytes(80 << 20)), Content_Encoding="gzip")[0] == 400
    assert post(url, gzip.compress(bytes(80 << 20)), **{"Content-Encoding": "gzip"})[0] == 413


def test_every_member_of_a_compressed_body_is_read(store: Store, url: str) -> None:
    first, *others = conversation()
    body = gzip.compress(request_bytes([first])) + gzip.compress(request_bytes(others))
    assert post(url, body, "application/x-protobuf", **{"Content-Encoding": "gzip"})[0] == 200
    assert len(store.trace(TRACE_ID)) == len(conversation())


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (gzip.compress(request_bytes(conversation()))[:-9], "gzip", 400),
        (gzip.compress(request_bytes(conversation())) + b"x", "gzip", 400),
        (request_bytes(conversation()), "gzip", 400),
        (request_bytes(conversation()), "zstd", 415),
        (request_bytes(conversation()), "gzip, gzip", 415),
    ],
)
def test_damaged_or_unknown_compression_is_refused(
    store: Store, url: str, body: bytes, encoding: str, status: int
) -> None:
    assert post(url, body, "application/x-protobuf", **{"Content-Encoding": encoding})[0] == status
    assert store.traces() == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"traceId": ""},
        {"traceId": "0" * 32},
        {"spanId": "ab"},
        {"startTimeUnixNano": "0"},
        {"endTimeUnixNano": str(1 << 63)},
    ],
)
def test_span_without_identity_is_counted_as_rejected(store: Store, url: str, wrong: dict[str, Any]) -> None:
    request = json.loads(json_form.request_json(conversation()))
    spans = request["resourceSpans"][0]["scopeSpans"][0]["spans"]
    spans.append({**spans[0], "spanId": "cd" * 8, **wrong})
    answer = json.loads(post(url, json.dumps(request).encode())[1])
    assert answer["partialSuccess"]["rejectedSpans"] == "1"
    assert "expected ids of 16 and 8 bytes" in answer["partialSuccess"]["errorMessage"]
    assert len(store.trace(TRACE_ID)) == len(conversation())


def test_rejected_spans_are_counted_in_protobuf(url: str) -> None:
    [first, *_] = conversation()
    first.start_ns = 0
    response = ExportTraceServiceResponse.FromString(post(url, request_bytes([first]), "application/x-protobuf")[1])
    assert response.partial_success.rejected_spans == 1


def test_redaction_of_the_store_is_applied_before_disk(tmp_path: Path) -> None:
    store = Store(tmp_path / "spans.db")
    with served(store.path, redaction=Redaction(is_private=True)) as address:
        post(f"{address}/v1/traces", json_form.request_json(conversation()))
    assert b"Process this order" not in store.path.read_bytes()
    assert len(store.trace(TRACE_ID)) == len(conversation())


def test_read_json_of_other_names_ignores_unknown_fields() -> None:
    body = {"resourceSpans": [{"resource": {}, "later": 1, "scopeSpans": [{"spans": [{"traceId": "AB" * 16, "spanId": "cd" * 8, "name": "x", "attributes": [{"key": "traceId", "value": {"stringValue": "kept"}}]}]}]}]}  # fmt: skip
    [span] = read_json(json.dumps(body).encode())
    assert (span.trace_id, span.span_id, span.attributes) == ("ab" * 16, "cd" * 8, {"traceId": "kept"})
