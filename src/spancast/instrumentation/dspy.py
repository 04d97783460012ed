"""Patches of dspy: the HTTP engine lm15 that it contains since 3.4, which is also a package of its own.

dspy calls most providers with it, and the others through litellm. Every request passes ``stream`` of a transport, with
its final URL and body. The response is read from its private ``_chunks`` and ``_release``, which nothing public shows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from spancast.instrumentation.http_body import ArrivedRawBody, BodyStreamRecorder, kept, kept_async
from spancast.instrumentation.patching import ClientPatches, InstancePatch, InstrumentedClients, Patch
from spancast.instrumentation.raw_http import decoder_of, is_of_interest, start_request
from spancast.instrumentation.wrap_call import Begun, CallDescription, wrap_call
from spancast.model.completion_urls import DIALECTS
from spancast.tracing.traced_call import TracedCall

_INSTRUMENTED: Final = InstrumentedClients()
_PACKAGES: Final = ("dspy._vendor.lm15", "lm15")


class _Stream(CallDescription):
    """The method of a transport that sends a request."""

    def begin(self, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Begun:  # noqa: ANN401 - a transport
        """Start a call if the request is a completion call."""
        request: Any = args[0] if args else kwargs.get("request")
        if not _INSTRUMENTED.covers(owner) or not is_of_interest(request.url.partition("?")[0]):
            return None, args, kwargs, None
        return start_request(request.url, request.body, dict(request.headers)), args, kwargs, None

    def record(self, traced_call: TracedCall, result: Any, note: None) -> None:  # noqa: ANN401, ARG002 - a response
        """Record the response as dspy reads it."""
        decode = decoder_of(result.header("content-encoding"))
        recorder = BodyStreamRecorder(traced_call, ArrivedRawBody(traced_call, decode, result.status))
        is_async = hasattr(result._chunks, "__aiter__")  # noqa: SLF001 - see above
        keep, end = (kept_async, _ending_async) if is_async else (kept, _ending)

        def over(error: BaseException | None) -> None:
            recorder.end(error=error)

        result._chunks = keep(result._chunks, recorder, over)  # noqa: SLF001
        result._release = end(result._release, recorder)  # noqa: SLF001


def _ending(release: Callable[[bool], None], recorder: BodyStreamRecorder) -> Callable[[bool], None]:
    def released(body_consumed: bool) -> None:
        try:
            release(body_consumed)
        finally:
            recorder.closed()

    return released


def _ending_async(
    release: Callable[[bool], Awaitable[None]], recorder: BodyStreamRecorder
) -> Callable[[bool], Awaitable[None]]:
    async def released(body_consumed: bool) -> None:
        try:
            await release(body_consumed)
        finally:
            recorder.closed()

    return released


_HOOKS: Final = wrap_call(_Stream())

PATCHES: Final = ClientPatches(
    dialects=DIALECTS,
    instrumented=_INSTRUMENTED,
    patches=tuple(
        patch
        for package in _PACKAGES
        for patch in (
            Patch(f"{package}.transports._sync", "StdlibTransport.stream", _HOOKS.sync),
            Patch(f"{package}.transports._async", "StdlibAsyncTransport._do_stream", _HOOKS.asynchronous),
        )
    ),
    instance_patches=(InstancePatch("stream", _HOOKS.sync), InstancePatch("_do_stream", _HOOKS.asynchronous)),
)
