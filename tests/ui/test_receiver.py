"""OTLP/HTTP into the store: by OpenTelemetry's own exporter, by our destination, and by wrong requests."""

from __future__ import annotations

import dataclasses
import gzip
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openinference.instrumentation.openai import OpenAIInstrumentor
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
from spancast.testing import ReplayServer
from spancast.ui.conversation import answers_of, messages_of


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


def test_calls_of_openinference_are_read_as_calls(store: Store, url: str, server: ReplayServer) -> None:
    """The real instrumentation, with a tool call and its result."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(url)))
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    called = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"a":1}'}}
    messages: list[Any] = [
        {"role": "user", "content": [{"type": "text", "text": "Where?"}]},
        {"role": "assistant", "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "c1", "content": "shipped"},
    ]
    try:
        client = openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0)
        client.chat.completions.create(model="gpt-5", temperature=0.2, messages=messages)
    finally:
        instrumentor.uninstrument()
        # It leaves the inherited method on the client class, where it hides later patches of the base class.
        del openai.OpenAI.request, openai.AsyncOpenAI.request
    [trace] = store.traces()
    [span] = store.trace(trace.trace_id)
    assert span.is_generation
    assert (span.text("gen_ai.request.model"), span.number("gen_ai.request.temperature")) == ("gpt-5", 0.2)
    assert span.count("gen_ai.usage.input_tokens") == span.count("llm.token_count.prompt")
    read = messages_of(span) or ()
    assert [(one.role, one.parts[0].kind, one.parts[0].value) for one in read] == [
        ("user", "text", "Where?"), ("assistant", "call", {"a": 1}), ("tool", "result", "shipped"),
    ]  # fmt: skip
    answer = (answers_of(span) or ())[0]
    assert (answer.role, answer.parts[0].kind) == ("assistant", "text")


@pytest.mark.parametrize(
    "attributes",
    [
        {"llm.input_messages.0": "x", "llm.input_messages.0.message.role": "user"},
        {"llm.input_messages.0.message": "x", "llm.input_messages.0.message.content": 5},
        {"llm.input_messages.²": 1, "llm.input_messages.": 1, "llm.input_messages.1.message.tool_calls.0.tool_call": 1},
        {"llm.invocation_parameters": "[" * 5_000, "llm.model_name": ["m"]},
    ],
)
def test_odd_calls_of_openinference_are_kept(store: Store, url: str, attributes: dict[str, Any]) -> None:
    [first, *_] = conversation()
    odd = dataclasses.replace(first, attributes={"openinference.span.kind": "LLM", **attributes})
    assert post(url, request_bytes([odd]), "application/x-protobuf")[0] == 200
    [kept] = store.trace(TRACE_ID)
    assert kept.attributes.items() >= attributes.items()


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
