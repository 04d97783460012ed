"""A span started our way is the span the SDK would have started: compared field by field, in every circumstance."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from opentelemetry import trace as trace_api
from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.metrics import MeterProvider as SDKMeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanLimits, SpanProcessor, Tracer, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    DEFAULT_ON,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from spancast.tracing.span_processor import install_processor
from spancast.tracing.span_start import SpanFactory, mold_of

WAYS = ("start_call", "start_span")
ATTRIBUTES = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt", "server.port": 443}
PARENT = SpanContext(0x11, 0x22, is_remote=True, trace_flags=TraceFlags(1), trace_state=TraceState([("a", "b")]))
RANDOM_PARENT = SpanContext(0x11, 0x22, is_remote=False, trace_flags=TraceFlags(3))
UNSAMPLED = SpanContext(0x11, 0x22, is_remote=True, trace_flags=TraceFlags(0))


class SequentialIdGenerator(IdGenerator):
    """Ids one after the other, so that two providers give the same."""

    def __init__(self, *, is_random: bool = False) -> None:
        self._last = 0
        self._is_random = is_random

    def generate_span_id(self) -> int:
        self._last += 1
        return self._last

    def generate_trace_id(self) -> int:
        self._last += 1
        return self._last << 64

    def is_trace_id_random(self) -> bool:
        return self._is_random


class RecordingProcessor(SpanProcessor):
    """What a processor is told, and what it sees at that moment."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self.told.append(("start", _plain(span), parent_context))
        span.set_attribute("put.at.start", 1)

    def on_end(self, span: ReadableSpan) -> None:
        self.told.append(("end", _plain(span)))


class RecordingSampler(Sampler):
    """Decides as told, adds attributes, and notes what it was asked."""

    def __init__(self, decision: Decision, more: Mapping[str, Any] | None) -> None:
        self._decision = decision
        self._more = more
        self.asked: list[Any] = []

    def should_sample(self, *asked: Any, **named: Any) -> SamplingResult:
        self.asked.append((asked, named))
        attributes = asked[4] if self._more is None else {**asked[4], **self._more}
        return SamplingResult(self._decision, attributes, TraceState([("sampler", "1")]))

    def get_description(self) -> str:
        return "RecordingSampler"


def _plain(span: Any) -> Any:
    if not isinstance(span, ReadableSpan):
        return type(span).__name__, tuple(span.get_span_context()), span.is_recording()
    told = json.loads(span.to_json())
    told["start_time"] = told["end_time"] = None
    return (
        type(span).__name__,
        told,
        tuple(span.get_span_context() or ()),
        span.dropped_attributes,
        list((span.attributes or {}).items()),
        [tuple(link.context) for link in span.links],
        span.instrumentation_scope,
    )


def _context(parent: SpanContext | None) -> Context:
    return Context() if parent is None else trace_api.set_span_in_context(NonRecordingSpan(parent), Context())


def _started_and_ended(way: str, provider: TracerProvider, *what: Any) -> list[Any]:
    noting = RecordingProcessor()
    provider.add_span_processor(noting)
    start = getattr(SpanFactory(provider), way)
    found: list[Any] = []
    for _ in range(2):
        span: Any = start(*what)
        span.set_attribute("later", "x")
        span.add_event("later", {"why": "x"}, timestamp=1)
        span.add_link(PARENT, {"why": "x"})
        fields = {name: type(value) for name, value in vars(span).items()}
        span.end()
        found.append(dict(sorted(fields.items())))
        found.append(_plain(span))
    return [*found, *noting.told]


def _both(make: Callable[[], TracerProvider], *what: Any) -> None:
    provider = make()
    assert mold_of(provider.get_tracer("spancast")), "the SDK starts spans another way now: read it again"
    ours = _started_and_ended("start_call", make(), *what)
    theirs = _started_and_ended("start_span", make(), *what)
    assert ours == theirs


def _provider(sampler: Sampler | None = None, limits: SpanLimits | None = None, **more: Any) -> TracerProvider:
    generator = SequentialIdGenerator(is_random=more.pop("is_random", False))
    return TracerProvider(sampler, Resource({"service.name": "x"}), id_generator=generator, span_limits=limits, **more)


@pytest.mark.parametrize("wanted", [None, 0xABC], ids=["any id", "wanted id"])
@pytest.mark.parametrize("is_random", [False, True])
@pytest.mark.parametrize("parent", [None, PARENT, RANDOM_PARENT, UNSAMPLED, trace_api.INVALID_SPAN_CONTEXT])
@pytest.mark.parametrize(
    "sampler",
    [
        ALWAYS_ON,
        ALWAYS_OFF,
        DEFAULT_ON,
        ParentBased(ALWAYS_ON),
        TraceIdRatioBased(0.5),
        RecordingSampler(Decision.RECORD_ONLY, None),
        RecordingSampler(Decision.RECORD_AND_SAMPLE, {"sampled.by": ["us", "them"], "gen_ai.request.model": "other"}),
        RecordingSampler(Decision.DROP, {}),
    ],
    ids=lambda sampler: str(sampler.get_description()),
)
def test_each_sampler_and_parent(
    sampler: Sampler, parent: SpanContext | None, is_random: bool, wanted: int | None
) -> None:
    """Ids, flags, trace state, decision, attributes, and what processors are told."""
    _both(
        lambda: _provider(sampler, is_random=is_random),
        "chat gpt", _context(parent), SpanKind.CLIENT, dict(ATTRIBUTES), [], wanted,
    )  # fmt: skip


@pytest.mark.parametrize(
    "limits",
    [
        SpanLimits(max_span_attributes=2),
        SpanLimits(max_span_attributes=0),
        SpanLimits(max_span_attributes=3),
        SpanLimits(max_span_attribute_length=2),
        SpanLimits(max_attribute_length=3, max_links=1),
        SpanLimits(max_events=0, max_links=0),
        SpanLimits(max_span_attributes=SpanLimits.UNSET, max_events=SpanLimits.UNSET, max_links=SpanLimits.UNSET),
    ],
)
def test_limits(limits: SpanLimits) -> None:
    """Attributes and links beyond the limits are dropped, and counted, as the SDK drops them."""
    links: Sequence[Link] = [Link(PARENT), Link(RANDOM_PARENT, {"why": "x"})]
    _both(
        lambda: _provider(ALWAYS_ON, limits),
        "chat gpt", _context(None), SpanKind.CLIENT, dict(ATTRIBUTES), list(links), None,
    )  # fmt: skip


def test_the_sampler_is_asked_the_same() -> None:
    """Context, trace id, name, kind, attributes, links."""
    asked: list[Any] = []
    for way in WAYS:
        sampler = RecordingSampler(Decision.RECORD_AND_SAMPLE, None)
        context = _context(PARENT)
        _started_and_ended(way, _provider(sampler), "n", context, SpanKind.CLIENT, dict(ATTRIBUTES), [], None)
        asked.append([(given[1:4], dict(given[4]), list(given[5]), named) for given, named in sampler.asked])
        assert all(given[0] is context for given, _ in sampler.asked)
    assert asked[0] == asked[1]


def test_the_tracers_own_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans started and live are counted by the SDK, where it is asked to."""
    monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    counted: list[Any] = []
    for way in WAYS:
        reader = InMemoryMetricReader()
        meters: MeterProvider = SDKMeterProvider([reader])
        provider = _provider(ALWAYS_ON, meter_provider=meters)
        _started_and_ended(way, provider, "n", _context(None), SpanKind.CLIENT, dict(ATTRIBUTES), [], None)
        data: Any = reader.get_metrics_data()
        counted.append(
            sorted(
                (metric.name, [(point.value, dict(point.attributes)) for point in metric.data.data_points])
                for resource in data.resource_metrics
                for scope in resource.scope_metrics
                for metric in scope.metrics
            )
            if data is not None
            else []
        )
    assert counted[0] == counted[1]
    assert counted[0], "nothing was counted: the SDK has another switch"


def test_a_disabled_tracer() -> None:
    """It makes a span that records nothing, of the parent's context."""

    def make() -> TracerProvider:
        return _provider(ALWAYS_ON, _tracer_configurator=lambda _scope: _config(is_enabled=False))

    _both(make, "n", _context(PARENT), SpanKind.CLIENT, dict(ATTRIBUTES), [], None)


def _config(*, is_enabled: bool) -> Any:
    from opentelemetry.sdk.trace import _TracerConfig  # pyright: ignore - no public name yet

    return _TracerConfig(is_enabled=is_enabled)


def test_other_tracers_start_their_spans_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of a class of its own, one with a method put on it, an SDK whose function takes other steps."""
    tracer = TracerProvider().get_tracer("x")
    assert mold_of(tracer)
    own = type("Own", (Tracer,), {})
    assert not mold_of(own.__new__(own))
    assert not mold_of(trace_api.NoOpTracer())
    start_span = tracer.start_span
    tracer.start_span = lambda *args, **kwargs: start_span(*args, **kwargs)  # type: ignore[method-assign]
    assert not mold_of(tracer)

    def start_otherwise(self: Tracer, *args: Any, **kwargs: Any) -> Any:
        return self.id_generator

    with monkeypatch.context() as patched:
        patched.setattr(Tracer, "start_span", start_otherwise)
        assert not mold_of(TracerProvider().get_tracer("y"))
    with monkeypatch.context() as patched:
        patched.setattr(sdk._Span, "start", start_otherwise)
        assert not mold_of(TracerProvider().get_tracer("y"))
    with monkeypatch.context() as patched:
        patched.setattr(sdk._Span, "__init__", lambda _self: None)
        assert not mold_of(TracerProvider().get_tracer("y"))


@pytest.mark.parametrize("more", [[], threading.Lock(), object()], ids=lambda more: type(more).__name__)
def test_an_sdk_whose_spans_hold_more(monkeypatch: pytest.MonkeyPatch, more: object) -> None:
    """What is not known to be everybody's is not shared: then the SDK makes its spans itself."""
    tracer = TracerProvider().get_tracer("x")
    made = sdk._Span.__init__

    def make(self: Any, *args: Any, **kwargs: Any) -> None:
        made(self, *args, **kwargs)
        self._more = more

    monkeypatch.setattr(sdk._Span, "__init__", make)
    assert not mold_of(tracer)
    span = SpanFactory(TracerProvider()).start_call("n", Context(), SpanKind.CLIENT, dict(ATTRIBUTES), [], None)
    assert vars(span)["_more"] is more


class Target(SpanProcessor):
    """What our own processor hands ended spans to."""

    def __init__(self) -> None:
        self.ended: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span)


def _ended_with(others: Sequence[SpanProcessor], meters: MeterProvider | None = None) -> ReadableSpan:
    provider = _provider(ALWAYS_ON, meter_provider=meters)
    relay, target = install_processor(provider), Target()
    assert relay is not None
    relay.set_target(target)
    for other in others:
        provider.add_span_processor(other)
    starter = SpanFactory(provider)
    span: Any = starter.start_call("n", _context(PARENT), SpanKind.CLIENT, dict(ATTRIBUTES), [], None)
    span.set_attribute("later", "x")
    span.set_status(Status(StatusCode.ERROR, "no"))
    starter.end_call(span)
    assert not span.is_recording()
    span.set_attribute("too late", "x")
    starter.end_call(span)
    (ended,) = target.ended
    return ended


def test_our_processor_alone_and_with_another() -> None:
    """It is handed the same span, once; others see start and end as ever."""
    noting = RecordingProcessor()
    alone, beside = _ended_with([]), _ended_with([noting])
    told: list[Any] = []
    for span in (alone, beside):
        named = json.loads(span.to_json())
        named["attributes"].pop("put.at.start", None)
        assert named["start_time"] <= named["end_time"]
        named["start_time"] = named["end_time"] = None
        told.append((named, tuple(span.get_span_context() or ()), span.dropped_events, span.dropped_links, span.events))
    assert told[0] == told[1]
    assert [kind for kind, *_ in noting.told] == ["start", "end"]


def test_a_span_that_somebody_else_ended_is_handed_over_once(caplog: pytest.LogCaptureFixture) -> None:
    """The caller had it as the current span; the SDK says so in its log."""
    provider = _provider(ALWAYS_ON)
    relay, target = install_processor(provider), Target()
    assert relay is not None
    relay.set_target(target)
    starter = SpanFactory(provider)
    span = starter.start_call("n", _context(None), SpanKind.CLIENT, dict(ATTRIBUTES), [], None)
    span.end()
    starter.end_call(span)
    assert len(target.ended) == 1
    assert "Calling end() on an ended span" in caplog.text


def test_live_spans_are_counted_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the SDK's own metric, with our processor alone."""
    monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    reader = InMemoryMetricReader()
    _ended_with([], SDKMeterProvider([reader]))
    data: Any = reader.get_metrics_data()
    found = {
        metric.name: [point.value for point in metric.data.data_points]
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert found["otel.sdk.span.live"] == [0]


def test_late_lists_are_the_sdks_once_anything_is_in_them() -> None:
    """Empty until then, for readers as well; many threads that add at once lose nothing."""
    starter = SpanFactory(_provider(ALWAYS_ON, SpanLimits(max_events=100, max_links=1)))

    def started() -> Any:
        return starter.start_call("n", _context(None), SpanKind.CLIENT, dict(ATTRIBUTES), [], None)

    span = started()
    assert (list(span.events), list(span.links), span.dropped_events, span.dropped_links) == ([], [], 0, 0)
    assert type(span._events) is not BoundedList
    assert list(copy.deepcopy(span._events)) == [] == list(copy.copy(span._links))
    assert not hasattr(started()._events, "no_such_thing")
    for _ in range(20):
        span, gate = started(), threading.Barrier(8)

        def add(span: Any = span, gate: threading.Barrier = gate) -> None:
            gate.wait()
            for _ in range(15):
                span.add_event("e")
            span.add_link(PARENT)

        threads = [threading.Thread(target=add) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert type(span._events) is BoundedList
        assert (len(span.events), span.dropped_events) == (100, 20)
        assert (len(span.links), span.dropped_links) == (1, 7)
