"""Canned answers of Mistral's conversations, whole and streamed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from spancast.dialects.canned_answers import CannedAnswer, EchoAnswers, Json, split

_AT: Final = "2026-11-01T10:00:00Z"


class _ConversationAnswers(EchoAnswers):
    """Answers of ``/v1/conversations`` and the paths below it."""

    model = "mistral-medium-2508"
    id_prefix = "conv-"

    def serves(self, path: str) -> bool:
        """Return whether ``path`` is that of an endpoint."""
        return "/v1/conversations" in path

    def answer(self, path: str, body: Mapping[str, Any], *, serial: int, openrouter: bool) -> CannedAnswer:
        """Return an answer that echoes the last message of the user."""
        return super().answer(path, {**body, "input": body.get("inputs")}, serial=serial, openrouter=openrouter)

    def whole(self, text: str, *, model: str, tokens: tuple[int, int], cost: float | None, answer_id: str) -> Json:  # noqa: ARG002 - Mistral names no cost
        """Return a whole answer of ``tokens`` input and output tokens."""
        entry = {"object": "entry", "type": "message.output", "id": "msg-1", "role": "assistant", "model": model}
        return {
            "object": "conversation.response",
            "conversation_id": answer_id,
            "outputs": [{**entry, "content": text}],
            "usage": {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)},
        }

    def events(self, answer: Json, body: Mapping[str, Any], *, openrouter: bool) -> list[Json]:  # noqa: ARG002 - the parent's
        """Return ``answer`` as stream events."""
        (entry,) = answer["outputs"]
        delta = {"type": "message.output.delta", "created_at": _AT, "output_index": 0, "content_index": 0}
        delta |= {name: entry[name] for name in ("id", "role", "model")}
        started = {"type": "conversation.response.started", "created_at": _AT}
        return [
            {**started, "conversation_id": answer["conversation_id"]},
            *({**delta, "content": piece} for piece in split(entry["content"], 2)),
            {"type": "conversation.response.done", "created_at": _AT, "usage": answer["usage"]},
        ]


CONVERSATIONS: Final = _ConversationAnswers()
