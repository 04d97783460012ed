# ruff: noqa: SLF001 - the fields of the SDK's objects are what this module is about
"""Starting a span of the SDK: what its ``Tracer.start_span`` does, for less.

That function looks at every attribute through abstract classes and makes flags and arguments anew each
time, and the span is the most of what a short call costs its caller. Here the same steps are taken in the
same order, with the same sampler, ids, limits, metrics and processors, for a span of the same class
(``tests/recording/test_span_start.py`` holds one to the other). Only for an SDK whose function
is known, by the names it uses, to take those steps; every other tracer starts its spans itself.
"""

from __future__ import annotations

import copy
import functools
from importlib.metadata import version
from typing import Any, Final

from opentelemetry import trace as trace_api
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk import trace as sdk
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags, Tracer, TracerProvider

from spancast.model import semconv
from spancast.model.exchange import Attributes
from spancast.recording.attributes import is_known
from spancast.recording.ids import WantedIdGenerator

VERSION: Final = version("spancast")

_DEFAULT_ATTRIBUTE_LIMIT: Final = 128
_READ: Final = frozenset({
    "DEFAULT", "NonRecordingSpan", "RANDOM_TRACE_ID", "SAMPLED", "SpanContext", "TraceFlags", "TypeError", "_Span",
    "_instrumentation_scope", "_is_enabled", "_span_limits", "_tracer_metrics", "attributes", "decision",
    "generate_span_id", "generate_trace_id", "get_current_span", "get_span_context", "id_generator",
    "instrumentation_info", "is_recording", "is_sampled", "is_trace_id_random", "is_valid", "isinstance",
    "random_trace_id", "resource", "sampler", "should_sample", "span_processor", "start", "start_span", "trace_api",
    "trace_flags", "trace_id", "trace_state",
})  # fmt: skip
_Span: Final[Any] = getattr(sdk, "_Span", None)
_FLAGS: Final = tuple(TraceFlags(flags) for flags in range(4))
_SAMPLED: Final = TraceFlags.SAMPLED
_RANDOM: Final = getattr(TraceFlags, "RANDOM_TRACE_ID", 0)


def is_read(tracer: Tracer) -> bool:
    """Tell whether ``tracer`` starts spans by the function that was read for this module."""
    if type(tracer) is not sdk.Tracer or _Span is None or "start_span" in vars(tracer):
        return False
    code: Any = getattr(sdk.Tracer.start_span, "__code__", None)
    return code is not None and frozenset(code.co_names) == _READ and is_known(BoundedAttributes())


def start(  # noqa: PLR0913, PLR0917 - one argument per thing a span is made of
    tracer: Any,  # noqa: ANN401 - the SDK's, with fields that are its own business
    name: str,
    context: Context,
    kind: SpanKind,
    attributes: Attributes,
    links: list[Link],
    wanted_trace_id: int | None,
) -> Span:
    """Start a span of a ``tracer`` of which ``is_read`` is true; a root gets ``wanted_trace_id``.

    ``attributes`` are strings and integers.
    """
    parent: Any = trace_api.get_current_span(context).get_span_context()
    if not tracer._is_enabled():
        return NonRecordingSpan(parent)
    generator = tracer.id_generator
    if parent is None or not parent.is_valid:
        parent = None
        # An id that is given is a hash, or whatever the caller had: not random (W3C level 2 flag).
        flags = _RANDOM if wanted_trace_id is None and generator.is_trace_id_random() else 0
        trace_id = generator.generate_trace_id() if wanted_trace_id is None else wanted_trace_id
    else:
        flags, trace_id = parent.trace_flags & _RANDOM, parent.trace_id
    linked = links or ()
    sampled = tracer.sampler.should_sample(context, trace_id, name, kind, attributes, linked)
    decision = sampled.decision
    if decision.is_sampled():
        flags |= _SAMPLED
    own = SpanContext(trace_id, generator.generate_span_id(), False, _FLAGS[flags], sampled.trace_state)
    at_end = tracer._tracer_metrics.start_span(parent, decision)
    if not decision.is_recording():
        return NonRecordingSpan(own)
    is_plain = sampled.attributes == attributes
    span = _Span(
        name=name,
        context=own,
        parent=parent,
        sampler=tracer.sampler,
        resource=tracer.resource,
        attributes=None if is_plain else sampled.attributes,
        links=linked,
        kind=kind,
        span_processor=tracer.span_processor,
        instrumentation_info=tracer.instrumentation_info,
        limits=tracer._span_limits,
        instrumentation_scope=tracer._instrumentation_scope,
        record_end_metrics=at_end,
    )
    if is_plain:
        held, limits = span._attributes, tracer._span_limits
        most = limits.max_span_attributes
        if limits.max_span_attribute_length is None and (most is None or most >= len(attributes)):
            held._dict.update(attributes)
        else:
            span.set_attributes(attributes)
    span.start(parent_context=context)
    return span


class SpanStarter:
    """Starts the spans of ``provider``, on a tracer of our own."""

    def __init__(self, provider: TracerProvider) -> None:
        self.provider: Final = provider
        tracer = provider.get_tracer(semconv.SCOPE_NAME, VERSION, semconv.SCHEMA_URL)
        limits = getattr(tracer, "_span_limits", None)
        limit = getattr(limits, "max_span_attributes", None)
        self.attribute_limit: Final = limit if isinstance(limit, int) else _DEFAULT_ATTRIBUTE_LIMIT
        """How many attributes the tracer keeps on a span."""
        self.start_span: Final = functools.partial(start_by_sdk, tracer)
        self.start_call: Final = functools.partial(start if is_read(tracer) else start_by_sdk, tracer)
        """As ``start_span``, where ``attributes`` are strings and integers."""


def start_by_sdk(  # noqa: PLR0913, PLR0917 - as above
    tracer: Tracer,
    name: str,
    context: Context,
    kind: SpanKind,
    attributes: Attributes,
    links: list[Link],
    wanted_trace_id: int | None,
) -> Span:
    """Start a span of any ``tracer``; a root gets ``wanted_trace_id``."""
    generator = getattr(tracer, "id_generator", None) if wanted_trace_id is not None else None
    if wanted_trace_id is not None and generator is not None:
        tracer = copy.copy(tracer)
        # A public attribute of the SDK's tracer; others have none, and then the id is an attribute only.
        tracer.id_generator = WantedIdGenerator(wanted_trace_id, generator)  # pyright: ignore[reportAttributeAccessIssue]
    return tracer.start_span(name, context, kind, attributes, links)
