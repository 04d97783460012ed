"""Conversion of request and response content blocks of the Messages API to parts.

Shapes: Anthropic's ``ContentBlockParam`` and ``ContentBlock`` unions, including betas; parts
as in ``gen-ai-input-messages.json``.
No block is dropped: an unknown type becomes a generic part.
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

_RESULT: Final = "_tool_result"
_PROVIDER_FIELDS: Final = frozenset({"signature"})
_MESSAGE_FIELDS: Final = frozenset({"role", "content"})
_SOURCE_FIELDS: Final = frozenset({"type", "url", "data", "file_id", "media_type", "content"})
_READ_FIELDS: Final[Mapping[str, frozenset[str]]] = {
    "text": frozenset({"type", "text", "citations"}),
    "thinking": frozenset({"type", "thinking", "signature"}),
    "redacted_thinking": frozenset({"type", "data"}),
    "image": frozenset({"type", "source"}),
    "document": frozenset({"type", "source", "title"}),
    "container_upload": frozenset({"type", "file_id"}),
    "tool_use": frozenset({"type", "id", "name", "input"}),
    "tool_result": frozenset({"type", "tool_use_id", "content", "is_error"}),
    "compaction": frozenset({"type", "content"}),
}
"""The fields of a block that its part has; others are kept as they are."""


def input_messages(value: object) -> list[Message]:
    """Return ``messages`` with their roles as sent; tool results stay in the user's message."""
    return [_message(accessors.fields(message)) for message in accessors.items(value)]


def _message(fields: Fields) -> Message:
    role, parts = accessors.text(fields.get("role")) or "user", content_parts(fields.get("content"))
    message: Message = {"role": role, "parts": parts}
    return message if fields.keys() <= _MESSAGE_FIELDS else add_rest(message, fields, _MESSAGE_FIELDS)


def content_parts(content: object) -> list[MessagePart]:
    """Return content as parts: a string, or a list of blocks."""
    if isinstance(content, str):
        return [text_part(content)]
    return [block_part(block) for block in accessors.items(content)]


def block_part(value: object) -> MessagePart:
    """Return one block as a part."""
    if isinstance(value, str):
        return text_part(value)
    block = accessors.fields(value)
    kind = accessors.text(block.get("type")) or "unknown"
    reader = _BLOCKS.get(kind)
    part = reader(block) if reader is not None else None
    if part is not None:
        known = _READ_FIELDS.get(kind)
        return part if known is None or block.keys() <= known else add_rest(part, block, known)
    if kind.endswith(_RESULT):
        return _server_tool_result(kind, block)
    return unknown_part(kind, {key: value for key, value in block.items() if key not in _PROVIDER_FIELDS})


def _text(block: Fields) -> MessagePart | None:
    content = block.get("text")
    if not isinstance(content, str):
        return None
    part = text_part(content)
    if citations := accessors.items(block.get("citations")):
        part["citations"] = to_json_data(citations)
    return part


def _thinking(block: Fields) -> MessagePart | None:
    return reasoning_part(accessors.text(block.get("thinking")) or "")


def _redacted_thinking(_block: Fields) -> MessagePart | None:
    # Encrypted reasoning has no readable text; an empty part records that it exists.
    return reasoning_part("")


def _image(block: Fields) -> MessagePart | None:
    source = accessors.fields(block.get("source"))
    return _with_source(_media("image", source), source)


def _document(block: Fields) -> MessagePart | None:
    source = accessors.fields(block.get("source"))
    if source.get("type") == "text" and isinstance(source.get("data"), str):
        part = text_part(source["data"])
        if mime_type := accessors.text(source.get("media_type")):
            part["mime_type"] = mime_type
    elif source.get("type") == "content":
        part = generic_part("document", content=content_parts(source.get("content")))
    else:
        part = _media("document", source)
    if part is not None and (title := accessors.text(block.get("title"))):
        part["title"] = title
    return _with_source(part, source)


def _with_source(part: MessagePart | None, source: Fields) -> MessagePart | None:
    """Add the fields of ``source`` that are not read to its part."""
    return part if part is None or source.keys() <= _SOURCE_FIELDS else add_rest(part, source, _SOURCE_FIELDS)


def _container_upload(block: Fields) -> MessagePart | None:
    return _media("document", {"file_id": block.get("file_id")})


def _media(kind: str, source: Fields) -> MessagePart | None:
    url, data, file_id = (accessors.text(source.get(name)) for name in ("url", "data", "file_id"))
    if url is None and data is None and file_id is None:
        return None
    return media_part(kind, url=url, data=data, mime_type=accessors.text(source.get("media_type")), file_id=file_id)


def _tool_use(block: Fields) -> MessagePart | None:
    return tool_call_part(accessors.text(block.get("id")), accessors.text(block.get("name")) or "", block.get("input"))


def _tool_result(block: Fields) -> MessagePart | None:
    content = block.get("content")
    response = content_parts(content) if accessors.items(content) else content
    part = tool_result_part(accessors.text(block.get("tool_use_id")), response)
    if block.get("is_error") is True:
        part["is_error"] = True
    return part


def _server_tool_use(block: Fields) -> MessagePart | None:
    name = accessors.text(block.get("name")) or ""
    tool = "mcp" if block.get("type") == "mcp_tool_use" else name
    call = {**_other_fields(block, "id", "name"), "type": tool}
    return generic_part("server_tool_call", id=accessors.text(block.get("id")), name=name, server_tool_call=call)


def _server_tool_result(kind: str, block: Fields) -> MessagePart:
    response = {**_other_fields(block, "tool_use_id"), "type": kind.removesuffix(_RESULT)}
    return generic_part(
        "server_tool_call_response", id=accessors.text(block.get("tool_use_id")), server_tool_call_response=response
    )


def _compaction(block: Fields) -> MessagePart | None:
    return generic_part("compaction", content=accessors.text(block.get("content")))


def _other_fields(block: Fields, *known: str) -> dict[str, Any]:
    fields_kept = {
        key: value for key, value in block.items() if key not in known and key not in _PROVIDER_FIELDS and key != "type"
    }
    part: dict[str, Any] = to_json_data(fields_kept)
    return part


_BLOCKS: Final[Mapping[str, Callable[[Fields], MessagePart | None]]] = {
    "text": _text,
    "thinking": _thinking,
    "redacted_thinking": _redacted_thinking,
    "image": _image,
    "document": _document,
    "container_upload": _container_upload,
    "tool_use": _tool_use,
    "tool_result": _tool_result,
    "server_tool_use": _server_tool_use,
    "mcp_tool_use": _server_tool_use,
    "compaction": _compaction,
}
