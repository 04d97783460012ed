"""An ended span as a record: encoded, with the facts that rules read.

The conventions of other instrumentations are known by one attribute each, so that their spans
count as LLM spans too.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Status

from spancast.encoding.otlp.encode import nanoseconds, resource_bytes, scope_bytes, span_bytes
from spancast.model import json_codec, semconv
from spancast.model.privacy import may_pass
from spancast.model.span_record import FactValue, SpanRecord

_LLM_MARKS: Final = (
    semconv.OPERATION_NAME,
    "gen_ai.system",
    "openinference.span.kind",
    "traceloop.span.kind",
    "llm.request.type",
    "langfuse.observation.type",
    "langsmith.span.kind",
    "ai.operationId",
)
_API_KEY_NAMES: Final = (semconv.TRACE_METADATA + "api_key_name", semconv.TRACE_METADATA + "openrouter.api_key_name")
_FACTS: Final[Mapping[str, tuple[str, ...]]] = {
    "operation": (semconv.OPERATION_NAME, "openinference.span.kind", "llm.request.type", "traceloop.span.kind"),
    "model": (semconv.REQUEST_MODEL, semconv.RESPONSE_MODEL, "llm.model_name"),
    "provider": (semconv.RESPONSE_PROVIDER, semconv.PROVIDER_NAME, "gen_ai.system", "llm.provider"),
    "session_id": (semconv.SESSION_ID, semconv.CONVERSATION_ID),
    "user_id": (semconv.USER_ID,),
    "api_key_name": _API_KEY_NAMES,
    "total_cost": (semconv.USAGE_COST, "gen_ai.usage.cost", "llm.cost.total"),
    "total_tokens": (semconv.USAGE_TOTAL_TOKENS, "llm.usage.total_tokens", "llm.token_count.total"),
    "prompt_tokens": (semconv.USAGE_INPUT_TOKENS, "llm.token_count.prompt"),
    "completion_tokens": (semconv.USAGE_OUTPUT_TOKENS, "llm.token_count.completion"),
    "input": (semconv.INPUT_MESSAGES, "input.value", "gen_ai.prompt"),
    "output": (semconv.OUTPUT_MESSAGES, "output.value", "gen_ai.completion"),
}
_FACT_ATTRIBUTES: Final[Mapping[str, str]] = {
    **{fact: names[0] for fact, names in _FACTS.items()},
    # An argument called ``conversation`` is written there too.
    "session_id": semconv.CONVERSATION_ID,
    "finish_reason": semconv.RESPONSE_FINISH_REASONS,
    "error": semconv.ERROR_TYPE,
}
"""The attribute a fact is judged as when content may not be kept."""
_SCALARS: Final = frozenset({str, int, float, bool})
_INT64: Final = 1 << 63
_CONTEXTS: Final = 256
_PLANS_REMEMBERED: Final = 1024
_plans: dict[tuple[str, ...], _FieldPlan] = {}


def is_genai_span(scope: InstrumentationScope | None, attributes: Mapping[str, Any] | None) -> bool:
    """Tell whether a span belongs to LLM work: a call, its group, or another instrumentation's of that kind."""
    return _is_ours(scope) or (bool(attributes) and _has_mark(attributes))


def _is_ours(scope: InstrumentationScope | None) -> bool:
    return scope is not None and scope.name == semconv.SCOPE_NAME


def _has_mark(attributes: Mapping[str, Any]) -> bool:
    return any(mark in attributes for mark in _LLM_MARKS)


class ContextCache:
    """Encoded resources and scopes, the same object for the same one; bounded. For one thread."""

    def __init__(self) -> None:
        self._known: OrderedDict[int, tuple[object, bytes]] = OrderedDict()

    def resource(self, given: Resource) -> bytes:
        """Return ``given`` encoded."""
        known = self._known.get(id(given))
        return known[1] if known else self._remember(given, resource_bytes(given))

    def scope(self, given: InstrumentationScope | None) -> bytes:
        """Return ``given`` encoded."""
        known = self._known.get(id(given))
        return known[1] if known else self._remember(given, scope_bytes(given))

    def _remember(self, given: object, head: bytes) -> bytes:
        # Held, so that no other object gets its id.
        self._known[id(given)] = (given, head)
        if len(self._known) > _CONTEXTS:
            self._known.popitem(last=False)
        return head


def record_of(
    span: ReadableSpan,
    attributes: Mapping[str, Any],
    status: Status,
    heads: ContextCache,
    genai_parent: bytes | None = None,
) -> SpanRecord:
    """Return ``span``, ended, with all its ``attributes`` and its ``status``, as a record.

    ``genai_parent`` is the id of the nearest LLM span above (empty for none), where the parent is none.
    """
    context = span.get_span_context()
    assert context is not None  # the type is that of the base class
    parent = span.parent
    plan = _plan_of(attributes)
    facts = _facts(attributes, plan)
    if status.status_code.value == 2:  # noqa: PLR2004 - StatusCode.ERROR
        facts["error"] = _text(attributes.get(semconv.ERROR_TYPE) or "error")
    if genai_parent is not None:
        facts["genai_parent"] = genai_parent.hex()
    if parent is not None and not parent.trace_flags.sampled:
        facts["parent_sampled"] = False
    scope = span.instrumentation_scope
    return SpanRecord(
        trace_id=context.trace_id.to_bytes(16, "big"),
        span_id=context.span_id.to_bytes(8, "big"),
        parent_span_id=parent.span_id.to_bytes(8, "big") if parent is not None else b"",
        end_ns=nanoseconds(span.end_time),
        is_genai=plan.has_mark or _is_ours(scope),
        resource=heads.resource(span.resource),
        scope=heads.scope(scope),
        body=span_bytes(span, attributes, status),
        facts=facts,
    )


class _FieldPlan(NamedTuple):
    """What there is to be read of attributes with certain names."""

    facts: tuple[tuple[str, tuple[str, ...]], ...]
    has_reasons: bool
    has_mark: bool


def _plan_of(attributes: Mapping[str, Any]) -> _FieldPlan:
    # Spans of one kind have the same names; a hundred questions for the others are asked once for all of them.
    names = tuple(attributes)
    plan = _plans.get(names)
    if plan is None:
        found = ((fact, tuple(name for name in given if name in attributes)) for fact, given in _FACTS.items())
        plan = _FieldPlan(
            tuple((fact, given) for fact, given in found if given),
            semconv.RESPONSE_FINISH_REASONS in attributes,
            _has_mark(attributes),
        )
        if len(_plans) >= _PLANS_REMEMBERED:
            _plans.clear()
        _plans[names] = plan
    return plan


def filter_fields_of(attributes: Mapping[str, Any]) -> dict[str, FactValue]:
    """Return what rules may ask of a span with ``attributes``."""
    return _facts(attributes, _plan_of(attributes))


def without_content(facts: Mapping[str, FactValue]) -> dict[str, FactValue]:
    """Return the facts that are known to be no content: any instrumentation may write any text under their names."""
    return {
        fact: value
        for fact, value in facts.items()
        if fact not in _FACT_ATTRIBUTES or may_pass(_FACT_ATTRIBUTES[fact], value)
    }


def _odd_facts(attributes: Mapping[str, Any], plan: _FieldPlan) -> dict[str, FactValue]:
    facts: dict[str, FactValue] = {}
    for fact, names in plan.facts:
        for name in names:
            value = attributes[name]
            if isinstance(value, (str, int, float)):
                facts[fact] = value
                break
    return facts


def _facts(attributes: Mapping[str, Any], plan: _FieldPlan) -> dict[str, FactValue]:
    facts: dict[str, FactValue] = {fact: attributes[names[0]] for fact, names in plan.facts}
    kinds = {*map(type, facts.values())}
    if not kinds <= _SCALARS:
        facts = _odd_facts(attributes, plan)
    if plan.has_reasons:
        reasons = attributes[semconv.RESPONSE_FINISH_REASONS]
        if isinstance(reasons, (list, tuple)) and reasons:
            facts["finish_reason"] = _text(reasons[0])  # pyright: ignore[reportUnknownArgumentType] - a sequence
    if "total_tokens" not in facts and "prompt_tokens" in facts and "completion_tokens" in facts:
        asked, answered = facts["prompt_tokens"], facts["completion_tokens"]
        if type(asked) is int and type(answered) is int:
            facts["total_tokens"] = asked + answered
    if int in kinds or not kinds <= _SCALARS:
        for fact, value in facts.items():
            if isinstance(value, int) and not -_INT64 <= value < _INT64:
                # As in the body: what no 64 bits hold is text.
                facts[fact] = json_codec.integer_text(value)
    return facts


def _text(value: object) -> str:
    return value if isinstance(value, str) else json_codec.encode(value)
