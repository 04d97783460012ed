"""Auto-instrumentation by ``opentelemetry-instrument`` (entry point) or ``spancast run``.

An invalid configuration is logged; the application and other instrumentations start regardless.
"""

from __future__ import annotations

from typing import Any

from opentelemetry import trace as trace_api
from opentelemetry.trace import ProxyTracerProvider

from spancast.diagnostics import never_raise
from spancast.runtime import RUNTIME


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
            RUNTIME.configure_or_log()
        never_raise(RUNTIME.instrument)()

    def uninstrument(self, **_: Any) -> None:  # noqa: ANN401 - whatever the loader passes
        """Remove every patch."""
        RUNTIME.uninstrument()


def start() -> None:
    """Configure from the environment and instrument every supported SDK; called first by ``spancast run``."""
    RUNTIME.is_quiet = True
    RUNTIME.configure_or_log()
    never_raise(RUNTIME.instrument)()
