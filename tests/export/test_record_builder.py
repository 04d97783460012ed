"""Records of ended spans: the bytes, whether it is a GenAI span, and the facts for filters."""

from __future__ import annotations

import enum
import json
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags
from tests.destinations.spans import CALL, FAILED_CALL, span

from spancast.encoding.redaction import Redaction, pattern_mask
from spancast.encoding.span_data import ScopeData, SpanData, read_record
from spancast.export.filter_fields import filter_fields_of
from spancast.export.record_builder import ContextCache, is_genai_span, record_of
from spancast.export.spool.memory import MemorySpool
from spancast.model import semconv
from spancast.model.span_record import SpanRecord

WORKER_THREADS = InstrumentationScope("spancast", "1")


def ended(
    parent_flags: int | None = None, scope: InstrumentationScope | None = WORKER_THREADS, **others: Any
) -> ReadableSpan:
    parent = None if parent_flags is None else SpanContext(7, 9, is_remote=True, trace_flags=TraceFlags(parent_flags))
    given = {
        "attributes": CALL,
        "resource": Resource({"service.name": "bot"}),
        "start_time": 1,
        "end_time": 5,
        **others,
    }
    context = SpanContext(7, 8, is_remote=False, trace_flags=TraceFlags(1))
    return ReadableSpan("chat", context, parent, instrumentation_scope=scope, **given)


def recorded(span: ReadableSpan, above: bytes | None = None, **options: Any) -> SpanRecord:
    return record_of(span, dict(span.attributes or {}), span.status, ContextCache(), above, **options)


def from_disk(record: SpanRecord) -> SpanData:
    """Return the span of a copy of ``record`` that holds no decoded span."""
    return read_record(replace(record, held=None))


def of_attributes(attributes: dict[str, Any]) -> dict[str, Any]:
    record = recorded(ReadableSpan("x", SpanContext(1, 2, is_remote=False), attributes=attributes))
    return record.facts


def test_record_decodes_to_span_with_resource_and_scope() -> None:
    span = ended(1)
    record = recorded(span)
    assert (record.trace_id, record.span_id, record.parent_span_id) == (
        (7).to_bytes(16, "big"), (8).to_bytes(8, "big"), (9).to_bytes(8, "big"),
    )  # fmt: skip
    assert record.end_ns == 5
    body = json.loads(record.body)
    assert (body["name"], body["attributes"][semconv.REQUEST_MODEL]) == ("chat", "openai/gpt-4o")
    assert json.loads(record.resource)["attributes"] == {"service.name": "bot"}
    assert json.loads(record.scope)["name"] == "spancast"


def test_root_has_no_parent_and_open_span_no_end() -> None:
    record = recorded(ended(end_time=None))
    span = read_record(record)
    assert (record.parent_span_id, record.end_ns) == (b"", 0)
    assert (span.parent_span_id, span.end_ns, span.parent_sampled, span.genai_parent) == ("", 0, True, None)


def test_contexts_are_encoded_once_and_bounded() -> None:
    contexts = ContextCache()
    resource = Resource({"service.name": "bot"})
    first = contexts.resource(resource)
    assert contexts.resource(resource) is first
    assert contexts.scope(WORKER_THREADS) is contexts.scope(WORKER_THREADS)
    assert contexts.scope(None)[1] == ScopeData()
    names = [contexts.resource(Resource({"service.name": f"bot-{n}"}))[0] for n in range(600)]
    assert len(set(names)) == 600, "no other resource's bytes, though ids come again"
    assert len(contexts._entries) <= 256
    assert contexts.resource(resource) == first


@pytest.mark.parametrize(
    ("scope", "attributes", "expected"),
    [
        ("spancast", {}, True),
        ("other", {semconv.OPERATION_NAME: "chat"}, True),
        ("other", {"gen_ai.system": "openai"}, True),
        ("other", {"openinference.span.kind": "TOOL"}, True),
        ("other", {"traceloop.span.kind": "workflow"}, True),
        ("other", {"langfuse.observation.type": "span"}, True),
        ("other", {"ai.operationId": "ai.generateText"}, True),
        ("other", {"http.request.method": "GET"}, False),
        ("other", None, False),
        (None, {}, False),
    ],
)
def test_is_genai_span(scope: str | None, attributes: dict[str, Any] | None, expected: bool) -> None:
    assert is_genai_span(InstrumentationScope(scope) if scope else None, attributes) is expected


def test_facts_of_call() -> None:
    attributes = {**CALL, semconv.TRACE_METADATA + "api_key_name": "production"}
    facts = filter_fields_of(span("call", 1, attributes=attributes))
    assert facts.pop("input") == CALL[semconv.INPUT_MESSAGES]
    assert facts.pop("output") == CALL[semconv.OUTPUT_MESSAGES]
    assert facts == {
        "operation": "chat", "model": "openai/gpt-4o", "provider": "OpenAI", "session_id": "session_abc",
        "user_id": "user_12345", "api_key_name": "production", "total_cost": 0.00075, "total_tokens": 150,
        "prompt_tokens": 100, "completion_tokens": 50, "finish_reason": "stop",
    }  # fmt: skip


def test_facts_of_other_instrumentations() -> None:
    assert of_attributes(
        {
            "openinference.span.kind": "LLM", "llm.model_name": "gpt-4o", "llm.provider": "openai",
            "llm.token_count.prompt": 3, "llm.token_count.completion": 4, "llm.cost.total": 0.1,
            "input.value": "hi", "output.value": "ho",
        }
    ) == {
        "operation": "LLM", "model": "gpt-4o", "provider": "openai", "prompt_tokens": 3, "completion_tokens": 4,
        "total_tokens": 7, "total_cost": 0.1, "input": "hi", "output": "ho",
    }  # fmt: skip


def test_provider_fact_prefers_serving_provider() -> None:
    assert (
        of_attributes({semconv.PROVIDER_NAME: "openrouter", semconv.RESPONSE_PROVIDER: "Azure"})["provider"] == "Azure"
    )
    assert of_attributes({semconv.PROVIDER_NAME: "openrouter"})["provider"] == "openrouter"


@pytest.mark.parametrize(
    "attributes",
    [{}, {semconv.RESPONSE_FINISH_REASONS: []}, {semconv.REQUEST_MODEL: None}, {semconv.USAGE_INPUT_TOKENS: 5, semconv.USAGE_OUTPUT_TOKENS: "x"}],
)  # fmt: skip
def test_missing_attributes_give_no_facts(attributes: dict[str, Any]) -> None:
    assert not {"finish_reason", "model", "total_tokens", "session_id"} & set(of_attributes(attributes))


@pytest.mark.parametrize(
    ("status", "attributes", "expected"),
    [
        (StatusCode.ERROR, FAILED_CALL, "RateLimitError"),
        (StatusCode.ERROR, {}, "error"),
        (StatusCode.OK, FAILED_CALL, None),
        (StatusCode.UNSET, CALL, None),
    ],
)
def test_error_fact_follows_status(status: StatusCode, attributes: dict[str, Any], expected: str | None) -> None:
    assert recorded(ended(status=Status(status), attributes=attributes)).facts.get("error") == expected


@pytest.mark.parametrize(("flags", "expected"), [(None, True), (1, True), (0, False)])
def test_unsampled_parent_is_marked(flags: int | None, expected: bool) -> None:
    assert from_disk(recorded(ended(flags))).parent_sampled is expected


@pytest.mark.parametrize(("above", "expected"), [(None, None), (b"", ""), (b"\x00" * 7 + b"\xaa", "00000000000000aa")])
def test_genai_parent_is_on_the_span(above: bytes | None, expected: str | None) -> None:
    assert from_disk(recorded(ended(1), above)).genai_parent == expected


@pytest.mark.parametrize(
    ("asked", "answered", "facts"),
    [
        (2**70, 1, {"prompt_tokens": str(2**70), "completion_tokens": 1}),
        (49 * 10**17, 49 * 10**17, {"prompt_tokens": 49 * 10**17, "completion_tokens": 49 * 10**17, "total_tokens": "9800000000000000000"}),
        (10**6000, "12", {"prompt_tokens": hex(10**6000), "completion_tokens": "12"}),
        ([1], -(2**64), {"completion_tokens": str(-(2**64))}),
    ],
    ids=["beyond", "sum beyond", "long", "odd"],
)  # fmt: skip
def test_fact_beyond_64_bits_is_text(asked: Any, answered: Any, facts: dict[str, Any]) -> None:
    attributes = {semconv.USAGE_INPUT_TOKENS: asked, semconv.USAGE_OUTPUT_TOKENS: answered}
    assert of_attributes(attributes) == facts


@pytest.mark.parametrize("end_time", [2**63, 2**70, -5, 1.5e18, float("nan")])
@pytest.mark.parametrize(
    "attributes",
    [CALL, {semconv.RESPONSE_FINISH_REASONS: (10**6000,), semconv.ERROR_TYPE: 10**6000}],
    ids=["call", "odd"],
)
def test_record_with_odd_values_can_be_stored(end_time: Any, attributes: dict[str, Any]) -> None:
    record = recorded(ended(end_time=end_time, attributes=attributes, status=Status(StatusCode.ERROR)))
    spool = MemorySpool(1 << 20)
    spool.register(["one"])
    assert spool.put([record], {}) == 0
    assert spool.state("one").queued == 1
    assert spool.purge("one") == 1
    spool.close()


def test_redacted_content_is_not_in_record_but_in_filter_facts() -> None:
    redaction = Redaction(masks=(pattern_mask("canary", "***"),), key="m")
    said = {**CALL, semconv.INPUT_MESSAGES: '[{"role":"user","content":"canary"}]', semconv.USER_ID: "canary"}
    record = recorded(ended(attributes=said), redaction=redaction)
    assert b"canary" not in record.body
    assert "canary" not in str(read_record(record))
    assert record.facts["user_id"] == "canary"
    assert recorded(ended(attributes=said), redaction=redaction, with_facts=False).facts == {}


@pytest.mark.parametrize("redaction", [Redaction(), Redaction(masks=(str,), key="m")], ids=["plain", "masked"])
def test_lone_surrogates_become_question_marks_in_memory_and_on_disk(redaction: Redaction) -> None:
    odd = ended(attributes={"a\ud800": "b\udfff", "list": ("\ud800",)}, status=Status(StatusCode.ERROR, "no\ud800"))
    record = recorded(odd, redaction=redaction)
    for one in (read_record(record), from_disk(record)):
        assert (one.attributes, one.status_message) == ({"a?": "b?", "list": ["?"]}, "no?")


def test_names_that_are_enums_are_their_values() -> None:
    class Name(enum.StrEnum):
        MODEL = "my.model"

    record = recorded(ended(attributes={Name.MODEL: "m"}, events=[Event(5, {Name.MODEL: 1}, 3)]))  # type: ignore[arg-type]
    for one in (read_record(record), from_disk(record)):
        assert list(map(type, one.attributes)) == [str]
        assert (one.attributes, one.events[0].name, one.events[0].attributes) == (
            {"my.model": "m"},
            "5",
            {"my.model": 1},
        )
