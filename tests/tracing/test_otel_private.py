"""Accessors of OpenTelemetry's private names, and their fallbacks in versions without them."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import context as context_api
from opentelemetry import metrics as metrics_api
from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import is_http_instrumentation_enabled, is_instrumentation_enabled
from opentelemetry.metrics import MeterProvider as APIMeterProvider
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.trace import NoOpTracer

from spancast import otel_private


def test_suppressed_instrumentations_are_off() -> None:
    token = context_api.attach(otel_private.suppress_instrumentation(Context({"kept": 1})))
    try:
        assert not is_instrumentation_enabled()
        assert not is_http_instrumentation_enabled()
        assert context_api.get_value("kept") == 1
    finally:
        context_api.detach(token)
    assert is_instrumentation_enabled()


def test_version_without_suppression_keys_gets_the_string_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(context_api, "_SUPPRESS_INSTRUMENTATION_KEY")
    monkeypatch.delattr(context_api, "_SUPPRESS_HTTP_INSTRUMENTATION_KEY")
    suppressed = otel_private.suppress_instrumentation(Context())
    assert suppressed == {"suppress_instrumentation": True, "suppress_http_instrumentation": True}


def test_context_accessors_are_those_of_opentelemetry() -> None:
    context = Context({"kept": 1})
    token = context_api.attach(context_api.get_current())
    try:
        otel_private.set_context(context)
        assert context_api.get_current() is otel_private.get_context() is context
    finally:
        context_api.detach(token)
    assert context_api.get_current() is otel_private.get_context()


@pytest.mark.parametrize("runtime", [None, SimpleNamespace(_current_context="renamed")])
def test_context_of_another_runtime_is_reached_by_the_public_functions(
    runtime: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context_api, "_RUNTIME_CONTEXT", runtime)
    assert otel_private.context_accessors() == (context_api.get_current, context_api.attach)


def test_limits_are_those_of_the_tracer() -> None:
    limits = SpanLimits(max_span_attributes=7, max_span_attribute_length=11)
    found = otel_private.span_limits(TracerProvider(span_limits=limits).get_tracer("x"))
    assert (found.max_span_attributes, found.max_span_attribute_length) == (7, 11)


@pytest.mark.parametrize("tracer", [NoOpTracer(), SimpleNamespace(_span_limits="renamed")])
def test_limits_of_an_unknown_tracer_are_the_recommended_ones(tracer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "no number")
    found = otel_private.span_limits(tracer)
    assert (found.max_span_attributes, found.max_span_attribute_length, found.max_events) == (128, None, 128)


def test_no_global_meter_provider_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[otel_private._METRICS], "_METER_PROVIDER", None)
    assert otel_private.global_meter_provider() is None


@pytest.mark.parametrize("version", ["this", "without the name"])
def test_global_meter_provider_is_that_of_the_application(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = NoOpMeterProvider()
    if version == "this":
        monkeypatch.setattr(sys.modules[otel_private._METRICS], "_METER_PROVIDER", provider)
    else:
        monkeypatch.setattr(otel_private, "_METRICS", "unknown")
        monkeypatch.setattr(metrics_api, "get_meter_provider", lambda: provider)
    assert otel_private.global_meter_provider() is provider


def test_unknown_meter_provider_may_have_readers() -> None:
    class Other(APIMeterProvider):
        def get_meter(self, *args: Any, **kwargs: Any) -> Any:
            raise NotImplementedError

    assert otel_private.has_readers(Other())


def test_inference_is_marked_by_the_key_of_the_genai_package(monkeypatch: pytest.MonkeyPatch) -> None:
    name = otel_private._GENAI
    pytest.importorskip(name, reason="no GenAI package for this version of OpenTelemetry")
    key = sys.modules[name].CLIENT_INFERENCE_CONTEXT_KEY
    assert otel_private.mark_inference(Context()).get(key) is not None
    for other in (SimpleNamespace(), SimpleNamespace(InferenceData=object)):
        monkeypatch.setitem(sys.modules, name, other)  # type: ignore[arg-type]
        assert otel_private.mark_inference(Context()) == {}
    monkeypatch.delitem(sys.modules, name)
    assert otel_private.mark_inference(Context()) == {}
