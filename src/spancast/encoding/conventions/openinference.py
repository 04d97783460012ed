"""OpenInference, for Arize AX and Phoenix.

Source: openinference-semantic-conventions 0.1.42, and what Phoenix 20.26's server reads.
Phoenix derives attributes of its own from any ``gen_ai.*``, wrong ones if content is left out, so no attribute keeps
such a name. Token details are included in the totals, as in the GenAI conventions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from spancast.encoding import genai_fields
from spancast.encoding.conventions import facts
from spancast.encoding.span_data import SpanData
from spancast.model import json_codec, semconv
from spancast.model.json_codec import is_list, is_mapping

_KINDS: Final[Mapping[str, str]] = {
    "llm": "LLM", "embedding": "EMBEDDING", "tool": "TOOL", "agent": "AGENT", "retriever": "RETRIEVER",
    "group": "CHAIN", "other": "CHAIN",
}  # fmt: skip
_KIND: Final = "openinference.span.kind"
_RENAMED: Final = frozenset(
    {
        *facts.CONTENT_MESSAGES, semconv.OPERATION_NAME, semconv.PROVIDER_NAME, semconv.REQUEST_MODEL,
        semconv.RESPONSE_MODEL, semconv.CONVERSATION_ID, semconv.USAGE_INPUT_TOKENS, semconv.USAGE_OUTPUT_TOKENS,
        semconv.USAGE_TOTAL_TOKENS, semconv.USAGE_CACHE_READ, semconv.USAGE_CACHE_WRITE, semconv.USAGE_REASONING,
        semconv.USAGE_COST, semconv.RESPONSE_FINISH_REASONS,
    }
)  # fmt: skip
_PARAMETER: Final = "gen_ai.request."
_TOOL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
_TOOL_RESULT: Final = "gen_ai.tool.call.result"
_GENAI_PREFIX: Final = "gen_ai."
_OTHER_PREFIX: Final = "otel.gen_ai."
"""The prefix for all other ``gen_ai.*`` attributes: they are kept, and Phoenix does not read them."""


def map_span(span: SpanData) -> SpanData:
    """Return ``span`` with OpenInference attributes."""
    if _KIND in span.attributes:
        return span
    kept: dict[str, Any] = {}
    for name, value in facts.without(span.attributes, _RENAMED, semconv.TRACE_METADATA).items():
        if not name.startswith(_GENAI_PREFIX):
            kept[name] = value
        elif not name.startswith(_PARAMETER) or name == semconv.REQUEST_STREAM:
            kept[_OTHER_PREFIX + name.removeprefix(_GENAI_PREFIX)] = value
    kind = facts.work(span)
    attributes = {**kept, **facts.written(_common(span)), _KIND: _KINDS[kind]}
    if kind in ("llm", "embedding"):
        attributes.update(facts.written(_call(span)))
    else:
        attributes.update(facts.written(_tool(span) if kind == "tool" else _texts(span)))
    return span.with_attributes(attributes)


def _common(span: SpanData) -> Iterator[tuple[str, Any]]:
    metadata = {**genai_fields.metadata(span), **facts.given(cost_source=genai_fields.costs(span).source)}
    yield "metadata", json_codec.encode(metadata) if metadata else None
    yield "session.id", span.text(semconv.SESSION_ID, semconv.CONVERSATION_ID)
    yield "tag.tags", genai_fields.tags(span) or None


def _call(span: SpanData) -> Iterator[tuple[str, Any]]:
    tokens, costs = facts.usage(span), genai_fields.costs(span)
    yield "llm.model_name", facts.model(span)
    yield "llm.request.model_name", span.text(semconv.REQUEST_MODEL)
    yield "llm.response.model_name", span.text(semconv.RESPONSE_MODEL)
    yield "llm.provider", span.text(semconv.PROVIDER_NAME)
    yield "llm.system", span.text(semconv.PROVIDER_NAME)
    parameters = genai_fields.model_parameters(span)
    yield "llm.invocation_parameters", json_codec.encode(parameters) if parameters else None
    yield "llm.finish_reason", genai_fields.finish_reason(span)
    yield "llm.token_count.prompt", tokens.input
    yield "llm.token_count.completion", tokens.output
    yield "llm.token_count.total", tokens.total
    yield "llm.token_count.prompt_details.cache_read", tokens.cache_read
    yield "llm.token_count.prompt_details.cache_write", tokens.cache_write
    yield "llm.token_count.completion_details.reasoning", tokens.reasoning
    yield "llm.cost.prompt", costs.input
    yield "llm.cost.completion", costs.output
    yield "llm.cost.total", costs.total
    yield from _content(span)


def _content(span: SpanData) -> Iterator[tuple[str, Any]]:
    request, answers = genai_fields.conversation(span), genai_fields.answers(span)
    if request is not None:
        yield "input.value", json_codec.encode(request)
        yield "input.mime_type", "application/json"
        for index, message in enumerate(request["messages"]):
            yield from _message(f"llm.input_messages.{index}.message", message)
    else:
        yield from _as_text(span, semconv.INPUT_MESSAGES, "input")
    for index, tool in enumerate(genai_fields.tools(span) or ()):
        yield f"llm.tools.{index}.tool.json_schema", json_codec.encode(tool)
    if answers is not None:
        yield "output.value", json_codec.encode(answers)
        yield "output.mime_type", "application/json"
        for index, message in enumerate(answers):
            yield from _message(f"llm.output_messages.{index}.message", message)
    else:
        yield from _as_text(span, semconv.OUTPUT_MESSAGES, "output")


def _as_text(span: SpanData, name: str, side: str) -> Iterator[tuple[str, Any]]:
    """Yield content that cannot be parsed, for example JSON cut by a limit of the SDK, as plain text."""
    text = span.first(name)
    if isinstance(text, str) and text:
        yield f"{side}.value", text
        yield f"{side}.mime_type", "text/plain"


def _texts(span: SpanData) -> Iterator[tuple[str, Any]]:
    for side, text in (("input", facts.question(span)), ("output", facts.answer(span))):
        if text is not None:
            yield f"{side}.value", text
            yield f"{side}.mime_type", "text/plain"


def _message(prefix: str, message: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield f"{prefix}.role", message.get("role")
    content = message.get("content")
    if is_list(content):
        for index, part in enumerate(content):
            yield from _part(f"{prefix}.contents.{index}.message_content", part)
    else:
        yield (
            f"{prefix}.content",
            content if content is None or isinstance(content, str) else json_codec.encode(content),
        )
    if "tool_call_id" in message:
        yield f"{prefix}.tool_call_id", message["tool_call_id"]
    calls = message.get("tool_calls")
    for index, call in enumerate(calls if is_list(calls) else ()):
        function = call.get("function") if is_mapping(call) else None
        if is_mapping(function):
            at = f"{prefix}.tool_calls.{index}.tool_call"
            yield f"{at}.id", call.get("id")
            yield f"{at}.function.name", function.get("name")
            yield f"{at}.function.arguments", function.get("arguments")


def _part(prefix: str, part: object) -> Iterator[tuple[str, Any]]:
    if not is_mapping(part):
        return
    kind, text = part.get("type"), part.get("content")
    if kind in ("text", "reasoning") and isinstance(text, str):
        yield f"{prefix}.type", "text"
        yield f"{prefix}.text", text
    elif part.get("modality") == "image" and isinstance(part.get("uri"), str):
        yield f"{prefix}.type", "image"
        yield f"{prefix}.image.image.url", part["uri"]
    else:
        yield f"{prefix}.type", "text"
        yield f"{prefix}.text", json_codec.encode(part)


def _tool(span: SpanData) -> Iterator[tuple[str, Any]]:
    arguments, result = span.first(_TOOL_ARGUMENTS), span.first(_TOOL_RESULT)
    yield "tool.name", span.first("gen_ai.tool.name")
    yield "tool.description", span.first("gen_ai.tool.description")
    yield "input.value", arguments
    yield "tool.parameters", arguments
    yield "output.value", result
