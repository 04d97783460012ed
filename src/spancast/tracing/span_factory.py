"""A factory of spans for any tracer provider, and the tracer provider that ``configure()`` makes."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor
from opentelemetry.sdk.trace import TracerProvider as SDKTracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, DEFAULT_ON, Sampler
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    SpanKind,
    TraceFlags,
    TracerProvider,
    TraceState,
    get_current_span,
)

from spancast.diagnostics import never_raise
from spancast.model import semconv
from spancast.model.call import Attributes
from spancast.model.version import VERSION
from spancast.otel_private import span_limits
from spancast.tracing.deferred_span import DeferredSpan
from spancast.tracing.id_generator import FixedTraceIdGenerator
from spancast.tracing.span_processor import SpancastProcessor

_ENOUGH_ATTRIBUTES: Final = 64
_SAMPLED: Final = TraceFlags.SAMPLED
_RANDOM: Final = getattr(TraceFlags, "RANDOM_TRACE_ID", 0)
_ONLY_SAMPLED: Final = TraceFlags(_SAMPLED)
_KNOWN_FLAGS: Final = frozenset({_SAMPLED, _SAMPLED | _RANDOM})
_COUNTS_SPANS: Final = os.environ.get("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "").strip().lower() == "true"
"""Whether the SDK measures how many spans it starts."""


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
            self.processor.make_running()
        super().add_span_processor(span_processor)


class SpanFactory:
    """Starts spans with a tracer of ``provider``."""

    def __init__(self, provider: TracerProvider) -> None:
        self.provider: Final = provider
        self._tracer: Final = provider.get_tracer(semconv.SCOPE_NAME, VERSION, semconv.SCHEMA_URL)
        own = self._own = provider if isinstance(provider, SpancastTracerProvider) else None
        self.limits: Final = span_limits(self._tracer) if own is None else own.limits
        self.scope: Final = InstrumentationScope(semconv.SCOPE_NAME, VERSION, semconv.SCHEMA_URL)
        # Another sampler may decide by attributes; a small limit drops some of them.
        most, length = self.limits.max_span_attributes, self.limits.max_span_attribute_length
        has_room = length is None and (most is None or most >= _ENOUGH_ATTRIBUTES)
        may_defer = own is not None and own.sampler in (ALWAYS_ON, DEFAULT_ON) and has_room and not _COUNTS_SPANS
        self._generator: IdGenerator | None = getattr(self._tracer, "id_generator", None) if may_defer else None
        is_random = getattr(self._generator, "is_trace_id_random", None)
        self._root_flags: Final = TraceFlags(_SAMPLED | (_RANDOM if is_random is not None and is_random() else 0))

    @property
    def only_processor(self) -> SpancastProcessor | None:
        """Return our processor if it is the only one on a provider of ours; None otherwise."""
        return None if self._own is None else self._own.only_processor

    @property
    def resource(self) -> Resource:
        """Return the resource of the provider."""
        return getattr(self.provider, "resource", None) or Resource.get_empty()

    def start_span(  # noqa: PLR0913, PLR0917 - one argument per part of a span
        self,
        name: str,
        context: Context,
        kind: SpanKind,
        attributes: Callable[[], Attributes],
        links: list[Link],
        trace_id_override: int | None,
    ) -> Span:
        """Start a span; a root span gets the trace id ``trace_id_override`` unless None.

        It is a deferred one if nothing but our processor can see it.
        """
        generator = self._generator
        processor = None if generator is None or links else self.only_processor
        if generator is None or processor is None:
            return self._start(name, context, kind, attributes(), links, trace_id_override)
        around = get_current_span(context).get_span_context()
        parent = around if around.is_valid else None
        trace_state: TraceState | None = None
        if parent is None:
            flags = self._root_flags if trace_id_override is None else _ONLY_SAMPLED
            trace_id = generator.generate_trace_id() if trace_id_override is None else trace_id_override
        elif parent.trace_flags & _SAMPLED:
            trace_id, trace_state, flags = parent.trace_id, parent.trace_state, parent.trace_flags
            if flags not in _KNOWN_FLAGS:
                flags = TraceFlags(_SAMPLED | (flags & _RANDOM))
        else:
            return self._start(name, context, kind, attributes(), links, trace_id_override)
        ids = SpanContext(trace_id, generator.generate_span_id(), False, flags, trace_state)
        span = DeferredSpan(self, processor, name, ids, parent, kind, attributes, context)
        processor.running[ids.span_id] = span
        if self.only_processor is None:
            # Another processor was added meanwhile, which has not found it there.
            span.made()
        return span

    def make(self, span: DeferredSpan) -> Span:
        """Return ``span`` as the SDK makes it."""
        tracer: Any = copy.copy(self._tracer)
        ids = span.context
        is_random = bool(ids.trace_flags & _RANDOM)
        tracer.id_generator = FixedTraceIdGenerator(ids.trace_id, tracer.id_generator, ids.span_id, is_random=is_random)
        attributes = _first_attributes(span)
        return tracer.start_span(span.first_name, span.surroundings, span.kind, attributes, None, span.start_ns)

    def _start(  # noqa: PLR0913, PLR0917 - as start_span
        self,
        name: str,
        context: Context,
        kind: SpanKind,
        attributes: Attributes,
        links: list[Link],
        trace_id_override: int | None,
    ) -> Span:
        tracer: Any = self._tracer
        generator = getattr(tracer, "id_generator", None) if trace_id_override is not None else None
        if trace_id_override is not None and generator is not None:
            tracer = copy.copy(tracer)
            # ``id_generator`` is a public attribute of the SDK's tracer. For a tracer without it, the caller's trace id
            # is an attribute only.
            tracer.id_generator = FixedTraceIdGenerator(trace_id_override, generator)
        return tracer.start_span(name, context, kind, attributes, links)


@never_raise
def _first_attributes(span: DeferredSpan) -> Attributes:
    # Read inside a call of the application's own, which touches the span.
    return span.first_attributes()
