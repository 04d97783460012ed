"""Conversion of wire values of unknown shape (dicts or SDK objects) to JSON data without secrets and media.

The value is copied: use it for tool results, server tools and parameters, not for whole messages.

Invariants: never raises; no credential or base64 data passes (``test_sanitize.py``).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from spancast.dialects import accessors
from spancast.dialects.content import media_part
from spancast.model import json_codec
from spancast.model.call import MessagePart

SECRETS: Final = frozenset(
    {
        "access_token",
        "accesstoken",
        "api_auth",
        "api_key",
        "api_key_string",
        "apiauth",
        "apikey",
        "apikeystring",
        "auth_config",
        "auth_token",
        "authconfig",
        "authorization",
        "authorization_token",
        "bearer_token",
        "client_secret",
        "credentials",
        "domain_secrets",
        "fallback_credit_token",
        "headers",
        "password",
        "secret",
        "x-api-key",
    }
)
"""Field names whose values never leave the process: MCP tokens and headers, container secrets."""

_ENCRYPTED: Final = frozenset(
    {
        "consentAudio", "consent_audio", "encrypted_content", "encrypted_index", "encrypted_stdout", "thoughtSignature",
        "thought_signature", "voiceSampleAudio", "voice_sample_audio",
    }
)  # fmt: skip
"""Encrypted fields that only the provider can read, and samples of voices; kilobytes each."""

_CONVENTION_TYPES: Final = frozenset(
    {
        "blob",
        "compaction",
        "file",
        "reasoning",
        "server_tool_call",
        "server_tool_call_response",
        "text",
        "tool_call",
        "tool_call_response",
        "uri",
    }
)

_DATA_URL: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+)?[^,]{0,200};base64,", re.IGNORECASE)
_SUSPECT: Final = re.compile(
    '"(?:'
    + "|".join(re.escape(name) for name in sorted(SECRETS | _ENCRYPTED))
    + ')":|;base64,|:"base64"|"mime_?type":|:null',
    re.IGNORECASE,
)


def to_json_data(value: object) -> Any:  # noqa: ANN401 - JSON has any shape
    """Return ``value`` as JSON data: SDK objects become objects without null fields.

    Credentials and encrypted fields are left out; base64 data is replaced by a reference.
    """
    if isinstance(value, str):
        return _string(value)
    return _clean(json_codec.decode(json_codec.encode(value)))


def to_json_string(value: object) -> str:
    """Return ``value`` as JSON text, by the rules of ``to_json_data``; faster if nothing is left out."""
    text = json_codec.encode(value)
    return text if _SUSPECT.search(text) is None else json_codec.encode(_clean(json_codec.decode(text)))


def unknown_part(kind: str, fields: Mapping[str, Any]) -> MessagePart:
    """Return a part of a type that the conventions do not define, with its fields.

    A malformed part of a type that they define gets a ``malformed_`` type.
    """
    kept: MessagePart = to_json_data(dict(fields)) if fields else {}
    return {**kept, "type": f"malformed_{kind}" if kind in _CONVENTION_TYPES else kind}


def add_rest(part: dict[str, Any], fields: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Add the fields that are not in ``known`` to ``part`` as JSON data; return ``part``.

    A field with the name of one of the part gets an underscore.
    """
    rest = {name: value for name, value in fields.items() if name not in known and not json_codec.is_absent(value)}
    if rest:
        for name, value in to_json_data(rest).items():
            if value not in ("", [], {}):
                part[f"{name}_" if name in part else name] = value
    return part


def shallow_copy(value: object) -> dict[str, Any]:
    """Return a copy of the fields of ``value`` and of their lists.

    For objects kept during a stream, which an SDK's stream helper modifies in place.
    """
    return {key: [*item] if isinstance(item, list) else item for key, item in accessors.fields(value).items()}  # pyright: ignore[reportUnknownVariableType]


def public_url(url: object) -> str | None:
    """Return scheme, host and path of ``url``, without user name and query, which may be tokens of an MCP server."""
    if not isinstance(url, str):
        return None
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        location = f"{host}:{parts.port}" if parts.port else host
    except ValueError:
        return None
    return urlunsplit((parts.scheme, location, parts.path, "", ""))


def modality(mime_type: object) -> str:
    """Return the modality (``image``, ``audio``, ``video``, else ``document``) of a MIME type."""
    family = mime_type.partition("/")[0] if isinstance(mime_type, str) else ""
    return family if family in {"image", "audio", "video"} else "document"


def _clean(value: Any) -> Any:  # noqa: ANN401 - JSON has any shape
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, list):
        return [_clean(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(value, dict):
        return value
    fields_found: dict[str, Any] = value  # pyright: ignore[reportUnknownVariableType]
    if fields_found.get("type") == "base64" and isinstance(fields_found.get("data"), str):
        mime_type = fields_found.get("media_type")
        known = mime_type if isinstance(mime_type, str) else None
        return media_part(modality(known), data=fields_found["data"], mime_type=known)
    mime_type = fields_found.get("mimeType", fields_found.get("mime_type"))
    if isinstance(mime_type, str) and not mime_type.startswith("text/") and isinstance(fields_found.get("data"), str):
        # Gemini's blobs.
        return media_part(modality(mime_type), data=fields_found["data"], mime_type=mime_type)
    return {
        key: _clean(item)
        for key, item in fields_found.items()
        if item is not None and key.lower() not in SECRETS and key not in _ENCRYPTED
    }


def _string(value: str) -> Any:  # noqa: ANN401 - a string or a media part
    match = _DATA_URL.match(value) if value[:5].lower() == "data:" else None
    return value if match is None else media_part(modality(match[1]), url=value)
