"""Build the record of an ended span: the neutral span and its JSON.

The conventions of other instrumentations are recognised by one attribute each, so that their spans count as GenAI
spans too.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar, cast

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, Status

from spancast.encoding.redaction import NO_REDACTION, Redaction
from spancast.encoding.span_data import (
    EventData,
    LinkData,
    ResourceData,
    ScopeData,
    SpanData,
    StatusName,
    hold,
    plain_attributes,
    read_resource,
    read_scope,
    resource_json,
    scope_json,
    span_json,
    well_formed,
)
from spancast.export.filter_fields import filter_fields_of
from spancast.export.group_content import GroupContent
from spancast.model import semconv
from spancast.model.span_record import SpanRecord

T = TypeVar("T")

_GENAI_ATTRIBUTES: Final = frozenset(
    {
        semconv.OPERATION_NAME,
        "gen_ai.system",
        "openinference.span.kind",
        "traceloop.span.kind",
        "llm.request.type",
        "langfuse.observation.type",
        "langsmith.span.kind",
        "ai.operationId",
    }
)
_STATUS: Final[Mapping[int, StatusName]] = {1: "ok", 2: "error"}
_INT64: Final = 1 << 63
_HAS_IS_REMOTE: Final = 0x100
_IS_REMOTE: Final = 0x200
_MAX_CONTEXTS: Final = 256


def is_genai_span(scope: InstrumentationScope | None, attributes: Mapping[str, Any] | None) -> bool:
    """Return whether a span is a GenAI span: a call, a group span, or a GenAI span of another instrumentation."""
    is_ours = scope is not None and scope.name == semconv.SCOPE_NAME
    return is_ours or (bool(attributes) and any(mark in attributes for mark in _GENAI_ATTRIBUTES))


class ContextCache:
    """A cache of resources and scopes as JSON and as data. Bounded; for one thread."""

    def __init__(self) -> None:
        self._entries: OrderedDict[int, tuple[object, tuple[bytes, Any]]] = OrderedDict()

    def resource(self, given: Resource) -> tuple[bytes, ResourceData]:
        """Return ``given`` as JSON and as data."""
        known = self._entries.get(id(given))
        return known[1] if known else self._add(given, _resource_json(given), read_resource)

    def scope(self, given: InstrumentationScope | None) -> tuple[bytes, ScopeData]:
        """Return ``given`` as JSON and as data."""
        known = self._entries.get(id(given))
        return known[1] if known else self._add(given, _scope_json(given), read_scope)

    def _add(self, given: object, body: bytes, read: Callable[[bytes], T]) -> tuple[bytes, T]:
        # The entry holds `given`, so that no other object gets its id.
        prefix = (body, read(body))
        self._entries[id(given)] = (given, prefix)
        if len(self._entries) > _MAX_CONTEXTS:
            self._entries.popitem(last=False)
        return prefix


def _resource_json(given: Resource) -> bytes:
    return resource_json(ResourceData(plain_attributes(given.attributes), given.schema_url))


def _scope_json(given: InstrumentationScope | None) -> bytes:
    if given is None:
        return scope_json(ScopeData())
    attributes = plain_attributes(getattr(given, "attributes", None) or {})
    return scope_json(ScopeData(given.name or "", given.version or "", attributes, given.schema_url or ""))


def record_of(  # noqa: PLR0913 - three are options
    span: ReadableSpan,
    attributes: Mapping[str, Any],
    status: Status,
    contexts: ContextCache,
    genai_parent: bytes | None = None,
    *,
    groups: GroupContent | None = None,
    redaction: Redaction = NO_REDACTION,
    with_facts: bool = True,
) -> SpanRecord:
    """Return the record of the ended ``span``.

    Args:
        span: The span of the SDK.
        attributes: All of its attributes.
        status: Its status.
        contexts: The cache of resources and scopes.
        genai_parent: The id of the nearest GenAI ancestor (empty for none) if the parent is not a GenAI span.
        groups: Adds the texts of the calls to a group span.
        redaction: Applied before anything is encoded, but after ``facts`` are read.
        with_facts: Whether a filter reads ``facts``.
    """
    context = cast("SpanContext", span.get_span_context())
    parent = span.parent
    resource_body, resource = contexts.resource(span.resource)
    scope_body, scope = contexts.scope(span.instrumentation_scope)
    trace_id, span_id = context.trace_id.to_bytes(16, "big"), context.span_id.to_bytes(8, "big")
    parent_id = b"" if parent is None else parent.span_id.to_bytes(8, "big")
    events, links = span.events, span.links
    data = SpanData(
        trace_id=trace_id.hex(),
        span_id=span_id.hex(),
        parent_span_id=parent_id.hex(),
        name=str(span.name),
        kind=span.kind.value + 1,
        start_ns=nanoseconds(span.start_time),
        end_ns=nanoseconds(span.end_time),
        status=_STATUS.get(status.status_code.value, "unset"),
        status_message=status.description or "",
        attributes=plain_attributes(attributes),
        events=tuple([_event(event) for event in events]) if events else (),
        links=tuple([_link(link) for link in links]) if links else (),
        trace_state=_trace_state(context) if context.trace_state else "",
        flags=_flags(parent),
        dropped_attributes=span.dropped_attributes,
        dropped_events=span.dropped_events,
        dropped_links=span.dropped_links,
        genai_parent=None if genai_parent is None else genai_parent.hex(),
        parent_sampled=parent is None or parent.trace_flags.sampled,
        resource=resource,
        scope=scope,
    )
    if groups is not None:
        data = groups.complete(data)
    facts = filter_fields_of(data) if with_facts else {}
    is_genai = is_genai_span(span.instrumentation_scope, data.attributes)
    if redaction:
        data = redaction.apply(well_formed(data) if redaction.masks else data)
    try:
        body = span_json(data)
    except TypeError:
        data = well_formed(data)
        body = span_json(data)
    record = SpanRecord(
        trace_id=trace_id,
        span_id=span_id,
        parent_span_id=parent_id,
        end_ns=data.end_ns,
        is_genai=is_genai,
        resource=resource_body,
        scope=scope_body,
        body=body,
        facts=facts,
    )
    hold(record, data)
    return record


def _trace_state(context: SpanContext) -> str:
    return ",".join(f"{key}={value}" for key, value in context.trace_state.items())


def _flags(context: SpanContext | None) -> int:
    return _HAS_IS_REMOTE | (_IS_REMOTE if context is not None and context.is_remote else 0)


def _event(event: Event) -> EventData:
    return EventData(
        name=str(event.name),
        at_ns=nanoseconds(event.timestamp),
        attributes=plain_attributes(event.attributes or {}),
        dropped_attributes=getattr(event, "dropped_attributes", 0),
    )


def _link(link: Link) -> LinkData:
    return LinkData(
        trace_id=f"{link.context.trace_id:032x}",
        span_id=f"{link.context.span_id:016x}",
        attributes=plain_attributes(link.attributes or {}),
        dropped_attributes=getattr(link, "dropped_attributes", 0),
        flags=_flags(link.context),
    )


def nanoseconds(at_ns: float | None) -> int:
    """Return a span time as an integer in [0, 2**63), 0 if invalid: the SDK accepts any value from an application."""
    if type(at_ns) is int and 0 <= at_ns < _INT64:
        return at_ns
    if not isinstance(at_ns, (int, float)) or not at_ns > 0:
        return 0
    return int(at_ns) if at_ns < _INT64 else _INT64 - 1
