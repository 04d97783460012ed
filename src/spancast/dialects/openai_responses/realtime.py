"""OpenAI Realtime: responses over a web socket, in the form of the Responses API with other names.

A response is requested by an event of the client, or begun by the server when the speaker stops. Bytes of audio are not
recorded; its transcript is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from spancast.dialects import accessors
from spancast.dialects.openai_responses.reader import OpenAIResponses, read_body
from spancast.dialects.openai_responses.stream import ResponsesStream
from spancast.model import json_codec, semconv
from spancast.model.call import Request, Response

_EVENTS: Final = {
    "response.done": "response.completed",
    "response.text.delta": "response.output_text.delta",
    "response.text.done": "response.output_text.done",
    "response.audio_transcript.delta": "response.audio.transcript.delta",
    "response.audio_transcript.done": "response.audio.transcript.done",
    "response.output_audio_transcript.delta": "response.audio.transcript.delta",
    "response.output_audio_transcript.done": "response.audio.transcript.done",
}
_AUDIO: Final = frozenset({"response.audio.delta", "response.output_audio.delta"})
_USAGE: Final = {"input_token_details": "input_tokens_details", "output_token_details": "output_tokens_details"}
_RENAMED: Final = frozenset({"status_details", "usage", "conversation_id"})
_NAMED: Final = frozenset({"type", "error"})
"""Details of the status that are its name, and the error of the response."""
_SESSION: Final = frozenset({"audio", "input_audio_format", "output_audio_format", "output_modalities", "voice"})
"""Properties of the session, repeated in a response."""


class _RealtimeStream(ResponsesStream):
    """A reader of the events of one response."""

    __slots__ = ()

    def feed(self, chunk: object) -> None:
        """Process the next event."""
        event = accessors.fields(chunk)
        kind = accessors.text(event.get("type")) or ""
        if kind not in _AUDIO:
            super().feed({**event, "type": _EVENTS.get(kind, kind), "event_id": None})


class _OpenAIRealtime(OpenAIResponses):
    """The dialect; stateless."""

    __slots__ = ()

    name: str = "openai_realtime"
    is_stored: bool = False
    end_marker: str | None = None
    last_events: frozenset[str] = frozenset({"response.done"})
    answers: str | None = None

    def read_request(self, body: Mapping[str, Any], *, content: bool) -> Request:
        """Read the properties of a response, and the new items of its conversation as ``input``."""
        request = super().read_request({"modalities": body.get("output_modalities"), **body}, content=content)
        request.attributes[semconv.OPENAI_API_TYPE] = "realtime"
        # The server may have chosen them.
        request.validation_errors = []
        return request

    def read_response(self, response: object, *, content: bool) -> Response:
        """Read a complete response."""
        return _read(accessors.fields(response), content=content)

    def new_stream(self, *, content: bool) -> ResponsesStream:
        """Return a reader for one response."""
        return _RealtimeStream(_read, content=content)


OPENAI_REALTIME: Final = _OpenAIRealtime()


def _read(response: Mapping[str, Any], *, content: bool, is_cut: bool = False) -> Response:
    details = accessors.fields(response.get("status_details"))
    usage = {_USAGE.get(name, name): value for name, value in accessors.fields(response.get("usage")).items()}
    known = {name: value for name, value in response.items() if name not in _RENAMED | _SESSION}
    if usage:
        known["usage"] = usage
    if not json_codec.is_absent(details.get("error")):
        known["error"] = details["error"]
    if rest := {name: value for name, value in details.items() if name not in _NAMED}:
        known["incomplete_details"] = rest
    if accessors.text(details.get("reason")):
        # An interruption by the speaker is no error; its reason is that of the end.
        known["status"] = "incomplete"
    read = read_body(known, content=content, is_cut=is_cut)
    if status := accessors.text(response.get("status")):
        read.attributes[semconv.RESPONSE + "status"] = status
    if conversation := accessors.text(response.get("conversation_id")):
        read.attributes[semconv.CONVERSATION_ID] = conversation
    return read
