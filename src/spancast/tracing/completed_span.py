"""An ended span completed with the attributes, status and exception that were parsed after its end.

The result is the span that the SDK would have made if they had been set before the end, with the span limits of
its provider.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar, cast

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import Status, StatusCode

from spancast.model.call import Attributes
from spancast.model.unparsed import Parsed

T = TypeVar("T")

_SCALARS: Final = frozenset({str, bool, int, float})


def completed(
    span: ReadableSpan, attributes: dict[str, Any], status: Status | None, exception: Event | None, limits: SpanLimits
) -> Parsed:
    """Return ``span`` with ``attributes`` in place of its own, and its status.

    ``status`` replaces the span's own one unless it is None or the own one is OK.
    """
    if status is None or span.status.status_code is StatusCode.OK:
        status = span.status
    if exception is None and _fits(attributes, limits):
        return span, _with_tuples(attributes), status
    kept = BoundedAttributes(limits.max_span_attributes, attributes, max_value_len=limits.max_span_attribute_length)
    kept.dropped += span.dropped_attributes
    events: Sequence[Event] = span.events if exception is None else (*span.events, exception)
    result = ReadableSpan(
        name=span.name,
        context=span.get_span_context(),
        parent=span.parent,
        resource=span.resource,
        attributes=kept,
        events=_bounded(limits.max_events, events, span.dropped_events),
        links=_bounded(limits.max_links, span.links, span.dropped_links),
        kind=span.kind,
        status=status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )
    return result, dict(kept), status


def exception_event(attributes: Attributes, time_ns: int, limits: SpanLimits) -> Event:
    """Return an exception event, with the SDK's limits for event attributes."""
    length = limits.max_attribute_length
    return Event("exception", BoundedAttributes(limits.max_event_attributes, attributes, max_value_len=length), time_ns)


def _fits(attributes: Mapping[str, Any], limits: SpanLimits) -> bool:
    """Return whether the SDK would keep all ``attributes`` unchanged."""
    most = limits.max_span_attributes
    if limits.max_span_attribute_length is not None or (most is not None and len(attributes) > most):
        return False
    values = attributes.values()
    kinds = {*map(type, values)} - _SCALARS
    if not kinds:
        return True
    return kinds <= {list, tuple} and all(
        {*map(type, value)} <= _SCALARS for value in values if type(value) not in _SCALARS
    )


def _with_tuples(attributes: dict[str, Any]) -> dict[str, Any]:
    for name, value in attributes.items():
        if type(value) is list:
            attributes[name] = tuple(cast("list[Any]", value))
    return attributes


def _bounded(most: int | None, items: Sequence[T], dropped: int) -> BoundedList[T]:
    bounded = BoundedList[T].from_seq(most, items)
    bounded.dropped += dropped
    return bounded
