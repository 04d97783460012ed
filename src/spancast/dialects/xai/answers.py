"""Canned answers of xAI's gRPC API, in JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from spancast.dialects.accessors import fields, items
from spancast.dialects.canned_answers import CannedAnswer, EchoAnswers, Json, split

_STREAM: Final = "/xai_api.Chat/GetCompletionChunk"


class _ChatAnswers(EchoAnswers):
    """Answers of the service ``xai_api.Chat``."""

    paths = ("/xai_api.Chat/GetCompletion", _STREAM)
    model = "grok-4"
    id_prefix = "xai-"

    def answer(self, path: str, body: Mapping[str, Any], *, serial: int, openrouter: bool) -> CannedAnswer:
        """Return an answer that echoes the last user message."""
        messages = [{**fields(message), "role": "user"} for message in items(body.get("messages"))]
        asked = {**body, "messages": messages, "stream": path.endswith(_STREAM)}
        return super().answer(path, asked, serial=serial, openrouter=openrouter)

    def whole(self, text: str, *, model: str, tokens: tuple[int, int], cost: float | None, answer_id: str) -> Json:  # noqa: ARG002 - the parent's
        """Return a whole answer of ``tokens`` input and output tokens."""
        tokens_in, tokens_out = tokens
        counts = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}
        message = {"role": "ROLE_ASSISTANT", "content": text}
        outputs = [{"index": 0, "finish_reason": "REASON_STOP", "message": message}]
        return {"id": answer_id, "model": model, "outputs": outputs, "usage": counts}

    def events(self, answer: Json, body: Mapping[str, Any], *, openrouter: bool) -> list[Json]:  # noqa: ARG002 - the parent's
        """Return ``answer`` as stream events."""
        (output,) = answer["outputs"]
        head = {"id": answer["id"], "model": answer["model"]}
        pieces = split(output["message"]["content"], 2)
        chunks: list[Json] = [
            {**head, "outputs": [{"index": 0, "delta": {"role": "ROLE_ASSISTANT", "content": piece}}]}
            for piece in pieces
        ]
        last: Json = {"index": 0, "delta": {}, "finish_reason": "REASON_STOP"}
        return [*chunks, {**head, "outputs": [last], "usage": answer["usage"]}]


CHAT: Final = _ChatAnswers()
