"""Replicate's predictions: ``POST /v1/models/{owner}/{name}/predictions`` and the other paths that end so.

A model has any input and output; one of language has a prompt, and its output is a list of texts. The operation is that
of models that give texts or media. A stream is a second request, whose server-sent events have plain text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from spancast.dialects import accessors
from spancast.dialects.openai_chat.translated import TranslatedChat, choice_of
from spancast.model import json_codec

_PROMPTS: Final = ("prompt", "messages")
_IMAGES: Final = ("image", "images", "image_input")
_PARAMETERS: Final = {"max_new_tokens": "max_tokens"}
_TRANSLATED: Final = frozenset({*_PROMPTS, *_IMAGES, "system_prompt"})
_REQUEST_FIELDS: Final = frozenset({"input", "webhook", "webhook_completed", "webhook_events_filter"})
_USAGE: Final = {"input_token_count": "prompt_tokens", "output_token_count": "completion_tokens"}
_REASONS: Final = {"succeeded": "stop", "failed": "error", "canceled": "error"}
"""The states in which a prediction ends, as its SDK documents them."""


def has_prompt(body: Mapping[str, Any]) -> bool:
    """Return whether a request is one of a model that takes a prompt."""
    given = accessors.fields(body.get("input"))
    return any(name in given for name in _PROMPTS)


def has_ended(prediction: object) -> bool:
    """Return whether the state of a prediction is a last one."""
    return accessors.fields(prediction).get("status") in _REASONS


class _ReplicatePrediction(TranslatedChat):
    """The dialect; stateless."""

    __slots__ = ()

    name: str = "replicate_prediction"
    provider: str = "replicate"
    operation: str = "generate_content"
    answers: str | None = "spancast.dialects.replicate.answers:PREDICTION"

    def translated_request(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a request as that of Chat Completions; the prompt is a user message."""
        given = accessors.fields(body.get("input"))
        found = {name: value for name, value in body.items() if name not in _REQUEST_FIELDS}
        found |= {_PARAMETERS.get(name, name): value for name, value in given.items() if name not in _TRANSLATED}
        system, prompt = given.get("system_prompt"), given.get("prompt")
        messages: list[Any] = [{"role": "system", "content": system}] if system else []
        messages += accessors.items(given.get("messages"))
        images = [one for name in _IMAGES for one in _several(given.get(name))]
        if images:
            texts = [{"type": "text", "text": prompt}] if prompt else []
            prompt = [*texts, *({"type": "image_url", "image_url": one} for one in images)]
        if prompt:
            messages.append({"role": "user", "content": prompt})
        return {**found, "messages": messages}

    def translated_response(self, response: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a prediction as the response of Chat Completions."""
        if "status" not in response:
            return response
        translated = _head(response)
        if error := response.get("error"):
            translated["error"] = {"message": error}
        if metrics := accessors.fields(response.get("metrics")):
            translated["usage"] = {_USAGE.get(name, name): value for name, value in metrics.items()}
        status, output = response.get("status"), response.get("output")
        message = None if json_codec.is_absent(output) else {"role": "assistant", "content": _content(output)}
        reason = _REASONS.get(status) if isinstance(status, str) else None
        if message is not None or reason is not None:
            translated["choices"] = [choice_of(message, reason, native_reason=status if reason else None)]
        return translated

    def translated_chunk(self, chunk: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return an event of a stream, or the prediction it belongs to, as a chunk of Chat Completions."""
        kind, data = chunk.get("event"), chunk.get("data")
        if kind is None:
            return _head(chunk) if "status" in chunk else chunk
        if kind == "output":
            return {"choices": [choice_of(delta={"role": "assistant", "content": data})]}
        if kind == "error":
            return {"error": {"message": data}}
        if kind != "done":
            return None
        # Empty, or why it ended before it was complete.
        reason = accessors.fields(json_codec.decode(data.encode()) if isinstance(data, str) else data).get("reason")
        known = _REASONS.get(reason) if isinstance(reason, str) else "stop"
        return {"choices": [choice_of(reason=known or reason, native_reason=reason, delta={})]}


def _head(prediction: Mapping[str, Any]) -> dict[str, Any]:
    return {name: prediction[name] for name in ("id", "model") if prediction.get(name)}


def _several(value: object) -> list[Any]:
    return [one for one in (accessors.items(value) or [value]) if isinstance(one, str)]


def _content(output: object) -> object:
    """Return an output as the content of a message: texts are one text, files are parts."""
    if isinstance(output, str):
        output = [output]
    parts = accessors.items(output)
    if not parts or not all(isinstance(part, str) for part in parts):
        return json_codec.encode(output)
    if not any(_is_file(part) for part in parts):
        return "".join(parts)
    return [
        {"type": "image_url", "image_url": part} if _is_file(part) else {"type": "text", "text": part} for part in parts
    ]


def _is_file(text: str) -> bool:
    return text.startswith(("https://", "data:")) and " " not in text


REPLICATE_PREDICTION: Final = _ReplicatePrediction()
