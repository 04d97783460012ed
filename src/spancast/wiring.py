"""From settings to the present broadcast, and from tracer providers to it.

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

from spancast.broadcast import metrics
from spancast.broadcast.pipeline import Broadcast, open_spool, routes_of
from spancast.broadcast.quiet_thread import CURRENT_THREAD
from spancast.destinations import table
from spancast.destinations.config import DestinationConfig
from spancast.destinations.quantities import state_directory
from spancast.destinations.views import common_redaction
from spancast.errors import logger
from spancast.model.identity_map import IdentityMap
from spancast.model.semconv import SCOPE_NAME
from spancast.recording.relay import relay_on, relays
from spancast.settings import MEMORY_BYTES, Settings

LOCAL_STORE: Final = "store"
"""The name and the type of the destination of those who named none."""

_observed: Final[IdentityMap[MeterProvider, bool]] = IdentityMap()
_present: Broadcast | None = None


def present() -> Broadcast | None:
    """Return the present broadcast, None where there is none."""
    return _present


def replace_broadcast(settings: Settings, meter_provider: MeterProvider | None = None) -> Broadcast:
    """Shut the present broadcast down and return a new one for ``settings``: the local store's where it names none.

    Raises:
        ConfigError: A destination lacks a package, or the spool's file is another program's; the present one goes on.
    """
    global _present  # noqa: PLW0603 - one broadcast per process
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
    remove_broadcast()
    spool = open_spool(None if in_memory else settings.spool.path, limit, settings.spool.max_age)
    _present = Broadcast(
        routes,
        spool,
        redaction=common_redaction(enabled),
        is_durable=not in_memory,
        shutdown_timeout_s=settings.shutdown_timeout,
    )
    for relay in relays():
        relay.turn_to(_present.processor)
    _observe(meter_provider or metrics_api.get_meter_provider())
    return _present


def remove_broadcast() -> None:
    """Shut the present broadcast down, if there is one; spans that end from now on go nowhere."""
    global _present
    former, _present = _present, None
    if former is not None:
        for relay in relays():
            relay.turn_to(None)
        former.shutdown()


def attach(provider: TracerProvider) -> None:
    """Hand the spans of ``provider`` to the present broadcast and those that follow it; to no other provider's."""
    own = relay_on(provider)
    for relay in relays():
        relay.turn_to(_present.processor if relay is own and _present is not None else None)
    if own is None:
        logger.warning(
            "spancast: %s takes no span processors, so its spans reach none of spancast's destinations",
            type(provider).__name__,
        )


@contextmanager
def flushed_already() -> Generator[None]:
    """Let providers flush their other processors only: the broadcast has been."""
    for relay in relays():
        relay.is_flushed_by_us = True
    try:
        yield
    finally:
        for relay in relays():
            relay.is_flushed_by_us = False


def hand_over(span: ReadableSpan) -> None:
    """Give the present broadcast an ended span that came another way than by a processor of ours."""
    # Of such a span it is not known where it began; on a thread of ours it is our own work, unless it is a call.
    scope = span.instrumentation_scope
    is_call = scope is not None and scope.name == SCOPE_NAME
    if _present is not None and (is_call or not CURRENT_THREAD.is_ours):
        _present.intake.on_end(span)


def _local_store() -> Mapping[str, DestinationConfig]:
    config = table.config_model(LOCAL_STORE).model_validate({"type": LOCAL_STORE, "spans": "all"})
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
        metrics.observe(provider.get_meter("spancast"), present)
