"""Server-sent events of a whole body to their JSON payloads.

Only for bodies the SDK hands to the user unparsed; parsed streams are heard chunk by chunk.
"""

from __future__ import annotations

import re
from typing import Any, Final

from spancast.model import json_codec

_EVENT_END: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_DONE: Final = b"[DONE]"
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"

# How the three formats say that nothing follows; OpenAI Chat says it with ``[DONE]``.
_LAST_TYPES: Final = frozenset({"message_stop", "response.completed", "response.incomplete", "response.failed"})


def payloads(body: bytes) -> tuple[list[Any], bool]:
    """Return the decoded ``data`` of each event, and whether the stream said that it is complete.

    Comments and broken JSON are left out.
    """
    found: list[Any] = []
    # The format allows it in front of the first line, and openrouter skips it.
    for event in _EVENT_END.split(body.removeprefix(_BYTE_ORDER_MARK)):
        lines = [line[5:].lstrip(b" ") for line in _LINE_END.split(event) if line.startswith(b"data:")]
        data = b"\n".join(lines)
        if data == _DONE:
            return found, True
        decoded = json_codec.decode(data) if data else None
        if decoded is not None:
            found.append(decoded)
    last = found[-1] if found else None
    return found, isinstance(last, dict) and last.get("type") in _LAST_TYPES  # pyright: ignore[reportUnknownMemberType]
