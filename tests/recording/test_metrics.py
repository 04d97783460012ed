from __future__ import annotations

from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.metrics._internal import _ProxyMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from spancast.recording.metrics import ClientMetrics


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
