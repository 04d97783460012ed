"""Auto-instrumentation: by ``opentelemetry-instrument`` (entry point) or ``spancast run``.

Must never: stop an application from starting.
"""

from __future__ import annotations

from typing import Any

from opentelemetry import trace as trace_api
from opentelemetry.trace import ProxyTracerProvider

from spancast import runtime
from spancast.errors import SpancastError, logger


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
            runtime.configure()
        runtime.instrument()

    def uninstrument(self, **_: Any) -> None:  # noqa: ANN401 - whatever the loader passes
        """Take every patch off."""
        runtime.uninstrument()


def start() -> None:
    """Configure from the environment and record every supported SDK; what ``spancast run`` runs first."""
    try:
        runtime.configure()
    except SpancastError as error:
        # The application must start all the same; its owner reads why there are no traces.
        logger.error("spancast: not configured: %s", error)
    runtime.instrument()
