"""The registry of attribute conventions; the module of a convention is imported on first use.

A module has ``map_span(span) -> span``, a pure function from the canonical span (``gen_ai.*``, ``session.id``,
``user.id``, ``trace.*``, ``spancast.*``; ``model/semconv.py``) to the span in the format of a product. Privacy
mode and masks are applied before it, so it must work without content.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias, cast

from spancast.encoding.span_data import SpanData

SpanMapper: TypeAlias = Callable[[SpanData], SpanData]
_HERE: Final = "spancast.encoding.conventions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Convention:
    """An attribute convention; without ``module`` spans are sent unchanged."""

    about: str
    module: str = ""


CONVENTIONS: Final[Mapping[str, Convention]] = {
    "gen_ai": Convention(about="OpenTelemetry's GenAI conventions: the canonical span, unchanged."),
    "openrouter": Convention(about="OpenRouter Broadcast.", module=f"{_HERE}.openrouter"),
    "openinference": Convention(about="OpenInference: Arize AX, Phoenix.", module=f"{_HERE}.openinference"),
    "langfuse": Convention(about="Langfuse.", module=f"{_HERE}.langfuse"),
    "langsmith": Convention(about="LangSmith.", module=f"{_HERE}.langsmith"),
    "braintrust": Convention(about="Braintrust.", module=f"{_HERE}.braintrust"),
    "opik": Convention(about="Comet Opik.", module=f"{_HERE}.opik"),
    "weave": Convention(about="W&B Weave.", module=f"{_HERE}.weave"),
    "traceloop": Convention(about="Traceloop, OpenLLMetry.", module=f"{_HERE}.traceloop"),
    "sentry": Convention(about="Sentry.", module=f"{_HERE}.sentry"),
    "posthog": Convention(about="PostHog.", module=f"{_HERE}.posthog"),
    "datadog": Convention(about="Datadog LLM Observability.", module=f"{_HERE}.datadog"),
    "newrelic": Convention(about="New Relic AI monitoring.", module=f"{_HERE}.newrelic"),
    "mlflow": Convention(about="MLflow.", module=f"{_HERE}.mlflow"),
}


@functools.cache
def convention_of(name: str) -> SpanMapper | None:
    """Return the function for the convention ``name``; None if it changes nothing."""
    row = CONVENTIONS[name]
    return cast("SpanMapper", importlib.import_module(row.module).map_span) if row.module else None
