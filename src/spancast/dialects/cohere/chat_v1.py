"""Cohere's Chat API, version 1 (``POST /v1/chat``), whose streams are a JSON object per line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from spancast.dialects import accessors
from spancast.dialects.cohere.chat import choice, renamed, usage_of
from spancast.dialects.openai_chat.translated import TranslatedChat, choice_of

_OBJECT: Final = frozenset({dict})
_ROLES: Final = {"USER": "user", "CHATBOT": "assistant", "SYSTEM": "system", "TOOL": "tool"}
_PAIR: Final = 2
_MESSAGES: Final = frozenset({"message", "chat_history", "preamble", "tool_results", "tools"})
_ANSWER_FIELDS: Final = frozenset(
    {"text", "response_id", "finish_reason", "tool_calls", "citations", "meta", "chat_history"}
)
"""Fields that are read elsewhere; the history repeats the conversation."""
_USAGE: Final = frozenset({"billed_units", "tokens", "cached_tokens"})


class _CohereChatV1(TranslatedChat):
    """The dialect; stateless."""

    __slots__ = ()

    name: str = "cohere_chat_v1"
    provider: str = "cohere"
    answers: str | None = None

    def translated_request(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a request as that of Chat Completions."""
        translated = renamed({name: value for name, value in body.items() if name not in _MESSAGES})
        if tools := accessors.items(body.get("tools")):
            translated["tools"] = [_tool(tool) for tool in tools]
        preamble, message = body.get("preamble"), body.get("message")
        messages: list[Any] = [{"role": "system", "content": preamble}] if preamble else []
        for item in accessors.items(body.get("chat_history")):
            role = item.get("role") if type(item) in _OBJECT and len(item) == _PAIR and "message" in item else None
            if type(role) is str and role in _ROLES:
                # Almost every message has a role and a text.
                messages.append({"role": _ROLES[role], "content": item["message"]})
            else:
                messages += _messages(accessors.fields(item))
        if message:
            messages.append({"role": "user", "content": message})
        messages += _tool_results(body.get("tool_results"))
        return {**translated, "messages": messages}

    def translated_response(self, response: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a complete response as that of Chat Completions."""
        if "text" not in response and "tool_calls" not in response:
            return response
        message = {"role": "assistant", "content": response.get("text"), "citations": response.get("citations")}
        message["tool_calls"] = _tool_calls(response)
        return {**_rest(response), "choices": [{**choice(response.get("finish_reason")), "message": message}]}

    def translated_chunk(self, chunk: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return an event of a stream as a chunk of Chat Completions."""
        kind = chunk.get("event_type")
        if not isinstance(kind, str):
            return self.translated_response(chunk)
        read = _EVENTS.get(kind)
        # Chunks of tool calls are repeated by the event with the whole calls.
        ignored = ("event_type", "is_finished") if kind != "tool-calls-chunk" else chunk.keys()
        rest = {name: value for name, value in chunk.items() if name not in ignored}
        return rest if read is None else read(chunk)


def _end(chunk: Mapping[str, Any]) -> dict[str, Any]:
    # Its response repeats the texts of the events before it.
    ending: dict[str, Any] = {**choice(chunk.get("finish_reason")), "delta": {}}
    return {**_rest(accessors.fields(chunk.get("response"))), "choices": [ending]}


def _start(chunk: Mapping[str, Any]) -> dict[str, Any]:
    return {"generation_id": chunk.get("generation_id"), "choices": [choice_of(delta={"role": "assistant"})]}


def _rest(response: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields beside the message."""
    kept = {name: value for name, value in response.items() if name not in _ANSWER_FIELDS}
    meta = accessors.fields(response.get("meta"))
    usage = {name: meta[name] for name in _USAGE & meta.keys()}
    kept |= {name: meta[name] for name in meta if name not in usage and name != "api_version"}
    return {**kept, "id": response.get("response_id"), "usage": usage_of(usage)}


def _messages(item: Mapping[str, Any]) -> list[Any]:
    role = item.get("role")
    if role == "TOOL":
        return _tool_results(item.get("tool_results"))
    known = _ROLES.get(role, role) if isinstance(role, str) else "user"
    message = {name: value for name, value in item.items() if name not in ("role", "message", "tool_calls")}
    message |= {"role": known, "content": item.get("message")}
    if calls := _tool_calls(item):
        message["tool_calls"] = calls
    return [message]


def _tool_calls(holder: Mapping[str, Any]) -> list[Any]:
    calls = map(accessors.fields, accessors.items(holder.get("tool_calls")))
    return [{"function": {"name": call.get("name"), "arguments": call.get("parameters")}} for call in calls]


def _tool_results(results: object) -> list[Any]:
    """Return a message per result; a call has no id, so its name stands for it."""
    found = map(accessors.fields, accessors.items(results))
    return [
        {
            "role": "tool",
            "tool_call_id": accessors.fields(result.get("call")).get("name"),
            "content": result.get("outputs"),
        }
        for result in found
    ]


def _tool(tool: object) -> dict[str, Any]:
    fields = accessors.fields(tool)
    given = {"parameters" if name == "parameter_definitions" else name: fields[name] for name in fields}
    return {"type": "function", "function": given}


_EVENTS: Final[Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]]] = {
    "stream-end": _end,
    "stream-start": _start,
    "text-generation": lambda chunk: {"choices": [choice_of(delta={"content": chunk.get("text")})]},
    "tool-calls-generation": lambda chunk: {"choices": [choice_of(delta={"tool_calls": _tool_calls(chunk)})]},
    "citation-generation": lambda chunk: {"choices": [choice_of(delta={"citations": chunk.get("citations")})]},
}

COHERE_CHAT_V1: Final = _CohereChatV1()
