"""Patches of requests: completion calls made without an SDK; a stream is read through the response of urllib3."""

from __future__ import annotations

from typing import Any, Final

from spancast.instrumentation.http_body import record_whole_body
from spancast.instrumentation.patching import ClientPatches, InstancePatch, InstrumentedClients, Patch
from spancast.instrumentation.raw_http import is_of_interest, start_request, wrap_request
from spancast.instrumentation.urllib3 import record_reads
from spancast.instrumentation.wrap_call import Begun, CallDescription
from spancast.model.completion_urls import DIALECTS
from spancast.tracing.traced_call import TracedCall

_INSTRUMENTED: Final = InstrumentedClients()


class _Send(CallDescription):
    """The method ``send`` of a session, which gets the final request; it calls itself for redirects."""

    def begin(self, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Begun:  # noqa: ANN401 - a session
        """Start a call if the request is a completion call; its note is whether the caller reads the response."""
        request: Any = args[0] if args else kwargs.get("request")
        if not _INSTRUMENTED.covers(owner):
            return None, args, kwargs, None
        traced_call = start_request(request.url, request.body, request.headers)
        return traced_call, args, kwargs, kwargs.get("stream", owner.stream)

    def record(self, traced_call: TracedCall, result: Any, note: object) -> None:  # noqa: ANN401 - a response
        """Record a response that was read, or one that the caller reads."""
        if note and hasattr(result.raw, "read_chunked") and not result.raw.isclosed():
            record_reads(traced_call, result.raw, result.status_code)
            return
        try:
            # A response of another adapter than that of urllib3 is in memory.
            body = result.content or b""
        except RuntimeError:
            # A hook has read it.
            body = b""
        record_whole_body(traced_call, body, result.status_code)


def _concerns(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    request: Any = args[0] if args else kwargs["request"]
    return request.method == "POST" and is_of_interest(request.url.partition("?")[0])


_HOOK, _ = wrap_request(_Send(), _concerns)

PATCHES: Final = ClientPatches(
    dialects=DIALECTS,
    instrumented=_INSTRUMENTED,
    patches=(Patch("requests.sessions", "Session.send", _HOOK),),
    instance_patches=(InstancePatch("send", _HOOK),),
)
