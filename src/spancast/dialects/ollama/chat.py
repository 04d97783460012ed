"""Ollama's own API: ``POST /api/chat`` and ``POST /api/generate``, whose streams are a JSON object per line.

A response has no id. The last object of a stream has the counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from spancast.dialects import accessors
from spancast.dialects.error_body import http_error_attributes
from spancast.dialects.openai_chat.translated import TranslatedChat, choice_of
from spancast.model import json_codec, semconv
from spancast.model.call import Attributes

_OBJECT: Final = frozenset({dict})
_PAIR: Final = 2
_OPTIONS: Final = {"num_predict": "max_tokens"}
_TRANSLATED: Final = frozenset({"messages", "options", "format", "think", "prompt", "system", "images", "context"})
"""Parameters that are read elsewhere; the context is token numbers."""
_MESSAGE_FIELDS: Final = frozenset({"images", "thinking", "tool_name"})
_ANSWER_FIELDS: Final = frozenset(
    {"message", "response", "thinking", "image", "done", "done_reason", "logprobs", "context"}
)
_USAGE: Final = {"prompt_eval_count": "prompt_tokens", "eval_count": "completion_tokens"}
_DURATIONS: Final = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")
_NOT_STOPPED: Final = frozenset({"load", "unload"})
"""Reasons of a request without a prompt, which loads or unloads the model."""


class _OllamaChat(TranslatedChat):
    """The dialect of ``/api/chat``; stateless."""

    __slots__ = ()

    name: str = "ollama_chat"
    provider: str = "ollama"
    answers: str | None = "spancast.dialects.ollama.answers:CHAT"

    def translated_request(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a request as that of Chat Completions."""
        return {
            **parameters(body),
            "messages": [
                # Almost every message has a role and a text.
                item if type(item) in _OBJECT and len(item) == _PAIR and "content" in item else _message(item)
                for item in accessors.items(body.get("messages"))
            ],
        }

    def translated_response(self, response: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a complete response as that of Chat Completions."""
        message = self.message_of(response)
        if message is None:
            return response
        return {**with_usage(response), "choices": [{**_choice(response), "message": message}]}

    def translated_chunk(self, chunk: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return an object of a stream as a chunk of Chat Completions."""
        message = self.message_of(chunk)
        if message is None:
            return chunk
        return {**with_usage(chunk), "choices": [{**_choice(chunk), "delta": message}]}

    def message_of(self, response: Mapping[str, Any]) -> Any:  # noqa: ANN401 - wire JSON
        """Return the message of a response as that of Chat Completions; None if it has none."""
        message = response.get("message")
        return None if message is None else _message(message)

    def error_attributes(self, error: BaseException) -> Attributes:
        """Return the HTTP status; the SDK gives an error inside a stream the status -1."""
        found = http_error_attributes(error)
        if found.get(semconv.RESPONSE + "status_code") == -1:
            del found[semconv.RESPONSE + "status_code"]
        return found


class _OllamaGenerate(_OllamaChat):
    """The dialect of ``/api/generate``; stateless."""

    __slots__ = ()

    name: str = "ollama_generate"
    operation: str = "text_completion"
    answers: str | None = "spancast.dialects.ollama.answers:GENERATE"

    def translated_request(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a request as that of Chat Completions; the prompt is a user message."""
        system, prompt, images = body.get("system"), body.get("prompt"), body.get("images")
        messages: list[Any] = [{"role": "system", "content": system}] if system else []
        if prompt or images:
            messages.append(_message({"role": "user", "content": prompt, "images": images or ()}))
        return {**parameters(body), "messages": messages}

    def message_of(self, response: Mapping[str, Any]) -> Any:  # noqa: ANN401 - wire JSON
        """Return the text of a response, and the image of a model of images, as a message."""
        if "response" not in response and "image" not in response:
            return None
        message: dict[str, Any] = {"role": "assistant", "content": response.get("response")}
        if response.get("thinking"):
            message["reasoning_content"] = response["thinking"]
        if response.get("image"):
            message["images"] = [_image(response["image"])]
        return message


def parameters(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a request by their names in Chat Completions."""
    found = {name: value for name, value in body.items() if name not in _TRANSLATED}
    for name, value in accessors.fields(body.get("options")).items():
        found[_OPTIONS.get(name, name)] = value
    think, form = body.get("think"), body.get("format")
    if think is not None:
        found["reasoning_effort" if isinstance(think, str) else "think"] = think
    if form:
        kind = "json_object" if isinstance(form, str) else "json_schema"
        found["response_format"] = {"type": kind} if isinstance(form, str) else {"type": kind, "json_schema": form}
    return found


def _message(message: object) -> object:
    """Return a message as that of Chat Completions: images are parts of the content."""
    fields = accessors.fields(message)
    if _MESSAGE_FIELDS.isdisjoint(fields):
        return message
    translated = {name: value for name, value in fields.items() if name not in _MESSAGE_FIELDS}
    if thinking := fields.get("thinking"):
        translated["reasoning_content"] = thinking
    if name := fields.get("tool_name"):
        translated["name"] = name
    if images := accessors.items(fields.get("images")):
        text = fields.get("content")
        parts = [{"type": "text", "text": text}] if text else []
        translated["content"] = [*parts, *map(_image, images)]
    return translated


_SIGNATURES: Final = {"iVBORw0KGgo": "image/png", "/9j/": "image/jpeg", "R0lGOD": "image/gif", "UklGR": "image/webp"}
"""Starts of image files in base64; the API does not say the type."""


def _image(data: object) -> object:
    # The SDK's object has the data as ``value``.
    data = data if isinstance(data, str) else accessors.fields(data).get("value", data)
    if not isinstance(data, str):
        return {"type": "image_url", "image_url": data}
    kind = next((kind for start, kind in _SIGNATURES.items() if data.startswith(start)), "")
    return {"type": "image_url", "image_url": f"data:{kind};base64,{data}"}


def _choice(response: Mapping[str, Any]) -> dict[str, Any]:
    reason, logprobs = response.get("done_reason"), response.get("logprobs")
    known = "stop" if isinstance(reason, str) and reason in _NOT_STOPPED else reason
    listed = None if json_codec.is_absent(logprobs) else {"content": logprobs}
    return choice_of(reason=known, native_reason=reason, logprobs=listed)


def with_usage(response: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a response beside its message, with counts and durations as ``usage``."""
    kept = {name: value for name, value in response.items() if name not in _ANSWER_FIELDS}
    usage = {canonical: kept.pop(name) for name, canonical in _USAGE.items() if name in kept}
    usage |= {name: kept.pop(name) for name in _DURATIONS if name in kept}
    return {**kept, "usage": usage} if usage else kept


OLLAMA_CHAT: Final = _OllamaChat()
OLLAMA_GENERATE: Final = _OllamaGenerate()
