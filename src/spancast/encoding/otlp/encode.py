"""OTLP protobuf written by hand: an ended span as bytes, once, in field order.

Source: opentelemetry-proto ``trace/v1/trace.proto``, ``common/v1/common.proto``. The result equals
that of OpenTelemetry's own encoder byte for byte (``tests/encoding/test_otlp_encode.py``),
which builds a message object for every value. Where that one drops a value it cannot
encode (an integer over 64 bits, a lone surrogate), this one writes it as text. A time that is no integer between 0 and
2**63 - 1 becomes the nearest one, so that whatever reads a span later can keep its times as signed 64-bit integers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias, cast

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status

from spancast.encoding.otlp.decode import field_at
from spancast.model import json_codec

Attributes: TypeAlias = "Mapping[str, Any] | None"

_SMALL: Final = 1 << 14
_INT64: Final = 1 << 63
_MASK64: Final = (1 << 64) - 1
_HAS_IS_REMOTE: Final = 0x100
_IS_REMOTE: Final = 0x200
_KEYS_REMEMBERED: Final = 4096
_PAIRS_REMEMBERED: Final = 4096
_LONG_TEXT: Final = 64
_DOUBLE_BYTES: Final = 8

_fixed64 = struct.Struct("<Q").pack
_times = struct.Struct("<cQcQ").pack
_double = struct.Struct("<d").pack
_flags = struct.Struct("<2sI").pack
_keys: dict[str, bytes] = {}
_double_heads: dict[str, bytes] = {}
_pairs: dict[tuple[str, Any, type], bytes] = {}
"""Short pairs with their length. Of twenty attributes a call differs from the last one in three or four."""


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits a byte
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_VARINTS: Final = tuple(_varint(value) for value in range(_SMALL))
_KINDS: Final = tuple(b"\x30" + _varint(kind + 1) for kind in range(len(SpanKind)))
_FLAGS: Final = (_flags(b"\x85\x01", _HAS_IS_REMOTE), _flags(b"\x85\x01", _HAS_IS_REMOTE | _IS_REMOTE))


def varint(value: int) -> bytes:
    """Return ``value`` (not negative) as a base-128 varint."""
    return _VARINTS[value] if value < _SMALL else _varint(value)


def message(tag: bytes, content: bytes) -> bytes:
    """Return ``content`` as the length-delimited field ``tag``."""
    return tag + varint(len(content)) + content


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def any_value(value: Any) -> bytes:  # noqa: ANN401, PLR0911 - one case per kind of value
    """Return an encoded ``AnyValue``."""
    kind = type(value)  # pyright: ignore[reportUnknownVariableType] - any value
    if kind is str:
        text = _utf8(value)
        return b"\x0a" + varint(len(text)) + text
    if kind is bool:
        return b"\x10\x01" if value else b"\x10\x00"
    if kind is int:
        if -_INT64 <= value < _INT64:
            return b"\x18" + varint(value & _MASK64)
        return any_value(json_codec.integer_text(value))
    if kind is float:
        return b"\x21" + _double(value)
    if kind is tuple or kind is list:
        return _array(value)
    return b"" if value is None else _other_value(value)


def _other_value(value: Any) -> bytes:  # noqa: ANN401
    for kind in (bool, str, int, float):
        if isinstance(value, kind):  # an enum, a numpy number
            return any_value(kind(value))
    if isinstance(value, (bytes, bytearray)):
        return message(b"\x3a", bytes(value))
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        return message(b"\x32", b"".join(message(b"\x0a", key_value(str(key), item)) for key, item in items))
    if isinstance(value, Sequence):
        return _array(cast("Sequence[Any]", value))
    return any_value(json_codec.encode(value))


def _array(items: Sequence[Any]) -> bytes:
    return message(b"\x2a", b"".join([message(b"\x0a", any_value(item)) for item in items]))


def key_value(key: str, value: Any) -> bytes:  # noqa: ANN401
    """Return an encoded ``KeyValue``."""
    content = any_value(value)
    return (_keys.get(key) or _remembered(key)) + varint(len(content)) + content


def _remembered(key: str) -> bytes:
    if len(_keys) >= _KEYS_REMEMBERED:
        _keys.clear()
    head = message(b"\x0a", _utf8(key)) + b"\x12"
    _keys[key] = head
    return head


def key_values(tag: bytes, attributes: Attributes) -> bytes:
    """Return ``attributes`` as repeated ``KeyValue`` fields of ``tag``."""
    if not attributes:
        return b""
    pairs: list[bytes] = []
    for key, value in attributes.items():
        kind = type(value)  # pyright: ignore[reportUnknownVariableType] - any value
        if (
            (kind is str and len(value) <= _LONG_TEXT)
            or kind is int
            or kind is bool
            or (kind is tuple and len(value) == 1 and type(value[0]) is str)  # a finish reason
        ):
            # By its type too: 1 and True are equal.
            pairs.append(_pairs.get((key, value, kind)) or _remembered_pair(key, value, kind))
        elif kind is str:
            pairs.append(_long_pair(key, value))
        elif kind is float:
            pairs.append(_double_heads.get(key) or _double_head(key))
            pairs[-1] += _double(value)
        else:
            pairs.append(_encoded_pair(key, value))
    return tag + tag.join(pairs)


def _remembered_pair(key: str, value: Any, kind: type) -> bytes:  # noqa: ANN401
    if len(_pairs) >= _PAIRS_REMEMBERED:
        _pairs.clear()
    pair = _pairs[key, value, kind] = _encoded_pair(key, value)
    return pair


def _double_head(key: str) -> bytes:
    if len(_double_heads) >= _KEYS_REMEMBERED:
        _double_heads.clear()
    head = _double_heads[key] = _encoded_pair(key, 0.0)[:-_DOUBLE_BYTES]
    return head


def _encoded_pair(key: str, value: Any) -> bytes:  # noqa: ANN401
    pair = key_value(key, value)
    return varint(len(pair)) + pair


def _long_pair(key: str, value: str) -> bytes:
    # What `_encoded_pair` does, without copying a long text four times.
    text = _utf8(value)
    size = varint(len(text))
    head = _keys.get(key) or _remembered(key)
    content = len(text) + len(size) + 1
    told = varint(content)
    return b"".join((varint(len(head) + len(told) + content), head, told, b"\x0a", size, text))


def span_bytes(span: ReadableSpan, attributes: Attributes = None, status: Status | None = None) -> bytes:
    """Return ``span`` as an encoded OTLP ``Span``; ``attributes`` and ``status`` are its own, where read already."""
    context = cast("SpanContext", span.get_span_context())
    parent, name, status = span.parent, span.name, status or span.status
    parts = [b"\x0a\x10", context.trace_id.to_bytes(16, "big"), b"\x12\x08", context.span_id.to_bytes(8, "big")]
    if context.trace_state:
        parts.append(message(b"\x1a", _utf8(",".join(f"{key}={value}" for key, value in context.trace_state.items()))))
    if parent is not None:
        parts += (b"\x22\x08", parent.span_id.to_bytes(8, "big"))
    if name:
        parts.append(message(b"\x2a", _utf8(name)))
    start_ns, end_ns = nanoseconds(span.start_time), nanoseconds(span.end_time)
    parts.append(_KINDS[span.kind.value])
    parts.append(_times(b"9", start_ns, b"A", end_ns) if start_ns and end_ns else _known_times(start_ns, end_ns))
    parts.append(key_values(b"\x4a", span.attributes if attributes is None else attributes))
    if dropped := span.dropped_attributes:
        parts.append(_count(b"\x50", dropped))
    if events := span.events:
        parts += [message(b"\x5a", _event(event)) for event in events]
    if dropped := span.dropped_events:
        parts.append(_count(b"\x60", dropped))
    if links := span.links:
        parts += [message(b"\x6a", _link(link)) for link in links]
    if dropped := span.dropped_links:
        parts.append(_count(b"\x70", dropped))
    parts.append(b"\x7a\x00" if status.is_unset and not status.description else message(b"\x7a", _status(status)))
    parts.append(_FLAGS[parent is not None and parent.is_remote])
    return b"".join(parts)


def nanoseconds(at_ns: float | None) -> int:
    """Return a time of a span as it is encoded; 0 if there is none."""
    if type(at_ns) is int and 0 <= at_ns < _INT64:
        return at_ns
    # Whatever an application gave the SDK, which does not look at it.
    if not isinstance(at_ns, (int, float)) or not at_ns > 0:
        return 0
    return int(at_ns) if at_ns < _INT64 else _INT64 - 1


def _known_times(start_ns: int, end_ns: int) -> bytes:
    return _time(b"\x39", start_ns) + _time(b"\x41", end_ns)


def _time(tag: bytes, at_ns: int) -> bytes:
    return tag + _fixed64(at_ns) if at_ns else b""


def _count(tag: bytes, count: int) -> bytes:
    return tag + varint(count) if count else b""


def _remote_flags(context: SpanContext) -> int:
    return _HAS_IS_REMOTE | (_IS_REMOTE if context.is_remote else 0)


def _event(event: Event) -> bytes:
    dropped = getattr(event, "dropped_attributes", 0)
    return event_bytes(event.name, nanoseconds(event.timestamp), event.attributes, dropped)


def event_bytes(name: str, at_ns: int, attributes: Attributes, dropped: int = 0) -> bytes:
    """Return an encoded ``Span.Event``."""
    named = message(b"\x12", _utf8(name)) if name else b""
    return _time(b"\x09", at_ns) + named + key_values(b"\x1a", attributes) + _count(b"\x20", dropped)


def _link(link: Link) -> bytes:
    context = link.context
    ids = b"\x0a\x10" + context.trace_id.to_bytes(16, "big") + b"\x12\x08" + context.span_id.to_bytes(8, "big")
    dropped = _count(b"\x28", getattr(link, "dropped_attributes", 0))
    flags = b"\x35" + _remote_flags(context).to_bytes(4, "little")
    return ids + key_values(b"\x22", link.attributes) + dropped + flags


def _status(status: Status) -> bytes:
    return status_bytes(status.status_code.value, status.description or "")


def status_bytes(code: int, text: str) -> bytes:
    """Return an encoded ``Status``."""
    told = message(b"\x12", _utf8(text)) if text else b""
    return told + (b"\x18" + varint(code) if code else b"")


def resource_bytes(resource: Resource) -> bytes:
    """Return a ``ResourceSpans`` without its spans: the resource and its schema's URL."""
    return resource_head(resource.attributes, resource.schema_url)


def resource_head(attributes: Attributes, schema_url: str = "") -> bytes:
    """Return a ``ResourceSpans`` of ``attributes`` without its spans."""
    return message(b"\x0a", key_values(b"\x0a", attributes)) + _schema(schema_url)


def scope_bytes(scope: InstrumentationScope | None) -> bytes:
    """Return a ``ScopeSpans`` without its spans: the scope and its schema's URL."""
    if scope is None:
        return b"\x0a\x00"
    named = message(b"\x0a", _utf8(scope.name)) if scope.name else b""
    version = message(b"\x12", _utf8(scope.version)) if scope.version else b""
    content = named + version + key_values(b"\x1a", getattr(scope, "attributes", None))
    return message(b"\x0a", content) + _schema(scope.schema_url or "")


def _schema(url: str) -> bytes:
    return message(b"\x1a", _utf8(url)) if url else b""


def fields(body: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield each top-level field of ``body``: its number, and where field, content and end are.

    Raises:
        ValueError: It is no protobuf message.
    """
    at = 0
    while at < len(body):
        begin = at
        tag, _, start, at = field_at(body, at)
        yield tag >> 3, begin, start, at


def replaced(body: bytes, new: Mapping[int, bytes]) -> bytes:
    """Return the message ``body`` with the fields ``new`` (number to encoded fields, tags included) instead of its own.

    Fields that ``new`` does not name are copied as they are, in order; the new ones come last.
    """
    kept = [body[at:stop] for number, at, _, stop in fields(body) if number not in new]
    return b"".join((*kept, *new.values()))
