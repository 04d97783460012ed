"""Readers of a canonical span shared by the conventions: kind of work, tokens, content as chat messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from spancast.encoding import genai_fields
from spancast.encoding.span_data import SpanData, cached_on_span
from spancast.model import json_codec, semconv
from spancast.model.attribute_values import count_of
from spancast.model.json_codec import is_list, is_mapping

Work: TypeAlias = Literal["llm", "embedding", "tool", "agent", "retriever", "group", "other"]

CONTENT_MESSAGES: Final = frozenset(
    {semconv.INPUT_MESSAGES, semconv.OUTPUT_MESSAGES, semconv.SYSTEM_INSTRUCTIONS, semconv.TOOL_DEFINITIONS}
)
CACHE_CREATION: Final = "gen_ai.usage.cache_creation.input_tokens"
"""The name of ``cache_write`` in earlier versions of the conventions."""
_COUNTS: Final = (
    semconv.USAGE_INPUT_TOKENS, semconv.USAGE_OUTPUT_TOKENS, semconv.USAGE_CACHE_READ, semconv.USAGE_CACHE_WRITE,
    CACHE_CREATION, semconv.USAGE_REASONING,
)  # fmt: skip
SYSTEM: Final = "gen_ai.system"
"""The name of ``gen_ai.provider.name`` before version 1.37 of the conventions."""
_WORK: Final[Mapping[str, Work]] = {
    "embeddings": "embedding", "execute_tool": "tool", "invoke_agent": "agent", "create_agent": "agent",
    "invoke_workflow": "group", "retrieval": "retriever",
}  # fmt: skip


class Usage(NamedTuple):
    """Token counts; ``input`` includes cached tokens, ``output`` includes reasoning tokens; None if unknown."""

    input: int | None
    output: int | None
    total: int | None
    cache_read: int | None
    cache_write: int | None
    reasoning: int | None

    @property
    def is_known(self) -> bool:
        """Return whether a count is known."""
        return self.input is not None or self.output is not None or self.total is not None


def work(span: SpanData) -> Work:
    """Return the kind of work of ``span``; ``other`` if it is neither a GenAI span nor a group span."""
    operation = span.first(semconv.OPERATION_NAME)
    if isinstance(operation, str):
        return _WORK.get(operation, "llm")
    return "group" if span.scope.name == semconv.SCOPE_NAME else "other"


@cached_on_span
def usage(span: SpanData) -> Usage:
    """Return the token counts of ``span``."""
    attributes = span.attributes
    input_tokens, output_tokens, cache_read, cache_write, former_cache_write, reasoning = [
        count_of(attributes[name]) if name in attributes else None for name in _COUNTS
    ]
    cache_write = former_cache_write if cache_write is None else cache_write
    return Usage(input_tokens, output_tokens, genai_fields.total_tokens(span), cache_read, cache_write, reasoning)


def model(span: SpanData) -> str | None:
    """Return the model of the response, else that of the request."""
    return span.text(semconv.RESPONSE_MODEL, semconv.REQUEST_MODEL)


@cached_on_span
def request_json(span: SpanData) -> str | None:
    """Return ``{"messages": […], "tools"?}`` as JSON text, or None if content is left out."""
    conversation = genai_fields.conversation(span)
    if conversation is None:
        return None
    tools = genai_fields.tools(span)
    return json_codec.encode({**conversation, "tools": tools} if tools else conversation)


@cached_on_span
def conversation_json(span: SpanData) -> str | None:
    """Return ``{"messages": […]}`` as JSON text, or None if content is left out."""
    conversation = genai_fields.conversation(span)
    return None if conversation is None else json_codec.encode(conversation)


@cached_on_span
def messages_json(span: SpanData) -> str | None:
    """Return the input messages as a JSON array of ``{role, content, …}``, or None if content is left out."""
    conversation = genai_fields.conversation(span)
    return None if conversation is None else json_codec.encode(conversation["messages"])


@cached_on_span
def answers_json(span: SpanData) -> str | None:
    """Return the choices as a JSON array of ``{role, content, …}``, or None if content is left out."""
    answers = genai_fields.answers(span)
    return None if answers is None else json_codec.encode(answers)


def turns_json(span: SpanData) -> str:
    """Return the input messages and ``{"message": first choice}`` as a JSON array; what is left out is absent."""
    messages = (genai_fields.conversation(span) or {}).get("messages", ())
    answer = (genai_fields.answers(span) or ())[:1]
    return json_codec.encode([*messages, {"message": answer[0]} if answer else {}])


def question(span: SpanData) -> str | None:
    """Return the text of the last message of the user, or None if content is left out."""
    message = genai_fields.last_question(span)
    return None if message is None else _text_of(message)


def answer(span: SpanData) -> str | None:
    """Return the text of the first choice, else its tool calls as JSON; None if content is left out."""
    choices = genai_fields.answers(span)
    return _text_of(choices[0]) if choices else None


def system_text(span: SpanData) -> str | None:
    """Return the text of the system instructions, or None if content is left out."""
    messages = (genai_fields.conversation(span) or {}).get("messages", ())
    return next((_text_of(message) for message in messages if message.get("role") == "system"), None)


def _text_of(message: Mapping[str, Any]) -> str | None:
    content = message.get("content") or message.get("tool_calls")
    if content is None or isinstance(content, str):
        return content
    texts = [_part_text(part) for part in content] if is_list(content) else []
    return "\n".join(filter(None, texts)) or json_codec.encode(content)


def _part_text(part: Any) -> str | None:  # noqa: ANN401 - any JSON value
    text = part.get("content") if is_mapping(part) else None
    return text if isinstance(text, str) else None


@cached_on_span
def readable_content(span: SpanData) -> frozenset[str]:
    """Return the names of the content attributes that can be parsed, and so be mapped to another form."""
    names = set(CONTENT_MESSAGES)
    if genai_fields.conversation(span) is None:
        names -= {semconv.INPUT_MESSAGES, semconv.SYSTEM_INSTRUCTIONS}
    if genai_fields.answers(span) is None:
        names.discard(semconv.OUTPUT_MESSAGES)
    return frozenset(names)


def given(**values: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON value
    """Return ``values`` without entries that are None."""
    return {name: value for name, value in values.items() if value is not None}


def written(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return ``pairs`` without values that are None."""
    return {name: value for name, value in pairs if value is not None}


def without(attributes: Mapping[str, Any], names: frozenset[str], *prefixes: str) -> dict[str, Any]:
    """Return ``attributes`` except those in ``names`` or under ``prefixes``."""
    if not prefixes:
        return {name: value for name, value in attributes.items() if name not in names}
    # startswith(str) takes half the time of startswith(tuple) with one item.
    left_out = prefixes[0] if len(prefixes) == 1 else prefixes
    return {name: value for name, value in attributes.items() if name not in names and not name.startswith(left_out)}


def costs(span: SpanData) -> dict[str, Any]:
    """Return the cost and, if it is estimated, the prices it is from, for the metadata of a product."""
    cost = genai_fields.costs(span)
    return given(total_cost=cost.total, input_cost=cost.input, output_cost=cost.output, cost_source=cost.source)


def details(tokens: Usage) -> dict[str, int]:
    """Return token counts by the names of Langfuse's prices; cached and reasoning tokens are counted apart."""
    parts = {
        "input": _rest(tokens.input, tokens.cache_read, tokens.cache_write),
        "output": _rest(tokens.output, tokens.reasoning),
        "input_cached_tokens": tokens.cache_read,
        "input_cache_creation": tokens.cache_write,
        "output_reasoning_tokens": tokens.reasoning,
        "total": tokens.total,
    }
    return {name: value for name, value in parts.items() if value is not None}


def _rest(total: int | None, *parts: int | None) -> int | None:
    return None if total is None else max(total - sum(part or 0 for part in parts), 0)
