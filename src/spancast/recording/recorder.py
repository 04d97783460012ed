"""One call from its request to its end: ``Recorder.begin`` -> ``Recording`` -> span.

Must never: raise into a client (``shielded`` at each door), copy a message, or record a
call twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib.metadata import version
from types import TracebackType
from typing import Any, Final, Literal, TypeAlias

from opentelemetry import context as context_api
from opentelemetry import metrics as metrics_api
from opentelemetry import trace as trace_api
from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer, TracerProvider

from spancast.dialects.protocol import Dialect, StreamReader
from spancast.errors import SpancastError, TraceKeyError, shielded, tally, warn_once
from spancast.model import json_text, semconv, trace_keys
from spancast.model.exchange import Attributes, AttributeValue, Failure, Request, Response
from spancast.model.providers import OPENROUTER, UNKNOWN_SERVER, Server
from spancast.model.trace_keys import NO_KEYS, TraceKeys
from spancast.recording.attributes import write
from spancast.recording.ids import WantedIdGenerator
from spancast.recording.metrics import ClientMetrics
from spancast.recording.scope import ambient_keys, baggage_keys, detach, remember
from spancast.recording.span_tree import IDLE_S, Place, SpanTree
from spancast.recording.traceback_text import message_of, traceback_text

SCOPE_NAME: Final = "spancast"
VERSION: Final = version("spancast")

Forward: TypeAlias = Literal["auto", "always", "never"]
Incomplete: TypeAlias = Literal["closed", "abandoned", "cancelled", "failed"]

_INFERENCE: Final = frozenset({"chat", "text_completion", "generate_content"})
_SUPPRESS: Final = ("suppress_instrumentation", "suppress_language_model_instrumentation")
_STATUS_LIMIT: Final = 1_024
_OVERFLOW: Final = "spancast.overflow"
_DEFAULT_ATTRIBUTE_LIMIT: Final = 128
_EXPENDABLE: Final = ("spancast.", semconv.TRACE_METADATA)

_NO_LINKS: Final[list[Link]] = []

_running: ContextVar[Recording | None] = ContextVar("spancast.recording", default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingSettings:
    """How calls are recorded.

    ``tracer_provider`` and ``meter_provider`` None mean the global ones at the time of the
    call. ``cancelled_is_error`` gives a cancelled call the status ERROR.
    """

    tracer_provider: TracerProvider | None = None
    meter_provider: MeterProvider | None = None
    capture_content: bool = True
    strict: bool = False
    forward: Forward = "auto"
    stream_usage: bool = False
    cancelled_is_error: bool = False
    group_idle_s: float = IDLE_S
    defaults: TraceKeys = field(default_factory=lambda: NO_KEYS)


class Recorder:
    """Starts recordings by the settings in force; one per process."""

    def __init__(self) -> None:
        self.settings: RecordingSettings = RecordingSettings()
        self.tree = SpanTree(self.start_span)
        self._provider: TracerProvider | None = None
        self._tracer: Tracer = trace_api.NoOpTracer()
        self._ids: WantedIdGenerator | None = None
        self._attribute_limit = _DEFAULT_ATTRIBUTE_LIMIT
        self._metrics: ClientMetrics | None = None

    def configure(self, settings: RecordingSettings) -> None:
        """Put ``settings`` in force for calls that begin from now on; ends open groups."""
        self.tree.end_all()
        if settings.group_idle_s != self.settings.group_idle_s:
            self.tree = SpanTree(self.start_span, idle_s=settings.group_idle_s)
        self.settings = settings
        self._provider = self._metrics = None

    @shielded
    def begin(
        self,
        dialect: Dialect,
        body: Mapping[str, Any],
        *,
        server: Server = UNKNOWN_SERVER,
        session_header: object = None,
        is_outermost: bool = False,
    ) -> Recording | None:
        """Start recording a call with request ``body``; None where nothing is to be recorded.

        Raises:
            TraceKeyError: A trace key is wrong and ``strict`` is set.
        """
        current = context_api.get_current()
        keys = self.read_keys(body, session_header, current)
        if keys.problems:
            self.tell(keys.problems, TraceKeyError)
        recording = Recording(self, dialect, body, keys, server)
        if not keys.enabled:
            return recording
        outer = _running.get()
        if outer is not None:
            recording.start_within(outer)
        elif current and any(map(current.get, _SUPPRESS)):
            tally.add("calls.suppressed")
        elif current and (active := _inference_span(current)) is not None:
            # Another instrumentation already has a span for this call: ours would be the second.
            tally.add("calls.annotated")
            active.set_attributes(keys.attributes())
        else:
            recording.start(current, quiet_peers=is_outermost)
        return recording

    def read_keys(self, body: Mapping[str, Any], session_header: object, current: Context) -> TraceKeys:
        """Return the keys of a call from all sources, by their precedence (design §3)."""
        keys = NO_KEYS
        get = body.get
        trace, session, user, metadata = get("trace"), get("session_id"), get("user"), get("metadata")
        if trace is not None or session is not None or user is not None or metadata is not None:
            keys = trace_keys.read(trace, session_id=session, user=user, metadata=metadata)
        if session_header is not None:
            keys = keys.over(trace_keys.read(session_id=session_header))
        keys = keys.over(ambient_keys())
        if current:
            keys = keys.over(baggage_keys(current))
        return keys.over(self.settings.defaults)

    def open_groups(self, given: TraceKeys, merged: TraceKeys) -> Place | None:
        """Open the spans a ``with`` block names: ``given`` are its own keys, ``merged`` include those around it."""
        return self._open_groups(given, merged)

    def start_span(  # noqa: PLR0913, PLR0917 - one argument per thing a span is made of
        self,
        name: str,
        context: Context,
        kind: SpanKind,
        attributes: Attributes,
        links: list[Link],
        wanted_trace_id: int | None,
    ) -> Span:
        """Start a span on our own tracer; a root gets ``wanted_trace_id``."""
        tracer = self._ensure_tracer()
        if wanted_trace_id is None or self._ids is None:
            return tracer.start_span(name, context, kind, attributes, links)
        self._ids.want(wanted_trace_id)
        try:
            return tracer.start_span(name, context, kind, attributes, links)
        finally:
            self._ids.want(None)

    def metrics(self) -> ClientMetrics:
        """Return the instruments of the meter provider in force."""
        metrics = self._metrics
        if metrics is not None and metrics.awaits_provider:
            return metrics
        provider = self.settings.meter_provider or metrics_api.get_meter_provider()
        if metrics is None or metrics.provider is not provider:
            metrics = self._metrics = ClientMetrics(provider, VERSION)
        return metrics

    @property
    def attribute_limit(self) -> int:
        """Return how many attributes the tracer keeps on a span."""
        return self._attribute_limit

    @shielded
    def _open_groups(self, given: TraceKeys, merged: TraceKeys) -> Place | None:
        if given.problems:
            self.tell(given.problems, TraceKeyError)
        own = merged if given.span_name else merged.without("span_name")
        return self.tree.place(own, context_api.get_current())

    def tell(self, problems: Sequence[str], error: type[SpancastError]) -> None:
        """Count ``problems`` and warn once of each field; raise them as ``error`` where ``strict`` is set.

        Each is ``field: what was given, what is allowed``; texts of the caller's are never in it.
        """
        tally.add("problems", len(problems))
        if self.settings.strict:
            raise error("; ".join(problems))
        for problem in problems:
            warn_once(f"problem:{problem.partition(':')[0]}", "spancast: %s", problem)

    def _ensure_tracer(self) -> Tracer:
        provider = self.settings.tracer_provider or trace_api.get_tracer_provider()
        if provider is not self._provider:
            tracer = provider.get_tracer(SCOPE_NAME, VERSION, semconv.SCHEMA_URL)
            generator = getattr(tracer, "id_generator", None)
            if generator is None:
                self._ids = None
            elif isinstance(generator, WantedIdGenerator):
                self._ids = generator
            else:
                self._ids = WantedIdGenerator(generator)
                tracer.id_generator = self._ids  # pyright: ignore[reportAttributeAccessIssue] - a public attribute of the SDK's tracer
            limits = getattr(tracer, "_span_limits", None)
            limit = getattr(limits, "max_span_attributes", None)
            self._attribute_limit = limit if isinstance(limit, int) else _DEFAULT_ATTRIBUTE_LIMIT
            self._tracer, self._provider = tracer, provider
        return self._tracer


class Recording:
    """One call being recorded; every way to end it works once and is harmless after.

    Without a span (disabled, suppressed, or another span already tells this call) it only
    carries the keys to forward.
    """

    __slots__ = (
        "_attributes", "_body", "_chunk_times_s", "_ended", "_place", "_recorder", "_started_s",
        "_started_with", "context",
        "dialect", "http_response", "keys", "outer", "server", "span",
    )  # fmt: skip

    def __init__(
        self, recorder: Recorder, dialect: Dialect, body: Mapping[str, Any], keys: TraceKeys, server: Server
    ) -> None:
        self._recorder = recorder
        self._body = body
        self._started_with: Attributes = {}
        self._attributes: Attributes = {}
        self._chunk_times_s: list[float] = []
        self._ended = False
        self._place: Place | None = None
        self._started_s = 0.0
        self.dialect = dialect
        self.keys = keys
        self.server = server
        self.http_response: Any = None
        """The HTTP response of the call where a client puts it aside (openrouter)."""
        self.span: Span | None = None
        self.outer: Recording | None = None
        self.context: Context | None = None
        """The context to run the call in: our span is current there, nowhere else."""

    @property
    def is_live(self) -> bool:
        """Tell whether the answer is of interest: a span of ours, or of an outer call, takes it."""
        return self.outer is not None or (self.span is not None and self.span.is_recording())

    @property
    def captures_content(self) -> bool:
        """Tell whether messages are recorded."""
        return self._recorder.settings.capture_content

    @property
    def settings(self) -> RecordingSettings:
        """Return the settings in force."""
        return self._recorder.settings

    def start(self, current: Context, *, quiet_peers: bool) -> None:
        """Start the span under its place in the tree and read the request onto it."""
        keys, recorder = self.keys, self._recorder
        model = self._body.get("model")
        attributes = self._started_with = {
            semconv.OPERATION_NAME: "chat",
            semconv.PROVIDER_NAME: self._provider,
            **self.server.attributes,
        }
        name = "chat"
        if isinstance(model, str) and model:
            attributes[semconv.REQUEST_MODEL] = model
            name = f"chat {model}"
        links, wanted_trace_id = _NO_LINKS, None
        if keys is not NO_KEYS:
            place = self._place = recorder.tree.place(keys, current)
            current, links, wanted_trace_id = place.context, place.links, place.wanted_trace_id
            name = keys.generation_name or name
        self._started_s = time.perf_counter()
        span = self.span = recorder.start_span(name, current, SpanKind.CLIENT, attributes, links, wanted_trace_id)
        context = trace_api.set_span_in_context(span, current)
        self.context = _quiet(context) if quiet_peers else context
        remember(span)
        if span.is_recording():
            tally.add("spans.started")
            try:
                self._read_request()
            except SpancastError as error:
                # Strict: the request will not be sent, and its span says why.
                self.fail(error)
                raise

    def start_within(self, outer: Recording) -> None:
        """Record for ``outer``, which has the span: it gets what this call knows of itself."""
        self.outer = outer
        self._attributes = {semconv.PROVIDER_NAME: self._provider, **self.server.attributes}
        self._read_request()

    @property
    def _provider(self) -> str:
        return self.server.provider or self.dialect.provider

    def _read_request(self) -> None:
        content = self.captures_content
        request = self.dialect.read_request(self._body, content=content)
        attributes = self._attributes = (
            {**self._attributes, **request.attributes} if self._attributes else request.attributes
        )
        if request.operation != "chat":
            attributes[semconv.OPERATION_NAME] = request.operation
        if content:
            _add_content(attributes, request)
        problems = request.problems
        if self.keys is not NO_KEYS:
            attributes.update(self.keys.attributes())
            problems = [*self.keys.problems, *problems]
            if self.keys.parent_span_id and not self.keys.trace_id and self._place and not self._place.groups:
                ids = trace_api.get_current_span(self._place.context).get_span_context()
                if not ids.is_valid:
                    problems.append("trace.parent_span_id: needs trace.trace_id or an active span; ignored")
        if problems:
            attributes[semconv.PROBLEMS] = problems
            if request.problems:
                self._recorder.tell(request.problems, SpancastError)

    def inside(self, *, ends: bool = True) -> _Inside:
        """Return the ``with`` block to run the call in; an exception passes, and ends the recording if ``ends``."""
        return _Inside(self, ends=ends)

    def new_stream(self) -> StreamReader:
        """Return a reader for this call's streamed answer."""
        return self.dialect.new_stream(content=self.captures_content)

    def chunk_arrived(self) -> None:
        """Note the time of a chunk: the first always, the others where metrics are listened to."""
        times = self._chunk_times_s
        if not times or self._recorder.metrics().enabled:
            times.append(time.perf_counter() - self._started_s)

    @property
    def times_every_chunk(self) -> bool:
        """Tell whether each chunk's time is wanted, not just the first's."""
        return self._recorder.metrics().enabled

    @shielded
    def succeed(self, answer: object) -> None:
        """End with a whole ``answer``: wire JSON or the SDK's object."""
        self._end(lambda: self.dialect.read_response(answer, content=self.captures_content), None, None)

    @shielded
    def finish(self, read: Callable[[], Response], *, incomplete: Incomplete | None = None) -> None:
        """End a stream with what ``read`` assembled."""
        self._end(read, incomplete, None)

    @shielded
    def fail(self, error: BaseException, read: Callable[[], Response] | None = None) -> None:
        """End with the exception the caller gets; ``read`` gives what had arrived before it."""
        self._end(read or Response, None, error)

    def _end(self, read: Callable[[], Response], incomplete: Incomplete | None, error: BaseException | None) -> None:
        is_due = not self._ended and self.is_live
        self._ended = True
        try:
            if is_due:
                self._write(read(), incomplete, error)
        finally:
            # Whatever of ours broke, the span ends.
            if is_due and self.span is not None:
                self.span.end()
            place, self._place = self._place, None
            if place is not None and place.groups:
                self._recorder.tree.release(place.groups, time.time_ns())

    def _write(self, response: Response, incomplete: Incomplete | None, error: BaseException | None) -> None:
        failure = response.failure
        if error is not None:
            incomplete = "failed" if isinstance(error, Exception) else "cancelled"
            if isinstance(error, Exception) or self.settings.cancelled_is_error:
                failure = Failure(type=_error_type(error), message=message_of(error))
        self._add_end(response, incomplete, failure)
        attributes = self._attributes
        if error is not None and failure is not None:
            _add_error_details(attributes, error)
        if self.outer is not None:
            self.outer.annotate(attributes)
            return
        if self.span is not None:
            self._write_span(self.span, attributes, failure, error)
        metrics = self._recorder.metrics()
        if metrics.enabled:
            metrics.record(
                {**self._started_with, **attributes}, time.perf_counter() - self._started_s, self._chunk_times_s
            )

    def _add_end(self, response: Response, incomplete: Incomplete | None, failure: Failure | None) -> None:
        attributes = self._attributes
        _add_response(attributes, response, content=self.captures_content, is_cut=bool(incomplete or failure))
        if not (incomplete or failure) and _says_nothing(response):
            self._note_no_answer()
        if incomplete and (self._chunk_times_s or incomplete != "failed"):
            attributes[semconv.RESPONSE_INCOMPLETE] = incomplete
        if self._chunk_times_s:
            attributes[semconv.RESPONSE_TIME_TO_FIRST_CHUNK] = self._chunk_times_s[0]
        if failure is not None:
            attributes[semconv.ERROR_TYPE] = failure.type

    def _note_no_answer(self) -> None:
        problem = f"answer: no answer of {self.dialect.name} was given; returned as it is"
        told = self._attributes.get(semconv.PROBLEMS)
        self._attributes[semconv.PROBLEMS] = [*map(str, told), problem] if isinstance(told, list) else [problem]
        tally.add("problems")
        warn_once(f"problem:answer:{self.dialect.name}", "spancast: %s", problem)

    def _write_span(
        self, span: Span, attributes: Attributes, failure: Failure | None, error: BaseException | None
    ) -> None:
        limit = self._recorder.attribute_limit - len(self._started_with)
        write(span, attributes if len(attributes) <= limit else _within(attributes, limit))
        if failure is None:
            return
        message = failure.message[:_STATUS_LIMIT] if self.captures_content else None
        span.set_status(Status(StatusCode.ERROR, message or None))
        if error is not None:
            event: Attributes = {semconv.EXCEPTION_TYPE: failure.type}
            if self.captures_content:
                event[semconv.EXCEPTION_MESSAGE] = failure.message
                event[semconv.EXCEPTION_STACKTRACE] = traceback_text(error)
            span.add_event("exception", event)
        tally.add("spans.failed")

    def __del__(self) -> None:
        # Whoever should have ended it failed; a span that never ends would be lost without a word.
        if not getattr(self, "_ended", True) and self.span is not None:
            self.finish(Response, incomplete="abandoned")

    def annotate(self, attributes: Attributes) -> None:
        """Take from an inner call of the same request what this one does not know itself."""
        merged = {**attributes, **self._attributes}
        if self.server is UNKNOWN_SERVER and semconv.PROVIDER_NAME in attributes:
            merged[semconv.PROVIDER_NAME] = attributes[semconv.PROVIDER_NAME]
        self._attributes = merged

    def forwarded(self) -> dict[str, Any] | None:
        """Return the body fields to send: ``trace`` and ``session_id`` with our ids, or None to leave them out.

        Only OpenRouter understands them (its own Broadcast then joins this trace);
        ``forward`` overrides that.
        """
        forward = self.settings.forward
        if forward == "never" or (forward == "auto" and self.server.provider != OPENROUTER):
            return None
        keys = self.keys
        raw: Any = self._body.get("trace")
        trace = {**_forwarded_trace(keys), **_raw_fields(raw)}
        fields: dict[str, Any] = {}
        session = self._body.get("session_id")
        if session is not None or keys.session_id:
            fields["session_id"] = session if session is not None else keys.session_id
        if self._body.get("user") is None and keys.user:
            fields["user"] = keys.user
        ids = self.span.get_span_context() if self.span is not None else None
        if (trace or fields) and ids is not None and ids.is_valid and ids.trace_flags.sampled:
            trace.setdefault("trace_id", f"{ids.trace_id:032x}")
            trace["parent_span_id"] = f"{ids.span_id:016x}"
        if raw is not None and not json_text.is_mapping(raw) and not hasattr(raw, "__pydantic_fields_set__"):
            # Not ours to repair: the provider answers as it would without us.
            fields["trace"] = raw
        elif trace:
            fields["trace"] = trace
        return fields


def in_progress() -> Recording | None:
    """Return the recording the caller's code runs inside of."""
    return _running.get()


class _Inside:
    """The block in which the user's call runs: our span current, nested calls annotating this one."""

    __slots__ = ("_ends", "_mark", "_recording", "_token")

    def __init__(self, recording: Recording, *, ends: bool) -> None:
        self._recording = recording
        self._ends = ends

    def __enter__(self) -> None:
        self._token = context_api.attach(self._recording.context or context_api.get_current())
        self._mark = _running.set(self._recording)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:  # noqa: SIM105 - contextlib.suppress costs five times as much, a call
            _running.reset(self._mark)
        except ValueError:
            # Left in another context than entered (a coroutine closed elsewhere): that context dies by itself.
            pass
        detach(self._token)
        if error is not None and self._ends:
            self._recording.fail(error)


def _add_content(attributes: Attributes, request: Request) -> None:
    if request.messages:
        attributes[semconv.INPUT_MESSAGES] = json_text.encode(request.messages)
    if request.system_instructions:
        attributes[semconv.SYSTEM_INSTRUCTIONS] = json_text.encode(request.system_instructions)
    if request.tools:
        attributes[semconv.TOOL_DEFINITIONS] = json_text.encode(request.tools)


def _add_response(attributes: Attributes, response: Response, *, content: bool, is_cut: bool) -> None:
    if response.id:
        attributes[semconv.RESPONSE_ID] = response.id
    if response.model:
        attributes[semconv.RESPONSE_MODEL] = response.model
    if response.finish_reasons:
        attributes[semconv.RESPONSE_FINISH_REASONS] = response.finish_reasons
    elif is_cut:
        # The convention: a missing reason is "error" rather than left out.
        attributes[semconv.RESPONSE_FINISH_REASONS] = ["error"]
    attributes.update(response.attributes)
    attributes.update(response.usage)
    if content and response.messages:
        attributes[semconv.OUTPUT_MESSAGES] = json_text.encode(response.messages)


def _says_nothing(response: Response) -> bool:
    return not (response.id or response.finish_reasons or response.messages or response.usage or response.attributes)


def _add_error_details(attributes: Attributes, error: BaseException) -> None:
    # openai, anthropic and openrouter all name them so; other exceptions have neither.
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        attributes[semconv.RESPONSE + "status_code"] = status
    code = getattr(error, "code", None)
    if isinstance(code, (str, int)) and code != status:
        attributes[semconv.RESPONSE + "error_code"] = str(code)


def _error_type(error: BaseException) -> str:
    kind = type(error)
    return (
        kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__.split('.')[0]}.{kind.__qualname__}"
    )


def _within(attributes: Attributes, limit: int) -> Attributes:
    """Fit ``attributes`` into the span's limit: ours and custom ones share one JSON attribute, none is dropped."""
    excess = len(attributes) - limit
    expendable = [name for name in attributes if name.startswith(_EXPENDABLE) and name not in _KEPT]
    moved = set(expendable[-(excess + 1) :])
    kept: Attributes = {name: value for name, value in attributes.items() if name not in moved}
    rest: dict[str, AttributeValue] = {name: attributes[name] for name in expendable if name in moved}
    kept[_OVERFLOW] = json_text.encode(rest)
    return kept


_KEPT: Final = frozenset({semconv.USAGE_COST, semconv.USAGE_TOTAL_TOKENS, semconv.RESPONSE_INCOMPLETE})


def _inference_span(current: Context) -> Span | None:
    span = trace_api.get_current_span(current)
    attributes = getattr(span, "attributes", None)
    if not attributes or not span.is_recording():
        return None
    if attributes.get(semconv.OPERATION_NAME) in _INFERENCE or attributes.get("openinference.span.kind") == "LLM":
        return span
    return span if attributes.get("llm.request.type") in ("chat", "completion") else None


def _quiet(context: Context) -> Context:
    """Return ``context`` in which the instrumentations of others leave an LLM call alone."""
    quiet = context_api.set_value(_SUPPRESS[1], True, context)
    module = _genai_module()
    if module is not None:
        quiet = context_api.set_value(module.CLIENT_INFERENCE_CONTEXT_KEY, module.InferenceData(), quiet)
    return quiet


def _genai_module() -> Any:  # noqa: ANN401 - a module that may not be installed
    import sys  # noqa: PLC0415 - looked up, never imported: it matters only where somebody else loaded it

    module = sys.modules.get("opentelemetry.util.genai._inference_invocation")
    return module if module is not None and hasattr(module, "InferenceData") else None


def _forwarded_trace(keys: TraceKeys) -> dict[str, Any]:
    named = {name: getattr(keys, name) for name in ("trace_id", "trace_name", "span_name", "generation_name")}
    return {**keys.custom, **{name: value for name, value in named.items() if value}}


def _raw_fields(trace: object) -> dict[str, Any]:
    if json_text.is_mapping(trace):
        return dict(trace)
    if not hasattr(trace, "__pydantic_fields_set__"):
        return {}
    return {**vars(trace), **(getattr(trace, "__pydantic_extra__", None) or {})}


RECORDER: Final = Recorder()
