"""Patches of xai-sdk, which talks gRPC: the methods of its chats.

Requests and responses are kept as they are on the wire and decoded after the call. The SDK makes spans of its own,
and holds them over the steps of a stream; while a call of ours runs, it makes none.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, Final

from opentelemetry.trace import INVALID_SPAN

from spancast.diagnostics import never_raise
from spancast.dialects.xai.chat import XAI_CHAT
from spancast.instrumentation.call_keys import NAMES
from spancast.instrumentation.patching import (
    ClientPatches,
    InstancePatch,
    InstrumentedClients,
    Method,
    Patch,
    hide_frame,
    patch_instance,
)
from spancast.instrumentation.results import StepRecorder, starting_late
from spancast.instrumentation.stream_recorder import Arrived
from spancast.instrumentation.wrap_call import Begun, CallDescription, wrap_call
from spancast.model import json_codec
from spancast.model.call import Response
from spancast.model.identity_map import IdentityMap
from spancast.model.providers import UNKNOWN_SERVER, Server, provided_by
from spancast.tracing.call_tracer import CALL_TRACER
from spancast.tracing.traced_call import CURRENT_CALL, TracedCall

_INSTRUMENTED: Final = InstrumentedClients()
_MODULES: Final = ("xai_sdk.sync.chat", "xai_sdk.aio.chat")
_WHOLE: Final = ("sample", "sample_batch", "parse", "defer", "defer_batch")
_STREAMED: Final = ("stream", "stream_batch")
_keys_of_chat: Final[IdentityMap[object, Mapping[str, Any]]] = IdentityMap()
"""The trace keys that ``create`` was given for a chat."""
_servers: Final[IdentityMap[object, Server]] = IdentityMap()
"""The server of each stub."""


class _QuietTracer:
    """The SDK's tracer, without spans while a call of ours runs."""

    def __init__(self, tracer: Any) -> None:  # noqa: ANN401 - any tracer
        self._tracer = tracer

    def start_as_current_span(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - a context manager
        """Return the span of the SDK's tracer, or one that is not recorded and not current."""
        if CURRENT_CALL.get() is not None:
            return nullcontext(INVALID_SPAN)
        return self._tracer.start_as_current_span(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the tracer has
        return getattr(self._tracer, name)


def _silence_sdk() -> None:
    """Put our tracer before the SDK's. It stays there: without a call of ours it has no effect."""
    for name in _MODULES:
        module = sys.modules.get(name)
        tracer = getattr(module, "tracer", None)
        if tracer is not None and not isinstance(tracer, _QuietTracer):
            module.tracer = _QuietTracer(tracer)  # type: ignore[union-attr]


def _start(chat: Any, given: Mapping[str, Any]) -> TracedCall | None:  # noqa: ANN401 - the SDK's chat
    """Start a call of ``chat``; ``given`` are the trace keys of the call itself."""
    _silence_sdk()
    proto = chat.proto
    keys = {**(_keys_of_chat.get(chat) or {}), **given}
    body = {"model": proto.model, **({"user": proto.user} if proto.user else {}), **keys}
    server = _server_of(chat._stub) or UNKNOWN_SERVER  # noqa: SLF001
    return CALL_TRACER.start_call(XAI_CHAT, body, server, parse_now=False)


def _wire(proto: Any) -> dict[str, str]:  # noqa: ANN401 - a protocol buffer
    return {"proto": proto.SerializeToString().decode("latin-1")}


@never_raise
def _set_request(traced_call: TracedCall, chat: Any, count: object) -> None:  # noqa: ANN401 - the SDK's chat
    request = _wire(chat._make_request(count if isinstance(count, int) else 1))  # noqa: SLF001
    traced_call.set_request_bytes(json_codec.encode(request).encode())


class _Method(CallDescription):
    """A method of a chat that returns one response, or several of one request."""

    def begin(self, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Begun:  # noqa: ANN401 - the SDK's chat
        """Start a call; its note is the chat and the number of responses."""
        if not _INSTRUMENTED.covers(owner):
            return None, args, kwargs, None
        given = {name: kwargs[name] for name in NAMES & kwargs.keys()}
        kwargs = {name: value for name, value in kwargs.items() if name not in NAMES}
        return _start(owner, given), args, kwargs, (owner, args[0] if args else kwargs.get("n"))

    def record(self, traced_call: TracedCall, result: Any, note: Any) -> None:  # noqa: ANN401 - the SDK's result
        """Record a response, or the first of several, which share their protocol buffer."""
        # The request is read now: ``parse`` has put the schema into it.
        _set_request(traced_call, *note)
        response: Any = result[0] if json_codec.is_list(result) else result
        traced_call.end_with_bytes(json_codec.encode(_wire(response.proto)).encode())

    def fail(self, traced_call: TracedCall, error: BaseException, note: Any) -> None:  # noqa: ANN401 - begin's own
        """Record the exception and the request."""
        _set_request(traced_call, *note)
        super().fail(traced_call, error, note)


class _ArrivedChunks(Arrived):
    """The chunks of a stream, as on the wire; decoded after its end."""

    __slots__ = ("_chunks",)

    def __init__(self, traced_call: TracedCall) -> None:
        super().__init__(traced_call)
        self._chunks: list[bytes] = []

    @property
    def feed(self) -> Callable[[object], None]:
        """Return a function that keeps a chunk."""
        return self._keep

    @never_raise
    def _keep(self, chunk: Any) -> None:  # noqa: ANN401 - the accumulated response, and a chunk or a list of them
        part: Any = chunk[1]
        first: Any = part[0] if json_codec.is_list(part) else part
        self._chunks.append(first.proto.SerializeToString())

    @property
    def unparsed_bytes(self) -> int | None:
        """Return the size of the chunks."""
        return sum(map(len, self._chunks))

    def result(self) -> Response:
        """Return the response as far as it has arrived."""
        feed = super().feed
        for chunk in self._chunks:
            feed({"proto": chunk.decode("latin-1")})
        self._chunks = []
        return self.reader.result()


def _stream(method: Method) -> Method:
    """Wrap a method of a chat that returns a generator, which sends the request with its first step."""

    def wrapper(owner: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's own generator
        if not _INSTRUMENTED.covers(owner):
            return method(owner, *args, **kwargs)
        given = {name: kwargs.pop(name) for name in NAMES & kwargs.keys()}
        count = args[0] if args else kwargs.get("n")

        def begin() -> StepRecorder | None:
            traced_call = _start(owner, given)
            if traced_call is None or not traced_call.records_response:
                return None
            _set_request(traced_call, owner, count)
            return StepRecorder(traced_call, _ArrivedChunks(traced_call))

        return starting_late(method(owner, *args, **kwargs), begin)

    return hide_frame(wrapper)


def _create(method: Method) -> Method:
    """Wrap ``client.chat.create``: the trace keys given to it are those of every call of the chat."""

    def wrapper(owner: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's own chat
        if not _INSTRUMENTED.covers_part("chat", owner):
            return method(owner, *args, **kwargs)
        given = {name: kwargs.pop(name) for name in NAMES & kwargs.keys()}
        chat = method(owner, *args, **kwargs)
        _prepare(chat, given)
        return chat

    return hide_frame(wrapper)


@never_raise
def _prepare(chat: object, given: Mapping[str, Any]) -> None:
    if given:
        _keys_of_chat.set(chat, given)
    if not _INSTRUMENTED.all:
        _INSTRUMENTED.add(chat)
        for name in (*_WHOLE, *_STREAMED):
            patch_instance(chat, InstancePatch(name, *_hooks_of(name)))


@never_raise
def _server_of(stub: Any) -> Server:  # noqa: ANN401 - the SDK's stub
    """Return the server of a stub, by the target of its channel, which gRPC keeps to itself."""
    known = _servers.get(stub)
    if known is None:
        target = _target_of(getattr(stub, "GetCompletion", None))
        known = provided_by("x_ai", f"https://{target}" if target else "")
        _servers.set(stub, known)
    return known


def _target_of(method: Any) -> str | None:  # noqa: ANN401 - a method of a stub
    thunk = getattr(method, "_thunk", None)
    channel: Any = method
    if thunk is not None and thunk.__closure__ is not None:
        # A method of an intercepted channel holds it in a closure.
        cells = dict(zip(thunk.__code__.co_freevars, thunk.__closure__, strict=False))
        channel = cells["self"].cell_contents if "self" in cells else None
    while hasattr(channel, "_channel"):
        channel = channel._channel  # noqa: SLF001
    target = getattr(channel, "target", None)
    found = target() if callable(target) else target
    text = found.decode() if isinstance(found, bytes) else found
    return text.rpartition("/")[2] if isinstance(text, str) else None


_HOOKS: Final = wrap_call(_Method())


def _hooks_of(name: str) -> tuple[Any, Any]:
    return (_stream, _stream) if name in _STREAMED else (_HOOKS.sync, _HOOKS.asynchronous)


PATCHES: Final = ClientPatches(
    dialects=(XAI_CHAT.name,),
    instrumented=_INSTRUMENTED,
    patches=(
        *(Patch(_MODULES[0], f"Chat.{name}", _hooks_of(name)[0]) for name in (*_WHOLE, *_STREAMED)),
        *(Patch(_MODULES[1], f"Chat.{name}", _hooks_of(name)[1]) for name in (*_WHOLE, *_STREAMED)),
        Patch("xai_sdk.chat", "BaseClient.create", _create),
    ),
    instance_patches=(InstancePatch("chat.create", _create),),
)
