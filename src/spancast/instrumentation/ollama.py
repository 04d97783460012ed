"""Patches of ollama: chat, generate and embeddings of its own API.

Every request passes ``_request`` with its path and its JSON, and with the class of its responses. That class gets a
stand-in, which sees the fields that the SDK's models drop. A stream sends its request with its first step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from spancast.dialects.ollama.chat import OLLAMA_CHAT, OLLAMA_GENERATE
from spancast.dialects.ollama.embed import OLLAMA_EMBED
from spancast.dialects.protocol import Dialect
from spancast.instrumentation.call_keys import KeyHooks, keys_of_call
from spancast.instrumentation.patching import ClientPatches, InstancePatch, InstrumentedClients, Method, Patch
from spancast.instrumentation.results import StepRecorder, starting_late
from spancast.instrumentation.stainless import session_header
from spancast.instrumentation.stream_recorder import Arrived
from spancast.instrumentation.wrap_call import Begun, CallDescription, wrap_call
from spancast.model import json_codec
from spancast.model.providers import server_of
from spancast.tracing.call_tracer import CALL_TRACER
from spancast.tracing.traced_call import TracedCall

_ENDPOINTS: Final[dict[str, Dialect]] = {
    "/api/chat": OLLAMA_CHAT,
    "/api/generate": OLLAMA_GENERATE,
    "/api/embed": OLLAMA_EMBED,
    "/api/embeddings": OLLAMA_EMBED,
}
_INSTRUMENTED: Final = InstrumentedClients()


class _Parts:
    """The stand-in for the class of responses: a function that keeps the JSON that the SDK makes an object of."""

    __slots__ = ("_kind", "keep", "last")

    def __init__(self, kind: Callable[..., Any]) -> None:
        self._kind = kind
        self.keep: Callable[[object], None] | None = None
        """Called with each part of a stream, once it is recorded."""
        self.last: Mapping[str, Any] | None = None

    def __call__(self, **part: Any) -> Any:  # noqa: ANN401 - the SDK's object
        """Return the SDK's object for ``part``."""
        if self.keep is not None:
            self.keep(part)
        else:
            self.last = part
        return self._kind(**part)


class _ArrivedParts(Arrived):
    """The received part of a stream, read from JSON instead of the SDK's chunks."""

    __slots__ = ()

    @property
    def feed(self) -> Callable[[object], None]:
        """Return a function that ignores the SDK's chunks."""
        return _ignore

    @property
    def keep(self) -> Callable[[object], None]:
        """Return a function that reads the next JSON object and does not raise."""
        return super().feed


def _ignore(_chunk: object) -> None:
    return


def _start(owner: Any, path: str, body: dict[str, Any], keys: Mapping[str, Any]) -> TracedCall | None:  # noqa: ANN401 - the SDK's client
    """Start a call; add the forwarded trace keys to its body, which the SDK has made for this call."""
    http = owner._client  # noqa: SLF001
    header = session_header((http.headers, None))
    server = server_of(str(http.base_url))
    traced_call = CALL_TRACER.start_call(_ENDPOINTS[path], {**body, **keys}, server, header)
    forwarded = traced_call.forwarded() if traced_call is not None and traced_call.keys.enabled else None
    body.update({name: value for name, value in (forwarded or {}).items() if value is not None})
    return traced_call


def _is_endpoint(owner: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    path = args[2] if len(args) > 2 else None  # noqa: PLR2004 - class, method, path
    return path in _ENDPOINTS and json_codec.is_mapping(kwargs.get("json")) and _INSTRUMENTED.covers(owner)


class _Request(CallDescription):
    """``_request`` without a stream."""

    def begin(self, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Begun:  # noqa: ANN401 - the SDK's client
        """Start a call; its note is the stand-in for the class of the response."""
        if not _is_endpoint(owner, args, kwargs):
            return None, args, kwargs, None
        parts = _Parts(args[0])
        traced_call = _start(owner, args[2], kwargs["json"], keys_of_call())
        return traced_call, (parts, *args[1:]), kwargs, parts

    def record(self, traced_call: TracedCall, result: Any, note: _Parts) -> None:  # noqa: ANN401, ARG002 - the SDK's result
        """Record the JSON of the response."""
        traced_call.end_with(note.last)

    def fail(self, traced_call: TracedCall, error: BaseException, note: _Parts) -> None:
        """Record the exception, and the response if the SDK has rejected it."""
        answer = note.last
        traced_call.fail(error, None if answer is None else json_codec.encode(answer).encode())


class _Stream:
    """A call of ``_request`` for a stream."""

    def __init__(self, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:  # noqa: ANN401 - the SDK's client
        self._owner, self._path, self._body, self._keys = owner, args[2], kwargs["json"], keys_of_call()
        self._parts = _Parts(args[0])
        self.args = (self._parts, *args[1:])

    def recorded(self, stream: Any) -> Any:  # noqa: ANN401 - the SDK's generator
        """Return a generator like ``stream`` that is recorded from its first step."""
        return starting_late(stream, self._begin)

    def _begin(self) -> StepRecorder | None:
        traced_call = _start(self._owner, self._path, self._body, self._keys)
        if traced_call is None or not traced_call.records_response:
            return None
        arrived = _ArrivedParts(traced_call)
        self._parts.keep = arrived.keep
        return StepRecorder(traced_call, arrived)


_HOOKS: Final = wrap_call(_Request())
_KEYS: Final = KeyHooks(_INSTRUMENTED)


def _sync(method: Method) -> Method:
    whole = _HOOKS.sync(method)

    def wrapper(owner: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's own result
        if not (kwargs.get("stream") and _is_endpoint(owner, args, kwargs)):
            return whole(owner, *args, **kwargs)
        stream = _Stream(owner, args, kwargs)
        return stream.recorded(method(owner, *stream.args, **kwargs))

    return wrapper


def _asynchronous(method: Method) -> Method:
    whole = _HOOKS.asynchronous(method)

    async def wrapper(owner: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's own result
        if not (kwargs.get("stream") and _is_endpoint(owner, args, kwargs)):
            return await whole(owner, *args, **kwargs)
        stream = _Stream(owner, args, kwargs)
        return stream.recorded(await method(owner, *stream.args, **kwargs))

    return wrapper


_METHODS: Final = ("chat", "generate", "embed", "embeddings")
_MODULE: Final = "ollama._client"

PATCHES: Final = ClientPatches(
    dialects=(OLLAMA_CHAT.name, OLLAMA_GENERATE.name, OLLAMA_EMBED.name),
    instrumented=_INSTRUMENTED,
    patches=(
        Patch(_MODULE, "Client._request", _sync),
        Patch(_MODULE, "AsyncClient._request", _asynchronous),
        *(Patch(_MODULE, f"Client.{name}", _KEYS.sync) for name in _METHODS),
        *(Patch(_MODULE, f"AsyncClient.{name}", _KEYS.asynchronous) for name in _METHODS),
    ),
    instance_patches=(
        InstancePatch("_request", _sync, _asynchronous),
        *(InstancePatch(name, _KEYS.sync, _KEYS.asynchronous) for name in _METHODS),
    ),
)
