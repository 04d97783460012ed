"""Cohere's Chat API, version 2 (``POST /v2/chat``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from spancast.dialects import accessors
from spancast.dialects.openai_chat.translated import TranslatedChat, choice_of

_OBJECT: Final = frozenset({dict})
_RENAMED: Final = {"k": "top_k", "p": "top_p", "stop_sequences": "stop"}
_FINISH_REASONS: Final = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "TOOL_CALL": "tool_calls",
    "ERROR": "error",
    "TIMEOUT": "error",
    # Version 1.
    "ERROR_TOXIC": "content_filter",
    "ERROR_LIMIT": "length",
    "USER_CANCEL": "error",
}
_ANSWER_FIELDS: Final = frozenset({"id", "message", "finish_reason", "usage", "logprobs"})
_TOKENS: Final = {"input_tokens": "prompt_tokens", "output_tokens": "completion_tokens"}


class _CohereChat(TranslatedChat):
    """The dialect; stateless."""

    __slots__ = ()

    name: str = "cohere_chat"
    provider: str = "cohere"
    end_marker: str | None = "[DONE]"
    last_events: frozenset[str] = frozenset({"message-end"})
    answers: str | None = "spancast.dialects.cohere.answers:CHAT"

    def translated_request(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a request as that of Chat Completions."""
        return {
            **renamed(body),
            "messages": [
                # Almost every message has a role and a content.
                item if type(item) in _OBJECT and "tool_plan" not in item else _message(item)
                for item in accessors.items(body.get("messages"))
            ],
        }

    def translated_response(self, response: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a complete response as that of Chat Completions."""
        message = response.get("message")
        if message is None or isinstance(message, str):
            # An error, whose message is a text.
            return response
        logprobs = response.get("logprobs")
        ending = choice(response.get("finish_reason"), None if logprobs is None else {"content": logprobs})
        rest = {name: value for name, value in response.items() if name not in _ANSWER_FIELDS}
        choices = [{**ending, "message": _message(message)}]
        return {**rest, "id": response.get("id"), "choices": choices, "usage": usage_of(response.get("usage"))}

    def translated_chunk(self, chunk: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return an event of a stream as a chunk of Chat Completions."""
        kind = chunk.get("type")
        delta = accessors.fields(chunk.get("delta"))
        message = accessors.fields(delta.get("message"))
        if kind == "message-end":
            ending: dict[str, Any] = {**choice(delta.get("finish_reason")), "delta": {}}
            error: object = delta.get("error")
            if error_type := delta.get("error_type"):
                error = {"message": error, "type": error_type}
            return {"choices": [ending], "usage": usage_of(delta.get("usage")), "error": error}
        if kind == "message-start":
            return {"id": chunk.get("id"), "choices": [choice_of(delta={"role": message.get("role")})]}
        read = _DELTAS.get(kind) if isinstance(kind, str) else None
        if read is not None:
            given = read(message, chunk.get("index"))
            logprobs = chunk.get("logprobs")
            listed = None if logprobs is None else {"content": [logprobs]}
            return {"choices": [choice_of(delta=given, logprobs=listed)]}
        if not isinstance(kind, str):
            # An answer that is no stream of events.
            return self.translated_response(chunk)
        return None if kind.endswith("-end") else {kind: {name: chunk[name] for name in chunk if name != "type"}}


def renamed(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a request by their names in Chat Completions."""
    return {_RENAMED.get(name, name): value for name, value in body.items()}


def _message(message: object) -> object:
    """Return a message as that of Chat Completions: the plan of tool calls is reasoning."""
    fields = accessors.fields(message)
    if "tool_plan" not in fields:
        return message
    return {**{name: fields[name] for name in fields if name != "tool_plan"}, "reasoning_content": fields["tool_plan"]}


def choice(reason: object, logprobs: object = None) -> dict[str, Any]:
    """Return a choice with a finish reason of Cohere."""
    known = _FINISH_REASONS.get(reason) if isinstance(reason, str) else None
    return choice_of(reason=known or reason, native_reason=reason, logprobs=logprobs)


def usage_of(usage: object) -> dict[str, Any]:
    """Return a usage as that of Chat Completions: the billed tokens, which the conventions prefer, else all."""
    fields = accessors.fields(usage)
    billed, used = accessors.fields(fields.get("billed_units")), accessors.fields(fields.get("tokens"))
    kept: dict[str, Any] = {name: fields[name] for name in fields if name != "billed_units"}
    kept["billed_units"] = {name: billed[name] for name in billed if name not in _TOKENS}
    for name, canonical in _TOKENS.items():
        kept[canonical] = used.get(name) if billed.get(name) is None else billed[name]
    cached, sent = accessors.count(fields.get("cached_tokens")), accessors.count(kept["prompt_tokens"])
    if cached is not None and cached > (sent or 0):
        # They are a part of all tokens, not of the billed ones.
        kept["tokens"] = {**used, "cached_tokens": kept.pop("cached_tokens")}
    return kept


def _content(message: Mapping[str, Any], _index: object) -> dict[str, Any]:
    content = accessors.fields(message.get("content"))
    text = content.get("text")
    if isinstance(text, str) and not content.get("thinking"):
        return {"content": text}
    if content.get("thinking"):
        return {"content": [{"type": "thinking", "thinking": content["thinking"]}]}
    return {}


def _plan(message: Mapping[str, Any], _index: object) -> dict[str, Any]:
    return {"reasoning_content": message.get("tool_plan")}


def _tool_call(message: Mapping[str, Any], index: object) -> dict[str, Any]:
    return {"tool_calls": [{**accessors.fields(message.get("tool_calls")), "index": index}]}


def _citation(message: Mapping[str, Any], _index: object) -> dict[str, Any]:
    citations = message.get("citations")
    return {"citations": [*accessors.items(citations)] or [citations]}


_DELTAS: Final = {
    "content-start": _content,
    "content-delta": _content,
    "tool-plan-delta": _plan,
    "tool-call-start": _tool_call,
    "tool-call-delta": _tool_call,
    "citation-start": _citation,
}

COHERE_CHAT: Final = _CohereChat()
