"""The neutral span for filters, redaction, conventions and destinations, and its JSON for the spool.

Attribute values have the types of OTLP: None, bool, str, int of 64 bits, float, bytes, list and dict. JSON has no
bytes, NaN and infinities, so the JSON of a span with such a value is marked, and its values include their type.

Invariants (``tests/encoding/test_span_data.py``): decoding the JSON of a span gives an equal span; a span is not
modified, because all encoders share it.
"""

from __future__ import annotations

import base64
import functools
import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias, TypeVar, cast

import orjson

from spancast.model import json_codec, semconv
from spancast.model.attribute_values import count_of, number_of, text_of
from spancast.model.span_record import SpanRecord

R = TypeVar("R")
StatusName: TypeAlias = Literal["unset", "ok", "error"]

_NS_PER_MS: Final = 1_000_000
_INT64: Final = 1 << 63
_MAX_DEPTH: Final = 40
"""Protobuf decoders reject more than 100 nested messages; each list or dict takes two or three."""
_MAX_CONTEXTS: Final = 256
_TYPED: Final = "typed"
_FLOAT: Final = "float"
_BYTES: Final = "bytes"
_DICT: Final = "dict"
_HELD_BYTES: Final = 8 << 20


@dataclass(frozen=True, slots=True)
class ResourceData:
    """The resource of a span; one object for all spans of a provider."""

    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    schema_url: str = ""


@dataclass(frozen=True, slots=True)
class ScopeData:
    """The instrumentation scope of a span; one object for all spans of a tracer."""

    name: str = ""
    version: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    schema_url: str = ""


NO_RESOURCE: Final = ResourceData()
NO_SCOPE: Final = ScopeData()


@dataclass(frozen=True, slots=True, kw_only=True)
class EventData:
    """An event of a span."""

    name: str
    at_ns: int
    attributes: Mapping[str, Any]
    dropped_attributes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkData:
    """A link of a span; ``flags`` are those of OTLP."""

    trace_id: str
    span_id: str
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    dropped_attributes: int = 0
    flags: int = 0


@dataclass(slots=True, kw_only=True)
class SpanData:
    """An ended span; ids are lowercase hex, ``parent_span_id`` is empty for a root.

    ``kind`` and ``flags`` are those of OTLP. ``genai_parent`` is the nearest GenAI ancestor (empty if there is
    none) if the parent is not a GenAI span, else None. ``parent_sampled`` is False if the parent was not sampled. The
    class is not ``frozen``, because that doubles the time to create an object.
    """

    trace_id: str
    span_id: str
    parent_span_id: str
    name: str
    kind: int
    start_ns: int
    end_ns: int
    status: StatusName
    status_message: str
    attributes: Mapping[str, Any]
    events: Sequence[EventData] = ()
    links: Sequence[LinkData] = ()
    trace_state: str = ""
    flags: int = 0
    dropped_attributes: int = 0
    dropped_events: int = 0
    dropped_links: int = 0
    genai_parent: str | None = None
    parent_sampled: bool = True
    resource: ResourceData = NO_RESOURCE
    scope: ScopeData = NO_SCOPE
    cache: dict[str, Any] = field(init=False, default_factory=dict[str, Any], compare=False, repr=False)
    """Results of ``cached_on_span`` functions: JSON in an attribute is parsed once for all readers."""

    @property
    def duration_ms(self) -> float:
        """Return the duration in milliseconds."""
        return (self.end_ns - self.start_ns) / _NS_PER_MS

    @property
    def is_generation(self) -> bool:
        """Return whether the span is a call of a model (and not a group, a tool or a web request)."""
        return semconv.OPERATION_NAME in self.attributes and semconv.REQUEST_MODEL in self.attributes

    @property
    def is_group(self) -> bool:
        """Return whether the span is a group span of spancast (``tracing/group_spans.py``)."""
        is_workflow = self.attributes.get(semconv.OPERATION_NAME) == semconv.INVOKE_WORKFLOW
        return is_workflow and self.scope.name == semconv.SCOPE_NAME

    def with_attributes(
        self,
        attributes: Mapping[str, Any],
        events: Sequence[EventData] | None = None,
        status_message: str | None = None,
    ) -> SpanData:
        """Return the same span with other ``attributes``, in a third of the time of ``dataclasses.replace``."""
        return SpanData(
            trace_id=self.trace_id,
            span_id=self.span_id,
            parent_span_id=self.parent_span_id,
            name=self.name,
            kind=self.kind,
            start_ns=self.start_ns,
            end_ns=self.end_ns,
            status=self.status,
            status_message=self.status_message if status_message is None else status_message,
            attributes=attributes,
            events=self.events if events is None else events,
            links=self.links,
            trace_state=self.trace_state,
            flags=self.flags,
            dropped_attributes=self.dropped_attributes,
            dropped_events=self.dropped_events,
            dropped_links=self.dropped_links,
            genai_parent=self.genai_parent,
            parent_sampled=self.parent_sampled,
            resource=self.resource,
            scope=self.scope,
        )

    def first(self, *names: str) -> Any:  # noqa: ANN401 - attribute values have any type
        """Return the value of the first attribute of ``names`` that exists, else None."""
        attributes = self.attributes
        for name in names:
            if name in attributes:
                return attributes[name]
        return None

    def text(self, *names: str) -> str | None:
        """Return the result of ``first`` as text, None if there is none."""
        attributes = self.attributes
        for name in names:
            if name in attributes:
                value = attributes[name]
                return value if type(value) is str else text_of(value)
        return None

    def number(self, *names: str) -> float | None:
        """Return the result of ``first`` as a number, None if it is not a number."""
        return number_of(self.first(*names))

    def count(self, *names: str) -> int | None:
        """Return the result of ``first`` as a count, None if it is not a count."""
        return count_of(self.first(*names))


def cached_on_span(reader: Callable[[SpanData], R]) -> Callable[[SpanData], R]:
    """Cache the results of ``reader`` on the span; all callers share a result and must not modify it."""
    name = f"{reader.__module__}.{reader.__qualname__}"

    @functools.wraps(reader)
    def read_once(span: SpanData) -> R:
        cache = span.cache
        if name not in cache:
            cache[name] = reader(span)
        return cache[name]

    return read_once


# --- values ------------------------------------------------------------------------------------


def plain_attributes(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of ``given`` with the values of ``plain_value``."""
    attributes = dict(given)
    for name, value in attributes.items():
        kind = type(value)  # pyright: ignore[reportUnknownVariableType] - any value
        if kind is str or kind is bool or kind is float or (kind is int and -_INT64 <= value < _INT64):
            continue
        attributes[name] = plain_value(value)
    return attributes


def plain_value(value: Any, depth: int = 0) -> Any:  # noqa: ANN401, PLR0911 - one case per kind of value
    """Return ``value`` with a type of OTLP: an integer beyond 64 bits and any other object become text."""
    kind = type(value)  # pyright: ignore[reportUnknownVariableType] - any value
    if kind is str or kind is bool or kind is float or value is None or kind is bytes:
        return value
    if kind is int:
        return value if -_INT64 <= value < _INT64 else json_codec.integer_text(value)
    for base in (str, int, float):
        if isinstance(value, base):  # an enum, a numpy number
            return plain_value(base(value))
    if isinstance(value, bytearray):
        return bytes(value)
    if depth < _MAX_DEPTH and isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        return {str(key): plain_value(item, depth + 1) for key, item in items}
    if depth < _MAX_DEPTH and isinstance(value, Sequence):
        return [plain_value(item, depth + 1) for item in cast("Sequence[Any]", value)]
    return json_codec.encode(value)


# --- JSON --------------------------------------------------------------------------------------


def resource_json(resource: ResourceData) -> bytes:
    """Return ``resource`` as JSON."""
    return _dumped({"attributes": resource.attributes, "schema_url": resource.schema_url})


def scope_json(scope: ScopeData) -> bytes:
    """Return ``scope`` as JSON."""
    return _dumped(
        {
            "name": scope.name,
            "version": scope.version,
            "attributes": scope.attributes,
            "schema_url": scope.schema_url,
        }
    )


@functools.lru_cache(_MAX_CONTEXTS)
def read_resource(body: bytes) -> ResourceData:
    """Return the resource of ``resource_json``, the same object for the same bytes."""
    return ResourceData(**_loaded(body))


@functools.lru_cache(_MAX_CONTEXTS)
def read_scope(body: bytes) -> ScopeData:
    """Return the scope of ``scope_json``, the same object for the same bytes."""
    return ScopeData(**_loaded(body))


def span_json(span: SpanData) -> bytes:
    """Return ``span`` as JSON, without its resource and scope.

    Raises:
        TypeError: A text holds a lone surrogate, or the name of an attribute is an enum (see ``well_formed``).
    """
    return _dumped(_fields(span))


def well_formed(span: SpanData) -> SpanData:
    """Return ``span`` with names of type ``str``, and ``?`` for each lone surrogate, which UTF-8 cannot encode."""
    return _span(_well_formed(_fields(span)), span.resource, span.scope)


def read_record(record: SpanRecord) -> SpanData:
    """Return the span of ``record``, decoded at first use and then held in memory for a while.

    Raises:
        ValueError: The body of the record is not a span.
    """
    span = record.held
    if span is None:
        span = _span(_loaded(record.body), read_resource(record.resource), read_scope(record.scope))
        hold(record, span)
    return cast("SpanData", span)


def _fields(span: SpanData) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "trace_id": span.trace_id,
        "span_id": span.span_id,
        "parent_span_id": span.parent_span_id,
        "name": span.name,
        "kind": span.kind,
        "start_ns": span.start_ns,
        "end_ns": span.end_ns,
        "status": span.status,
        "status_message": span.status_message,
        "flags": span.flags,
        "attributes": span.attributes,
    }
    if span.events:
        fields["events"] = [_event_fields(event) for event in span.events]
    if span.links:
        fields["links"] = [_link_fields(link) for link in span.links]
    if span.trace_state:
        fields["trace_state"] = span.trace_state
    if span.dropped_attributes or span.dropped_events or span.dropped_links:
        fields["dropped_attributes"] = span.dropped_attributes
        fields["dropped_events"] = span.dropped_events
        fields["dropped_links"] = span.dropped_links
    if span.genai_parent is not None:
        fields["genai_parent"] = span.genai_parent
    if not span.parent_sampled:
        fields["parent_sampled"] = False
    return fields


def _event_fields(event: EventData) -> dict[str, Any]:
    fields: dict[str, Any] = {"name": event.name, "at_ns": event.at_ns, "attributes": event.attributes}
    if event.dropped_attributes:
        fields["dropped_attributes"] = event.dropped_attributes
    return fields


def _link_fields(link: LinkData) -> dict[str, Any]:
    return {
        "trace_id": link.trace_id,
        "span_id": link.span_id,
        "attributes": link.attributes,
        "dropped_attributes": link.dropped_attributes,
        "flags": link.flags,
    }


def _span(fields: dict[str, Any], resource: ResourceData, scope: ScopeData) -> SpanData:
    if "events" in fields:
        fields["events"] = tuple([EventData(**event) for event in fields["events"]])
    if "links" in fields:
        fields["links"] = tuple([LinkData(**link) for link in fields["links"]])
    return SpanData(resource=resource, scope=scope, **fields)


def _dumped(fields: dict[str, Any]) -> bytes:
    return orjson.dumps(fields if _is_json(fields) else {_TYPED: _typed(fields)})


def _loaded(body: bytes) -> dict[str, Any]:
    fields: dict[str, Any] = orjson.loads(body)
    return _untyped(fields[_TYPED]) if _TYPED in fields else fields


def _is_json(value: dict[str, Any] | list[Any]) -> bool:
    """Return whether all values in ``value`` exist in JSON."""
    item: Any
    for item in value.values() if isinstance(value, dict) else value:
        kind = type(item)  # pyright: ignore[reportUnknownVariableType] - any value
        if kind is str or kind is int:
            continue
        if kind is float:
            # True for NaN and the infinities, in a third of the time of `math.isfinite`.
            if item - item != 0.0:
                return False
        elif kind is bytes or ((kind is dict or kind is list) and not _is_json(item)):
            return False
    return True


def _typed(value: Any) -> Any:  # noqa: ANN401 - any attribute value
    """Return ``value`` with each dict, and each value that JSON lacks, wrapped as ``{type: value}``."""
    if isinstance(value, dict):
        return {_DICT: {key: _typed(item) for key, item in cast("dict[str, Any]", value).items()}}
    if isinstance(value, list):
        return [_typed(item) for item in cast("list[Any]", value)]
    if isinstance(value, bytes):
        return {_BYTES: base64.b64encode(value).decode()}
    return {_FLOAT: str(value)} if isinstance(value, float) and not math.isfinite(value) else value


def _untyped(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, list):
        return [_untyped(item) for item in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    [(kind, held)] = cast("dict[str, Any]", value).items()
    if kind == _DICT:
        return {key: _untyped(item) for key, item in held.items()}
    return float(held) if kind == _FLOAT else base64.b64decode(held)


def _well_formed(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, str):
        return value if type(value) is str and value.isascii() else json_codec.well_formed(value)
    if isinstance(value, dict):
        return {_well_formed(key): _well_formed(item) for key, item in cast("dict[str, Any]", value).items()}
    return [_well_formed(item) for item in cast("list[Any]", value)] if isinstance(value, list) else value


# --- spans still in memory ---------------------------------------------------------------------


class _HeldSpans:
    """Decoded spans of recent records, up to 8 to 16 MiB of JSON. Safe for threads and forks without a lock.

    There are two generations: when the younger one is full, the spans of the older one are released.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._young: list[weakref.ref[SpanRecord]] = []
        self._old: list[weakref.ref[SpanRecord]] = []
        self._bytes = 0

    def hold(self, record: SpanRecord, span: SpanData) -> None:
        """Attach ``span`` to ``record``."""
        record.held = span
        self._young.append(weakref.ref(record))
        # Two threads that add at once may lose one addition; the count starts again with each generation.
        self._bytes += len(record.body)
        if self._bytes >= self._max_bytes:
            released, self._old, self._young, self._bytes = self._old, self._young, [], 0
            for reference in released:
                if (former := reference()) is not None:
                    former.held = None


hold: Final = _HeldSpans(_HELD_BYTES).hold
"""Attach a span to its record, so that it is not decoded again while it is in memory."""
