"""Patches of httpx and httpx2: completion calls made without an SDK, whole and streamed.

Every request passes ``Client.send`` or ``AsyncClient.send``, with its redirects and its authentication.
"""

from __future__ import annotations

from typing import Any, Final

from spancast.instrumentation.http_body import record_raw_body, record_whole_body
from spancast.instrumentation.patching import ClientPatches, InstancePatch, InstrumentedClients, Patch
from spancast.instrumentation.raw_http import is_of_interest, start_request, wrap_request
from spancast.instrumentation.wrap_call import Begun, CallDescription
from spancast.model.completion_urls import DIALECTS
from spancast.tracing.traced_call import TracedCall


class _Send(CallDescription):
    """The method ``send``, which gets the final request."""

    def __init__(self, instrumented: InstrumentedClients) -> None:
        self._instrumented = instrumented

    def begin(self, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Begun:  # noqa: ANN401 - a client
        """Start a call if the request is a completion call."""
        request: Any = args[0] if args else kwargs.get("request")
        if not self._instrumented.covers(owner):
            return None, args, kwargs, None
        try:
            content = request.content
        except RuntimeError:
            # The body is a stream that is not read yet.
            content = request.stream
        return start_request(str(request.url), content, request.headers), args, kwargs, None

    def record(self, traced_call: TracedCall, result: Any, note: None) -> None:  # noqa: ANN401, ARG002 - a response
        """Record a response that was read, or one that the caller reads."""
        if result.is_closed:
            record_whole_body(traced_call, result.content, result.status_code)
        else:
            record_raw_body(traced_call, result, result.status_code)


def _concerns(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    request: Any = args[0] if args else kwargs["request"]
    return request.method == "POST" and is_of_interest(request.url.path)


def _patches(package: str) -> ClientPatches:
    instrumented = InstrumentedClients()
    sync, asynchronous = wrap_request(_Send(instrumented), _concerns)
    return ClientPatches(
        dialects=DIALECTS,
        instrumented=instrumented,
        patches=(Patch(package, "Client.send", sync), Patch(package, "AsyncClient.send", asynchronous)),
        instance_patches=(InstancePatch("send", sync, asynchronous),),
    )


PATCHES: Final = _patches("httpx")
PATCHES_OF_HTTPX2: Final = _patches("httpx2")
