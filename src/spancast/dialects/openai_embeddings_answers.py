"""Canned answers of embeddings."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from typing import Any, Final

from spancast.dialects.accessors import items
from spancast.dialects.canned_answers import CannedAnswer, CannedAnswers, Json, error_body

_VECTOR: Final = (0.125, -0.5, 0.25)


class _EmbeddingsAnswers(CannedAnswers):
    """Answers of ``/embeddings``: the same vector for each input; four characters count as a token."""

    def serves(self, path: str) -> bool:
        """Return whether ``path`` ends with that of the endpoint."""
        return path.endswith("/embeddings")

    def answer(self, path: str, body: Mapping[str, Any], *, serial: int, openrouter: bool) -> CannedAnswer:  # noqa: ARG002 - the protocol's
        """Return a vector per input."""
        given = body.get("input") or ""
        texts = [given] if isinstance(given, str) else items(given)
        is_base64 = body.get("encoding_format") == "base64"
        vector: Any = base64.b64encode(struct.pack("<3f", *_VECTOR)).decode() if is_base64 else list(_VECTOR)
        tokens = sum(-(-len(str(text)) // 4) for text in texts)
        answer: Json = {
            "object": "list",
            "model": str(body.get("model") or "text-embedding-3-small"),
            "data": [{"object": "embedding", "index": index, "embedding": vector} for index in range(len(texts))],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
        if openrouter:
            answer |= {"id": f"gen-emb-{serial}", "provider": "OpenAI"}
            answer["usage"]["cost"] = tokens * 2e-8
        return CannedAnswer(answer=answer, events=None)

    def error_body(self, status: int, *, openrouter: bool) -> Json:
        """Return an error in OpenRouter's or OpenAI's envelope."""
        return error_body(status, openrouter=openrouter)


ANSWERS: Final = _EmbeddingsAnswers()
