"""Messages of Chat Completions, asked or answered, as messages and parts.

Shapes: OpenAI's ``ChatCompletionMessageParam`` and OpenRouter's additions (``reasoning``,
``reasoning_details``, ``images``, ``annotations``; openrouter/README B.1).
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
from spancast.dialects.sanitize import modality, plain
from spancast.model import json_codec
from spancast.model.call import Message, MessagePart

_TEXTS: Final = frozenset({"text", "input_text", "output_text"})
_URLS: Final = {"image_url": "image", "video_url": "video", "input_video": "video", "audio_url": "audio"}
_SEALED: Final = "reasoning.encrypted"

# What nearly every message is: one of these roles, and a text.
_SPEAKERS: Final = frozenset({"system", "developer", "user", "assistant"})
_PLAIN_FIELDS: Final = frozenset({"role", "content"})
_PAIR: Final = 2
_OBJECT: Final = frozenset({dict})


def is_prompt_message(body: Mapping[str, Any]) -> bool:
    """Tell whether the legacy ``prompt`` is one string and stands for the messages."""
    return isinstance(body.get("prompt"), str) and json_codec.is_absent(body.get("messages"))


def input_messages(body: Mapping[str, Any]) -> list[Message]:
    """Return the messages asked; the legacy ``prompt`` string is one of the user."""
    if is_prompt_message(body):
        return [{"role": "user", "parts": [text_part(body["prompt"])]}]
    return [
        # A conversation is sent whole each time: what most of it is costs no call a message.
        {"role": role, "parts": [{"type": "text", "content": content}]}
        if type(each) in _OBJECT
        and len(each) == _PAIR
        and type(content := each.get("content")) is str
        and content
        and type(role := each.get("role")) is str
        and role in _SPEAKERS
        else message(each)
        for each in accessors.items(body.get("messages"))
    ]


def message(value: object) -> Message:
    """Return one message with its parts in the order: reasoning, content, refusal, calls, media."""
    if isinstance(value, str):
        return {"role": "user", "parts": [text_part(value)]}
    fields = accessors.fields(value)
    role = fields.get("role")
    content = fields.get("content")
    is_speech = content and type(content) is str and type(role) is str and role in _SPEAKERS
    if is_speech and (len(fields) == _PAIR or _is_text_only(fields)):
        return {"role": role, "parts": [{"type": "text", "content": content}]}
    if role == "tool" or (role == "function" and content is not None):
        call_id = accessors.text(fields.get("tool_call_id")) or accessors.text(fields.get("name"))
        return {
            "role": "tool",
            "parts": [tool_result_part(call_id, content if isinstance(content, str) else plain(content))],
        }
    made: Message = {"role": role if isinstance(role, str) else "user", "parts": _parts(fields, content)}
    name = accessors.text(fields.get("name"))
    if name:
        made["name"] = name
    annotations = accessors.items(fields.get("annotations"))
    if annotations:
        made["annotations"] = plain(annotations)
    return made


def _is_text_only(fields: Mapping[str, Any]) -> bool:
    """Tell whether nothing is said but the text, in the order SDK objects and JSON have their fields."""
    for name, value in fields.items():  # noqa: SIM110 - any() with a generator costs three times as much, a message
        if value and name not in _PLAIN_FIELDS:
            return False
    return True


def _parts(fields: Mapping[str, Any], content: object) -> list[MessagePart]:
    parts = _reasoning(fields)
    if isinstance(content, str):
        if content:
            parts.append(text_part(content))
    elif content is not None:
        parts.extend(content_part(each) for each in accessors.items(content))
    refusal = accessors.text(fields.get("refusal"))
    if refusal:
        parts.append(generic_part("refusal", content=refusal))
    parts.extend(_tool_call(each) for each in accessors.items(fields.get("tool_calls")))
    legacy = accessors.fields(fields.get("function_call"))
    if legacy:
        parts.append(tool_call_part(None, accessors.text(legacy.get("name")), legacy.get("arguments")))
    parts.extend(content_part(each) for each in accessors.items(fields.get("images")))
    audio = accessors.fields(fields.get("audio"))
    if audio:
        parts.append(_audio(audio))
    return parts


def content_part(value: object) -> MessagePart:  # noqa: PLR0911 - one case per kind
    """Return one content part; a kind without a part of its own is generic."""
    if isinstance(value, str):
        return text_part(value)
    fields = accessors.fields(value)
    kind = accessors.text(fields.get("type")) or ("image_url" if "image_url" in fields else "unknown")
    if kind in _TEXTS:
        text = fields.get("text")
        return text_part(text if isinstance(text, str) else "")
    if kind in _URLS:
        held = fields.get(kind)
        url = held if isinstance(held, str) else accessors.text(accessors.fields(held).get("url"))
        return media_part(_URLS[kind], url=url)
    if kind == "input_audio":
        held = accessors.fields(fields.get(kind))
        sound = accessors.text(held.get("format"))
        return media_part("audio", data=accessors.text(held.get("data")), mime_type=f"audio/{sound}" if sound else None)
    if kind == "file":
        return _file(accessors.fields(fields.get("file")))
    if kind == "refusal":
        return generic_part("refusal", content=accessors.text(fields.get("refusal")) or "")
    kept = plain(fields)
    return generic_part(kind, **kept) if isinstance(kept, dict) else generic_part(kind)  # pyright: ignore[reportUnknownArgumentType]


def _file(held: Mapping[str, Any]) -> MessagePart:
    data = accessors.text(held.get("file_data"))
    name = accessors.text(held.get("filename"))
    is_url = data is not None and ":" in data[:16]
    mime_type = data[5:].partition(";")[0] if data is not None and data.startswith("data:") else None
    part = media_part(
        modality(mime_type),
        url=data if is_url else None,
        data=None if is_url else data,
        file_id=accessors.text(held.get("file_id")),
    )
    return {**part, "name": name} if name else part


def _tool_call(value: object) -> MessagePart:
    call = accessors.fields(value)
    kind = accessors.text(call.get("type")) or "function"
    held = accessors.fields(call.get(kind)) or accessors.fields(call.get("function"))
    arguments = held.get("arguments", held.get("input"))
    return tool_call_part(accessors.text(call.get("id")), accessors.text(held.get("name")), arguments)


def _reasoning(fields: Mapping[str, Any]) -> list[MessagePart]:
    parts = [_detail(accessors.fields(each)) for each in accessors.items(fields.get("reasoning_details"))]
    # ``reasoning`` repeats the text of the details, where these have any.
    if not any(part["type"] == "reasoning" for part in parts):
        text = accessors.text(fields.get("reasoning")) or accessors.text(fields.get("reasoning_content"))
        if text:
            parts.insert(0, reasoning_part(text))
    return parts


def _detail(detail: Mapping[str, Any]) -> MessagePart:
    kind = accessors.text(detail.get("type")) or "reasoning.text"
    text = accessors.text(detail.get("text")) or accessors.text(detail.get("summary"))
    if text is not None:
        part = reasoning_part(text)
        for name in ("signature", "format", "id"):
            # The openrouter SDK calls it ``format_`` on its objects.
            told = accessors.text(detail.get(name)) or accessors.text(detail.get(f"{name}_"))
            if told:
                part[name] = told
        return part
    if kind == _SEALED:
        data = detail.get("data")
        # Only the provider can read it, and it is kilobytes long.
        size = len(data) if isinstance(data, str) else 0
        told = accessors.text(detail.get("format")) or accessors.text(detail.get("format_"))
        return generic_part(kind, byte_size=size, **({"format": told} if told else {}))
    kept = plain(detail)
    return generic_part(kind, **kept) if isinstance(kept, dict) else generic_part(kind)  # pyright: ignore[reportUnknownArgumentType]


def _audio(audio: Mapping[str, Any]) -> MessagePart:
    data = accessors.text(audio.get("data"))
    part = media_part("audio", data=data, file_id=None if data else accessors.text(audio.get("id")))
    transcript = accessors.text(audio.get("transcript"))
    return {**part, "transcript": transcript} if transcript else part
