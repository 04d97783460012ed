"""A traced call, from its request to its end.

The caller's thread starts the span, keeps the bytes of request and response, and ends it. If only our processor
sees the span, the export thread parses the bytes; otherwise they are parsed before the span ends. Of objects that the
caller could still change (a decorated function's arguments and result) it keeps a copy as bytes, or they are parsed at
once. Entry points are wrapped in ``never_raise``, messages are not copied, and a call is recorded once.
"""

from __future__ import annotations

import functools
import os
import time
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias, TypeVar

from opentelemetry import trace as trace_api
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode

from spancast.diagnostics import counters, never_raise, warn_once
from spancast.dialects.protocol import RESPONSE_ID, Dialect, StreamReader
from spancast.errors import SpancastError
from spancast.model import json_codec, kept_copy, semconv
from spancast.model.call import Attributes, Failure, Response
from spancast.model.privacy import without_content
from spancast.model.providers import OPENROUTER, UNKNOWN_SERVER, Server
from spancast.model.trace_keys import NO_KEYS, TraceKeys
from spancast.model.unparsed import Parsed, Unparsed, attributes_of
from spancast.otel_private import get_context, set_context
from spancast.tracing.completed_span import completed, exception_event
from spancast.tracing.deferred_span import is_deferred
from spancast.tracing.exception_capture import CapturedException, capture, message_of, traceback_text
from spancast.tracing.group_spans import SpanParent
from spancast.tracing.openrouter_fields import forwarded
from spancast.tracing.other_instrumentations import is_own_call, suppress_others, unsuppressed
from spancast.tracing.span_attributes import (
    add_content,
    add_response,
    error_type,
    fit_to_limit,
    is_cut,
    is_empty,
)
from spancast.tracing.span_factory import SpanFactory
from spancast.tracing.span_processor import SpancastProcessor
from spancast.tracing.trace_block import ACTIVE_KEYS, register_call

if TYPE_CHECKING:
    from spancast.tracing.call_tracer import CallTracer, TracingSettings
    from spancast.tracing.client_metrics import ClientMetrics

Around: TypeAlias = "tuple[TracedCall | None, Context]"
"""The running call and the context around a call."""
T = TypeVar("T")
Incomplete: TypeAlias = Literal["closed", "abandoned", "cancelled", "failed", "cut"]

_LEFT: Final = frozenset(("closed", "abandoned"))
_CUT: Final = Failure(type="incomplete_stream", message="the stream ended without a finish reason")
_UNANSWERED: Final = Failure(type="interrupted", message="the process ended before the response arrived")
_STATUS_LIMIT: Final = 1_024
_CLIENT: Final = SpanKind.CLIENT
_NO_LINKS: Final[list[Link]] = []
_NO_ATTRIBUTES: Final[Attributes] = {}
_NO_TIMES: Final[list[float]] = []
_SCALARS: Final = frozenset({str, int, float, bool})
_MAX_CHUNK_TIMES: Final = 1_000

_open: Final[set[weakref.ref[TracedCall]]] = set()
"""Calls being recorded, while they are alive."""
_process = object()
"""Another object in each forked child."""

CURRENT_CALL: Final[ContextVar[TracedCall | None]] = ContextVar("spancast.current_call", default=None)
"""The traced call that the current code runs in."""


class Arrived(Protocol):
    """The part of a streamed response that has arrived."""

    @property
    def is_complete(self) -> bool:
        """Return whether the response, once parsed, is complete, even if its stream was closed early."""
        ...

    @property
    def is_stream(self) -> bool:
        """Return whether the response, once parsed, is a stream of events."""
        ...

    @property
    def unparsed_bytes(self) -> int | None:
        """Return the size of the unparsed data, in bytes; None if everything has been parsed."""
        ...

    def result(self) -> Response:
        """Return the response as far as it has arrived."""
        ...


class TracedCall:
    """One call being recorded. It ends once; every later attempt to end it has no effect.

    Without a span (disabled, suppressed, or another span already records this call) it only carries the keys to
    forward.
    """

    # Class defaults instead of assignments in ``__init__``: most calls need few of these attributes.
    beside_body: Mapping[str, Any] | None = None
    """Fields of the request that are in its path; set by a client's patches."""
    context: Context | None = None
    """The context to run the call in; the span is current only there."""
    is_function = False
    """Whether it is the call of a decorated function, whose request and response are no wire of their own."""
    http_response: Any = None
    """The HTTP response of the call; set by a client's patches while the call runs."""
    records_response = False
    """Whether the response is recorded, on a span of this call or of an outer one."""
    error_details: Attributes | None = None
    """The attributes of the exception of the call, if its client knows more than the dialect."""
    framework_keys = NO_KEYS
    """The keys of the framework that makes the call; attributes only."""
    outer: TracedCall | None = None
    resend_count = 0
    """How often the SDK sent the request again; set by a client's patches."""
    owner: object = None
    """What has started the call, if its patches must know their own calls."""
    surroundings: Around | None = None
    """What was current at its start, if its patches run other code in it."""
    span: Span | None = None
    _foreign_span: Span | None = None
    """The span that another instrumentation has made for this call."""
    _answer: bytes | Callable[[], Response] | None = None
    """The response: JSON text as received, or a function that parses it."""
    _arrived: Arrived | None = None
    """The part of a streamed response that has arrived."""
    _attributes: Attributes | None = None
    """The attributes of the request, once it is parsed."""
    _details: Attributes | None = None
    _ended = False
    _failed_ns = 0
    _failure: Failure | None = None
    _first_chunk_s: float | None = None
    _incomplete: Incomplete | None = None
    _failed_inner: Attributes | None = None
    """The attributes of the last inner call that has failed."""
    _parent: SpanParent | None = None
    _parsed: tuple[Attributes, Failure | None] | None = None
    """All attributes and the failure, if they were parsed before the end of the span."""
    _problems: Sequence[str] = ()
    _exception_type = ""
    _exceptions: list[CapturedException] | None = None
    _span_factory: SpanFactory
    _chunk_times_s: list[float] = _NO_TIMES
    _request_bytes: bytes | None = None
    _kept_request: bytes | None = None
    """The request of a decorated function (``kept_copy``)."""
    _keeps_objects = False
    _inner: list[TracedCall] | None = None
    """Ended calls inside this one, which are parsed with it."""
    _inner_bytes = 0
    _is_background = False
    _measured: tuple[ClientMetrics, float] | None = None
    """The metrics that the export thread records the call in, and its duration in seconds."""
    _ids: SpanContext | None = None
    """The ids of the span of a call whose response the provider stores."""
    _started_s = 0.0
    _started_with: Attributes
    _missing: Attributes = _NO_ATTRIBUTES
    """The attributes of the start, if the span has ended without them (``DeferredSpan``)."""
    _times_every_chunk: bool | None = None
    _overridden: Mapping[str, Any] | None = None

    def __init__(
        self, call_tracer: CallTracer, dialect: Dialect, body: Mapping[str, Any], keys: TraceKeys, server: Server
    ) -> None:
        self._call_tracer = call_tracer
        self._body: Mapping[str, Any] | None = body
        self.settings: TracingSettings = call_tracer.settings
        self.dialect = dialect
        self.keys = keys
        self.server = server
        self._process = _process

    @property
    def is_of_this_process(self) -> bool:
        """Return False in a forked child, which has a copy of the call; its parent process records it."""
        return self._process is _process

    @property
    def has_ended(self) -> bool:
        """Return whether the call is over; a thread may have a copy of its context."""
        return self._ended

    @property
    def captures_content(self) -> bool:
        """Return whether message content is recorded; the maker of a foreign span decides about its content."""
        return self.settings.capture_content and self._foreign_span is None

    @property
    def is_within_other(self) -> bool:
        """Return whether the call is recorded on a span that is not its own."""
        return self.outer is not None or self._foreign_span is not None

    @property
    def _provider(self) -> str:
        # A gateway, or a server of the caller's own, is not the provider that the format is named after.
        is_unknown = self.dialect.is_shared and self.server is not UNKNOWN_SERVER
        return self.server.provider or (semconv.OTHER if is_unknown else self.dialect.provider)

    @property
    def is_running(self) -> bool:
        """Return whether the call runs in this process; then it is what the current code runs in."""
        return self.is_of_this_process and not self._ended

    def is_request(self, body: Mapping[str, Any]) -> bool:
        """Return whether ``body`` may be the request of this call, which another wrapped method of the SDK passes on.

        It is another one only if it names another model and shares none of the caller's objects: a span too many would
        count a call twice.
        """
        given = self._body or _NO_ATTRIBUTES
        model, own_model = body.get("model"), given.get("model")
        if not (isinstance(model, str) and isinstance(own_model, str)):
            return True
        # SDKs add the place of a model to its name.
        return model.rpartition("/")[2] == own_model.rpartition("/")[2] or any(
            body.get(name) is value for name, value in given.items() if type(value) not in _SCALARS and value
        )

    def is_recorded_on(self, span: Span) -> bool:
        """Return whether ``span`` is that of this call, or of the one that it is a part of."""
        is_own = span is self.span or span is self._foreign_span
        return is_own or (self.outer is not None and self.outer.is_recorded_on(span))

    def start(self, current: Context, *, parse_now: bool) -> None:
        """Start the span under its parent; parse the request at once if ``parse_now`` or strict."""
        keys, call_tracer = self.keys, self._call_tracer
        attributes = self._started_with = self._identity()
        model: Any = attributes.get(semconv.REQUEST_MODEL)
        name = self.dialect.span_name(model)
        links, trace_id_override = _NO_LINKS, None
        is_stored = self.dialect.is_stored
        if keys is not NO_KEYS:
            parent = self._parent = call_tracer.group_spans.resolve_parent(keys, current)
            current, links, trace_id_override = (
                parent.context,
                parent.links,
                parent.trace_id_override,
            )
            name = keys.generation_name or name
            self._problems = [*keys.validation_errors, *_parent_errors(keys, parent)]
        if is_stored and self._body is not None:
            self._is_background = self.dialect.is_background(self._body)
            if self.dialect.operation == semconv.FETCH_RESPONSE:
                links = [*links, *call_tracer.stored_responses.links(self._body.get(RESPONSE_ID))]
        self._started_s = time.perf_counter()
        span_factory = self._span_factory = call_tracer.span_factory()
        span = self.span = span_factory.start_span(name, current, _CLIENT, lambda: attributes, links, trace_id_override)
        if is_stored:
            self._ids = span.get_span_context()
        context = trace_api.set_span_in_context(span, current)
        self.context = suppress_others(context) if self.is_function else context
        entries = ACTIVE_KEYS.get().entries
        if entries:
            register_call(span, entries)
        if span.is_recording():
            self.records_response = True
            _open.add(weakref.ref(self, _open.discard))
            counters.add("spans_started")
            if parse_now or self.settings.strict:
                self._read_strictly()

    def _identity(self) -> Attributes:
        """Return the attributes that are known before the request is parsed."""
        model = self._body.get("model") if self._body is not None else None
        attributes: Attributes = {
            semconv.OPERATION_NAME: self.dialect.operation,
            semconv.PROVIDER_NAME: self._provider,
            **self.server.attributes,
        }
        if isinstance(model, str) and model:
            attributes[semconv.REQUEST_MODEL] = model
        return attributes

    def _read_strictly(self) -> None:
        try:
            self._read_request()
        except SpancastError as error:
            # In strict mode the request is not sent, and its span has the reason.
            self.fail(error)
            raise

    def start_within(self, outer: TracedCall, *, parse_now: bool = True) -> None:
        """Record this call on the span of the ``outer`` call; parse the request as ``start`` does."""
        self.outer, self.records_response = outer, True
        _open.add(weakref.ref(self, _open.discard))
        self._problems = list(self.keys.validation_errors)
        if parse_now or self.settings.strict or not outer.keeps_inner:
            self._read_request()

    def start_on(self, span: Span) -> None:
        """Record this call on ``span``, which another instrumentation has made for it."""
        span.set_attributes({**self.framework_keys.attributes(), **self.keys.attributes()})
        if not is_own_call(span):
            self._foreign_span, self.records_response = span, True
            self._started_s, self._started_with = time.perf_counter(), self._identity()
            self._read_request()

    def _add_missing(self, span: Span, attributes: Attributes) -> None:
        """Add those of ``attributes`` that ``span`` lacks; it may have ended before its stream has."""
        if span.is_recording():
            known = {semconv.REDACTED, *(getattr(span, "attributes", None) or ())}
            every = {**self._started_with, **attributes}
            span.set_attributes({name: value for name, value in every.items() if name not in known})

    def set_request_bytes(self, request: bytes, *, overridden: Mapping[str, Any] | None = None) -> None:
        """Set the JSON ``request`` as it was sent, and release the caller's body.

        ``overridden`` are the fields that spancast put into it, with the caller's values (None if not given).
        """
        if request[:1] == b"{":
            self._request_bytes, self._overridden, self._body = request, overridden, None

    @never_raise
    def keep_request(self) -> None:
        """Keep a copy of the request, and later of the response, if they can be parsed later; else parse it now."""
        if self._attributes is not None or not self.records_response or self.span is None:
            return
        if self._span_factory.only_processor is not None:
            self._inner, self._keeps_objects = [], True
            self._kept_request = kept_copy.keep(self._body)
        if self._kept_request is None:
            self._read_request()

    def _read_request(self) -> Attributes:
        content = self.captures_content
        decoded: Any = None if self._request_bytes is None else json_codec.decode(self._request_bytes)
        if self._kept_request is not None:
            decoded, self._kept_request = kept_copy.restore(self._kept_request), None
        body: Mapping[str, Any] = decoded or self._body or {}
        if self._overridden is not None:
            body = {**body, **self._overridden}
        # The body stays: forwarding needs the caller's own fields, as they were given.
        self._request_bytes = None
        request = self.dialect.read_request(body, content=content)
        attributes = self._attributes = request.attributes
        if self.outer is not None:
            attributes[semconv.PROVIDER_NAME] = self._provider
            attributes.update(self.server.attributes)
        if content:
            add_content(attributes, request)
        validation_errors = request.validation_errors
        if self.framework_keys is not NO_KEYS:
            attributes.update(self.framework_keys.attributes())
        if self.keys is not NO_KEYS:
            attributes.update(self.keys.attributes())
            validation_errors = [*self._problems, *validation_errors]
        if validation_errors:
            attributes[semconv.PROBLEMS] = validation_errors
            if request.validation_errors:
                # Raises only if this call's settings are strict; then the request is parsed before it is sent.
                self._call_tracer.report_problems(request.validation_errors, SpancastError, strict=self.settings.strict)
        return attributes

    def attach(self) -> None:
        """Make the span current; nested calls annotate this one. Then call ``detach`` with the former ``around()``."""
        # First the mark: ``detach`` checks it for something to restore.
        CURRENT_CALL.set(self)
        set_context(self.context or get_context())

    def detach(self, around: Around) -> None:
        """Undo ``attach``; no effect if that is done, or in another context (a coroutine closed elsewhere).

        Ctrl-C may interrupt it anywhere, so every caller of ``attach`` calls it again on an exception.
        """
        if CURRENT_CALL.get() is self:
            restore(around)

    def run(self, function: Callable[[], T], *, ends: bool = True) -> T:
        """Return ``function()``, called inside this call; an exception passes, and ends the recording if ``ends``."""
        surroundings = around()
        try:
            try:
                self.attach()
                return function()
            finally:
                self.detach(surroundings)
        except BaseException as error:
            self.detach(surroundings)
            if ends:
                self.fail(error)
            raise

    def step(self, call: Callable[..., T], *args: Any) -> T:  # noqa: ANN401 - the caller's own values
        """Return ``call(*args)``, one step of a stream, as ``run`` does without ending the recording.

        It is ``attach`` and ``detach`` without their calls: a stream has hundreds of steps.
        """
        outer, current = CURRENT_CALL.get(), get_context()
        try:
            try:
                CURRENT_CALL.set(self)
                set_context(current if self.context is None else self.context)
                return call(*args)
            finally:
                if CURRENT_CALL.get() is self:
                    set_context(current)
                    CURRENT_CALL.set(outer)
        except BaseException:
            if CURRENT_CALL.get() is self:
                set_context(current)
                CURRENT_CALL.set(outer)
            raise

    async def wait(self, function: Callable[[], Awaitable[T]], *, ends: bool = True) -> T:
        """Return ``await function()`` as ``run`` does."""
        surroundings = around()
        try:
            try:
                self.attach()
                return await function()
            finally:
                self.detach(surroundings)
        except BaseException as error:
            self.detach(surroundings)
            if ends:
                self.fail(error)
            raise

    @property
    def new_stream(self) -> Callable[[], StreamReader]:
        """Return a function that makes a stream reader for this call; it holds no reference to this object."""
        return functools.partial(self.dialect.new_stream, content=self.captures_content)

    def expect_stream(self, arrived: Arrived) -> None:
        """Expect a streamed response; when the call ends, the content of ``arrived`` is recorded."""
        self._arrived = arrived

    def chunk_arrived(self) -> None:
        """Record the time of a chunk: always of the first, of the others only if their times are measured."""
        since_s = time.perf_counter() - self._started_s
        if self._first_chunk_s is None:
            self._first_chunk_s = since_s
        if self.times_every_chunk:
            self._chunk_times_s.append(since_s)

    @property
    def times_every_chunk(self) -> bool:
        """Return whether the time of every chunk is recorded, not only of the first; evaluated once per call."""
        times = self._times_every_chunk
        if times is None:
            times = self._times_every_chunk = self.settings.chunk_metrics
            self._chunk_times_s = []
        return times

    @never_raise
    def end_with(self, answer: object) -> None:
        """End with a complete ``answer``, decoded JSON or the SDK's object; it is parsed now, or a copy later."""
        kept = kept_copy.keep(answer) if self._keeps_objects else None
        if kept is None:
            self._end(lambda: self._read_answer(answer), None)
        else:
            self._end(lambda: self._read_answer(kept_copy.restore(kept)), len(kept))

    def end_with_bytes(self, answer: bytes) -> None:
        """End with a complete ``answer`` as received, JSON text; the caller wraps this in ``never_raise``."""
        self._end(answer, len(answer))

    @never_raise
    def end_stream(self, *, incomplete: Incomplete | None = None) -> None:
        """End a stream with the part that has arrived; ``incomplete`` is how it ended early."""
        if self._ended:
            return
        self._incomplete = incomplete
        if incomplete is None:
            self._end(*(self._arrived_part() or (None, 0)))
        else:
            self._end_unfinished()

    @never_raise
    def fail(self, error: BaseException, answer: bytes | None = None) -> None:
        """End with the exception that the caller gets, and with the part of a stream that had arrived.

        ``answer`` is a complete response as received, JSON text, that the SDK then rejected.
        """
        if answer is not None:
            self._end(answer, len(answer), error)
        elif isinstance(error, Exception):
            self._end(*(self._arrived_part() or (None, 0)), error)
        else:
            self._end_unfinished(error)

    def _end_unfinished(self, error: BaseException | None = None) -> None:
        """End an unfinished call, perhaps from a finalizer.

        It runs in a copy of the context: CPython before 3.12 crashes if a processor sets a context variable while
        the garbage collector runs during the setting of one in the same context.
        """
        copy_context().run(self._end, *(self._arrived_part() or (None, 0)), error)

    @never_raise
    def _arrived_part(self) -> tuple[Callable[[], Response] | None, int | None]:
        """Return a function that parses the part that has arrived, and the size of the unparsed data."""
        arrived = self._arrived
        return (None, 0) if arrived is None else (arrived.result, arrived.unparsed_bytes)

    def _end(
        self,
        answer: bytes | Callable[[], Response] | None,
        unparsed_bytes: int | None,
        error: BaseException | None = None,
    ) -> None:
        span, parent = self.span, self._parent
        is_due = not self._ended and (self.is_within_other or (span is not None and span.is_recording()))
        is_due = is_due and self.is_of_this_process
        self._ended = True
        processor: SpancastProcessor | None = None
        try:
            if is_due:
                self._answer = answer
                if error is not None:
                    self._note_exception(error)
                processor = self._only_processor(unparsed_bytes)
                if processor is None and not self._is_left_to_outer(unparsed_bytes):
                    if span is not None and is_deferred(span):
                        processor = self._span_factory.only_processor
                    if processor is not None:
                        unparsed_bytes = self._parse_now()
                    else:
                        self._finalize(span)
        finally:
            # The span ends even if the code above has failed.
            if is_due and span is not None:
                if processor is None:
                    span.end()
                else:
                    size_bytes = (unparsed_bytes or 0) + self._request_size + self._inner_bytes
                    if is_deferred(span):
                        self._missing = self._started_with
                    processor.end_unparsed(span, Unparsed(self._complete, size_bytes, self._missing))
            # The span queue holds this object; a reference to the span would be a cycle.
            self.span = self.context = self._parent = self._body = self._foreign_span = None
            if parent is not None and parent.groups:
                self._call_tracer.group_spans.release(parent.groups, time.time_ns())

    def _only_processor(self, unparsed_bytes: int | None) -> SpancastProcessor | None:
        """Return our processor if the export thread can parse the call; None if it must be parsed now.

        It must be parsed now if another processor sees the span, if metrics are collected and nothing takes the span,
        if the caller could still change the objects to parse, or if the caller may fetch the response as soon as it has
        its id.
        """
        if self.span is None or self.is_within_other or unparsed_bytes is None or self._is_background:
            return None
        if not self._has_request:
            return None
        processor = self._span_factory.only_processor
        metrics = None if processor is None else self._call_tracer.active_metrics()
        if processor is None or metrics is None:
            return processor
        self._measured = metrics, time.perf_counter() - self._started_s
        return processor if processor.has_target else None

    @property
    def _has_request(self) -> bool:
        """Return whether the request can be parsed later, or has been parsed."""
        return self._attributes is not None or self._request_bytes is not None or self._kept_request is not None

    @property
    def _request_size(self) -> int:
        return len(self._request_bytes or b"") + len(self._kept_request or b"")

    def _is_left_to_outer(self, unparsed_bytes: int | None) -> bool:
        """Leave the parsing to the decorated function that this call is inside of, if it can be parsed later."""
        outer = self.outer
        if outer is None or outer.has_ended or unparsed_bytes is None or not self._has_request:
            return False
        return outer.add_inner(self, unparsed_bytes + self._request_size)

    @property
    def keeps_inner(self) -> bool:
        """Return whether calls inside this one are parsed with it, later."""
        return self._inner is not None

    def add_inner(self, call: TracedCall, size_bytes: int) -> bool:
        """Parse ``call``, which has ended inside this one, with this one; return False if that is not possible."""
        if self._inner is None:
            return False
        self._inner.append(call)
        self._inner_bytes += size_bytes
        return True

    @never_raise
    def _parse_now(self) -> int:
        """Parse the call, whose span gets the result on the export thread; return the size of its texts."""
        lasted_s = time.perf_counter() - self._started_s
        attributes, _ = self._parsed = self._read()
        self._measure_now(attributes, lasted_s)
        return sum([len(value) for value in attributes.values() if isinstance(value, str)])

    def _finalize(self, span: Span | None) -> None:
        """Parse request and response, and set all attributes and the status on the span."""
        lasted_s = time.perf_counter() - self._started_s
        if span is None:
            if self.outer is not None:
                if not self.outer.has_ended:
                    self.annotate_outer(self.outer)
            elif self._foreign_span is not None:
                self._add_missing(self._foreign_span, self._read()[0])
            return
        failure = self._failure
        if failure is not None:
            # Status and exception come first: they do not depend on the parsing, which may fail.
            span.set_status(self._status_of(failure))
            event = self._exception_attributes()
            if event is not None:
                span.add_event("exception", event)
        attributes, found = self._read()
        span.set_attributes(self._fitted(attributes))
        if found is not None and failure is None:
            span.set_status(self._status_of(found))
        self._measure_now(attributes, lasted_s)

    @never_raise
    def _measure_now(self, attributes: Attributes, lasted_s: float) -> None:
        metrics = self._call_tracer.active_metrics()
        if metrics is not None:
            self._measure(metrics, {**self._started_with, **attributes}, lasted_s, self.context)

    @never_raise
    def _measure(
        self, metrics: ClientMetrics, attributes: Attributes, lasted_s: float, context: Context | None
    ) -> None:
        first_s = self._first_chunk_s
        times_s = self._chunk_times_s or (() if first_s is None else (first_s,))
        metrics.record(attributes, lasted_s, times_s, context)

    def _complete(self, span: ReadableSpan) -> Parsed | None:
        """Parse request and response of the ended ``span``, on the export thread."""
        attributes, failure = self._parse() or ({}, self._failure)
        limits = self._span_factory.limits
        exception = self._exception_attributes() if self._failure is not None else None
        event = None if exception is None else exception_event(exception, self._failed_ns, limits)
        status = None if failure is None else self._status_of(failure)
        merged = {**self._missing, **attributes_of(span), **attributes}
        if self._measured is not None:
            metrics, lasted_s = self._measured
            self._measure(metrics, merged, lasted_s, _context_of(span))
        return completed(span, merged, status, event, limits)

    @never_raise
    def _parse(self) -> tuple[Attributes, Failure | None]:
        attributes, failure = self._parsed or self._read()
        return self._fitted(attributes), failure

    def _fitted(self, attributes: Attributes) -> Attributes:
        limits = self._span_factory.limits
        most = limits.max_span_attributes
        room = len(attributes) if most is None else most - len(self._started_with)
        return fit_to_limit(attributes, room, limits.max_span_attribute_length)

    def _note_exception(self, error: BaseException) -> None:
        """Store the facts of an exception; cancellation is a failure only with ``cancellation_is_error``."""
        is_exception = isinstance(error, Exception)
        self._incomplete = "failed" if is_exception else "cancelled"
        if is_exception or self.settings.cancellation_is_error:
            details = self._details = self.error_details or self.dialect.error_attributes(error)
            self._exception_type = error_type(error)
            kind = details.pop(semconv.ERROR_TYPE, None) or self._exception_type
            self._failure = Failure(type=str(kind), message=message_of(error))
            if self.outer is None and self.span is not None:
                counters.add("spans_failed")
                self._failed_ns = time.time_ns()
                # The exception itself is not stored: it holds the caller's frames.
                self._exceptions = capture(error) if self.captures_content else None

    def _read(self) -> tuple[Attributes, Failure | None]:
        """Return the attributes of request and response, and the failure if there is no complete response."""
        self._read_inner()
        attributes = self._read_request() if self._attributes is None else self._attributes
        answer, self._answer = self._answer, None
        if isinstance(answer, bytes):
            response = self._read_answer(json_codec.decode(answer))
        else:
            response = Response() if answer is None else answer()
        if self._arrived is not None and self._arrived.is_stream:
            # The body may not say so: Bedrock has another path for it.
            attributes.setdefault(semconv.REQUEST_STREAM, True)
        incomplete, failure = self._ending(response)
        self._arrived = None
        attributes = self._with_failed_inner(attributes, failure)
        add_response(attributes, response, content=self.captures_content, is_cut=bool(incomplete or failure))
        if not (incomplete or failure) and is_empty(response):
            self._note_empty_response(attributes)
        if incomplete and (self._first_chunk_s is not None or incomplete != "failed"):
            attributes[semconv.RESPONSE_INCOMPLETE] = incomplete
        attributes.update(self._times())
        if failure is not None:
            attributes[semconv.ERROR_TYPE] = failure.type
            if failure is not self._failure:
                counters.add("spans_failed")
        attributes.update(self._noted())
        if self._completes_response(attributes, response):
            self._add_model_and_cost(attributes)
        if not self.captures_content:
            attributes = self._attributes = without_content(attributes)
        return attributes, failure

    def _read_inner(self) -> None:
        # Removed: each of them refers to this call.
        inner, self._inner = self._inner, None
        for call in inner or ():
            call.annotate_outer(self)

    def _times(self) -> Attributes:
        """Return the time of the first chunk; those of all chunks if they were taken."""
        if self._first_chunk_s is None:
            return _NO_ATTRIBUTES
        times: Attributes = {semconv.RESPONSE_TIME_TO_FIRST_CHUNK: self._first_chunk_s}
        if 1 < len(self._chunk_times_s) <= _MAX_CHUNK_TIMES:
            times[semconv.RESPONSE_CHUNK_TIMES] = list(self._chunk_times_s)
        return times

    def _noted(self) -> Attributes:
        """Return what was noted during the call: the facts of its exception, and how often it was sent again."""
        details = self._details or _NO_ATTRIBUTES
        return {**details, semconv.RESEND_COUNT: self.resend_count} if self.resend_count else details

    def _with_failed_inner(self, attributes: Attributes, failure: Failure | None) -> Attributes:
        if failure is None or self._failed_inner is None:
            return attributes
        self.annotate(self._failed_inner)
        return self._attributes or attributes

    def _ending(self, response: Response) -> tuple[Incomplete | None, Failure | None]:
        """Return how a stream ended early and the failure of the call; None if neither."""
        arrived, incomplete, failure = self._arrived, self._incomplete, self._failure or response.failure
        if arrived is None:
            return incomplete, failure or (_UNANSWERED if incomplete == "abandoned" else None)
        if incomplete in _LEFT and arrived.is_complete:
            incomplete = None
        if arrived.is_stream and not incomplete and response.failure is not None:
            # An event with an error, which the caller read unparsed or which the SDK does not raise.
            incomplete = "failed"
        has_ended = incomplete or failure or is_empty(response) or not arrived.is_stream
        # Some servers (Snowflake) give no finish reason; the end marker is enough.
        if not has_ended and not arrived.is_complete and is_cut(response):
            return "cut", _CUT
        return incomplete, failure

    def _completes_response(self, attributes: Attributes, response: Response) -> bool:
        """Remember a stored response; return False for one that was fetched unfinished, or again.

        The usage of a response is on one span only, so that sums over spans are right.
        """
        ids = self._ids
        if ids is None or is_empty(response):
            return True
        stored, response_id = self._call_tracer.stored_responses, str(attributes.get(semconv.RESPONSE_ID))
        if self.dialect.operation != semconv.FETCH_RESPONSE:
            stored.begin(response_id, ids, has_usage=bool(response.usage))
            return True
        if stored.fetch(response_id, ids, has_usage=bool(response.usage)):
            return True
        for name in response.usage:
            attributes.pop(name, None)
        return False

    @never_raise
    def _add_model_and_cost(self, attributes: Attributes) -> None:
        """Add the model of a request that names none (a stored prompt does), and the cost if the response has none."""
        own = self._started_with if self.outer is None else _NO_ATTRIBUTES
        model = attributes.get(semconv.RESPONSE_MODEL)
        # The outer call's span has its own model.
        if self.outer is None and model is not None and semconv.REQUEST_MODEL not in own:
            attributes.setdefault(semconv.REQUEST_MODEL, model)
        estimator = self.settings.cost_estimator
        if estimator is not None:
            attributes.update(estimator.estimate({**own, **attributes}))

    def _read_answer(self, answer: object) -> Response:
        return self.dialect.read_response(answer, content=self.captures_content)

    def _note_empty_response(self, attributes: Attributes) -> None:
        problem = f"answer: expected a response of {self.dialect.name}; returned unchanged"
        known = attributes.get(semconv.PROBLEMS)
        attributes[semconv.PROBLEMS] = [*map(str, known), problem] if isinstance(known, list) else [problem]
        counters.add("validation_errors")
        warn_once(f"problem:answer:{self.dialect.name}", "spancast: %s", problem)

    @never_raise
    def _exception_attributes(self) -> Attributes:
        failure, chain = self._failure, self._exceptions
        event: Attributes = {semconv.EXCEPTION_TYPE: self._exception_type}
        if failure is not None and chain is not None:
            event[semconv.EXCEPTION_MESSAGE] = failure.message
            event[semconv.EXCEPTION_STACKTRACE] = traceback_text(chain)
        return event

    def _status_of(self, failure: Failure) -> Status:
        message = failure.message[:_STATUS_LIMIT] if self.captures_content else None
        return Status(StatusCode.ERROR, message or None)

    def __del__(self) -> None:
        # In a garbage cycle this may run before the finalizer of the stream; a span that does not end is lost.
        if not self._ended and (self.span is not None or self.is_within_other):
            self.end_stream(incomplete="abandoned")

    def set_server(self, server: Server) -> None:
        """Set the server, which was not known at the start of the call."""
        self.server = server
        attributes = self._read_request() if self._attributes is None else self._attributes
        self._attributes = {**attributes, semconv.PROVIDER_NAME: self._provider, **server.attributes}

    @never_raise
    def annotate_outer(self, outer: TracedCall) -> None:
        """Parse this call and add its attributes to ``outer``."""
        attributes, failure = self._read()
        outer.annotate(attributes, has_failed=failure is not None)

    def annotate(self, attributes: Attributes, *, has_failed: bool = False) -> None:
        """Add the attributes of an inner call of the same request; this call's own ones take precedence.

        Those of one that has failed are added if this call fails, too: otherwise it was repeated.
        """
        if has_failed:
            self._failed_inner = attributes
            return
        own = self._read_request() if self._attributes is None else self._attributes
        merged = {**attributes, **own}
        if self.server is UNKNOWN_SERVER and semconv.PROVIDER_NAME in attributes:
            merged[semconv.PROVIDER_NAME] = attributes[semconv.PROVIDER_NAME]
        self._attributes = merged

    @never_raise
    def forwarded(self) -> dict[str, Any] | None:
        """Return the body fields to send, all JSON; None if no keys are sent.

        A field with the value None must be left out. Keys are sent to OpenRouter only, which understands ``trace``
        and ``session_id`` (its Broadcast then joins this trace), unless ``forward_trace_keys`` overrides that.
        """
        forward_trace_keys = self.settings.forward_trace_keys
        if forward_trace_keys == "never" or (forward_trace_keys == "auto" and self.server.provider != OPENROUTER):
            return None
        ids = self.span.get_span_context() if self.span is not None else None
        return forwarded(self._body or {}, self.keys, ids)


def _context_of(span: ReadableSpan) -> Context | None:
    ids = span.get_span_context()
    return None if ids is None else trace_api.set_span_in_context(NonRecordingSpan(ids), Context())


def around() -> Around:
    """Return what is current now, to be restored by ``TracedCall.detach``."""
    return CURRENT_CALL.get(), get_context()


def unrecorded(traced_call: TracedCall | None, function: Callable[[], T]) -> T:
    """Return ``function()`` for a call that is not recorded; if its keys say so, the calls inside are not either."""
    if traced_call is None or traced_call.keys.enabled:
        return function()
    return traced_call.run(function, ends=False)


async def unrecorded_async(traced_call: TracedCall | None, function: Callable[[], Awaitable[T]]) -> T:
    """Return ``await function()`` as ``unrecorded`` does."""
    if traced_call is None or traced_call.keys.enabled:
        return await function()
    return await traced_call.wait(function, ends=False)


def restore(surroundings: Around) -> None:
    """Make current what ``around`` has returned."""
    call, context = surroundings
    set_context(context)
    CURRENT_CALL.set(call)


def end_open_calls() -> None:
    """End every open call with the part that has arrived, at the end of the process."""
    for reference in _open.copy():
        traced_call = reference()
        if traced_call is not None:
            traced_call.end_stream(incomplete="abandoned")


def _in_child() -> None:
    global _process  # noqa: PLW0603 - one per process
    _process = object()
    _open.clear()
    if CURRENT_CALL.get() is not None:
        # The calls of the child are recorded under the span of the call that it was forked in.
        context = unsuppressed(get_context())
        span = NonRecordingSpan(trace_api.get_current_span(context).get_span_context())
        set_context(trace_api.set_span_in_context(span, context))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


def _parent_errors(keys: TraceKeys, parent: SpanParent) -> list[str]:
    """Return the validation error of a ``parent_span_id`` without a trace, if there is one."""
    if keys.parent_span_id and not keys.trace_id and not parent.groups:
        ids = trace_api.get_current_span(parent.context).get_span_context()
        if not ids.is_valid:
            return ["trace.parent_span_id: needs trace.trace_id or an active span; ignored"]
    return []
