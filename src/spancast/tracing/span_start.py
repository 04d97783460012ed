# ruff: noqa: SLF001 - the fields of the SDK's objects are what this module is about
"""Starting and ending a span of the SDK: what its ``Tracer.start_span`` and ``Span.end`` do, for less.

They look at every attribute through abstract classes, make flags, arguments and a copy for the processors
anew each time, and the span is the most of what a short call costs its caller. Here the same steps are
taken in the same order, with the same sampler, ids, limits, metrics and processors, for a span of the same
class, made like one that its own constructor made (``tests/tracing/test_span_start.py`` holds one to the
other). Only for an SDK whose functions are known, by the names they use, to take those steps, and whose
spans hold what is known here; every other tracer starts its spans itself.
"""

from __future__ import annotations

import copy
import functools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

from opentelemetry import trace as trace_api
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.trace import SynchronousMultiSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, DEFAULT_ON, Decision
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    TraceFlags,
    Tracer,
    TracerProvider,
)

from spancast.model import semconv
from spancast.model.call import Attributes
from spancast.model.version import VERSION
from spancast.tracing.attributes import is_known
from spancast.tracing.id_generator import FixedTraceIdGenerator
from spancast.tracing.span_processor import SpancastProcessor

_DEFAULT_ATTRIBUTE_LIMIT: Final = 128
_READ: Final = frozenset({
    "DEFAULT", "NonRecordingSpan", "RANDOM_TRACE_ID", "SAMPLED", "SpanContext", "TraceFlags", "TypeError", "_Span",
    "_instrumentation_scope", "_is_enabled", "_span_limits", "_tracer_metrics", "attributes", "decision",
    "generate_span_id", "generate_trace_id", "get_current_span", "get_span_context", "id_generator",
    "instrumentation_info", "is_recording", "is_sampled", "is_trace_id_random", "is_valid", "isinstance",
    "random_trace_id", "resource", "sampler", "should_sample", "span_processor", "start", "start_span", "trace_api",
    "trace_flags", "trace_id", "trace_state",
})  # fmt: skip
_READ_END: Final = frozenset({
    "RuntimeError", "_attributes", "_end_time", "_immutable", "_lock", "_on_ending", "_readable_span",
    "_record_end_metrics", "_span_processor", "_start_time", "logger", "on_end", "time_ns", "warning",
})  # fmt: skip
_READ_START: Final = frozenset({"_lock", "_span_processor", "_start_time", "logger", "on_start", "time_ns", "warning"})
_Span: Final[Any] = getattr(sdk, "_Span", None)
_FLAGS: Final = tuple(TraceFlags(flags) for flags in range(4))
_SAMPLED: Final = TraceFlags.SAMPLED
_NO_STATE: Final = SpanContext(1, 2, is_remote=False).trace_state
_MOST_TRACE_ID: Final = (1 << 128) - 1
_MOST_SPAN_ID: Final = (1 << 64) - 1
_NO_PARENT: Final = trace_api.INVALID_SPAN_CONTEXT
_RANDOM: Final = getattr(TraceFlags, "RANDOM_TRACE_ID", 0)
# What all spans of a tracer have in common, but for the status that all begin with.
_SHARED: Final = {
    "_sampler": "sampler", "_resource": "resource", "_span_processor": "span_processor", "_limits": "_span_limits",
    "_instrumentation_scope": "_instrumentation_scope", "_instrumentation_info": "instrumentation_info",
}  # fmt: skip
_FIXED: Final[dict[str, Any]] = {
    "_start_time": None, "_end_time": None, "_trace_config": None,
    "_record_exception": True, "_set_status_on_exception": True,
}  # fmt: skip
_LIST_PARTS: Final = {"dropped", "_dq", "_lock"}
_new: Final[Any] = object.__new__
_new_tuple: Final[Any] = tuple[Any, ...].__new__
_Lock: Final[Any] = threading.Lock

Mold: TypeAlias = Callable[[str, SpanContext, "SpanContext | None", SpanKind, "list[Link]", Any, bool, Any], Any]
"""Makes a span of name, context, parent, kind, links, attributes, whether they are clean, and what its end calls."""


def mold_of(tracer: Tracer) -> Mold | None:
    """Return what makes spans as the SDK's constructor makes them for ``tracer``; None where that is not known.

    Not known: a tracer that starts spans by other functions than those that were read for this module,
    or whose spans hold anything else than what is named here.
    """
    if type(tracer) is not sdk.Tracer or _Span is None or "start_span" in vars(tracer):
        return None
    functions = (sdk.Tracer.start_span, _READ), (_Span.start, _READ_START), (_Span.end, _READ_END)
    return _molded(tracer) if all(_names_in(function) == read for function, read in functions) else None


def _names_in(function: Any) -> frozenset[str]:  # noqa: ANN401 - a function, or whatever stands in its place
    code: Any = getattr(function, "__code__", None)
    return frozenset(code.co_names if code is not None else ())


def _molded(tracer: Any) -> Mold | None:  # noqa: ANN401 - the SDK's, with fields that are its own business
    # One that the constructor made shows what there is on a span, and that each of it is what is put there below.
    own: dict[str, Any] = {
        "_name": "name",
        "_context": SpanContext(1, 2, is_remote=False),
        "_parent": SpanContext(1, 3, is_remote=True),
        "_kind": SpanKind.CLIENT,
        "_record_end_metrics": lambda: None,
    }
    try:
        made = _Span(
            own["_name"], own["_context"], own["_parent"], tracer.sampler,
            kind=own["_kind"], record_end_metrics=own["_record_end_metrics"],
            resource=tracer.resource, span_processor=tracer.span_processor, limits=tracer._span_limits,
            instrumentation_info=tracer.instrumentation_info, instrumentation_scope=tracer._instrumentation_scope,
        )  # fmt: skip
    except TypeError:
        return None
    fields: dict[str, Any] = {**vars(made)}
    sampler, resource, processor, limits = tracer.sampler, tracer.resource, tracer.span_processor, tracer._span_limits
    scope, info = tracer._instrumentation_scope, tracer.instrumentation_info
    held, events, links = (fields.pop(name, None) for name in ("_attributes", "_events", "_links"))
    lock, status = fields.pop("_lock", None), fields.pop("_status", None)
    parts: dict[str, Any] = getattr(held, "__dict__", {})
    is_as_known = (
        tuple(own["_context"]) == (1, 2, False, TraceFlags(0), _NO_STATE, True)
        and fields.keys() == own.keys() | _FIXED.keys() | _SHARED.keys()
        and all(fields[name] is value for name, value in (own | _FIXED).items())
        and all(fields[name] is getattr(tracer, of_tracer) for name, of_tracer in _SHARED.items())
        and type(lock) is type(_Lock())
        and type(status) is Status
        and is_known(held)
        and parts.items() >= {"_dict": {}, "dropped": 0, "_immutable": False}.items()
        and all(type(each) is BoundedList and vars(each).keys() == _LIST_PARTS for each in (events, links))
        and hasattr(_Span, "_new_links")
        and hasattr(BoundedAttributes, "_set_items")
    )
    if not is_as_known:
        return None
    most, longest = limits.max_span_attributes, limits.max_span_attribute_length
    fits = (1 << 62) if most is None else most
    no_events, no_links = (_late_list(most) for most in (limits.max_events, limits.max_links))

    def mold(  # noqa: PLR0913, PLR0917 - one argument per thing a span is made of
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        kind: SpanKind,
        linked: list[Link],
        attributes: Any,  # noqa: ANN401 - a sampler may give anything
        is_clean: bool,
        at_end: Any,  # noqa: ANN401 - the SDK's
    ) -> Any:  # noqa: ANN401 - the SDK's
        # Field by field: an object that is given a whole dict takes twice the memory, and memory is what is slow here.
        held = _new(BoundedAttributes)
        is_ready = is_clean and longest is None and len(attributes) <= fits
        held._dict = {**attributes} if is_ready else {}
        held.maxlen, held.dropped, held.max_value_len, held._lock, held._immutable = most, 0, longest, _Lock(), False
        span = _new(_Span)
        span._name, span._context, span._parent, span._kind = name, context, parent, kind
        span._attributes, span._events, span._links, span._lock = held, _new(no_events), _new(no_links), _Lock()
        span._sampler, span._resource, span._span_processor, span._limits = sampler, resource, processor, limits
        span._instrumentation_scope, span._instrumentation_info, span._trace_config = scope, info, None
        span._status, span._start_time, span._end_time = status, None, None
        span._record_exception = span._set_status_on_exception = True
        span._record_end_metrics = at_end
        if linked:
            span._links = span._new_links(linked)
        if not is_ready:
            held._set_items(attributes)
        return span

    return mold


def start(  # noqa: PLR0913, PLR0917 - one argument per thing a span is made of
    tracer: Any,  # noqa: ANN401 - the SDK's, with fields that are its own business
    mold: Mold,
    name: str,
    context: Context,
    kind: SpanKind,
    attributes: Attributes,
    links: list[Link],
    trace_id_override: int | None,
) -> Span:
    """Start a span of a ``tracer`` that has a ``mold``; a root gets ``trace_id_override``.

    ``attributes`` are strings and integers.
    """
    # Nothing at all in it is what most have.
    parent: Any = trace_api.get_current_span(context).get_span_context() if context else _NO_PARENT
    if not tracer._is_enabled():
        return NonRecordingSpan(parent)
    generator = tracer.id_generator
    if parent is _NO_PARENT or parent is None or not parent.is_valid:
        parent, trace_state = None, _NO_STATE
        # An id that is given is a hash, or whatever the caller had: not random (W3C level 2 flag).
        flags = _RANDOM if trace_id_override is None and generator.is_trace_id_random() else 0
        trace_id = generator.generate_trace_id() if trace_id_override is None else trace_id_override
    else:
        flags, trace_id, trace_state = parent.trace_flags & _RANDOM, parent.trace_id, parent.trace_state
    sampler = tracer.sampler
    given: Any = attributes
    if sampler is ALWAYS_ON or (sampler is DEFAULT_ON and (parent is None or parent.trace_flags & _SAMPLED)):
        # What nearly everybody has: they look at nothing else, and change nothing.
        decision, is_recorded, flags = Decision.RECORD_AND_SAMPLE, True, flags | _SAMPLED
    else:
        sampled = sampler.should_sample(context, trace_id, name, kind, attributes, links or ())
        decision, trace_state, given = sampled.decision, sampled.trace_state, sampled.attributes
        is_recorded = decision.is_recording()
        if decision.is_sampled():
            flags |= _SAMPLED
    span_id = generator.generate_span_id()
    if 0 < trace_id <= _MOST_TRACE_ID and 0 < span_id <= _MOST_SPAN_ID and trace_state is not None:
        own = _new_tuple(SpanContext, (trace_id, span_id, False, _FLAGS[flags], trace_state, True))
    else:
        own = SpanContext(trace_id, span_id, False, _FLAGS[flags], trace_state)
    at_end = tracer._tracer_metrics.start_span(parent, decision)
    if not is_recorded:
        return NonRecordingSpan(own)
    is_clean = given is attributes or given == attributes
    span = mold(name, own, parent, kind, links, attributes if is_clean else given, is_clean, at_end)
    # Its ``start()``: nobody else has it yet who could have started it.
    span._start_time = time.time_ns()
    processor = tracer.span_processor
    if _relay_alone(processor) is None:
        processor.on_start(span, parent_context=context)
    return span


def end(span: Any) -> None:  # noqa: ANN401 - the SDK's
    """End a span of a mold.

    Other processors are given a copy that has no way to change it, as the SDK has it. Where there is only
    ours, which changes nothing, it is given the span.
    """
    relay = _relay_alone(span._span_processor)
    if relay is None:
        span.end()
        return
    with span._lock:
        is_ended = span._end_time is not None
        if not is_ended:
            span._end_time = time.time_ns()
            span._attributes._immutable = True
    if is_ended:
        # By the caller, who had it as the current span.
        span.end()
        return
    if span._record_end_metrics:
        span._record_end_metrics()
    relay.on_end(span)


def _relay_alone(processor: Any) -> SpancastProcessor | None:  # noqa: ANN401 - the SDK's
    """Return our processor where there is no other; a start of our own spans is nothing to it."""
    if type(processor) is SynchronousMultiSpanProcessor:
        processors: tuple[Any, ...] = processor._span_processors  # pyright: ignore[reportPrivateUsage]
        if len(processors) == 1 and type(processors[0]) is SpancastProcessor:
            return processors[0]
    return None


class LateList(BoundedList[Any]):
    """The SDK's list of a span's events or links for as long as there are none: 600 bytes less each."""

    dropped = 0
    most: int | None = None

    def __len__(self) -> int:
        return 0

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - what the SDK's list has
        if name not in _LIST_PARTS:
            raise AttributeError(name)
        # Two threads may come at once, and get the same.
        fields = vars(self)
        # Not ``deque[Any]``: at run time that makes an alias first, a microsecond.
        kept: deque[Any] = deque(maxlen=self.most)
        fields.setdefault("_dq", kept)
        fields.setdefault("dropped", 0)
        fields.setdefault("_lock", _Lock())
        self.__class__ = BoundedList  # pyright: ignore[reportAttributeAccessIssue] - its parent, of the same layout
        return fields[name]


def _late_list(most: int | None) -> type[LateList]:
    return type(LateList.__name__, (LateList,), {"most": most})


class SpanFactory:
    """Starts the spans of ``provider``, on a tracer of our own."""

    def __init__(self, provider: TracerProvider) -> None:
        self.provider: Final = provider
        tracer = provider.get_tracer(semconv.SCOPE_NAME, VERSION, semconv.SCHEMA_URL)
        limits = getattr(tracer, "_span_limits", None)
        limit = getattr(limits, "max_span_attributes", None)
        self.attribute_limit: Final = limit if isinstance(limit, int) else _DEFAULT_ATTRIBUTE_LIMIT
        """How many attributes the tracer keeps on a span."""
        length = getattr(limits, "max_span_attribute_length", None)
        self.value_limit: Final = length if isinstance(length, int) else None
        """How many characters of a text the tracer keeps; None for all."""
        self.start_span: Final = functools.partial(start_by_sdk, tracer)
        mold = mold_of(tracer)
        self.start_call: Final = self.start_span if mold is None else functools.partial(start, tracer, mold)
        """As ``start_span``, where ``attributes`` are strings and integers."""
        self.end_call: Final[Callable[[Span], None]] = _end_by_sdk if mold is None else end
        """Ends a span of ``start_call``."""


def _end_by_sdk(span: Span) -> None:
    span.end()


def start_by_sdk(  # noqa: PLR0913, PLR0917 - as above
    tracer: Tracer,
    name: str,
    context: Context,
    kind: SpanKind,
    attributes: Attributes,
    links: list[Link],
    trace_id_override: int | None,
) -> Span:
    """Start a span of any ``tracer``; a root gets ``trace_id_override``."""
    generator = getattr(tracer, "id_generator", None) if trace_id_override is not None else None
    if trace_id_override is not None and generator is not None:
        tracer = copy.copy(tracer)
        # A public attribute of the SDK's tracer; others have none, and then the id is an attribute only.
        tracer.id_generator = FixedTraceIdGenerator(trace_id_override, generator)  # pyright: ignore[reportAttributeAccessIssue]
    return tracer.start_span(name, context, kind, attributes, links)
