"""The composition root: settings to tracer provider, recorder and installed clients.

The only file that knows everybody. Must never: replace a provider the application has.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast, overload

from opentelemetry import trace as trace_api
from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider as SDKTracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import ProxyTracerProvider, TracerProvider

from spancast import settings as settings_module
from spancast.clients.function import instrument_function
from spancast.clients.table import CLIENTS, installation
from spancast.destinations.environment import environment_exporters
from spancast.dialects.protocol import Dialect
from spancast.dialects.table import DIALECTS
from spancast.errors import ConfigError, logger, tally
from spancast.model import trace_keys
from spancast.model.providers import UNKNOWN_SERVER, server_of
from spancast.model.trace_keys import NO_KEYS
from spancast.recording.recorder import RECORDER, RecordingSettings
from spancast.recording.scope import Scope
from spancast.recording.stamp import ScopeStamp
from spancast.settings import Settings

T = TypeVar("T")

DEFAULT_DIALECT: Final = "openai_chat"

_stamped: weakref.WeakSet[TracerProvider] = weakref.WeakSet()
_own_provider: SDKTracerProvider | None = None


def configure(
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    set_global: bool = False,
    **given: Any,  # noqa: ANN401 - the fields of Settings, checked there
) -> None:
    """Set spancast up; every argument is optional, and a second call replaces the first.

    Spans go to ``tracer_provider``, else to the application's global provider, else to one
    made here: with an OTLP exporter where ``OTEL_EXPORTER_OTLP_ENDPOINT`` (or another
    ``OTEL_*`` exporter variable) is set. ``set_global=True`` makes that one global.
    ``given`` are the fields of ``spancast.settings.Settings``.

    Raises:
        ConfigError: Lists every wrong field with its path, the value's type and what is allowed.
    """
    settings = settings_module.load(given)
    defaults = trace_keys.read(settings.trace) if settings.trace else NO_KEYS
    if defaults.problems:
        raise ConfigError("\n".join(defaults.problems))
    provider = tracer_provider or _application_provider() or _make_provider(settings, set_global=set_global)
    _stamp(provider)
    RECORDER.configure(
        RecordingSettings(
            tracer_provider=provider,
            meter_provider=meter_provider,
            capture_content=settings.capture_content,
            strict=settings.strict,
            forward=settings.forward,
            stream_usage=settings.stream_usage,
            cancelled_is_error=settings.cancelled_is_error,
            group_idle_s=settings.group_idle_s,
            defaults=defaults,
        )
    )


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
        for name in CLIENTS:
            installation(name).install()
        return None
    if target is None:

        def decorator(function: T) -> T:
            return instrument(function, dialect=dialect, base_url=base_url)

        return decorator
    if isinstance(target, str):
        installation(_known(target, CLIENTS, "SDK")).install()
        return None
    name = _client_name(target)
    if name is not None:
        installation(name).install_on(target)
        return target
    if callable(target) and not isinstance(target, type):
        spoken: Dialect = DIALECTS[_known(dialect or DEFAULT_DIALECT, DIALECTS, "dialect")]
        server = server_of(base_url) if base_url else UNKNOWN_SERVER
        return instrument_function(cast("Callable[..., Any]", target), spoken, server)
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
        for name in CLIENTS:
            installation(name).uninstall()
    elif isinstance(target, str):
        installation(_known(target, CLIENTS, "SDK")).uninstall()
    elif (name := _client_name(target)) is not None:
        installation(name).uninstall_from(target)
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
) -> Scope:
    """Give trace keys to every call inside a ``with`` block, or of a decorated function.

    ``trace_name`` and ``span_name`` open spans at entry, current inside and ended at exit.
    Blocks nest and merge, the inner one wins key by key. ``enabled=False`` records nothing
    inside.

    Raises:
        TraceKeyError: On entry, where a key is wrong and ``strict`` is set.
    """
    named = {
        "trace_id": trace_id, "trace_name": trace_name, "span_name": span_name,
        "generation_name": generation_name, "parent_span_id": parent_span_id,
    }  # fmt: skip
    given = {**{name: value for name, value in named.items() if value is not None}, **custom}
    return Scope(RECORDER, trace_keys.read(given, session_id=session_id, user=user, metadata=metadata))


def flush(timeout_s: float = 30.0) -> bool:
    """End idle group spans and flush; True where everything handed over was delivered in ``timeout_s`` seconds."""
    RECORDER.tree.end_idle()
    provider = RECORDER.settings.tracer_provider or trace_api.get_tracer_provider()
    force_flush = getattr(provider, "force_flush", None)
    return True if force_flush is None else bool(force_flush(int(timeout_s * 1000)))


def shutdown(timeout_s: float = 5.0) -> None:
    """End every group span, flush, take all patches off, and shut down the provider spancast made."""
    global _own_provider
    RECORDER.tree.end_all()
    flush(timeout_s)
    uninstrument()
    own, _own_provider = _own_provider, None
    if own is not None:
        own.shutdown()
    RECORDER.configure(RecordingSettings())


def stats() -> dict[str, int]:
    """Return the counts of this process: spans started and failed, calls left to others, internal errors, drops."""
    return tally.read()


def _application_provider() -> TracerProvider | None:
    provider = trace_api.get_tracer_provider()
    return None if isinstance(provider, ProxyTracerProvider) else provider


def _make_provider(settings: Settings, *, set_global: bool) -> SDKTracerProvider:
    global _own_provider  # noqa: PLW0603 - as above
    if _own_provider is not None:
        _own_provider.shutdown()
    attributes = {SERVICE_NAME: settings.service_name} if settings.service_name else {}
    provider = SDKTracerProvider(resource=Resource.create(attributes))
    exporters = environment_exporters()
    for exporter in exporters:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    if not exporters:
        logger.warning(
            "spancast: no exporter is configured, so spans go nowhere; set OTEL_EXPORTER_OTLP_ENDPOINT "
            "(http://localhost:4318 for a Jaeger on this machine) or pass tracer_provider="
        )
    if set_global:
        trace_api.set_tracer_provider(provider)
    _own_provider = provider
    return provider


def _stamp(provider: TracerProvider) -> None:
    # ddtrace's provider, for one, takes no processors: then only our own spans carry the ambient keys.
    add = getattr(provider, "add_span_processor", None)
    if add is not None and provider not in _stamped:
        add(ScopeStamp())
        _stamped.add(provider)


def _client_name(target: object) -> str | None:
    for base in type(target).__mro__:
        package = base.__module__.partition(".")[0]
        if package in CLIENTS and not isinstance(target, type) and not hasattr(target, "__wrapped__"):
            return package if not callable(target) else None
    return None


def _known(name: str, table: object, kind: str) -> str:
    names = list(cast("dict[str, Any]", table))
    if name not in names:
        raise ConfigError(f"{name!r} is no {kind} spancast knows; allowed are {', '.join(names)}")
    return name
