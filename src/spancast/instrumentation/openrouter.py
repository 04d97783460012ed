"""Patches of openrouter: chat and responses, sync and async, streamed or not.

The SDK has the parameters ``trace``, ``session_id``, ``user`` and ``metadata`` itself. They stay in the request for
every host, unless ``forward_trace_keys="never"``. Its models drop unknown fields (``provider``,
``native_finish_reason``, ...), so responses are parsed from the HTTP response of ``BaseSDK.do_request``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from spancast.dialects.openai_chat.reader import OPENAI_CHAT
from spancast.dialects.openai_responses.reader import OPENAI_RESPONSES
from spancast.dialects.protocol import Dialect
from spancast.instrumentation.http_body import record_body
from spancast.instrumentation.patching import ClientPatches, InstancePatch, InstrumentedClients, Method, Patch
from spancast.instrumentation.stream_recorder import AsyncRecordingIterator, record_iterator
from spancast.instrumentation.wrap_call import Begun, CallDescription, wrap_call
from spancast.model import json_codec
from spancast.model.providers import OPENROUTER, UNKNOWN_SERVER, Server, server_of
from spancast.model.trace_keys import NO_KEYS
from spancast.tracing.call_tracer import CALL_TRACER
from spancast.tracing.traced_call import CURRENT_CALL, TracedCall

_NOT_BODY: Final = frozenset(
    {
        "retries", "server_url", "timeout_ms", "http_headers", "http_referer",
        "x_open_router_title", "x_open_router_categories", "x_open_router_metadata", "x_open_router_cache",
    }
)  # fmt: skip
_SESSION_HEADER: Final = "x-session-id"


class _Send(CallDescription):
    """``send`` and ``send_async`` of one resource; the request is their keyword arguments."""

    def __init__(self, dialect: Dialect, instrumented: InstrumentedClients) -> None:
        self._dialect = dialect
        self._instrumented = instrumented

    def begin(self, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Begun:  # noqa: ANN401 - the SDK's resource
        """Start a call; the SDK has parameters for trace keys, so the forwarded ones stay in its arguments."""
        if not self._instrumented.covers(getattr(owner, "parent_ref", None)):
            return None, args, kwargs, None
        body = {name: value for name, value in kwargs.items() if name not in _NOT_BODY}
        traced_call = CALL_TRACER.start_call(
            self._dialect, body, server=_server(owner, kwargs), session_header=_session_header(kwargs)
        )
        if traced_call is not None and traced_call.keys is not NO_KEYS:
            sent = {name: value for name, value in kwargs.items() if name not in ("trace", "session_id")}
            kwargs = {**sent, **((traced_call.forwarded() if traced_call.keys.enabled else None) or {})}
        return traced_call, args, kwargs, None

    def record(self, traced_call: TracedCall, result: Any, note: None) -> None:  # noqa: ANN401, ARG002 - the SDK's result
        """Record a stream or a response from its bytes, in place."""
        kind = type(result).__name__
        if kind == "EventStream":
            result.generator = record_iterator(result.generator, record_body(traced_call, result.response))
        elif kind == "EventStreamAsync":
            result.generator = AsyncRecordingIterator(result.generator, record_body(traced_call, result.response))
        else:
            response, traced_call.http_response = traced_call.http_response, None
            if response is None or not response.is_closed:
                traced_call.end_with(result)
            else:
                traced_call.end_with_bytes(response.content)


def _capture_response(method: Method) -> Method:
    def wrapper(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's HTTP response
        return _store(method(*args, **kwargs))

    return wrapper


def _capture_response_async(method: Method) -> Method:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's HTTP response
        return _store(await method(*args, **kwargs))

    return wrapper


def _store(response: Any) -> Any:  # noqa: ANN401 - the SDK's HTTP response
    traced_call = CURRENT_CALL.get()
    if traced_call is not None:
        traced_call.http_response = response
    return response


def _server(resource: object, kwargs: dict[str, Any]) -> Server:
    url = kwargs.get("server_url")
    if not isinstance(url, str):
        details = getattr(getattr(resource, "sdk_configuration", None), "get_server_details", None)
        url = details()[0] if details is not None else None
    known = server_of(url) if isinstance(url, str) else UNKNOWN_SERVER
    # A gateway in front of OpenRouter has another host name.
    return known if known.provider else replace(known, provider=OPENROUTER)


def _session_header(kwargs: dict[str, Any]) -> object:
    headers = kwargs.get("http_headers")
    if not json_codec.is_mapping(headers):
        return None
    named = {str(name).lower(): value for name, value in headers.items()}
    return named.get(_SESSION_HEADER)


_INSTRUMENTED: Final = InstrumentedClients()
_CHAT: Final = wrap_call(_Send(OPENAI_CHAT, _INSTRUMENTED))
_RESPONSES: Final = wrap_call(_Send(OPENAI_RESPONSES, _INSTRUMENTED))

PATCHES: Final = ClientPatches(
    dialects=(OPENAI_CHAT.name, OPENAI_RESPONSES.name),
    instrumented=_INSTRUMENTED,
    patches=(
        Patch("openrouter.chat", "Chat.send", _CHAT.sync),
        Patch("openrouter.chat", "Chat.send_async", _CHAT.asynchronous),
        Patch("openrouter.responses", "Responses.send", _RESPONSES.sync),
        Patch("openrouter.responses", "Responses.send_async", _RESPONSES.asynchronous),
        Patch("openrouter.basesdk", "BaseSDK.do_request", _capture_response),
        Patch("openrouter.basesdk", "BaseSDK.do_request_async", _capture_response_async),
    ),
    instance_patches=(
        InstancePatch("chat.send", _CHAT.sync),
        InstancePatch("chat.send_async", _CHAT.asynchronous),
        InstancePatch("chat.do_request", _capture_response),
        InstancePatch("chat.do_request_async", _capture_response_async),
        InstancePatch("responses.send", _RESPONSES.sync),
        InstancePatch("responses.send_async", _RESPONSES.asynchronous),
        InstancePatch("responses.do_request", _capture_response),
        InstancePatch("responses.do_request_async", _capture_response_async),
    ),
)
