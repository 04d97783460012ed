"""Canned answers of DashScope."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from spancast.dialects.accessors import fields
from spancast.dialects.canned_answers import CannedAnswer, EchoAnswers, Json, error_of, split


class _ChatAnswers(EchoAnswers):
    """Answers of ``…/generation``. A stream is asked for by a header, so the body of a test says it too."""

    paths = ("/text-generation/generation", "/multimodal-generation/generation")
    model = "qwen-plus"
    id_prefix = "ds-"

    def answer(self, path: str, body: Mapping[str, Any], *, serial: int, openrouter: bool) -> CannedAnswer:
        """Return an answer that echoes the last user message."""
        asked = {**body, **fields(body.get("input")), "stream": fields(body.get("parameters")).get("stream")}
        return super().answer(path, {**asked, "input": None}, serial=serial, openrouter=openrouter)

    def whole(self, text: str, *, model: str, tokens: tuple[int, int], cost: float | None, answer_id: str) -> Json:  # noqa: ARG002 - the parent's
        """Return a whole answer of ``tokens`` input and output tokens."""
        counts = {"input_tokens": tokens[0], "output_tokens": tokens[1], "total_tokens": sum(tokens)}
        choice = {"finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        return {"output": {"choices": [choice]}, "usage": counts, "request_id": answer_id}

    def events(self, answer: Json, body: Mapping[str, Any], *, openrouter: bool) -> list[Json]:  # noqa: ARG002 - the parent's
        """Return ``answer`` as stream events, each with the text so far."""
        (choice,) = answer["output"]["choices"]
        text = ""
        events: list[Json] = []
        for piece in split(choice["message"]["content"], 2):
            text += piece
            message = {"role": "assistant", "content": text}
            events.append({**answer, "output": {"choices": [{"finish_reason": "null", "message": message}]}})
        return [*events, answer]

    def error_body(self, status: int, *, openrouter: bool) -> Json:  # noqa: ARG002 - the parent's
        """Return an error in DashScope's form."""
        message, code, _ = error_of(status)
        return {"code": code, "message": message, "request_id": "r-1"}


CHAT: Final = _ChatAnswers()
