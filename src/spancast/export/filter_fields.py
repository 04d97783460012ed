"""The fields of a span that the filters of a destination can name, also for spans of other instrumentations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from spancast.encoding.span_data import SpanData
from spancast.model import json_codec, semconv
from spancast.model.json_codec import is_list
from spancast.model.span_record import FactValue

_FACTS: Final[Mapping[str, tuple[str, ...]]] = {
    "operation": (semconv.OPERATION_NAME, "openinference.span.kind", "llm.request.type", "traceloop.span.kind"),
    "model": (semconv.REQUEST_MODEL, semconv.RESPONSE_MODEL, "llm.model_name"),
    "provider": (semconv.RESPONSE_PROVIDER, semconv.PROVIDER_NAME, "gen_ai.system", "llm.provider"),
    "session_id": (semconv.SESSION_ID, semconv.CONVERSATION_ID),
    "user_id": (semconv.USER_ID,),
    "api_key_name": semconv.API_KEY_NAMES,
    "total_cost": (semconv.USAGE_COST, "gen_ai.usage.cost", "llm.cost.total"),
    "total_tokens": (semconv.USAGE_TOTAL_TOKENS, "llm.usage.total_tokens", "llm.token_count.total"),
    "prompt_tokens": (semconv.USAGE_INPUT_TOKENS, "llm.token_count.prompt"),
    "completion_tokens": (semconv.USAGE_OUTPUT_TOKENS, "llm.token_count.completion"),
    "input": (semconv.INPUT_MESSAGES, "input.value", "gen_ai.prompt"),
    "output": (semconv.OUTPUT_MESSAGES, "output.value", "gen_ai.completion"),
}
_INT64: Final = 1 << 63


def filter_fields_of(span: SpanData) -> dict[str, FactValue]:
    """Return the fields for filters: for each, the first of its attributes that is a string, number or boolean."""
    attributes = span.attributes
    facts: dict[str, FactValue] = {}
    for fact, names in _FACTS.items():
        for name in names:
            if name in attributes and isinstance(value := attributes[name], (str, int, float)):
                facts[fact] = value
                break
    reasons = attributes.get(semconv.RESPONSE_FINISH_REASONS)
    if is_list(reasons) and reasons:
        facts["finish_reason"] = _text(reasons[0])
    if "total_tokens" not in facts and "prompt_tokens" in facts and "completion_tokens" in facts:
        prompt, completion = facts["prompt_tokens"], facts["completion_tokens"]
        if type(prompt) is int and type(completion) is int:
            total = prompt + completion
            facts["total_tokens"] = total if -_INT64 <= total < _INT64 else json_codec.integer_text(total)
    if span.status == "error":
        facts["error"] = _text(attributes.get(semconv.ERROR_TYPE) or "error")
    return facts


def _text(value: object) -> str:
    return value if isinstance(value, str) else json_codec.encode(value)
