"""What is read when somebody looks is what would have been read at once, once, and by the span's own limits."""

from __future__ import annotations

import copy
import json
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

import spancast
from spancast.dialects.openai_chat.reader import OPENAI_CHAT
from spancast.testing import CapturedSpans, ReplayServer, Reply
from spancast.testing.spans import attributes
from spancast.tracing import client_metrics
from spancast.tracing.pending import LazyAttributes, unparsed_bytes

MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "hi"}]},
]
TOOLS: Any = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]
TIMES = ("gen_ai.response.time_to_first_chunk", "gen_ai.response.id", "spancast.response.created")


@pytest.fixture
def client(server: ReplayServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0) as made:
        yield spancast.instrument(made)


def listened_to() -> MeterProvider:
    return MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)


def ask(client: Any, **more: Any) -> Any:
    return client.chat.completions.create(model="m", messages=copy.deepcopy(MESSAGES), **more)


def held(span: ReadableSpan) -> Any:
    return span._attributes


def into(*processors: SpanProcessor, limits: SpanLimits | None = None, meters: Any = None) -> None:
    provider = TracerProvider(span_limits=limits or SpanLimits(), shutdown_on_exit=False)
    for processor in processors:
        provider.add_span_processor(processor)
    spancast.configure(tracer_provider=provider, meter_provider=meters)


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


@pytest.mark.parametrize("way", ["whole", "streamed", "left early", "refused", "failed inside"])
def test_the_same_as_read_at_once(
    way: str, client: Any, server: ReplayServer, spans: CapturedSpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    spancast.configure(tracer_provider=spans.provider)
    outcome(client, way, server)
    # Where metrics are listened to and too many calls wait for that, a call is read before it returns.
    monkeypatch.setattr(client_metrics, "_MOST_WAITING", 0)
    spancast.configure(tracer_provider=spans.provider, meter_provider=listened_to())
    outcome(client, way, server)

    later, at_once = spans.all()
    assert type(held(later)) is LazyAttributes
    assert type(held(at_once)) is BoundedAttributes
    assert without_times(later) == without_times(at_once)
    assert (later.status.status_code, later.status.description) == (
        at_once.status.status_code, at_once.status.description
    )  # fmt: skip
    assert [event.name for event in later.events] == [event.name for event in at_once.events]
    assert [set(event.attributes or {}) for event in later.events] == [set(e.attributes or {}) for e in at_once.events]
    assert later.status.status_code is (StatusCode.ERROR if way in ("refused", "failed inside") else StatusCode.UNSET)


def without_times(span: ReadableSpan) -> dict[str, Any]:
    found = attributes(span)
    for message in found.get("gen_ai.output.messages", []):
        for part in message["parts"]:
            part.pop("id", None)
    return {name: value for name, value in found.items() if name not in TIMES}


def test_nobody_looks_nothing_is_read(
    client: Any, spans: CapturedSpans, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    read: list[str] = []
    for name in ("read_request", "read_response"):
        whole = getattr(type(OPENAI_CHAT), name)

        def counted(*args: Any, name: str = name, whole: Any = whole, **kwargs: Any) -> Any:
            read.append(name)
            return whole(*args, **kwargs)

        monkeypatch.setattr(type(OPENAI_CHAT), name, counted)
    ask(client)
    [span] = spans._exporter.get_finished_spans()
    assert read == []
    assert (unparsed_bytes(span) or 0) > len(json.dumps(MESSAGES, separators=(",", ":")))
    assert span.name == "chat m"
    assert span.end_time
    assert read == []

    assert (span.attributes or {})["gen_ai.request.model"] == "m"
    assert read == ["read_request", "read_response"]
    assert unparsed_bytes(span) is None
    assert type(held(span)) is BoundedAttributes
    assert (span.attributes or {})["gen_ai.input.messages"]
    assert span.status.is_unset
    assert span.dropped_attributes == 0
    assert len(read) == 2


def test_many_look_at_once(client: Any, spans: CapturedSpans) -> None:
    for _ in range(20):
        ask(client)
        [span] = spans._exporter.get_finished_spans()
        together = threading.Barrier(8)

        def look(_: int, span: ReadableSpan = span, together: threading.Barrier = together) -> dict[str, Any]:
            together.wait()
            return dict(span.attributes or {})

        with ThreadPoolExecutor(8) as pool:
            seen = list(pool.map(look, range(8)))
        assert all(one == seen[0] for one in seen)
        assert "gen_ai.output.messages" in seen[0]
        spans.clear()


def test_what_the_caller_changes_later_is_not_told(client: Any, spans: CapturedSpans) -> None:
    messages = copy.deepcopy(MESSAGES)
    answer = client.chat.completions.create(model="m", messages=messages)
    said = answer.choices[0].message.content
    messages.append({"role": "assistant", "content": "later"})
    messages[0]["content"] = "changed"
    answer.choices[0].message.content = "changed"
    found = attributes(spans.one())
    assert [part["content"] for message in found["gen_ai.input.messages"] for part in message["parts"]] == [
        "Be brief.", "hi"
    ]  # fmt: skip
    assert found["gen_ai.output.messages"][0]["parts"] == [{"type": "text", "content": said}]


class Looks(SpanProcessor):
    """A processor of somebody else's, which looks at a span when it ends."""

    def __init__(self) -> None:
        self.started: list[dict[str, Any]] = []
        self.ended: list[dict[str, Any]] = []

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.started.append(dict(span.attributes))

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(json.loads(span.to_json()))


def test_other_processors_see_all(client: Any) -> None:
    looks, exporter = Looks(), InMemorySpanExporter()
    into(looks, SimpleSpanProcessor(exporter))
    ask(client)
    assert looks.started[0]["gen_ai.request.model"] == "m"
    told = looks.ended[0]["attributes"]
    assert told["gen_ai.input.messages"]
    assert told["gen_ai.output.messages"]
    assert told["gen_ai.usage.input_tokens"]
    assert dict(exporter.get_finished_spans()[0].attributes or {}).keys() == told.keys()


@pytest.mark.parametrize(
    "limits", [SpanLimits(max_span_attributes=7), SpanLimits(max_span_attribute_length=10)], ids=("count", "length")
)
def test_limits_are_kept(limits: SpanLimits, client: Any) -> None:
    later, at_once = InMemorySpanExporter(), InMemorySpanExporter()
    into(SimpleSpanProcessor(later), limits=limits)
    ask(client)
    into(SimpleSpanProcessor(at_once), limits=limits, meters=listened_to())
    ask(client)
    [one], [other] = later.get_finished_spans(), at_once.get_finished_spans()
    assert type(held(one)) is LazyAttributes
    assert dict(one.attributes or {}).keys() == dict(other.attributes or {}).keys()
    assert one.dropped_attributes == other.dropped_attributes
    assert len(one.attributes or {}) <= (limits.max_span_attributes or 128)
    longest = limits.max_span_attribute_length or 1_000_000
    assert all(len(value) <= longest for value in (one.attributes or {}).values() if isinstance(value, str))


def test_copies_are_whole(client: Any, spans: CapturedSpans) -> None:
    ask(client)
    [span] = spans._exporter.get_finished_spans()
    copied = copy.deepcopy(held(span))
    assert type(copied) is BoundedAttributes
    assert dict(copied) == dict(span.attributes or {})


class Mine:
    """Something of the caller's."""


def test_an_exception_keeps_nothing_of_the_callers(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    def work() -> weakref.ref[Mine]:
        mine = Mine()
        try:
            ask(client)
        except openai.RateLimitError:
            return weakref.ref(mine)
        raise AssertionError

    server.reply(Reply.error(429))
    kept = work()
    [span] = spans._exporter.get_finished_spans()
    assert type(held(span)) is LazyAttributes
    assert kept() is None
    [event] = span.events
    told = dict(event.attributes or {})
    assert told["exception.type"] == "openai.RateLimitError"
    assert told["exception.stacktrace"].startswith("Traceback (most recent call last):\n")
    assert told["exception.stacktrace"].endswith(f"RateLimitError: {told['exception.message']}")


def test_an_unreadable_request_is_counted_and_the_span_stands(
    client: Any, spans: CapturedSpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spancast.diagnostics import reraise_internal_errors

    def broken(*_: Any, **__: Any) -> None:
        message = "a defect"
        raise RuntimeError(message)

    reraise_internal_errors(enabled=False)
    ask(client)
    monkeypatch.setattr(type(OPENAI_CHAT), "read_request", broken)
    span = spans.one()
    assert set(span.attributes or {}) == {
        "gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "server.address", "server.port"
    }  # fmt: skip
    assert span.status.is_unset
    assert spancast.stats()["internal_errors"] == 1
