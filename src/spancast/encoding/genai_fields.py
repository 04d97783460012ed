"""The fields of a span in OpenRouter's format, as in its S3 objects and SQL tables. Pure functions.

Source: OpenRouter's Broadcast pages for S3, ClickHouse, Snowflake and BigQuery: raw ids, ``metadata`` with the trace
keys, JSON inputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from spancast.encoding.span_data import SpanData, cached_on_span
from spancast.model import json_codec, semconv
from spancast.model.attribute_values import count_of
from spancast.model.json_codec import is_list, is_mapping

_NS_PER_S: Final = 1_000_000_000
_NS_PER_MS: Final = 1_000_000
_LONGEST_WAIT_S: Final = 1e9
_COST_DETAILS: Final = semconv.USAGE_COST_DETAILS
_IS_BYOK: Final = f"{semconv.USAGE}is_byok"
_UPSTREAM_COST: Final = f"{_COST_DETAILS}upstream_inference_cost"
_INPUT_COSTS: Final = (
    semconv.COST_INPUT, f"{_COST_DETAILS}upstream_inference_prompt_cost",
    f"{_COST_DETAILS}upstream_inference_input_cost",
)  # fmt: skip
_OUTPUT_COSTS: Final = (
    semconv.COST_OUTPUT, f"{_COST_DETAILS}upstream_inference_completions_cost",
    f"{_COST_DETAILS}upstream_inference_output_cost",
)  # fmt: skip
_REQUEST: Final = semconv.REQUEST_MODEL.removesuffix("model")
_PARAMETERS: Final = (_REQUEST, semconv.REQUEST)
_OWN: Final = semconv.TRACE_METADATA
_TOOL_CALL: Final = "tool_call"
_TOOL_ANSWER: Final = "tool_call_response"
_FINISH_REASONS: Final[Mapping[str, str]] = {_TOOL_CALL: "tool_calls"}
"""OpenRouter's names of finish reasons that differ from the semantic conventions."""
_NO_PARAMETERS: Final = frozenset({semconv.REQUEST_MODEL, semconv.REQUEST_STREAM})
_NAMES: Final[Mapping[str, str]] = {
    "trace_id": semconv.RAW_TRACE_ID,
    "trace_name": semconv.TRACE_NAME,
    "span_name": semconv.SPAN_NAME,
    "generation_name": semconv.GENERATION_NAME,
    "parent_span_id": semconv.RAW_PARENT_SPAN_ID,
}


class Costs(NamedTuple):
    """Cost in USD; ``input`` and ``output`` are None unless they add up to the total."""

    input: float | None
    output: float | None
    total: float | None
    source: str | None = None
    """The prices of an estimate; None if the provider charged the cost."""


def raw_trace_id(span: SpanData) -> str:
    """Return the trace id as the caller wrote it."""
    return span.text(semconv.RAW_TRACE_ID) or span.trace_id


def span_type(span: SpanData) -> str:
    """Return ``GENERATION`` for a call of a model, ``SPAN`` for other spans."""
    return "GENERATION" if span.is_generation else "SPAN"


def level(span: SpanData) -> str:
    """Return ``ERROR`` for a failed span, else ``DEFAULT``."""
    return "ERROR" if span.status == "error" else "DEFAULT"


@cached_on_span
def metadata(span: SpanData) -> dict[str, Any]:
    """Return the caller's own keys, with dots in nested ones, and the trace keys."""
    return {**{key: span.attributes[name] for key, name in _NAMES.items() if name in span.attributes}, **own_keys(span)}


@cached_on_span
def own_keys(span: SpanData) -> dict[str, Any]:
    """Return the caller's own keys alone."""
    start = len(_OWN)
    return {name[start:]: value for name, value in span.attributes.items() if name.startswith(_OWN)}


@cached_on_span
def tags(span: SpanData) -> list[str]:
    """Return the custom key ``tags`` if it is a list, else an empty list."""
    value = span.first(semconv.TRACE_METADATA + "tags")
    return [str(item) for item in value] if is_list(value) else []


@cached_on_span
def model_parameters(span: SpanData) -> dict[str, Any]:
    """Return the parameters of the request by their wire names."""
    return {
        name.rpartition(_REQUEST)[2] if name.startswith(_REQUEST) else name.removeprefix(semconv.REQUEST): value
        for name, value in span.attributes.items()
        if name.startswith(_PARAMETERS) and name not in _NO_PARAMETERS
    }


def finish_reason(span: SpanData) -> str | None:
    """Return the normalised finish reason of the first choice."""
    reasons = span.first(semconv.RESPONSE_FINISH_REASONS)
    if not is_list(reasons) or not reasons:
        return None
    return _FINISH_REASONS.get(str(reasons[0]), str(reasons[0]))


@cached_on_span
def costs(span: SpanData) -> Costs:
    """Return the cost charged by the provider, else the estimated one.

    With the caller's own key at OpenRouter (BYOK) the total includes what the upstream provider charges.
    """
    total, source = span.number(semconv.USAGE_COST), span.text(semconv.COST_SOURCE)
    if total is None:
        return Costs(None, None, None)
    if span.first(_IS_BYOK) is True:
        total += span.number(_UPSTREAM_COST) or 0.0
    input_cost, output_cost = span.number(*_INPUT_COSTS), span.number(*_OUTPUT_COSTS)
    if input_cost is None or output_cost is None or not math.isclose(input_cost + output_cost, total, rel_tol=1e-6):
        return Costs(None, None, total, source)
    return Costs(input_cost, output_cost, total, source)


def total_tokens(span: SpanData) -> int | None:
    """Return the total of tokens: that of the provider, else the sum of input and output."""
    total = span.count(semconv.USAGE_TOTAL_TOKENS)
    input_tokens, output_tokens = span.count(semconv.USAGE_INPUT_TOKENS), span.count(semconv.USAGE_OUTPUT_TOKENS)
    if total is not None or (input_tokens is None and output_tokens is None):
        return total
    return count_of((input_tokens or 0) + (output_tokens or 0))


@cached_on_span
def conversation(span: SpanData) -> dict[str, Any] | None:
    """Return ``{"messages": […]}`` of the request, or None if content is left out."""
    system, inputs = _decoded(span, semconv.SYSTEM_INSTRUCTIONS, semconv.INPUT_MESSAGES)
    if inputs is None and system is None:
        return None
    messages: list[dict[str, Any]] = []
    if is_list(system) and system:
        messages.append({"role": "system", "content": _content(system)})
    for message in inputs if is_list(inputs) else ():
        messages.extend(_messages(message) if is_mapping(message) else ())
    return {"messages": messages}


@cached_on_span
def last_question(span: SpanData) -> dict[str, Any] | None:
    """Return the last message of the user as ``{"role", "content"}``; the messages before it are not converted."""
    (inputs,) = _decoded(span, semconv.INPUT_MESSAGES)
    for message in reversed(inputs) if is_list(inputs) else ():
        for asked in _messages(message) if is_mapping(message) else ():
            if asked.get("role") == "user" and asked.get("content"):
                return asked
    return None


def completion(span: SpanData) -> dict[str, Any] | None:
    """Return ``{"completion", "reasoning", "toolCalls"?}`` of the first choice, or None if content is left out."""
    (choices,) = _decoded(span, semconv.OUTPUT_MESSAGES)
    if not is_list(choices) or not choices or not is_mapping(choices[0]):
        return None
    parts = _parts(choices[0])
    calls = [_tool_call(part) for part in parts if part.get("type") == _TOOL_CALL]
    fields = {"completion": _text(parts, "text"), "reasoning": _text(parts, "reasoning")}
    return {**fields, "toolCalls": calls} if calls else fields


@cached_on_span
def answers(span: SpanData) -> list[dict[str, Any]] | None:
    """Return every choice as ``{"role", "content", "reasoning"?, "tool_calls"?, "finish_reason"?}``, or None."""
    (choices,) = _decoded(span, semconv.OUTPUT_MESSAGES)
    return [_answer(choice) for choice in choices if is_mapping(choice)] if is_list(choices) else None


def tools(span: SpanData) -> list[Any] | None:
    """Return the tool definitions of the request."""
    (offered,) = _decoded(span, semconv.TOOL_DEFINITIONS)
    return list(offered) if is_list(offered) else None


def first_chunk_ns(span: SpanData) -> int | None:
    """Return the time of the first chunk of a streamed response, None if unknown."""
    waited_s = span.number(semconv.RESPONSE_TIME_TO_FIRST_CHUNK)
    if waited_s is None or not 0 <= waited_s < _LONGEST_WAIT_S:
        return None
    return span.start_ns + round(waited_s * _NS_PER_S)


def iso_time(at_ns: int) -> str:
    """Return ``at_ns`` in UTC as ``2026-09-29T12:00:00.000Z``."""
    seconds, rest = divmod(at_ns, _NS_PER_S)
    moment = datetime.fromtimestamp(seconds, tz=UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest // _NS_PER_MS:03d}Z"


def _decoded(span: SpanData, *names: str) -> tuple[Any, ...]:
    values = (span.first(name) for name in names)
    return tuple(json_codec.decode(value) if isinstance(value, str) else value for value in values)


def _answer(choice: Mapping[str, Any]) -> dict[str, Any]:
    if "parts" not in choice and "content" in choice:
        return dict(choice)
    parts = _parts(choice)
    fields: dict[str, Any] = {"role": choice.get("role", "assistant"), "content": _text(parts, "text")}
    if reasoning := _text(parts, "reasoning"):
        fields["reasoning"] = reasoning
    if calls := [_tool_call(part) for part in parts if part.get("type") == _TOOL_CALL]:
        fields["tool_calls"] = calls
    if reason := choice.get("finish_reason"):
        fields["finish_reason"] = _FINISH_REASONS.get(str(reason), reason)
    return fields


def _parts(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    parts = message.get("parts")
    return [part for part in parts if is_mapping(part)] if is_list(parts) else []


def _messages(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if "parts" not in message and "content" in message:
        # A message of another instrumentation, which is in chat form already.
        yield dict(message)
        return
    parts = _parts(message)
    if len(parts) == 1 and parts[0].get("type") == "text":
        # The most frequent case.
        yield {"role": message.get("role"), "content": str(parts[0].get("content"))}
        return
    rest = [part for part in parts if part.get("type") != _TOOL_ANSWER]
    for part in parts:
        if part.get("type") == _TOOL_ANSWER:
            yield {"role": "tool", "tool_call_id": part.get("id"), "content": part.get("response")}
    if rest or not parts:
        calls = [_tool_call(part) for part in rest if part.get("type") == _TOOL_CALL]
        fields: dict[str, Any] = {"role": message.get("role"), "content": _content(rest)}
        yield {**fields, "tool_calls": calls} if calls else fields


def _content(parts: Sequence[Any]) -> Any:  # noqa: ANN401 - a text, or parts
    kinds = {str(part.get("type")) for part in parts if is_mapping(part)}
    if kinds <= {"text", "reasoning", _TOOL_CALL}:
        return _text(parts, "text")
    return [part for part in parts if is_mapping(part) and part.get("type") != _TOOL_CALL]


def _text(parts: Sequence[Any], kind: str) -> str | None:
    texts = [str(part.get("content")) for part in parts if is_mapping(part) and part.get("type") == kind]
    return "".join(texts) if texts else None


def _tool_call(part: Mapping[str, Any]) -> dict[str, Any]:
    arguments = part.get("arguments")
    text = arguments if isinstance(arguments, str) else json_codec.encode(arguments)
    return {"id": part.get("id"), "type": "function", "function": {"name": part.get("name"), "arguments": text}}
