"""A factory of spans for any tracer provider, and the tracer provider that ``configure()`` makes."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor
from opentelemetry.sdk.trace import TracerProvider as SDKTracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, DEFAULT_ON, Sampler
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    TraceFlags,
    TracerProvider,
    get_current_span,
)

from spancast.model import semconv
from spancast.model.call import Attributes
from spancast.model.version import VERSION
from spancast.otel_private import span_limits
from spancast.tracing.id_generator import FixedTraceIdGenerator
from spancast.tracing.span_processor import SpancastProcessor

_ENOUGH_ATTRIBUTES: Final = 64


class SpancastTracerProvider(SDKTracerProvider):
    """The tracer provider for an application that has none.

    A span that is parsed on the export thread is complete for our processor only. So this provider records whether
    any other processor was added.

    Raises:
        ValueError: A span limit in the environment is not a number.
    """

    def __init__(self, resource: Resource, sampler: Sampler | None) -> None:
        self.limits: Final = SpanLimits()
        self.processor: SpancastProcessor | None = None
        self.only_processor: SpancastProcessor | None = None
        """``processor``, unless there is another one."""
        self._has_others = False
        super().__init__(sampler, resource, span_limits=self.limits)

    def add_span_processor(self, span_processor: SpanProcessor) -> None:
        """Add ``span_processor``; if it is not ours, calls that end from now on are parsed before their span ends."""
        if isinstance(span_processor, SpancastProcessor):
            self.processor = span_processor
        else:
            self._has_others = True
        self.only_processor = None if self._has_others else self.processor
        if self.processor is not None and self._has_others:
            self.processor.add_now()
        super().add_span_processor(span_processor)


class SpanFactory:
    """Starts spans with a tracer of ``provider``."""

    def __init__(self, provider: TracerProvider) -> None:
        self.provider: Final = provider
        self._tracer: Final = provider.get_tracer(semconv.SCOPE_NAME, VERSION, semconv.SCHEMA_URL)
        own = self._own = provider if isinstance(provider, SpancastTracerProvider) else None
        self.limits: Final = span_limits(self._tracer) if own is None else own.limits
        # Another sampler may decide by attributes; a small limit drops some of them.
        most, length = self.limits.max_span_attributes, self.limits.max_span_attribute_length
        has_room = length is None and (most is None or most >= _ENOUGH_ATTRIBUTES)
        self._adds_at_end: Final = own is not None and own.sampler in (ALWAYS_ON, DEFAULT_ON) and has_room

    @property
    def adding_at_end(self) -> SpancastProcessor | None:
        """Return our processor if nothing else reads the attributes of a span before its end; None otherwise."""
        return self._own.only_processor if self._adds_at_end and self._own is not None else None

    def add_now(self, span: Span) -> None:
        """Add the attributes that ``span`` was started without, if there are any."""
        if self._own is not None and self._own.processor is not None:
            self._own.processor.add_now(span)

    @property
    def only_processor(self) -> SpancastProcessor | None:
        """Return our processor if it is the only one on a provider of ours; None otherwise."""
        return None if self._own is None else self._own.only_processor

    def start_span(  # noqa: PLR0913, PLR0917 - one argument per part of a span
        self,
        name: str,
        context: Context,
        kind: SpanKind,
        attributes: Attributes | None,
        links: list[Link],
        trace_id_override: int | None,
    ) -> Span:
        """Start a span; a root span gets the trace id ``trace_id_override`` unless None."""
        tracer: Any = self._tracer
        generator = getattr(tracer, "id_generator", None) if trace_id_override is not None else None
        if trace_id_override is not None and generator is not None:
            tracer = copy.copy(tracer)
            # ``id_generator`` is a public attribute of the SDK's tracer. For a tracer without it, the caller's trace id
            # is an attribute only.
            tracer.id_generator = FixedTraceIdGenerator(trace_id_override, generator)
        return tracer.start_span(name, context, kind, attributes, links)

    def start_group(  # noqa: PLR0913 - as start_span
        self,
        name: str,
        context: Context,
        attributes: Callable[[], Attributes],
        links: list[Link],
        trace_id_override: int | None,
        *,
        may_be_late: bool,
    ) -> Span:
        """Start a group span.

        ``may_be_late``: no code sees it before its end, so the SDK makes it then, on the thread that ends it: to start
        a span takes the SDK longer than all that spancast does for a call.
        """
        parent = get_current_span(context).get_span_context()
        trace_id = parent.trace_id if parent.is_valid else trace_id_override
        generator: IdGenerator | None = getattr(self._tracer, "id_generator", None)
        is_sampled = not parent.is_valid or bool(parent.trace_flags & TraceFlags.SAMPLED)
        if not may_be_late or trace_id is None or generator is None or not is_sampled or self.adding_at_end is None:
            return self.start_span(name, context, SpanKind.INTERNAL, attributes(), links, trace_id_override)
        flags = parent.trace_flags if parent.is_valid else TraceFlags(TraceFlags.SAMPLED)
        ids = SpanContext(trace_id, generator.generate_span_id(), False, flags, parent.trace_state)
        started_ns = time.time_ns()

        def start() -> Span:
            tracer: Any = copy.copy(self._tracer)
            tracer.id_generator = FixedTraceIdGenerator(ids.trace_id, generator, ids.span_id)
            return tracer.start_span(name, context, SpanKind.INTERNAL, attributes(), links, started_ns)

        return _LateSpan(ids, start)


class _LateSpan(NonRecordingSpan):
    """A span that has its ids from the start, and that the SDK makes when it ends."""

    def __init__(self, ids: SpanContext, start: Callable[[], Span]) -> None:
        super().__init__(ids)
        self._start = start

    def end(self, end_time: int | None = None) -> None:
        """Make the span and end it."""
        self._start().end(end_time)
