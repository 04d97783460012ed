"""Canned answers of interactions, whole and streamed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from spancast.dialects.canned_answers import EchoAnswers, Json, split
from spancast.dialects.gemini.answers import google_error


def interaction_answer(
    text: str = "Hello!",
    *,
    model: str = "gemini-3.8-flash",
    tokens: tuple[int, int] = (25, 10),
    answer_id: str = "int-1",
) -> Json:
    """Return a completed interaction of ``tokens`` input and output tokens."""
    return {
        "id": answer_id,
        "object": "interaction",
        "model": model,
        "status": "completed",
        "created": "2026-11-01T10:00:00Z",
        "steps": [{"type": "model_output", "content": [{"type": "text", "text": text}]}],
        "usage": {"total_input_tokens": tokens[0], "total_output_tokens": tokens[1], "total_tokens": sum(tokens)},
    }


def interaction_events(answer: Mapping[str, Any], *, pieces: int = 2) -> list[Json]:
    """Return ``answer`` as stream events, its text cut in up to ``pieces`` parts."""
    ends = {name: value for name, value in answer.items() if name != "steps"}
    begun = {name: value for name, value in ends.items() if name != "usage"} | {"status": "in_progress"}
    events: list[Json] = [{"event_type": "interaction.created", "interaction": begun}]
    for index, step in enumerate(answer["steps"]):
        events.append({"event_type": "step.start", "index": index, "step": {"type": step["type"]}})
        texts = [piece for content in step["content"] for piece in split(content["text"], pieces)]
        events += [
            {"event_type": "step.delta", "index": index, "delta": {"type": "text", "text": piece}} for piece in texts
        ]
        events.append({"event_type": "step.stop", "index": index})
    return [*events, {"event_type": "interaction.completed", "interaction": ends}]


class _InteractionAnswers(EchoAnswers):
    """Answers of ``/interactions``."""

    paths = ("/interactions",)
    model = "gemini-3.8-flash"
    id_prefix = "int-"
    done = True

    def whole(self, text: str, *, model: str, tokens: tuple[int, int], cost: float | None, answer_id: str) -> Json:  # noqa: ARG002 - Google names no cost
        """Return a whole answer of ``tokens`` input and output tokens."""
        return interaction_answer(text, model=model, tokens=tokens, answer_id=answer_id)

    def events(self, answer: Json, body: Mapping[str, Any], *, openrouter: bool) -> list[Json]:  # noqa: ARG002 - the same for every request
        """Return ``answer`` as stream events."""
        return interaction_events(answer)

    def error_body(self, status: int, *, openrouter: bool) -> Json:  # noqa: ARG002 - Google's in any case
        """Return an error in Google's envelope."""
        return google_error(status)


ANSWERS: Final = _InteractionAnswers()
