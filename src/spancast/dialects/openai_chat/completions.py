"""Legacy completions (``POST /completions``): prompts instead of messages, a text instead of a message.

Responses and streams are read as those of Chat Completions, which they otherwise equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from spancast.dialects.openai_chat.reader import OpenAIChat
from spancast.model import semconv
from spancast.model.call import Request


class _OpenAICompletions(OpenAIChat):
    """The dialect; stateless."""

    __slots__ = ()

    name: str = "openai_completions"
    operation: str = "text_completion"
    answers: str | None = "spancast.dialects.openai_chat.answers:COMPLETIONS"

    def read_request(self, body: Mapping[str, Any], *, content: bool) -> Request:
        """Read a request body; each prompt is a user message."""
        request = super().read_request(body, content=content)
        # The convention names two types of API, neither of which this is.
        request.attributes.pop(semconv.OPENAI_API_TYPE, None)
        return request


OPENAI_COMPLETIONS: Final = _OpenAICompletions()
