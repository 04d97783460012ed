"""A call parsed on the export thread gives the same span as one parsed at once; other processors see complete spans."""

from __future__ import annotations

import copy
import json
import pickle
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from opentelemetry import context as context_api
from opentelemetry import trace as trace_api
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import StatusCode
from tests.tracing.span_targets import SpanTarget, captured_by_target, captured_from_sdk, own_provider, shown

import spancast
from spancast.diagnostics import counters, reraise_internal_errors
from spancast.dialects.openai_chat.reader import OPENAI_CHAT
from spancast.runtime import RUNTIME
from spancast.testing import CapturedSpans, ReplayServer, Reply
from spancast.tracing.span_factory import SpancastTracerProvider

MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "hi"}]},
]
TOOLS: Any = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]
STARTED_WITH = {
    "gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "server.address", "server.port"
}  # fmt: skip
WAYS = ["whole", "streamed", "left early", "refused", "failed inside"]


@pytest.fixture
def client(server: ReplayServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0) as made:
        yield spancast.instrument(made)


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    counters.clear()
    former = reraise_internal_errors(enabled=True)
    yield
    reraise_internal_errors(enabled=former)
    spancast.shutdown(1)


@pytest.fixture
def target() -> SpanTarget:
    return captured_by_target()


def ask(client: Any, **more: Any) -> Any:
    return client.chat.completions.create(model="m", messages=copy.deepcopy(MESSAGES), **more)


def outcome(client: Any, way: str, server: ReplayServer) -> None:
    if way == "refused":
        server.reply(Reply.error(429))
        with pytest.raises(openai.RateLimitError):
            ask(client)
    elif way == "failed inside":
        server.reply(Reply.json({"id": "x", "choices": [], "error": {"code": 502, "message": "no provider"}}))
        ask(client)
    elif way == "streamed":
        assert list(ask(client, stream=True, stream_options={"include_usage": True}))
    elif way == "left early":
        with ask(client, stream=True) as stream:
            next(stream)
    else:
        ask(client, temperature=9, tools=TOOLS, user="u-1", extra_body={"top_k": 4, "trace": {"feature": "x"}})


def both_ways(client: Any, way: str, server: ReplayServer) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the span of a call parsed on another thread, and of one parsed at once for another processor."""
    target = captured_by_target()
    outcome(client, way, server)
    [(_, unparsed)] = target.taken
    assert unparsed is not None, "nothing was left to parse"
    at_once = captured_from_sdk()
    outcome(client, way, server)
    [(_, unparsed)] = at_once.taken
    assert unparsed is None, "another processor was given an unparsed span"
    return shown(target.parsed()[0]), shown(at_once.parsed()[0])


@pytest.mark.parametrize("way", WAYS)
def test_deferred_call_gives_the_span_that_parsing_at_once_gives(way: str, client: Any, server: ReplayServer) -> None:
    later, at_once = both_ways(client, way, server)
    assert later == at_once
    assert later["status"][0] is (StatusCode.ERROR if way in ("refused", "failed inside") else StatusCode.UNSET)
    assert [name for name, _ in later["events"]] == (["exception"] if way == "refused" else [])


@pytest.mark.parametrize("way", ["whole", "refused"])
@pytest.mark.parametrize(
    "limits",
    [
        {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "7"},
        {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "0"},
        {"OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "10"},
        {"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "30", "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": "1"},
        {"OTEL_SPAN_EVENT_COUNT_LIMIT": "0"},
    ],
    ids=lambda limits: ",".join(limits),
)
def test_deferred_call_respects_the_limits_of_its_provider(
    limits: dict[str, str], way: str, client: Any, server: ReplayServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in limits.items():
        monkeypatch.setenv(name, value)
    later, at_once = both_ways(client, way, server)
    if way == "whole" and "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT" not in limits:
        assert list(later["attributes"]) == list(at_once["attributes"])
    assert later == at_once


def test_nothing_is_parsed_on_the_callers_thread(
    client: Any, target: SpanTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    for name in ("read_request", "read_response"):
        original = getattr(type(OPENAI_CHAT), name)

        def counted(*args: Any, name: str = name, original: Any = original, **kwargs: Any) -> Any:
            read.append(name)
            return original(*args, **kwargs)

        monkeypatch.setattr(type(OPENAI_CHAT), name, counted)
    ask(client)
    [(span, unparsed)] = target.taken
    assert unparsed is not None
    assert unparsed.size_bytes > len(json.dumps(MESSAGES, separators=(",", ":")))
    assert set(unparsed.attributes) == STARTED_WITH
    assert not span.attributes
    assert (span.name, read) == ("chat m", [])
    assert span.end_time

    parsed = unparsed.parse(span)
    assert parsed is not None
    assert read == ["read_request", "read_response"]
    assert parsed[1]["gen_ai.input.messages"]
    assert parsed[2].is_unset


def test_changes_of_the_caller_after_the_call_are_not_recorded(client: Any, target: SpanTarget) -> None:
    messages = copy.deepcopy(MESSAGES)
    answer = client.chat.completions.create(model="m", messages=messages)
    response_text = answer.choices[0].message.content
    messages.append({"role": "assistant", "content": "later"})
    messages[0]["content"] = "changed"
    answer.choices[0].message.content = "changed"
    found = shown(target.parsed()[0])["attributes"]
    assert [part["content"] for message in found["gen_ai.input.messages"] for part in message["parts"]] == [
        "Be brief.", "hi"
    ]  # fmt: skip
    assert found["gen_ai.output.messages"][0]["parts"] == [{"type": "text", "content": response_text}]


class AttributeRecorder(SpanProcessor):
    """Another processor, which reads spans when they start and end."""

    def __init__(self) -> None:
        self.started: list[dict[str, Any]] = []
        self.ended: list[dict[str, Any]] = []

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.started.append(dict(span.attributes))

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(json.loads(span.to_json()))


def test_another_processor_sees_the_complete_span_at_its_end(client: Any) -> None:
    provider, other = TracerProvider(shutdown_on_exit=False), AttributeRecorder()
    provider.add_span_processor(other)
    spancast.configure(tracer_provider=provider)
    ask(client)
    assert other.started[0]["gen_ai.request.model"] == "m"
    for name in ("gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.usage.input_tokens"):
        assert other.ended[0]["attributes"][name]


def test_processor_added_during_a_call_sees_the_complete_span(client: Any, server: ReplayServer) -> None:
    provider, other = own_provider(), AttributeRecorder()
    target = captured_by_target(provider)
    stream = ask(client, stream=True, stream_options={"include_usage": True})
    next(stream)
    provider.add_span_processor(other)
    list(stream)
    assert target.taken[0][1] is None
    for name in (*STARTED_WITH, "gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.usage.input_tokens"):
        assert other.ended[0]["attributes"][name]


def test_measured_call_is_parsed_later_too(client: Any) -> None:
    reader = InMemoryMetricReader()
    target = captured_by_target(meter_provider=MeterProvider([reader], shutdown_on_exit=False))
    ask(client)
    assert target.taken[0][1] is not None
    target.parsed()
    data = reader.get_metrics_data()
    assert data is not None
    names = {metric.name for of in data.resource_metrics for scope in of.scope_metrics for metric in scope.metrics}
    assert "gen_ai.client.inference.duration" in names


def test_status_ok_of_the_application_is_kept(client: Any, server: ReplayServer, target: SpanTarget) -> None:
    server.reply(Reply.json({"id": "x", "choices": [], "error": {"code": 502, "message": "no provider"}}))

    @client._client.event_hooks["request"].append
    def mark(_: Any) -> None:
        trace_api.get_current_span().set_status(StatusCode.OK)
        trace_api.get_current_span().set_attribute("application", 1)

    ask(client)
    _, attributes, status = target.parsed()[0]
    assert (status.status_code, attributes["application"]) == (StatusCode.OK, 1)


def test_span_ended_by_the_application_is_delivered_once(
    client: Any, target: SpanTarget, caplog: pytest.LogCaptureFixture
) -> None:
    client._client.event_hooks["request"].append(lambda _: trace_api.get_current_span().end())
    ask(client)
    [(_, attributes, _)] = target.parsed()
    assert set(attributes) == STARTED_WITH
    assert "ended span" not in caplog.text


def test_call_on_a_thread_with_the_context_of_another_call_joins_its_span(
    client: Any, server: ReplayServer, target: SpanTarget
) -> None:
    with openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0) as inner:
        spancast.instrument(inner)

        @client._client.event_hooks["request"].append
        def ask_on_thread(_: Any) -> None:
            context = context_api.get_current()

            def work() -> None:
                context_api.attach(context)
                ask(inner, user="inner")

            thread = threading.Thread(target=work)
            thread.start()
            thread.join(60)

        ask(client)
    assert len(target.taken) == 1
    assert spancast.stats().calls_merged == 1


def test_attribute_of_the_application_wins_over_that_of_the_start(client: Any, target: SpanTarget) -> None:
    client._client.event_hooks["request"].append(
        lambda _: trace_api.get_current_span().set_attributes({"server.address": "mine", "application": 1})
    )
    ask(client)
    [(_, attributes, _)] = target.parsed()
    assert (attributes["server.address"], attributes["application"]) == ("mine", 1)


def test_sampler_sees_the_attributes_of_the_start(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class OnlyModel(Sampler):
        def should_sample(self, parent_context: Any, trace_id: int, name: str, *given: Any, **named: Any) -> Any:
            attributes = given[1] if len(given) > 1 else named["attributes"]
            is_sampled = attributes["gen_ai.request.model"] == "m"
            return SamplingResult(Decision.RECORD_AND_SAMPLE if is_sampled else Decision.DROP, attributes)

        def get_description(self) -> str:
            return "OnlyModel"

    target = captured_by_target(SpancastTracerProvider(Resource({}), OnlyModel()))
    ask(client)
    client.chat.completions.create(model="other", messages=[])
    [(span, _)] = target.taken
    assert {*(span.attributes or {})} == STARTED_WITH


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_kept_of_an_ended_call(way: str, client: Any, server: ReplayServer) -> None:
    provider = own_provider()
    captured_by_target(provider)
    outcome(client, way, server)
    client._client.event_hooks["request"].append(lambda _: trace_api.get_current_span().end())
    ask(client)
    processor = provider.processor
    assert processor is not None
    assert (processor.running, processor._unparsed) == ({}, {})


def test_ended_span_can_be_copied_and_its_status_pickled(client: Any, target: SpanTarget) -> None:
    ask(client)
    [(span, _)] = target.taken
    if hasattr(BoundedAttributes, "__deepcopy__"):  # before it, no span of the SDK can be copied
        copied = copy.deepcopy(span)
        assert dict(copied.attributes or {}) == dict(span.attributes or {})
    status = pickle.loads(pickle.dumps(span.status))
    assert status.status_code is span.status.status_code


class Mine:
    """An object of the caller."""


def test_captured_exception_holds_no_objects_of_the_caller(
    client: Any, server: ReplayServer, target: SpanTarget
) -> None:
    def work() -> weakref.ref[Mine]:
        mine = Mine()
        try:
            ask(client)
        except openai.RateLimitError:
            return weakref.ref(mine)
        raise AssertionError

    server.reply(Reply.error(429))
    kept = work()
    assert target.taken[0][1] is not None
    assert kept() is None
    [event] = target.parsed()[0][0].events
    recorded = dict(event.attributes or {})
    assert recorded["exception.type"] == "openai.RateLimitError"
    assert recorded["exception.stacktrace"].startswith("Traceback (most recent call last):\n")
    assert recorded["exception.stacktrace"].endswith(f"RateLimitError: {recorded['exception.message']}")


def test_request_that_cannot_be_parsed_is_counted_and_the_span_exported(
    client: Any, target: SpanTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        message = "a defect"
        raise RuntimeError(message)

    reraise_internal_errors(enabled=False)
    ask(client)
    monkeypatch.setattr(type(OPENAI_CHAT), "read_request", broken)
    [(_, attributes, status)] = target.parsed()
    assert set(attributes) == STARTED_WITH
    assert status.is_unset
    assert spancast.stats().internal_errors == 1


def exported(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def configured(path: Path, **more: Any) -> None:
    spancast.configure(spool="memory", destinations={"file": {"type": "file", "path": str(path)}}, **more)


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


def test_strict_settings_between_a_call_and_its_export_lose_nothing(client: Any, state: Path) -> None:
    configured(state / "spans.jsonl")
    pipeline = RUNTIME.pipeline
    with pipeline.span_queue._processing:
        ask(client, temperature=9)
        ask(client)
        recorder = RUNTIME.call_tracer
        recorder.settings = type(recorder.settings)(strict=True)
    assert spancast.flush(30).destinations["file"].delivered == 2
    assert "internal_error" not in spancast.stats().dropped


@pytest.mark.parametrize("provider", ["own", "the application's"])
def test_call_running_while_spancast_is_configured_again_is_delivered(provider: str, client: Any, state: Path) -> None:
    def more() -> dict[str, Any]:
        return {} if provider == "own" else {"tracer_provider": TracerProvider(shutdown_on_exit=False)}

    configured(state / "first.jsonl", **more())
    stream = ask(client, stream=True)
    next(stream)
    configured(state / "second.jsonl", **more())
    list(stream)
    assert spancast.flush(30)
    assert not exported(state / "first.jsonl")
    [line] = exported(state / "second.jsonl")
    assert "gen_ai.output.messages" in line
    assert spancast.stats().received == 1


@pytest.mark.parametrize("provider", ["own", "the application's"])
def test_call_running_while_spancast_is_shut_down_is_counted_as_dropped(
    provider: str, client: Any, state: Path
) -> None:
    own = provider == "own"
    configured(state / "spans.jsonl", **({} if own else {"tracer_provider": TracerProvider(shutdown_on_exit=False)}))
    stream = ask(client, stream=True)
    next(stream)
    spancast.shutdown(30)
    list(stream)
    counts = spancast.stats()
    assert (counts.received, counts.dropped["after_shutdown"]) == (1, 1)


def test_limits_of_the_applications_provider_are_kept(client: Any, spans: CapturedSpans) -> None:
    ended = InMemorySpanExporter()
    provider = TracerProvider(span_limits=SpanLimits(max_span_attributes=7), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(ended))
    spancast.configure(tracer_provider=provider)
    ask(client)
    [span] = ended.get_finished_spans()
    assert len(span.attributes or {}) <= 7
    assert "spancast.overflow" in (span.attributes or {})
