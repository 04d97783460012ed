"""DashScope's own API for text and multimodal generation.

``POST /api/v1/services/aigc/text-generation/generation`` and ``…/multimodal-generation/generation``. Each event of a
stream has the text so far, unless ``incremental_output`` is set; some models know increments only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from spancast.dialects import accessors
from spancast.dialects.openai_chat.stream import ChatStream
from spancast.dialects.openai_chat.translated import TranslatedChat, choice_of
from spancast.dialects.protocol import StreamReader
from spancast.model.call import Response

_OBJECT: Final = frozenset({dict})
INCREMENTAL: Final = "incremental_output"
"""The parameter; a chunk may have it too, to say how its stream was asked for."""
_FIRST_ERROR: Final = 400
_ANSWER_FIELDS: Final = frozenset({"output", "request_id", "code", "message", "usage", "headers", INCREMENTAL})
_MEDIA: Final = {"image": "image_url", "video": "video_url", "audio": "audio_url"}
_DETAILS: Final = {
    "output_tokens_details": "completion_tokens_details",
    "input_tokens_details": "prompt_tokens_details",
}


class _DashScopeChat(TranslatedChat):
    """The dialect; stateless."""

    __slots__ = ()

    name: str = "dashscope_chat"
    provider: str = "alibaba_cloud"
    answers: str | None = "spancast.dialects.dashscope.answers:CHAT"

    def translated_request(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a request as that of Chat Completions."""
        given = accessors.fields(body.get("input"))
        rest = {name: value for name, value in body.items() if name not in ("input", "parameters")}
        translated = {**rest, **accessors.fields(body.get("parameters"))}
        translated |= {name: value for name, value in given.items() if name not in ("messages", "history")}
        messages = [
            # Almost every message has a role and a text.
            item if type(item) in _OBJECT and type(item.get("content")) is str else _message(item)
            for item in accessors.items(given.get("messages"))
        ]
        for turn in map(accessors.fields, accessors.items(given.get("history"))):
            messages += [
                {"role": "user", "content": turn.get("user")},
                {"role": "assistant", "content": turn.get("bot")},
            ]
        if prompt := translated.pop("prompt", None):
            messages.append({"role": "user", "content": prompt})
        return {**translated, "messages": messages}

    def translated_response(self, response: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a complete response as that of Chat Completions."""
        status = accessors.count(response.get("status_code"))
        output = response.get("output")
        kept = {name: value for name, value in response.items() if name not in _ANSWER_FIELDS}
        translated: dict[str, Any] = {**kept, "id": response.get("request_id")}
        if response.get("code") and (output is None or (status or 0) >= _FIRST_ERROR):
            translated["error"] = {"code": response.get("code"), "message": response.get("message")}
        elif status is not None and status < _FIRST_ERROR:
            del translated["status_code"]
        if usage := response.get("usage"):
            translated["usage"] = {_DETAILS.get(name, name): value for name, value in accessors.fields(usage).items()}
        if output is None:
            return response if "request_id" not in response and "code" not in response else translated
        fields = accessors.fields(output)
        choices = [accessors.fields(choice) for choice in accessors.items(fields.get("choices"))]
        if not choices and fields.get("text") is not None:
            message = {"role": "assistant", "content": fields["text"]}
            choices = [{"message": message, "finish_reason": fields.get("finish_reason")}]
        translated |= {name: fields[name] for name in fields if name not in ("choices", "text", "finish_reason")}
        return {**translated, "choices": [_choice(index, choice) for index, choice in enumerate(choices)]}

    def new_stream(self, *, content: bool) -> Any:  # noqa: ANN401 - a reader of another class than the parent's
        """Return a reader for one stream."""
        return _DashScopeStream(self, content=content)


def _message(message: object) -> object:
    """Return a message as that of Chat Completions: its parts are named by their field."""
    fields = accessors.fields(message)
    content = accessors.items(fields.get("content"))
    return {**fields, "content": [_part(accessors.fields(part)) for part in content]} if content else message


def _part(part: Mapping[str, Any]) -> Mapping[str, Any]:
    kind = next((name for name in _MEDIA if name in part), None)
    if kind is None:
        return part if "type" in part or "text" not in part else {"type": "text", **part}
    rest = {name: value for name, value in part.items() if name != kind}
    wire = _MEDIA[kind]
    # Frames of a video are a list.
    return {"type": wire, wire: part[kind], **rest} if isinstance(part[kind], str) else {"type": kind, **part}


def _choice(index: int, choice: Mapping[str, Any]) -> dict[str, Any]:
    reason = choice.get("finish_reason")
    rest = {name: value for name, value in choice.items() if name not in ("finish_reason", "message")}
    # The text "null" until the end.
    read = choice_of(_message(choice.get("message")), None if reason == "null" else reason)  # type: ignore[arg-type]
    return {**rest, **read, "index": index}


class _DashScopeStream(StreamReader):
    """A reader of chunks that have the whole text so far, or an increment of it."""

    __slots__ = ("_content", "_dialect", "_increments", "_is_incremental", "_latest")

    def __init__(self, dialect: _DashScopeChat, *, content: bool) -> None:
        self._dialect = dialect
        self._content = content
        self._increments = ChatStream(dialect.read_translated, content=content)
        self._is_incremental: bool | None = None
        """None as long as each text has begun with the one before."""
        self._latest: dict[str, Any] = {}
        """What a chunk with the whole text so far would be."""

    def feed(self, chunk: object) -> None:
        """Process the next chunk."""
        fields = accessors.fields(chunk)
        translated = self._dialect.translated_response(fields)
        if self._is_incremental is None and isinstance(fields.get(INCREMENTAL), bool):
            self._is_incremental = fields[INCREMENTAL]
        if self._is_incremental is None and not _continues(self._latest, translated):
            self._is_incremental = True
            self._increments.feed(_as_delta(self._latest))
        if self._is_incremental:
            self._increments.feed(_as_delta(translated))
        else:
            self._latest = _updated(self._latest, translated)

    def result(self) -> Response:
        """Return the response received so far."""
        if self._is_incremental:
            return self._increments.result()
        return self._dialect.read_translated(self._latest, content=self._content)


def _messages(response: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    choices = accessors.items(response.get("choices"))
    return [accessors.fields(accessors.fields(choice).get("message")) for choice in choices]


def _continues(known: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Return whether the texts of ``new`` begin with those of ``known``."""
    for before, after in zip(_messages(known), _messages(new), strict=False):
        text, longer = before.get("content"), after.get("content")
        if isinstance(text, str) and not str(longer or "").startswith(text):
            return False
        # It may be left out once the answer has begun.
        thought, further = before.get("reasoning_content"), after.get("reasoning_content")
        if isinstance(thought, str) and further and not str(further).startswith(thought):
            return False
    return True


def _updated(known: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``known`` with the fields of ``new``; a text that is empty now keeps its last value."""
    choices = [dict(choice) for choice in accessors.items(new.get("choices"))]
    for choice, before in zip(choices, _messages(known), strict=False):
        message = accessors.fields(choice.get("message"))
        kept = {name: before[name] for name in before if not message.get(name)}
        choice["message"] = {**message, **kept}
    found = {**known, **new}
    if not choices and "choices" in known:
        choices = known["choices"]
    return {**found, "choices": choices} if choices else found


def _as_delta(response: Mapping[str, Any]) -> dict[str, Any]:
    choices: list[dict[str, Any]] = [
        {**{name: choice[name] for name in choice if name != "message"}, "delta": choice.get("message") or {}}
        for choice in map(accessors.fields, accessors.items(response.get("choices")))
    ]
    return {**response, **({"choices": choices} if choices else {})}


DASHSCOPE_CHAT: Final = _DashScopeChat()
