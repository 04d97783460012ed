"""The call tracer: ``CallTracer.start_call`` -> ``TracedCall`` -> span.

It does not raise into a client (``never_raise``), except in strict mode. A call that another instrumentation
already records gets no second span.
"""

from __future__ import annotations

import atexit
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from opentelemetry import trace as trace_api
from opentelemetry.context import Context, get_current
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from spancast.diagnostics import counters, never_raise, warn_once
from spancast.dialects.cost import CostEstimator, load_in_background
from spancast.dialects.protocol import Dialect
from spancast.errors import SpancastError, TraceKeyError
from spancast.model import trace_keys
from spancast.model.completion_urls import OwnUrl
from spancast.model.identity_map import IdentityMap
from spancast.model.providers import UNKNOWN_SERVER, Server
from spancast.model.trace_keys import NO_KEYS, TraceKeys
from spancast.model.version import VERSION
from spancast.otel_private import global_meter_provider, has_readers
from spancast.tracing.client_metrics import ClientMetrics
from spancast.tracing.framework_keys import framework_keys
from spancast.tracing.group_scope import GroupScope
from spancast.tracing.group_spans import IDLE_S, GroupSpans, SpanParent
from spancast.tracing.openrouter_fields import Forward
from spancast.tracing.other_instrumentations import active_inference_span, is_suppressed
from spancast.tracing.span_factory import SpanFactory
from spancast.tracing.stored_responses import StoredResponses
from spancast.tracing.trace_block import ACTIVE_KEYS, NO_ACTIVE_KEYS, baggage_keys, lost_entry
from spancast.tracing.traced_call import CURRENT_CALL, TracedCall, end_open_calls

_KEY_FIELDS: Final = frozenset(("trace", "session_id", "user", "metadata"))
"""Fields of a request that may have trace keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TracingSettings:
    """The settings of call tracing.

    ``tracer_provider`` and ``meter_provider`` are the global ones at the time of the call if None.
    ``cancellation_is_error`` gives a cancelled call the status ERROR. Without a ``cost_estimator``, no cost is
    estimated. ``chunk_metrics`` also measures the time of every chunk of a stream.
    """

    tracer_provider: TracerProvider | None = None
    meter_provider: MeterProvider | None = None
    capture_content: bool = True
    strict: bool = False
    forward_trace_keys: Forward = "auto"
    request_stream_usage: bool = False
    cancellation_is_error: bool = False
    chunk_metrics: bool = False
    group_idle_timeout: float = IDLE_S
    completion_urls: tuple[OwnUrl, ...] = ()
    cost_estimator: CostEstimator | None = field(default_factory=CostEstimator)
    defaults: TraceKeys = field(default_factory=lambda: NO_KEYS)


class CallTracer:
    """Starts the recording of each call with the current settings; one per process."""

    def __init__(self) -> None:
        self.settings: TracingSettings = TracingSettings()
        self.group_spans = GroupSpans(self.span_factory)
        self.stored_responses = StoredResponses()
        self._span_factory: SpanFactory | None = None
        self._metrics: Final[IdentityMap[MeterProvider, ClientMetrics]] = IdentityMap()
        self.before_call: Callable[[], None] | None = None
        """Called before each call and each block that opens groups."""
        self.before_collection: Callable[[], None] | None = None
        """Called before metrics are collected."""

    def configure(self, settings: TracingSettings) -> None:
        """Use ``settings`` for calls that start from now on, and end all open group spans."""
        self.group_spans.end_all()
        if settings.group_idle_timeout != self.settings.group_idle_timeout:
            self.group_spans = GroupSpans(self.span_factory, idle_s=settings.group_idle_timeout)
        self.settings = settings
        self.stored_responses = StoredResponses()
        self._span_factory = None

    @never_raise
    def start_call(  # noqa: PLR0913 - one argument per fact that a client knows about a call
        self,
        dialect: Dialect,
        body: Mapping[str, Any],
        server: Server = UNKNOWN_SERVER,
        session_header: object = None,
        *,
        is_outermost: bool = False,
        parse_now: bool = True,
    ) -> TracedCall | None:
        """Start recording a call with request ``body``; return None if that failed.

        ``parse_now`` is False if the client will call ``TracedCall.set_request_bytes``.

        Raises:
            TraceKeyError: A trace key is invalid and ``strict`` is set.
        """
        lost = lost_entry()
        if lost is not None:
            start = functools.partial(self.start_call, is_outermost=is_outermost, parse_now=parse_now)
            return lost.step(start, dialect, body, server, session_header)
        if self.before_call is not None:
            self.before_call()
        current = get_current()
        keys = NO_KEYS
        if (
            not _KEY_FIELDS.isdisjoint(body)
            or session_header is not None
            or current
            or ACTIVE_KEYS.get() is not NO_ACTIVE_KEYS
            or self.settings.defaults is not NO_KEYS
        ):
            keys = self.read_keys(body, session_header, current)
            if keys.validation_errors:
                self.report_problems(keys.validation_errors, TraceKeyError, strict=self.settings.strict)
        traced_call = TracedCall(self, dialect, body, keys, server)
        if not keys.enabled:
            return traced_call
        traced_call.is_function = is_outermost
        outer = CURRENT_CALL.get()
        if outer is None or not outer.is_running:
            if current and is_suppressed(current):
                counters.add("calls_suppressed")
            else:
                self._start(traced_call, current, None, parse_now=parse_now)
        elif outer.keys.enabled:
            if outer.is_function or outer.is_request(body):
                traced_call.start_within(outer, parse_now=parse_now)
            else:
                # Code of the caller inside an SDK's call (an event hook, a signal handler) makes a call of its own.
                self._start(traced_call, current, outer, parse_now=parse_now)
        return traced_call

    @staticmethod
    def _start(traced_call: TracedCall, current: Context, outer: TracedCall | None, *, parse_now: bool) -> None:
        """Start a span for ``traced_call``, or record it on the span that another instrumentation has made for it."""
        traced_call.framework_keys = framework_keys()
        active = active_inference_span(current) if current else None
        if active is None or (outer is not None and outer.is_recorded_on(active)):
            traced_call.start(current, parse_now=parse_now)
        else:
            # A second span would be a duplicate.
            counters.add("calls_merged")
            traced_call.start_on(active)

    def read_keys(self, body: Mapping[str, Any], session_header: object, current: Context) -> TraceKeys:
        """Return the trace keys of a call, merged from all sources.

        Precedence: body, session header, ``spancast.trace`` blocks, baggage, defaults.
        """
        keys = NO_KEYS
        if not _KEY_FIELDS.isdisjoint(body):
            keys = trace_keys.read(
                body.get("trace"),
                session_id=body.get("session_id"),
                user=body.get("user"),
                metadata=body.get("metadata"),
            )
        if session_header is not None:
            keys = keys.merged_over(trace_keys.read(session_id=session_header))
        keys = keys.merged_over(ACTIVE_KEYS.get().keys)
        if current:
            keys = keys.merged_over(baggage_keys(current))
        return keys.merged_over(self.settings.defaults)

    @never_raise
    def open_groups(self, given: TraceKeys, merged: TraceKeys, block: GroupScope) -> SpanParent | None:
        """Open the group spans that a ``with`` block names; return None if that failed.

        ``given`` are the block's own keys; ``merged`` also include those of the blocks around it.

        Raises:
            TraceKeyError: A trace key is invalid and ``strict`` is set.
        """
        if self.before_call is not None:
            self.before_call()
        if given.validation_errors:
            self.report_problems(given.validation_errors, TraceKeyError, strict=self.settings.strict)
        current = get_current()
        if is_suppressed(current):
            # A span for the work of an export thread would be exported by the same thread, without end.
            return None
        own = merged if given.span_name else merged.without("span_name")
        return self.group_spans.resolve_parent(own, current, block)

    def span_factory(self) -> SpanFactory:
        """Return the span factory of the current tracer provider."""
        span_factory = self._span_factory
        provider = self.settings.tracer_provider or trace_api.get_tracer_provider()
        if span_factory is None or span_factory.provider is not provider:
            span_factory = self._span_factory = SpanFactory(provider)
            if self.settings.cost_estimator is not None:
                load_in_background()
            # atexit hooks run in reverse order: registered after the provider's shutdown, this one runs before it.
            atexit.unregister(self.end_open_spans)
            atexit.register(self.end_open_spans)
        return span_factory

    def end_open_spans(self) -> None:
        """End every open call and group span, at the end of the process."""
        end_open_calls()
        self.group_spans.end_all()

    def active_metrics(self) -> ClientMetrics | None:
        """Return the instruments of the current meter provider; None if nothing collects its metrics."""
        provider = self.settings.meter_provider or global_meter_provider()
        if provider is None:
            return None
        if not has_readers(provider):
            return None
        metrics = self._metrics.get(provider)
        if metrics is None:
            metrics = ClientMetrics(provider, VERSION, self._before_collection)
            self._metrics.set(provider, metrics)
        return metrics

    @never_raise
    def _before_collection(self) -> None:
        if self.before_collection is not None:
            self.before_collection()

    def report_problems(self, validation_errors: Sequence[str], error: type[SpancastError], *, strict: bool) -> None:
        """Count ``validation_errors`` and log one warning per field; raise them as ``error`` if ``strict``.

        Each one is ``field: what was given, what is allowed``. None contains text of the caller.
        """
        counters.add("validation_errors", len(validation_errors))
        if strict:
            raise error("; ".join(map(trace_keys.refusal, validation_errors)))
        for problem in validation_errors:
            warn_once(f"problem:{problem.partition(':')[0]}", "spancast: %s", problem)


CALL_TRACER: Final = CallTracer()
