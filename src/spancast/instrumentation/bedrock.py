"""Patches of boto3 (botocore) and aiobotocore: calls of models on Bedrock, by clients of ``bedrock-runtime``.

The classes of clients are made at run time, so ``_make_api_call`` of their base class is patched, which every operation
of every service of AWS passes with its parameters; calls of other services go through at once. JSON as sent and as
received passes ``_make_request``, with all retries inside.
"""

from __future__ import annotations

import base64
import functools
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from spancast.diagnostics import counters, never_raise
from spancast.dialects import accessors
from spancast.dialects.bedrock_converse.reader import BEDROCK_CONVERSE
from spancast.dialects.bedrock_invoke.reader import BEDROCK_INVOKE, METRICS, with_metrics
from spancast.dialects.protocol import Dialect
from spancast.instrumentation.call_keys import NAMES
from spancast.instrumentation.http_body import BodyCloseObserver, Proxy
from spancast.instrumentation.patching import (
    ClientPatches,
    Hook,
    InstancePatch,
    InstrumentedClients,
    Method,
    Patch,
    hide_frame,
)
from spancast.instrumentation.stream_recorder import Arrived, AsyncRecordingIterator, StreamRecorder, record_iterator
from spancast.instrumentation.wrap_call import Begun, CallDescription, wrap_call
from spancast.model import json_codec, semconv
from spancast.model.call import Response
from spancast.model.providers import Server, server_of
from spancast.model.trace_keys import NO_KEYS
from spancast.otel_private import suppress_instrumentation
from spancast.tracing.call_tracer import CALL_TRACER
from spancast.tracing.traced_call import CURRENT_CALL, TracedCall

_CLASS: Final = "BedrockRuntime"
"""The class that botocore makes for clients of ``bedrock-runtime``, and for no others."""
_PROVIDER: Final = "aws.bedrock"
_CONVERSE: Final = frozenset({"Converse", "ConverseStream"})
_INVOKE: Final = frozenset({"InvokeModel", "InvokeModelWithResponseStream"})
_INSTRUMENTED: Final = InstrumentedClients()
_OTEL: Final = "opentelemetry.instrumentation.botocore"

_METADATA: Final = "requestMetadata"
_METADATA_TEXT: Final = re.compile(r"[a-zA-Z0-9\s:_@$#=/+,.-]{1,256}")
_METADATA_LIMIT: Final = 16
_COUNT_HEADER: Final = "x-amzn-bedrock-"
_COUNT_NAMES: Final = {
    "input-token-count": "inputTokenCount",
    "output-token-count": "outputTokenCount",
    "cache-read-input-token-count": "cacheReadInputTokenCount",
    "cache-write-input-token-count": "cacheWriteInputTokenCount",
    "invocation-latency": "invocationLatency",
}
_RAW_NAMES: Final = ("_raw_stream", "__wrapped__")
"""The attribute of a body with the HTTP response; the second is aiobotocore's before 3.0."""
_HEADER_FIELDS: Final = ("performanceConfigLatency", "serviceTier")


def _of_bedrock(hook: Hook) -> Hook:
    """Return a hook that leaves calls of other services as they are."""

    def wrap(method: Method) -> Method:
        recorded = hook(method)

        def wrapper(client: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's own result
            # Every call of every other service passes here.
            if type(client).__name__ != _CLASS:
                return method(client, *args, **kwargs)
            return recorded(client, *args, **kwargs)

        return hide_frame(wrapper)

    return wrap


class _Call(CallDescription):
    """``_make_api_call`` of a client of Bedrock: the name of an operation and its parameters."""

    def begin(self, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Begun:  # noqa: ANN401 - the SDK's client
        """Start a call; its note has what the JSON of the request lacks."""
        if not _INSTRUMENTED.covers(owner):
            return None, args, kwargs, None
        operation: Any = args[0] if args else kwargs.get("operation_name")
        given: Any = args[1] if len(args) > 1 else kwargs.get("api_params")
        if not isinstance(given, dict):
            return None, args, kwargs, None
        keys: dict[str, Any] = {name: given[name] for name in NAMES if name in given}  # pyright: ignore[reportUnknownArgumentType]
        if isinstance(keys.get("trace"), str) and operation in _INVOKE:
            # Bedrock's own: whether the response has the trace of its guardrail.
            del keys["trace"]
        sent: dict[str, Any] = {name: value for name, value in given.items() if name not in keys} if keys else given  # pyright: ignore[reportUnknownVariableType]
        # Trace keys leave the parameters, whatever fails.
        traced_call, sent, note = _started(owner, operation, sent, keys) or (None, sent, None)
        if sent is not given:
            if len(args) > 1:
                args = (args[0], sent, *args[2:])
            else:
                kwargs = {**kwargs, "api_params": sent}
        return traced_call, args, kwargs, note

    def record(self, traced_call: TracedCall, result: Any, note: Mapping[str, Any] | None) -> None:  # noqa: ANN401 - the SDK's result
        """Record a stream or a body that is read later, in place, or a response from its bytes."""
        answer = _take_exchange(traced_call, note)
        fields = accessors.fields(result)
        body = fields.get("stream", fields.get("body"))
        if (messages := getattr(body, "_event_generator", None)) is not None:
            _record_events(traced_call, body, messages, fields)
        elif (name := next((one for one in _RAW_NAMES if hasattr(body, one)), None)) is not None:
            arrived = _ArrivedJson(traced_call, fields)
            # Everything that reads the body passes its raw stream, also ``with body as raw``.
            setattr(body, name, _RawBody(getattr(body, name), StreamRecorder(traced_call, arrived), arrived))
        elif answer is not None:
            arrived = _ArrivedJson(traced_call, fields)
            arrived.pieces.append(answer)
            traced_call.expect_stream(arrived)
            traced_call.end_stream()
        else:
            # A stub of botocore, or of the caller's own.
            traced_call.end_with(result)

    def fail(self, traced_call: TracedCall, error: BaseException, note: Mapping[str, Any] | None) -> None:
        """Record the exception and the request as it was sent."""
        _take_exchange(traced_call, note)
        super().fail(traced_call, error, note)


@never_raise
def _started(
    client: Any,  # noqa: ANN401 - the SDK's client
    operation: str,
    sent: dict[str, Any],
    keys: dict[str, Any],
) -> tuple[TracedCall | None, dict[str, Any], dict[str, Any]] | None:
    """Start a call; return it with the parameters to send, and what the JSON of the request lacks."""
    if operation in _CONVERSE:
        note: dict[str, Any] = {"model": sent.get("modelId")}
        traced_call = _start(client, BEDROCK_CONVERSE, {**sent, **note, **keys})
        return traced_call, _with_forwarded(client, operation, traced_call, sent), note
    if operation in _INVOKE:
        note = {name: value for name, value in sent.items() if name not in {"body", "modelId", "trace"}}
        note["model"] = sent.get("modelId")
        if "trace" in sent:
            note["guardrailTrace"] = sent["trace"]
        body = {**_decoded(sent.get("body")), **note}
        return _start(client, BEDROCK_INVOKE.for_request(body), {**body, **keys}), sent, note
    if keys:
        counters.add("keys_not_traced")
    return None


def _start(client: Any, dialect: Dialect, body: dict[str, Any]) -> TracedCall | None:  # noqa: ANN401 - the SDK's client
    body.pop("modelId", None)
    server = _server(client.meta.endpoint_url, client.meta.region_name)
    traced_call = CALL_TRACER.start_call(dialect, body, server, parse_now=False)
    if traced_call is not None and traced_call.context is not None and _is_instrumented_by_otel():
        # Inside our span, it would make a second one. It respects only the key that suppresses all instrumentations.
        traced_call.context = suppress_instrumentation(traced_call.context)
    return traced_call


@functools.lru_cache(maxsize=256)
def _server(url: str, region: str | None) -> Server:
    server = server_of(url)
    attributes = {**server.attributes, semconv.CLOUD_REGION: region} if region else server.attributes
    return replace(server, provider=server.provider or _PROVIDER, attributes=attributes)


def _is_instrumented_by_otel() -> bool:
    """Return whether OpenTelemetry's instrumentation of botocore is active."""
    kind: Any = getattr(sys.modules.get(_OTEL), "BotocoreInstrumentor", None)
    return kind is not None and bool(getattr(kind(), "is_instrumented_by_opentelemetry", False))


def _decoded(body: object) -> Mapping[str, Any]:
    """Return the body of ``invoke_model()``; empty if it is no JSON object, or a file that only the SDK may read."""
    if isinstance(body, bytearray):
        body = bytes(body)
    decoded: Any = json_codec.decode(body) if isinstance(body, (bytes, str)) else None
    return decoded if json_codec.is_mapping(decoded) else {}


def _with_forwarded(
    client: Any,  # noqa: ANN401 - the SDK's client
    operation: str,
    traced_call: TracedCall | None,
    sent: dict[str, Any],
) -> dict[str, Any]:
    """Return the parameters with the trace keys in ``requestMetadata``, if they are forwarded to any server."""
    if traced_call is None or traced_call.keys is NO_KEYS or not traced_call.keys.enabled:
        return sent
    fields = traced_call.forwarded()
    if not fields or _METADATA not in client.meta.service_model.operation_model(operation).input_shape.members:
        return sent
    given: Any = sent.get(_METADATA) or {}
    if not isinstance(given, dict):
        return sent
    values = {**accessors.fields(fields.get("trace")), "session_id": fields.get("session_id")}
    texts = {name: str(value) for name, value in values.items() if isinstance(value, (str, int, float))}
    valid = {
        name: text
        for name, text in texts.items()
        if name not in given and _METADATA_TEXT.fullmatch(name) and _METADATA_TEXT.fullmatch(text)
    }
    room = max(_METADATA_LIMIT - len(given), 0)  # pyright: ignore[reportUnknownArgumentType]
    return {**sent, _METADATA: {**given, **dict(list(valid.items())[:room])}}


def _keep_exchange(method: Method) -> Method:
    def wrapper(client: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's HTTP response
        traced_call = CURRENT_CALL.get()
        if traced_call is None or type(client).__name__ != _CLASS:
            return method(client, *args, **kwargs)
        _keep_request(traced_call, args, kwargs)
        result = method(client, *args, **kwargs)
        _keep_response(traced_call, result)
        return result

    return hide_frame(wrapper)


def _keep_exchange_async(method: Method) -> Method:
    async def wrapper(client: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's HTTP response
        traced_call = CURRENT_CALL.get()
        if traced_call is None or type(client).__name__ != _CLASS:
            return await method(client, *args, **kwargs)
        _keep_request(traced_call, args, kwargs)
        result = await method(client, *args, **kwargs)
        _keep_response(traced_call, result)
        return result

    return hide_frame(wrapper)


@never_raise
def _keep_request(traced_call: TracedCall, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    request = args[1] if len(args) > 1 else kwargs.get("request_dict")
    traced_call.http_response = (accessors.fields(request).get("body"), None)


@never_raise
def _keep_response(traced_call: TracedCall, result: Any) -> None:  # noqa: ANN401 - the SDK's HTTP response and its data
    response, fields = result
    # ``content`` would read a stream, and is a coroutine in aiobotocore. Streams have no content yet.
    content = getattr(response, "_content", None)
    if isinstance(content, bytes) and not {"stream", "body"} & accessors.fields(fields).keys():
        traced_call.http_response = (traced_call.http_response[0], content)


def _take_exchange(traced_call: TracedCall, note: Mapping[str, Any] | None) -> bytes | None:
    """Set the request of the call as it was sent; return the bytes of a complete response."""
    exchange, traced_call.http_response = traced_call.http_response, None
    request, answer = exchange or (None, None)
    if isinstance(request, (bytes, bytearray)):
        traced_call.set_request_bytes(bytes(request), overridden=note)
    return answer


class _WithMetadata(Arrived):
    """The received part of a response, with what its headers say."""

    __slots__ = ("_metrics", "_request_id")

    def __init__(self, traced_call: TracedCall, fields: Mapping[str, Any]) -> None:
        super().__init__(traced_call)
        metadata = accessors.fields(fields.get("ResponseMetadata"))
        headers = accessors.fields(metadata.get("HTTPHeaders"))
        self._request_id: Final = accessors.text(metadata.get("RequestId"))
        found = {name: str(headers.get(_COUNT_HEADER + header)) for header, name in _COUNT_NAMES.items()}
        metrics: dict[str, Any] = {name: int(text) for name, text in found.items() if text.isdecimal()}
        metrics |= {name: fields[name] for name in _HEADER_FIELDS if isinstance(fields.get(name), str)}
        if retries := accessors.count(metadata.get("RetryAttempts")):
            metrics["retry_attempts"] = retries
        self._metrics: Final = metrics

    def _completed(self, response: Response) -> Response:
        response = with_metrics(response, self._metrics)
        return replace(response, id=response.id or self._request_id)


class _ArrivedJson(_WithMetadata):
    """The bytes of a complete response."""

    __slots__ = ("_read", "pieces")

    def __init__(self, traced_call: TracedCall, fields: Mapping[str, Any]) -> None:
        super().__init__(traced_call, fields)
        self._read: Final = functools.partial(self._dialect.read_response, content=traced_call.captures_content)
        self.is_stream = False
        self.pieces: Final[list[bytes]] = []

    @property
    def unparsed_bytes(self) -> int | None:
        """Return the size of what has been read."""
        return sum(map(len, self.pieces))

    def result(self) -> Response:
        """Return the response as far as it has arrived."""
        answer = json_codec.decode(b"".join(self.pieces))
        self.is_complete = answer is not None
        return self._completed(Response() if answer is None else self._read(answer))


class _ArrivedMessages(_WithMetadata):
    """The messages of an event stream."""

    __slots__ = ("messages",)

    def __init__(self, traced_call: TracedCall, fields: Mapping[str, Any]) -> None:
        super().__init__(traced_call, fields)
        self.messages: Final[list[Any]] = []

    @property
    def feed(self) -> Callable[[object], None]:
        """Return a function that keeps a message."""
        return self.messages.append

    @property
    def unparsed_bytes(self) -> int | None:
        """Return the size of the messages."""
        return sum(len(message.payload) for message in self.messages)

    def result(self) -> Response:
        """Return the response as far as it has arrived."""
        feed = super().feed
        for message in self.messages:
            event = _event_of(message)
            # The last events of the two kinds of streams.
            self.is_complete = "metadata" in event or METRICS in event or event.get("type") == "message_stop"
            feed(event)
        return self._completed(self.reader.result())


def _event_of(message: Any) -> Mapping[str, Any]:  # noqa: ANN401 - the SDK's message
    headers: Mapping[str, Any] = message.headers
    payload = accessors.fields(json_codec.decode(message.payload))
    if _is_failure(message):
        kind = headers.get(":exception-type") or headers.get(":error-code")
        text = {"message": headers[":error-message"]} if ":error-message" in headers else {}
        return {"error": {**text, **payload, "type": kind}}
    if headers.get(":event-type") != "chunk":
        return {str(headers.get(":event-type")): payload}
    try:
        return accessors.fields(json_codec.decode(base64.b64decode(payload.get("bytes") or b"")))
    except (TypeError, ValueError):
        return {}


def _is_failure(message: Any) -> bool:  # noqa: ANN401 - the SDK's message
    return message.headers.get(":message-type") in ("exception", "error")


class _EventRecorder(StreamRecorder):
    """A recorder of an event stream; a message with an exception ends the call, as the SDK raises it to the caller."""

    __slots__ = ()

    @property
    def feed(self) -> Callable[[object], None]:
        """Return a function that keeps the next message and does not raise."""
        keep = self.arrived.feed

        @never_raise
        def keep_and_end(message: object) -> None:
            keep(message)
            if _is_failure(message):
                self.end()

        return keep_and_end


def _record_events(traced_call: TracedCall, stream: Any, messages: Any, fields: Mapping[str, Any]) -> None:  # noqa: ANN401 - the SDK's stream
    recorder = _EventRecorder(traced_call, _ArrivedMessages(traced_call, fields))
    if hasattr(messages, "__anext__"):
        stream._event_generator = AsyncRecordingIterator(messages, recorder)  # noqa: SLF001 - no other place
    else:
        stream._event_generator = record_iterator(messages, recorder)  # noqa: SLF001 - no other place
    stream._raw_stream = BodyCloseObserver(stream._raw_stream, recorder)  # noqa: SLF001 - no other place


class _RawBody(BodyCloseObserver):
    """A proxy of the HTTP response behind a body: of urllib3, aiohttp or httpx. It keeps what is read."""

    def __init__(self, raw: Any, recorder: StreamRecorder, arrived: _ArrivedJson) -> None:  # noqa: ANN401 - an HTTP response
        super().__init__(raw, recorder)
        self._self_arrived = arrived

    def read(self, amt: int | None = None, *more: object) -> Any:  # noqa: ANN401 - bytes
        """Read from the response of urllib3."""
        with _Failing(self._self_recorder):
            data = self.__wrapped__.read(amt, *more)
        return self._self_kept(data, amt)

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - any buffer
        """Read from the response of urllib3."""
        with _Failing(self._self_recorder):
            size = self.__wrapped__.readinto(buffer)
        self._self_kept(bytes(buffer[:size]), len(buffer))
        return size

    def readline(self, *size: int) -> bytes:
        """Read a line of the response of urllib3."""
        with _Failing(self._self_recorder):
            line = self.__wrapped__.readline(*size)
        return self._self_kept(line, 1)

    def readlines(self, *size: int) -> list[bytes]:
        """Read the lines of the response of urllib3."""
        with _Failing(self._self_recorder):
            lines = self.__wrapped__.readlines(*size)
        self._self_kept(b"".join(lines), None)
        return lines

    def stream(self, *size: int) -> Iterator[bytes]:
        """Yield the pieces of the response of urllib3."""
        with _Failing(self._self_recorder):
            for piece in self.__wrapped__.stream(*size):
                yield self._self_kept(piece, 1)
        self._self_recorder.end()

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")

    def __next__(self) -> bytes:
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    @property
    def content(self) -> Any:  # noqa: ANN401 - aiohttp's reader
        """Return the reader of the response of aiohttp."""
        return _Reader(self.__wrapped__.content, self._self_recorder, self._self_kept)

    async def aiter_raw(self, *size: int) -> AsyncIterator[bytes]:
        """Yield the pieces of the response of httpx."""
        with _Failing(self._self_recorder):
            async for piece in self.__wrapped__.aiter_raw(*size):
                yield self._self_kept(piece, 1)
        self._self_recorder.end()

    def _self_kept(self, data: Any, amount: int | None) -> Any:  # noqa: ANN401 - bytes
        """Keep ``data``, of which ``amount`` bytes were wanted; all, if it is None or negative."""
        if isinstance(data, bytes):
            self._self_arrived.pieces.append(data)
        if amount is None or amount < 0 or (not data and amount):
            self._self_recorder.end()
        return data


class _Reader(Proxy):
    """A proxy of aiohttp's reader."""

    def __init__(self, reader: Any, recorder: StreamRecorder, keep: Callable[[Any, int], Any]) -> None:  # noqa: ANN401 - aiohttp's reader
        super().__init__(reader)
        self._self_recorder = recorder
        self._self_keep = keep

    async def read(self, n: int = -1) -> Any:  # noqa: ANN401 - bytes
        """Read up to ``n`` bytes."""
        with _Failing(self._self_recorder):
            data = await self.__wrapped__.read(n)
        return self._self_keep(data, n)


class _Failing:
    """A block that reads a body; an exception that leaves it ends the call."""

    __slots__ = ("_recorder",)

    def __init__(self, recorder: StreamRecorder) -> None:
        self._recorder = recorder

    def __enter__(self) -> None:
        """Enter the block."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """End the call if there is an error; it passes."""
        if isinstance(error, GeneratorExit):
            self._recorder.end("closed")
        elif error is not None:
            self._recorder.end(error=error)


_HOOKS: Final = wrap_call(_Call())
_SYNC, _ASYNC = _of_bedrock(_HOOKS.sync), _of_bedrock(_HOOKS.asynchronous)

PATCHES: Final = ClientPatches(
    dialects=(BEDROCK_CONVERSE.name, BEDROCK_INVOKE.name),
    instrumented=_INSTRUMENTED,
    patches=(
        Patch("botocore.client", "BaseClient._make_api_call", _SYNC),
        Patch("botocore.client", "BaseClient._make_request", _keep_exchange),
        Patch("aiobotocore.client", "AioBaseClient._make_api_call", _ASYNC),
        Patch("aiobotocore.client", "AioBaseClient._make_request", _keep_exchange_async),
    ),
    instance_patches=(
        InstancePatch("_make_api_call", _SYNC, _ASYNC),
        InstancePatch("_make_request", _keep_exchange, _keep_exchange_async),
    ),
)
