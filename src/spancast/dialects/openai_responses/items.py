"""Conversion of request and response items of the Responses API to messages and parts.

Shapes: OpenAI's ``ResponseInputItem`` and ``ResponseOutputItem`` unions and OpenRouter's
``openrouter:*`` items; parts as in ``gen-ai-input-messages.json``.
No item is dropped: an unknown type becomes a generic part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from spancast.dialects import accessors
from spancast.dialects.content import (
    generic_part,
    media_part,
    reasoning_part,
    text_part,
    tool_call_part,
    tool_result_part,
)
from spancast.dialects.sanitize import add_rest, to_json_data, unknown_part
from spancast.model.call import Message, MessagePart

Fields = Mapping[str, Any]

_PREFIX: Final = "openrouter:"
_RESULTS: Final = frozenset({"output", "outputs", "results", "result", "error", "responses", "analysis"})
_MESSAGE_FIELDS: Final = frozenset({"type", "role", "content"})
_REASONING_FIELDS: Final = frozenset({"type", "summary", "content", "encrypted_content"})
_CALL_FIELDS: Final = frozenset({"type", "call_id", "name", "actions"})
_RESULT_FIELDS: Final = frozenset({"type", "call_id", "output", "result"})
_COMPACTION_FIELDS: Final = frozenset({"type", "id", "encrypted_content"})
_USUAL_STATUS: Final = frozenset({"completed", "in_progress"})
_PART_FIELDS: Final = frozenset(
    {
        "type", "text", "annotations", "logprobs", "refusal", "image_url", "file_id", "file_url", "file_data",
        "filename", "input_audio", "data", "format", "transcript",
    }
)  # fmt: skip
_USER_TYPES: Final = frozenset({None, "item_reference", "mcp_approval_response", "compaction_trigger"})

# Calls that the caller executes, each with the field of its arguments.
_CALLS: Final = {
    "function_call": "arguments",
    "custom_tool_call": "input",
    "computer_call": "action",
    "local_shell_call": "action",
    "shell_call": "action",
    "apply_patch_call": "operation",
}


def input_messages(value: object) -> list[Message]:
    """Return ``input`` as messages: a string is a user message, each item a message of its role.

    Consecutive reasoning and calls of the model are one assistant message, as in the response.
    """
    if isinstance(value, str):
        return [{"role": "user", "parts": [text_part(value)]}]
    messages: list[Message] = []
    continues = False
    for entry in accessors.items(value):
        item = _unwrap(entry)
        role, parts = _role(item), item_parts(entry)
        is_model_item = role == "assistant" and item.get("type") not in (None, "message")
        if is_model_item and continues:
            messages[-1]["parts"].extend(parts)
        else:
            messages.append({"role": role, "parts": parts})
        continues = is_model_item
    return messages


def output_parts(output: object) -> list[MessagePart]:
    """Return all items of ``output`` as parts of one message, in order."""
    return [part for item in accessors.listed(output) for part in item_parts(item)]


def output_role(output: object) -> str:
    """Return the role of the first message in ``output``; the API defines only ``assistant``."""
    roles = (accessors.text(_unwrap(item).get("role")) for item in accessors.listed(output))
    return next((role for role in roles if role), "assistant")


def awaits_caller(output: object) -> bool:
    """Return whether ``output`` has a call without result, which the caller must execute."""
    called: set[object] = set()
    for entry in accessors.listed(output):
        item = _unwrap(entry)
        kind = accessors.text(item.get("type")) or ""
        call_id = accessors.text(item.get("call_id"))
        if kind in _CALLS or (kind == "tool_search_call" and item.get("execution") == "client"):
            called.add(call_id)
        elif kind == "mcp_approval_request":
            called.add(accessors.text(item.get("id")))
        elif kind.endswith("_output"):
            called.discard(call_id)
    return bool(called)


def item_parts(value: object) -> list[MessagePart]:
    """Return one item as parts: a message has those of its content, a server tool up to two."""
    if isinstance(value, str):
        return [text_part(value)]
    item = _unwrap(value)
    kind = accessors.text(item.get("type")) or "message"
    if kind == "message":
        return _with_item(content_parts(item.get("content")), item, _MESSAGE_FIELDS)
    if kind == "reasoning":
        return _with_item(_reasoning(item), item, _REASONING_FIELDS)
    if kind not in _CALLS and (kind.endswith("_call") or kind.startswith(_PREFIX)):
        return _server_tool(kind, item)
    return [_item_part(kind, item)]


def _with_item(parts: list[MessagePart], item: Fields, known: frozenset[str]) -> list[MessagePart]:
    """Add the fields of an item that are not in ``known`` to its first part; its id is ``item_id`` there."""
    if not parts:
        # A message without content, perhaps an item of a type that this server does not name.
        rest = add_rest({}, item, known | {"id", "status"})
        return [unknown_part("message", item)] if rest else []
    if not item.keys() <= known:
        part = parts[0]
        if item_id := accessors.text(item.get("id")):
            part["item_id"] = item_id
        is_usual = accessors.text(item.get("status")) in _USUAL_STATUS
        add_rest(part, item, known | {"id", "status"} if is_usual else known | {"id"})
    return parts


def logprobs(output: object) -> list[Any]:
    """Return the log probabilities of each text part that has them."""
    contents = (part for item in accessors.items(output) for part in accessors.items(_unwrap(item).get("content")))
    return [to_json_data(values) for part in contents if (values := accessors.items(_unwrap(part).get("logprobs")))]


def content_parts(content: object) -> list[MessagePart]:
    """Return the content of a message: a string, or a list of typed parts."""
    if isinstance(content, str):
        return [text_part(content)]
    return [_content_part(part) for part in accessors.listed(content)]


def _item_part(kind: str, item: Fields) -> MessagePart:
    if kind in _CALLS:
        (part,) = _with_item([_call(kind, item)], item, _CALL_FIELDS | {_CALLS[kind]})
        return part
    if kind.endswith("_output"):
        result = tool_result_part(_id(item), _result(item.get("output", item.get("result"))))
        (part,) = _with_item([result], item, _RESULT_FIELDS)
        return part
    if kind == "compaction":
        return add_rest(generic_part(kind, id=accessors.text(item.get("id"))), item, _COMPACTION_FIELDS)
    return unknown_part(kind, item)


def _content_part(value: object) -> MessagePart:
    if isinstance(value, str):
        return text_part(value)
    part = _unwrap(value)
    kind = accessors.text(part.get("type")) or "unknown"
    reader = _CONTENT.get(kind)
    converted = reader(part) if reader is not None else None
    return unknown_part(kind, part) if converted is None else add_rest(converted, part, _PART_FIELDS)


def _text(part: Fields) -> MessagePart | None:
    content = part.get("text")
    if not isinstance(content, str):
        return None
    converted = text_part(content)
    annotations = accessors.items(part.get("annotations"))
    if annotations:
        converted["annotations"] = to_json_data(annotations)
    return converted


def _reasoning_text(part: Fields) -> MessagePart | None:
    content = part.get("text")
    return reasoning_part(content) if isinstance(content, str) else None


def _refusal(part: Fields) -> MessagePart | None:
    content = part.get("refusal")
    return generic_part("refusal", content=content) if isinstance(content, str) else None


def _image(part: Fields) -> MessagePart | None:
    return _media("image", url=part.get("image_url"), file_id=part.get("file_id"))


def _file(part: Fields) -> MessagePart | None:
    converted = _media("document", url=part.get("file_url"), data=part.get("file_data"), file_id=part.get("file_id"))
    if converted is not None and (name := accessors.text(part.get("filename"))):
        converted["name"] = name
    return converted


def _audio(part: Fields) -> MessagePart | None:
    inner = accessors.fields(part.get("input_audio"))
    nested = inner or part
    format_name = accessors.text(nested.get("format"))
    converted = _media("audio", data=nested.get("data"), mime_type=f"audio/{format_name}" if format_name else None)
    transcript = accessors.text(part.get("transcript"))
    if converted is None:
        return text_part(transcript) if transcript else None
    if transcript:
        converted["transcript"] = transcript
    return add_rest(converted, inner, {"data", "format"})


_CONTENT: Final[Mapping[str, Callable[[Fields], MessagePart | None]]] = {
    "input_text": _text,
    "output_text": _text,
    "summary_text": _text,
    "text": _text,
    "reasoning_text": _reasoning_text,
    "refusal": _refusal,
    "input_image": _image,
    "input_file": _file,
    "input_audio": _audio,
    "output_audio": _audio,
}


def _media(
    kind: str, *, url: object = None, data: object = None, file_id: object = None, mime_type: str | None = None
) -> MessagePart | None:
    known_url, known_data, known_id = accessors.text(url), accessors.text(data), accessors.text(file_id)
    if known_data is not None and known_data.startswith("data:"):
        # ``file_data`` is documented as a data URL; plain base64 is accepted, too.
        known_url, known_data = known_data, None
    if known_url is None and known_data is None and known_id is None:
        return None
    return media_part(kind, url=known_url, data=known_data, mime_type=mime_type, file_id=known_id)


def _reasoning(item: Fields) -> list[MessagePart]:
    values = [*accessors.items(item.get("summary")), *accessors.items(item.get("content"))]
    parts = [_content_part(part) if isinstance(part, str) else _reasoning_part(part) for part in values]
    # Encrypted reasoning has no readable text; an empty part records that it exists.
    return parts or [reasoning_part("")]


def _reasoning_part(value: object) -> MessagePart:
    part = accessors.fields(value)
    converted = _reasoning_text(part)
    if converted is None:
        return unknown_part(accessors.text(part.get("type")) or "unknown", part)
    return add_rest(converted, part, _PART_FIELDS)


def _call(kind: str, item: Fields) -> MessagePart:
    name = accessors.text(item.get("name")) or kind.removesuffix("_call")
    field = _CALLS[kind]
    arguments = item.get(field)
    if arguments is None and kind == "computer_call":
        arguments = item.get("actions")
    return tool_call_part(_id(item), name, arguments if isinstance(arguments, str) else to_json_data(arguments))


def _result(output: object) -> object:
    """Return a tool's output: text unchanged, content parts as parts, anything else as JSON data."""
    if isinstance(output, (list, tuple)):
        return content_parts(output)  # pyright: ignore[reportUnknownArgumentType]
    return to_json_data(output)


def _server_tool(kind: str, item: Fields) -> list[MessagePart]:
    call_id = accessors.text(item.get("id"))
    call_fields = {key: value for key, value in item.items() if key not in _RESULTS and key not in ("id", "type")}
    result_fields = {key: value for key, value in item.items() if key in _RESULTS and value is not None}
    if kind == "image_generation_call":
        call_fields.pop("result", None)
        if image := accessors.text(result_fields.get("result")):
            format_name = accessors.text(item.get("output_format")) or "png"
            result_fields["result"] = _media("image", data=image, mime_type=f"image/{format_name}")
    tool = kind.removeprefix(_PREFIX).removesuffix("_call")
    name = accessors.text(item.get("name")) or tool
    call = generic_part(
        "server_tool_call", id=call_id, name=name, server_tool_call={**_json_fields(call_fields), "type": tool}
    )
    if not (values := _json_fields(result_fields)):
        return [call]
    response = generic_part("server_tool_call_response", id=call_id, server_tool_call_response={**values, "type": tool})
    return [call, response]


def _json_fields(values: Fields) -> dict[str, Any]:
    converted: dict[str, Any] = to_json_data(dict(values)) if values else {}
    return converted


def _id(item: Fields) -> str | None:
    return accessors.text(item.get("call_id")) or accessors.text(item.get("id"))


def _role(item: Fields) -> str:
    role = accessors.text(item.get("role"))
    if role is not None:
        return role
    kind = item.get("type")
    if isinstance(kind, str) and kind.endswith("_output"):
        return "tool"
    return "assistant" if isinstance(kind, str) and kind not in _USER_TYPES else "user"


def _unwrap(value: object) -> Fields:
    """Return an item's fields; the openrouter SDK wraps unknown items as ``{is_unknown, raw}``."""
    item = accessors.fields(value)
    return accessors.fields(item.get("raw")) if item.get("is_unknown") is True else item
