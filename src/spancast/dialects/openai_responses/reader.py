"""OpenAI Responses (``POST /responses``), used by OpenAI, Azure and OpenRouter.

The API has a status instead of finish reasons, so the reason is derived from it. The attribute
has OpenRouter's values (``stop``, ``length``, ``tool_calls``, ``content_filter``, ``error``), the
message those of the message schema (``tool_call``). The API's own value is kept as well.
Request parameters that the response repeats are not recorded again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from spancast.dialects import accessors, parameters
from spancast.dialects.content import text_part
from spancast.dialects.error_body import error_attributes, read_failure
from spancast.dialects.finish import output_messages
from spancast.dialects.openai_responses.items import (
    awaits_caller,
    content_parts,
    input_messages,
    item_parts,
    logprobs,
    output_parts,
    output_role,
)
from spancast.dialects.openai_responses.stream import ResponsesStream
from spancast.dialects.parameters import Range, Row
from spancast.dialects.protocol import RESPONSE_ID, Dialect
from spancast.dialects.sanitize import public_url, to_json_data
from spancast.dialects.usage import Table, read_usage
from spancast.model import json_codec, semconv
from spancast.model.call import Attributes, MessagePart, Request, Response


def _cursor(value: object) -> str | None:
    """Read the number of the last event received, which the convention has as text."""
    number = accessors.count(value)
    return accessors.text(value) if number is None else str(number)


_PARAMETERS: Final[Mapping[str, Row]] = {
    "temperature": Row(semconv.REQUEST_TEMPERATURE, parameters.number),
    "top_p": Row(semconv.REQUEST_TOP_P, parameters.number),
    "top_k": Row(semconv.REQUEST_TOP_K, parameters.integer),
    "seed": Row(semconv.REQUEST_SEED, parameters.integer),
    "stop": Row(semconv.REQUEST_STOP_SEQUENCES, parameters.string_list),
    "max_output_tokens": Row(semconv.REQUEST_MAX_TOKENS, parameters.integer),
    "frequency_penalty": Row(semconv.REQUEST_FREQUENCY_PENALTY, parameters.number),
    "presence_penalty": Row(semconv.REQUEST_PRESENCE_PENALTY, parameters.number),
    "previous_response_id": Row(semconv.REQUEST_PREVIOUS_RESPONSE_ID, parameters.text),
    "service_tier": Row(semconv.OPENAI_REQUEST_SERVICE_TIER, parameters.service_tier),
    "stream": Row(semconv.REQUEST_STREAM, parameters.true_flag),
}
_FETCH_PARAMETERS: Final[Mapping[str, Row]] = {
    RESPONSE_ID: Row(semconv.RESPONSE_ID, parameters.text),
    "starting_after": Row(semconv.REQUEST_STREAM_CURSOR, _cursor),
    "stream": _PARAMETERS["stream"],
}
_RANGES: Final[Mapping[str, Range]] = {
    "temperature": Range(0, 2),
    "top_p": Range(0, 1),
    "top_logprobs": Range(0, 20),
    "max_output_tokens": Range(1),
}
_READ_SEPARATELY: Final = frozenset({"input", "instructions", "model", "reasoning", "tools"})
_TRACE_KEYS: Final = frozenset({"metadata", "session_id", "trace", "user"})
_SKIPPED: Final = _READ_SEPARATELY | _TRACE_KEYS

_MODALITIES: Final = {"audio": "speech", "image": "image"}
_OUTPUT_TYPES: Final = {"text": "text", "json_object": "json", "json_schema": "json"}

_FIELDS: Final[Mapping[str, Row]] = {
    "created_at": Row(semconv.RESPONSE_CREATED, parameters.integer),
    "completed_at": Row(semconv.RESPONSE + "completed_at", parameters.integer),
    "object": Row(semconv.RESPONSE_OBJECT, parameters.text),
    "status": Row(semconv.RESPONSE + "status", parameters.text),
    "provider": Row(semconv.RESPONSE_PROVIDER, parameters.text),
    "service_tier": Row(semconv.OPENAI_RESPONSE_SERVICE_TIER, parameters.text),
    "system_fingerprint": Row(semconv.OPENAI_RESPONSE_SYSTEM_FINGERPRINT, parameters.text),
    "openrouter_metadata": Row(semconv.RESPONSE + "openrouter_metadata", parameters.json_attribute),
}
_REPEATED: Final = frozenset(
    {
        *_PARAMETERS.keys() - {"service_tier"},
        *_SKIPPED,
        "background",
        "conversation",
        "max_tool_calls",
        "parallel_tool_calls",
        "prompt",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "store",
        "text",
        "tool_choice",
        "top_logprobs",
        "truncation",
    }
)
# ``output_text`` is a copy of the content, added by the SDKs.
_NOT_FIELDS: Final = _REPEATED | {"error", "id", "incomplete_details", "output", "output_text", "usage"}

_USAGE: Final[Table] = {
    "input_tokens": semconv.USAGE_INPUT_TOKENS,
    "output_tokens": semconv.USAGE_OUTPUT_TOKENS,
    "total_tokens": semconv.USAGE_TOTAL_TOKENS,
    "input_tokens_details": {
        "cached_tokens": semconv.USAGE_CACHE_READ,
        "cache_write_tokens": semconv.USAGE_CACHE_WRITE,
        "audio_tokens": semconv.USAGE_AUDIO_INPUT,
        "image_tokens": semconv.USAGE_IMAGE_INPUT,
        "text_tokens": semconv.USAGE_TEXT_INPUT,
    },
    "output_tokens_details": {
        "reasoning_tokens": semconv.USAGE_REASONING,
        "audio_tokens": semconv.USAGE_AUDIO_OUTPUT,
        "image_tokens": semconv.USAGE_IMAGE_OUTPUT,
        "text_tokens": semconv.USAGE_TEXT_OUTPUT,
    },
}

_INCOMPLETE_REASONS: Final = {
    "max_output_tokens": "length",
    "max_tokens": "length",
    "max_messages": "length",
    "content_filter": "content_filter",
    "steered": "stop",
}


_COMPACTION: Final = "response.compaction"
"""The ``object`` of an answer of ``/responses/compact``, which has no status."""


class OpenAIResponses(Dialect):
    """The dialect; stateless."""

    __slots__ = ()

    name: str = "openai_responses"
    provider: str = "openai"
    is_shared: bool = True
    is_stored: bool = True
    end_marker: str | None = "[DONE]"
    last_events: frozenset[str] = frozenset(
        {"response.completed", "response.incomplete", "response.failed", "response.cancelled"}
    )
    answers: str | None = "spancast.dialects.openai_responses.answers:ANSWERS"

    def read_request(self, body: Mapping[str, Any], *, content: bool) -> Request:
        """Read a request body; ``input`` has the messages, ``instructions`` the system instructions."""
        attributes = parameters.read_parameters(body, _PARAMETERS, _SKIPPED)
        attributes[semconv.OPENAI_API_TYPE] = "responses"
        _add_reasoning(attributes, body.get("reasoning"))
        _add_output_type(attributes, body)
        _add_conversation(attributes, body.get("conversation"))
        _add_prompt(attributes, accessors.fields(body.get("prompt")))
        return Request(
            model=accessors.text(body.get("model")),
            stream=body.get("stream") is True,
            messages=input_messages(body.get("input")) if content else [],
            system_instructions=_instructions(body.get("instructions")) if content else [],
            tools=_tools(body) if content else [],
            attributes=attributes,
            validation_errors=parameters.out_of_range(body, _RANGES),
        )

    def read_response(self, response: object, *, content: bool) -> Response:
        """Read a complete response; a string is one assistant message."""
        if isinstance(response, str):
            return Response(messages=output_messages([text_part(response)], None) if content and response else [])
        return read_body(accessors.fields(response), content=content)

    def new_stream(self, *, content: bool) -> ResponsesStream:
        """Return a reader for one stream."""
        return ResponsesStream(read_body, content=content)

    def is_background(self, body: Mapping[str, Any]) -> bool:
        """Return whether the request asks for a response in the background."""
        return body.get("background") is True


OPENAI_RESPONSES: Final = OpenAIResponses()


class _FetchedResponse(OpenAIResponses):
    """``GET /responses/<id>``: the response of an earlier call, whole or as the rest of its stream."""

    __slots__ = ()

    name: str = "openai_fetched_response"
    operation: str = semconv.FETCH_RESPONSE
    answers: str | None = None

    def read_request(self, body: Mapping[str, Any], *, content: bool) -> Request:  # noqa: ARG002 - there is none
        """Read the id and the query of a request."""
        attributes = parameters.read_parameters(body, _FETCH_PARAMETERS, _TRACE_KEYS)
        attributes[semconv.OPENAI_API_TYPE] = "responses"
        return Request(model=None, stream=body.get("stream") is True, attributes=attributes)

    def read_response(self, response: object, *, content: bool) -> Response:
        """Read a response that may still be in progress."""
        return _read_fetched(accessors.fields(response), content=content)

    def new_stream(self, *, content: bool) -> ResponsesStream:
        """Return a reader for the rest of a stream."""
        return ResponsesStream(_read_fetched, content=content)

    def span_name(self, model: str | None) -> str:  # noqa: ARG002 - its request has none
        """Return the name of the operation, as the convention requires."""
        return self.operation


OPENAI_FETCHED_RESPONSE: Final = _FetchedResponse()


def _read_fetched(response: Mapping[str, Any], *, content: bool, is_cut: bool = False) -> Response:
    """Read a fetched response, which has its instructions and tools, but not its input."""
    read = read_body(response, content=content, is_cut=is_cut)
    read.attributes.pop(semconv.RESPONSE + "status", None)
    if status := accessors.text(response.get("status")):
        read.attributes[semconv.RESPONSE_STATUS] = status
    if content:
        read.prompt_messages, read.system_instructions = [], _instructions(response.get("instructions"))
        read.tools = _tools(response)
    return read


def read_body(response: Mapping[str, Any], *, content: bool, is_cut: bool = False) -> Response:
    """Read a ``response`` object; ``is_cut``: its stream ended before the terminal event."""
    output = response.get("output")
    failure = read_failure(response.get("error"), response, is_failed=response.get("status") == "failed")
    usage = read_usage(response.get("usage"), _USAGE)
    details = accessors.fields(response.get("incomplete_details"))
    native = accessors.text(details.get("reason"))
    reason = "error" if is_cut else _finish_reason(response, native, has_failed=failure is not None)
    attributes = parameters.read_fields(response, _FIELDS, _NOT_FIELDS, nested="output" in response)
    attributes.update(usage.attributes)
    attributes.update(error_attributes(response.get("error"), failure))
    if native is not None:
        attributes[semconv.RESPONSE_NATIVE_FINISH_REASONS] = [native]
    if rest := {name: value for name, value in details.items() if name != "reason" and not json_codec.is_absent(value)}:
        attributes[semconv.RESPONSE + "incomplete_details"] = parameters.json_attribute(rest)
    if content and (values := logprobs(output)):
        attributes[semconv.RESPONSE_LOGPROBS] = json_codec.encode(values)
    prompt = accessors.fields(response.get("prompt"))
    if prompt:
        _add_prompt(attributes, prompt)
        set_by_prompt = {name: response.get(name) for name in _PARAMETERS.keys() - {"service_tier", "stream"}}
        attributes.update(parameters.read_parameters(set_by_prompt, _PARAMETERS, frozenset()))
        _add_reasoning(attributes, response.get("reasoning"))
    has_prompt_content = content and bool(prompt)
    instructions = response.get("instructions") if has_prompt_content else None
    return Response(
        id=accessors.text(response.get("id")),
        model=accessors.text(response.get("model")),
        finish_reasons=[reason] if reason else [],
        messages=output_messages(output_parts(output), reason, role=output_role(output)) if content else [],
        usage=usage.counts,
        attributes=attributes,
        failure=failure,
        prompt_messages=input_messages(instructions) if not isinstance(instructions, str) else [],
        system_instructions=_instructions(instructions) if isinstance(instructions, str) else [],
        tools=_tools(response) if has_prompt_content else [],
    )


def _finish_reason(response: Mapping[str, Any], native: str | None, *, has_failed: bool) -> str | None:
    status, output = response.get("status"), response.get("output")
    if response.get("object") == _COMPACTION and not has_failed:
        return "compaction"
    if has_failed or status in ("failed", "cancelled"):
        return "error"
    if status == "incomplete":
        return _INCOMPLETE_REASONS.get(native, native) if native else "error"
    # Compatible servers may omit the status. Queued and running responses have no reason.
    if status == "completed" or (status is None and accessors.items(output)):
        return "tool_calls" if awaits_caller(output) else "stop"
    return None


def _add_reasoning(attributes: Attributes, reasoning: object) -> None:
    if json_codec.is_absent(reasoning):
        return
    config = {key: value for key, value in accessors.fields(reasoning).items() if not json_codec.is_absent(value)}
    effort = accessors.text(config.get("effort"))
    if effort is not None:
        attributes[semconv.REQUEST_REASONING_LEVEL] = effort
    # Other fields: summary, and OpenRouter's max_tokens, enabled, exclude.
    if len(config) > (effort is not None) or isinstance(reasoning, str):
        attributes[semconv.REQUEST + "reasoning"] = parameters.json_attribute(config or reasoning)


def _add_output_type(attributes: Attributes, body: Mapping[str, Any]) -> None:
    format_type = accessors.text(accessors.fields(accessors.fields(body.get("text")).get("format")).get("type"))
    modalities = accessors.items(body.get("modalities"))
    output_type = next((kind for name, kind in _MODALITIES.items() if name in modalities), None)
    if output_type is None and format_type is not None:
        output_type = _OUTPUT_TYPES.get(format_type, "text")
    if output_type is not None:
        attributes[semconv.OUTPUT_TYPE] = output_type


def _add_conversation(attributes: Attributes, conversation: object) -> None:
    """Add the id of a conversation stored by OpenAI, given as an id or an object.

    A session id of the caller overrides it later.
    """
    found = accessors.text(conversation) or accessors.text(accessors.fields(conversation).get("id"))
    if found is not None:
        attributes[semconv.CONVERSATION_ID] = found


def _add_prompt(attributes: Attributes, prompt: Mapping[str, Any]) -> None:
    """Add the names of a prompt that OpenAI stores; its variables are content."""
    for name, attribute in (("id", semconv.PROMPT_NAME), ("version", semconv.PROMPT_VERSION)):
        if value := accessors.text(prompt.get(name)):
            attributes[attribute] = value
    for name, value in accessors.fields(prompt.get("variables")).items():
        if not json_codec.is_absent(value):
            attributes[f"{semconv.PROMPT_VARIABLE}.{name}"] = parameters.json_attribute(value)


def _instructions(value: object) -> list[MessagePart]:
    if isinstance(value, str):
        return content_parts(value)
    return [part for item in accessors.items(value) for part in item_parts(item)]


def _tools(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [_tool(tool) for tool in accessors.items(body.get("tools"))]


def _tool(value: object) -> dict[str, Any]:
    """Return a tool definition: functions by reference, hosted tools as a copy without credentials."""
    tool = accessors.fields(value)
    kind = accessors.text(tool.get("type")) or "unknown"
    if kind == "function":
        definition = {key: item for key, item in tool.items() if not json_codec.is_absent(item)}
        return {**definition, "name": accessors.text(tool.get("name")) or ""}
    definition = to_json_data(dict(tool))
    if "server_url" in tool:
        definition["server_url"] = public_url(tool["server_url"])
    name = accessors.text(tool.get("name")) or accessors.text(tool.get("server_label")) or kind
    return {**definition, "type": kind, "name": name}
