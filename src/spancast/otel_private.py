"""Accessors of OpenTelemetry's private names, each with a fallback for versions without the name.

No other module uses one (``tests/house/test_house.py``). ``tests/tracing/test_otel_private.py`` runs each
fallback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final, cast

from opentelemetry import context as context_api
from opentelemetry import metrics as metrics_api
from opentelemetry.context import Context
from opentelemetry.environment_variables import OTEL_PYTHON_METER_PROVIDER
from opentelemetry.metrics import MeterProvider, NoOpMeterProvider
from opentelemetry.sdk.trace import SpanLimits
from opentelemetry.trace import Tracer

_SUPPRESSING: Final = ("suppress_instrumentation", "suppress_http_instrumentation")
"""The context keys of older versions of OpenTelemetry and of other libraries."""
_UNIQUE_KEYS: Final = ("_SUPPRESS_INSTRUMENTATION_KEY", "_SUPPRESS_HTTP_INSTRUMENTATION_KEY")
"""The names of the constants that hold the current context keys. The keys differ in each process."""
_METRICS: Final = "opentelemetry.metrics._internal"
_GENAI: Final = "opentelemetry.util.genai._inference_invocation"
_NAMES_METER_PROVIDER: Final = OTEL_PYTHON_METER_PROVIDER in os.environ
_MOST: Final = 128
_DEFAULT_LIMITS: Final = SpanLimits(
    max_attributes=_MOST, max_events=_MOST, max_links=_MOST, max_event_attributes=_MOST, max_link_attributes=_MOST,
    max_span_attributes=_MOST, max_attribute_length=SpanLimits.UNSET, max_span_attribute_length=SpanLimits.UNSET,
)  # fmt: skip


def context_accessors() -> tuple[Callable[[], Context], Callable[[Context], object]]:
    """Return functions that get and set the current context: the public ones, unless it is a ``ContextVar``.

    Each public function makes two more calls, and a step of a generator needs three of them.
    """
    variable = getattr(getattr(context_api, "_RUNTIME_CONTEXT", None), "_current_context", None)
    if isinstance(variable, ContextVar):
        known = cast("ContextVar[Context]", variable)
        return known.get, known.set
    return context_api.get_current, context_api.attach


get_context, set_context = context_accessors()


def suppress_instrumentation(context: Context) -> Context:
    """Return ``context`` with every instrumentation suppressed, including HTTP and gRPC."""
    unique = [getattr(context_api, name, None) for name in _UNIQUE_KEYS]
    return Context({**context, **dict.fromkeys((*_SUPPRESSING, *filter(None, unique)), True)})


def mark_inference(context: Context) -> Context:
    """Return ``context`` in which OpenTelemetry's GenAI instrumentations create no span for a call.

    Unchanged unless the application has loaded them.
    """
    # Looked up instead of imported: the package is optional.
    module: Any = sys.modules.get(_GENAI)
    if module is None or not hasattr(module, "InferenceData"):
        return context
    key: str | None = getattr(module, "CLIENT_INFERENCE_CONTEXT_KEY", None)
    return context if key is None else context_api.set_value(key, module.InferenceData(), context)


def span_limits(tracer: Tracer) -> SpanLimits:
    """Return the span limits of ``tracer``; OpenTelemetry's recommended ones if unknown."""
    limits = getattr(tracer, "_span_limits", None)
    return limits if isinstance(limits, SpanLimits) else _DEFAULT_LIMITS


def global_meter_provider() -> MeterProvider | None:
    """Return the global meter provider; None if none is set.

    Until one is set, the public function searches ``os.environ`` at each call: 5 µs of each traced call.
    """
    is_set = getattr(sys.modules.get(_METRICS), "_METER_PROVIDER", True) is not None
    return metrics_api.get_meter_provider() if is_set or _NAMES_METER_PROVIDER else None


def has_readers(provider: MeterProvider) -> bool:
    """Return whether a reader collects the metrics of ``provider``; True if unknown.

    The SDK's provider may get its first reader later.
    """
    if isinstance(provider, NoOpMeterProvider):
        return False
    kind = type(provider)
    if "Proxy" in kind.__name__ and kind.__module__.startswith("opentelemetry.metrics"):
        # OpenTelemetry's placeholder until the application sets a provider. It has no public name.
        return False
    consumer = getattr(provider, "_measurement_consumer", None)
    return bool(getattr(consumer, "_reader_storages", True))
