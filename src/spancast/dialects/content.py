"""Builders of message parts in the shape of the GenAI conventions, used by all dialects.

Shapes: ``gen-ai-input-messages.json`` and ``gen-ai-output-messages.json``.
Media bytes are not kept: a part has their type, size and digest.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any, Final
from urllib.parse import unquote, unquote_to_bytes

from spancast.model import json_codec
from spancast.model.call import MessagePart

_OBJECT: Final = frozenset({dict})
_LIST: Final = frozenset({list})
_DATA: Final = "data:"
_BASE64: Final = ";base64"
_BASE64_START: Final = re.compile(r"[A-Za-z0-9+/_=\s-]{64}")
"""Start of base64 data that was passed as a URL; a URL has a colon within these characters."""
_URL_SAFE: Final = str.maketrans("-_", "+/", " \t\r\n=")


def text_part(content: str) -> MessagePart:
    """Return a text part."""
    return {"type": "text", "content": content}


def only_text(parts: Any, fields: int = 1) -> str | None:  # noqa: ANN401 - wire JSON
    """Return the text of a list with one part of ``fields`` fields, the text among them; None for any other.

    Almost every message of a conversation is of this kind, and each request has them all.
    """
    if type(parts) in _LIST and len(parts) == 1 and type(part := parts[0]) in _OBJECT and len(part) == fields:
        text = part.get("text")
        return text if type(text) is str else None
    return None


def reasoning_part(content: str) -> MessagePart:
    """Return a reasoning (thinking) part."""
    return {"type": "reasoning", "content": content}


def tool_call_part(call_id: str | None, name: str | None, arguments: object) -> MessagePart:
    """Return a tool call part; arguments in JSON are decoded, other text is kept."""
    part: MessagePart = {"type": "tool_call", "id": call_id, "name": name or ""}
    if isinstance(arguments, str):
        decoded = json_codec.decode(arguments) if arguments else None
        part["arguments"] = arguments if decoded is None else decoded
    elif arguments is not None:
        part["arguments"] = arguments
    return part


def tool_result_part(call_id: str | None, response: object) -> MessagePart:
    """Return the part with a tool's result for the call ``call_id``."""
    return {"type": "tool_call_response", "id": call_id, "response": response}


def media_part(
    modality: str,
    *,
    url: str | None = None,
    data: str | bytes | None = None,
    mime_type: str | None = None,
    file_id: str | None = None,
) -> MessagePart:
    """Return a media part with the URL, the provider's file id, or type, size and SHA-256 of the bytes.

    ``data`` is bytes, or base64 text, also accepted as a ``data:`` URL. The digest is that of the decoded bytes. If
    decoding fails, it is that of the text, and the part has ``undecodable``.
    """
    if isinstance(data, bytes):
        return _digest(modality, mime_type, data)
    if url is not None and url[:5].lower() == _DATA:
        header, _, data = url.partition(",")
        mime_type = mime_type or header[5:].partition(";")[0] or None
        if _BASE64 not in header.lower():
            return _digest(modality, mime_type, unquote_to_bytes(data.encode("utf-8", "replace")))
        data = unquote(data) if "%" in data else data
    elif url is not None and not _BASE64_START.match(url):
        return _with_mime_type({"type": "uri", "modality": modality, "uri": url}, mime_type)
    elif url is not None:
        data = url
    if data is not None:
        return _base64_digest(modality, mime_type, data)
    if file_id is not None:
        return _with_mime_type({"type": "file", "modality": modality, "file_id": file_id}, mime_type)
    return _with_mime_type({"type": "uri", "modality": modality, "uri": ""}, mime_type)


def generic_part(kind: str, /, **fields: Any) -> MessagePart:  # noqa: ANN401 - whatever the provider sent
    """Return a part of a type that the conventions do not define, with its fields unchanged."""
    return {**fields, "type": kind}


def _with_mime_type(part: MessagePart, mime_type: str | None) -> MessagePart:
    if mime_type:
        part["mime_type"] = mime_type
    return part


def _base64_digest(modality: str, mime_type: str | None, data: str) -> MessagePart:
    content = _decode(data)
    if content is not None:
        return _digest(modality, mime_type, content)
    return {**_digest(modality, mime_type, data.encode("utf-8", "replace")), "undecodable": True}


def _decode(data: str) -> bytes | None:
    try:
        return base64.b64decode(data, validate=True)
    except ValueError:
        pass
    # Providers also accept line breaks, the URL-safe alphabet and missing padding.
    compact = data.translate(_URL_SAFE)
    try:
        return base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except ValueError:
        return None


def _digest(modality: str, mime_type: str | None, content: bytes) -> MessagePart:
    digest = hashlib.sha256(content).hexdigest()
    part: MessagePart = {"type": "uri", "modality": modality, "uri": f"sha256:{digest}", "byte_size": len(content)}
    return _with_mime_type(part, mime_type)
