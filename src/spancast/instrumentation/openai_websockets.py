"""Responses over a web socket: ``realtime.connect`` and ``responses.connect`` of openai, one span per response.

The connection of the package websockets is replaced by a proxy, which sees each message as it is on the wire. A
response begins with the client's event ``response.create``, or with the server's ``response.created`` if the server
begins it, and ends with its last event.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, urlsplit

from spancast.diagnostics import counters, never_raise
from spancast.dialects import accessors
from spancast.dialects.openai_responses.reader import OPENAI_RESPONSES
from spancast.dialects.openai_responses.realtime import OPENAI_REALTIME
from spancast.dialects.protocol import Dialect
from spancast.instrumentation.call_keys import NAMES
from spancast.instrumentation.http_body import Proxy
from spancast.instrumentation.patching import Hook, InstancePatch, InstrumentedClients, Method, Patch, hide_frame
from spancast.instrumentation.stream_recorder import StreamRecorder
from spancast.model import json_codec
from spancast.model.providers import UNKNOWN_SERVER, Server, server_of
from spancast.tracing.call_tracer import CALL_TRACER

_SENT: Final = (b'"response.create"', b'"session.update"', b'"conversation.item.create"')
_AUDIO_DELTAS: Final = (b'"response.output_audio.delta"', b'"response.audio.delta"')
_HEAD_BYTES: Final = 512
"""An event has its type near its start; only what follows may be long."""
_MAX_ITEMS: Final = 256
_CONNECTIONS: Final = (
    ("realtime", "openai.resources.realtime.realtime", "Realtime", OPENAI_REALTIME),
    ("responses", "openai.resources.responses.responses", "Responses", OPENAI_RESPONSES),
)


def websocket_patches(instrumented: InstrumentedClients) -> tuple[tuple[Patch, ...], tuple[InstancePatch, ...]]:
    """Return the patches of the methods that open a connection, of classes and of a client."""
    patches: list[Patch] = []
    on_instance: list[InstancePatch] = []
    for path, module, owner, dialect in _CONNECTIONS:
        hook = _connect_hook(dialect, instrumented)
        patches += [Patch(module, f"{name}.connect", hook) for name in (owner, f"Async{owner}")]
        on_instance.append(InstancePatch(f"{path}.connect", hook))
    return tuple(patches), tuple(on_instance)


def _connect_hook(dialect: Dialect, instrumented: InstrumentedClients) -> Hook:
    def hook(method: Method) -> Method:
        def connect(resource: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the SDK's manager
            client = getattr(resource, "_client", None)
            if not instrumented.covers(client):
                return method(resource, *args, **kwargs)
            keys = {name: kwargs[name] for name in NAMES if name in kwargs}
            if keys:
                kwargs = {name: value for name, value in kwargs.items() if name not in keys}
            manager = method(resource, *args, **kwargs)
            observe(manager, lambda: _Responses(dialect, keys, lambda: instrumented.covers(client)))
            return manager

        return hide_frame(connect)

    return hook


@never_raise
def observe(manager: Any, new_responses: Callable[[], _Responses]) -> None:  # noqa: ANN401 - the SDK's manager
    """Make ``manager`` open connections that are observed, with reconnections too."""
    connect: Callable[..., Any] | None = getattr(manager, "_connect_ws", None)
    if connect is None:
        # Another version of the SDK.
        counters.add("patches_not_found")
        return
    if type(manager).__name__.startswith("Async"):

        async def connect_async(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - a connection
            return _AsyncSocket(await connect(*args, **kwargs), new_responses())

        manager._connect_ws = connect_async  # noqa: SLF001 - the one place that knows it
    else:

        def connect_sync(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - a connection
            return _Socket(connect(*args, **kwargs), new_responses())

        manager._connect_ws = connect_sync  # noqa: SLF001


class _Socket(Proxy):
    """A proxy of a connection of websockets that shows its messages to ``_Responses``."""

    def __init__(self, socket: Any, responses: _Responses) -> None:  # noqa: ANN401 - a connection
        super().__init__(socket)
        self._self_responses = responses
        responses.opened(socket)

    def send(self, message: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the method's own
        """Send a message."""
        started = self._self_responses.sent(message)
        try:
            return self.__wrapped__.send(message, *args, **kwargs)
        except BaseException as error:
            self._self_responses.not_sent(started, error)
            raise

    def recv(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the method's own
        """Receive a message."""
        try:
            message = self.__wrapped__.recv(*args, **kwargs)
        except BaseException as error:
            self._self_responses.failed(error)
            raise
        self._self_responses.received(message)
        return message

    def close(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the method's own
        """Close the connection."""
        try:
            return self.__wrapped__.close(*args, **kwargs)
        finally:
            self._self_responses.closed()


class _AsyncSocket(Proxy):
    """As ``_Socket``, of an asynchronous connection."""

    def __init__(self, socket: Any, responses: _Responses) -> None:  # noqa: ANN401 - a connection
        super().__init__(socket)
        self._self_responses = responses
        responses.opened(socket)

    async def send(self, message: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the method's own
        """Send a message."""
        started = self._self_responses.sent(message)
        try:
            return await self.__wrapped__.send(message, *args, **kwargs)
        except BaseException as error:
            self._self_responses.not_sent(started, error)
            raise

    async def recv(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the method's own
        """Receive a message; cancelling it ends nothing."""
        try:
            message = await self.__wrapped__.recv(*args, **kwargs)
        except BaseException as error:
            self._self_responses.failed(error)
            raise
        self._self_responses.received(message)
        return message

    async def close(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the method's own
        """Close the connection."""
        try:
            return await self.__wrapped__.close(*args, **kwargs)
        finally:
            self._self_responses.closed()


class _Waiting(NamedTuple):
    """A response that the client has requested; without a recorder if it is not recorded."""

    recorder: StreamRecorder | None
    event_id: object
    stream_id: object
    items: list[Any]
    """The input of its request, as far as it is known."""


class _Responses:
    """The responses of one connection: requested ones, and running ones by id, the newest last."""

    def __init__(self, dialect: Dialect, keys: Mapping[str, Any], is_recorded: Callable[[], bool]) -> None:
        self._dialect = dialect
        self._keys = keys
        self._is_recorded = is_recorded
        self._server: Server = UNKNOWN_SERVER
        self._session: dict[str, Any] = {}
        self._items: deque[Any] = deque(maxlen=_MAX_ITEMS)
        """The items of a Realtime conversation that were added since the last response."""
        self._spoken: dict[object, dict[str, Any]] = {}
        """What the user has said, by the id of its item."""
        self._answered: dict[object, dict[str, Any]] = {}
        """That of the running responses."""
        self._waiting: deque[_Waiting] = deque()
        self._running: dict[object, StreamRecorder | None] = {}

    @never_raise
    def opened(self, socket: Any) -> None:  # noqa: ANN401 - a connection
        """Read server and model of the request that has opened the connection."""
        request = getattr(socket, "request", None)
        if request is not None:
            self._server = server_of(f"https://{request.headers['Host']}")
            query = parse_qs(urlsplit(str(request.path)).query)
            if "model" in query:
                self._session["model"] = query["model"][0]

    @never_raise
    def sent(self, message: object) -> _Waiting | None:
        """Start the response that ``message`` requests, if it does."""
        data = message.encode("utf-8", "replace") if isinstance(message, str) else message
        if not isinstance(data, bytes) or not any(kind in data for kind in _SENT):
            return None
        event = accessors.fields(json_codec.decode(data))
        kind = event.get("type")
        if kind == "session.update":
            self._session.update(accessors.fields(event.get("session")))
        elif kind == "conversation.item.create":
            self._items.append(_without_audio(event.get("item")))
        elif kind == "response.create":
            items = self._taken_items()
            waiting = _Waiting(self._start(event, items), event.get("event_id"), event.get("stream_id"), items)
            self._waiting.append(waiting)
            return waiting
        return None

    def _taken_items(self) -> list[Any]:
        added, self._items = self._items, deque(maxlen=_MAX_ITEMS)
        self._answered.update(self._spoken)
        self._spoken.clear()
        return [*added]

    def _start(self, event: Mapping[str, Any], items: list[Any]) -> StreamRecorder | None:
        if not self._is_recorded():
            return None
        is_realtime = self._dialect is OPENAI_REALTIME
        if is_realtime:
            body = {**self._session, "input": items, **accessors.fields(event.get("response"))}
        else:
            body = {name: value for name, value in event.items() if name not in ("type", "event_id", "stream_id")}
        # A transcript of what the user has said may arrive during the response.
        traced_call = CALL_TRACER.start_call(
            self._dialect, {**self._keys, **body}, self._server, parse_now=not is_realtime
        )
        recorded = traced_call is not None and traced_call.records_response
        return StreamRecorder(traced_call) if traced_call is not None and recorded else None

    @never_raise
    def not_sent(self, waiting: _Waiting | None, error: BaseException) -> None:
        """End a response whose request was not sent."""
        if waiting is not None and waiting in self._waiting:
            self._waiting.remove(waiting)
            if waiting.recorder is not None:
                waiting.recorder.end(error=error)

    @never_raise
    def received(self, message: object) -> None:
        """Record an event of the server."""
        data = message.encode("utf-8", "replace") if isinstance(message, str) else message
        if not isinstance(data, bytes):
            return
        if len(self._running) == 1 and any(kind in data[:_HEAD_BYTES] for kind in _AUDIO_DELTAS):
            # Its bytes are not recorded, and there are many of them.
            self._chunk_arrived(next(iter(self._running.values())))
            return
        event = accessors.fields(json_codec.decode(data))
        kind = event.get("type")
        if not isinstance(kind, str):
            return
        if kind.startswith("session."):
            self._session.update(accessors.fields(event.get("session")))
        elif kind == "input_audio_buffer.committed":
            self._speech_of(event.get("item_id"))
        elif kind == "conversation.item.input_audio_transcription.completed":
            self._speech_of(event.get("item_id"))["transcript"] = event.get("transcript")
        elif kind == "error":
            self._refused(event)
        elif kind.startswith("response."):
            self._of_response(kind, event)

    def _speech_of(self, item_id: object) -> dict[str, Any]:
        """Return the audio of the user's item, which is added to the next response, or to one that waits for it."""
        part = self._spoken.get(item_id) or self._answered.get(item_id)
        if part is None:
            part = {"type": "input_audio"}
            message = {"type": "message", "role": "user", "content": [part]}
            if self._waiting:
                self._waiting[-1].items.append(message)
                self._answered[item_id] = part
            else:
                self._items.append(message)
                self._spoken[item_id] = part
        return part

    def _of_response(self, kind: str, event: Mapping[str, Any]) -> None:
        key = accessors.fields(event.get("response")).get("id") or event.get("response_id") or event.get("stream_id")
        if kind == "response.created":
            self._running[key] = self._requested(event) if self._waiting else self._start({}, self._taken_items())
        elif key not in self._running:
            # Most events of Responses do not name theirs.
            key = next(reversed(self._running), None)
        recorder = self._running.get(key)
        if recorder is not None:
            if kind.endswith(".delta"):
                self._chunk_arrived(recorder)
            recorder.feed(event)
        if kind in self._dialect.last_events:
            self._running.pop(key, None)
            self._answered.clear()
            if recorder is not None:
                recorder.end()

    def _requested(self, event: Mapping[str, Any]) -> StreamRecorder | None:
        """Return the recorder of the response that has begun: that of its stream, else the oldest."""
        stream_id = event.get("stream_id")
        waiting = next((one for one in self._waiting if one.stream_id == stream_id), self._waiting[0])
        self._waiting.remove(waiting)
        return waiting.recorder

    def _refused(self, event: Mapping[str, Any]) -> None:
        """End the response that an error is about: the one with its event id, else the one that has not begun."""
        event_id = accessors.fields(event.get("error")).get("event_id")
        named = [one for one in self._waiting if event_id is not None and one.event_id == event_id]
        if named or (self._waiting and event_id is None):
            waiting = named[0] if named else self._waiting[0]
            self._waiting.remove(waiting)
            recorder = waiting.recorder
        elif self._dialect is OPENAI_RESPONSES and self._running:
            _, recorder = self._running.popitem()
        else:
            # Most errors of a Realtime session end no response.
            return
        if recorder is not None:
            recorder.feed(event)
            recorder.end()

    @staticmethod
    def _chunk_arrived(recorder: StreamRecorder | None) -> None:
        if recorder is not None:
            recorder.traced_call.chunk_arrived()

    @never_raise
    def failed(self, error: BaseException) -> None:
        """End every response with the error that ended the connection; a timeout or a cancellation ends nothing."""
        if type(error).__name__ == "ConnectionClosedOK":
            self.closed()
        elif isinstance(error, Exception) and not isinstance(error, TimeoutError):
            self._end_all(error)

    @never_raise
    def closed(self) -> None:
        """End every response, as the caller has closed the connection."""
        self._end_all(None)

    def _end_all(self, error: BaseException | None) -> None:
        recorders = [*self._running.values(), *(one.recorder for one in self._waiting)]
        self._running.clear()
        self._waiting.clear()
        for recorder in recorders:
            if recorder is not None:
                recorder.end(None if error is not None else "closed", error)


def _without_audio(item: object) -> object:
    """Return an item of a conversation without the bytes of its audio."""
    fields = accessors.fields(item)
    content = accessors.items(fields.get("content"))
    if not content:
        return fields
    parts = [{name: value for name, value in accessors.fields(part).items() if name != "audio"} for part in content]
    return {**fields, "content": parts}
