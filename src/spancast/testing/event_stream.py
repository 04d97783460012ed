"""Encoder of event streams of AWS (``application/vnd.amazon.eventstream``), as Bedrock sends them."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

import orjson

AwsFraming: TypeAlias = Literal["", "events", "chunks"]
"""``events``: an event is an object with its type as key. ``chunks``: it is the JSON inside an event ``chunk``."""

_STRING: Final = 7


def encode_event(event: Mapping[str, Any], framing: AwsFraming) -> bytes:
    """Return ``event`` as a message; one with a single key that ends in ``Exception`` is an exception."""
    name, payload = next(iter(event.items()), ("", None))
    is_exception = len(event) == 1 and name.endswith("Exception")
    if framing == "chunks" and not is_exception:
        name, payload = "chunk", {"bytes": base64.b64encode(orjson.dumps(event)).decode()}
    kind = "exception" if is_exception else "event"
    named = {f":{kind}-type": name, ":content-type": "application/json", ":message-type": kind}
    headers = b"".join(map(_header, named, named.values()))
    body = orjson.dumps(payload)
    prelude = struct.pack(">II", 16 + len(headers) + len(body), len(headers))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + body
    return message + struct.pack(">I", zlib.crc32(message))


def _header(name: str, value: str) -> bytes:
    return bytes([len(name)]) + name.encode() + struct.pack(">BH", _STRING, len(value)) + value.encode()
