"""One call from its request to its end.

The caller's thread starts the span, keeps the bytes of request and answer, and ends it. If only our processor
sees the span, the bytes are parsed on the export thread; otherwise everything is on the span before it ends.
What the caller could still change (a decorated function's arguments and result) is parsed at once. Nothing here
raises into a client (``never_raise`` at each door), copies a message or records a call twice.
"""

from __future__ import annotations

import functools
import os
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar, Token, copy_context
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias

from opentelemetry import trace as trace_api
from opentelemetry.context import Context, attach, get_current
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode

from spancast.diagnostics import counters, never_raise, warn_once
from spancast.dialects.protocol import Dialect, StreamReader
from spancast.errors import SpancastError
from spancast.model import json_codec, semconv
from spancast.model.call import Attributes, Failure, Response
from spancast.model.privacy import without_content
from spancast.model.providers import OPENROUTER, UNKNOWN_SERVER, Server
from spancast.model.trace_keys import NO_KEYS, TraceKeys
from spancast.model.unparsed import Parsed
from spancast.otel_private import detach
from spancast.tracing.completed_span import completed, exception_event
from spancast.tracing.exception_capture import CapturedException, message_of, raised, traceback_text
from spancast.tracing.group_spans import SpanParent
from spancast.tracing.openrouter_fields import forwarded
from spancast.tracing.other_instrumentations import quiet
from spancast.tracing.span_attributes import (
    add_content,
    add_response,
    error_type,
    is_empty,
    within,
)
from spancast.tracing.span_factory import SpanFactory
from spancast.tracing.span_processor import SpancastProcessor
from spancast.tracing.trace_block import ACTIVE_KEYS, remember

if TYPE_CHECKING:
    from spancast.tracing.call_tracer import CallTracer, TracingSettings

Entered: TypeAlias = "tuple[object, Token[TracedCall | None]]"
Incomplete: TypeAlias = Literal["closed", "abandoned", "cancelled", "failed"]

_LEFT: Final = frozenset(("closed", "abandoned"))
_STATUS_LIMIT: Final = 1_024
_CLIENT: Final = SpanKind.CLIENT
_NO_LINKS: Final[list[Link]] = []
_NO_TIMES: Final[list[float]] = []

_open: Final[set[weakref.ref[TracedCall]]] = set()
"""Calls with a streamed answer, for as long as they live."""

CURRENT_CALL: Final[ContextVar[TracedCall | None]] = ContextVar("spancast.recording", default=None)
"""The recording the caller's code runs inside of."""


class Arrived(Protocol):
    """What has arrived of a streamed answer."""

    @property
    def is_complete(self) -> bool:
        """Return whether the answer, once read, turned out to be whole, however its stream was left."""
        ...

    @property
    def waiting_bytes(self) -> int | None:
        """Return the size of what is kept to be read later, in bytes; None if everything has been read."""
        ...

    def result(self) -> Response:
        """Return the answer as far as it has arrived."""
        ...


class TracedCall:
    """One call being recorded; every way to end it works once and is harmless after.

    Without a span (disabled, suppressed, or another span already tells this call) it only
    carries the keys to forward.
    """

    # Defaults of the class rather than assignments at each call: most calls need few of them.
    context: Context | None = None
    """The context to run the call in: our span is current there, nowhere else."""
    http_response: Any = None
    """The HTTP response of the call, where a client puts it aside."""
    records_response = False
    """Whether the answer is of interest: a span of ours, or of an outer call, takes it."""
    outer: TracedCall | None = None
    span: Span | None = None
    _answer: bytes | Callable[[], Response] | None = None
    """What tells the answer: JSON text as it came, or a function that reads it."""
    _arrived: Arrived | None = None
    """What has arrived of a streamed answer."""
    _attributes: Attributes | None = None
    """What the request tells, once it is read."""
    _details: Attributes | None = None
    _ended = False
    _failed_ns = 0
    _failure: Failure | None = None
    _first_chunk_s: float | None = None
    _incomplete: Incomplete | None = None
    _place: SpanParent | None = None
    _problems: Sequence[str] = ()
    _raised: list[CapturedException] | None = None
    _starter: SpanFactory
    _chunk_times_s: list[float] = _NO_TIMES
    _sent: bytes | None = None
    _started_s = 0.0
    _started_with: Attributes
    _times_every_chunk: bool | None = None
    _unsent: Mapping[str, Any] | None = None

    def __init__(
        self, recorder: CallTracer, dialect: Dialect, body: Mapping[str, Any], keys: TraceKeys, server: Server
    ) -> None:
        self._recorder = recorder
        self._body: Mapping[str, Any] | None = body
        self.settings: TracingSettings = recorder.settings
        self.dialect = dialect
        self.keys = keys
        self.server = server

    @property
    def captures_content(self) -> bool:
        """Tell whether messages are recorded."""
        return self.settings.capture_content

    def start(self, current: Context, *, suppress_others: bool, reads_now: bool) -> None:
        """Start the span under its place in the tree; read the request onto it where it ``reads_now``."""
        keys, recorder, server = self.keys, self._recorder, self.server
        model = self._body.get("model") if self._body is not None else None
        attributes = self._started_with = {
            semconv.OPERATION_NAME: self.dialect.operation,
            semconv.PROVIDER_NAME: server.provider or self.dialect.provider,
            **server.attributes,
        }
        model = model if isinstance(model, str) and model else None
        if model is not None:
            attributes[semconv.REQUEST_MODEL] = model
        name = self.dialect.span_name(model)
        links, trace_id_override = _NO_LINKS, None
        if keys is not NO_KEYS:
            resolve_parent = self._place = recorder.tree.resolve_parent(keys, current)
            current, links, trace_id_override = (
                resolve_parent.context,
                resolve_parent.links,
                resolve_parent.trace_id_override,
            )
            name = keys.generation_name or name
            self._problems = [*keys.validation_errors, *_unplaced(keys, resolve_parent)]
        self._started_s = time.perf_counter()
        starter = self._starter = recorder.starter()
        span = self.span = starter.start_span(name, current, _CLIENT, attributes, links, trace_id_override)
        context = trace_api.set_span_in_context(span, current)
        self.context = quiet(context) if suppress_others else context
        entries = ACTIVE_KEYS.get().entries
        if entries:
            remember(span, entries)
        if span.is_recording():
            self.records_response = True
            counters.add("spans_started")
            if reads_now or self.settings.strict:
                self._read_strictly()

    def _read_strictly(self) -> None:
        try:
            self._read_request()
        except SpancastError as error:
            # Strict: the request will not be sent, and its span says why.
            self.fail(error)
            raise

    def start_within(self, outer: TracedCall) -> None:
        """Record for ``outer``, which has the span: it gets what this call knows of itself."""
        self.outer, self.records_response = outer, True
        self._problems = list(self.keys.validation_errors)
        self._read_request()

    def sent(self, request: bytes, *, overridden: Mapping[str, Any] | None = None) -> None:
        """Note the JSON ``request`` as it was sent, which nobody changes any more; the caller's own is let go.

        ``overridden`` are fields that were put into it for us, with the caller's values (None: he had none).
        """
        if request[:1] == b"{":
            self._sent, self._unsent, self._body = request, overridden, None

    def _read_request(self) -> Attributes:
        content = self.captures_content
        decoded: Any = None if self._sent is None else json_codec.decode(self._sent)
        body: Mapping[str, Any] = decoded or self._body or {}
        if self._unsent is not None:
            body = {**body, **self._unsent}
        # Not the body: what is forwarded is the caller's own, as he gave it.
        self._sent = None
        request = self.dialect.read_request(body, content=content)
        attributes = self._attributes = request.attributes
        if self.outer is not None:
            attributes[semconv.PROVIDER_NAME] = self.server.provider or self.dialect.provider
            attributes.update(self.server.attributes)
        if content:
            add_content(attributes, request)
        validation_errors = request.validation_errors
        if self.keys is not NO_KEYS:
            attributes.update(self.keys.attributes())
            validation_errors = [*self._problems, *validation_errors]
        if validation_errors:
            attributes[semconv.PROBLEMS] = validation_errors
            if request.validation_errors:
                # By the settings of this call: ``strict`` raises before a request is sent, never on another thread.
                self._recorder.tell(request.validation_errors, SpancastError, strict=self.settings.strict)
        return attributes

    def enter(self) -> Entered:
        """Make the span current, and nested calls annotate this one; give the result to ``leave``."""
        return attach(self.context or get_current()), CURRENT_CALL.set(self)

    def leave(self, entered: Entered) -> None:
        """Undo ``enter``."""
        token, mark = entered
        try:  # noqa: SIM105 - contextlib.suppress costs five times as much, a call
            CURRENT_CALL.reset(mark)
        except ValueError:
            # Left in another context than entered (a coroutine closed elsewhere): that context dies by itself.
            pass
        detach(token)

    def inside(self, *, ends: bool = True) -> _Inside:
        """Return the ``with`` block to run the call in; an exception passes, and ends the recording if ``ends``."""
        return _Inside(self, ends=ends)

    @property
    def new_stream(self) -> Callable[[], StreamReader]:
        """Return what makes a reader of this call's streamed answer; it does not hold this recording."""
        return functools.partial(self.dialect.new_stream, content=self.captures_content)

    def expect(self, arrived: Arrived) -> None:
        """Expect a streamed answer: whatever ends the call, as much of it is recorded as is in ``arrived`` by then."""
        self._arrived = arrived
        _open.add(weakref.ref(self, _open.discard))

    def chunk_arrived(self) -> None:
        """Note the time of a chunk: the first always, the others where metrics are listened to."""
        since_s = time.perf_counter() - self._started_s
        if self._first_chunk_s is None:
            self._first_chunk_s = since_s
        if self.times_every_chunk:
            self._chunk_times_s.append(since_s)

    @property
    def times_every_chunk(self) -> bool:
        """Tell whether each chunk's time is wanted, not just the first's; decided when first asked."""
        times = self._times_every_chunk
        if times is None:
            times = self._times_every_chunk = self._recorder.active_metrics() is not None
            self._chunk_times_s = []
        return times

    @never_raise
    def end_with(self, answer: object) -> None:
        """End with a whole ``answer``: wire JSON or the SDK's object, read now."""
        self._end(lambda: self._read_answer(answer), None)

    def end_with_bytes(self, answer: bytes) -> None:
        """End with a whole ``answer`` as it came, JSON text that nobody changes any more; from behind a shield."""
        self._end(answer, len(answer))

    @never_raise
    def finish(self, *, incomplete: Incomplete | None = None) -> None:
        """End a stream with what has arrived; ``incomplete`` is how it was left."""
        if self._ended:
            return
        self._incomplete = incomplete
        if incomplete is None:
            self._end(*(self._so_far() or (None, 0)))
        else:
            self._end_left()

    @never_raise
    def fail(self, error: BaseException, answer: bytes | None = None) -> None:
        """End with the exception the caller gets, and with what had arrived before it.

        ``answer`` is a whole one as it came, JSON text, which the SDK then refused.
        """
        if answer is not None:
            self._end(answer, len(answer), error)
        elif isinstance(error, Exception):
            self._end(*(self._so_far() or (None, 0)), error)
        else:
            self._end_left(error)

    def _end_left(self, error: BaseException | None = None) -> None:
        """End a call that was left, perhaps by a finalizer that the collector runs in the midst of anything.

        In a copy of the context: CPython before 3.12 crashes if a processor sets a context variable
        while the collector runs within the setting of one in the same context.
        """
        copy_context().run(self._end, *(self._so_far() or (None, 0)), error)

    @never_raise
    def _so_far(self) -> tuple[Callable[[], Response] | None, int | None]:
        """Return what reads the answer as far as it has arrived, and the size of what waits to be read."""
        arrived = self._arrived
        return (None, 0) if arrived is None else (arrived.result, arrived.waiting_bytes)

    def disown(self) -> None:
        """Record nothing more: another process ends this call."""
        self._ended = True

    def _end(
        self,
        answer: bytes | Callable[[], Response] | None,
        waiting_bytes: int | None,
        error: BaseException | None = None,
    ) -> None:
        span, resolve_parent = self.span, self._place
        is_due = not self._ended and (self.outer is not None or (span is not None and span.is_recording()))
        self._ended = True
        processor: SpancastProcessor | None = None
        try:
            if is_due:
                self._answer = answer
                if error is not None:
                    self._note(error)
                processor = self._only_processor(waiting_bytes)
                if processor is None:
                    self._finalize(span)
        finally:
            # Whatever of ours broke, the span ends.
            if is_due and span is not None:
                if processor is None:
                    span.end()
                else:
                    processor.end_unparsed(span, self._complete, (waiting_bytes or 0) + len(self._sent or b""))
            # The span queue holds this recording, which holds the span no longer.
            self.span = self.context = self._place = self._body = None
            if resolve_parent is not None and resolve_parent.groups:
                self._recorder.tree.release(resolve_parent.groups, time.time_ns())

    def _only_processor(self, waiting_bytes: int | None) -> SpancastProcessor | None:
        """Return our processor if the parsing can be left to the export thread; None if it is due now.

        It is due if another processor sees the span, if the call is measured, or if the caller could still change
        what is to be parsed.
        """
        is_kept = self._sent is not None or self._attributes is not None
        if self.span is None or self.outer is not None or waiting_bytes is None or not is_kept:
            return None
        return self._starter.only_processor if self._recorder.active_metrics() is None else None

    def _finalize(self, span: Span | None) -> None:
        """Parse request and answer, and put everything on the span."""
        lasted_s = time.perf_counter() - self._started_s
        if span is None:
            attributes, _ = self._read()
            if self.outer is not None:
                self.outer.annotate(attributes)
            return
        failure = self._failure
        if failure is not None:
            # First: they are known, whatever the answer turns out to be.
            span.set_status(self._status_of(failure))
            event = self._exception_attributes()
            if event is not None:
                span.add_event("exception", event)
        attributes, found = self._read()
        span.set_attributes(self._fitted(attributes))
        if found is not None and failure is None:
            span.set_status(self._status_of(found))
        self._measure(attributes, lasted_s)

    @never_raise
    def _measure(self, attributes: Attributes, lasted_s: float) -> None:
        metrics = self._recorder.active_metrics()
        if metrics is not None:
            metrics.record({**self._started_with, **attributes}, lasted_s, self._chunk_times_s, self.context)

    def _complete(self, span: ReadableSpan) -> Parsed | None:
        """Parse request and answer of the ended ``span``, on the export thread."""
        attributes, failure = self._parse() or ({}, self._failure)
        limits = self._starter.limits
        told = self._exception_attributes() if self._failure is not None else None
        event = None if told is None else exception_event(told, self._failed_ns, limits)
        status = None if failure is None else self._status_of(failure)
        return completed(span, attributes, status, event, limits)

    @never_raise
    def _parse(self) -> tuple[Attributes, Failure | None]:
        attributes, failure = self._read()
        return self._fitted(attributes), failure

    def _fitted(self, attributes: Attributes) -> Attributes:
        limits = self._starter.limits
        most = limits.max_span_attributes
        room = len(attributes) if most is None else most - len(self._started_with)
        return within(attributes, room, limits.max_span_attribute_length)

    def _note(self, error: BaseException) -> None:
        """Note what an exception tells; a cancelled call has not failed, unless that is asked for."""
        is_exception = isinstance(error, Exception)
        self._incomplete = "failed" if is_exception else "cancelled"
        if is_exception or self.settings.cancellation_is_error:
            details = self._details = self.dialect.error_attributes(error)
            kind = details.pop(semconv.ERROR_TYPE, None) or error_type(error)
            self._failure = Failure(type=str(kind), message=message_of(error))
            if self.outer is None and self.span is not None:
                counters.add("spans_failed")
                self._failed_ns = time.time_ns()
                # Without the exception, which holds the caller's frames.
                self._raised = raised(error) if self.captures_content else None

    def _read(self) -> tuple[Attributes, Failure | None]:
        """Return all that request and answer tell, and why there is no (whole) answer."""
        attributes = self._read_request() if self._attributes is None else self._attributes
        answer, self._answer = self._answer, None
        if isinstance(answer, bytes):
            response = self._read_answer(json_codec.decode(answer))
        else:
            response = Response() if answer is None else answer()
        arrived, self._arrived = self._arrived, None
        incomplete, failure = self._incomplete, self._failure or response.failure
        if incomplete in _LEFT and arrived is not None and arrived.is_complete:
            incomplete = None
        add_response(attributes, response, content=self.captures_content, is_cut=bool(incomplete or failure))
        if not (incomplete or failure) and is_empty(response):
            self._note_empty_response(attributes)
        if incomplete and (self._first_chunk_s is not None or incomplete != "failed"):
            attributes[semconv.RESPONSE_INCOMPLETE] = incomplete
        if self._first_chunk_s is not None:
            attributes[semconv.RESPONSE_TIME_TO_FIRST_CHUNK] = self._first_chunk_s
        if failure is not None:
            attributes[semconv.ERROR_TYPE] = failure.type
            if failure is not self._failure:
                counters.add("spans_failed")
        if self._details:
            attributes.update(self._details)
        if not self.captures_content:
            attributes = self._attributes = without_content(attributes)
        return attributes, failure

    def _read_answer(self, answer: object) -> Response:
        return self.dialect.read_response(answer, content=self.captures_content)

    def _note_empty_response(self, attributes: Attributes) -> None:
        problem = f"answer: no answer of {self.dialect.name} was given; returned as it is"
        told = attributes.get(semconv.PROBLEMS)
        attributes[semconv.PROBLEMS] = [*map(str, told), problem] if isinstance(told, list) else [problem]
        counters.add("validation_errors")
        warn_once(f"problem:answer:{self.dialect.name}", "spancast: %s", problem)

    @never_raise
    def _exception_attributes(self) -> Attributes:
        failure, chain = self._failure, self._raised
        event: Attributes = {semconv.EXCEPTION_TYPE: failure.type if failure else ""}
        if failure is not None and chain is not None:
            event[semconv.EXCEPTION_MESSAGE] = failure.message
            event[semconv.EXCEPTION_STACKTRACE] = traceback_text(chain)
        return event

    def _status_of(self, failure: Failure) -> Status:
        message = failure.message[:_STATUS_LIMIT] if self.captures_content else None
        return Status(StatusCode.ERROR, message or None)

    def __del__(self) -> None:
        # In a garbage cycle this may come before what watches the stream; and a span that never ends would be lost.
        if not self._ended and (self.span is not None or self.outer is not None):
            self.finish(incomplete="abandoned")

    def annotate(self, attributes: Attributes) -> None:
        """Take from an inner call of the same request what this one does not know itself."""
        own = self._read_request() if self._attributes is None else self._attributes
        merged = {**attributes, **own}
        if self.server is UNKNOWN_SERVER and semconv.PROVIDER_NAME in attributes:
            merged[semconv.PROVIDER_NAME] = attributes[semconv.PROVIDER_NAME]
        self._attributes = merged

    @never_raise
    def forwarded(self) -> dict[str, Any] | None:
        """Return the body fields to send, all of them JSON; None if no keys are sent.

        A field that is None is to be left out. Only OpenRouter understands ``trace`` and ``session_id`` (its
        own Broadcast then joins this trace); ``forward_trace_keys`` overrides that.
        """
        forward_trace_keys = self.settings.forward_trace_keys
        if forward_trace_keys == "never" or (forward_trace_keys == "auto" and self.server.provider != OPENROUTER):
            return None
        ids = self.span.get_span_context() if self.span is not None else None
        return forwarded(self._body or {}, self.keys, ids)


def end_streams() -> None:
    """End every open stream with what has arrived; for the exit of the interpreter, which finalizes not all of them."""
    for reference in _open.copy():
        traced_call = reference()
        if traced_call is not None:
            traced_call.finish(incomplete="abandoned")


def _in_child() -> None:
    # They are the parent's to end: recorded here as well, each would be told twice.
    for reference in _open:
        traced_call = reference()
        if traced_call is not None:
            traced_call.disown()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


def _unplaced(keys: TraceKeys, resolve_parent: SpanParent) -> list[str]:
    """Tell that ``parent_span_id`` came to nothing, where it did."""
    if keys.parent_span_id and not keys.trace_id and not resolve_parent.groups:
        ids = trace_api.get_current_span(resolve_parent.context).get_span_context()
        if not ids.is_valid:
            return ["trace.parent_span_id: needs trace.trace_id or an active span; ignored"]
    return []


class _Inside:
    """The block in which the user's call runs: our span current, nested calls annotating this one."""

    __slots__ = ("_ends", "_entered", "_recording")

    def __init__(self, traced_call: TracedCall, *, ends: bool) -> None:
        self._recording = traced_call
        self._ends = ends

    def __enter__(self) -> None:
        self._entered = self._recording.enter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._recording.leave(self._entered)
        if error is not None and self._ends:
            self._recording.fail(error)
