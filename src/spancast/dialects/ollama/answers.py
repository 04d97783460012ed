"""Canned answers of Ollama."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from spancast.dialects.accessors import items
from spancast.dialects.canned_answers import CannedAnswer, CannedAnswers, EchoAnswers, Json, error_of, split

_CREATED: Final = "2026-11-01T10:00:00.000Z"
_DURATIONS: Final = {
    "total_duration": 900_000_000, "load_duration": 100_000_000, "prompt_eval_duration": 300_000_000,
    "eval_duration": 500_000_000,
}  # fmt: skip


class _ChatAnswers(EchoAnswers):
    """Answers of ``/api/chat``, which streams unless the request says otherwise."""

    paths = ("/api/chat",)
    model = "llama3.2"
    id_prefix = ""
    ndjson = True

    def answer(self, path: str, body: Mapping[str, Any], *, serial: int, openrouter: bool) -> CannedAnswer:
        """Return an answer that echoes the last user message."""
        return super().answer(path, {"stream": True, **body}, serial=serial, openrouter=openrouter)

    def whole(self, text: str, *, model: str, tokens: tuple[int, int], cost: float | None, answer_id: str) -> Json:  # noqa: ARG002 - the parent's
        """Return a whole answer of ``tokens`` input and output tokens."""
        counts = {"prompt_eval_count": tokens[0], "eval_count": tokens[1]}
        head = {"model": model, "created_at": _CREATED, **self.message(text)}
        return {**head, "done": True, "done_reason": "stop", **_DURATIONS, **counts}

    def message(self, text: str) -> Json:
        """Return the fields with ``text``."""
        return {"message": {"role": "assistant", "content": text}}

    def events(self, answer: Json, body: Mapping[str, Any], *, openrouter: bool) -> list[Json]:  # noqa: ARG002 - the parent's
        """Return ``answer`` as stream events."""
        text = answer["message"]["content"] if "message" in answer else answer["response"]
        head = {"model": answer["model"], "created_at": _CREATED}
        parts: list[Json] = [{**head, **self.message(piece), "done": False} for piece in split(text, 2)]
        return [*parts, {**answer, **self.message("")}]

    def error_body(self, status: int, *, openrouter: bool) -> Json:
        """Return an error in Ollama's form."""
        return _error_body(status, openrouter=openrouter)


class _GenerateAnswers(_ChatAnswers):
    """Answers of ``/api/generate``."""

    paths = ("/api/generate",)

    def message(self, text: str) -> Json:
        """Return the fields with ``text``."""
        return {"response": text}


class _EmbedAnswers(CannedAnswers):
    """Answers of ``/api/embed``: the same vector for each text."""

    def serves(self, path: str) -> bool:
        """Return whether ``path`` ends with that of the endpoint."""
        return path.endswith("/api/embed")

    def answer(self, path: str, body: Mapping[str, Any], *, serial: int, openrouter: bool) -> CannedAnswer:  # noqa: ARG002 - the protocol's
        """Return a vector per text; four characters count as a token."""
        given = body.get("input") or ""
        texts = [given] if isinstance(given, str) else [str(text) for text in items(given)]
        answer: Json = {
            "model": body.get("model"),
            "embeddings": [[0.125, -0.5, 0.25] for _ in texts],
            "total_duration": 900_000_000,
            "load_duration": 100_000_000,
            "prompt_eval_count": sum(-(-len(text) // 4) for text in texts),
        }
        return CannedAnswer(answer=answer, events=None)

    def error_body(self, status: int, *, openrouter: bool) -> Json:
        """Return an error in Ollama's form."""
        return _error_body(status, openrouter=openrouter)


def _error_body(status: int, *, openrouter: bool) -> Json:  # noqa: ARG001 - the protocol's
    return {"error": error_of(status)[0]}


CHAT: Final = _ChatAnswers()
GENERATE: Final = _GenerateAnswers()
EMBED: Final = _EmbedAnswers()
