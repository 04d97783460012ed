"""xAI's gRPC API (``xai_api.Chat``), in the JSON form of its protocol buffers, with the field names of the schema.

A message may also be given as it is on the wire: ``{"proto": "<bytes as Latin-1>"}``.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from spancast.diagnostics import counters
from spancast.dialects import accessors
from spancast.dialects.content import only_text
from spancast.dialects.error_body import http_error_attributes
from spancast.dialects.openai_chat.translated import TranslatedChat
from spancast.model import json_codec, semconv
from spancast.model.call import Attributes

_OBJECT: Final = frozenset({dict})
_REQUEST: Final = "xai_api.GetCompletionsRequest"
_RESPONSE: Final = "xai_api.GetChatCompletionResponse"
_CHUNK: Final = "xai_api.GetChatCompletionChunk"
_FINISH_REASONS: Final = {
    "REASON_STOP": "stop",
    "REASON_MAX_LEN": "length",
    "REASON_MAX_CONTEXT": "length",
    "REASON_TIME_LIMIT": "length",
    "REASON_TOOL_CALLS": "tool_calls",
    "REASON_INVALID": "error",
}
_ROLE: Final = "ROLE_"
_PREFIXES: Final = {
    "reasoning_effort": "EFFORT_",
    "service_tier": "SERVICE_TIER_",
    "format_type": "FORMAT_TYPE_",
    "mode": "TOOL_MODE_",
    "role": _ROLE,
    "detail": "DETAIL_",
    "type": "TOOL_CALL_TYPE_",
    "status": "TOOL_CALL_STATUS_",
}
_USAGE: Final = {"cached_prompt_text_tokens": "cached_tokens"}
_DETAILS: Final = {"prompt_text_tokens": "text_tokens", "prompt_image_tokens": "image_tokens"}
_OWN_TOOLS: Final = frozenset({"client_side_tool", "invalid"})
"""Types of calls of tools that the caller runs."""
_PAIR: Final = 2
_OTHERS_CACHED: Final = 64
_FIRST_TAG: Final = 0x0A
"""The tag of field 1 with a length: the messages of a request, the content of a message, its text."""
_ROLE_TAG: Final = 0x10
"""The tag of field 2 with a number: the role of a message."""


class _XaiChat(TranslatedChat):
    """The dialect; stateless."""

    __slots__ = ()

    name: str = "xai_chat"
    provider: str = "x_ai"
    answers: str | None = "spancast.dialects.xai.answers:CHAT"

    def translated_request(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a request as that of Chat Completions."""
        body = _decoded(body, _REQUEST)
        translated = {name: _word(name, value) for name, value in body.items()}
        translated["messages"] = [
            item if type(item) in _OBJECT and type(item.get("content")) is str else _message(item)
            for item in accessors.items(body.get("messages"))
        ]
        if tools := accessors.items(body.get("tools")):
            translated["tools"] = [tool if "type" in tool else _tool(tool) for tool in map(accessors.fields, tools)]
        if (choice := body.get("tool_choice")) is not None:
            translated["tool_choice"] = _tool_choice(accessors.fields(choice))
        if (form := body.get("response_format")) is not None:
            translated["response_format"] = _response_format(accessors.fields(form))
        return translated

    def translated_response(self, response: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a complete response as that of Chat Completions."""
        return _answer(_decoded(response, _RESPONSE), "message")

    def translated_chunk(self, chunk: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return a chunk of a stream as that of Chat Completions."""
        return _answer(_decoded(chunk, _CHUNK), "delta")

    def completed(self, response: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return ``response``: the API has a finish reason of its own for tool calls."""
        return response

    def error_attributes(self, error: BaseException) -> Attributes:
        """Return the name of the gRPC status as ``error.type``."""
        code = getattr(error, "code", None)
        name = getattr(code(), "name", None) if callable(code) else None
        return {semconv.ERROR_TYPE: name} if isinstance(name, str) else http_error_attributes(error)


def _decoded(message: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the JSON form of a message that is given as on the wire; empty, and counted, if it is damaged."""
    wire = message.get("proto")
    if not isinstance(wire, str):
        return message
    # protobuf comes with the OTLP exporter; the SDK has registered its messages.
    from google.protobuf import descriptor_pool, message_factory  # noqa: PLC0415 - few users need it
    from google.protobuf.message import DecodeError  # noqa: PLC0415

    try:
        kind: Any = message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(name))
        data = wire.encode("latin-1")
        if name != _REQUEST:
            return {**_to_json(kind.FromString(data)), **_without_proto(message)}
        messages, rest = _split(data, kind)
        others = _others_of(rest, kind)
    except (KeyError, IndexError, ValueError, DecodeError):
        counters.add("internal_errors")
        return {}
    return {**others, "messages": [*messages, *others.get("messages", ())], **_without_proto(message)}


def _to_json(proto: Any) -> dict[str, Any]:  # noqa: ANN401 - a protocol buffer
    from google.protobuf import json_format  # noqa: PLC0415 - as above

    return json_format.MessageToDict(proto, preserving_proto_field_name=True)


@functools.lru_cache(_OTHERS_CACHED)
def _others_of(wire: bytes, kind: Any) -> dict[str, Any]:  # noqa: ANN401 - a class of protocol buffers
    """Return tools and parameters, which are the same in most requests of a program."""
    found = _to_json(kind.FromString(wire))
    if tools := found.get("tools"):
        found["tools"] = [_tool(tool) for tool in tools]
    return found


def _split(data: bytes, kind: Any) -> tuple[list[dict[str, Any]], bytes]:  # noqa: ANN401 - a class of protocol buffers
    """Return the messages at the start of a request, and its other fields as on the wire.

    A message of one text and a role, as most are, is that of Chat Completions. It is read from its bytes: the
    conversion to JSON takes 30 microseconds per message, and to ask its object for its fields takes four.
    """
    message_kind, roles = _messages_of(kind)
    messages: list[dict[str, Any]] = []
    at, length = 0, len(data)
    while at < length and data[at] == _FIRST_TAG:
        size, start = _varint(data, at + 1)
        at = start + size
        head = _head_of(size)
        if (
            head is not None
            and data.startswith(head, start)
            and data[at - 2] == _ROLE_TAG
            and (role := roles.get(data[at - 1]))
        ):
            messages.append({"role": role, "content": data[start + len(head) : at - 2].decode()})
        else:
            messages.append(_to_json(message_kind.FromString(data[start:at])))
    return messages, data[at:]


@functools.lru_cache(4096)
def _head_of(size: int) -> bytes | None:
    """Return what comes before the text in a message of ``size`` bytes that has one text and a role."""
    for around in (6, 7, 8, 9, 10):
        text = size - around
        if text > 0 and len(head := _field(text + len(_field(text))) + _field(text)) + 2 == around:
            return head
    return None


def _field(size: int) -> bytes:
    """Return tag and length of field 1 with ``size`` bytes."""
    encoded = bytearray([_FIRST_TAG])
    while size > 127:  # noqa: PLR2004 - seven bits per byte
        encoded.append(size & 127 | 128)
        size >>= 7
    encoded.append(size)
    return bytes(encoded)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at ``at`` and the place after it."""
    value = data[at]
    if value < 128:  # noqa: PLR2004 - seven bits per byte
        return value, at + 1
    value, shift = value - 128, 7
    while (byte := data[at := at + 1]) > 127:  # noqa: PLR2004 - more follow
        value |= (byte - 128) << shift
        shift += 7
    return value | byte << shift, at + 1


@functools.lru_cache(1)
def _messages_of(kind: Any) -> tuple[Any, Mapping[int, str]]:  # noqa: ANN401 - a class of protocol buffers
    """Return the class of the messages of a request, and the roles by number."""
    from google.protobuf import message_factory  # noqa: PLC0415 - as above

    message = kind.DESCRIPTOR.fields_by_name["messages"].message_type
    roles = message.fields_by_name["role"].enum_type.values_by_number
    return (
        message_factory.GetMessageClass(message),
        {number: str(_word("role", value.name)) for number, value in roles.items()},
    )


def _without_proto(message: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name != "proto"}


def _word(name: str, value: object) -> object:
    """Return the value of an enumeration in lower case, without the name of its type."""
    prefix = _PREFIXES.get(name)
    return value.removeprefix(prefix).lower() if prefix is not None and isinstance(value, str) else value


def _message(value: Any) -> object:  # noqa: ANN401 - wire JSON
    """Return a message as that of Chat Completions."""
    if (
        type(value) in _OBJECT
        and len(value) == _PAIR
        and (text := only_text(value.get("content")))
        and type(role := value.get("role")) is str
    ):
        return {"role": role.removeprefix(_ROLE).lower(), "content": text}
    fields = accessors.fields(value)
    content = accessors.items(fields.get("content"))
    role = _word("role", fields.get("role"))
    translated = {name: item for name, item in fields.items() if name not in ("content", "tool_calls", "role")}
    translated["role"] = role
    parts = [_part(accessors.fields(item)) for item in content]
    texts = [part["text"] for part in parts if part.get("type") == "text"]
    translated["content"] = texts[0] if len(parts) == len(texts) == 1 else parts or None
    return _with_calls(translated, fields)


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    if "text" in part:
        return {"type": "text", **part}
    image = accessors.fields(part.get("image_url"))
    if url := image.get("image_url"):
        inner = {name: _word(name, image[name]) for name in image if name != "image_url"}
        return {"type": "image_url", "image_url": {"url": url, **inner}}
    kind = next(iter(part), "unknown")
    inner = {"file_data" if name == "data" else name: value for name, value in accessors.fields(part.get(kind)).items()}
    return {"type": "file", "file": inner} if kind == "file" or inner else {"type": kind}


def _with_calls(message: dict[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Add the tool calls; those of tools that xAI runs are parts of the content, as the conventions have it."""
    calls = [accessors.fields(call) for call in accessors.items(fields.get("tool_calls"))]
    own = [call for call in calls if str(_word("type", call.get("type") or "invalid")) in _OWN_TOOLS]
    if own:
        message["tool_calls"] = [{name: call[name] for name in call if name not in ("type", "status")} for call in own]
    if len(own) < len(calls):
        text = message.get("content")
        given = [{"type": "text", "text": text}] if isinstance(text, str) and text else accessors.items(text)
        message["content"] = [*map(_server_call, [call for call in calls if call not in own]), *given]
    return message


def _server_call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = accessors.fields(call.get("function"))
    arguments = function.get("arguments")
    decoded = json_codec.decode(arguments) if isinstance(arguments, str) and arguments else None
    kind = str(_word("type", call.get("type"))).removesuffix("_tool")
    details = {"type": kind, "arguments": arguments if decoded is None else decoded}
    details |= {name: _word(name, call[name]) for name in call if name not in ("id", "type", "function")}
    call_id, name = accessors.text(call.get("id")), accessors.text(function.get("name")) or ""
    return {"type": "server_tool_call", "id": call_id, "name": name, "server_tool_call": details}


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    kind = next(iter(tool), "function")
    inner = dict(accessors.fields(tool.get(kind)))
    if isinstance(parameters := inner.get("parameters"), str):
        decoded = json_codec.decode(parameters)
        inner["parameters"] = parameters if decoded is None else decoded
    return {"type": kind, kind: inner}


def _tool_choice(choice: Mapping[str, Any]) -> object:
    if name := choice.get("function_name"):
        return {"type": "function", "function": {"name": name}}
    return _word("mode", choice.get("mode"))


def _response_format(form: Mapping[str, Any]) -> dict[str, Any]:
    kind, schema = _word("format_type", form.get("format_type")), form.get("schema")
    decoded = json_codec.decode(schema) if isinstance(schema, str) else None
    return {"type": kind, **({"json_schema": schema if decoded is None else decoded} if schema else {})}


def _answer(response: Mapping[str, Any], holder: str) -> Mapping[str, Any]:
    outputs = response.get("outputs")
    if outputs is None:
        return response
    translated = {name: _word(name, value) for name, value in response.items() if name not in ("outputs", "usage")}
    if (created := _seconds(response.get("created"))) is not None:
        translated["created"] = created
    if (usage := response.get("usage")) is not None:
        translated["usage"] = _usage(accessors.fields(usage))
    choices = [_choice(accessors.fields(output), holder) for output in accessors.items(outputs)]
    return {**translated, "choices": choices}


def _choice(output: Mapping[str, Any], holder: str) -> dict[str, Any]:
    given = accessors.fields(output.get(holder))
    message = {name: _word(name, given[name]) for name in given if name != "tool_calls"}
    choice: dict[str, Any] = {"index": accessors.count(output.get("index")) or 0, holder: _with_calls(message, given)}
    reason = output.get("finish_reason")
    if isinstance(reason, str):
        choice |= {"finish_reason": _FINISH_REASONS.get(reason, reason), "native_finish_reason": reason}
    if (logprobs := output.get("logprobs")) is not None:
        choice["logprobs"] = logprobs
    return choice


def _usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    found = {_USAGE.get(name, name): value for name, value in usage.items() if name not in _DETAILS}
    details = {canonical: usage[name] for name, canonical in _DETAILS.items() if name in usage}
    # 64-bit numbers are texts in the JSON form.
    if isinstance(ticks := usage.get("cost_in_usd_ticks"), str) and ticks.isdecimal():
        found["cost_in_usd_ticks"] = int(ticks)
    return {**found, "prompt_tokens_details": details} if details else found


def _seconds(created: object) -> int | None:
    try:
        return int(datetime.fromisoformat(created).timestamp()) if isinstance(created, str) else None
    except ValueError:
        return None


XAI_CHAT: Final = _XaiChat()
