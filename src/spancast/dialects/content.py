"""Message parts in the shape of the GenAI conventions; one builder per kind, for all dialects.

Shapes: ``gen-ai-input-messages.json`` and ``gen-ai-output-messages.json`` (semconv.md §1.12).
Must never: keep media bytes; a part tells their type, size and digest instead.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any, Final
from urllib.parse import unquote, unquote_to_bytes

from spancast.model import json_codec
from spancast.model.call import MessagePart

_DATA: Final = "data:"
_BASE64: Final = ";base64"
_BARE: Final = re.compile(r"[A-Za-z0-9+/_=\s-]{64}")
"""How base64 begins that a caller passed where a URL belongs; a URL has a colon by then."""
_URL_SAFE: Final = str.maketrans("-_", "+/", " \t\r\n=")


def text_part(content: str) -> MessagePart:
    """Return a text part."""
    return {"type": "text", "content": content}


def reasoning_part(content: str) -> MessagePart:
    """Return a reasoning (thinking) part."""
    return {"type": "reasoning", "content": content}


def tool_call_part(call_id: str | None, name: str | None, arguments: object) -> MessagePart:
    """Return a tool call; arguments that are JSON text are decoded, other text is kept."""
    part: MessagePart = {"type": "tool_call", "id": call_id, "name": name or ""}
    if isinstance(arguments, str):
        decoded = json_codec.decode(arguments) if arguments else None
        part["arguments"] = arguments if decoded is None else decoded
    elif arguments is not None:
        part["arguments"] = arguments
    return part


def tool_result_part(call_id: str | None, response: object) -> MessagePart:
    """Return what a tool answered to the call ``call_id``."""
    return {"type": "tool_call_response", "id": call_id, "response": response}


def media_part(
    modality: str,
    *,
    url: str | None = None,
    data: str | None = None,
    mime_type: str | None = None,
    file_id: str | None = None,
) -> MessagePart:
    """Return media by reference: its URL, the provider's file id, or type, size and SHA-256 of its bytes.

    ``data`` is base64 text; a ``data:`` URL is the same with its type in front. The digest
    is that of the decoded bytes; where they do not decode, that of the text, and the part says ``undecodable``.
    """
    if url is not None and url[:5].lower() == _DATA:
        head, _, data = url.partition(",")
        mime_type = mime_type or head[5:].partition(";")[0] or None
        if _BASE64 not in head.lower():
            return _digest(modality, mime_type, unquote_to_bytes(data.encode("utf-8", "replace")))
        data = unquote(data) if "%" in data else data
    elif url is not None and not _BARE.match(url):
        return _typed({"type": "uri", "modality": modality, "uri": url}, mime_type)
    elif url is not None:
        data = url
    if data is not None:
        return _base64_digest(modality, mime_type, data)
    if file_id is not None:
        return _typed({"type": "file", "modality": modality, "file_id": file_id}, mime_type)
    return _typed({"type": "uri", "modality": modality, "uri": ""}, mime_type)


def generic_part(kind: str, /, **fields: Any) -> MessagePart:  # noqa: ANN401 - whatever the provider sent
    """Return a part of a kind the conventions do not name, with its fields as they are."""
    return {**fields, "type": kind}


def _typed(part: MessagePart, mime_type: str | None) -> MessagePart:
    if mime_type:
        part["mime_type"] = mime_type
    return part


def _base64_digest(modality: str, mime_type: str | None, data: str) -> MessagePart:
    content = _decoded(data)
    if content is not None:
        return _digest(modality, mime_type, content)
    return {**_digest(modality, mime_type, data.encode("utf-8", "replace")), "undecodable": True}


def _decoded(data: str) -> bytes | None:
    try:
        return base64.b64decode(data, validate=True)
    except ValueError:
        pass
    # Line breaks, the URL-safe alphabet, no padding: all sent, and all read by providers.
    compact = data.translate(_URL_SAFE)
    try:
        return base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except ValueError:
        return None


def _digest(modality: str, mime_type: str | None, content: bytes) -> MessagePart:
    digest = hashlib.sha256(content).hexdigest()
    part: MessagePart = {"type": "uri", "modality": modality, "uri": f"sha256:{digest}", "byte_size": len(content)}
    return _typed(part, mime_type)
