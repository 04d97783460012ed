"""The export pipeline that settings describe; imported with the first one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from spancast.config.settings import MEMORY_BYTES, Settings
from spancast.destinations import registry
from spancast.destinations.config import DestinationConfig
from spancast.destinations.encoder_config import shared_redaction
from spancast.destinations.place import state_directory
from spancast.diagnostics import logger
from spancast.export import process_exit
from spancast.export.pipeline import ExportPipeline, routes_of
from spancast.export.self_metrics import observe
from spancast.export.spool.directory import open_spool

__all__ = ["LOCAL_STORE", "make_pipeline", "observe"]

LOCAL_STORE: Final = "store"
"""The name and type of the destination that is used if none is configured."""


def make_pipeline(settings: Settings, end_open_spans: Callable[[], None]) -> ExportPipeline:
    """Return the pipeline for ``settings``; without destinations, one to the local store.

    ``end_open_spans`` is called at the end of the process, before the pipeline shuts down.

    Raises:
        ConfigError: A destination lacks a package, or the spool file is not a spool.
    """
    routes = routes_of(settings.destinations or _local_store())
    # The local store writes to a file of its own at once, so it needs no spool on disk.
    in_memory = settings.spool.memory or not settings.destinations or settings.spool.path is None
    if settings.destinations and settings.spool.path is None and not settings.spool.memory:
        logger.warning(
            "spancast: there is no home directory for the spool, so spans are queued in memory; set XDG_STATE_HOME,"
            " spool.path, or `spool: memory` to confirm that"
        )
    limit = min(settings.spool.limit_bytes, MEMORY_BYTES) if in_memory else settings.spool.limit_bytes
    process_exit.call_first(end_open_spans)
    spool = open_spool(
        None if in_memory else settings.spool.path, limit, settings.spool.max_age, settings.spool.keep_delivered
    )
    return ExportPipeline(
        routes,
        spool,
        redaction=shared_redaction([config for config in settings.destinations.values() if config.enabled]),
        is_durable=not in_memory,
        shutdown_timeout_s=settings.shutdown_timeout,
    )


def _local_store() -> Mapping[str, DestinationConfig]:
    config = registry.config_model(LOCAL_STORE).model_validate({"type": LOCAL_STORE, "spans": "all"})
    if state_directory() is None:
        logger.warning(
            "spancast: no destination is configured and there is no home directory to store traces in, so they are"
            " lost; configure a destination or set XDG_STATE_HOME"
        )
    return {LOCAL_STORE: config}
