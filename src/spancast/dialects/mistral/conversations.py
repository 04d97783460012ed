"""Mistral's conversations (``POST /v1/conversations``, ``…/<id>``, ``…/<id>/restart``), which Mistral stores.

Inputs and outputs are lists of entries: messages, function calls and their results, executions of Mistral's own tools,
hand-overs to another agent. The API has no finish reason; that of a complete response is derived from its entries.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Final

from spancast.dialects import accessors
from spancast.dialects.content import text_part
from spancast.dialects.openai_chat.translated import TranslatedChat, choice_of
from spancast.dialects.protocol import StreamReader
from spancast.model import json_codec, semconv
from spancast.model.call import Request, Response

CONVERSATION_ID: Final = "conversation_id"
_STARTED: Final = "conversation.response.started"
_DONE: Final = "conversation.response.done"
_ERROR: Final = "conversation.response.error"
_MESSAGE: Final = "message.output"
_MESSAGES: Final = (_MESSAGE, "message.input")
_OBJECT: Final = frozenset({dict})
_TOOL: Final = "tool.execution"
_CALL: Final = "function.call"
_HANDOFF: Final = "agent.handoff"
_KINDS: Final = {
    f"{_MESSAGE}.delta": _MESSAGE,
    f"{_CALL}.delta": _CALL,
    f"{_TOOL}.started": _TOOL,
    f"{_TOOL}.delta": _TOOL,
    f"{_TOOL}.done": _TOOL,
    f"{_HANDOFF}.started": _HANDOFF,
    f"{_HANDOFF}.done": _HANDOFF,
}
"""The kind of entry of each event."""

_READ: Final = frozenset({"inputs", "instructions", "completion_args", CONVERSATION_ID})
_ANSWERED: Final = frozenset({"object", "outputs", "usage", CONVERSATION_ID})
_OF_ENTRY: Final = frozenset({"object", "type", "created_at", "completed_at", "model"})
_OF_CALL: Final = _OF_ENTRY | {"id", "tool_call_id", "name", "arguments"}
_OF_TOOL: Final = _OF_ENTRY | {"id", "name", "info"}
_OF_EVENT: Final = frozenset({"type", "output_index", "content_index", "content", "arguments"})
_IS_CUT: Final = "is_cut"
"""A field of an assembled response whose last event is missing."""


class _MistralConversations(TranslatedChat):
    """The dialect; stateless."""

    __slots__ = ()

    name: str = "mistral_conversations"
    provider: str = "mistral_ai"
    last_events: frozenset[str] = frozenset({_DONE})
    answers: str | None = "spancast.dialects.mistral.answers:CONVERSATIONS"

    def read_request(self, body: Mapping[str, Any], *, content: bool) -> Request:
        """Read a request body and the id in its path."""
        request = super().read_request(body, content=content)
        if conversation := accessors.text(body.get(CONVERSATION_ID)):
            request.attributes[semconv.CONVERSATION_ID] = conversation
        if content and (instructions := accessors.text(body.get("instructions"))):
            request.system_instructions = [text_part(instructions)]
        return request

    def translated_request(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a request as that of Chat Completions."""
        inputs = body.get("inputs")
        given: list[object] = [{"content": inputs}] if isinstance(inputs, str) else [*accessors.items(inputs)]
        rest = {name: value for name, value in body.items() if name not in _READ}
        messages = [_text_message(one) or _message([one]) for one in given]
        return {**rest, **accessors.fields(body.get("completion_args")), "messages": messages}

    def translated_response(self, response: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a complete response as that of Chat Completions."""
        outputs = [*accessors.items(response.get("outputs"))]
        if "outputs" not in response:
            # An error.
            return response
        kinds = {accessors.text(accessors.fields(entry).get("type")) for entry in outputs}
        reason = None if response.get(_IS_CUT) else "tool_calls" if _CALL in kinds else "stop"
        models = (accessors.text(accessors.fields(entry).get("model")) for entry in reversed(outputs))
        return {
            **{name: value for name, value in response.items() if name not in {*_ANSWERED, _IS_CUT}},
            "model": next((model for model in models if model), None),
            "choices": [choice_of(_message(outputs, "assistant"), reason)] if outputs or reason else [],
            "usage": response.get("usage"),
        }

    def read_response(self, response: object, *, content: bool) -> Response:
        """Read a complete response; a string is the model's text."""
        read = super().read_response(response, content=content)
        read.conversation_id = accessors.text(accessors.fields(response).get(CONVERSATION_ID))
        return read

    def new_stream(self, *, content: bool) -> _ConversationStream:
        """Return a reader for one stream."""
        return _ConversationStream(self, content=content)


MISTRAL_CONVERSATIONS: Final = _MistralConversations()


def _text_message(entry: Any) -> dict[str, Any] | None:  # noqa: ANN401 - wire JSON
    """Return a message of one text, as almost every entry is; None for any other."""
    if type(entry) in _OBJECT and type(content := entry.get("content")) is str and entry.get("type") in _MESSAGES:
        role = entry.get("role")
        return {"role": role, "content": content} if type(role) is str else None
    return None


def _message(entries: list[object], role: str = "user") -> dict[str, Any]:
    """Return entries as one message of Chat Completions, with the role of the first that has one."""
    content: list[object] = []
    calls: list[Mapping[str, Any]] = []
    for entry in map(accessors.fields, entries):
        kind = accessors.text(entry.get("type"))
        if kind == "function.result":
            return {"role": "tool", "tool_call_id": entry.get("tool_call_id"), "content": entry.get("result")}
        if kind == _CALL:
            calls.append(_tool_call(entry))
        elif kind == _TOOL:
            content += _execution(entry)
        elif kind is not None and not kind.startswith("message."):
            content.append({name: value for name, value in entry.items() if name not in _OF_ENTRY} | {"type": kind})
        else:
            given = entry.get("content")
            content += [given] if isinstance(given, str) else accessors.items(given)
            role = accessors.text(entry.get("role")) or role
            continue
        role = "assistant"
    return {"role": role, "content": content, **({"tool_calls": calls} if calls else {})}


def _tool_call(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a call of a function, with the id by which its result is given back."""
    rest = {name: value for name, value in entry.items() if name not in _OF_CALL}
    function = {"name": entry.get("name"), "arguments": entry.get("arguments")}
    return {**rest, "id": entry.get("tool_call_id"), "type": "function", "function": function}


def _execution(entry: Mapping[str, Any]) -> list[object]:
    """Return the execution of a tool by Mistral: the call, and what is known of its result."""
    item_id, name = accessors.text(entry.get("id")), accessors.text(entry.get("name")) or "unknown"
    arguments = entry.get("arguments")
    decoded = json_codec.decode(arguments) if isinstance(arguments, str) and arguments else None
    rest = {field: value for field, value in entry.items() if field not in _OF_TOOL}
    call = {**rest, "arguments": arguments if decoded is None else decoded, "type": name}
    parts: list[object] = [{"type": "server_tool_call", "id": item_id, "name": name, "server_tool_call": call}]
    if info := accessors.fields(entry.get("info")):
        kind = "server_tool_call_response"
        parts.append({"type": kind, "id": item_id, kind: {**info, "type": name}})
    return parts


class _ConversationStream(StreamReader):
    """A reader of the events of one response; without ``content`` it keeps no text."""

    __slots__ = ("_content", "_dialect", "_ending", "_entries", "_pieces", "_response")

    def __init__(self, dialect: _MistralConversations, *, content: bool) -> None:
        self._dialect = dialect
        self._content = content
        self._response: dict[str, Any] = {_IS_CUT: True}
        self._entries: dict[Hashable, dict[str, Any]] = {}
        """Entries by output index, without their texts."""
        self._pieces: dict[Hashable, list[object]] = {}
        """The deltas of contents or arguments, by output index."""

    def feed(self, chunk: object) -> None:
        """Process the next event: wire JSON or the SDK's object."""
        event = accessors.fields(chunk)
        # The SDK's event has the wire's one as ``data``.
        event = accessors.fields(event.get("data")) or event
        kind = accessors.text(event.get("type")) or ""
        if kind in (_STARTED, _DONE):
            names = (CONVERSATION_ID, "usage")
            self._response |= {name: event[name] for name in names if not json_codec.is_absent(event.get(name))}
            self._response[_IS_CUT] = kind != _DONE
        elif kind == _ERROR:
            self._response["error"] = {name: event.get(name) for name in ("message", "code")}
        elif (entry := _KINDS.get(kind)) is not None:
            index = event.get("output_index")
            self._add(index if isinstance(index, int) else accessors.text(event.get("id")), entry, event)
        elif not kind:
            # A whole response, or an error, that is no event.
            self._response = dict(event)

    def _add(self, index: Hashable, kind: str, event: Mapping[str, Any]) -> None:
        known = self._entries.setdefault(index, {"type": kind})
        known |= {name: value for name, value in event.items() if name not in _OF_EVENT and name not in known}
        piece = event.get("content") if kind == _MESSAGE else event.get("arguments")
        if self._content and not json_codec.is_absent(piece):
            self._pieces.setdefault(index, []).append(piece)

    def result(self) -> Response:
        """Return the response as far as it has arrived."""
        response = self._response
        if self._entries or not response.get("error"):
            outputs = [self._whole(index) for index in self._entries]
            response = {**response, "outputs": outputs} if "outputs" not in response else response
        is_empty = response.keys() == {_IS_CUT, "outputs"} and not response["outputs"]
        return Response() if is_empty else self._dialect.read_response(response, content=self._content)

    def _whole(self, index: Hashable) -> dict[str, Any]:
        entry, pieces = self._entries[index], self._pieces.get(index, [])
        if entry["type"] == _MESSAGE:
            return {**entry, "content": _joined(pieces)}
        texts = [piece for piece in pieces if isinstance(piece, str)]
        return {**entry, "arguments": "".join(texts)} if texts else entry


def _joined(pieces: list[object]) -> list[object]:
    """Return the deltas of a content as parts: texts continue texts, thoughts continue thoughts."""
    parts: list[object] = []
    texts: list[str] = []
    before = ""
    for piece in pieces:
        fields = accessors.fields(piece)
        kind = "text" if isinstance(piece, str) else accessors.text(fields.get("type")) or ""
        if kind not in ("text", "thinking"):
            parts.append(piece)
        else:
            if kind != before:
                texts = []
                parts.append({"type": kind, kind: texts})
            texts += _texts(piece if isinstance(piece, str) else fields.get(kind))
        before = kind
    return [_part(part) for part in parts]


def _texts(value: object) -> list[str]:
    given = [value] if isinstance(value, str) else accessors.items(value)
    return [one if isinstance(one, str) else accessors.text(accessors.fields(one).get("text")) or "" for one in given]


def _part(part: Any) -> object:  # noqa: ANN401 - a part of ``_joined``, or the provider's own
    fields = accessors.fields(part)
    kind = fields.get("type")
    return {"type": kind, kind: "".join(fields[kind])} if kind in ("text", "thinking") else part
