from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from opentelemetry import metrics as metrics_api
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.metrics._internal import _ProxyMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import spancast
from spancast.otel_private import has_readers
from spancast.testing import CapturedSpans, ReplayServer, Reply
from spancast.tracing.call_tracer import CALL_TRACER


def test_placeholder_meter_provider_has_no_readers():
    assert not has_readers(_ProxyMeterProvider())
    assert not has_readers(NoOpMeterProvider())


def test_global_meter_provider_set_later_is_used(spans: CapturedSpans, monkeypatch: pytest.MonkeyPatch):
    assert CALL_TRACER.active_metrics() is None
    provider = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    monkeypatch.setattr(metrics_api._internal, "_METER_PROVIDER", provider)
    metrics = CALL_TRACER.active_metrics()
    assert metrics is not None
    assert metrics.provider is provider
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


def durations(reader: InMemoryMetricReader) -> list[Any]:
    data: Any = reader.get_metrics_data()
    return [
        point
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "gen_ai.client.inference.duration"
        for point in metric.data.data_points
    ]


def call_count(reader: InMemoryMetricReader) -> int:
    return sum(point.count for point in durations(reader))


@pytest.mark.parametrize("way", ["whole", "streamed", "refused"])
def test_ended_call_is_in_the_next_collection_once(
    way: str, client: Any, server: ReplayServer, reader: InMemoryMetricReader
) -> None:
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
