"""Text generation of Hugging Face's servers (Text Generation Inference): a prompt, and its continuation.

A response has no id and no model. Without ``details`` it has no usage, and no finish reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from spancast.dialects import accessors
from spancast.dialects.openai_chat.translated import TranslatedChat, choice_of
from spancast.model.call import Response

_PARAMETERS: Final = {"max_new_tokens": "max_tokens"}
_REASONS: Final = {"eos_token": "stop", "stop_sequence": "stop"}
_USAGE: Final = {"input_length": "prompt_tokens", "generated_tokens": "completion_tokens"}


class _HuggingFaceGenerate(TranslatedChat):
    """The dialect; stateless."""

    __slots__ = ()

    name: str = "huggingface_generate"
    provider: str = "hugging_face"
    operation: str = "text_completion"
    answers: str | None = "spancast.dialects.huggingface.answers:GENERATE"

    def translated_request(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a request as that of Chat Completions; the prompt is a user message."""
        found = {name: value for name, value in body.items() if name not in ("inputs", "parameters")}
        parameters = accessors.fields(body.get("parameters"))
        found |= {_PARAMETERS.get(name, name): value for name, value in parameters.items()}
        return {**found, "messages": [{"role": "user", "content": body.get("inputs")}]}

    def read_response(self, response: object, *, content: bool) -> Response:
        """Read a complete response, which may be a list of one."""
        listed = accessors.items(response)
        return super().read_response(listed[0] if listed else response, content=content)

    def translated_response(self, response: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a complete response as that of Chat Completions."""
        text = response.get("generated_text")
        return response if text is None else _translated(response, message={"role": "assistant", "content": text})

    def translated_chunk(self, chunk: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return a token, the last one with the details, as a chunk of Chat Completions."""
        if "token" not in chunk:
            return chunk
        token = accessors.fields(chunk["token"])
        # The end of a text is a token too.
        text = "" if token.get("special") else token.get("text")
        return _translated(chunk, delta={"role": "assistant", "content": text})

    def is_last(self, event: Mapping[str, Any]) -> bool:
        """Return whether ``event`` has the whole text."""
        return event.get("generated_text") is not None


def _translated(response: Mapping[str, Any], **of_choice: Any) -> dict[str, Any]:  # noqa: ANN401 - a message or its part
    details = accessors.fields(response.get("details"))
    reason = details.get("finish_reason")
    known = _REASONS.get(reason, reason) if isinstance(reason, str) else None
    translated: dict[str, Any] = {"choices": [choice_of(reason=known, native_reason=reason, **of_choice)]}
    usage = {_USAGE[name]: details[name] for name in _USAGE if name in details}
    return {**translated, "usage": usage} if usage else translated


HUGGINGFACE_GENERATE: Final = _HuggingFaceGenerate()
