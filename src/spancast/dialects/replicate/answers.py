"""Canned answers of Replicate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from spancast.dialects.accessors import fields
from spancast.dialects.canned_answers import CannedAnswer, EchoAnswers, Json, error_of, split


class _PredictionAnswers(EchoAnswers):
    """Answers of ``…/predictions``: predictions that have ended. Their stream would be another request."""

    paths = ("/predictions",)
    model = "meta/llama"
    id_prefix = "p"

    def answer(self, path: str, body: Mapping[str, Any], *, serial: int, openrouter: bool) -> CannedAnswer:
        """Return an answer that echoes the prompt."""
        model = path.partition("/models/")[2].removesuffix(self.paths[0])
        asked = {**fields(body.get("input")), "model": model or None, "stream": False}
        return super().answer(path, asked, serial=serial, openrouter=openrouter)

    def whole(self, text: str, *, model: str, tokens: tuple[int, int], cost: float | None, answer_id: str) -> Json:  # noqa: ARG002 - the parent's
        """Return a whole answer of ``tokens`` input and output tokens."""
        counts = {"predict_time": 0.4, "input_token_count": tokens[0], "output_token_count": tokens[1]}
        state = {"id": answer_id, "model": model, "version": "v1", "status": "succeeded", "error": None, "logs": ""}
        urls = {"get": f"/v1/predictions/{answer_id}", "stream": f"/v1/stream/{answer_id}"}
        return {**state, "output": split(text, 2), "metrics": counts, "urls": urls}

    def events(self, answer: Json, body: Mapping[str, Any], *, openrouter: bool) -> list[Json]:  # noqa: ARG002 - the parent's
        """Return ``answer`` as the events of its stream."""
        return [*({"event": "output", "data": text} for text in answer["output"]), {"event": "done", "data": "{}"}]

    def error_body(self, status: int, *, openrouter: bool) -> Json:  # noqa: ARG002 - the parent's
        """Return an error in Replicate's form."""
        message, code, _ = error_of(status)
        return {"title": code, "detail": message, "status": status}


PREDICTION: Final = _PredictionAnswers()
