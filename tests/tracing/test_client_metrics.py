from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from opentelemetry import metrics as metrics_api
from opentelemetry import trace as trace_api
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.metrics._internal import _ProxyMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from tests.tracing.span_targets import own_provider

import spancast
from spancast.otel_private import has_readers
from spancast.runtime import RUNTIME
from spancast.testing import CapturedSpans, ReplayServer, Reply
from spancast.tracing.call_tracer import CALL_TRACER
from spancast.tracing.client_metrics import ClientMetrics


def test_placeholder_meter_provider_has_no_readers():
    assert not has_readers(_ProxyMeterProvider())
    assert not has_readers(NoOpMeterProvider())


def test_global_meter_provider_set_later_is_used(spans: CapturedSpans, monkeypatch: pytest.MonkeyPatch):
    assert CALL_TRACER.active_metrics() is None
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    monkeypatch.setattr(metrics_api._internal, "_METER_PROVIDER", provider)
    metrics = CALL_TRACER.active_metrics()
    assert metrics is not None
    metrics.record({"gen_ai.operation.name": "chat"}, 1.0, ())
    assert "gen_ai.client.inference.duration" in measured(reader)
    assert CALL_TRACER.active_metrics() is metrics


def test_meter_provider_without_readers_records_nothing():
    assert not has_readers(MeterProvider())
    assert has_readers(MeterProvider([InMemoryMetricReader()]))


@pytest.mark.skipif(not hasattr(MeterProvider, "add_metric_reader"), reason="an SDK whose readers are given at first")
def test_reader_added_later_gets_metrics():
    provider, reader = MeterProvider(shutdown_on_exit=False), InMemoryMetricReader()
    assert not has_readers(provider)
    provider.add_metric_reader(reader)
    assert has_readers(provider)
    provider.remove_metric_reader(reader)
    assert not has_readers(provider)


@pytest.fixture
def client(server: ReplayServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0) as made:
        yield spancast.instrument(made)


@pytest.fixture
def reader(spans: CapturedSpans) -> InMemoryMetricReader:
    reader = InMemoryMetricReader()
    spancast.configure(tracer_provider=spans.provider, meter_provider=MeterProvider([reader], shutdown_on_exit=False))
    return reader


def ask(client: Any, **more: Any) -> Any:
    return client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}], **more)


def measured(reader: InMemoryMetricReader) -> dict[str, list[Any]]:
    """Return the data points of the next collection by the name of their metric."""
    data: Any = reader.get_metrics_data()
    return {
        metric.name: list(metric.data.data_points)
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def durations(reader: InMemoryMetricReader) -> list[Any]:
    return measured(reader).get("gen_ai.client.inference.duration", [])


def call_count(reader: InMemoryMetricReader) -> int:
    return sum(point.count for point in durations(reader))


@pytest.fixture
def deferred_reader() -> Iterator[InMemoryMetricReader]:
    """A reader of calls that the export thread parses."""
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    spancast.configure(
        tracer_provider=own_provider(), meter_provider=meters, spool="memory", destinations={"d": Kept()}
    )
    yield reader
    spancast.shutdown(1)


class Kept:
    def deliver(self, payload: Any, timeout_s: float) -> None:
        pass


@pytest.mark.parametrize("kind", ["reader", "deferred_reader"])
@pytest.mark.parametrize("way", ["whole", "streamed", "refused"])
def test_ended_call_is_in_the_next_collection_once(
    way: str, kind: str, client: Any, server: ReplayServer, request: pytest.FixtureRequest
) -> None:
    reader: InMemoryMetricReader = request.getfixturevalue(kind)
    if way == "refused":
        server.reply(Reply.error(429))
        with pytest.raises(openai.RateLimitError):
            ask(client)
    elif way == "streamed":
        list(ask(client, stream=True))
    else:
        ask(client)
    assert call_count(reader) == 1
    assert call_count(reader) == 1


def test_exemplar_has_the_span_of_the_call(client: Any, spans: CapturedSpans, reader: InMemoryMetricReader) -> None:
    ask(client)
    [point] = durations(reader)
    context = spans.one().context
    assert context is not None
    assert [exemplar.span_id for exemplar in point.exemplars] == [context.span_id]


def test_exemplar_of_a_call_that_is_parsed_later_has_its_span(
    client: Any, deferred_reader: InMemoryMetricReader
) -> None:
    @client._client.event_hooks["request"].append
    def note(_: Any) -> None:
        started.append(trace_api.get_current_span().get_span_context().span_id)

    started: list[int] = []
    ask(client)
    [point] = durations(deferred_reader)
    assert [exemplar.span_id for exemplar in point.exemplars] == started


@pytest.mark.parametrize("kind", ["reader", "deferred_reader"])
def test_tokens_of_all_calls_are_counted_also_after_another_configuration(
    kind: str, client: Any, request: pytest.FixtureRequest
) -> None:
    reader: InMemoryMetricReader = request.getfixturevalue(kind)
    used = [ask(client).usage for _ in range(2)]
    settings = CALL_TRACER.settings
    spancast.configure(tracer_provider=settings.tracer_provider, meter_provider=settings.meter_provider)
    used.append(ask(client).usage)
    found = measured(reader)
    for name, wanted in (
        ("input_tokens", sum(one.prompt_tokens for one in used)),
        ("output_tokens", sum(one.completion_tokens for one in used)),
    ):
        [point] = found[f"gen_ai.client.inference.usage.{name}"]
        assert (point.value, point.attributes["gen_ai.token.modality"]) == (wanted, "unknown")
        [point] = found[f"gen_ai.client.inference.operation.{name}"]
        assert (point.sum, point.count) == (wanted, 3)


@pytest.mark.parametrize("is_on", [False, True])
def test_time_of_every_chunk_is_measured_if_the_setting_says_so(
    is_on: bool, client: Any, deferred_reader: InMemoryMetricReader
) -> None:
    settings = CALL_TRACER.settings
    spancast.configure(
        tracer_provider=settings.tracer_provider, meter_provider=settings.meter_provider, spool="memory",
        destinations={"d": Kept()}, chunk_metrics=is_on,
    )  # fmt: skip
    chunks = len(list(ask(client, stream=True)))
    found = measured(deferred_reader)
    [first] = found["gen_ai.client.inference.time_to_first_chunk"]
    assert first.count == 1
    later = [point.count for point in found.get("gen_ai.client.inference.time_per_output_chunk", [])]
    assert later == ([chunks - 1] if is_on else [])


def test_call_is_measured_also_if_nothing_is_exported(client: Any, deferred_reader: InMemoryMetricReader) -> None:
    RUNTIME.stop_pipeline(1)
    ask(client)
    assert call_count(deferred_reader) == 1


def test_collection_waits_once_for_ended_calls() -> None:
    waits: list[None] = []
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    metrics = ClientMetrics(meters, "", lambda: waits.append(None))
    metrics.record({"gen_ai.usage.input_tokens": 3}, 0.1, ())
    for number in (1, 2):
        reader.get_metrics_data()
        assert len(waits) == number
    meters.shutdown()
