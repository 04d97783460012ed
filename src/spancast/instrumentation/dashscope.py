"""Patches of dashscope: text generation and multimodal conversations.

Its methods are class methods, so there is no client to instrument: ``instrument("dashscope")``. Every request is an
object with a URL and data, which is called. It returns errors instead of raising them. The methods take any keyword
into the parameters, where the trace keys are found.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from spancast.dialects import accessors
from spancast.dialects.dashscope.chat import DASHSCOPE_CHAT, INCREMENTAL
from spancast.instrumentation.call_keys import NAMES
from spancast.instrumentation.patching import ClientPatches, InstrumentedClients, Method, Patch
from spancast.instrumentation.results import StepRecorder, starting_late
from spancast.instrumentation.stainless import session_header
from spancast.instrumentation.stream_recorder import Arrived
from spancast.instrumentation.wrap_call import Begun, CallDescription, wrap_call
from spancast.model.providers import provided_by
from spancast.tracing.call_tracer import CALL_TRACER
from spancast.tracing.traced_call import TracedCall

_PATHS: Final = ("/aigc/text-generation/generation", "/aigc/multimodal-generation/generation")
_INSTRUMENTED: Final = InstrumentedClients()


def _is_recorded(request: Any) -> bool:  # noqa: ANN401 - the SDK's request
    return _INSTRUMENTED.all and str(request.url).partition("?")[0].endswith(_PATHS)


def _start(request: Any) -> TracedCall | None:  # noqa: ANN401 - the SDK's request
    """Start a call; remove the trace keys from its parameters, except the forwarded ones."""
    data = request.data
    parameters: dict[str, Any] = data.parameters
    keys = {name: parameters.pop(name) for name in NAMES & parameters.keys()}
    body = {"model": data.model, "input": data._input, "parameters": dict(parameters), **keys}  # noqa: SLF001
    if request.stream:
        body["stream"] = True
    header = session_header((request.headers, None))
    traced_call = CALL_TRACER.start_call(DASHSCOPE_CHAT, body, provided_by("alibaba_cloud", request.url), header)
    forwarded = traced_call.forwarded() if traced_call is not None and traced_call.keys.enabled else None
    parameters.update({name: value for name, value in (forwarded or {}).items() if value is not None})
    return traced_call


class _Request(CallDescription):
    """A request without a stream."""

    def begin(self, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Begun:  # noqa: ANN401 - the SDK's request
        """Start a call."""
        return (_start(owner) if _is_recorded(owner) else None), args, kwargs, None

    def record(self, traced_call: TracedCall, result: Any, note: None) -> None:  # noqa: ANN401, ARG002 - the SDK's response
        """Record the response, which may be an error."""
        traced_call.end_with(result)


class _ArrivedChunks(Arrived):
    """The received part of a stream that was asked for in increments, or not."""

    __slots__ = ("_is_incremental",)

    def __init__(self, traced_call: TracedCall, *, is_incremental: bool) -> None:
        super().__init__(traced_call)
        self._is_incremental = is_incremental

    @property
    def feed(self) -> Callable[[object], None]:
        """Return a function that reads the next chunk and does not raise."""
        feed = super().feed
        return lambda chunk: feed({**accessors.fields(chunk), INCREMENTAL: self._is_incremental})


def _recorded(request: Any, stream: Any) -> Any:  # noqa: ANN401 - the SDK's request and generator
    """Return a generator like ``stream`` that is recorded from its first step, which sends the request."""

    def begin() -> StepRecorder | None:
        # A stream that merges increments for the caller has set the parameter itself.
        is_incremental = bool(request.data.parameters.get(INCREMENTAL))
        traced_call = _start(request)
        if traced_call is None or not traced_call.records_response:
            return None
        return StepRecorder(traced_call, _ArrivedChunks(traced_call, is_incremental=is_incremental))

    return starting_late(stream, begin)


_HOOKS: Final = wrap_call(_Request())


def _call(method: Method) -> Method:
    whole = _HOOKS.sync(method)

    def wrapper(owner: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's own result
        if owner.stream and _is_recorded(owner):
            return _recorded(owner, method(owner, *args, **kwargs))
        return whole(owner, *args, **kwargs)

    return wrapper


def _aio_call(method: Method) -> Method:
    whole = _HOOKS.asynchronous(method)

    async def wrapper(owner: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's own result
        if owner.stream and _is_recorded(owner):
            return _recorded(owner, await method(owner, *args, **kwargs))
        return await whole(owner, *args, **kwargs)

    return wrapper


PATCHES: Final = ClientPatches(
    dialects=(DASHSCOPE_CHAT.name,),
    instrumented=_INSTRUMENTED,
    patches=(
        Patch("dashscope.api_entities.http_request", "HttpRequest.call", _call),
        Patch("dashscope.api_entities.http_request", "HttpRequest.aio_call", _aio_call),
    ),
    instance_patches=(),
)
