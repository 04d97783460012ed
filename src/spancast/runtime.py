"""The public functions: ``configure``, ``instrument``, ``trace``, ``flush``, ``shutdown``, ``stats``.

The composition root: it connects settings, tracer provider, call tracer and SDK patches. A global tracer provider
of the application is not replaced (``tests/tracing/test_group_spans.py``).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, TypeVar, Unpack, cast, overload

from opentelemetry import trace as trace_api
from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import ProxyTracerProvider, TracerProvider

from spancast.diagnostics import Count, RaisedAsConfigError, counters
from spancast.dialects.cost import CostEstimator, OwnPrice, per_mtok
from spancast.dialects.protocol import Dialect
from spancast.dialects.registry import DIALECTS, find_dialect, installed_dialects
from spancast.errors import ConfigError
from spancast.export.flush_report import FlushReport
from spancast.instrumentation.function import instrument_function
from spancast.instrumentation.patching import Instrumentor
from spancast.instrumentation.registry import CLIENTS, find_installation, installations, installed_clients, name_of
from spancast.model import trace_keys
from spancast.model.json_data import json_data
from spancast.model.providers import UNKNOWN_SERVER, server_of
from spancast.model.trace_keys import NO_KEYS
from spancast.statistics import Stats, stats_of
from spancast.tracing.call_tracer import CALL_TRACER, TracingSettings
from spancast.tracing.span_factory import SpancastTracerProvider
from spancast.tracing.span_processor import install_processor
from spancast.tracing.trace_block import TraceBlock

if TYPE_CHECKING:
    from spancast.config.settings import Settings, SettingsKeywords

T = TypeVar("T")

DEFAULT_DIALECT: Final = "openai_chat"
_SAMPLER_VARIABLE: Final = "OTEL_TRACES_SAMPLER"

_own_provider: SpancastTracerProvider | None = None


def configure(
    path: str | Path | None = None,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    set_global: bool = False,
    **settings: Unpack[SettingsKeywords],
) -> None:
    """Configure spancast from arguments, environment and the file at ``path``; a second call replaces the first.

    Every argument is optional. ``settings`` are the fields of ``spancast.config.settings.Settings``; they take
    precedence over environment and file. Spans are made with ``tracer_provider``, else the application's global
    provider, else a new one. The new one records every span unless ``OTEL_TRACES_SAMPLER`` is set, and
    ``set_global=True`` makes it global. Spans go to ``destinations``. Without any, the application's provider
    exports to its own exporters; spans of a new provider go to the exporters of the ``OTEL_*`` variables, else to a
    store on this machine (``spancast traces``).

    Raises:
        ConfigError: Lists every invalid field with its path, the type of the value and the allowed values.
    """
    # Code of others runs here (the SDK, an exporter, an entry point) and may raise anything.
    with RaisedAsConfigError("configure"):
        _configure(path, tracer_provider, meter_provider, settings, set_global=set_global)


def _configure(
    path: str | Path | None,
    tracer_provider: TracerProvider | None,
    meter_provider: MeterProvider | None,
    given: Mapping[str, Any],
    *,
    set_global: bool,
) -> None:
    for name, provider, method in (
        ("tracer_provider", tracer_provider, "get_tracer"),
        ("meter_provider", meter_provider, "get_meter"),
    ):
        if provider is not None and not hasattr(provider, method):
            raise ConfigError(f"{name}: expected a provider of the OpenTelemetry API, got {type(provider).__name__}")
    # Building the pydantic model is slow; import it only when configure() is called.
    from spancast.config.settings import in_effect, load  # noqa: PLC0415 - imported lazily

    settings = load(path, given)
    defaults = trace_keys.read(json_data(settings.default_trace)) if settings.default_trace else NO_KEYS
    if defaults.validation_errors:
        raise ConfigError("\n".join(defaults.validation_errors))
    provider = tracer_provider or _application_provider()
    is_ours = provider is None or provider is _own_provider
    effective = in_effect(settings, has_other_exporters=not is_ours)
    new_provider = None
    if provider is None:
        provider = new_provider = _make_provider(settings)
    if effective is not None:
        _wiring().start_pipeline(effective, meter_provider)
    elif _wiring_loaded():
        _wiring().stop_pipeline()
    install_processor(provider)
    if _wiring_loaded():
        _wiring().attach(provider)
    if new_provider is not None and set_global:
        trace_api.set_tracer_provider(new_provider)
    CALL_TRACER.configure(
        TracingSettings(
            tracer_provider=provider,
            meter_provider=meter_provider,
            capture_content=settings.capture_content,
            strict=settings.strict,
            forward_trace_keys=settings.forward_trace_keys,
            request_stream_usage=settings.request_stream_usage,
            cancellation_is_error=settings.cancellation_is_error,
            group_idle_timeout=settings.group_idle_timeout,
            cost_estimator=_cost_estimator(settings),
            defaults=defaults,
        )
    )
    if new_provider is not None:
        _replace_own_provider(new_provider)


@overload
def instrument(target: None = None) -> None: ...
@overload
def instrument(target: None = None, *, dialect: str, base_url: str | None = None) -> Callable[[T], T]: ...
@overload
def instrument(target: None = None, *, base_url: str) -> Callable[[T], T]: ...
@overload
def instrument(target: str) -> None: ...
@overload
def instrument(target: T, *, dialect: str | None = None, base_url: str | None = None) -> T: ...


def instrument(target: Any = None, *, dialect: str | None = None, base_url: str | None = None) -> Any:
    """Record the completion calls of ``target`` and return it.

    Without arguments: every supported SDK, imported already or later. A name (``"openai"``): that SDK. A client
    object: this client and its copies. A function, method, coroutine function or generator function: its calls; the
    keyword arguments are the request in ``dialect``, the result is the response, and ``base_url`` is the server it
    calls. With only ``dialect`` or ``base_url``: a decorator.

    Raises:
        ConfigError: ``target`` or ``dialect`` is unknown; the message lists the names.
    """
    if target is None and dialect is None and base_url is None:
        for name in (*CLIENTS, *installed_clients()):
            _installation(name).instrument()
        return None
    if target is None:

        def decorator(function: T) -> T:
            return instrument(function, dialect=dialect, base_url=base_url)

        return decorator
    if isinstance(target, str):
        _installation(target).instrument()
        return None
    name = _client_name(target)
    if name is not None:
        _installation(name).instrument_client(target)
        return target
    if isinstance(target, (classmethod, staticmethod)) or (callable(target) and not isinstance(target, type)):
        server = server_of(base_url) if base_url else UNKNOWN_SERVER
        return instrument_function(cast("Callable[..., Any]", target), _dialect(dialect or DEFAULT_DIALECT), server)
    raise ConfigError(
        f"instrument: expected a client object of {', '.join(CLIENTS)}, one of these names or a function,"
        f" got {type(target).__name__}"
    )


def uninstrument(target: object = None) -> None:
    """Remove the patches of ``target`` (the name of an SDK or a client object), or of every SDK.

    Raises:
        ConfigError: ``target`` is unknown; the message lists the names.
    """
    if target is None:
        for installed in list(installations.values()):
            installed.uninstall()
    elif isinstance(target, str):
        _installation(target).uninstall()
    elif (name := _client_name(target)) is not None:
        _installation(name).uninstall_from(target)
    else:
        raise ConfigError(
            f"uninstrument: expected a client object of {', '.join(CLIENTS)} or one of these names,"
            f" got {type(target).__name__}"
        )


def trace(  # noqa: PLR0913 - one argument per trace key
    *,
    trace_id: str | None = None,
    trace_name: str | None = None,
    span_name: str | None = None,
    generation_name: str | None = None,
    parent_span_id: str | None = None,
    session_id: str | None = None,
    user: str | None = None,
    metadata: dict[str, str] | None = None,
    **custom: Any,  # noqa: ANN401 - any JSON value
) -> TraceBlock:
    """Add trace keys to every call inside a ``with`` block, or of a decorated function.

    ``trace_name`` and ``span_name`` open spans at entry; they are current inside and end at exit. Nested blocks
    merge, and the inner one takes precedence key by key. ``enabled=False`` disables recording inside. Many threads
    and tasks may enter one object at once.

    Raises:
        TraceKeyError: At entry, if a key is invalid and ``strict`` is set.
    """
    named = {
        "trace_id": trace_id, "trace_name": trace_name, "span_name": span_name,
        "generation_name": generation_name, "parent_span_id": parent_span_id,
    }  # fmt: skip
    given = {**{name: value for name, value in named.items() if value is not None}, **custom}
    return TraceBlock(CALL_TRACER, trace_keys.read(given, session_id=session_id, user=user, metadata=metadata))


def flush(timeout_s: float = 30.0) -> FlushReport:
    """End idle group spans, deliver the queued spans within ``timeout_s`` seconds, and return a report.

    The report is true only if nothing is queued and nothing was lost.
    """
    CALL_TRACER.group_spans.end_idle()
    deadline_s = time.monotonic() + timeout_s
    pipeline = _wiring().current_pipeline() if _wiring_loaded() else None
    report = pipeline.flush(timeout_s) if pipeline else FlushReport()
    provider = CALL_TRACER.settings.tracer_provider or trace_api.get_tracer_provider()
    force_flush = getattr(provider, "force_flush", None)
    if force_flush is not None:
        left_ms = max(int((deadline_s - time.monotonic()) * 1000), 1)
        with _wiring().skip_own_flush() if pipeline else nullcontext():
            report = replace(report, application_flushed=bool(force_flush(left_ms)))
    if pipeline is None:
        # Our exporter may be on the application's provider, with a configuration that could not be loaded.
        report = replace(report, dropped=counters.read()[Count("dropped", reason="not_configured")])
    return report


def shutdown(timeout_s: float = 5.0) -> FlushReport:
    """End every group span, flush, remove all patches, and shut down the export pipeline and our provider."""
    CALL_TRACER.group_spans.end_all()
    report = flush(timeout_s)
    uninstrument()
    if _wiring_loaded():
        _wiring().stop_pipeline()
    _replace_own_provider(None)
    CALL_TRACER.configure(TracingSettings())
    return report


def stats() -> Stats:
    """Return the counts of this process since it started, and what is queued now."""
    pipeline = _wiring().current_pipeline() if _wiring_loaded() else None
    if pipeline is None:
        return stats_of(counters.read(), 0, {})
    return stats_of(counters.read(), pipeline.span_queue.queued, pipeline.queues())


def _wiring() -> ModuleType:
    # The import of the export side takes 40 ms; it is needed only if there is a destination.
    from spancast import wiring  # noqa: PLC0415 - imported lazily

    return wiring


def _wiring_loaded() -> bool:
    return "spancast.wiring" in sys.modules


def _application_provider() -> TracerProvider | None:
    provider = trace_api.get_tracer_provider()
    return None if isinstance(provider, ProxyTracerProvider) else provider


def _make_provider(settings: Settings) -> SpancastTracerProvider:
    attributes = {SERVICE_NAME: settings.service_name} if settings.service_name else {}
    # A remote caller that did not sample its HTTP span has not decided about our calls.
    sampler = None if os.environ.get(_SAMPLER_VARIABLE) else ALWAYS_ON
    try:
        return SpancastTracerProvider(Resource.create(attributes), sampler)
    except ValueError as error:
        # An invalid span limit in an environment variable; the text names it.
        raise ConfigError(str(error)) from None


def _cost_estimator(settings: Settings) -> CostEstimator | None:
    if not settings.estimate_cost:
        return None
    from spancast.encoding.safe_regex import Pattern  # noqa: PLC0415 - imported lazily

    return CostEstimator(
        OwnPrice(
            name,
            Pattern(rf"\A(?:{name})\Z").search,
            per_mtok(price),
        )
        for name, price in settings.prices.items()
    )


def _replace_own_provider(provider: SpancastTracerProvider | None) -> None:
    # Calls that still run on the former provider are still delivered.
    global _own_provider
    former, _own_provider = _own_provider, provider
    if former is not None:
        former.shutdown()


def _client_name(target: object) -> str | None:
    if isinstance(target, type) or callable(target):
        return None
    name = name_of(target)
    return None if name is None or hasattr(target, "__wrapped__") else name


def _installation(name: str) -> Instrumentor:
    found = find_installation(name)
    if found is None:
        raise _unknown(name, "SDK", (*CLIENTS, *installed_clients()))
    return found


def _dialect(name: str) -> Dialect:
    found = find_dialect(name)
    if found is None:
        raise _unknown(name, "dialect", (*DIALECTS, *installed_dialects()))
    return found


def _unknown(name: str, kind: str, known: Iterable[str]) -> ConfigError:
    return ConfigError(f"unknown {kind} {name!r}; expected one of {', '.join(known)}")
