"""Canned answers of Gemini: generated content, whole and streamed, and embeddings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from spancast.dialects import accessors
from spancast.dialects.canned_answers import (
    CannedAnswer,
    CannedAnswers,
    Json,
    ToolCalls,
    error_of,
    last_user_text,
    split,
)
from spancast.dialects.gemini.parts import content_messages, named

_MODEL: Final = re.compile(r"(?:.*/)?([^/]+):[A-Za-z]+")
_VECTOR: Final = (0.125, -0.5, 0.25)
_STATUSES: Final[Mapping[int, str]] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def gemini_answer(  # noqa: PLR0913 - all keyword, all optional
    text: str | None = "Hello!",
    *,
    model: str = "gemini-3.8-flash",
    tool_calls: ToolCalls = (),
    reasoning: str | None = None,
    tokens: tuple[int, int] = (25, 10),
    answer_id: str = "resp-1",
) -> Json:
    """Return a ``GenerateContentResponse`` of ``tokens`` input and output tokens."""
    parts: list[Json] = [] if reasoning is None else [{"text": reasoning, "thought": True}]
    if text is not None:
        parts.append({"text": text})
    for number, (name, arguments) in enumerate(tool_calls, start=1):
        parts.append({"functionCall": {"id": f"call_{number}", "name": name, "args": dict(arguments)}})
    return {
        "candidates": [{"content": {"parts": parts, "role": "model"}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {
            "promptTokenCount": tokens[0],
            "candidatesTokenCount": tokens[1],
            "totalTokenCount": sum(tokens),
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": tokens[0]}],
        },
        "modelVersion": model,
        "responseId": answer_id,
    }


def gemini_chunks(answer: Mapping[str, Any], *, pieces: int = 2) -> list[Json]:
    """Return ``answer`` as chunks, each text cut in up to ``pieces`` parts; the usage grows with every chunk."""
    (candidate,) = answer["candidates"]
    parts: list[Json] = []
    for part in candidate["content"]["parts"]:
        texts = split(part.get("text"), pieces)
        parts += [{**part, "text": text} for text in texts] if texts else [part]
    usage = answer["usageMetadata"]
    early = {"promptTokenCount": usage["promptTokenCount"], "totalTokenCount": usage["promptTokenCount"]}
    chunks: list[Json] = [
        {**answer, "candidates": [{"content": {"parts": [part], "role": "model"}, "index": 0}], "usageMetadata": early}
        for part in parts
    ]
    end = {**candidate, "content": {"parts": [{"text": ""}], "role": "model"}}
    return [*chunks, {**answer, "candidates": [end]}]


class _GoogleAnswers(CannedAnswers):
    """Answers at paths that end with one of ``methods``."""

    methods: tuple[str, ...]

    def serves(self, path: str) -> bool:
        """Return whether ``path`` calls one of the methods."""
        return path.endswith(self.methods)

    def error_body(self, status: int, *, openrouter: bool) -> Json:  # noqa: ARG002 - Google's in any case
        """Return an error in Google's envelope."""
        return google_error(status)


class _GeminiAnswers(_GoogleAnswers):
    methods = (":generateContent", ":streamGenerateContent")

    def answer(self, path: str, body: Mapping[str, Any], *, serial: int, openrouter: bool) -> CannedAnswer:  # noqa: ARG002 - the protocol's
        """Return an answer that echoes the last user message; four characters count as a token."""
        text = _last_text(body) or "Hello!"
        tokens = -(-len(text) // 4)
        answer = gemini_answer(
            text, model=_MODEL.sub(r"\1", path), tokens=(tokens + 8, tokens), answer_id=f"resp-{serial}"
        )
        is_stream = path.endswith(self.methods[1])
        return CannedAnswer(answer=answer, events=gemini_chunks(answer) if is_stream else None)


class _EmbeddingsAnswers(_GoogleAnswers):
    methods = (":batchEmbedContents", ":embedContent", ":predict")

    def answer(self, path: str, body: Mapping[str, Any], *, serial: int, openrouter: bool) -> CannedAnswer:  # noqa: ARG002 - the protocol's
        """Return the same vector for each content."""
        count = len(accessors.items(body.get("requests")) or accessors.items(body.get("instances"))) or 1
        vector: Json = {"values": list(_VECTOR)}
        if path.endswith(":predict"):
            predictions = [{"embeddings": {**vector, "statistics": {"token_count": 4}}}] * count
            return CannedAnswer(answer={"predictions": predictions}, events=None)
        usage = {"promptTokenCount": 4 * count, "totalTokenCount": 4 * count}
        found: Json = {"embedding": vector} if path.endswith(":embedContent") else {"embeddings": [vector] * count}
        return CannedAnswer(answer={**found, "usageMetadata": usage}, events=None)


def google_error(status: int) -> Json:
    """Return the JSON of an error of a Google API with HTTP ``status``."""
    message, _, _ = error_of(status)
    return {"error": {"code": status, "message": message, "status": _STATUSES.get(status, "UNKNOWN")}}


def _last_text(body: Mapping[str, Any]) -> str:
    asked = [message for message in content_messages(named(body).get("contents")) if message["role"] == "user"]
    parts: list[Json] = asked[-1]["parts"] if asked else []
    return "".join(str(part.get("content") or "") for part in parts) or last_user_text(body)


ANSWERS: Final = _GeminiAnswers()
EMBEDDINGS: Final = _EmbeddingsAnswers()
