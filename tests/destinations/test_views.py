"""A record in a view: redacted, renamed, shortened, encoded, each form once."""

from __future__ import annotations

import gzip
import json
import threading
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.trace import Link
from tests.destinations.configs import config
from tests.destinations.payloads import PlainPayload, _hex_ids
from tests.destinations.profiles.test_golden import TOOLS
from tests.destinations.spans import conversation, records, span

from spancast.broadcast.record import Heads, record_of
from spancast.destinations import otlp_json
from spancast.destinations.plain_span import read
from spancast.destinations.views import SpanView, common_redaction, redaction_of, view_of
from spancast.model import semconv


def test_the_plain_view_is_the_record_itself() -> None:
    given = records(conversation())
    sent = ExportTraceServiceRequest.FromString(SpanView().payload(given).protobuf)
    assert read(sent.SerializeToString()) == read(PlainPayload(given).protobuf)
    assert len(sent.resource_spans) == 1, "one resource, one scope: spans are grouped"


def test_json_is_what_the_official_message_gives() -> None:
    payload = SpanView().payload(
        records([*conversation(), span("odd", 9, attributes={**TOOLS, "b": True, "f": 1.5, "l": [1, "x"]})])
    )
    official = MessageToDict(ExportTraceServiceRequest.FromString(payload.protobuf), use_integers_for_enums=True)
    assert json.loads(payload.json) == _hex_ids(official)
    assert otlp_json.request_json(payload.protobuf) == payload.json


def test_each_form_is_made_once_whoever_asks() -> None:
    payload = SpanView().payload(records(conversation()))
    forms: list[bytes] = []
    threads = [threading.Thread(target=lambda: forms.append(payload.body("protobuf", gzip=True))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(form) for form in forms}) == 1
    assert gzip.decompress(forms[0]) == payload.protobuf


def test_equal_views_share() -> None:
    one, two = config("otlp", privacy_mode=True, mask=["a+"]), config("otel-collector", privacy_mode=True, mask=["a+"])
    assert view_of(one, "gen_ai").key == view_of(two, "gen_ai").key
    assert view_of(one, "gen_ai").key != view_of(one, "langfuse").key
    assert view_of(config("otlp"), "gen_ai").key != view_of(one, "gen_ai").key


def test_values_and_spans_that_are_too_large() -> None:
    messages = json.dumps([{"role": "user", "parts": [{"type": "text", "content": f"{n} " * 2000}]} for n in range(50)])
    given = records([span("large", 1, attributes={**TOOLS, semconv.INPUT_MESSAGES: messages, "text": "x" * 50_000})])
    [short] = read(SpanView(max_attribute_bytes=10_000).payload(given).protobuf)
    assert len(short.attributes[semconv.INPUT_MESSAGES].encode()) <= 10_000
    assert json.loads(short.attributes[semconv.INPUT_MESSAGES])[0]["role"] == "user"
    assert short.attributes[semconv.INPUT_MESSAGES + ".truncated"] is True
    assert short.attributes[semconv.INPUT_MESSAGES + ".original_bytes"] == len(messages)
    assert short.attributes["text"].endswith("[truncated]")
    view = SpanView(max_span_bytes=20_000)
    assert len(view.body(given[0])) <= 20_000
    [span_short] = read(view.payload(given).protobuf)
    assert span_short.attributes[semconv.USAGE_INPUT_TOKENS] == 100
    assert len(view.payload(given).shortened(5_000).protobuf) < 6_500


def test_what_a_link_says_is_left_out_where_something_is_redacted() -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    other = provider.get_tracer("t").start_span("other").get_span_context()
    linked = provider.get_tracer("t").start_span("linked", links=[Link(other, {"quote": "canary"})])
    linked.end()
    assert isinstance(linked, ReadableSpan)
    given = record_of(linked, Heads())
    assert b"canary" in SpanView().payload([given]).protobuf
    for masked in ({"privacy_mode": True}, {"mask": ["x"]}):
        sent = ExportTraceServiceRequest.FromString(
            view_of(config("otlp", **masked), "gen_ai").payload([given]).protobuf
        )
        [link] = sent.resource_spans[0].scope_spans[0].spans[0].links
        assert link.span_id == other.span_id.to_bytes(8, "big")
        assert not link.attributes


def test_a_resource_of_the_destinations_own() -> None:
    [one, *_] = read(SpanView(resource={"openinference.project.name": "p"}).payload(records(conversation())).protobuf)
    assert one.resource == {"service.name": "support-bot", "openinference.project.name": "p"}


def test_an_llm_parent_stands_in_for_one_that_is_not_sent() -> None:
    [given] = records([span("call", 3, 2, attributes=TOOLS)], llm_parent="00000000000000aa")
    [whole] = read(SpanView().payload([given]).protobuf)
    [mended] = read(SpanView(only_llm=True).payload([given]).protobuf)
    [renamed] = read(SpanView(only_llm=True, profile="langfuse").payload([given]).protobuf)
    assert whole.parent_span_id == f"{2:016x}"
    for one in (mended, renamed):
        assert one.parent_span_id == "00000000000000aa"
        assert one.attributes[semconv.PARENT_SPAN_ID] == f"{2:016x}"


def test_what_is_taken_out_before_the_disk() -> None:
    def shared(*entries: dict[str, Any]) -> Any:
        return common_redaction([config("otlp", **entry) for entry in entries])

    assert not shared({"privacy_mode": True}, {})
    assert shared({"privacy_mode": True}, {"privacy_mode": True}).is_private
    assert len(shared({"mask": ["a", "b"]}, {"mask": ["a", "c"]}).masks) == 1
    assert not shared({"mask": ["a"]}, {"mask": ["b"]})
    assert len(redaction_of(config("otlp", mask=["a", "b"])).masks) == 2
