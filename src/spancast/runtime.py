"""The composition root: settings to tracer provider, recorder and installed clients.

The only file that knows everybody. Must never: replace a provider the application has.
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
    """Set spancast up from the file at ``path``; every argument is optional, a second call replaces the first.

    ``settings`` are the fields of ``spancast.config.settings.Settings``, stronger than environment and file.
    Spans are made with ``tracer_provider``, else the application's global provider, else one made
    here, which records every span unless ``OTEL_TRACES_SAMPLER`` says otherwise;
    ``set_global=True`` makes that one global. They go to ``destinations``. If none is given,
    the application's provider exports what it exports; spans of one made here go where the
    ``OTEL_*`` exporter variables say, else to a store on this machine (``spancast traces``).

    Raises:
        ConfigError: Lists every wrong field with its path, the value's type and what is allowed.
    """
    # What others do here (the SDK, an exporter, an entry point) may raise anything.
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
            raise ConfigError(f"{name}: must be a provider of OpenTelemetry's API (given: {type(provider).__name__})")
    # Building the pydantic model is slow; import it only when configure() is called.
    from spancast.config.settings import in_effect, load  # noqa: PLC0415 - as just said

    settings = load(path, given)
    defaults = trace_keys.read(json_data(settings.default_trace)) if settings.default_trace else NO_KEYS
    if defaults.validation_errors:
        raise ConfigError("\n".join(defaults.validation_errors))
    provider = tracer_provider or _application_provider()
    is_ours = provider is None or provider is _own_provider
    effective = in_effect(settings, has_other_exporters=not is_ours)
    made = None
    if provider is None:
        provider = made = _make_provider(settings)
    if effective is not None:
        _wiring().start_pipeline(effective, meter_provider)
    elif _wiring_loaded():
        _wiring().stop_pipeline()
    install_processor(provider)
    if _wiring_loaded():
        _wiring().attach(provider)
    if made is not None and set_global:
        trace_api.set_tracer_provider(made)
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
            defaults=defaults,
        )
    )
    if made is not None:
        _replace_own_provider(made)


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
    """Record the completion calls of ``target``.

    Nothing: every supported SDK, whether imported already or later. A name (``"openai"``):
    that SDK. A client object: this client and its copies. A function, method, coroutine
    function or generator function: its calls, keyword arguments being the request in
    ``dialect`` and the result the answer; ``base_url`` tells where it sends them. With only
    ``dialect`` or ``base_url``: a decorator. What goes in comes out.

    Raises:
        ConfigError: ``target`` or ``dialect`` is none of these; the message lists the names.
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
        f"instrument: {type(target).__name__} given; allowed are a client object of {', '.join(CLIENTS)},"
        " one of these names, or a function"
    )


def uninstrument(target: object = None) -> None:
    """Take the patches off: of ``target`` (an SDK's name or a client object), else of every SDK.

    Raises:
        ConfigError: ``target`` is neither; the message lists the names.
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
            f"uninstrument: {type(target).__name__} given; allowed are a client object of {', '.join(CLIENTS)}"
            " or one of these names"
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
    """Give trace keys to every call inside a ``with`` block, or of a decorated function.

    ``trace_name`` and ``span_name`` open spans at entry, current inside and ended at exit.
    Blocks nest and merge, the inner one wins key by key. ``enabled=False`` records nothing
    inside. One object may be entered by many threads and tasks at once.

    Raises:
        TraceKeyError: On entry, where a key is wrong and ``strict`` is set.
    """
    named = {
        "trace_id": trace_id, "trace_name": trace_name, "span_name": span_name,
        "generation_name": generation_name, "parent_span_id": parent_span_id,
    }  # fmt: skip
    given = {**{name: value for name, value in named.items() if value is not None}, **custom}
    return TraceBlock(CALL_TRACER, trace_keys.read(given, session_id=session_id, user=user, metadata=metadata))


def flush(timeout_s: float = 30.0) -> FlushReport:
    """End idle group spans, deliver what was handed over within ``timeout_s`` seconds, and tell what became of it.

    The report is true only where nothing waits and nothing was lost.
    """
    CALL_TRACER.tree.end_idle()
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
        # Our exporter may be on the application's provider, with a configuration that could not be read.
        report = replace(report, dropped=counters.read()[Count("dropped", reason="not_configured")])
    return report


def shutdown(timeout_s: float = 5.0) -> FlushReport:
    """End every group span, flush, take all patches off, and shut down what spancast made."""
    CALL_TRACER.tree.end_all()
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
    # Importing what keeps and sends takes 40 ms; import it only when there is a destination.
    from spancast import wiring  # noqa: PLC0415 - as just said

    return wiring


def _wiring_loaded() -> bool:
    return "spancast.wiring" in sys.modules


def _application_provider() -> TracerProvider | None:
    provider = trace_api.get_tracer_provider()
    return None if isinstance(provider, ProxyTracerProvider) else provider


def _make_provider(settings: Settings) -> SpancastTracerProvider:
    attributes = {SERVICE_NAME: settings.service_name} if settings.service_name else {}
    # A caller far away that did not sample its HTTP span has not decided about our calls.
    sampler = None if os.environ.get(_SAMPLER_VARIABLE) else ALWAYS_ON
    try:
        return SpancastTracerProvider(Resource.create(attributes), sampler)
    except ValueError as error:
        # A limit in a variable, which the text names.
        raise ConfigError(str(error)) from None


def _replace_own_provider(provider: SpancastTracerProvider | None) -> None:
    # Calls that still run on the former one are delivered as those of the new one are.
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
    return ConfigError(f"{name!r} is no {kind} spancast knows; allowed are {', '.join(known)}")
