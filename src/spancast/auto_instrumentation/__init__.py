"""Auto-instrumentation: by ``opentelemetry-instrument`` (entry point) or ``spancast run``.

A mistake in the configuration never stops the application or another instrumentation: it is logged.
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
    """What the ``opentelemetry_instrumentor`` entry point names.

    Has the methods ``opentelemetry-instrument`` calls; no base class, so that spancast does
    not depend on ``opentelemetry-instrumentation``.
    """

    def instrumentation_dependencies(self) -> tuple[str, ...]:
        """Return nothing: SDKs are patched when they are imported, whichever are installed."""
        return ()

    def instrument(self, **_: Any) -> None:  # noqa: ANN401 - whatever the loader passes
        """Record every supported SDK, with the provider that the distro has set up."""
        if not isinstance(trace_api.get_tracer_provider(), ProxyTracerProvider):
            _configure()
        never_raise(runtime.instrument)()

    def uninstrument(self, **_: Any) -> None:  # noqa: ANN401 - whatever the loader passes
        """Take every patch off."""
        runtime.uninstrument()


def start() -> None:
    """Configure from the environment and record every supported SDK; what ``spancast run`` runs first."""
    _configure()
    never_raise(runtime.instrument)()


def _configure() -> None:
    try:
        runtime.configure()
    except SpancastError as error:
        # The application and other instrumentations start all the same; the log says why there are no traces.
        logger.error("spancast: not configured: %s", error)
        # What could not be read may say that content must not be recorded.
        CALL_TRACER.configure(TracingSettings(capture_content=False))
