"""Dialects whose JSON is translated to that of Chat Completions, and read by its reader.

For formats that differ in names and nesting only. A message that both formats have alike is not copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spancast.dialects import accessors
from spancast.dialects.openai_chat.reader import OpenAIChat
from spancast.dialects.openai_chat.stream import ChatStream
from spancast.dialects.protocol import StreamReader
from spancast.model import semconv
from spancast.model.call import Request, Response


class TranslatedChat(OpenAIChat):
    """A dialect of one provider, given by three translations."""

    __slots__ = ()

    is_shared: bool = False
    end_marker: str | None = None

    def translated_request(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a request as that of Chat Completions."""
        raise NotImplementedError

    def translated_response(self, response: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a complete response as that of Chat Completions."""
        raise NotImplementedError

    def translated_chunk(self, chunk: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return a chunk of a stream as that of Chat Completions; None if it says nothing."""
        raise NotImplementedError

    def completed(self, response: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a translated response, whole or assembled from a stream, with what follows from several fields.

        Some servers end a message with tool calls as any other.
        """
        choices = accessors.items(response.get("choices"))
        choice: Mapping[str, Any] = accessors.fields(choices[0]) if choices else {}
        if choice.get("finish_reason") != "stop" or not accessors.fields(choice.get("message")).get("tool_calls"):
            return response
        native = choice.get("native_finish_reason", "stop")
        changed = {**choice, "finish_reason": "tool_calls", "native_finish_reason": native}
        return {**response, "choices": [changed, *choices[1:]]}

    def read_request(self, body: Mapping[str, Any], *, content: bool) -> Request:
        """Read a request body."""
        request = super().read_request(self.translated_request(body), content=content)
        request.attributes.pop(semconv.OPENAI_API_TYPE, None)
        # The ranges are those of OpenAI.
        request.validation_errors = []
        return request

    def read_response(self, response: object, *, content: bool) -> Response:
        """Read a complete response; a string is the assistant's text."""
        if isinstance(response, str):
            return super().read_response(response, content=content)
        return self.read_translated(self.translated_response(accessors.fields(response)), content=content)

    def read_translated(self, response: object, *, content: bool) -> Response:
        """Read a translated response."""
        return super().read_response(self.completed(accessors.fields(response)), content=content)

    def new_stream(self, *, content: bool) -> Any:  # noqa: ANN401 - a reader of another class than the parent's
        """Return a reader for one stream."""
        return _TranslatedStream(self, ChatStream(self.read_translated, content=content))

    def ask_for_usage(self, body: Mapping[str, Any]) -> None:
        """Return None: streams have their usage unasked."""


class _TranslatedStream(StreamReader):
    __slots__ = ("_dialect", "_stream")

    def __init__(self, dialect: TranslatedChat, stream: ChatStream) -> None:
        self._dialect = dialect
        self._stream = stream

    def feed(self, chunk: object) -> None:
        """Process the next chunk."""
        translated = chunk if isinstance(chunk, str) else self._dialect.translated_chunk(accessors.fields(chunk))
        if translated is not None:
            self._stream.feed(translated)

    def result(self) -> Response:
        """Return the response received so far."""
        return self._stream.result()


def choice_of(
    message: Mapping[str, Any] | None = None,
    reason: object = None,
    *,
    native_reason: object = None,
    logprobs: object = None,
    delta: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a choice of Chat Completions; ``native_reason`` is the provider's word if it is another one."""
    choice: dict[str, Any] = {"index": 0}
    given = {"message": message, "delta": delta, "finish_reason": reason}
    given |= {"native_finish_reason": native_reason if native_reason != reason else None, "logprobs": logprobs}
    choice.update({name: value for name, value in given.items() if value is not None})
    return choice
