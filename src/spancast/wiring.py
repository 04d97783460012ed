"""From settings to the present pipeline, and from tracer providers to it.

Loads with the first destination. Must never: deliver a span twice because of two ``configure()``.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Final

from opentelemetry import metrics as metrics_api
from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import TracerProvider

from spancast.config.settings import MEMORY_BYTES, Settings
from spancast.destinations import registry
from spancast.destinations.config import DestinationConfig
from spancast.destinations.encoder_config import shared_redaction
from spancast.destinations.field_types import state_directory
from spancast.diagnostics import logger
from spancast.export import self_metrics
from spancast.export.pipeline import ExportPipeline, open_spool, routes_of
from spancast.export.worker_thread import CURRENT_THREAD
from spancast.model.identity_map import IdentityMap
from spancast.model.semconv import SCOPE_NAME
from spancast.tracing.span_processor import install_processor, processors

LOCAL_STORE: Final = "store"
"""The name and the type of the destination of those who named none."""

_observed: Final[IdentityMap[MeterProvider, bool]] = IdentityMap()
_present: ExportPipeline | None = None


def current_pipeline() -> ExportPipeline | None:
    """Return the present pipeline, None where there is none."""
    return _present


def start_pipeline(settings: Settings, meter_provider: MeterProvider | None = None) -> ExportPipeline:
    """Shut the present pipeline down and return a new one for ``settings``: the local store's where it names none.

    Raises:
        ConfigError: A destination lacks a package, or the spool's file is another program's; the present one goes on.
    """
    global _present  # noqa: PLW0603 - one pipeline per process
    routes = routes_of(settings.destinations or _local_store())
    enabled = [config for config in settings.destinations.values() if config.enabled]
    # What is in a file of its own a moment later needs no other file before.
    in_memory = settings.spool.memory or not settings.destinations or settings.spool.path is None
    if settings.destinations and settings.spool.path is None and not settings.spool.memory:
        logger.warning(
            "spancast: there is no home directory for the spool, so spans wait in memory: set XDG_STATE_HOME,"
            " spool.path, or `spool: memory` if that is what you want"
        )
    limit = min(settings.spool.limit_bytes, MEMORY_BYTES) if in_memory else settings.spool.limit_bytes
    stop_pipeline()
    spool = open_spool(
        None if in_memory else settings.spool.path, limit, settings.spool.max_age, settings.spool.keep_delivered
    )
    _present = ExportPipeline(
        routes,
        spool,
        redaction=shared_redaction(enabled),
        is_durable=not in_memory,
        shutdown_timeout_s=settings.shutdown_timeout,
    )
    for relay in processors():
        relay.set_target(_present.processor, only_ours=True)
    _observe(meter_provider or metrics_api.get_meter_provider())
    return _present


def stop_pipeline() -> None:
    """Shut the present pipeline down, if there is one.

    It stays the target of the calls that still run. Their spans are counted in ``dropped.after_shutdown``.
    """
    global _present
    former, _present = _present, None
    if former is not None:
        for relay in processors():
            relay.set_target(former.processor, only_ours=True)
        former.shutdown()


def attach(provider: TracerProvider) -> None:
    """Hand the spans of ``provider`` to the present pipeline and those that follow it.

    Of other providers only the calls that still run on them. Without a pipeline, nothing of ``provider``.
    """
    own = install_processor(provider)
    for relay in processors():
        if _present is not None:
            relay.set_target(_present.processor, only_ours=relay is not own)
        elif relay is own:
            relay.set_target(None)
    if own is None and _present is not None:
        logger.warning(
            "spancast: %s takes no span processors, so its spans reach none of spancast's destinations",
            type(provider).__name__,
        )


@contextmanager
def skip_own_flush() -> Generator[None]:
    """Let providers flush their other processors only: the pipeline has been."""
    for relay in processors():
        relay.is_flushed_by_us = True
    try:
        yield
    finally:
        for relay in processors():
            relay.is_flushed_by_us = False


def hand_over(span: ReadableSpan) -> None:
    """Give the present pipeline an ended span that came another way than by a processor of ours."""
    # Of such a span it is not known where it began; on a thread of ours it is our own work, unless it is a call.
    scope = span.instrumentation_scope
    is_call = scope is not None and scope.name == SCOPE_NAME
    if _present is not None and (is_call or not CURRENT_THREAD.is_worker):
        _present.span_queue.on_end(span)


def _local_store() -> Mapping[str, DestinationConfig]:
    config = registry.config_model(LOCAL_STORE).model_validate({"type": LOCAL_STORE, "spans": "all"})
    if state_directory() is None:
        logger.warning(
            "spancast: no destination is configured and there is no home directory to keep traces in, so they are lost;"
            " configure a destination or set XDG_STATE_HOME"
        )
    else:
        logger.info(
            "spancast: no destination is configured; traces are kept on this machine: `spancast traces` lists them"
        )
    return {LOCAL_STORE: config}


def _observe(provider: MeterProvider) -> None:
    if not _observed.get(provider):
        _observed.set(provider, True)
        self_metrics.observe(provider.get_meter("spancast"), current_pipeline)
