"""Every attribute convention by its name; a profile's module loads when a destination uses it.

A profile is ``rename(span) -> span``: a pure function from the canonical span (``gen_ai.*``,
``session.id``, ``user.id``, ``trace.*``, ``spancast.*``; ``model/semconv.py``) to the span as the
product reads it. Privacy mode and masks have been applied before it; it must work without content.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias, cast

from spancast.encoding.span_data import SpanData

Rename: TypeAlias = Callable[[SpanData], SpanData]
_HERE: Final = "spancast.encoding.conventions"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileRow:
    """One convention; without a ``module`` spans leave as they are."""

    about: str
    module: str = ""


CONVENTIONS: Final[Mapping[str, ProfileRow]] = {
    "gen_ai": ProfileRow(about="OpenTelemetry's GenAI conventions: the canonical span as it is."),
    "openrouter": ProfileRow(about="What OpenRouter's own Broadcast writes.", module=f"{_HERE}.openrouter"),
    "openinference": ProfileRow(about="OpenInference: Arize AX, Phoenix.", module=f"{_HERE}.openinference"),
    "langfuse": ProfileRow(about="Langfuse.", module=f"{_HERE}.langfuse"),
    "langsmith": ProfileRow(about="LangSmith.", module=f"{_HERE}.langsmith"),
    "braintrust": ProfileRow(about="Braintrust.", module=f"{_HERE}.braintrust"),
    "opik": ProfileRow(about="Comet Opik.", module=f"{_HERE}.opik"),
    "weave": ProfileRow(about="W&B Weave.", module=f"{_HERE}.weave"),
    "traceloop": ProfileRow(about="Traceloop, OpenLLMetry.", module=f"{_HERE}.traceloop"),
    "sentry": ProfileRow(about="Sentry.", module=f"{_HERE}.sentry"),
    "posthog": ProfileRow(about="PostHog, by OTLP.", module=f"{_HERE}.posthog"),
    "datadog": ProfileRow(about="Datadog LLM Observability.", module=f"{_HERE}.datadog"),
    "newrelic": ProfileRow(about="New Relic AI monitoring.", module=f"{_HERE}.newrelic"),
    "mlflow": ProfileRow(about="MLflow.", module=f"{_HERE}.mlflow"),
}


@functools.cache
def convention_of(name: str) -> Rename | None:
    """Return what turns a canonical span into one of the convention ``name``; None where nothing has to."""
    row = CONVENTIONS[name]
    return cast("Rename", importlib.import_module(row.module).rename) if row.module else None
