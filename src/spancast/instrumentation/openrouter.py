"""openrouter: chat and responses, sync and async, streamed.

The SDK takes ``trace``, ``session_id``, ``user`` and ``metadata`` itself, so they stay in
the request whatever the host (unless ``forward="never"``). Its models drop fields they do
not know (``provider``, ``native_finish_reason``, ...), so answers are read from the HTTP
response that ``BaseSDK.do_request`` returns.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from spancast.diagnostics import never_raise
from spancast.dialects.openai_chat.reader import OPENAI_CHAT
from spancast.dialects.openai_responses.reader import OPENAI_RESPONSES
from spancast.dialects.protocol import Dialect
from spancast.instrumentation.patching import ClientPatches, InstancePatch, InstrumentedClients, Method, Patch
from spancast.instrumentation.stream_recorder import AsyncRecordingIterator, record_iterator, watch_wire, whole_body
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


class _Send:
    """Around ``send`` and ``send_async`` of one resource."""

    def __init__(self, dialect: Dialect, instrumented: InstrumentedClients) -> None:
        self._dialect = dialect
        self._instrumented = instrumented

    def send(self, method: Method) -> Method:
        """Record synchronous calls."""

        def send(resource: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's own result
            traced_call, kwargs = self._begin(resource, kwargs)
            if traced_call is None or not traced_call.records_response:
                return method(resource, *args, **kwargs)
            try:
                with traced_call.inside(ends=False):
                    result = method(resource, *args, **kwargs)
            except BaseException as error:
                _fail(traced_call, error)
                raise
            _hear(traced_call, result)
            return result

        return send

    def send_async(self, method: Method) -> Method:
        """Record asynchronous calls."""

        async def send(resource: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's own result
            traced_call, kwargs = self._begin(resource, kwargs)
            if traced_call is None or not traced_call.records_response:
                return await method(resource, *args, **kwargs)
            try:
                with traced_call.inside(ends=False):
                    result = await method(resource, *args, **kwargs)
            except BaseException as error:
                _fail(traced_call, error)
                raise
            _hear(traced_call, result)
            return result

        return send

    def _begin(self, resource: object, kwargs: dict[str, Any]) -> tuple[TracedCall | None, dict[str, Any]]:
        if not self._instrumented.covers(getattr(resource, "parent_ref", None)):
            return None, kwargs
        body = {name: value for name, value in kwargs.items() if name not in _NOT_BODY}
        traced_call = CALL_TRACER.begin(
            self._dialect, body, server=_server(resource, kwargs), session_header=_session_header(kwargs)
        )
        if traced_call is None or traced_call.keys is NO_KEYS:
            return traced_call, kwargs
        sent = {name: value for name, value in kwargs.items() if name not in ("trace", "session_id")}
        forwarded = traced_call.forwarded() if traced_call.keys.enabled else None
        return traced_call, {**sent, **(forwarded or {})}


def _keep_response(method: Method) -> Method:
    def keeping(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's HTTP response
        return _kept(method(*args, **kwargs))

    return keeping


def _keep_response_async(method: Method) -> Method:
    async def keeping(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's HTTP response
        return _kept(await method(*args, **kwargs))

    return keeping


def _kept(response: Any) -> Any:  # noqa: ANN401 - as above
    traced_call = CURRENT_CALL.get()
    if traced_call is not None:
        traced_call.http_response = response
    return response


@never_raise
def _fail(traced_call: TracedCall, error: BaseException) -> None:
    # The provider has answered, and the caller pays for what the SDK then refused.
    response, traced_call.http_response = traced_call.http_response, None
    traced_call.fail(error, whole_body(response))


@never_raise
def _hear(traced_call: TracedCall, result: Any) -> None:  # noqa: ANN401 - the SDK's result
    kind = type(result).__name__
    if kind == "EventStream":
        result.generator = record_iterator(result.generator, watch_wire(traced_call, result.response))
    elif kind == "EventStreamAsync":
        result.generator = AsyncRecordingIterator(result.generator, watch_wire(traced_call, result.response))
    else:
        response, traced_call.http_response = traced_call.http_response, None
        if response is None or not response.is_closed:
            traced_call.end_with(result)
        else:
            traced_call.end_with_bytes(response.content)


def _server(resource: object, kwargs: dict[str, Any]) -> Server:
    url = kwargs.get("server_url")
    if not isinstance(url, str):
        details = getattr(getattr(resource, "sdk_configuration", None), "get_server_details", None)
        url = details()[0] if details is not None else None
    known = server_of(url) if isinstance(url, str) else UNKNOWN_SERVER
    # A gateway in front of OpenRouter has a host of its own.
    return known if known.provider else replace(known, provider=OPENROUTER)


def _session_header(kwargs: dict[str, Any]) -> object:
    headers = kwargs.get("http_headers")
    if not json_codec.is_mapping(headers):
        return None
    named = {str(name).lower(): value for name, value in headers.items()}
    return named.get(_SESSION_HEADER)


_INSTRUMENTED: Final = InstrumentedClients()
_CHAT: Final = _Send(OPENAI_CHAT, _INSTRUMENTED)
_RESPONSES: Final = _Send(OPENAI_RESPONSES, _INSTRUMENTED)

PATCHES: Final = ClientPatches(
    dialects=(OPENAI_CHAT.name, OPENAI_RESPONSES.name),
    instrumented=_INSTRUMENTED,
    patches=(
        Patch("openrouter.chat", "Chat.send", _CHAT.send),
        Patch("openrouter.chat", "Chat.send_async", _CHAT.send_async),
        Patch("openrouter.responses", "Responses.send", _RESPONSES.send),
        Patch("openrouter.responses", "Responses.send_async", _RESPONSES.send_async),
        Patch("openrouter.basesdk", "BaseSDK.do_request", _keep_response),
        Patch("openrouter.basesdk", "BaseSDK.do_request_async", _keep_response_async),
    ),
    instance_patches=(
        InstancePatch("chat.send", _CHAT.send),
        InstancePatch("chat.send_async", _CHAT.send_async),
        InstancePatch("chat.do_request", _keep_response),
        InstancePatch("chat.do_request_async", _keep_response_async),
        InstancePatch("responses.send", _RESPONSES.send),
        InstancePatch("responses.send_async", _RESPONSES.send_async),
        InstancePatch("responses.do_request", _keep_response),
        InstancePatch("responses.do_request_async", _keep_response_async),
    ),
)
