"""Auto-instrumentation by ``opentelemetry-instrument`` (entry point) or ``spancast run``.

An invalid configuration is logged; the application and other instrumentations start regardless.
"""

from __future__ import annotations

from typing import Any

from opentelemetry import trace as trace_api
from opentelemetry.trace import ProxyTracerProvider

from spancast import runtime
from spancast.diagnostics import logger, never_raise
from spancast.errors import SpancastError
from spancast.tracing.call_tracer import CALL_TRACER, TracingSettings


class SpancastInstrumentor:
    """The instrumentor of the ``opentelemetry_instrumentor`` entry point.

    It has the methods that ``opentelemetry-instrument`` calls, but no base class, so that spancast
    does not depend on ``opentelemetry-instrumentation``.
    """

    def instrumentation_dependencies(self) -> tuple[str, ...]:
        """Return an empty tuple: any installed SDK is patched when it is imported."""
        return ()

    def instrument(self, **_: Any) -> None:  # noqa: ANN401 - whatever the loader passes
        """Instrument every supported SDK with the provider that the distro configured."""
        if not isinstance(trace_api.get_tracer_provider(), ProxyTracerProvider):
            _configure()
        never_raise(runtime.instrument)()

    def uninstrument(self, **_: Any) -> None:  # noqa: ANN401 - whatever the loader passes
        """Remove every patch."""
        runtime.uninstrument()


def start() -> None:
    """Configure from the environment and instrument every supported SDK; called first by ``spancast run``."""
    _configure()
    never_raise(runtime.instrument)()


def _configure() -> None:
    try:
        runtime.configure()
    except SpancastError as error:
        # The application starts regardless.
        logger.error("spancast: not configured: %s", error)
        # The unreadable configuration may forbid recording content.
        CALL_TRACER.configure(TracingSettings(capture_content=False))
