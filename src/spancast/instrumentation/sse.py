"""A parser of server-sent events: from a complete body to JSON payloads.

For bodies that the user reads unparsed, and for SDKs whose models drop fields.
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Mapping
from typing import Any, Final

from spancast.dialects.protocol import Dialect
from spancast.model import json_codec

_EVENT_END: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_AWS_PRELUDE: Final = struct.Struct(">III")
_CHECKSUM_BYTES: Final = 4
_AWS_EXCEPTION: Final = re.compile(rb"(?:\x0f:exception-type|\x0b:error-code)\x07(..)", re.DOTALL)
"""The header with the code of an exception, up to its value: length and name, type 7 (a string), its length."""
_AWS_EVENT: Final = re.compile(rb"\x0b:event-type\x07(..)", re.DOTALL)
_AWS_CHUNK: Final = "chunk"
"""The event of InvokeModel. Those of Converse have their types in the header alone."""
_AWS_PADDING: Final = "p"
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_JSON_STARTS: Final = (b"", b"{", b"[", b'"')


def payloads(body: bytes, dialect: Dialect) -> tuple[list[Any], bool]:
    """Return the decoded ``data`` of each event, and whether the stream has its end marker or last event.

    Comments and invalid JSON are skipped. The body may also be an event stream of AWS, or have an object per line.
    """
    if is_aws(body):
        return _with_end(_aws_payloads(body), dialect)
    if not is_events(body):
        lines = map(json_codec.decode, body.splitlines())
        return _with_end([payload for payload in lines if payload is not None], dialect)
    found: list[Any] = []
    end = None if dialect.end_marker is None else dialect.end_marker.encode()
    # The format allows a byte order mark before the first line.
    for event in _EVENT_END.split(body.removeprefix(_BYTE_ORDER_MARK)):
        lines = [line[5:].lstrip(b" ") for line in _LINE_END.split(event) if line.startswith(b"data:")]
        data = b"\n".join(lines)
        if data == end:
            return found, True
        decoded = json_codec.decode(data) if data else None
        if decoded is not None:
            found.append(decoded)
    return _with_end(found, dialect)


def json_lines(body: bytes) -> list[Any]:
    """Return the decoded lines of ``body`` that are JSON objects (NDJSON)."""
    lines = map(json_codec.decode, filter(None, body.splitlines()))
    return [line for line in lines if json_codec.is_mapping(line)]


def is_events(body: bytes) -> bool:
    """Return whether ``body`` is a stream of events, by its first byte: servers send streams under any content type."""
    return body.removeprefix(_BYTE_ORDER_MARK).lstrip()[:1] not in _JSON_STARTS


def is_aws(body: bytes) -> bool:
    """Return whether ``body`` begins as an event stream of AWS (Bedrock): with a length of less than 16 MiB."""
    return body[:1] == b"\0"


def _aws_payloads(body: bytes) -> list[Any]:
    """Return the JSON of each message: length, length of headers, checksum, headers, payload, checksum."""
    found: list[Any] = []
    at = 0
    while at + _AWS_PRELUDE.size <= len(body):
        size, headers_size, _ = _AWS_PRELUDE.unpack_from(body, at)
        if size < _AWS_PRELUDE.size + headers_size or at + size > len(body):
            break
        headers_end = at + _AWS_PRELUDE.size + headers_size
        payload: Any = json_codec.decode(body[headers_end : at + size - _CHECKSUM_BYTES])
        details: Mapping[str, Any] = payload if json_codec.is_mapping(payload) else {}
        if code := _aws_header(_AWS_EXCEPTION, body, at, headers_end):
            payload = {"type": "error", "error": {**details, "type": code}}
        elif (kind := _aws_header(_AWS_EVENT, body, at, headers_end)) and kind != _AWS_CHUNK:
            payload = {kind: {name: value for name, value in details.items() if name != _AWS_PADDING}}
        text: object = payload.get("bytes") if isinstance(payload, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        found.append(json_codec.decode(_from_base64(text)) if isinstance(text, str) else payload)
        at += size
    return [payload for payload in found if payload is not None]


def _aws_header(header: re.Pattern[bytes], body: bytes, start: int, end: int) -> str:
    """Return the value of a header; empty if there is none."""
    found = header.search(body, start + _AWS_PRELUDE.size, end)
    if found is None:
        return ""
    size = int.from_bytes(found[1], "big")
    return body[found.end() : found.end() + size].decode("utf-8", "replace")


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except ValueError:
        return b""


def _with_end(found: list[Any], dialect: Dialect) -> tuple[list[Any], bool]:
    last = found[-1] if found else None
    return found, isinstance(last, dict) and dialect.is_last(last)  # pyright: ignore[reportUnknownArgumentType]
