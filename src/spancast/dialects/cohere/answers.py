"""Canned answers of Cohere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from spancast.dialects.accessors import items
from spancast.dialects.canned_answers import CannedAnswer, CannedAnswers, EchoAnswers, Json, error_of, split


class _ChatAnswers(EchoAnswers):
    """Answers of ``/v2/chat``."""

    paths = ("/v2/chat",)
    model = "command-a-03-2025"
    id_prefix = "co-"

    def whole(self, text: str, *, model: str, tokens: tuple[int, int], cost: float | None, answer_id: str) -> Json:  # noqa: ARG002 - the parent's
        """Return a whole answer of ``tokens`` billed input and output tokens."""
        tokens_in, tokens_out = tokens
        return {
            "id": answer_id,
            "finish_reason": "COMPLETE",
            "message": {"role": "assistant", "content": [{"type": "text", "text": text}]},
            "usage": {
                "billed_units": {"input_tokens": tokens_in, "output_tokens": tokens_out},
                "tokens": {"input_tokens": tokens_in + 60, "output_tokens": tokens_out + 2},
            },
        }

    def events(self, answer: Json, body: Mapping[str, Any], *, openrouter: bool) -> list[Json]:  # noqa: ARG002 - the parent's
        """Return ``answer`` as stream events."""
        (content,) = answer["message"]["content"]
        start: Json = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
        return [
            {"type": "message-start", "id": answer["id"], "delta": {"message": start}},
            _content("content-start", {"type": "text", "text": ""}),
            *(_content("content-delta", {"text": piece}) for piece in split(content["text"], 2)),
            {"type": "content-end", "index": 0},
            {
                "type": "message-end",
                "id": answer["id"],
                "delta": {"finish_reason": answer["finish_reason"], "usage": answer["usage"]},
            },
        ]

    def error_body(self, status: int, *, openrouter: bool) -> Json:
        """Return an error in Cohere's form."""
        return _error_body(status, openrouter=openrouter)


def _content(kind: str, content: Json) -> Json:
    return {"type": kind, "index": 0, "delta": {"message": {"content": content}}}


class _EmbedAnswers(CannedAnswers):
    """Answers of ``/v2/embed`` and ``/v1/embed``: the same vector for each text."""

    def serves(self, path: str) -> bool:
        """Return whether ``path`` ends with that of an endpoint."""
        return path.endswith(("/v1/embed", "/v2/embed"))

    def answer(self, path: str, body: Mapping[str, Any], *, serial: int, openrouter: bool) -> CannedAnswer:  # noqa: ARG002 - the protocol's
        """Return a vector per text; four characters count as a token."""
        texts = [str(text) for text in items(body.get("texts"))]
        answer: Json = {
            "id": f"emb-{serial}",
            "texts": texts,
            "embeddings": {"float": [[0.125, -0.5, 0.25] for _ in texts]},
            "meta": {
                "api_version": {"version": "2"},
                "billed_units": {"input_tokens": sum(-(-len(text) // 4) for text in texts)},
            },
            "response_type": "embeddings_by_type",
        }
        return CannedAnswer(answer=answer, events=None)

    def error_body(self, status: int, *, openrouter: bool) -> Json:
        """Return an error in Cohere's form."""
        return _error_body(status, openrouter=openrouter)


def _error_body(status: int, *, openrouter: bool) -> Json:  # noqa: ARG001 - the protocol's
    return {"id": "e-1", "message": error_of(status)[0]}


CHAT: Final = _ChatAnswers()
EMBED: Final = _EmbedAnswers()
