"""Canned answers of servers for models of Hugging Face: generated texts and vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from spancast.dialects.accessors import items
from spancast.dialects.canned_answers import CannedAnswer, CannedAnswers, EchoAnswers, Json, error_of, split

_END: Final = "<|end|>"


class _GenerateAnswers(EchoAnswers):
    """Answers of ``/generate``, with details."""

    paths = ("/generate",)
    model = "smollm2"
    id_prefix = ""

    def answer(self, path: str, body: Mapping[str, Any], *, serial: int, openrouter: bool) -> CannedAnswer:
        """Return an answer that echoes the prompt."""
        return super().answer(path, {**body, "prompt": body.get("inputs")}, serial=serial, openrouter=openrouter)

    def whole(self, text: str, *, model: str, tokens: tuple[int, int], cost: float | None, answer_id: str) -> Json:  # noqa: ARG002 - the parent's
        """Return a whole answer of ``tokens`` input and output tokens."""
        details = {"finish_reason": "eos_token", "generated_tokens": tokens[1], "input_length": tokens[0]}
        return {"generated_text": text, "details": {**details, "seed": None, "prefill": [], "tokens": []}}

    def events(self, answer: Json, body: Mapping[str, Any], *, openrouter: bool) -> list[Json]:  # noqa: ARG002 - the parent's
        """Return ``answer`` as tokens; that of the end has the whole text."""
        tokens: list[Json] = [
            {"index": index, "token": {"id": index, "text": piece, "logprob": -0.1, "special": piece == _END}}
            for index, piece in enumerate([*split(answer["generated_text"], 2), _END], start=1)
        ]
        return [*tokens[:-1], {**tokens[-1], **answer}]

    def error_body(self, status: int, *, openrouter: bool) -> Json:
        """Return an error in the form of these servers."""
        return _error_body(status, openrouter=openrouter)


class _EmbedAnswers(CannedAnswers):
    """Answers of ``/feature-extraction``: the same vector for each text."""

    def serves(self, path: str) -> bool:
        """Return whether ``path`` ends with that of the endpoint."""
        return path.endswith("/feature-extraction")

    def answer(self, path: str, body: Mapping[str, Any], *, serial: int, openrouter: bool) -> CannedAnswer:  # noqa: ARG002 - the protocol's
        """Return a list of vectors, which the protocol has no type for."""
        given = body.get("inputs")
        texts = [given] if isinstance(given, str) else items(given)
        vectors: Any = [[0.125, -0.5, 0.25] for _ in texts]
        return CannedAnswer(answer=vectors, events=None)

    def error_body(self, status: int, *, openrouter: bool) -> Json:
        """Return an error in the form of these servers."""
        return _error_body(status, openrouter=openrouter)


def _error_body(status: int, *, openrouter: bool) -> Json:  # noqa: ARG001 - the protocol's
    message, code, _ = error_of(status)
    return {"error": message, "error_type": code}


GENERATE: Final = _GenerateAnswers()
EMBED: Final = _EmbedAnswers()
