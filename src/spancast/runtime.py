"""The ``Runtime``: all state of spancast in a process, and the public functions, which are its methods.

It connects settings, tracer provider, call tracer, export pipeline and SDK patches. A global tracer provider of the
application is not replaced (``tests/tracing/test_group_spans.py``).
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, Unpack, cast, overload

from opentelemetry import metrics as metrics_api
from opentelemetry import trace as trace_api
from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import ProxyTracerProvider, TracerProvider

from spancast.diagnostics import (
    Count,
    RaisedAsConfigError,
    after_fork_in_child,
    attempt,
    counters,
    logger,
    never_raise,
)
from spancast.dialects.cost import CostEstimator, OwnPrice, per_mtok
from spancast.dialects.protocol import Dialect
from spancast.dialects.registry import DIALECTS, find_dialect, installed_dialects
from spancast.errors import ConfigError, SpancastError
from spancast.export import process_exit
from spancast.model import trace_keys
from spancast.model.completion_urls import OwnUrl
from spancast.model.identity_map import IdentityMap
from spancast.model.json_data import json_data
from spancast.model.providers import UNKNOWN_SERVER, server_of
from spancast.model.trace_keys import NO_KEYS
from spancast.tracing.call_tracer import CALL_TRACER, CallTracer, TracingSettings
from spancast.tracing.span_factory import SpancastTracerProvider
from spancast.tracing.span_processor import SpancastProcessor
from spancast.tracing.trace_block import TraceBlock

if TYPE_CHECKING:
    from spancast.config.settings import Settings, SettingsKeywords
    from spancast.export.flush_report import FlushReport
    from spancast.export.pipeline import ExportPipeline
    from spancast.instrumentation.patching import ClientSpec, Instrumentor
    from spancast.statistics import Stats

T = TypeVar("T")

DEFAULT_DIALECT: Final = "openai_chat"
_SAMPLER_VARIABLE: Final = "OTEL_TRACES_SAMPLER"
_COLLECTION_WAIT_S: Final = 1.0


class Runtime:
    """Everything that spancast holds from ``configure()`` to ``shutdown()``.

    The export side takes 40 ms to import, so its modules are imported with the first pipeline, and what wraps SDKs and
    functions with the first ``instrument``.
    """

    def __init__(self, call_tracer: CallTracer) -> None:
        self.call_tracer: Final = call_tracer
        self.pipeline: ExportPipeline | None = None
        self.instrumentors: Final[dict[str, Instrumentor]] = {}
        """By the name of the SDK."""
        self._awaited: Final[dict[str, None]] = {}
        """The SDKs to instrument when they are imported."""
        self._hooked: Final[set[str]] = set()
        """The import packages whose import is reported."""
        self._processors: Final[IdentityMap[TracerProvider, SpancastProcessor]] = IdentityMap()
        self._observed_providers: Final[IdentityMap[MeterProvider, bool]] = IdentityMap()
        self._own_provider: SpancastTracerProvider | None = None
        self._is_configured = False
        self.is_quiet = False
        """Whether configure() prints nothing, as ``spancast run`` has printed it for all processes."""
        self._printed = self._logged = ""
        call_tracer.before_collection = self._parse_ended_calls
        self._after_fork_in_child()
        after_fork_in_child(self._after_fork_in_child)

    def _after_fork_in_child(self) -> None:
        # Reentrant: a signal handler may call shutdown() on the thread that it interrupts in configure().
        self._lock = threading.RLock()
        if self.call_tracer.before_call == self._configure_at_first_call:
            # A thread that the child does not have may have been in the middle of it.
            self._is_configured = False

    def __reduce__(self) -> str:
        """Return the name of the instance, so that a public function can be pickled for another process."""
        return "RUNTIME"

    def configure(
        self,
        path: str | Path | None = None,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        set_global: bool = False,
        **settings: Unpack[SettingsKeywords],
    ) -> None:
        """Configure spancast from arguments, environment and the file at ``path``; a second call replaces the first.

        Every argument is optional. Without ``path``, the file is the one that ``SPANCAST_CONFIG`` names, else
        ``./spancast.yaml``. ``settings`` are the fields of ``spancast.config.settings.Settings``; they take precedence
        over environment and file. Spans are made with ``tracer_provider``, else the application's global provider, else
        a new one. The new one records every span unless ``OTEL_TRACES_SAMPLER`` is set, and ``set_global=True`` makes
        it global. Spans go to ``destinations``. Without any, the application's provider exports to its own exporters;
        spans of a new provider go to the exporters of the ``OTEL_*`` variables, else to a store on this machine
        (``spancast traces``).

        A file and destinations that the program does not name are printed to stderr, once;
        ``logging.getLogger("spancast").setLevel("WARNING")`` turns that off.

        Raises:
            ConfigError: Lists every invalid field with its path, the type of the value and the allowed values.
        """
        # Code of others runs here (the SDK, an exporter, an entry point) and may raise anything.
        with self._lock, RaisedAsConfigError("configure"):
            self._is_configured = True
            try:
                self._configure(path, tracer_provider, meter_provider, settings, set_global=set_global)
                self.call_tracer.before_call = None
            except BaseException:
                if self.call_tracer.settings.tracer_provider is None:
                    # The unreadable configuration may forbid recording content.
                    self.call_tracer.configure(TracingSettings(capture_content=False))
                    self.call_tracer.before_call = self._count_unrecorded
                raise

    def configure_or_log(self) -> None:
        """Configure spancast without arguments; log an error instead of raising it."""
        try:
            self.configure()
        except SpancastError as error:
            self.log_once(error)

    def log_once(self, error: SpancastError) -> None:
        """Log an error of the configuration, unless it was logged last: an exporter and an instrumentor may get it."""
        if str(error) != self._logged:
            self._logged = str(error)
            logger.error(
                "spancast: not configured: %s\n  Correct it, check it with `spancast check`, then start again.",
                error,
            )

    def _configure_at_first_call(self) -> None:
        with self._lock:
            # Another thread may have configured spancast meanwhile, or this one is doing it.
            if not self._is_configured:
                self.configure_or_log()
                if self.pipeline is None and self.call_tracer.settings.tracer_provider is not self._own_provider:
                    self.print_once("spancast: spans go to the tracer provider of the application")
        if self.call_tracer.before_call == self._count_unrecorded:
            self._count_unrecorded()

    def _count_unrecorded(self) -> None:
        if _application_provider() is None:
            counters.add("received")
            counters.add("dropped", reason="not_configured")

    def _configure(
        self,
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
                raise ConfigError(
                    f"{name}: expected a provider of the OpenTelemetry API, got {type(provider).__name__}"
                )
        # Building the pydantic model is slow; import it only when configure() is called.
        from spancast.config.env_vars import find  # noqa: PLC0415 - imported lazily
        from spancast.config.settings import in_effect, load, summary  # noqa: PLC0415 - imported lazily

        found = None if path else find()
        settings = load(path or found, given)
        defaults = trace_keys.read(json_data(settings.default_trace)) if settings.default_trace else NO_KEYS
        if defaults.validation_errors:
            raise ConfigError("\n".join(map(trace_keys.refusal, defaults.validation_errors)))
        provider = tracer_provider or _application_provider()
        is_ours = provider is None or provider is self._own_provider
        effective = in_effect(settings, has_other_exporters=not is_ours)
        new_provider = None
        if provider is None:
            provider = new_provider = _make_provider(settings)
        if effective is None:
            self.stop_pipeline()
            self._attach(provider)
        else:
            self.start_pipeline(effective, meter_provider, provider)
        if new_provider is not None and set_global:
            trace_api.set_tracer_provider(new_provider)
        self.call_tracer.configure(
            TracingSettings(
                tracer_provider=provider,
                meter_provider=meter_provider,
                capture_content=settings.capture_content,
                strict=settings.strict,
                forward_trace_keys=settings.forward_trace_keys,
                request_stream_usage=settings.request_stream_usage,
                cancellation_is_error=settings.cancellation_is_error,
                chunk_metrics=settings.chunk_metrics,
                group_idle_timeout=settings.group_idle_timeout,
                completion_urls=tuple(OwnUrl(url, dialect) for url, dialect in settings.completion_urls.items()),
                cost_estimator=_cost_estimator(settings),
                defaults=defaults,
            )
        )
        if new_provider is not None:
            self._replace_own_provider(new_provider)
        for name in settings.http_clients:
            self._instrumentor(name).instrument()
        self.print_once(summary(settings, effective, found))

    def print_once(self, line: str) -> None:
        """Print ``line`` to stderr, unless it was printed last or the logger ``spancast`` logs warnings only."""
        if line and line != self._printed and not self.is_quiet and logger.level <= logging.INFO:
            self._printed = line
            # stderr may be closed, and it is None in a program without a console.
            attempt(lambda: sys.stderr.write(f"{line}\n"))

    @overload
    def instrument(self, target: None = None) -> None: ...
    @overload
    def instrument(self, target: None = None, *, dialect: str, base_url: str | None = None) -> Callable[[T], T]: ...
    @overload
    def instrument(self, target: None = None, *, base_url: str) -> Callable[[T], T]: ...
    @overload
    def instrument(self, target: str) -> None: ...
    @overload
    def instrument(self, target: T, *, dialect: str | None = None, base_url: str | None = None) -> T: ...

    def instrument(self, target: Any = None, *, dialect: str | None = None, base_url: str | None = None) -> Any:
        """Record the completion calls of ``target`` and return it.

        Without arguments: every supported SDK, imported already or later. A name (``"openai"``): that SDK, or an HTTP
        library (``"httpx"``), of which the calls to completion URLs are recorded unless an SDK makes them. A client
        object: this client and its copies. A function, method, coroutine function or generator function: its calls; the
        arguments, with their defaults, are the request in ``dialect``, the result is the response, and ``base_url`` is
        the server it calls. With only ``dialect`` or ``base_url``: a decorator.

        Without ``configure()``, the first call that is recorded runs it without arguments; an error is logged.

        Raises:
            ConfigError: ``target`` or ``dialect`` is unknown; the message lists the names.
        """
        from spancast.instrumentation import registry  # noqa: PLC0415 - imported lazily

        if not self._is_configured:
            self.call_tracer.before_call = self._configure_at_first_call
            # Here, as the first call may be on a thread that cannot handle signals.
            process_exit.handle_sigterm()
        if target is None and dialect is None and base_url is None:
            self._instrument_every_client()
            return None
        if target is None:

            def decorator(function: T) -> T:
                return self.instrument(function, dialect=dialect, base_url=base_url)

            return decorator
        if isinstance(target, str):
            spec = registry.find_client(target)
            if spec is None:
                raise _unknown_client(target)
            self._instrument_when_imported(target, spec)
            return None
        client = _client(target)
        name = registry.name_of(client)
        if name is not None:
            self._instrumentor(name).instrument_client(client)
            return target
        if isinstance(target, (classmethod, staticmethod)) or (callable(target) and not isinstance(target, type)):
            from spancast.instrumentation.function import instrument_function  # noqa: PLC0415 - imported lazily

            server = server_of(base_url) if base_url else UNKNOWN_SERVER
            return instrument_function(cast("Callable[..., Any]", target), _dialect(dialect or DEFAULT_DIALECT), server)
        raise ConfigError(
            f"instrument: expected a client object of {', '.join(registry.CLIENTS)}, one of these names or a function,"
            f" got {type(target).__name__}"
        )

    def _instrument_every_client(self) -> None:
        from spancast.instrumentation import registry  # noqa: PLC0415 - imported lazily

        for name, spec in {**registry.CLIENTS, **registry.installed_clients()}.items():
            if not spec.by_name_only:
                self._instrument_when_imported(name, spec)

    def uninstrument(self, target: object = None) -> None:
        """Remove the patches of ``target`` (the name of an SDK or a client object), or of every SDK.

        Raises:
            ConfigError: ``target`` is unknown; the message lists the names.
        """
        from spancast.instrumentation import registry  # noqa: PLC0415 - imported lazily

        if target is None:
            self._awaited.clear()
            for instrumentor in list(self.instrumentors.values()):
                instrumentor.uninstall()
        elif isinstance(target, str):
            self._awaited.pop(target, None)
            self._instrumentor(target).uninstall()
        elif (name := registry.name_of(client := _client(target))) is not None:
            self._instrumentor(name).uninstall_from(client)
        else:
            raise ConfigError(
                f"uninstrument: expected a client object of {', '.join(registry.CLIENTS)} or one of these names,"
                f" got {type(target).__name__}"
            )

    def trace(  # noqa: PLR0913 - one argument per trace key
        self,
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
        return TraceBlock(self.call_tracer, trace_keys.read(given, session_id=session_id, user=user, metadata=metadata))

    def flush(self, timeout_s: float = 30.0) -> FlushReport:
        """End idle group spans, deliver the queued spans within ``timeout_s`` seconds, and return a report.

        The report is true only if nothing is queued and nothing was lost.
        """
        from spancast.export.flush_report import FlushReport  # noqa: PLC0415 - imported lazily

        self.call_tracer.group_spans.end_idle()
        deadline_s = time.monotonic() + timeout_s
        pipeline = self.pipeline
        report = pipeline.flush(timeout_s) if pipeline else FlushReport()
        provider = self.call_tracer.settings.tracer_provider or trace_api.get_tracer_provider()
        force_flush = getattr(provider, "force_flush", None)
        if force_flush is not None:
            left_ms = max(int((deadline_s - time.monotonic()) * 1000), 1)
            with self._skip_own_flush() if pipeline else nullcontext():
                report = replace(report, application_flushed=bool(force_flush(left_ms)))
        if pipeline is None:
            # The configuration could not be loaded.
            report = replace(report, dropped=counters.read()[Count("dropped", reason="not_configured")])
        return report

    def shutdown(self, timeout_s: float = 5.0) -> FlushReport:
        """End every group span, flush, remove all patches, and shut down the export pipeline and our provider."""
        with self._lock:
            deadline_s = time.monotonic() + timeout_s
            self.call_tracer.group_spans.end_all()
            report = self.flush(timeout_s)
            self.uninstrument()
            self.stop_pipeline(max(deadline_s - time.monotonic(), 0))
            self._replace_own_provider(None)
            self.call_tracer.configure(TracingSettings())
            self.call_tracer.before_call = None
            self._is_configured = False
            return report

    def stats(self) -> Stats:
        """Return the counts of this process since it started, and what is queued now."""
        from spancast.statistics import stats_of  # noqa: PLC0415 - imported lazily

        pipeline = self.pipeline
        if pipeline is None:
            return stats_of(counters.read(), 0, {})
        queued, queues = pipeline.span_queue.queued, pipeline.queues()
        pipeline.count_others()
        return stats_of(counters.read(), queued, queues)

    def start_pipeline(
        self,
        settings: Settings,
        meter_provider: MeterProvider | None = None,
        provider: TracerProvider | None = None,
    ) -> None:
        """Replace the pipeline by a new one for ``settings``; without destinations, by one to the local store.

        All spans of ``provider`` go to it, and of other providers the calls that still run. The former pipeline is
        shut down last, so that a span that ends meanwhile is in one of the two.

        Raises:
            ConfigError: A destination lacks a package, or the spool file is not a spool; the former pipeline stays.
        """
        from spancast import wiring  # noqa: PLC0415 - imported lazily

        made = wiring.make_pipeline(settings, self.call_tracer.end_open_spans)
        former, self.pipeline = self.pipeline, made
        self._attach(provider)
        if former is not None:
            former.shutdown(successor=self.pipeline)
        meters = meter_provider or metrics_api.get_meter_provider()
        if not self._observed_providers.get(meters):
            self._observed_providers.set(meters, True)
            wiring.observe(meters.get_meter("spancast"), lambda: self.pipeline)

    def _parse_ended_calls(self) -> None:
        """Wait until calls that have ended are parsed, so that the metrics which are collected next include them."""
        pipeline = self.pipeline
        if pipeline is not None and pipeline.has_spans:
            pipeline.span_queue.flush(_COLLECTION_WAIT_S)

    def stop_pipeline(self, timeout_s: float | None = None) -> None:
        """Shut the pipeline down, if there is one, within ``timeout_s`` or its own limit.

        It stays the target of calls that still run. Their spans are counted in ``dropped.after_shutdown``.
        """
        former, self.pipeline = self.pipeline, None
        if former is not None:
            for processor in self._processors.values():
                processor.set_target(former.processor, only_ours=True)
            former.shutdown(timeout_s)

    def processor_of(self, provider: TracerProvider) -> SpancastProcessor | None:
        """Return our processor on ``provider``, added if missing; None if it accepts no processors (ddtrace)."""
        add: Any = getattr(provider, "add_span_processor", None)
        if add is None:
            return None
        processor = self._processors.get(provider)
        if processor is None:
            processor = SpancastProcessor()
            self._processors.set(provider, processor)
            add(processor)
        return processor

    def _attach(self, provider: TracerProvider | None) -> None:
        """Send the spans of ``provider`` to the pipeline and its successors; of others, the calls that still run."""
        own = None if provider is None else self.processor_of(provider)
        for processor in self._processors.values():
            if self.pipeline is not None:
                processor.set_target(self.pipeline.processor, only_ours=processor is not own)
            elif processor is own:
                processor.set_target(None)
        if own is None and provider is not None and self.pipeline is not None:
            logger.warning(
                "spancast: %s accepts no span processors, so its spans reach no destination; pass a tracer_provider of"
                " the OpenTelemetry SDK to configure()",
                type(provider).__name__,
            )

    @contextmanager
    def _skip_own_flush(self) -> Generator[None]:
        """Make ``force_flush`` of providers skip our processors; the pipeline has been flushed."""
        for processor in self._processors.values():
            processor.is_flushed_by_us = True
        try:
            yield
        finally:
            for processor in self._processors.values():
                processor.is_flushed_by_us = False

    def _replace_own_provider(self, provider: SpancastTracerProvider | None) -> None:
        # Calls that still run on the former provider are still delivered.
        former, self._own_provider = self._own_provider, provider
        if former is not None:
            former.shutdown()

    def _instrument_when_imported(self, name: str, spec: ClientSpec) -> None:
        """Instrument an SDK; if it is not imported, not even its patches are, until it is."""
        if name in self.instrumentors or any(package in sys.modules for package in spec.modules):
            self._instrumentor(name).instrument()
            return
        import wrapt  # noqa: PLC0415 - imported lazily

        self._awaited[name] = None
        for package in set(spec.modules) - self._hooked:
            self._hooked.add(package)
            # An import hook stays; it has no effect after ``uninstrument``.
            wrapt.register_post_import_hook(
                lambda _module, name=name, package=package: self._imported(name, package), package
            )

    @never_raise
    def _imported(self, name: str, package: str) -> None:
        # wrapt calls a hook once; the module may be imported again.
        self._hooked.discard(package)
        if name in self._awaited:
            del self._awaited[name]
            self._instrumentor(name).instrument()

    def _instrumentor(self, name: str) -> Instrumentor:
        known = self.instrumentors.get(name)
        if known is None:
            from spancast.instrumentation import registry  # noqa: PLC0415 - imported lazily
            from spancast.instrumentation.patching import Instrumentor  # noqa: PLC0415 - imported lazily

            patches = registry.find_patches(name)
            if patches is None:
                raise _unknown_client(name)
            # Two threads may both get here; the first to store its instrumentor wins.
            known = self.instrumentors.setdefault(name, Instrumentor(patches))
        return known


def _application_provider() -> TracerProvider | None:
    provider = trace_api.get_tracer_provider()
    return None if isinstance(provider, ProxyTracerProvider) else provider


def _cost_estimator(settings: Settings) -> CostEstimator | None:
    if not settings.estimate_cost:
        return None
    from spancast.encoding.safe_regex import Pattern  # noqa: PLC0415 - imported lazily

    return CostEstimator(
        OwnPrice(name, Pattern(rf"\A(?:{name})\Z").search, per_mtok(price)) for name, price in settings.prices.items()
    )


def _make_provider(settings: Settings) -> SpancastTracerProvider:
    attributes = {SERVICE_NAME: settings.service_name} if settings.service_name else {}
    # A remote caller that did not sample its HTTP span has not decided about our calls.
    sampler = None if os.environ.get(_SAMPLER_VARIABLE) else ALWAYS_ON
    try:
        return SpancastTracerProvider(Resource.create(attributes), sampler)
    except ValueError as error:
        # An invalid span limit in an environment variable; the text names it.
        raise ConfigError(str(error)) from None


def _client(target: object) -> object:
    """Return ``target`` if it is a client, else the client that it forwards to (another library's wrapper), or None."""
    from spancast.instrumentation import registry  # noqa: PLC0415 - imported lazily

    if isinstance(target, type) or callable(target) or hasattr(target, "__wrapped__"):
        return None
    if registry.name_of(target) is not None:
        return target
    return attempt(lambda: getattr(getattr(target, "request", None), "__self__", None))


def _dialect(name: str) -> Dialect:
    found = find_dialect(name)
    if found is None:
        raise _unknown(name, "dialect", (*DIALECTS, *installed_dialects()))
    return found


def _unknown_client(name: str) -> ConfigError:
    from spancast.instrumentation import registry  # noqa: PLC0415 - imported lazily

    return _unknown(name, "SDK", (*registry.CLIENTS, *registry.installed_clients()))


def _unknown(name: str, kind: str, known: Iterable[str]) -> ConfigError:
    return ConfigError(f"unknown {kind} {name!r}; expected one of {', '.join(known)}")


RUNTIME: Final = Runtime(CALL_TRACER)
configure = RUNTIME.configure
instrument = RUNTIME.instrument
uninstrument = RUNTIME.uninstrument
trace = RUNTIME.trace
flush = RUNTIME.flush
shutdown = RUNTIME.shutdown
stats = RUNTIME.stats
