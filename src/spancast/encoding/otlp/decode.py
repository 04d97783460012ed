"""OTLP protobuf read by hand: an encoded span as plain Python values, in a third of the time of message objects.

Source: opentelemetry-proto ``trace/v1/trace.proto``, ``common/v1/common.proto``. What it reads
equals what OpenTelemetry's own classes read (``tests/encoding/test_otlp_decode.py``); fields
it does not know are passed over. Everything raises ValueError for what is no message of its kind.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final

# Tags as they stand in the bytes, by wire type and number of the field.
_BYTES_1: Final = 0x0A
_BYTES_2: Final = 0x12
_BYTES_3: Final = 0x1A
_BYTES_4: Final = 0x22
_BYTES_5: Final = 0x2A
_BYTES_6: Final = 0x32
_BYTES_7: Final = 0x3A
_BYTES_9: Final = 0x4A
_BYTES_11: Final = 0x5A
_BYTES_13: Final = 0x6A
_BYTES_15: Final = 0x7A
_NUMBER_2: Final = 0x10
_NUMBER_3: Final = 0x18
_NUMBER_6: Final = 0x30
_FIXED_1: Final = 0x09
_FIXED_4: Final = 0x21
_FIXED_7: Final = 0x39
_FIXED_8: Final = 0x41

_PAIRS_REMEMBERED: Final = 4096
_SHORT_PAIR: Final = 128
_CHANGEABLE: Final = frozenset({list, dict})
_IDS_BYTES: Final = 28
_CONTINUES: Final = 0x80
_WIDE: Final = 1 << 63
_CHANGED: Final = frozenset({_BYTES_4, _BYTES_5, _BYTES_11, _BYTES_15})
_LENGTHS: Final = {1: 8, 5: 4}
"""Wire type of a fixed field to its bytes."""

_fixed64 = struct.Struct("<Q").unpack_from
_double = struct.Struct("<d").unpack_from
_pairs: dict[bytes, tuple[str, Any]] = {}
_lists: dict[bytes, tuple[str, list[Any]]] = {}
"""Short pairs with values that nobody can change; lists are given away as copies. Most of a call are the last one's."""


class SpanFields:
    """What an encoded ``Span`` says; ``rest`` is all of it but parent, name, attributes, events and status."""

    trace_id: bytes = b""
    span_id: bytes = b""
    parent_span_id: bytes = b""
    name: str = ""
    kind: int = 0
    start_ns: int = 0
    end_ns: int = 0
    status_code: int = 0
    status_message: str = ""
    has_links: bool = False
    rest: bytes = b""

    def __init__(self) -> None:
        self.attributes: dict[str, Any] = {}
        self.events: list[EventFields] = []


class EventFields:
    """What an encoded ``Span.Event`` says."""

    name: str = ""
    at_ns: int = 0

    def __init__(self) -> None:
        self.attributes: dict[str, Any] = {}


def varint_at(body: bytes, at: int) -> tuple[int, int]:
    """Return the varint at ``at`` and where it ends."""
    value = shift = 0
    while True:
        if at >= len(body):
            raise ValueError("no protobuf message: it is cut")
        byte = body[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < _CONTINUES:
            return value, at
        shift += 7


def field_at(body: bytes, at: int) -> tuple[int, int, int, int]:
    """Return tag, value (of a varint), start and end of the field at ``at``."""
    tag, start = (body[at], at + 1) if body[at] < _CONTINUES else varint_at(body, at)
    kind = tag & 7
    if kind == 0:
        value, stop = varint_at(body, start)
        return tag, value, start, stop
    if kind == 2:  # noqa: PLR2004 - length-delimited
        size, start = varint_at(body, start)
    elif kind in _LENGTHS:
        size = _LENGTHS[kind]
    else:
        raise ValueError("no protobuf message")
    if start + size > len(body):
        raise ValueError("no protobuf message: it is cut")
    return tag, size, start, start + size


def read_span(body: bytes) -> SpanFields:
    """Return what the encoded ``Span`` says."""
    found = SpanFields()
    attributes = found.attributes
    at, end = _take_head(found, body), len(body)
    rest: list[bytes] = [body[:at]]
    while at < end:
        if body[at] == _BYTES_9:  # attributes, which most fields are
            size = body[at + 1] if at + 1 < end else _CONTINUES
            start = at + 2
            if size >= _CONTINUES:
                size, start = varint_at(body, at + 1)
            at = start + size
            pair = body[start:at]
            key, value = (size <= _SHORT_PAIR and _pairs.get(pair)) or _read_pair(pair)
            attributes[key] = value
            continue
        tag, number, start, stop = field_at(body, at)
        if tag not in _CHANGED:
            rest.append(body[at:stop])
        _take(found, tag, number, body[start:stop])
        at = stop
    if at != end:
        raise ValueError("no protobuf message: it is cut")
    found.rest = b"".join(rest)
    return found


def _take_head(found: SpanFields, body: bytes) -> int:
    """Read both ids where they stand first, as in all we write; return where the next field is."""
    if body[:2] != b"\x0a\x10" or body[18:20] != b"\x12\x08" or len(body) < _IDS_BYTES:
        return 0
    found.trace_id = body[2:18]
    found.span_id = body[20:_IDS_BYTES]
    return _IDS_BYTES


def _take(found: SpanFields, tag: int, number: int, content: bytes) -> None:  # noqa: C901 - one case per field
    if tag == _BYTES_1:
        found.trace_id = content
    elif tag == _BYTES_2:
        found.span_id = content
    elif tag == _BYTES_4:
        found.parent_span_id = content
    elif tag == _BYTES_5:
        found.name = content.decode()
    elif tag == _NUMBER_6:
        found.kind = number
    elif tag == _FIXED_7:
        (found.start_ns,) = _fixed64(content)
    elif tag == _FIXED_8:
        (found.end_ns,) = _fixed64(content)
    elif tag == _BYTES_11:
        found.events.append(_read_event(content))
    elif tag == _BYTES_13:
        found.has_links = True
    elif tag == _BYTES_15:
        _read_status(found, content)


def _read_event(body: bytes) -> EventFields:
    event = EventFields()
    at = 0
    while at < len(body):
        tag, _, start, at = field_at(body, at)
        if tag == _FIXED_1:
            (event.at_ns,) = _fixed64(body, start)
        elif tag == _BYTES_2:
            event.name = body[start:at].decode()
        elif tag == _BYTES_3:
            key, value = _read_pair(body[start:at])
            event.attributes[key] = value
    return event


def _read_status(found: SpanFields, body: bytes) -> None:
    at = 0
    while at < len(body):
        tag, number, start, at = field_at(body, at)
        if tag == _BYTES_2:
            found.status_message = body[start:at].decode()
        elif tag == _NUMBER_3:
            found.status_code = number


def _read_pair(pair: bytes) -> tuple[str, Any]:
    if len(pair) > _SHORT_PAIR:
        return _read_text_pair(pair) or _read_any_pair(pair)
    known = _lists.get(pair)
    if known is not None:
        return known[0], known[1].copy()
    key, value = _read_any_pair(pair)
    if len(_pairs) + len(_lists) >= _PAIRS_REMEMBERED:
        _pairs.clear()
        _lists.clear()
    kind = type(value)  # pyright: ignore[reportUnknownVariableType] - any value
    if kind is list and not {*map(type, value)} & _CHANGEABLE:
        _lists[pair] = key, value
        return key, value.copy()
    if kind not in _CHANGEABLE:
        _pairs[pair] = key, value
    return key, value


def _read_text_pair(pair: bytes) -> tuple[str, str] | None:
    """Return a pair of a short key and a text, as messages are; None where it is not written so."""
    if pair[0] != _BYTES_1 or pair[1] >= _CONTINUES:
        return None
    end = 2 + pair[1]
    if pair[end : end + 1] != b"\x12":
        return None
    size, at = varint_at(pair, end + 1)
    if at + size != len(pair) or pair[at : at + 1] != b"\x0a":
        return None
    size, at = varint_at(pair, at + 1)
    return (pair[2:end].decode(), pair[at:].decode()) if at + size == len(pair) else None


def _read_any_pair(pair: bytes) -> tuple[str, Any]:
    key, value = "", None
    at = 0
    while at < len(pair):
        tag, _, start, at = field_at(pair, at)
        if tag == _BYTES_1:
            key = pair[start:at].decode()
        elif tag == _BYTES_2:
            value = read_value(pair[start:at])
    return key, value


def read_value(body: bytes) -> Any:  # noqa: ANN401 - any attribute value
    """Return what an encoded ``AnyValue`` says."""
    value: Any = None
    at = 0
    while at < len(body):
        tag, number, start, at = field_at(body, at)
        if tag == _BYTES_1:
            value = body[start:at].decode()
        elif tag == _NUMBER_2:
            value = bool(number)
        elif tag == _NUMBER_3:
            value = number - (1 << 64) if number >= _WIDE else number
        elif tag == _FIXED_4:
            (value,) = _double(body, start)
        elif tag == _BYTES_5:
            value = [read_value(item) for item in _repeated(body[start:at])]
        elif tag == _BYTES_6:
            value = dict(map(_read_pair, _repeated(body[start:at])))
        elif tag == _BYTES_7:
            value = body[start:at]
    return value


def _repeated(body: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(body):
        tag, _, start, at = field_at(body, at)
        if tag == _BYTES_1:
            yield body[start:at]
