"""Encode spans as OTLP protobuf, without message objects.

Source: opentelemetry-proto ``trace/v1/trace.proto``, ``common/v1/common.proto``. For a span of the SDK the result
equals that of OpenTelemetry's encoder byte for byte (``tests/encoding/test_otlp_encode.py``). That encoder is slower
because it builds a message object for every value.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias, TypeVar, cast

from spancast.encoding.span_data import EventData, LinkData, ResourceData, ScopeData, SpanData, plain_value
from spancast.model.json_codec import is_mapping

Attributes: TypeAlias = Mapping[str, Any]
K = TypeVar("K")
V = TypeVar("V")

STATUS_CODES: Final = {"unset": 0, "ok": 1, "error": 2}
_SMALL: Final = 1 << 14
_INT64: Final = 1 << 63
_MASK64: Final = (1 << 64) - 1
_MAX_KEYS: Final = 4096
_MAX_PAIRS: Final = 4096
_LONG_TEXT: Final = 64
_DOUBLE_BYTES: Final = 8
_NODE_BYTES: Final = 32
_CHARACTER_BYTES: Final = 4
_SMALL_TYPES: Final = frozenset({int, float, bool, type(None)})

_fixed64 = struct.Struct("<Q").pack
_times = struct.Struct("<cQcQ").pack
_double = struct.Struct("<d").pack
_flags = struct.Struct("<2sI").pack
_keys: dict[str, bytes] = {}
_double_heads: dict[str, bytes] = {}
_pairs: dict[tuple[str, Any, type], bytes] = {}
"""A cache of short encoded pairs with their length: most attributes have the same value in every call."""


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits a byte
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_VARINTS: Final = tuple(_varint(value) for value in range(_SMALL))


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


def _text(tag: bytes, text: str) -> bytes:
    return message(tag, _utf8(text)) if text else b""


def any_value(value: Any) -> bytes:  # noqa: ANN401, PLR0911 - one case per kind of value
    """Return an encoded ``AnyValue``."""
    kind = type(value)  # pyright: ignore[reportUnknownVariableType] - any value
    if kind is str:
        text = _utf8(value)
        return b"\x0a" + varint(len(text)) + text
    if kind is bool:
        return b"\x10\x01" if value else b"\x10\x00"
    if kind is int and -_INT64 <= value < _INT64:
        return b"\x18" + varint(value & _MASK64)
    if kind is float:
        return b"\x21" + _double(value)
    if kind is list:
        return message(b"\x2a", b"".join([message(b"\x0a", any_value(item)) for item in value]))
    if kind is dict:
        pairs = [message(b"\x0a", key_value(key, item)) for key, item in cast("dict[str, Any]", value).items()]
        return message(b"\x32", b"".join(pairs))
    if kind is bytes:
        return message(b"\x3a", value)
    return b"" if value is None else any_value(plain_value(value))


def key_value(key: str, value: Any) -> bytes:  # noqa: ANN401
    """Return an encoded ``KeyValue``."""
    content = any_value(value)
    return (_keys.get(key) or _cached_key(key)) + varint(len(content)) + content


def _cached_key(key: str) -> bytes:
    if len(_keys) >= _MAX_KEYS:
        _keys.clear()
    head = message(b"\x0a", _utf8(key)) + b"\x12"
    _keys[key] = head
    return head


def key_values(tag: bytes, attributes: Attributes) -> list[bytes]:
    """Return ``attributes`` as the pieces of repeated ``KeyValue`` fields of ``tag``; a long text is not copied."""
    pieces: list[bytes] = []
    for key, value in attributes.items():
        kind = type(value)  # pyright: ignore[reportUnknownVariableType] - any value
        if kind is str:
            if len(value) > _LONG_TEXT:
                pieces += _long_pair(tag, key, value)
                continue
            pair = _pairs.get((key, value, kind)) or _cached_pair(key, value, value)
        elif kind is int or kind is bool:
            # The key includes the type, because 1 and True are equal.
            pair = _pairs.get((key, value, kind)) or _cached_pair(key, value, value)
        elif kind is float:
            pair = (_double_heads.get(key) or _double_head(key)) + _double(value)
        elif kind is list and len(value) == 1 and type(value[0]) is str and len(value[0]) <= _LONG_TEXT:
            # For example a finish reason.
            pair = _pairs.get((key, value[0], kind)) or _cached_pair(key, value[0], value)
        else:
            pair = _encoded_pair(key, value)
        pieces += (tag, pair)
    return pieces


def _cached_pair(key: str, cache_value: Any, value: Any) -> bytes:  # noqa: ANN401
    if len(_pairs) >= _MAX_PAIRS:
        _pairs.clear()
    pair = _pairs[key, cache_value, type(value)] = _encoded_pair(key, value)
    return pair


def _double_head(key: str) -> bytes:
    if len(_double_heads) >= _MAX_KEYS:
        _double_heads.clear()
    head = _double_heads[key] = _encoded_pair(key, 0.0)[:-_DOUBLE_BYTES]
    return head


def _encoded_pair(key: str, value: Any) -> bytes:  # noqa: ANN401
    pair = key_value(key, value)
    return varint(len(pair)) + pair


def _long_pair(tag: bytes, key: str, value: str) -> tuple[bytes, ...]:
    text = _utf8(value)
    size = varint(len(text))
    head = _keys.get(key) or _cached_key(key)
    content = len(text) + len(size) + 1
    inner = varint(content)
    return tag, varint(len(head) + len(inner) + content), head, inner, b"\x0a", size, text


def span_bytes(span: SpanData) -> bytes:
    """Return ``span`` as an encoded ``Span``."""
    parts = [b"\x0a\x10", bytes.fromhex(span.trace_id), b"\x12\x08", bytes.fromhex(span.span_id)]
    if span.trace_state:
        parts.append(_text(b"\x1a", span.trace_state))
    if span.parent_span_id:
        parts += (b"\x22\x08", bytes.fromhex(span.parent_span_id))
    if span.name:
        parts.append(_text(b"\x2a", span.name))
    parts.append(b"\x30" + varint(span.kind))
    start_ns, end_ns = span.start_ns, span.end_ns
    parts.append(_times(b"9", start_ns, b"A", end_ns) if start_ns and end_ns else _set_times(start_ns, end_ns))
    parts += key_values(b"\x4a", span.attributes)
    if span.dropped_attributes:
        parts.append(_count(b"\x50", span.dropped_attributes))
    if span.events:
        parts += [message(b"\x5a", _event(event)) for event in span.events]
    if span.dropped_events:
        parts.append(_count(b"\x60", span.dropped_events))
    if span.links:
        parts += [message(b"\x6a", _link(link)) for link in span.links]
    if span.dropped_links:
        parts.append(_count(b"\x70", span.dropped_links))
    code, text = STATUS_CODES[span.status], span.status_message
    parts.append(message(b"\x7a", _text(b"\x12", text) + _count(b"\x18", code)) if code or text else b"\x7a\x00")
    if span.flags:
        parts.append(_flags(b"\x85\x01", span.flags))
    return b"".join(parts)


def _set_times(start_ns: int, end_ns: int) -> bytes:
    return _time(b"\x39", start_ns) + _time(b"\x41", end_ns)


def _time(tag: bytes, at_ns: int) -> bytes:
    return tag + _fixed64(at_ns) if at_ns else b""


def _count(tag: bytes, count: int) -> bytes:
    return tag + varint(count) if count else b""


def _event(event: EventData) -> bytes:
    pairs = key_values(b"\x1a", event.attributes)
    named = (_time(b"\x09", event.at_ns), _text(b"\x12", event.name))
    return b"".join((*named, *pairs, _count(b"\x20", event.dropped_attributes)))


def _link(link: LinkData) -> bytes:
    ids = b"\x0a\x10" + bytes.fromhex(link.trace_id) + b"\x12\x08" + bytes.fromhex(link.span_id)
    flags = b"\x35" + link.flags.to_bytes(4, "little") if link.flags else b""
    pairs = key_values(b"\x22", link.attributes)
    return b"".join((ids, *pairs, _count(b"\x28", link.dropped_attributes), flags))


def _resource(resource: ResourceData) -> bytes:
    return message(b"\x0a", b"".join(key_values(b"\x0a", resource.attributes)))


def _scope(scope: ScopeData) -> bytes:
    named = (_text(b"\x0a", scope.name), _text(b"\x12", scope.version))
    return message(b"\x0a", b"".join((*named, *key_values(b"\x1a", scope.attributes))))


def request_bytes(spans: Iterable[SpanData]) -> bytes:
    """Return ``spans`` as an encoded ``ExportTraceServiceRequest``, by resource and scope."""
    # Joined once, at the end, because a batch has up to 2 MiB.
    parts: list[bytes] = []
    for resource, scopes in by_origin(spans):
        of_resource = [_resource(resource)]
        for scope, members in scopes:
            of_scope = [_scope(scope)]
            for span in members:
                body = span_bytes(span)
                of_scope += (b"\x12", varint(len(body)), body)
            of_scope.append(_text(b"\x1a", scope.schema_url))
            of_resource += (b"\x12", varint(sum(map(len, of_scope))), *of_scope)
        of_resource.append(_text(b"\x1a", resource.schema_url))
        parts += (b"\x0a", varint(sum(map(len, of_resource))), *of_resource)
    return b"".join(parts)


Origin: TypeAlias = "tuple[ResourceData, list[tuple[ScopeData, list[SpanData]]]]"


def by_origin(spans: Iterable[SpanData]) -> list[Origin]:
    """Return ``spans`` by resource and scope, in the order of the first span of each."""
    groups: list[Origin] = []
    known: dict[tuple[int, int], list[SpanData]] = {}
    for span in spans:
        members = known.get((id(span.resource), id(span.scope)))
        if members is None:
            # Equal resources may be several objects, from memory and from disk.
            scopes = _listed(groups, span.resource)
            members = known[id(span.resource), id(span.scope)] = _listed(scopes, span.scope)
        members.append(span)
    return groups


def _listed(groups: list[tuple[K, list[V]]], key: K) -> list[V]:
    for known, members in groups:
        if known == key:
            return members
    members = list[V]()
    groups.append((key, members))
    return members


def size_bound(span: SpanData) -> int:
    """Return an upper bound of the size of ``span_bytes`` in bytes, in half of its time."""
    characters = len(span.name) + len(span.status_message) + len(span.trace_state)
    size = _CHARACTER_BYTES * characters + 8 * _NODE_BYTES + _bound(span.attributes)
    for event in span.events:
        size += _CHARACTER_BYTES * len(event.name) + 2 * _NODE_BYTES + _bound(event.attributes)
    for link in span.links:
        size += 3 * _NODE_BYTES + _bound(link.attributes)
    return size


def _bound(values: Attributes | Sequence[Any]) -> int:
    characters, items = 0, values
    if is_mapping(values):
        characters, items = sum(map(len, values)), values.values()
    size = 2 * _NODE_BYTES * len(values)
    for item in items:
        kind = type(item)  # pyright: ignore[reportUnknownVariableType] - any value
        if kind is str or kind is bytes:
            characters += len(item)
        elif kind not in _SMALL_TYPES:
            # A convention may use other types, which count as their encoded form.
            size += _bound(item if kind is list or kind is dict else [plain_value(item)])
    return size + _CHARACTER_BYTES * characters
