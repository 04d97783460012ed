"""The current export pipeline: made from settings, and connected to tracer providers.

Imported with the first destination. After a second ``configure()`` a span is still delivered only once.
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
"""The name and type of the destination that is used if none is configured."""

_observed_providers: Final[IdentityMap[MeterProvider, bool]] = IdentityMap()
_current: ExportPipeline | None = None


def current_pipeline() -> ExportPipeline | None:
    """Return the current pipeline; None if there is none."""
    return _current


def start_pipeline(settings: Settings, meter_provider: MeterProvider | None = None) -> ExportPipeline:
    """Replace the current pipeline by a new one for ``settings``; without destinations, by one to the local store.

    Raises:
        ConfigError: A destination lacks a package, or the spool file is not a spool; the current pipeline stays.
    """
    global _current  # noqa: PLW0603 - one pipeline per process
    routes = routes_of(settings.destinations or _local_store())
    enabled = [config for config in settings.destinations.values() if config.enabled]
    # The local store writes to a file of its own at once, so it needs no spool on disk.
    in_memory = settings.spool.memory or not settings.destinations or settings.spool.path is None
    if settings.destinations and settings.spool.path is None and not settings.spool.memory:
        logger.warning(
            "spancast: there is no home directory for the spool, so spans are queued in memory; set XDG_STATE_HOME,"
            " spool.path, or `spool: memory` to confirm that"
        )
    limit = min(settings.spool.limit_bytes, MEMORY_BYTES) if in_memory else settings.spool.limit_bytes
    stop_pipeline()
    spool = open_spool(
        None if in_memory else settings.spool.path, limit, settings.spool.max_age, settings.spool.keep_delivered
    )
    _current = ExportPipeline(
        routes,
        spool,
        redaction=shared_redaction(enabled),
        is_durable=not in_memory,
        shutdown_timeout_s=settings.shutdown_timeout,
    )
    for processor in processors():
        processor.set_target(_current.processor, only_ours=True)
    _register_metrics(meter_provider or metrics_api.get_meter_provider())
    return _current


def stop_pipeline() -> None:
    """Shut the current pipeline down, if there is one.

    It stays the target of calls that still run. Their spans are counted in ``dropped.after_shutdown``.
    """
    global _current
    former, _current = _current, None
    if former is not None:
        for processor in processors():
            processor.set_target(former.processor, only_ours=True)
        former.shutdown()


def attach(provider: TracerProvider) -> None:
    """Send the spans of ``provider`` to the current pipeline and to its successors.

    Of other providers it gets only the calls that still run on them. Without a pipeline, spans of ``provider`` go
    nowhere.
    """
    own = install_processor(provider)
    for processor in processors():
        if _current is not None:
            processor.set_target(_current.processor, only_ours=processor is not own)
        elif processor is own:
            processor.set_target(None)
    if own is None and _current is not None:
        logger.warning(
            "spancast: %s accepts no span processors, so its spans reach no destination; pass a tracer_provider of the"
            " OpenTelemetry SDK to configure()",
            type(provider).__name__,
        )


@contextmanager
def skip_own_flush() -> Generator[None]:
    """Make ``force_flush`` of providers skip our processors; the pipeline has been flushed."""
    for processor in processors():
        processor.is_flushed_by_us = True
    try:
        yield
    finally:
        for processor in processors():
            processor.is_flushed_by_us = False


def hand_over(span: ReadableSpan) -> None:
    """Pass an ended span to the current pipeline that did not come through our processor."""
    # The thread that started the span is unknown. If it ends on a worker thread it is a span of our own export,
    # unless it is a call.
    scope = span.instrumentation_scope
    is_call = scope is not None and scope.name == SCOPE_NAME
    if _current is not None and (is_call or not CURRENT_THREAD.is_worker):
        _current.span_queue.on_end(span)


def _local_store() -> Mapping[str, DestinationConfig]:
    config = registry.config_model(LOCAL_STORE).model_validate({"type": LOCAL_STORE, "spans": "all"})
    if state_directory() is None:
        logger.warning(
            "spancast: no destination is configured and there is no home directory to store traces in, so they are"
            " lost; configure a destination or set XDG_STATE_HOME"
        )
    else:
        logger.info(
            "spancast: no destination is configured; traces are stored on this machine: `spancast traces` lists them"
        )
    return {LOCAL_STORE: config}


def _register_metrics(provider: MeterProvider) -> None:
    if not _observed_providers.get(provider):
        _observed_providers.set(provider, True)
        self_metrics.observe(provider.get_meter("spancast"), current_pipeline)
