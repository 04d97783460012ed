"""Providers and spans of other libraries: without a hash, with wrapped spans, without room for attributes.

The classes below have the properties that break assumptions: logfire's providers are data classes, which have
equality and no hash, and its spans wrap the SDK's.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from opentelemetry import context as context_api
from opentelemetry import metrics as metrics_api
from opentelemetry import trace as trace_api
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode, Tracer

import spancast
from spancast.model.identity_map import IdentityMap
from spancast.runtime import RUNTIME
from spancast.testing import ReplayServer, Reply
from spancast.testing.spans import attributes

MESSAGES: Any = [{"role": "user", "content": "hi"}]


class _Wrapper:
    """A span that wraps one of the SDK, with slots: it has all its attributes and accepts no others."""

    __slots__ = ("__weakref__", "inner")

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


trace_api.Span.register(_Wrapper)


class _WrappingTracer(Tracer):
    def __init__(self, inner: Tracer) -> None:
        self._inner = inner

    def start_span(self, *args: Any, **kwargs: Any) -> Any:
        return _Wrapper(self._inner.start_span(*args, **kwargs))

    def start_as_current_span(self, *args: Any, **kwargs: Any) -> Any:
        return trace_api.use_span(self.start_span(*args, **kwargs), end_on_exit=True)


class _Provider(TracerProvider):
    """A provider with equality and no hash, as a data class; ``is_wrapping``: its spans wrap those of the SDK."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, *, is_wrapping: bool = False) -> None:
        super().__init__(shutdown_on_exit=False)
        self.is_wrapping = is_wrapping

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Provider)

    def get_tracer(self, *args: Any, **kwargs: Any) -> Tracer:
        tracer = super().get_tracer(*args, **kwargs)
        return _WrappingTracer(tracer) if self.is_wrapping else tracer


class _Meters(MeterProvider):
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Meters)


class ProxyMeterProvider(metrics_api.MeterProvider):
    """A real provider with the name of OpenTelemetry's placeholder, as logfire has one."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, inner: MeterProvider) -> None:
        self._inner = inner

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ProxyMeterProvider)

    def get_meter(self, *args: Any, **kwargs: Any) -> metrics_api.Meter:
        return self._inner.get_meter(*args, **kwargs)


class _Slotted(SpanProcessor):
    """A processor that passes on ended spans which accept no attributes."""

    def __init__(self, behind: SpanProcessor) -> None:
        self._behind = behind

    def on_end(self, span: ReadableSpan) -> None:
        self._behind.on_end(_Wrapper(span))  # type: ignore[arg-type]


@pytest.fixture
def client(server: ReplayServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0) as made:
        yield made


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    spancast.diagnostics.counters.clear()
    former = spancast.diagnostics.reraise_internal_errors(enabled=True)
    yield
    spancast.diagnostics.reraise_internal_errors(enabled=former)
    spancast.shutdown(1)


def to(path: Path) -> dict[str, Any]:
    return {"file": {"type": "file", "path": str(path), "spans": "all"}}


def ask(client: openai.OpenAI, **more: Any) -> Any:
    return client.chat.completions.create(model="m", messages=MESSAGES, **more)


def test_providers_without_a_hash_are_distinct_and_delivered_once(client: openai.OpenAI, tmp_path: Path) -> None:
    first, second, meters = _Provider(), _Provider(), _Meters(shutdown_on_exit=False)
    for provider in (first, second, first):
        spancast.configure(
            tracer_provider=provider, meter_provider=meters, spool="memory", destinations=to(tmp_path / "spans.jsonl")
        )
    spancast.instrument(client)
    ask(client)
    second.get_tracer("application").start_span("of the provider that is not in use").end()
    report = spancast.flush(30)
    assert report
    assert report.destinations["file"].delivered == 1


def test_identity_map_entry_is_removed_with_its_provider() -> None:
    known: IdentityMap[Any, str] = IdentityMap()
    first, second = _Provider(), _Provider()
    known.set(first, "first")
    assert (known.get(first), known.get(second)) == ("first", None)
    gone = weakref.ref(first)
    del first
    gc.collect()
    assert gone() is None
    assert known.values() == []


def test_identity_map_keeps_key_without_weak_reference() -> None:
    known: IdentityMap[Any, str] = IdentityMap()
    key = ["unhashable, and without weak references"]
    known.set(key, "kept")
    assert (known.get(key), known.get(list(key))) == ("kept", None)


def test_wrapped_span_gets_the_status_of_the_response(client: openai.OpenAI, server: ReplayServer) -> None:
    """The wrapper has ``_status`` and ``_attributes``, but assignments to it do not reach the span."""
    provider, ended = _Provider(is_wrapping=True), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(ended))
    spancast.configure(tracer_provider=provider)
    spancast.instrument(client)
    server.reply("/chat/completions", Reply.json({"error": {"message": "the provider is down", "code": 502}}))
    ask(client)
    list(ask(client, stream=True))
    server.reply("/chat/completions", Reply.error(429))
    with pytest.raises(openai.RateLimitError):
        ask(client)
    refused, streamed, limited = ended.get_finished_spans()
    assert [span.status.status_code for span in (refused, streamed, limited)] == [
        StatusCode.ERROR, StatusCode.UNSET, StatusCode.ERROR,
    ]  # fmt: skip
    assert attributes(streamed)["gen_ai.output.messages"][0]["role"] == "assistant"
    assert [event.name for event in limited.events] == ["exception"]
    assert not spancast.stats().internal_errors


def test_ended_span_with_slots_is_accepted_once(tmp_path: Path) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    spancast.configure(tracer_provider=provider, spool="memory", destinations=to(tmp_path / "spans.jsonl"))
    pipeline = RUNTIME.pipeline
    for _ in range(2):
        provider.add_span_processor(_Slotted(pipeline.processor))
    # Without the target of our processor, only the other two deliver the span, which cannot be marked.
    RUNTIME.processor_of(provider).set_target(None)
    provider.get_tracer("application").start_span("one").end()
    report = spancast.flush(30)
    assert spancast.stats().received == 1
    assert (report.destinations["file"].delivered, report.dropped) == (1, 0)


def test_metrics_go_to_a_real_provider_with_the_name_of_a_placeholder(client: openai.OpenAI) -> None:
    reader = InMemoryMetricReader()
    spancast.configure(
        tracer_provider=_Provider(),
        meter_provider=ProxyMeterProvider(MeterProvider([reader], shutdown_on_exit=False)),
    )
    spancast.instrument(client)
    ask(client)
    data = reader.get_metrics_data()
    assert data is not None
    names = {metric.name for of in data.resource_metrics for scope in of.scope_metrics for metric in scope.metrics}
    assert "gen_ai.client.inference.duration" in names


@pytest.mark.parametrize("stream", [False, True])
def test_logfire_wrapper_inside_ours_makes_no_second_span(client: openai.OpenAI, *, stream: bool) -> None:
    """Wrap as ``logfire.instrument_openai(client)``: ``request`` is wrapped on the client, and the client marked."""
    provider, ended = _Provider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(ended))
    tracer, request = provider.get_tracer("logfire.openai"), client.request

    def with_span(*args: Any, **kwargs: Any) -> Any:
        if context_api.get_value("suppress_instrumentation"):
            return request(*args, **kwargs)
        with tracer.start_as_current_span("logfire's", attributes={"gen_ai.operation.name": "chat"}):
            return request(*args, **kwargs)

    client.request = with_span  # type: ignore[method-assign]
    client._is_instrumented_by_logfire = True  # type: ignore[attr-defined]
    spancast.configure(tracer_provider=provider)
    spancast.instrument(client)
    answer = ask(client, stream=stream)
    if stream:
        list(answer)
    assert [span.name for span in ended.get_finished_spans()] == ["chat m"]
    assert not context_api.get_value("suppress_instrumentation")
