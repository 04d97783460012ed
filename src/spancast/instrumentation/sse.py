"""A parser of server-sent events: from a complete body to JSON payloads.

For bodies that the user reads unparsed, and for SDKs whose models drop fields.
"""

from __future__ import annotations

import re
from typing import Any, Final

from spancast.dialects.protocol import Dialect
from spancast.model import json_codec

_EVENT_END: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


def payloads(body: bytes, dialect: Dialect) -> tuple[list[Any], bool]:
    """Return the decoded ``data`` of each event, and whether the stream has its end marker or last event.

    Comments and invalid JSON are skipped.
    """
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
    last = found[-1] if found else None
    return found, isinstance(last, dict) and last.get("type") in dialect.last_events  # pyright: ignore[reportUnknownMemberType]
