"""The hand-over of an ended call from the caller's thread to the export thread, before its bytes are parsed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import Status

    from spancast.model.call import Attributes

Parsed: TypeAlias = "tuple[ReadableSpan, dict[str, Any], Status]"
"""An ended span, all its attributes and its status, within the limits of its provider."""


class Unparsed(NamedTuple):
    """What is left to do for an ended span, and how much memory it keeps until then."""

    parse: Callable[[ReadableSpan], Parsed | None]
    """Parse request and response of the call; None if that failed. Called once, on any thread, never raises."""
    size_bytes: int
    attributes: Attributes
    """The attributes of the span's start, which a deferred span is without."""


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    """Return a copy of the attributes of an ended span."""
    held: Any = span.attributes or {}
    # The public ``copy`` of the SDK's attributes: read item by item, each costs three calls of Python.
    return dict(held.copy() if hasattr(held, "copy") else held)


def as_ended(span: ReadableSpan, unparsed: Unparsed | None = None) -> Parsed:
    """Return what an ended span has if nothing is left to parse, or if that failed."""
    attributes = attributes_of(span)
    return span, attributes if unparsed is None else {**unparsed.attributes, **attributes}, span.status
