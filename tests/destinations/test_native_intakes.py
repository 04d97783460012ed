"""Datadog's and PostHog's own intakes, with a server that takes what their documents name and refuses the rest.

No engine of either runs here: the schema below is read from the documents (``source`` of the rows).
"""

from __future__ import annotations

import gzip
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jsonschema
import pytest
from tests.destinations.configs import CANARY, REQUIRED, config
from tests.destinations.conftest import Explained
from tests.destinations.golden import assert_golden
from tests.destinations.payloads import payload
from tests.destinations.spans import LEAKS, START_NS, conversation, records, span
from tests.encoding.test_conventions import TOOLS
from tests.export.pipelines import pipeline_with
from tests.ports import own_port

from spancast.destinations import datadog, registry
from spancast.destinations.datadog import DatadogDestination
from spancast.destinations.protocol import Delivered, Destination, Rejected, Retry
from spancast.model import semconv
from spancast.testing import check_destination

TEXT, NUMBER = {"type": "string"}, {"type": "number"}
MESSAGES = {
    "type": "object",
    "properties": {
        "messages": {"type": "array", "items": {
            "type": "object", "required": ["content"], "additionalProperties": False,
            "properties": {
                "role": TEXT, "content": TEXT,
                "tool_calls": {"type": "array", "items": {
                    "type": "object", "additionalProperties": False,
                    "properties": {"name": TEXT, "arguments": {"type": "object"}, "tool_id": TEXT, "type": TEXT},
                }},
                "tool_results": {"type": "array", "items": {
                    "type": "object", "additionalProperties": False,
                    "properties": {"name": TEXT, "result": TEXT, "tool_id": TEXT, "type": TEXT},
                }},
            },
        }},
        "value": TEXT, "documents": {"type": "array"}, "parameters": {"type": "object"},
    },
    "additionalProperties": False,
}  # fmt: skip
DATADOG = {
    "type": "object", "required": ["data"], "additionalProperties": False,
    "properties": {"data": {
        "type": "object", "required": ["type", "attributes"], "additionalProperties": False,
        "properties": {"type": {"const": "span"}, "attributes": {
            "type": "object", "required": ["ml_app", "spans"], "additionalProperties": False,
            "properties": {
                "ml_app": {"type": "string", "pattern": r"^[a-z0-9_\-:./]{1,193}$"},
                "tags": {"type": "array", "items": TEXT}, "session_id": TEXT,
                "spans": {"type": "array", "minItems": 1, "items": {
                    "type": "object", "additionalProperties": False,
                    "required": ["name", "span_id", "trace_id", "parent_id", "start_ns", "duration", "meta"],
                    "properties": {
                        "name": TEXT, "span_id": TEXT, "trace_id": TEXT, "parent_id": TEXT, "session_id": TEXT,
                        "start_ns": {"type": "integer"}, "duration": NUMBER, "status": {"enum": ["ok", "error"]},
                        "tags": {"type": "array", "items": TEXT},
                        "metrics": {"type": "object", "additionalProperties": NUMBER},
                        "meta": {
                            "type": "object", "required": ["kind"], "additionalProperties": False,
                            "properties": {
                                "kind": {"enum": ["agent", "workflow", "llm", "tool", "task", "embedding", "retrieval"]},
                                "model_name": TEXT, "model_provider": TEXT, "input": MESSAGES, "output": MESSAGES,
                                "metadata": {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}},
                                "tool_definitions": {"type": "array", "items": {"type": "object", "required": ["name"]}},
                                "error": {"type": "object", "properties": {"type": TEXT, "message": TEXT, "stack": TEXT}},
                            },
                        },
                    },
                }},
            },
        }},
    }},
}  # fmt: skip
POSTHOG = {
    "type": "object", "required": ["api_key", "batch"], "additionalProperties": False,
    "properties": {"api_key": TEXT, "batch": {"type": "array", "minItems": 1, "items": {
        "type": "object", "required": ["event", "uuid", "distinct_id", "timestamp", "properties"],
        "additionalProperties": False,
        "properties": {
            "event": {"enum": ["$ai_generation", "$ai_embedding", "$ai_span", "$ai_trace"]}, "uuid": TEXT,
            "distinct_id": {"type": "string", "minLength": 1}, "timestamp": TEXT,
            "properties": {
                "type": "object", "required": ["$ai_trace_id", "$ai_span_id", "$ai_latency", "$ai_is_error"],
                "properties": {
                    "$ai_trace_id": {"type": "string", "pattern": r"^[A-Za-z0-9\-_~.@()!':|]+$"},
                    "$ai_input": {"type": "array"}, "$ai_output_choices": {"type": "array"}, "$ai_tools": {"type": "array"},
                    "$ai_input_tokens": {"type": "integer"}, "$ai_total_cost_usd": NUMBER, "$ai_latency": NUMBER,
                },
            },
        },
    }}},
}  # fmt: skip


class Intake(ThreadingHTTPServer):
    """``replies`` are those to batches, in order; ``batches`` are the bodies that were taken."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.batches: list[Any] = []
        self.encodings: list[str | None] = []
        self.replies: list[tuple[int, bytes]] = []
        self.key_is_valid = True
        self.url = f"http://127.0.0.1:{self.server_port}"

    def spans(self) -> list[Any]:
        return [
            one
            for body in self.batches
            for one in (body["batch"] if "batch" in body else body["data"]["attributes"]["spans"])
        ]


class Handler(BaseHTTPRequestHandler):
    server: Intake

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.path == "/api/v1/validate":
            self.answer(*((200, b'{"valid":true}') if self.server.key_is_valid else (403, b'{"errors":["Forbidden"]}')))
            return
        self.server.encodings.append(self.headers.get("Content-Encoding"))
        if self.headers.get("Content-Encoding") == "gzip":
            text = gzip.decompress(text)
        if self.server.replies:
            status, body = self.server.replies.pop(0)
            if status >= 300:
                self.answer(status, body)
                return
        body = json.loads(text)
        if self.path == "/api/intake/llm-obs/v1/trace/spans":
            schema, status = DATADOG, 202
            assert self.headers["DD-API-KEY"] == f"{CANARY}-key"
        else:
            assert self.path == "/batch/"
            schema, status = POSTHOG, 200
            assert body["api_key"] == f"{CANARY}-key"
        try:
            jsonschema.validate(body, schema)
        except jsonschema.ValidationError as error:
            self.answer(400, error.message.encode())
            return
        self.server.batches.append(body)
        self.answer(status, b"")

    do_GET = do_POST  # noqa: N815 - the names of http.server

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def intake() -> Iterator[Intake]:
    server = Intake()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


ADDRESS = {"datadog": "url", "posthog": "endpoint"}
KINDS = sorted(ADDRESS)


def entry(kind: str, url: str, **others: Any) -> dict[str, Any]:
    return {"type": kind, **REQUIRED[kind], ADDRESS[kind]: url, "timeout": 60, **others}


@pytest.fixture
def make(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Destination]:
    # The spans of the tests are of 2026-09-29.
    monkeypatch.setattr(datadog, "now_ns", lambda: START_NS)

    def destination(kind: str, **others: Any) -> Destination:
        return registry.create(config(kind, **{ADDRESS[kind]: intake.url}, **others), "one")

    return destination


Make = Callable[..., Destination]


def test_datadog_gets_the_fields_of_its_document(intake: Intake, make: Make) -> None:
    to = make("datadog")
    assert isinstance(to, DatadogDestination)
    assert to.deliver(payload(), 60) == Delivered()
    to.close()
    [body] = intake.batches
    attributes = body["data"]["attributes"]
    assert (attributes["ml_app"], attributes["tags"]) == ("support-bot", ["service:support-bot", "source:spancast"])
    call, failed, step, group = attributes["spans"]
    trace_id = conversation()[0].trace_id
    own = {"order_id": "ORD-12345", "priority": "high"}
    names = {"trace_id": "order_processing_001", "trace_name": "Order Processing Pipeline"}
    assert call == {
        "name": "Extract Order Details", "span_id": "0000000000000003", "trace_id": trace_id,
        "parent_id": "0000000000000002", "start_ns": START_NS + 10_000_000, "duration": 1_000_000_000, "status": "ok",
        "session_id": "session_abc",
        "tags": [
            "user_id:user_12345", "trace_name:Order Processing Pipeline", "order_id:ORD-12345", "priority:high",
        ],
        "meta": {
            "kind": "llm", "model_name": "openai/gpt-4o", "model_provider": "openai",
            "input": {
                "messages": [
                    {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Process this order..."},
                ],
                "parameters": {"temperature": 0.7, "max_tokens": 150, "user_tier": "gold"},
            },
            "output": {"messages": [{"role": "assistant", "content": "Order ORD-12345: 2 items."}]},
            "metadata": {
                "temperature": 0.7, "max_tokens": 150, "user_tier": "gold", "finish_reason": "stop",
                "provider_name": "OpenAI", "generation_name": "Extract Order Details", **names, **own,
            },
        },
        "metrics": {
            "input_tokens": 100, "output_tokens": 50, "total_tokens": 150, "non_cached_input_tokens": 80,
            "cache_read_input_tokens": 20, "reasoning_output_tokens": 5, "input_cost": 0.00025, "output_cost": 0.0005,
            "total_cost": 0.00075, "time_to_first_token": 0.5,
        },
    }  # fmt: skip
    assert (failed["status"], failed["meta"]["error"]) == (
        "error", {"type": "RateLimitError", "message": "rate limited", "stack": ""},
    )  # fmt: skip
    assert (step["parent_id"], step["meta"]["kind"]) == ("0000000000000001", "workflow")
    assert (group["parent_id"], group["meta"]) == ("undefined", {"kind": "workflow", "metadata": {**names, **own}})


def test_datadog_gets_tools_and_their_results(intake: Intake, make: Make) -> None:
    messages = [
        {"role": "user", "parts": [{"type": "text", "content": "Where?"}]},
        {"role": "assistant", "parts": [{"type": "tool_call", "id": "c1", "name": "track", "arguments": {"order": "A"}},
                                        {"type": "tool_call", "id": "c2", "name": "track", "arguments": "no object"}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "At the depot"}]},
    ]  # fmt: skip
    tools = [{"type": "function", "name": "track", "description": "Track", "parameters": {"type": "object"}}]
    asked = {
        semconv.OPERATION_NAME: "chat", semconv.INPUT_MESSAGES: json.dumps(messages),
        semconv.TOOL_DEFINITIONS: json.dumps(tools), semconv.TRACE_METADATA + "tags": ["beta"],
    }  # fmt: skip
    to = make("datadog")
    assert to.deliver(payload([span("chat", 1, attributes=asked)]), 60) == Delivered()
    to.close()
    [sent] = intake.spans()
    assert sent["meta"]["tool_definitions"] == [{"name": "track", "description": "Track", "schema": {"type": "object"}}]
    _, called, result = sent["meta"]["input"]["messages"]
    assert called["tool_calls"] == [
        {"name": "track", "arguments": {"order": "A"}, "tool_id": "c1", "type": "function"},
        {"name": "track", "arguments": {"arguments": "no object"}, "tool_id": "c2", "type": "function"},
    ]
    assert (sent["tags"], "metadata" in sent["meta"]) == (["beta"], False)
    assert result == {
        "role": "tool", "content": "At the depot",
        "tool_results": [{"name": "track", "result": "At the depot", "tool_id": "c1", "type": "tool_result"}],
    }  # fmt: skip


def test_datadog_gives_up_spans_older_than_a_day_and_lists_them(intake: Intake, make: Make) -> None:
    day_ms = 24 * 3600 * 1000
    batch = records([span("old", 1, at_ms=-day_ms), *(span("young", number, at_ms=-number) for number in (2, 3, 4))])
    pipeline = pipeline_with({"one": make("datadog")}, None)
    pipeline.spool.put(batch, {})
    pipeline._start()
    report = pipeline.flush(60).destinations["one"]
    assert (report.delivered, report.dead_lettered, report.queued) == (3, 1, 0)
    [letter] = pipeline.spool.dead_letters()
    assert letter.reason == "Datadog takes no span that began more than 24 hours ago"
    pipeline.shutdown()
    assert [one["name"] for one in intake.spans()] == ["young"] * 3


def test_datadog_request_stays_within_five_million_bytes(intake: Intake, make: Make) -> None:
    texts = [span("a", number + 1, attributes={semconv.TRACE_METADATA + "x": "x" * 2_000_000}) for number in range(3)]
    to = make("datadog")
    outcome = to.deliver(payload(texts[:1]), 60)
    assert outcome == Delivered()
    assert to.deliver(payload(texts), 60) == Delivered()
    to.close()
    assert [len(body["data"]["attributes"]["spans"]) for body in intake.batches] == [1, 1, 1, 1]


def test_posthog_gets_the_properties_of_its_document(intake: Intake, make: Make) -> None:
    to = make("posthog")
    assert [to.deliver(payload(), 60), to.deliver(payload(), 60)] == [Delivered(), Delivered()]
    to.close()
    first, second = intake.batches
    assert first == second, "a batch that is sent again has the same UUIDs"
    call, failed, step, group = first["batch"]
    trace_id = conversation()[0].trace_id
    assert uuid.UUID(call["uuid"]).version == 5
    assert len({one["uuid"] for one in first["batch"]}) == 4
    assert {name: call[name] for name in ("event", "distinct_id", "timestamp")} == {
        "event": "$ai_generation", "distinct_id": "user_12345", "timestamp": "2026-09-29T12:00:00.010Z",
    }  # fmt: skip
    assert call["properties"] == {
        "$ai_trace_id": trace_id, "$ai_span_id": "0000000000000003", "$ai_parent_id": "0000000000000002",
        "$ai_session_id": "session_abc", "$ai_span_name": "Extract Order Details",
        "$ai_trace_name": "Order Processing Pipeline", "$ai_model": "openai/gpt-4o", "$ai_provider": "openai",
        "$ai_input": [
            {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Process this order..."},
        ],
        "$ai_output_choices": [
            {"role": "assistant", "content": "Order ORD-12345: 2 items.", "finish_reason": "stop"},
        ],
        "$ai_input_tokens": 100, "$ai_output_tokens": 50, "$ai_cache_read_input_tokens": 20, "$ai_reasoning_tokens": 5,
        "$ai_cache_reporting_exclusive": False, "$ai_input_cost_usd": 0.00025, "$ai_output_cost_usd": 0.0005,
        "$ai_total_cost_usd": 0.00075, "$ai_latency": 1.0, "$ai_time_to_first_token": 0.5, "$ai_stream": True,
        "$ai_stop_reason": "stop", "$ai_temperature": 0.7, "$ai_max_tokens": 150,
        "$ai_model_parameters": {"temperature": 0.7, "max_tokens": 150, "user_tier": "gold"}, "$ai_is_error": False,
        "order_id": "ORD-12345", "priority": "high", "$lib": "spancast",
    }  # fmt: skip
    assert (failed["properties"]["$ai_is_error"], failed["properties"]["$ai_error"]) == (True, "rate limited")
    assert (step["event"], group["event"]) == ("$ai_span", "$ai_trace")


@pytest.mark.parametrize("kind", KINDS)
def test_request_matches_the_golden_file(kind: str, intake: Intake, make: Make) -> None:
    """The files were compared with the examples of the products' documents, field by field, on 2026-11-30.

    Datadog: ``session_id`` of the envelope is left out, since a batch has spans of several sessions and each span names
    its own. PostHog: a span without a parent is ``$ai_trace``, as PostHog's own OTLP endpoint makes it.
    """
    to = make(kind)
    assert to.deliver(payload(), 60) == Delivered()
    to.close()
    [body] = intake.batches
    assert_golden(kind, body)


def test_posthog_gets_tools_as_its_sdk_sends_them(intake: Intake, make: Make) -> None:
    tools = [
        {"type": "function", "name": "track", "description": "Track", "parameters": {"type": "object"}},
        {"name": "find", "input_schema": {"type": "object"}},
        {"type": "function", "function": {"name": "book"}},
        {"type": "web_search", "name": "search"},
    ]
    to = make("posthog")
    asked = {semconv.OPERATION_NAME: "chat", semconv.TOOL_DEFINITIONS: json.dumps(tools)}
    assert to.deliver(payload([span("chat", 1, attributes=asked)]), 60) == Delivered()
    to.close()
    [sent] = intake.spans()
    assert sent["properties"]["$ai_tools"] == [
        {
            "type": "function",
            "function": {"name": "track", "description": "Track", "parameters": {"type": "object"}},
        },
        {"type": "function", "function": {"name": "find", "input_schema": {"type": "object"}}},
        *tools[2:],
    ]


def test_posthog_is_sent_gzip_unless_it_is_turned_off(intake: Intake, make: Make) -> None:
    for others in ({}, {"compression": "none"}):
        to = make("posthog", **others)
        assert to.deliver(payload(), 60) == Delivered()
        to.close()
    assert intake.encodings == ["gzip", None]
    assert intake.batches[0] == intake.batches[1]


def test_datadog_is_not_compressed_since_its_document_names_no_compression(intake: Intake, make: Make) -> None:
    to = make("datadog")
    assert to.deliver(payload(), 60) == Delivered()
    to.close()
    assert intake.encodings == [None]


def test_posthog_creates_no_person_for_a_session(intake: Intake, make: Make) -> None:
    to = make("posthog")
    keys = {semconv.OPERATION_NAME: "chat", semconv.SESSION_ID: "s-1"}
    assert to.deliver(payload([span("a", 1, attributes=keys), span("b", 2, attributes={})]), 60) == Delivered()
    to.close()
    with_session, without = intake.spans()
    assert with_session["distinct_id"] == "s-1"
    assert without["distinct_id"] == conversation()[0].trace_id
    assert with_session["properties"]["$process_person_profile"] is False


@pytest.mark.parametrize("kind", KINDS)
def test_own_intake_in_privacy_mode_sends_no_content(kind: str, intake: Intake, make: Make) -> None:
    to = make(kind, privacy_mode=True)
    leaking = records([span("call", 9, attributes={**TOOLS, **LEAKS}, status="error", status_message="canary")])
    assert to.deliver(to.encoder.payload(leaking), 60) == Delivered()
    to.close()
    text = json.dumps(intake.spans())
    assert "gpt-4o" in text
    assert "canary" not in text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("status", "expected"), [(403, Retry), (429, Retry), (503, Retry), (408, Retry), (400, Rejected), (413, Rejected)]
)
def test_outcome_of_an_answer(status: int, expected: type, kind: str, intake: Intake, make: Make) -> None:
    intake.replies = [(status, f"not so, {CANARY}-key".encode())]
    to = make(kind)
    outcome = to.deliver(payload(), 60)
    assert isinstance(outcome, expected)
    assert "not so" in outcome.reason
    assert CANARY not in f"{outcome} {to!r}"
    assert to.deliver(payload(), 60) == Delivered()
    to.close()


def test_datadog_connection_test_is_of_the_key(intake: Intake, make: Make) -> None:
    to = make("datadog")
    assert to.test_connection(60) == Delivered()
    intake.key_is_valid = False
    assert isinstance(to.test_connection(60), Retry)
    assert not intake.batches
    to.close()


def test_posthog_connection_test_says_what_it_does_not_test(intake: Intake, make: Make) -> None:
    to = make("posthog")
    assert to.test_connection(60) == Delivered(message="PostHog does not check the token")
    to.close()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://api.datadoghq.com", "api.datadoghq.com/api"), ("https://app.datadoghq.eu", "api.datadoghq.eu/api"),
        ("https://api.us5.datadoghq.com/", "api.us5.datadoghq.com/api"), ("https://proxy.test/dd/", "proxy.test/dd/api"),
    ],
)  # fmt: skip
def test_datadog_host_follows_from_the_site(url: str, expected: str) -> None:
    to = registry.create(config("datadog", url=url), "one")
    assert isinstance(to, DatadogDestination)
    assert repr(to._sender) == f"HttpSender(Datadog at {expected})"


def test_datadog_name_of_the_application_is_one_that_it_takes(intake: Intake, make: Make) -> None:
    to = make("datadog", ml_app="My Süpport__Bot_")
    assert to.deliver(payload([span("a", 1)]), 60) == Delivered()
    to.close()
    assert intake.batches[0]["data"]["attributes"]["ml_app"] == "my_spport_bot"


@pytest.mark.parametrize("kind", KINDS)
def test_contract(kind: str, intake: Intake) -> None:
    check_destination(
        lambda: entry(kind, intake.url),
        unreachable=lambda: entry(kind, f"http://127.0.0.1:{own_port()}"),
        secrets=[CANARY],
    )
    # Without the event of a connection test.
    assert (
        len({one.get("uuid", one.get("span_id")) for one in intake.spans() if "connection-test" not in str(one)}) == 6
    )


@pytest.mark.parametrize("kind", KINDS)
def test_explain_follows_a_span(kind: str, intake: Intake, explained: Explained) -> None:
    to = entry(kind, intake.url)
    assert explained(to)[0] == "delivered"
    intake.replies = [(400, b"no such model")]
    state, reason = explained(to)
    assert (state, "no such model" in reason) == ("dead_lettered", True)
    state, reason = explained({**to, ADDRESS[kind]: f"http://127.0.0.1:{own_port()}", "timeout": 1}, is_away=True)
    assert (state, "127.0.0.1" in reason) == ("queued", True)
    assert len(intake.spans()) == 1
