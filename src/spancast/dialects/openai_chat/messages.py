"""Conversion of request and response messages of Chat Completions to messages and parts.

Shapes: OpenAI's ``ChatCompletionMessageParam`` and OpenRouter's additions (``reasoning``,
``reasoning_details``, ``images``, ``annotations``).
"""

from __future__ import annotations

from collections.abc import Mapping
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
from spancast.dialects.parameters import string_list
from spancast.dialects.sanitize import add_rest, modality, to_json_data
from spancast.model import json_codec
from spancast.model.call import Message, MessagePart

_TEXT_TYPES: Final = frozenset({"text", "input_text", "output_text"})
_URL_TYPES: Final = {"image_url": "image", "video_url": "video", "input_video": "video", "audio_url": "audio"}
_ENCRYPTED: Final = "reasoning.encrypted"

# Almost every message has one of these roles and a string.
_ROLES: Final = frozenset({"system", "developer", "user", "assistant"})
_BASIC_FIELDS: Final = frozenset({"role", "content"})
_RESULT_FIELDS: Final = frozenset({"role", "content", "tool_call_id", "name"})
_READ_FIELDS: Final = _BASIC_FIELDS | {
    "name", "reasoning", "reasoning_content", "reasoning_details", "refusal", "tool_calls", "function_call", "images",
    "audio",
}  # fmt: skip
_FILE_FIELDS: Final = frozenset({"file_data", "file_id", "filename"})
_CALL_FIELDS: Final = frozenset({"id", "index", "type", "function"})
_FUNCTION_FIELDS: Final = frozenset({"name", "arguments", "input"})
_DETAIL_FIELDS: Final = frozenset({"type", "index", "format", "format_"})
_PAIR: Final = 2
_OBJECT: Final = frozenset({dict})


def prompts(body: Mapping[str, Any]) -> list[str]:
    """Return the texts of a legacy ``prompt``, which replaces the messages; none if it has token numbers."""
    prompt = body.get("prompt")
    if prompt is None or not json_codec.is_absent(body.get("messages")):
        return []
    return string_list(prompt) or []


def input_messages(body: Mapping[str, Any]) -> list[Message]:
    """Return the request messages; a legacy ``prompt`` is a user message per text."""
    if texts := prompts(body):
        return [{"role": "user", "parts": [text_part(text)]} for text in texts]
    return [
        # Every request has the whole conversation: its most common messages take no function call.
        {"role": role, "parts": [{"type": "text", "content": content}]}
        if type(item) in _OBJECT
        and len(item) == _PAIR
        and type(content := item.get("content")) is str
        and content
        and type(role := item.get("role")) is str
        and role in _ROLES
        else message(item)
        for item in accessors.items(body.get("messages"))
    ]


def message(value: object) -> Message:
    """Return one message; the order of parts is reasoning, content, refusal, tool calls, media."""
    if isinstance(value, str):
        return {"role": "user", "parts": [text_part(value)]}
    fields = accessors.fields(value)
    role = fields.get("role")
    content = fields.get("content")
    is_text = content and type(content) is str and type(role) is str and role in _ROLES
    if is_text and (len(fields) == _PAIR or _is_text_only(fields)):
        return {"role": role, "parts": [{"type": "text", "content": content}]}
    if role == "tool" or (role == "function" and content is not None):
        call_id = accessors.text(fields.get("tool_call_id")) or accessors.text(fields.get("name"))
        part = tool_result_part(call_id, content if isinstance(content, str) else to_json_data(content))
        return add_rest({"role": "tool", "parts": [part]}, fields, _RESULT_FIELDS)
    converted: Message = {"role": role if isinstance(role, str) else "user", "parts": _parts(fields, content)}
    name = accessors.text(fields.get("name"))
    if name:
        converted["name"] = name
    return add_rest(converted, fields, _READ_FIELDS)


def _is_text_only(fields: Mapping[str, Any]) -> bool:
    """Return whether ``fields`` has only a role and a text."""
    for name, value in fields.items():  # noqa: SIM110 - any() with a generator takes three times as long per message
        if value and name not in _BASIC_FIELDS:
            return False
    return True


def _parts(fields: Mapping[str, Any], content: object) -> list[MessagePart]:
    parts = _reasoning(fields)
    if isinstance(content, str):
        if content:
            parts.append(text_part(content))
    elif content is not None:
        parts.extend(map(content_part, accessors.listed(content)))
    refusal = accessors.text(fields.get("refusal"))
    if refusal:
        parts.append(generic_part("refusal", content=refusal))
    parts.extend(map(_tool_call, accessors.listed(fields.get("tool_calls"))))
    legacy = accessors.fields(fields.get("function_call"))
    # Some servers send every field of OpenAI's schema, empty.
    if any(legacy.values()):
        parts.append(tool_call_part(None, accessors.text(legacy.get("name")), legacy.get("arguments")))
    parts.extend(map(content_part, accessors.listed(fields.get("images"))))
    audio = accessors.fields(fields.get("audio"))
    if any(audio.values()):
        parts.append(_audio(audio))
    return parts


def content_part(value: object) -> MessagePart:
    """Return one content part; an unknown type becomes a generic part."""
    if isinstance(value, str):
        return text_part(value)
    fields = accessors.fields(value)
    if not fields and not json_codec.is_absent(value):
        return generic_part("unknown", content=to_json_data(value))
    kind = accessors.text(fields.get("type")) or ("image_url" if "image_url" in fields else "unknown")
    if kind in _TEXT_TYPES:
        text = fields.get("text")
        if not isinstance(text, str):
            return add_rest(text_part(""), fields, {"type"})
        part = text_part(text)
        return part if len(fields) == _PAIR else add_rest(part, fields, {"type", "text"})
    inner = fields.get(kind)
    inner_fields = accessors.fields(inner)
    if kind in _URL_TYPES:
        url = inner if isinstance(inner, str) else accessors.text(inner_fields.get("url"))
        part = add_rest(media_part(_URL_TYPES[kind], url=url), inner_fields, {"url"})
    elif kind == "input_audio":
        # Mistral sends the data itself.
        data = inner if isinstance(inner, str) else accessors.text(inner_fields.get("data"))
        audio_format = accessors.text(inner_fields.get("format"))
        part = media_part("audio", data=data, mime_type=f"audio/{audio_format}" if audio_format else None)
        part = add_rest(part, inner_fields, {"data", "format"})
    elif kind == "file":
        part = add_rest(_file(inner_fields), inner_fields, _FILE_FIELDS)
    elif kind == "refusal":
        part = generic_part("refusal", content=accessors.text(inner) or "")
    elif kind == "thinking" and not json_codec.is_absent(inner):
        # Mistral's list of texts.
        texts = [inner] if isinstance(inner, str) else map(_thought, accessors.items(inner))
        part = reasoning_part("".join(texts))
    else:
        return _generic(kind, fields)
    return add_rest(part, fields, {"type", kind})


def _thought(value: object) -> str:
    return value if isinstance(value, str) else accessors.text(accessors.fields(value).get("text")) or ""


def _generic(kind: str, fields: Mapping[str, Any]) -> MessagePart:
    kept = to_json_data(fields)
    return generic_part(kind, **kept) if isinstance(kept, dict) else generic_part(kind)  # pyright: ignore[reportUnknownArgumentType]


def _file(inner: Mapping[str, Any]) -> MessagePart:
    data = accessors.text(inner.get("file_data"))
    name = accessors.text(inner.get("filename"))
    is_url = data is not None and ":" in data[:16]
    mime_type = data[5:].partition(";")[0] if data is not None and data.startswith("data:") else None
    part = media_part(
        modality(mime_type),
        url=data if is_url else None,
        data=None if is_url else data,
        file_id=accessors.text(inner.get("file_id")),
    )
    return {**part, "name": name} if name else part


def _tool_call(value: object) -> MessagePart:
    call = accessors.fields(value)
    if not call:
        return content_part(value)
    kind = accessors.text(call.get("type")) or "function"
    inner = accessors.fields(call.get(kind)) or accessors.fields(call.get("function"))
    arguments = inner.get("arguments", inner.get("input"))
    part = tool_call_part(accessors.text(call.get("id")), accessors.text(inner.get("name")), arguments)
    if not inner.keys() <= _FUNCTION_FIELDS:
        add_rest(part, inner, _FUNCTION_FIELDS)
    if not inner:
        return add_rest(part, call, _CALL_FIELDS - {"function"})
    return part if call.keys() <= _CALL_FIELDS else add_rest(part, call, _CALL_FIELDS | {kind})


def _reasoning(fields: Mapping[str, Any]) -> list[MessagePart]:
    parts = [_detail(accessors.fields(item)) for item in accessors.items(fields.get("reasoning_details"))]
    # Most servers repeat the same text in several of these fields.
    known = _compact("".join(str(part["content"]) for part in parts if part["type"] == "reasoning"))
    for name in ("reasoning_content", "reasoning"):
        text = accessors.text(fields.get(name))
        if text and (not known or _compact(text) not in known):
            parts.insert(0, reasoning_part(text))
            known += _compact(text)
    return parts


def _compact(text: str) -> str:
    return "".join(text.split())


def _detail(detail: Mapping[str, Any]) -> MessagePart:
    kind = accessors.text(detail.get("type")) or "reasoning.text"
    text_field = "text" if accessors.text(detail.get("text")) else "summary"
    if text := accessors.text(detail.get(text_field)):
        part, read_field = reasoning_part(text), text_field
    elif kind == _ENCRYPTED:
        data, read_field = detail.get("data"), "data"
        # Encrypted for the provider, and kilobytes long.
        part = generic_part(kind, byte_size=len(data) if isinstance(data, str) else 0)
    else:
        return _generic(kind, detail)
    # Objects of the openrouter SDK have ``format_``.
    if value := accessors.text(detail.get("format")) or accessors.text(detail.get("format_")):
        part["format"] = value
    return add_rest(part, detail, _DETAIL_FIELDS | {read_field})


def _audio(audio: Mapping[str, Any]) -> MessagePart:
    data = accessors.text(audio.get("data"))
    part = media_part("audio", data=data, file_id=None if data else accessors.text(audio.get("id")))
    return add_rest(part, audio, {"data"} if data else {"id"})
