from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.metrics._internal import _ProxyMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import spancast
from spancast.testing import CapturedSpans, ReplayServer, Reply
from spancast.tracing import client_metrics as metrics_module
from spancast.tracing.client_metrics import ClientMetrics
from spancast.tracing.pending import unparsed_bytes


def test_a_provider_set_later_is_noticed():
    proxy = _ProxyMeterProvider()
    metrics = ClientMetrics(proxy, "1")
    assert metrics.awaits_provider
    assert not metrics.enabled
    proxy.on_set_meter_provider(MeterProvider())
    assert not metrics.awaits_provider


def test_a_provider_that_is_one_awaits_no_other():
    assert not ClientMetrics(MeterProvider(), "1").awaits_provider
    assert not ClientMetrics(NoOpMeterProvider(), "1").awaits_provider


def test_a_provider_that_nobody_reads_is_not_measured_for():
    assert not ClientMetrics(MeterProvider(), "1").enabled
    assert ClientMetrics(MeterProvider([InMemoryMetricReader()]), "1").enabled


@pytest.mark.skipif(not hasattr(MeterProvider, "add_metric_reader"), reason="an SDK whose readers are given at first")
def test_a_reader_that_is_added_later_is_measured_for():
    provider, reader = MeterProvider(shutdown_on_exit=False), InMemoryMetricReader()
    metrics = ClientMetrics(provider, "1")
    assert not metrics.enabled
    provider.add_metric_reader(reader)
    assert metrics.enabled
    provider.remove_metric_reader(reader)
    assert not metrics.enabled


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


def told(reader: InMemoryMetricReader) -> int:
    return sum(point.count for point in durations(reader))


def is_unread(span: Any) -> bool:
    return unparsed_bytes(span) is not None


def last(spans: CapturedSpans) -> Any:
    # Without a look at them: the exporter's own list.
    return spans._exporter.get_finished_spans()[-1]


@pytest.mark.parametrize("way", ["whole", "streamed", "refused"])
def test_who_collects_reads_first(
    way: str, client: Any, server: ReplayServer, spans: CapturedSpans, reader: InMemoryMetricReader
) -> None:
    if way == "refused":
        server.reply(Reply.error(429))
        with pytest.raises(openai.RateLimitError):
            ask(client)
    elif way == "streamed":
        list(ask(client, stream=True))
    else:
        ask(client)
    assert is_unread(last(spans)), "the caller has read nothing"
    assert told(reader) == 1, "the collection after the call has it"
    assert not is_unread(last(spans))
    assert told(reader) == 1, "and once"


def test_what_somebody_has_read_is_told_once(client: Any, spans: CapturedSpans, reader: InMemoryMetricReader) -> None:
    ask(client)
    assert last(spans).attributes["gen_ai.request.model"] == "m"
    assert told(reader) == 1
    assert told(reader) == 1


def test_an_exemplar_names_the_span_of_the_call(
    client: Any, spans: CapturedSpans, reader: InMemoryMetricReader
) -> None:
    ask(client)
    [point] = durations(reader)
    assert [exemplar.span_id for exemplar in point.exemplars] == [last(spans).context.span_id]


def test_so_many_wait_and_no_more(
    client: Any, spans: CapturedSpans, reader: InMemoryMetricReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_module, "_MOST_WAITING", 2)
    for _ in range(3):
        ask(client)
    finished = spans._exporter.get_finished_spans()
    assert [is_unread(span) for span in finished] == [True, True, False]
    assert told(reader) == 3
    ask(client)
    assert is_unread(last(spans)), "there is room again"
    monkeypatch.setattr(metrics_module, "_MOST_WAITING_BYTES", 10)
    ask(client)
    assert not is_unread(last(spans))
    assert told(reader) == 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_does_not_tell_its_parents_calls(
    client: Any, spans: CapturedSpans, reader: InMemoryMetricReader
) -> None:
    ask(client)
    child = os.fork()
    if not child:
        os._exit(told(reader))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert told(reader) == 1


def test_readers_and_collectors_at_the_same_time(
    client: Any, spans: CapturedSpans, reader: InMemoryMetricReader
) -> None:
    calls = 40
    is_over = threading.Event()

    def look() -> None:
        while not is_over.is_set():
            for span in spans._exporter.get_finished_spans():
                assert span.attributes is not None

    def collect() -> None:
        while not is_over.is_set():
            reader.get_metrics_data()

    threads = [threading.Thread(target=work, daemon=True) for work in (look, collect, collect)]
    for thread in threads:
        thread.start()
    for _ in range(calls):
        ask(client)
    is_over.set()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert told(reader) == calls
