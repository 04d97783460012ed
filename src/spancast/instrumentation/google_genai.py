"""Patches of google-genai: generated content, chats, embeddings and interactions, of the Gemini API and Vertex AI.

Every request passes ``BaseApiClient.request`` or one of its three variants with its path and final JSON, below
automatic function calling and above retries. The public methods are patched only to mark the requests of a call and
to give them its trace keys, with the ``extra_body`` of ``http_options``: a stream sends its request with its first
step.

The requests of a call that may run functions are under one group span, unless a span is active around the call.
The functions themselves run outside it.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from contextvars import copy_context
from copy import deepcopy
from dataclasses import replace
from typing import Any, Final

from opentelemetry import trace as trace_api
from opentelemetry.context import get_current
from opentelemetry.trace import Span, use_span

from spancast.diagnostics import never_raise
from spancast.dialects import accessors
from spancast.dialects.gemini.embeddings import GEMINI_EMBEDDINGS
from spancast.dialects.gemini.reader import GEMINI
from spancast.dialects.gemini_interactions.reader import GEMINI_INTERACTIONS
from spancast.dialects.protocol import Dialect
from spancast.instrumentation.call_keys import NAMES, drop_keys, has_keys, without_keys
from spancast.instrumentation.google_interactions import RESOURCES, google_server, interaction_patches
from spancast.instrumentation.patching import (
    ClientPatches,
    InstancePatch,
    InstrumentedClients,
    Method,
    Patch,
    hide_frame,
)
from spancast.instrumentation.results import StepRecorder
from spancast.instrumentation.stainless import keys_into_extra_body, session_header
from spancast.instrumentation.stream_recorder import Arrived, AsyncRecordingIterator, StreamRecorder
from spancast.instrumentation.wrap_call import Begun, CallDescription, wrap_call
from spancast.model import json_codec
from spancast.model.call import Response
from spancast.model.json_data import sendable
from spancast.tracing.call_tracer import CALL_TRACER
from spancast.tracing.generator_steps import Driven, Unawaited, copy_names, generator_function, plain_step
from spancast.tracing.other_instrumentations import active_inference_span, is_own_call, makes_late_spans, span_of_stream
from spancast.tracing.trace_block import Entry, TraceBlock
from spancast.tracing.traced_call import TracedCall

_DIALECTS: Final[Mapping[str, Dialect]] = {
    "generateContent": GEMINI,
    "streamGenerateContent": GEMINI,
    "batchEmbedContents": GEMINI_EMBEDDINGS,
    "embedContent": GEMINI_EMBEDDINGS,
    "predict": GEMINI_EMBEDDINGS,
}
_STREAMED: Final = "streamGenerateContent"
_PREDICT: Final = "predict"
"""Also the method of image models, whose instances have a prompt."""
_CONFIG: Final = "generationConfig"


class _PublicCall:
    """What the requests of a call of a public method need to know of it.

    It lives as long as the call or its stream: the SDK's frames hold it.
    """

    __slots__ = ("entry", "has_body", "has_config", "keys", "runs_functions", "span")

    def __init__(
        self, keys: dict[str, Any], span: Span | None, *, has_config: bool, has_body: bool, runs_functions: bool
    ) -> None:
        self.keys: Final = keys
        self.runs_functions: Final = runs_functions
        """Whether the SDK calls functions of the caller, and sends their results with further requests."""
        self.entry: Entry | None = None
        """The block with the group span of these requests."""
        self.has_config: Final = has_config
        """False if the SDK would send no ``generationConfig``."""
        self.has_body: Final = has_body
        """False if the ``extra_body`` of the client is used."""
        self.span = span
        """The span that another instrumentation has made for the call."""

    @never_raise
    def __del__(self) -> None:
        if self.entry is not None:
            # An exception, or a cycle of a stream that was left, may hold the frames of the call longer, so the group
            # ends with its last request. In a copy of the context, as ``TracedCall._end_unfinished``.
            copy_context().run(CALL_TRACER.group_spans.close, self.entry.scope)


class _Carrier(dict[str, Any]):
    """The ``extra_body`` of a request: what the caller gave is sent, ``call`` is never sent."""

    __slots__ = ("call",)

    def __init__(self, given: Mapping[str, Any], call: _PublicCall) -> None:
        super().__init__(given)
        self.call: Final = call

    def __deepcopy__(self, memo: dict[int, Any]) -> _Carrier:
        # The SDK copies its configurations.
        return _Carrier(deepcopy(dict(self), memo), self.call)


class _Clients(InstrumentedClients):
    """Instrumented clients, each known by the ``BaseApiClient`` that all its parts share."""

    def covers(self, client: object) -> bool:
        """Return whether calls of ``client``, or of a part of one, are recorded."""
        return self.all or super().covers(_api_client_of(client))

    def has(self, client: object) -> bool:
        """Return whether the client that ``client`` is or belongs to was added."""
        return super().has(_api_client_of(client))

    def owns(self, resource: object) -> bool:
        """Return whether the client of a chat was added."""
        return self.has(resource)

    def add(self, client: object) -> None:
        """Add one client."""
        super().add(_api_client_of(client))

    def discard(self, client: object) -> None:
        """Remove one client, if it was added."""
        super().discard(_api_client_of(client))


def _api_client_of(client: object) -> object:
    """Return the ``BaseApiClient`` of a client, its models or a chat; another object as it is."""
    holder = getattr(client, "_modules", client)
    return getattr(holder, "_api_client", holder)


_INSTRUMENTED: Final = _Clients()


class _Chunks(Arrived):
    """The chunks of a stream that have arrived, as JSON text."""

    __slots__ = ("_size_bytes", "_texts")

    def __init__(self, traced_call: TracedCall) -> None:
        super().__init__(traced_call)
        self._texts: list[str] = []
        self._size_bytes = 0

    def _keep(self, chunk: Any) -> None:  # noqa: ANN401 - the SDK's chunk
        text = getattr(chunk, "body", None)
        if isinstance(text, str):
            self._texts.append(text)
            self._size_bytes += len(text)

    @property
    def feed(self) -> Callable[[object], None]:
        """Return a function that keeps a chunk."""
        return self._keep

    @property
    def unparsed_bytes(self) -> int | None:
        """Return the size of the chunks."""
        return self._size_bytes

    def result(self) -> Response:
        """Return the response as far as it has arrived."""
        texts, self._texts = self._texts, []
        chunks = [chunk for chunk in map(json_codec.decode, texts) if json_codec.is_mapping(chunk)]
        for chunk in chunks:
            super().feed(chunk)
        self.is_complete = bool(chunks) and self._dialect.is_last(chunks[-1])
        return self.reader.result()


class _Request(CallDescription):
    """``BaseApiClient.request`` and its variants: method, path, JSON and options of an HTTP request."""

    def begin(self, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Begun:  # noqa: ANN401 - the SDK's client
        """Start a call; remove the trace keys from its ``extra_body``, except the forwarded ones.

        They are removed also from requests that are not recorded.
        """
        if not _INSTRUMENTED.covers(owner):
            return None, args, kwargs, None
        given = {**dict(zip(_PARAMETERS, args, strict=False)), **kwargs}
        options, request = given.get("http_options"), given.get("request_dict")
        extra = _first("extra_body", options)
        call = extra.call if isinstance(extra, _Carrier) else None
        if extra is None or (call is not None and not call.has_body):
            extra = _first("extra_body", getattr(owner, "_http_options", None))
        if call is not None or (json_codec.is_mapping(extra) and has_keys(extra)):
            sent: dict[str, Any] = without_keys(extra or {})
            given["http_options"] = _with_extra_body(options, sent)
            # Newer chats make a configuration of their own, for a header.
            if call is not None and not call.has_config and _first("headers", options) is None:
                given["request_dict"] = {
                    name: value for name, value in accessors.fields(request).items() if name != _CONFIG
                }
            args, kwargs = tuple([given.get(name) for name in _PARAMETERS]), {}
        traced_call = _started(owner, {**given, "request_dict": request}, options, extra, call)
        forwarded = traced_call.forwarded() if traced_call is not None and traced_call.keys.enabled else None
        if forwarded:
            sent = {name: value for name, value in without_keys(extra or {}).items() if name not in forwarded}
            sent |= {name: value for name, value in forwarded.items() if value is not None}
            given["http_options"] = _with_extra_body(options, sent)
            args, kwargs = tuple([given.get(name) for name in _PARAMETERS]), {}
        return traced_call, args, kwargs, None

    def record(self, traced_call: TracedCall, result: Any, note: None) -> object | None:  # noqa: ANN401, ARG002 - the SDK's result
        """Record the text of a response; return an iterator in place of that of a stream."""
        if hasattr(result, "__aiter__"):
            return AsyncRecordingIterator(aiter(result), StreamRecorder(traced_call, _Chunks(traced_call)))
        traced_call.end_with_bytes((result.body or "").encode("utf-8", "replace"))
        return None


@never_raise
def _started(
    owner: Any,  # noqa: ANN401 - the SDK's client
    given: Mapping[str, Any],
    options: object,
    extra: Mapping[str, Any] | None,
    call: _PublicCall | None,
) -> TracedCall | None:
    """Return the traced call of a request, whose ``extra_body`` is ``extra``; None if it is no completion."""
    path, _, method = str(given.get("path", "")).partition("?")[0].rpartition(":")
    dialect, request = _DIALECTS.get(method), given.get("request_dict")
    if dialect is None or not json_codec.is_mapping(request) or (method == _PREDICT and not _is_embedding(request)):
        return None
    body: dict[str, Any] = {"model": _model_of(path), **({"stream": True} if method == _STREAMED else {})}
    body.update({name: value for name, value in request.items() if not name.startswith("_")})
    if call is not None:
        extra = keys_into_extra_body({"extra_body": extra, **call.keys})["extra_body"]
    if json_codec.is_mapping(extra):
        _merge(body, extra)
    client_options = getattr(owner, "_http_options", None)
    headers = session_header((_first("headers", options), _first("headers", client_options)))
    server = google_server(owner, _first("base_url", options, client_options))
    if call is not None and call.runs_functions and call.entry is None and call.span is None:
        call.entry = _group(body, headers)
    span = call.span if call is not None else None
    with nullcontext() if span is None or not span.is_recording() else _current(span):
        if call is None or call.entry is None:
            traced_call = CALL_TRACER.start_call(dialect, body, server, headers, parse_now=False)
        else:
            # Its keys are those of the first request, whose groups are open.
            body = without_keys(body)
            start = functools.partial(CALL_TRACER.start_call, parse_now=False)
            traced_call = call.entry.step(start, dialect, body, server)
    if traced_call is not None:
        traced_call.set_request_bytes(json_codec.encode(body).encode())
    return traced_call


def _group(body: Mapping[str, Any], headers: object) -> Entry | None:
    """Return a block with the group span of the requests of a call; None if something else holds them together."""
    current = get_current()
    if trace_api.get_current_span(current).get_span_context().is_valid or makes_late_spans():
        return None
    keys = CALL_TRACER.read_keys(body, headers, current)
    is_named = keys.trace_name is not None or keys.span_name is not None
    if not keys.enabled or (keys.trace_id is not None and (is_named or keys.parent_span_id is not None)):
        return None
    if not is_named:
        keys = replace(keys, span_name=f"function_calling {body['model']}")
    entry = Entry(CALL_TRACER, keys, TraceBlock(CALL_TRACER, keys))
    return None if entry.context is None else entry


_current: Final = functools.partial(use_span, record_exception=False, set_status_on_exception=False)
_PARAMETERS: Final = ("http_method", "path", "request_dict", "http_options")
_REQUEST: Final = _Request()
_HOOKS: Final = wrap_call(_REQUEST)
_begin: Final = never_raise(_REQUEST.begin)


@never_raise
def _recorder(traced_call: TracedCall) -> StepRecorder:
    return StepRecorder(traced_call, _Chunks(traced_call))


def _record_steps(method: Method) -> Method:
    """Wrap ``request_streamed``, a generator function that sends its request with its first step."""

    def start(owner: Any, *args: Any, **kwargs: Any) -> Driven:  # noqa: ANN401 - the SDK's arguments
        traced_call, args, kwargs, _ = _begin(owner, args, kwargs) or (None, args, kwargs, None)
        recorder = _recorder(traced_call) if traced_call is not None and traced_call.records_response else None
        inner = method(owner, *args, **kwargs)
        return Driven(inner, plain_step, nullcontext()) if recorder is None else Driven(inner, recorder.step, recorder)

    return generator_function(start)


def _is_embedding(request: Mapping[str, Any]) -> bool:
    instances = accessors.items(request.get("instances"))
    return bool(instances) and "content" in accessors.fields(instances[0])


def _model_of(path: str) -> str:
    """Return the model in a path; a tuned model or an endpoint has its folder as well."""
    _, found, name = path.rpartition("/models/")
    return name if found else path.removeprefix("models/")


def _first(name: str, *options: Any) -> Any:  # noqa: ANN401 - the SDK's options
    """Return the first value of an HTTP option; None if none has it."""
    return next((value for one in options if (value := accessors.fields(one).get(name)) is not None), None)


def _merge(body: dict[str, Any], extra: Mapping[str, Any]) -> None:
    """Merge ``extra`` into ``body`` as the SDK does, objects field by field; it does not change what they hold."""
    for name, value in extra.items():
        known = body.get(name)
        if json_codec.is_mapping(known) and json_codec.is_mapping(value):
            merged = dict(known)
            _merge(merged, value)
            body[name] = merged
        else:
            body[name] = value


def _with_extra_body(options: Any, extra_body: Mapping[str, Any]) -> Any:  # noqa: ANN401 - the SDK's options
    """Return HTTP options with another ``extra_body``; an empty one replaces that of the client."""
    if options is None or json_codec.is_mapping(options):
        options = sys.modules["google.genai.types"].HttpOptions(**(options or {}))
    # A copy is not validated: it holds this very object.
    return options.model_copy(update={"extra_body": extra_body})


def _move_keys(method: Method) -> Method:
    """Move trace keys of a public method into its configuration, where ``request`` finds them."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's own result
        if (has_keys(kwargs) or _runs_functions(kwargs.get("config"))) and args and _INSTRUMENTED.covers(args[0]):
            args, kwargs, _ = _with_call(args, kwargs) or (args, without_keys(kwargs), None)
        return method(*args, **kwargs)

    return hide_frame(wrapper)


def _keys_and_span(method: Method) -> Method:
    """Do as ``_move_keys``, also with the span that another instrumentation makes for a stream.

    It is current when the method is called, not when the request is sent.
    """

    def wrapper(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's own result
        call = None
        if args and _INSTRUMENTED.covers(args[0]):
            span = _span_of_other()
            if has_keys(kwargs) or span is not None or makes_late_spans() or _runs_functions(kwargs.get("config")):
                args, kwargs, call = _with_call(args, kwargs, span) or (args, without_keys(kwargs), None)
        result = method(*args, **kwargs)
        if call is None or call.span is not None or not makes_late_spans():
            return result
        if inspect.iscoroutine(result):
            return copy_names(_named(Unawaited(result), call), result)
        call.span = span_of_stream(result)
        return result

    return hide_frame(wrapper)


@never_raise
def _runs_functions(config: Any) -> bool:  # noqa: ANN401 - the SDK's configuration
    """Return whether the SDK runs tools of a call itself: functions, or those of a session of MCP."""
    if not config:
        return False
    fields = accessors.fields(config)
    automatic = accessors.fields(fields.get("automatic_function_calling") or fields.get("automaticFunctionCalling"))
    return not automatic.get("disable") and any(
        callable(tool) or hasattr(tool, "call_tool") for tool in accessors.items(fields.get("tools"))
    )


@never_raise
def _span_of_other() -> Span | None:
    span = active_inference_span(get_current())
    return None if span is None or is_own_call(span) else span


async def _named(given: Unawaited, call: _PublicCall) -> Any:  # noqa: ANN401 - the SDK's own result
    result = await given.coroutine
    call.span = span_of_stream(result)
    return result


@never_raise
def _with_call(
    args: tuple[Any, ...], kwargs: dict[str, Any], span: Span | None = None
) -> tuple[tuple[Any, ...], dict[str, Any], _PublicCall]:
    """Return the arguments with the call and its keys in ``config``, or in that of a chat if it is not overridden."""
    owner: Any = args[0]
    # ``send_message`` also takes its configuration by position.
    config: Any = args[2] if len(args) > 2 else kwargs.get("config")  # noqa: PLR2004 - the third one
    config = config or getattr(owner, "_config", None)
    options = _first("http_options", config) or _first("httpOptions", config)
    given = _first("extra_body", options)
    if given is None:
        # Not for an empty one, which may carry the keys of a chat.
        given = _first("extraBody", options)
    keys = {name: sendable(kwargs[name]) for name in NAMES if name in kwargs}
    has_config, has_body = bool(config), given is not None
    if isinstance(given, _Carrier):
        # That of a chat, whose method calls this one.
        outer = given.call
        keys, has_config, has_body = {**outer.keys, **keys}, outer.has_config, outer.has_body
    runs = bool(_runs_functions(config))
    call = _PublicCall(keys, span, has_config=has_config, has_body=has_body, runs_functions=runs)
    options = _with_extra_body(options, _Carrier(given or {}, call))
    if config is None or json_codec.is_mapping(config):
        changed: Any = {name: value for name, value in (config or {}).items() if name != "httpOptions"}
        changed["http_options"] = options
    else:
        changed = config.model_copy(update={"http_options": options})
    if len(args) > 2:  # noqa: PLR2004 - as above
        return (*args[:2], changed, *args[3:]), without_keys(kwargs), call
    return args, {**without_keys(kwargs), "config": changed}, call


_RECORDED: Final = ("generate_content", "generate_content_stream", "embed_content")
_CHAT: Final = ("send_message", "send_message_stream")
_UNRECORDED: Final = {
    "count_tokens": "no completion",
    "compute_tokens": "no completion",
    "generate_images": "no operation of the conventions",
    "edit_image": "no operation of the conventions",
    "upscale_image": "no operation of the conventions",
    "recontext_image": "no operation of the conventions",
    "segment_image": "no operation of the conventions",
    "generate_videos": "no operation of the conventions",
}
"""Methods that accept trace keys and are not recorded, with the reason. Files, caches, batches and ``live`` (a
connection of its own) are not patched."""

_CLIENT: Final = "google.genai._api_client"
_MODELS: Final = "google.genai.models"
_CHATS: Final = "google.genai.chats"
_SEAM: Final = {
    "request": _HOOKS.sync,
    "request_streamed": _record_steps,
    "async_request": _HOOKS.asynchronous,
    "async_request_streamed": _HOOKS.asynchronous,
}
_KEY_HOOKS: Final = {
    **dict.fromkeys(_RECORDED, _move_keys),
    "generate_content_stream": _keys_and_span,
    **dict.fromkeys(_UNRECORDED, functools.partial(drop_keys, instrumented=_INSTRUMENTED)),
}

PATCHES: Final = ClientPatches(
    dialects=(GEMINI.name, GEMINI_EMBEDDINGS.name, GEMINI_INTERACTIONS.name),
    instrumented=_INSTRUMENTED,
    patches=(
        *(Patch(_CLIENT, f"BaseApiClient.{name}", hook) for name, hook in _SEAM.items()),
        *(
            Patch(_MODELS, f"{owner}.{name}", hook)
            for owner in ("Models", "AsyncModels")
            for name, hook in _KEY_HOOKS.items()
        ),
        *(Patch(_CHATS, f"{owner}.{name}", _move_keys) for owner in ("Chat", "AsyncChat") for name in _CHAT),
        *interaction_patches(_INSTRUMENTED),
    ),
    instance_patches=(
        *(InstancePatch(f"_api_client.{name}", hook) for name, hook in _SEAM.items()),
        *(
            InstancePatch(f"{models}.{name}", hook)
            for models in ("models", "aio.models")
            for name, hook in _KEY_HOOKS.items()
        ),
    ),
    resource_bases=(f"{_CHATS}:Chat", f"{_CHATS}:AsyncChat", *RESOURCES),
)
