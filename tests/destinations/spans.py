"""Spans of a support conversation, for the destinations that read spans."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan

from spancast.encoding.span_data import (
    EventData,
    ResourceData,
    ScopeData,
    SpanData,
    read_record,
    resource_json,
    scope_json,
    span_json,
)
from spancast.export.record_builder import ContextCache, record_of
from spancast.model import semconv
from spancast.model.json_codec import encode
from spancast.model.span_record import SpanRecord

START_NS = 1_790_683_200_000_000_000  # 2026-09-29T12:00:00Z
MS = 1_000_000
TRACE_ID = "5b8aa5a2d2c872e8321cf37308d69df2"
KEYS: dict[str, Any] = {
    semconv.SESSION_ID: "session_abc",
    semconv.CONVERSATION_ID: "session_abc",
    semconv.USER_ID: "user_12345",
    semconv.TRACE_NAME: "Order Processing Pipeline",
    semconv.RAW_TRACE_ID: "order_processing_001",
    semconv.TRACE_METADATA + "order_id": "ORD-12345",
    semconv.TRACE_METADATA + "priority": "high",
}
CALL: dict[str, Any] = {
    **KEYS,
    semconv.OPERATION_NAME: "chat",
    semconv.PROVIDER_NAME: "openai",
    semconv.RESPONSE_PROVIDER: "OpenAI",
    semconv.REQUEST_MODEL: "openai/gpt-4o",
    semconv.RESPONSE_MODEL: "openai/gpt-4o",
    semconv.REQUEST_TEMPERATURE: 0.7,
    semconv.REQUEST_MAX_TOKENS: 150,
    semconv.REQUEST_STREAM: True,
    semconv.REQUEST + "user_tier": "gold",
    semconv.GENERATION_NAME: "Extract Order Details",
    semconv.INPUT_MESSAGES: encode(
        [
            {"role": "system", "parts": [{"type": "text", "content": "Be brief."}]},
            {"role": "user", "parts": [{"type": "text", "content": "Process this order..."}]},
        ]
    ),
    semconv.OUTPUT_MESSAGES: encode(
        [
            {
                "role": "assistant",
                "parts": [{"type": "text", "content": "Order ORD-12345: 2 items."}],
                "finish_reason": "stop",
            }
        ]
    ),
    semconv.RESPONSE_FINISH_REASONS: ["stop"],
    semconv.RESPONSE_TIME_TO_FIRST_CHUNK: 0.5,
    semconv.USAGE_INPUT_TOKENS: 100,
    semconv.USAGE_OUTPUT_TOKENS: 50,
    semconv.USAGE_TOTAL_TOKENS: 150,
    semconv.USAGE_CACHE_READ: 20,
    semconv.USAGE_REASONING: 5,
    semconv.USAGE_COST: 0.00075,
    semconv.USAGE_COST_DETAILS + "upstream_inference_prompt_cost": 0.00025,
    semconv.USAGE_COST_DETAILS + "upstream_inference_completions_cost": 0.0005,
}
LEAKS: dict[str, Any] = {
    **dict.fromkeys(
        (
            semconv.REQUEST + "question", semconv.REQUEST + "history", semconv.REQUEST + "guided_json",
            semconv.REQUEST + "temperature", semconv.RESPONSE + "citations", semconv.RESPONSE + "status",
            semconv.RESPONSE_LOGPROBS, semconv.USAGE + "note", semconv.REQUEST_STOP_SEQUENCES, "gen_ai.something.new",
            "gen_ai.prompt.0.content", "llm.input_messages.0.message.content", "llm.something", "input.value",
            "output.value", "traceloop.entity.input", "ai.prompt", "exception.message", "error.message", "logfire.msg",
        ),
        "canary-leak of a text",
    ),
    semconv.REQUEST + "plugins": encode([{"id": "web", "search_prompt": "canary-leak"}]),
    semconv.REQUEST + "canary-leak": 1,
    semconv.USAGE + "canary-leak": 1,
    semconv.OVERFLOW: encode(
        {
            semconv.RESPONSE_LOGPROBS: "canary-leak",
            semconv.RESPONSE + "canary-leak": "canary-leak",
            semconv.REQUEST + "question": "canary-leak",
            semconv.TRACE_METADATA + "kept": "overflow-kept",
        }
    ),
}  # fmt: skip
"""Attributes whose content must not pass privacy mode; only ``overflow-kept`` is kept."""
FAILED_CALL: dict[str, Any] = {
    **KEYS,
    semconv.OPERATION_NAME: "chat",
    semconv.PROVIDER_NAME: "anthropic",
    semconv.REQUEST_MODEL: "claude-4.5-sonnet",
    semconv.ERROR_TYPE: "RateLimitError",
}
RESOURCE = ResourceData({"service.name": "support-bot"})
SCOPE = ScopeData("spancast")


def span(name: str, number: int, parent: int = 0, *, at_ms: int = 0, ms: float = 1000, **others: Any) -> SpanData:
    """Return a span whose ids are small numbers."""
    start_ns = START_NS + at_ms * MS
    fields = {"attributes": KEYS, "status": "unset", "status_message": "", "kind": 1, "trace_id": TRACE_ID, **others}
    return SpanData(
        span_id=f"{number:016x}",
        parent_span_id=f"{parent:016x}" if parent else "",
        name=name,
        start_ns=start_ns,
        end_ns=start_ns + round(ms * MS),
        resource=RESOURCE,
        scope=SCOPE,
        **fields,
    )


def conversation() -> list[SpanData]:
    """Return a trace of a group, a step, a successful call and a failed call, in the order in which they end."""
    failure = EventData(name="exception", at_ns=START_NS, attributes={"exception.type": "RateLimitError"})
    return [
        span("Extract Order Details", 3, 2, at_ms=10, attributes=CALL, kind=3),
        span("chat claude-4.5-sonnet", 4, 2, at_ms=1200, ms=80, attributes=FAILED_CALL, kind=3, status="error",
             status_message="rate limited", events=(failure,)),
        span("Extraction", 2, 1, at_ms=5, ms=1300),
        span("Order Processing Pipeline", 1, ms=1400),
    ]  # fmt: skip


def records(spans: Iterable[SpanData]) -> list[SpanRecord]:
    """Return the records of ``spans``."""
    return [
        SpanRecord(
            trace_id=bytes.fromhex(one.trace_id),
            span_id=bytes.fromhex(one.span_id),
            parent_span_id=bytes.fromhex(one.parent_span_id),
            end_ns=one.end_ns,
            is_genai=True,
            resource=resource_json(one.resource),
            scope=scope_json(one.scope),
            body=span_json(one),
        )
        for one in spans
    ]


def record_of_sdk(span: ReadableSpan) -> SpanRecord:
    """Return an ended span of the SDK as the export thread makes a record of it."""
    return record_of(span, dict(span.attributes or {}), span.status, ContextCache())


def of_sdk(span: ReadableSpan) -> SpanData:
    """Return an ended span of the SDK as the neutral span."""
    return read_record(record_of_sdk(span))
