"""Patches of ai21: chat completions of its clients of the own platform, Azure, Vertex AI and Launchpad.

Every request passes ``execute_http_request`` of the client with its path and its body, and its exceptions are raised
there. The method ``create`` takes any keyword into the body, where the trace keys are found.

An asynchronous stream that rejects a chunk is not closed by its error, so its iterator is recorded, too.
"""

from __future__ import annotations

from typing import Any, Final

from spancast.diagnostics import never_raise
from spancast.dialects.openai_chat.reader import OPENAI_CHAT
from spancast.instrumentation.call_keys import NAMES
from spancast.instrumentation.http_body import BodyRecorder, record_raw_body
from spancast.instrumentation.patching import ClientPatches, InstancePatch, InstrumentedClients, Method, Patch
from spancast.instrumentation.stainless import session_header
from spancast.instrumentation.stream_recorder import AsyncRecordingIterator
from spancast.instrumentation.wrap_call import Begun, CallDescription, wrap_call
from spancast.model import json_codec
from spancast.model.providers import provided_by
from spancast.tracing.call_tracer import CALL_TRACER
from spancast.tracing.traced_call import TracedCall

_PATH: Final = "/chat/completions"
_RESOURCE: Final = "ai21.clients.studio.resources.studio_resource"
_INSTRUMENTED: Final = InstrumentedClients()


class _Request(CallDescription):
    """``execute_http_request``, which returns the HTTP response."""

    def begin(self, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Begun:  # noqa: ANN401 - the SDK's client
        """Start a call; remove the trace keys from its body, except the forwarded ones."""
        body = kwargs.get("body")
        if not (str(kwargs.get("path")).endswith(_PATH) and _INSTRUMENTED.covers(owner)):
            return None, args, kwargs, None
        if not json_codec.is_mapping(body):
            return None, args, kwargs, None
        header = session_header((kwargs.get("extra_headers"), owner._headers))  # noqa: SLF001
        server = provided_by("ai21", owner._base_url)  # noqa: SLF001
        traced_call = CALL_TRACER.start_call(OPENAI_CHAT, body, server, header, parse_now=False)
        forwarded = traced_call.forwarded() if traced_call is not None and traced_call.keys.enabled else None
        if forwarded or not NAMES.isdisjoint(body):
            kept = {name: value for name, value in body.items() if name not in NAMES}
            sent = {name: value for name, value in (forwarded or {}).items() if value is not None}
            kwargs = {**kwargs, "body": {**kept, **sent}}
        return traced_call, args, kwargs, None

    def record(self, traced_call: TracedCall, result: Any, note: None) -> None:  # noqa: ANN401, ARG002 - an HTTP response
        """Record a stream or a response from its bytes, in place."""
        traced_call.set_request_bytes(result.request.content)
        if result.is_closed:
            traced_call.end_with_bytes(result.content)
        else:
            record_raw_body(traced_call, result)


def _watch_stream(method: Method) -> Method:
    """Wrap the coroutine function above ``execute_http_request``, which makes the stream of its response."""

    async def wrapper(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's own result
        result = await method(*args, **kwargs)
        _watch(result)
        return result

    return wrapper


@never_raise
def _watch(stream: Any) -> None:  # noqa: ANN401 - the SDK's stream or response
    body = getattr(getattr(stream, "response", None), "stream", None)
    if isinstance(body, BodyRecorder):
        stream._iterator = AsyncRecordingIterator(stream._iterator, body.recorder)  # noqa: SLF001


_HOOKS: Final = wrap_call(_Request())

PATCHES: Final = ClientPatches(
    dialects=(OPENAI_CHAT.name,),
    instrumented=_INSTRUMENTED,
    patches=(
        Patch("ai21.http_client.http_client", "AI21HTTPClient.execute_http_request", _HOOKS.sync),
        Patch("ai21.http_client.async_http_client", "AsyncAI21HTTPClient.execute_http_request", _HOOKS.asynchronous),
        Patch(_RESOURCE, "AsyncStudioResource._post", _watch_stream),
    ),
    instance_patches=(InstancePatch("execute_http_request", _HOOKS.sync, _HOOKS.asynchronous),),
    resource_bases=(f"{_RESOURCE}:AsyncStudioResource",),
)
