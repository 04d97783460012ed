"""The registry of attribute conventions; the module of a convention is imported on first use.

A module has ``map_span(span) -> span``, a pure function from the canonical span (``gen_ai.*``, ``session.id``,
``user.id``, ``trace.*``, ``spancast.*``; ``model/semconv.py``) to the span in the format of a product. Privacy
mode and masks are applied before it, so it must work without content.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias, cast

from spancast.encoding.span_data import SpanData
from spancast.model import semconv

SpanMapper: TypeAlias = Callable[[SpanData], SpanData]
_HERE: Final = "spancast.encoding.conventions"


NO_COPIES: Final[Mapping[str, tuple[str, ...]]] = {}
Kinds: TypeAlias = tuple[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Convention:
    """An attribute convention; a row without ``module`` and additions changes nothing.

    The additions follow what the function of ``module`` returns; spans that are no GenAI spans get none. ``copies``
    has new attributes, each with its sources: an attribute of the canonical span or a name of ``additions.FACTS``. The
    first that exists is written. ``of_calls`` are those of model calls alone. ``kinds`` is an attribute and its value
    for each kind of work, ``own_keys`` a prefix for the caller's own keys, ``metadata`` one JSON attribute for all.
    ``lists_as_json`` is whether values that are lists become JSON texts, in all spans and their resources.
    """

    about: str
    module: str = ""
    copies: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: NO_COPIES)
    of_calls: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: NO_COPIES)
    kinds: Kinds = ("", {})
    own_keys: str = ""
    metadata: str = ""
    lists_as_json: bool = False

    @property
    def adds(self) -> bool:
        """Return whether the row has additions."""
        return bool(
            self.copies or self.of_calls or self.kinds[0] or self.own_keys or self.metadata or self.lists_as_json
        )


_SESSION: Final = (semconv.SESSION_ID, semconv.CONVERSATION_ID)
_USER: Final = (semconv.USER_ID,)
_STEP: Final = (semconv.SPAN_NAME, semconv.GENERATION_NAME, "name")
_CACHE_CREATION: Final[Mapping[str, tuple[str, ...]]] = {
    "gen_ai.usage.cache_creation.input_tokens": (semconv.USAGE_CACHE_WRITE,)
}
_WIDE: Final[Mapping[str, tuple[str, ...]]] = {
    **_CACHE_CREATION,
    "gen_ai.system": (semconv.PROVIDER_NAME,),
    "gen_ai.usage.total_tokens": ("total_tokens",),
    "gen_ai.usage.reasoning_tokens": (semconv.USAGE_REASONING,),
    "gen_ai.usage.cost": ("total_cost",),
    "gen_ai.server.ttft": (semconv.RESPONSE_TIME_TO_FIRST_CHUNK,),
    "gen_ai.response.finish_reason": ("finish_reason",),
}
_LLM_TOOL_CHAIN: Final[Mapping[str, str]] = {"llm": "llm", "embedding": "llm", "tool": "tool", "other": "chain"}
_RAINDROP: Final = "traceloop.association.properties."

CONVENTIONS: Final[Mapping[str, Convention]] = {
    "gen_ai": Convention(
        about="OpenTelemetry's GenAI conventions: the canonical span, and the former name of `cache_write`.",
        of_calls=_CACHE_CREATION,
    ),
    "gen_ai_wide": Convention(
        about="The same with names of earlier versions and of single products: system, totals, cost, first token.",
        of_calls=_WIDE,
    ),
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
    "axiom": Convention(
        about="Axiom.",
        copies={
            "gen_ai.capability.name": (semconv.TRACE_NAME, "service", "name"),
            "gen_ai.step.name": _STEP,
        },
        of_calls=_WIDE,
    ),
    "laminar": Convention(
        about="Laminar.",
        copies={
            "lmnr.association.properties.session_id": _SESSION,
            "lmnr.association.properties.user_id": _USER,
            "lmnr.association.properties.tags": ("tags",),
            "lmnr.span.input": ("messages",),
            "lmnr.span.output": ("answers",),
        },
        of_calls=_WIDE,
        kinds=("lmnr.span.type", {"llm": "LLM", "embedding": "LLM", "tool": "TOOL", "other": "DEFAULT"}),
        own_keys="lmnr.association.properties.metadata.",
    ),
    "langwatch": Convention(
        about="LangWatch.",
        copies={"langwatch.thread.id": _SESSION, "langwatch.user.id": _USER, "tag.tags": ("tags",)},
        of_calls={**_WIDE, "langwatch.span.cost": ("total_cost",)},
        kinds=(
            "langwatch.span.type",
            {"llm": "llm", "embedding": "llm", "tool": "tool", "agent": "agent", "retriever": "rag", "other": "chain"},
        ),
        metadata="metadata",
    ),
    # Its server answers 500 to a call without `events`.
    "lunary": Convention(
        about="Lunary.",
        copies={
            "span_name": ("name",),
            "tool_arguments": ("gen_ai.tool.call.arguments",),
            "tool_output": ("gen_ai.tool.call.result",),
        },
        of_calls={**_WIDE, "events": ("turns",)},
    ),
    "helicone": Convention(about="Helicone.", module=f"{_HERE}.helicone"),
    "honeyhive": Convention(
        about="HoneyHive.",
        copies={"honeyhive.session_id": ("session_uuid",)},
        of_calls=_WIDE,
        kinds=("honeyhive.event_type", {**_LLM_TOOL_CHAIN, "llm": "model", "embedding": "model"}),
    ),
    "fiddler": Convention(
        about="Fiddler.",
        copies={
            "gen_ai.conversation.id": _SESSION,
            "gen_ai.llm.input.system": ("system",),
            "gen_ai.llm.input.user": ("question",),
            "gen_ai.llm.output": ("answer",),
            "fiddler.session.user.user_id": _USER,
        },
        of_calls=_WIDE,
        kinds=("fiddler.span.type", _LLM_TOOL_CHAIN),
        own_keys="fiddler.span.user.",
    ),
    "respan": Convention(
        about="Respan, formerly Keywords AI.",
        module=f"{_HERE}.traceloop",
        copies={
            "respan.customer_params.customer_identifier": _USER,
            "respan.threads.thread_identifier": _SESSION,
        },
        own_keys="respan.metadata.",
    ),
    "logfire": Convention(
        about="Pydantic Logfire.",
        copies={"logfire.msg": ("name",), "logfire.tags": ("tags",)},
        of_calls={**_WIDE, "operation.cost": ("total_cost",)},
    ),
    "coralogix": Convention(about="Coralogix.", copies={"gen_ai.openai.request.user": _USER}, of_calls=_WIDE),
    "agenta": Convention(
        about="Agenta.",
        of_calls={**_WIDE, "ag.metrics.unit.costs.total": ("total_cost",)},
        own_keys="ag.meta.",
    ),
    "evidently": Convention(
        about="Evidently.",
        copies={"session_id": _SESSION, "user_id": _USER},
        of_calls={
            **_WIDE,
            "tokens.input": (semconv.USAGE_INPUT_TOKENS,),
            "tokens.output": (semconv.USAGE_OUTPUT_TOKENS,),
            "cost.total": ("total_cost",),
        },
        # Its server answers 500 to a list.
        lists_as_json=True,
    ),
    "raindrop": Convention(
        about="Raindrop.",
        copies={
            _RAINDROP + "event_id": ("span_id",),
            _RAINDROP + "user_id": _USER,
            _RAINDROP + "convo_id": _SESSION,
            _RAINDROP + "event": (semconv.GENERATION_NAME, "name"),
        },
        of_calls={
            **_CACHE_CREATION,
            "gen_ai.usage.provider_reported_cost": ("total_cost",),
            "gen_ai.usage.reasoning_tokens": (semconv.USAGE_REASONING,),
            "gen_ai.usage.cache_read_input_tokens": (semconv.USAGE_CACHE_READ,),
            "gen_ai.usage.cache_write_input_tokens": ("cache_write",),
        },
        own_keys=_RAINDROP,
    ),
}


@functools.cache
def convention_of(name: str) -> SpanMapper | None:
    """Return the function for the convention ``name``; None if it changes nothing."""
    row = CONVENTIONS[name]
    first = cast("SpanMapper", importlib.import_module(row.module).map_span) if row.module else None
    if not row.adds:
        return first
    additions = importlib.import_module(f"{_HERE}.additions")
    return cast("SpanMapper", additions.mapper_of(row, first))
