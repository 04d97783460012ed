"""The attribute conventions by name; the module of a convention is imported when a destination uses it.

A convention is a pure function ``map_span(span) -> span`` from the canonical span (``gen_ai.*``, ``session.id``,
``user.id``, ``trace.*``, ``spancast.*``; ``model/semconv.py``) to the span that the product reads. Privacy mode and
masks are applied before it; it must work without content.
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
class ConventionSpec:
    """One convention; without a ``module`` spans are not changed."""

    about: str
    module: str = ""


CONVENTIONS: Final[Mapping[str, ConventionSpec]] = {
    "gen_ai": ConventionSpec(about="OpenTelemetry's GenAI conventions: the canonical span as it is."),
    "openrouter": ConventionSpec(about="What OpenRouter's own Broadcast writes.", module=f"{_HERE}.openrouter"),
    "openinference": ConventionSpec(about="OpenInference: Arize AX, Phoenix.", module=f"{_HERE}.openinference"),
    "langfuse": ConventionSpec(about="Langfuse.", module=f"{_HERE}.langfuse"),
    "langsmith": ConventionSpec(about="LangSmith.", module=f"{_HERE}.langsmith"),
    "braintrust": ConventionSpec(about="Braintrust.", module=f"{_HERE}.braintrust"),
    "opik": ConventionSpec(about="Comet Opik.", module=f"{_HERE}.opik"),
    "weave": ConventionSpec(about="W&B Weave.", module=f"{_HERE}.weave"),
    "traceloop": ConventionSpec(about="Traceloop, OpenLLMetry.", module=f"{_HERE}.traceloop"),
    "sentry": ConventionSpec(about="Sentry.", module=f"{_HERE}.sentry"),
    "posthog": ConventionSpec(about="PostHog, by OTLP.", module=f"{_HERE}.posthog"),
    "datadog": ConventionSpec(about="Datadog LLM Observability.", module=f"{_HERE}.datadog"),
    "newrelic": ConventionSpec(about="New Relic AI monitoring.", module=f"{_HERE}.newrelic"),
    "mlflow": ConventionSpec(about="MLflow.", module=f"{_HERE}.mlflow"),
}


@functools.cache
def convention_of(name: str) -> SpanMapper | None:
    """Return the function that maps a canonical span to the convention ``name``; None if spans are not changed."""
    row = CONVENTIONS[name]
    return cast("SpanMapper", importlib.import_module(row.module).map_span) if row.module else None
