"""The encoder of a destination: redaction, convention, truncation, encoding, each form once."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceState
from tests.destinations.configs import config
from tests.destinations.payloads import _hex_ids
from tests.destinations.spans import CALL, conversation, record_of_sdk, records, span
from tests.encoding.test_conventions import TOOLS
from tests.encoding.test_otlp_encode import SPANS

from spancast.destinations.encoder_config import encoder_for, redaction_of, shared_redaction
from spancast.destinations.protocol import Encoding
from spancast.diagnostics import reraise_internal_errors
from spancast.encoding import encoder
from spancast.encoding.conventions.registry import CONVENTIONS
from spancast.encoding.encoder import SpanEncoder
from spancast.encoding.otlp.decode import attributes_of, read
from spancast.encoding.otlp.encode import span_bytes
from spancast.encoding.redaction import Redaction, without_content
from spancast.encoding.span_data import EventData, SpanData
from spancast.model import semconv
from spancast.model.span_record import SpanRecord


def test_default_encoder_returns_span_of_record() -> None:
    given = records(conversation())
    sent = ExportTraceServiceRequest.FromString(SpanEncoder().payload(given).protobuf)
    assert read(sent.SerializeToString()) == conversation()
    assert len(sent.resource_spans) == 1, "one resource, one scope: spans are grouped"


def test_json_equals_official_message() -> None:
    payload = SpanEncoder().payload(
        records([*conversation(), span("odd", 9, attributes={**TOOLS, "b": True, "f": 1.5, "l": [1, "x"]})])
    )
    official = MessageToDict(ExportTraceServiceRequest.FromString(payload.protobuf), use_integers_for_enums=True)
    assert json.loads(payload.json) == _hex_ids(official)


def test_concurrent_threads_encode_once() -> None:
    payload = SpanEncoder().payload(records(conversation()))
    forms: list[bytes] = []
    threads = [threading.Thread(target=lambda: forms.append(payload.body("protobuf", gzip=True))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(form) for form in forms}) == 1
    assert gzip.decompress(forms[0]) == payload.protobuf


def test_equal_encoders_have_equal_cache_keys() -> None:
    one, two = config("otlp", privacy_mode=True, mask=["a+"]), config("otel-collector", privacy_mode=True, mask=["a+"])
    assert encoder_for(one, "gen_ai").cache_key == encoder_for(two, "gen_ai").cache_key
    assert encoder_for(one, "gen_ai").cache_key != encoder_for(one, "langfuse").cache_key
    assert encoder_for(config("otlp"), "gen_ai").cache_key != encoder_for(one, "gen_ai").cache_key


def test_values_and_spans_that_are_too_large() -> None:
    messages = json.dumps([{"role": "user", "parts": [{"type": "text", "content": f"{n} " * 2000}]} for n in range(50)])
    given = records([span("large", 1, attributes={**TOOLS, semconv.INPUT_MESSAGES: messages, "text": "x" * 50_000})])
    [short] = read(SpanEncoder(max_attribute_bytes=10_000).payload(given).protobuf)
    assert len(short.attributes[semconv.INPUT_MESSAGES].encode()) <= 10_000
    assert json.loads(short.attributes[semconv.INPUT_MESSAGES])[0]["role"] == "user"
    assert short.attributes[semconv.INPUT_MESSAGES + ".truncated"] is True
    assert short.attributes[semconv.INPUT_MESSAGES + ".original_bytes"] == len(messages)
    assert short.attributes["text"].endswith("[truncated]")
    encoder = SpanEncoder(max_span_bytes=20_000)
    assert len(body_of(encoder, given[0])) <= 20_000
    [span_short] = read(encoder.payload(given).protobuf)
    assert span_short.attributes[semconv.USAGE_INPUT_TOKENS] == 100
    assert len(encoder.payload(given).truncated(5_000).protobuf) < 6_500


def test_redaction_removes_link_attributes() -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    other = provider.get_tracer("t").start_span("other").get_span_context()
    linked = provider.get_tracer("t").start_span("linked", links=[Link(other, {"quote": "canary"})])
    linked.end()
    assert isinstance(linked, ReadableSpan)
    given = record_of_sdk(linked)
    assert b"canary" in SpanEncoder().payload([given]).protobuf
    for masked in ({"privacy_mode": True}, {"mask": ["x"]}):
        sent = ExportTraceServiceRequest.FromString(
            encoder_for(config("otlp", **masked), "gen_ai").payload([given]).protobuf
        )
        [link] = sent.resource_spans[0].scope_spans[0].spans[0].links
        assert link.span_id == other.span_id.to_bytes(8, "big")
        assert not link.attributes


def test_resource_attributes_of_destination_are_added() -> None:
    [one, *_] = read(
        SpanEncoder(resource={"openinference.project.name": "p"}).payload(records(conversation())).protobuf
    )
    assert one.resource.attributes == {"service.name": "support-bot", "openinference.project.name": "p"}


def test_only_genai_parent_is_nearest_genai_ancestor() -> None:
    [given] = records([replace(span("call", 3, 2, attributes=TOOLS), genai_parent="00000000000000aa")])
    [whole] = read(SpanEncoder().payload([given]).protobuf)
    [mended] = read(SpanEncoder(only_genai=True).payload([given]).protobuf)
    [renamed] = read(SpanEncoder(only_genai=True, convention="langfuse").payload([given]).protobuf)
    assert whole.parent_span_id == f"{2:016x}"
    for one in (mended, renamed):
        assert one.parent_span_id == "00000000000000aa"
        assert one.attributes[semconv.PARENT_SPAN_ID] == f"{2:016x}"


def test_shared_redaction_is_applied_before_spool() -> None:
    def shared(*entries: dict[str, Any]) -> Any:
        return shared_redaction([config("otlp", **entry) for entry in entries])

    assert not shared({"privacy_mode": True}, {})
    assert shared({"privacy_mode": True}, {"privacy_mode": True}).is_private
    assert len(shared({"mask": ["a", "b"]}, {"mask": ["a", "c"]}).masks) == 1
    assert not shared({"mask": ["a"]}, {"mask": ["b"]})
    assert len(redaction_of(config("otlp", mask=["a", "b"])).masks) == 2


@given(SPANS)
def test_gen_ai_encoder_equals_official_request(ended: ReadableSpan) -> None:
    payload = encoder_for(config("otlp"), "gen_ai").payload([record_of_sdk(ended)])
    assert payload.protobuf == encode_spans([ended]).SerializeToString()


def test_forms_are_encoded_once_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[SpanRecord] = []
    spans = SpanEncoder.spans

    def counted(self: SpanEncoder, given: Sequence[SpanRecord], max_span_bytes: int | None = None) -> list[SpanData]:
        made.extend(given)
        return spans(self, given, max_span_bytes)

    monkeypatch.setattr(SpanEncoder, "spans", counted)
    payload = SpanEncoder().payload(records(conversation()))
    zipped = payload.body("json", gzip=True)
    assert payload.body("json", gzip=True) is zipped
    assert gzip.decompress(zipped) == payload.json
    assert payload.json is payload.body("json", gzip=False)
    assert gzip.decompress(payload.body("protobuf", gzip=True)) == payload.protobuf
    assert payload.spans is payload.spans
    assert len(made) == len(conversation())


def test_held_span_is_not_decoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    given = [record_of_sdk(ReadableSpan("call", SpanContext(1, 2, is_remote=False), attributes=CALL))]
    given[0].body = b"not JSON"
    for convention in ("gen_ai", "langfuse"):
        assert SpanEncoder(convention=convention).payload(given).spans[0].span_id == f"{2:016x}"


def test_spans_and_encoded_forms_are_the_same() -> None:
    private = encoder_for(config("otlp", privacy_mode=True, convention="langfuse", max_attribute_bytes=2000), "gen_ai")
    payload = private.payload(records([span("call", 1, attributes={**TOOLS, "trace.metadata.long": "x" * 9000})]))
    assert list(payload.spans) == read(payload.protobuf)
    assert len(payload.spans[0].attributes["langfuse.trace.metadata.long"]) <= 2000


def test_payload_bytes_are_equal_in_every_process() -> None:
    given = records(conversation())
    assert SpanEncoder().payload(given).body("json", gzip=True) == SpanEncoder().payload(given).body("json", gzip=True)


@pytest.mark.parametrize("convention", sorted(CONVENTIONS))
@pytest.mark.parametrize("encoding", ["protobuf", "json"])
def test_privacy_mode_holds_in_every_convention(convention: str, encoding: Encoding) -> None:
    event = EventData(name="exception", at_ns=5, attributes={"exception.message": "canary", "exception.type": "E"})
    attributes = {
        **TOOLS,
        "input.value": "canary",
        "gen_ai.prompt.0.content": "canary",
        "traceloop.entity.input": "canary",
    }
    given = records([span("call", 1, attributes=attributes, events=(event,), status="error", status_message="canary")])
    assert b"canary" in SpanEncoder(convention=convention).payload(given).body(encoding, gzip=False)
    sent = encoder_for(config("otlp", privacy_mode=True, convention=convention), "gen_ai").payload(given)
    assert b"canary" not in sent.body(encoding, gzip=False)
    assert b"canary" not in sent.truncated(500).body(encoding, gzip=False)
    assert b"ORD-12345" in sent.body(encoding, gzip=False)


def test_mask_is_applied_before_convention() -> None:
    given = records([span("call", 1, attributes=TOOLS)])
    sent = encoder_for(config("otlp", mask=["canary"]), "openinference").payload(given).protobuf
    assert b"canary" not in sent
    assert b"[masked]" in sent


def test_failing_convention_sends_redacted_span(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(given: SpanData) -> SpanData:
        raise KeyError(given.name)

    monkeypatch.setattr(encoder, "convention_of", lambda _: broken)
    encoder._safe_mapper.cache_clear()
    former = reraise_internal_errors(enabled=False)
    try:
        [given] = records([span("call", 1, attributes=TOOLS)])
        sent = encoder_for(config("otlp", privacy_mode=True), "langfuse").payload([given]).protobuf
    finally:
        reraise_internal_errors(enabled=former)
        encoder._safe_mapper.cache_clear()
    [one] = read(sent)
    assert one.attributes == without_content(span("call", 1, attributes=TOOLS)).attributes


def body_of(encoder: SpanEncoder, record: SpanRecord) -> bytes:
    return span_bytes(encoder.spans([record])[0])


def key(**fields: Any) -> str:
    return encoder_for(config("otlp", **fields), "gen_ai").cache_key


def a_function(text: str) -> str:
    return text


def test_redaction_key_identifies_redaction() -> None:
    def pattern(found: str, replacement: str) -> dict[str, str]:
        return {"pattern": found, "replacement": replacement}

    given: list[dict[str, Any]] = [
        {}, {"privacy_mode": True}, {"mask": ["a"]}, {"mask": ["a", "b"]}, {"mask": ["b", "a"]}, {"mask": ["a;b"]},
        {"mask": [pattern("a", "b>c")]}, {"mask": [pattern("a>b", "c")]}, {"mask": [pattern("a", "x;b>x"), "c"]},
        {"mask": [pattern("a", "x"), pattern("b", "x"), "c"]}, {"mask": [a_function]}, {"mask": [str.upper]},
        {"spans": "genai"}, {"max_attribute_bytes": 5000}, {"max_span_bytes": 5000}, {"convention": "langfuse"},
    ]  # fmt: skip
    assert len({key(**fields) for fields in given}) == len(given)
    for fields in given:
        assert key(**fields) == key(**fields)


def test_resources_that_only_look_alike_are_different_views() -> None:
    assert SpanEncoder(resource={"a": "b|c=d"}).cache_key != SpanEncoder(resource={"a": "b", "c": "d"}).cache_key
    assert SpanEncoder(resource={"a": "1", "b": "2"}).cache_key == SpanEncoder(resource={"b": "2", "a": "1"}).cache_key


def test_genai_parent_of_root_is_none() -> None:
    [given] = records([replace(span("call", 3, 2, attributes=TOOLS), genai_parent="")])
    for one in (SpanEncoder(only_genai=True), SpanEncoder(only_genai=True, convention="langfuse")):
        [mended] = read(one.payload([given]).protobuf)
        assert mended.parent_span_id == ""
        assert mended.attributes[semconv.PARENT_SPAN_ID] == f"{2:016x}"
    [same] = records([span("call", 3, 2, attributes=TOOLS)])
    assert SpanEncoder(only_genai=True).spans([same])[0].parent_span_id == f"{2:016x}"


def test_encoder_keeps_fields_it_does_not_change() -> None:
    link = Link(SpanContext(5, 6, is_remote=True))
    rich = ReadableSpan(
        "call", SpanContext(1, 2, is_remote=False, trace_state=TraceState([("vendor", "1")])),
        attributes=CALL, links=[link], kind=SpanKind.CLIENT, start_time=3, end_time=4,
        events=[Event("e", {"a": 1}, 3)], status=Status(StatusCode.ERROR, "no"),
    )  # fmt: skip
    payload = SpanEncoder(redaction=Redaction(masks=(str,), key="m")).payload([record_of_sdk(rich)])
    assert payload.protobuf == encode_spans([rich]).SerializeToString()


@pytest.mark.parametrize("where", ["attribute", "list", "event", "status"])
def test_span_fits_limit_for_any_large_text(where: str) -> None:
    text = "x" * 100_000
    event = EventData(name="exception", at_ns=1, attributes={"exception.stacktrace": text})
    large = {
        "attribute": span("x", 1, attributes={**CALL, "a": text}),
        "list": span("x", 1, attributes={**CALL, "a": [text, text]}),
        "event": span("x", 1, attributes=CALL, events=(event,)),
        "status": span("x", 1, attributes=CALL, status_message=text),
    }[where]
    [given] = records([large])
    encoder = SpanEncoder(max_span_bytes=8000)
    assert len(body_of(encoder, given)) <= 8000
    [one] = read(encoder.payload([given]).protobuf)
    assert one.attributes[semconv.USAGE_INPUT_TOKENS] == 100
    assert one.duration_ms == large.duration_ms


def test_truncation_keeps_first_original_length() -> None:
    [given] = records([span("x", 1, attributes={**CALL, "a": "x" * 50_000})])
    [one] = read(SpanEncoder(max_attribute_bytes=20_000, max_span_bytes=8000).payload([given]).protobuf)
    assert len(one.attributes["a"]) < 8000
    assert one.attributes["a.original_bytes"] == 50_000


def test_truncated_does_not_increase_size() -> None:
    [given] = records([span("x", 1, attributes={**CALL, "a": "x" * 50_000})])
    strict = SpanEncoder(max_span_bytes=8000)
    assert strict.payload([given]).truncated(1_000_000).protobuf == strict.payload([given]).protobuf
    assert strict.payload([given]).truncated(8000).spans == strict.payload([given]).spans


def test_resource_attributes_of_destination_win_and_keep_schema() -> None:
    resource = Resource({"service.name": "bot", "project": "old"}, "https://schemas.test/1")
    rich = ReadableSpan("call", SpanContext(1, 2, is_remote=False), resource=resource, start_time=3, end_time=4)
    given = record_of_sdk(rich)
    sent = ExportTraceServiceRequest.FromString(SpanEncoder(resource={"project": "new"}).payload([given]).protobuf)
    [of_resource] = sent.resource_spans
    assert attributes_of(of_resource.resource.attributes) == {"service.name": "bot", "project": "new"}
    assert of_resource.schema_url == "https://schemas.test/1"


def test_empty_batch_is_empty_request() -> None:
    assert SpanEncoder().payload([]).protobuf == b""
    assert json.loads(SpanEncoder().payload([]).json) == {"resourceSpans": []}


def test_no_shared_redaction_leaves_spool_unredacted() -> None:
    assert not shared_redaction([])
    same = shared_redaction([config("otlp", mask=[a_function, "a"]), config("console", mask=[a_function])])
    assert [mask("x") for mask in same.masks] == ["x"]
