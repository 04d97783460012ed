"""OpenAI Chat Completions (``POST /chat/completions``) with OpenRouter's extensions.

Used by OpenAI, Azure, OpenRouter, Groq, Together, Fireworks, vLLM, Ollama and others.
The attribute has the finish reason of the response (``tool_calls``), the message that of
the message schema (``tool_call``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from spancast.dialects import accessors
from spancast.dialects import parameters as read
from spancast.dialects.content import text_part
from spancast.dialects.error_body import error_attributes, read_failure
from spancast.dialects.finish import MESSAGE_REASONS, output_messages
from spancast.dialects.openai_chat.messages import content_part, input_messages, message, prompts
from spancast.dialects.openai_chat.stream import ChatStream
from spancast.dialects.parameters import Range, Row
from spancast.dialects.protocol import Dialect
from spancast.dialects.sanitize import add_rest, to_json_data, to_json_string
from spancast.dialects.usage import Table, Usage, read_usage
from spancast.model import json_codec, semconv
from spancast.model.call import Attributes, AttributeValue, Message, Request, Response


def _choice_count(value: object) -> AttributeValue | None:
    """Read ``n``, which by the convention is recorded only if it is not 1."""
    return [] if value == 1 else read.integer(value)


def _format(value: object) -> AttributeValue | None:
    """Read ``response_format``; for a pydantic class given to ``parse()``, only its name is recorded."""
    if isinstance(value, type):
        value = {"type": "json_schema", "json_schema": {"name": value.__name__}}
    return read.json_attribute(value)


def _object(value: object) -> AttributeValue | None:
    """Read ``object`` without the ``.chunk`` of a stream."""
    return value.removesuffix(".chunk") if isinstance(value, str) else None


_PARAMETERS: Final[Mapping[str, Row]] = {
    "temperature": Row(semconv.REQUEST_TEMPERATURE, read.number),
    "top_p": Row(semconv.REQUEST_TOP_P, read.number),
    "top_k": Row(semconv.REQUEST_TOP_K, read.integer),
    "seed": Row(semconv.REQUEST_SEED, read.integer),
    # Mistral's name.
    "random_seed": Row(semconv.REQUEST_SEED, read.integer),
    "stop": Row(semconv.REQUEST_STOP_SEQUENCES, read.string_list),
    "max_tokens": Row(semconv.REQUEST_MAX_TOKENS, read.integer),
    "max_completion_tokens": Row(semconv.REQUEST_MAX_TOKENS, read.integer),
    "frequency_penalty": Row(semconv.REQUEST_FREQUENCY_PENALTY, read.number),
    "presence_penalty": Row(semconv.REQUEST_PRESENCE_PENALTY, read.number),
    "reasoning_effort": Row(semconv.REQUEST_REASONING_LEVEL, read.text),
    "response_format": Row(semconv.REQUEST + "response_format", _format),
    "n": Row(semconv.REQUEST_CHOICE_COUNT, _choice_count),
    # xAI's.
    "previous_response_id": Row(semconv.REQUEST_PREVIOUS_RESPONSE_ID, read.text),
    "service_tier": Row(semconv.OPENAI_REQUEST_SERVICE_TIER, read.service_tier),
    "stream": Row(semconv.REQUEST_STREAM, read.true_flag),
}
# From OpenRouter's API reference; OpenAI documents the same ranges for its parameters.
_RANGES: Final[Mapping[str, Range]] = {
    "temperature": Range(0, 2),
    "top_p": Range(0, 1),
    "top_k": Range(1),
    "min_p": Range(0, 1),
    "top_a": Range(0, 1),
    "frequency_penalty": Range(-2, 2),
    "presence_penalty": Range(-2, 2),
    "repetition_penalty": Range(0, 2),
    "top_logprobs": Range(0, 20),
    "max_tokens": Range(1),
    "max_completion_tokens": Range(1),
    "n": Range(1),
}
_MAX_STOPS: Final = 4
_TRACE_KEYS: Final = frozenset({"metadata", "session_id", "trace", "user"})
_SKIPPED: Final = frozenset({"messages", "model", "tools", "functions"}) | _TRACE_KEYS

_COMBINED: Final = frozenset({"max_completion_tokens", "reasoning", "prompt", "modalities", "response_format"})
"""Parameters that ``_add_derived`` reads."""

_FORMATS: Final = {"text": "text", "json_object": "json", "json_schema": "json"}
_MODALITIES: Final = {"audio": "speech", "image": "image"}

_FIELDS: Final[Mapping[str, Row]] = {
    "created": Row(semconv.RESPONSE_CREATED, read.integer),
    "object": Row(semconv.RESPONSE_OBJECT, _object),
    "provider": Row(semconv.RESPONSE_PROVIDER, read.text),
    "service_tier": Row(semconv.OPENAI_RESPONSE_SERVICE_TIER, read.text),
    "system_fingerprint": Row(semconv.OPENAI_RESPONSE_SYSTEM_FINGERPRINT, read.text),
    "openrouter_metadata": Row(semconv.RESPONSE + "openrouter_metadata", to_json_string),
}
# ``obfuscation`` is random padding in every chunk of OpenAI.
_NOT_FIELDS: Final = frozenset({"id", "model", "choices", "usage", "error", "obfuscation"})
_CHOICE_FIELDS: Final = frozenset(
    {"index", "message", "text", "delta", "finish_reason", "native_finish_reason", "logprobs", "usage", "error"}
)
_FINISH_REASONS: Final = {
    "eos": "stop",
    "model_length": "length",
    "sensitive": "content_filter",
    "network_error": "error",
    "insufficient_system_resource": "error",
}
"""Reasons of Together, Mistral, Z.ai and DeepSeek in OpenAI's words."""
_USAGE: Final[Table] = {
    "prompt_tokens": semconv.USAGE_INPUT_TOKENS,
    "completion_tokens": semconv.USAGE_OUTPUT_TOKENS,
    "input_tokens": semconv.USAGE_INPUT_TOKENS,
    "output_tokens": semconv.USAGE_OUTPUT_TOKENS,
    "cached_tokens": semconv.USAGE_CACHE_READ,
    "num_cached_tokens": semconv.USAGE_CACHE_READ,
    "prompt_cache_hit_tokens": semconv.USAGE_CACHE_READ,
    "cache_read_input_tokens": semconv.USAGE_CACHE_READ,
    "cache_creation_input_tokens": semconv.USAGE_CACHE_WRITE,
    "cacheReadInputTokens": semconv.USAGE_CACHE_READ,
    "cacheWriteInputTokens": semconv.USAGE_CACHE_WRITE,
    "reasoning_tokens": semconv.USAGE_REASONING,
    "total_tokens": semconv.USAGE_TOTAL_TOKENS,
    "prompt_tokens_details": {
        "cached_tokens": semconv.USAGE_CACHE_READ,
        "cache_write_tokens": semconv.USAGE_CACHE_WRITE,
        "cache_creation_tokens": semconv.USAGE_CACHE_WRITE,
        "audio_tokens": semconv.USAGE_AUDIO_INPUT,
        "image_tokens": semconv.USAGE_IMAGE_INPUT,
        "text_tokens": semconv.USAGE_TEXT_INPUT,
    },
    # Writer's name.
    "prompt_token_details": {"cached_tokens": semconv.USAGE_CACHE_READ},
    "completion_tokens_details": {
        "reasoning_tokens": semconv.USAGE_REASONING,
        "audio_tokens": semconv.USAGE_AUDIO_OUTPUT,
        "image_tokens": semconv.USAGE_IMAGE_OUTPUT,
        "text_tokens": semconv.USAGE_TEXT_OUTPUT,
    },
}


class OpenAIChat(Dialect):
    """The dialect; stateless."""

    __slots__ = ()

    name: str = "openai_chat"
    provider: str = "openai"
    is_shared: bool = True
    end_marker: str | None = "[DONE]"
    answers: str | None = "spancast.dialects.openai_chat.answers:ANSWERS"

    def read_request(self, body: Mapping[str, Any], *, content: bool) -> Request:
        """Read a request body; system messages stay among the messages, as the convention requires."""
        attributes = read.read_parameters(body, _PARAMETERS, _SKIPPED)
        attributes[semconv.OPENAI_API_TYPE] = "chat_completions"
        if not _COMBINED.isdisjoint(body):
            _add_derived(body, attributes)
        return Request(
            model=accessors.text(body.get("model")),
            stream=body.get("stream") is True,
            messages=input_messages(body) if content else [],
            tools=_tools(body) if content else [],
            attributes=attributes,
            validation_errors=_validation_errors(body),
        )

    def read_response(self, response: object, *, content: bool) -> Response:
        """Read a complete response; a string is the assistant's text."""
        if isinstance(response, str):
            return Response(messages=output_messages([text_part(response)], None) if content and response else [])
        fields = accessors.fields(response)
        choices = [accessors.fields(choice) for choice in accessors.items(fields.get("choices"))]
        usage = read_usage(_usage_of(fields, choices), _USAGE)
        _add_excluded_reasoning(usage)
        # Unknown nested fields (citations, search results) of a completion only: others hold cookies and headers.
        attributes = read.read_fields(fields, _FIELDS, _NOT_FIELDS, nested="choices" in fields)
        if usage.attributes:
            attributes.update(usage.attributes)
        error = fields.get("error") or accessors.fields(fields.get("x_groq")).get("error")
        failure = read_failure(error, fields)
        attributes.update(error_attributes(error, failure))
        reasons: list[str] = []
        has_more = False
        for choice in choices:
            reason = _reason(choice)
            if reason is not None:
                reasons.append(reason)
            if failure is None:
                failure = read_failure(choice.get("error"), choice, is_failed=reason == "error")
                attributes.update(error_attributes(choice.get("error"), failure))
            has_more = has_more or bool(
                choice.get("logprobs") or choice.get("native_finish_reason") or reason != choice.get("finish_reason")
            )
        if has_more:
            _add_choice_fields(choices, attributes, content=content)
        return Response(
            id=accessors.text(fields.get("id")),
            model=accessors.text(fields.get("model")),
            finish_reasons=reasons,
            messages=[_output(choice) for choice in choices] if content else [],
            usage=usage.counts,
            attributes=attributes,
            failure=failure,
        )

    def new_stream(self, *, content: bool) -> ChatStream:
        """Return a reader for one stream."""
        return ChatStream(self.read_response, content=content)

    def ask_for_usage(self, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the ``stream_options`` that ask for usage; None if no stream is asked for, or they say so or not."""
        options = accessors.fields(body.get("stream_options"))
        if body.get("stream") is not True or "include_usage" in options:
            return None
        return {"stream_options": {**options, "include_usage": True}}


def _add_derived(body: Mapping[str, Any], attributes: Attributes) -> None:
    """Add attributes that depend on several parameters or on a part of one."""
    limit = read.integer(body.get("max_completion_tokens"))
    if limit is not None:
        # It replaces ``max_tokens``, regardless of their order.
        attributes[semconv.REQUEST_MAX_TOKENS] = limit
    level = accessors.text(accessors.fields(body.get("reasoning")).get("effort"))
    if level:
        attributes[semconv.REQUEST_REASONING_LEVEL] = level
    if prompts(body):
        attributes.pop(semconv.REQUEST + "prompt", None)
    output_type = _output_type(body)
    if output_type:
        attributes[semconv.OUTPUT_TYPE] = output_type


def _validation_errors(body: Mapping[str, Any]) -> list[str]:
    validation_errors = read.out_of_range(body, _RANGES)
    stops = body.get("stop")
    if stops is not None and len(accessors.items(stops)) > _MAX_STOPS:
        stops = accessors.items(stops)
        validation_errors.append(
            f"stop: {len(stops)} sequences given, at most {_MAX_STOPS} are allowed; sent as they are"
        )
    return validation_errors


def _output_type(body: Mapping[str, Any]) -> str | None:
    modalities = accessors.items(body.get("modalities"))
    for wire_name, output_type in _MODALITIES.items():
        if wire_name in modalities:
            return output_type
    response_format = body.get("response_format")
    kind = (
        "json_schema"
        if isinstance(response_format, type)
        else accessors.text(accessors.fields(response_format).get("type"))
    )
    return _FORMATS.get(kind) if kind else None


def _tools(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    if "tools" not in body and "functions" not in body:
        return []
    legacy = [{"type": "function", "function": item} for item in accessors.items(body.get("functions"))]
    return [_tool(item) for item in (*accessors.items(body.get("tools")), *legacy)]


def _tool(value: object) -> dict[str, Any]:
    tool = accessors.fields(value)
    kind = accessors.text(tool.get("type")) or "function"
    inner = accessors.fields(tool.get(kind))
    if kind != "function":
        kept = to_json_data(tool)
        named = accessors.text(inner.get("name")) or accessors.text(tool.get("name")) or kind
        return {**kept, "type": kind, "name": named} if isinstance(kept, dict) else {"type": kind, "name": named}
    given = {name: value for name, value in inner.items() if not json_codec.is_absent(value)}
    definition = {"type": kind, **given, "name": accessors.text(inner.get("name")) or ""}
    return add_rest(definition, tool, {"type", kind})


def _output(choice: Mapping[str, Any]) -> Message:
    inner = choice.get("message")
    converted: Message = message(inner) if inner is not None else {"role": "assistant", "parts": []}
    if converted["role"] != "assistant" and not accessors.fields(inner).get("role"):
        converted["role"] = "assistant"
    if not converted["parts"]:
        # Response of the legacy completions endpoint.
        converted["parts"] = [*map(content_part, accessors.listed(choice.get("text")))]
    reason = _reason(choice)
    if reason:
        converted["finish_reason"] = MESSAGE_REASONS.get(reason, reason)
    return add_rest(converted, choice, _CHOICE_FIELDS)


def _reason(choice: Mapping[str, Any]) -> str | None:
    reason = accessors.text(choice.get("finish_reason"))
    return None if reason is None else _FINISH_REASONS.get(reason, reason)


def _usage_of(response: Mapping[str, Any], choices: list[Mapping[str, Any]]) -> object:
    """Return the usage, which Groq's streams have in ``x_groq`` and Moonshot's in the choice."""
    others = (one.get("usage") for one in (accessors.fields(response.get("x_groq")), *choices))
    return next((one for one in (response.get("usage"), *others) if not json_codec.is_absent(one)), None)


def _add_excluded_reasoning(usage: Usage) -> None:
    """Add reasoning tokens to the output if the total says that they are not part of it (xAI)."""
    counts = usage.counts
    sent, received, reasoning, total = (
        counts.get(name, 0)
        for name in (
            semconv.USAGE_INPUT_TOKENS, semconv.USAGE_OUTPUT_TOKENS, semconv.USAGE_REASONING,
            semconv.USAGE_TOTAL_TOKENS,
        )
    )  # fmt: skip
    if reasoning and total == sent + received + reasoning:
        counts[semconv.USAGE_OUTPUT_TOKENS] = received + reasoning


def _add_choice_fields(choices: list[Mapping[str, Any]], attributes: Attributes, *, content: bool) -> None:
    native = [accessors.text(choice.get("native_finish_reason")) or "" for choice in choices]
    given = [accessors.text(choice.get("finish_reason")) or "" for choice in choices]
    if not any(native) and not _FINISH_REASONS.keys().isdisjoint(given):
        native = given
    if any(native):
        attributes[semconv.RESPONSE_NATIVE_FINISH_REASONS] = native
    if content:
        logprobs = [choice.get("logprobs") for choice in choices]
        if not all(map(json_codec.is_absent, logprobs)):
            attributes[semconv.RESPONSE_LOGPROBS] = to_json_string(logprobs)


OPENAI_CHAT: Final = OpenAIChat()
