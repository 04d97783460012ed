"""Conversion of content blocks of Converse to parts.

A block is an object with its kind as key: ``{"text": ...}``. An unknown kind becomes a generic part. Bytes of media are
base64 text on the wire, and ``bytes`` in the parameters of boto3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from spancast.dialects import accessors
from spancast.dialects.content import (
    generic_part,
    media_part,
    only_text,
    reasoning_part,
    text_part,
    tool_call_part,
    tool_result_part,
)
from spancast.dialects.sanitize import add_rest, to_json_data, unknown_part
from spancast.model import json_codec
from spancast.model.call import Message, MessagePart

_PAIR: Final = 2
_MESSAGE_FIELDS: Final = frozenset({"role", "content"})
_CACHE_POINT: Final = "cachePoint"
_SOURCE_FIELDS: Final = frozenset({"bytes", "s3Location", "text", "content"})
_MIME_TYPES: Final = {
    "jpg": "image/jpeg",
    "three_gp": "video/3gpp",
    "mkv": "video/x-matroska",
    "mov": "video/quicktime",
    "mp3": "audio/mpeg",
    "pdf": "application/pdf",
    "csv": "text/csv",
    "html": "text/html",
    "txt": "text/plain",
    "md": "text/markdown",
    "doc": "application/msword",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xls": "application/vnd.ms-excel",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
"""Formats whose type is not ``<kind>/<format>``."""


def input_messages(value: object) -> list[Message]:
    """Return ``messages``; one of the user with tool results only has the role ``tool``."""
    return [_message(accessors.fields(message)) for message in accessors.items(value)]


def _message(fields: Mapping[str, Any]) -> Message:
    role, content = accessors.text(fields.get("role")) or "user", fields.get("content")
    if len(fields) == _PAIR and (text := only_text(content)) is not None and "role" in fields:
        return {"role": role, "parts": [text_part(text)]}
    if role == "user" and content and all("toolResult" in accessors.fields(one) for one in accessors.items(content)):
        role = "user" if isinstance(content, str) else "tool"
    message: Message = {"role": role, "parts": content_parts(content)}
    return message if fields.keys() <= _MESSAGE_FIELDS else add_rest(message, fields, _MESSAGE_FIELDS)


def content_parts(content: object) -> list[MessagePart]:
    """Return a list of blocks as parts; a cache point is a field of the part before it."""
    if isinstance(content, str):
        return [text_part(content)]
    parts: list[MessagePart] = []
    for value in accessors.items(content):
        block = accessors.fields(value)
        text = block.get("text")
        if type(text) is str and len(block) == 1:
            parts.append({"type": "text", "content": text})
            continue
        if not block:
            parts += content_parts(value)
        for kind, inner in block.items():
            if kind == _CACHE_POINT and parts:
                parts[-1][kind] = to_json_data(inner)
            elif not json_codec.is_absent(inner):
                parts.append(_part(str(kind), inner))
    return parts


def _part(kind: str, inner: Any) -> MessagePart:  # noqa: ANN401 - JSON has any shape
    if kind == "text" and isinstance(inner, str):
        return text_part(inner)
    if kind == "json":
        return generic_part(kind, json=to_json_data(inner))
    fields = accessors.fields(inner)
    reader = _BLOCKS.get(kind)
    part = reader(fields) if reader is not None else None
    return unknown_part(kind, fields or {"value": inner}) if part is None else part


def _media(kind: str) -> Callable[[Mapping[str, Any]], MessagePart | None]:
    def read(fields: Mapping[str, Any]) -> MessagePart | None:
        source, format_ = accessors.fields(fields.get("source")), accessors.text(fields.get("format"))
        mime_type = None if format_ is None else _MIME_TYPES.get(format_, f"{kind}/{format_}")
        data, location = source.get("bytes"), accessors.fields(source.get("s3Location"))
        url, text = accessors.text(location.get("uri")), accessors.text(source.get("text"))
        if isinstance(data, (bytes, bytearray)):
            part = media_part(kind, data=bytes(data), mime_type=mime_type)
        elif isinstance(data, str):
            part = media_part(kind, data=data, mime_type=mime_type)
        elif url is not None:
            part = add_rest(media_part(kind, url=url, mime_type=mime_type), location, {"uri"})
        elif text is not None:
            part = text_part(text) if mime_type is None else {**text_part(text), "mime_type": mime_type}
        elif accessors.items(source.get("content")):
            part = generic_part(kind, content=content_parts(source["content"]))
        elif source:
            return None
        else:
            # An image that the model could not make has an error instead.
            part = generic_part(kind) if mime_type is None else generic_part(kind, mime_type=mime_type)
        return add_rest(add_rest(part, source, _SOURCE_FIELDS), fields, {"source", "format"})

    return read


def _tool_use(fields: Mapping[str, Any]) -> MessagePart | None:
    call_id, name = accessors.text(fields.get("toolUseId")), accessors.text(fields.get("name"))
    part = tool_call_part(call_id, name, fields.get("input"))
    return add_rest(part, fields, {"toolUseId", "name", "input"})


def _tool_result(fields: Mapping[str, Any]) -> MessagePart | None:
    blocks = accessors.items(fields.get("content"))
    only = accessors.fields(blocks[0] if len(blocks) == 1 else None)
    result: object = only["json"] if len(only) == 1 and "json" in only else content_parts(blocks)
    part = tool_result_part(accessors.text(fields.get("toolUseId")), result)
    return add_rest(part, fields, {"toolUseId", "content"})


def _reasoning(fields: Mapping[str, Any]) -> MessagePart | None:
    # Encrypted reasoning has no readable text; an empty part records that it exists. The signature is encrypted, too.
    inner = accessors.fields(fields.get("reasoningText"))
    part = reasoning_part(accessors.text(inner.get("text")) or "")
    part = add_rest(part, inner, {"text", "signature"})
    return add_rest(part, fields, {"reasoningText", "redactedContent"})


def _guarded(fields: Mapping[str, Any]) -> MessagePart | None:
    text, image = accessors.fields(fields.get("text")), accessors.fields(fields.get("image"))
    if image:
        part = _media("image")(image)
    else:
        content = text.get("text")
        part = text_part(content) if isinstance(content, str) else None
        part = None if part is None else add_rest(part, text, {"text"})
    return None if part is None else add_rest(part, fields, {"text", "image"})


def _cited(fields: Mapping[str, Any]) -> MessagePart | None:
    texts = [*map(accessors.fields, accessors.items(fields.get("content")))]
    part = text_part("".join(text for one in texts if isinstance(text := one.get("text"), str)))
    for one in texts:
        add_rest(part, one, {"text"})
    return add_rest(part, fields, {"content"})


_BLOCKS: Final[Mapping[str, Callable[[Mapping[str, Any]], MessagePart | None]]] = {
    "image": _media("image"),
    "document": _media("document"),
    "video": _media("video"),
    "audio": _media("audio"),
    "toolUse": _tool_use,
    "toolResult": _tool_result,
    "reasoningContent": _reasoning,
    "guardContent": _guarded,
    "citationsContent": _cited,
}
