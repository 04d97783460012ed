"""Anthropic Messages (``POST /v1/messages``), used by Anthropic and OpenRouter.

``stop_reason`` is recorded three times: in OpenRouter's values on the attribute (``stop``, ``length``,
``tool_calls``, ``content_filter``), in those of the message schema in the message (``tool_call``), and
unchanged in ``spancast.response.native_finish_reasons``. Common values allow one filter for all dialects.
Anthropic's ``input_tokens`` excludes cached tokens; the attribute includes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from spancast.dialects import accessors, parameters
from spancast.dialects.anthropic_messages.blocks import content_parts, input_messages
from spancast.dialects.anthropic_messages.stream import MessagesStream
from spancast.dialects.content import text_part
from spancast.dialects.error_body import error_attributes, read_failure
from spancast.dialects.finish import output_messages
from spancast.dialects.parameters import Range, Row
from spancast.dialects.protocol import Dialect
from spancast.dialects.sanitize import public_url, to_json_data
from spancast.dialects.usage import Table, Usage, read_usage
from spancast.model import json_codec, semconv
from spancast.model.call import Attributes, Message, Request, Response

_PARAMETERS: Final[Mapping[str, Row]] = {
    "max_tokens": Row(semconv.REQUEST_MAX_TOKENS, parameters.integer),
    "temperature": Row(semconv.REQUEST_TEMPERATURE, parameters.number),
    "top_p": Row(semconv.REQUEST_TOP_P, parameters.number),
    "top_k": Row(semconv.REQUEST_TOP_K, parameters.integer),
    "stop_sequences": Row(semconv.REQUEST_STOP_SEQUENCES, parameters.string_list),
    "stream": Row(semconv.REQUEST_STREAM, parameters.true_flag),
}
_RANGES: Final[Mapping[str, Range]] = {
    "temperature": Range(0, 1),
    "top_p": Range(0, 1),
    "top_k": Range(0),
    "max_tokens": Range(1),
}
_READ_SEPARATELY: Final = frozenset(
    {"mcp_servers", "messages", "model", "output_config", "output_format", "system", "tools"}
)
_TRACE_KEYS: Final = frozenset({"metadata", "session_id", "trace", "user"})
_SKIPPED: Final = _READ_SEPARATELY | _TRACE_KEYS

_FORMAT: Final = semconv.REQUEST + "response_format"
"""The attribute of ``output_config.format``, whose schema may quote content."""

_FIELDS: Final[Mapping[str, Row]] = {
    "type": Row(semconv.RESPONSE_OBJECT, parameters.text),
    "provider": Row(semconv.RESPONSE_PROVIDER, parameters.text),
    "openrouter_metadata": Row(semconv.RESPONSE + "openrouter_metadata", parameters.json_attribute),
}
# ``stop_sequence`` quotes content of the request, so it is part of the message.
_NOT_FIELDS: Final = frozenset(
    {"content", "error", "id", "model", "role", "stop_details", "stop_reason", "stop_sequence", "usage"}
)

_USAGE: Final[Table] = {
    "input_tokens": semconv.USAGE_INPUT_TOKENS,
    "output_tokens": semconv.USAGE_OUTPUT_TOKENS,
    "cache_read_input_tokens": semconv.USAGE_CACHE_READ,
    "cache_creation_input_tokens": semconv.USAGE_CACHE_WRITE,
    "output_tokens_details": {
        "thinking_tokens": semconv.USAGE_REASONING,
    },
}

_FINISH_REASONS: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


class _AnthropicMessages(Dialect):
    """The dialect; stateless."""

    __slots__ = ()

    name: str = "anthropic_messages"
    provider: str = "anthropic"
    is_shared: bool = True
    end_marker: str | None = "[DONE]"
    last_events: frozenset[str] = frozenset({"message_stop"})
    answers: str | None = "spancast.dialects.anthropic_messages.answers:ANSWERS"

    def read_request(self, body: Mapping[str, Any], *, content: bool) -> Request:
        """Read a request body; ``system`` is separate from the messages, as in the request."""
        attributes = parameters.read_parameters(body, _PARAMETERS, _SKIPPED)
        _add_output_config(attributes, body, content=content)
        if servers := accessors.items(body.get("mcp_servers")):
            attributes[semconv.REQUEST + "mcp_servers"] = json_codec.encode([_server(server) for server in servers])
        return Request(
            model=accessors.text(body.get("model")),
            stream=body.get("stream") is True,
            messages=input_messages(body.get("messages")) if content else [],
            system_instructions=content_parts(body.get("system")) if content else [],
            tools=[_tool(tool) for tool in accessors.items(body.get("tools"))] if content else [],
            attributes=attributes,
            validation_errors=parameters.out_of_range(body, _RANGES),
        )

    def read_response(self, response: object, *, content: bool) -> Response:
        """Read a complete response; a string is one assistant message."""
        if isinstance(response, str):
            return Response(messages=output_messages([text_part(response)], None) if content and response else [])
        return read_body(accessors.fields(response), content=content)

    def new_stream(self, *, content: bool) -> MessagesStream:
        """Return a reader for one stream."""
        return MessagesStream(read_body, content=content)


ANTHROPIC_MESSAGES: Final = _AnthropicMessages()


def read_body(response: Mapping[str, Any], *, content: bool, is_cut: bool = False) -> Response:
    """Read a ``message`` object or an error envelope; ``is_cut``: its stream ended without a stop reason."""
    failure = read_failure(response.get("error"), response, is_failed=response.get("type") == "error")
    native = accessors.text(response.get("stop_reason"))
    reason = _FINISH_REASONS.get(native, native) if native else None
    if failure is not None or is_cut:
        reason = "error"
    usage = read_usage(response.get("usage"), _USAGE)
    _include_cache(usage)
    _include_compaction(usage, accessors.fields(response.get("usage")).get("iterations"))
    attributes = parameters.read_fields(response, _FIELDS, _NOT_FIELDS, nested="stop_reason" in response)
    attributes.update(usage.attributes)
    attributes.update(error_attributes(response.get("error"), failure))
    if native is not None:
        attributes[semconv.RESPONSE_NATIVE_FINISH_REASONS] = [native]
    if category := accessors.text(accessors.fields(response.get("stop_details")).get("category")):
        attributes[semconv.RESPONSE + "stop_details.category"] = category
    return Response(
        id=accessors.text(response.get("id")),
        model=accessors.text(response.get("model")),
        finish_reasons=[reason] if reason else [],
        messages=_messages(response, reason) if content else [],
        usage=usage.counts,
        attributes=attributes,
        failure=failure,
    )


def _messages(response: Mapping[str, Any], reason: str | None) -> list[Message]:
    parts = content_parts(response.get("content"))
    messages = output_messages(parts, reason, role=accessors.text(response.get("role")) or "assistant")
    for message in messages:
        for name in ("stop_sequence", "stop_details"):
            if not json_codec.is_absent(response.get(name)):
                message[name] = to_json_data(response[name])
    return messages


def _include_cache(usage: Usage) -> None:
    """Add cached tokens to the input total, as the Anthropic convention for ``gen_ai.usage.input_tokens`` requires."""
    counts = usage.counts
    if semconv.USAGE_INPUT_TOKENS in counts:
        cached = counts.get(semconv.USAGE_CACHE_READ, 0) + counts.get(semconv.USAGE_CACHE_WRITE, 0)
        counts[semconv.USAGE_INPUT_TOKENS] += cached


def _include_compaction(usage: Usage, iterations: object) -> None:
    """Add the tokens of compactions, which are billed but not part of the other counts."""
    for entry in map(accessors.fields, accessors.items(iterations)):
        if entry.get("type") == "compaction":
            billed = read_usage({name: value for name, value in entry.items() if name in _USAGE}, _USAGE)
            _include_cache(billed)
            for name, count in billed.counts.items():
                usage.counts[name] = usage.counts.get(name, 0) + count


def _add_output_config(attributes: Attributes, body: Mapping[str, Any], *, content: bool) -> None:
    given = body.get("output_config")
    config = {} if json_codec.is_absent(given) else dict(accessors.fields(given))
    effort = accessors.text(config.get("effort"))
    if effort is not None:
        attributes[semconv.REQUEST_REASONING_LEVEL] = config.pop("effort")
    # ``output_format`` is the beta's name, ``format_`` that of the openrouter SDK's model.
    found = (config.pop("format", None), config.pop("format_", None), body.get("output_format"))
    output_format = next((value for value in found if not json_codec.is_absent(value)), None)
    if output_format is not None:
        kind = accessors.text(accessors.fields(output_format).get("type"))
        attributes[semconv.OUTPUT_TYPE] = "text" if kind == "text" else "json"
        if content:
            attributes[_FORMAT] = parameters.json_attribute(output_format)
    rest = {key: value for key, value in config.items() if not json_codec.is_absent(value)}
    if rest:
        attributes[semconv.REQUEST + "output_config"] = parameters.json_attribute(rest)


def _server(value: object) -> Any:  # noqa: ANN401 - JSON has any shape
    server = to_json_data(value)
    if not isinstance(server, dict):
        return server
    fields: dict[str, Any] = server  # pyright: ignore[reportUnknownVariableType]
    return {**fields, "url": public_url(fields.get("url"))}


def _tool(value: object) -> dict[str, Any]:
    """Return a tool definition: custom tools as functions with their schema by reference, server tools as a copy."""
    tool = accessors.fields(value)
    kind = accessors.text(tool.get("type")) or "custom"
    name = accessors.text(tool.get("name")) or accessors.text(tool.get("mcp_server_name")) or kind
    if kind != "custom":
        return {**to_json_data(dict(tool)), "type": kind, "name": name}
    kept = {
        key: item
        for key, item in tool.items()
        if key not in ("input_schema", "type") and not json_codec.is_absent(item)
    }
    definition: dict[str, Any] = {"type": "function", **kept, "name": name}
    schema = tool.get("input_schema")
    if not json_codec.is_absent(schema):
        definition["parameters"] = schema
    return definition
