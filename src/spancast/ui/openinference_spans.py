"""Calls of OpenInference's instrumentations, read as the GenAI conventions name them.

Its attributes are flat: ``llm.input_messages.0.message.content``. What is read is added; the received attributes stay
as they are (github.com/Arize-ai/openinference, spec/semantic_conventions.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from spancast.encoding.span_data import SpanData
from spancast.model import json_codec, semconv
from spancast.model.json_codec import is_mapping

_KIND: Final = "openinference.span.kind"
_GENAI: Final = semconv.REQUEST_MODEL.removesuffix("model")
_PARAMETERS: Final = frozenset(
    {"temperature", "top_p", "top_k", "max_tokens", "seed", "frequency_penalty", "presence_penalty"}
)
_COUNTS: Final[Mapping[str, str]] = {
    semconv.USAGE_INPUT_TOKENS: "llm.token_count.prompt",
    semconv.USAGE_OUTPUT_TOKENS: "llm.token_count.completion",
    semconv.USAGE_CACHE_READ: "llm.token_count.prompt_details.cache_read",
    semconv.USAGE_CACHE_WRITE: "llm.token_count.prompt_details.cache_write",
    semconv.USAGE_REASONING: "llm.token_count.completion_details.reasoning",
}


def as_call(span: SpanData) -> SpanData:
    """Return a call of a model with the attributes of the GenAI conventions, any other span as it is."""
    given = span.attributes
    if given.get(_KIND) != "LLM" or semconv.OPERATION_NAME in given:
        return span
    decoded = json_codec.decode(str(given.get("llm.invocation_parameters") or ""))
    parameters: Mapping[str, Any] = decoded if is_mapping(decoded) else {}
    answered = given.get("llm.model_name")
    finish = given.get("llm.finish_reason")
    added: dict[str, Any] = {
        semconv.OPERATION_NAME: "chat",
        semconv.REQUEST_MODEL: parameters.get("model") or answered or span.name,
        semconv.RESPONSE_MODEL: answered,
        semconv.PROVIDER_NAME: given.get("llm.provider") or given.get("llm.system"),
        semconv.INPUT_MESSAGES: _messages(given, "llm.input_messages."),
        semconv.OUTPUT_MESSAGES: _messages(given, "llm.output_messages."),
        semconv.RESPONSE_FINISH_REASONS: [finish] if finish else None,
        **{name: given.get(theirs) for name, theirs in _COUNTS.items()},
    }
    for name, value in parameters.items():
        if name != "model" and isinstance(value, str | int | float):
            added[(_GENAI if name in _PARAMETERS else semconv.REQUEST) + name] = value
    return span.with_attributes({**{name: value for name, value in added.items() if value is not None}, **given})


def _messages(attributes: Mapping[str, Any], prefix: str) -> str | None:
    messages = [_message(one.get("message")) for one in _entries(_tree(attributes, prefix))]
    return json_codec.encode(messages) if messages else None


def _message(given: object) -> dict[str, Any]:
    message: Mapping[str, Any] = given if is_mapping(given) else {}
    return {"role": str(message.get("role") or "user"), "parts": list(_parts(message))}


def _parts(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    content = message.get("content")
    if identifier := message.get("tool_call_id"):
        yield {"type": "tool_call_response", "id": identifier, "response": content}
    elif content:
        yield {"type": "text", "content": content}
    for one in _entries(message.get("contents")):
        part = one.get("message_content")
        if is_mapping(part) and "text" in part:
            yield {"type": "text", "content": part["text"]}
        elif is_mapping(part):
            yield {"type": str(part.get("type")), **part}
    for one in _entries(message.get("tool_calls")):
        call = one.get("tool_call")
        function = call.get("function") if is_mapping(call) else None
        if is_mapping(call) and is_mapping(function):
            yield {"type": "tool_call", "id": call.get("id"), **function}


def _tree(attributes: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return the attributes that begin with ``prefix`` as nested objects; a list is an object with numbers."""
    tree: dict[str, Any] = {}
    for name, value in attributes.items():
        if name.startswith(prefix):
            *path, last = name.removeprefix(prefix).split(".")
            node = tree
            for step in path:
                if not isinstance(node.get(step), dict):
                    node[step] = {}
                node = cast("dict[str, Any]", node[step])
            node[last] = value
    return tree


def _entries(node: object) -> list[Mapping[str, Any]]:
    if not is_mapping(node):
        return []
    return [node[at] for at in sorted(filter(str.isdecimal, node), key=int) if is_mapping(node[at])]
