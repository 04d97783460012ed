"""Canned answers of ``InvokeModel`` in the format of the request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

from spancast.dialects.anthropic_messages.answers import messages_answer, messages_events
from spancast.dialects.bedrock_converse.answers import aws_error_body, converse_answer, converse_events
from spancast.dialects.bedrock_invoke.families import family_of_request, operation_of
from spancast.dialects.bedrock_invoke.reader import METRICS
from spancast.dialects.canned_answers import CannedAnswer, CannedAnswers, Json, last_user_text, split
from spancast.dialects.openai_chat.answers import chat_answer, chat_chunks

_STREAM: Final = "/invoke-with-response-stream"


class _InvokeAnswers(CannedAnswers):
    """Answers of ``/invoke`` and ``/invoke-with-response-stream``: Messages, Converse, chat, Llama's or a vector."""

    def serves(self, path: str) -> bool:
        """Return whether ``path`` ends with that of an endpoint."""
        return path.endswith(("/invoke", _STREAM))

    def answer(self, path: str, body: Mapping[str, Any], *, serial: int, openrouter: bool) -> CannedAnswer:  # noqa: ARG002 - the protocol's
        """Return an answer that echoes the last user message; four characters count as a token."""
        model = unquote(path.rpartition("/")[0].rpartition("/")[2])
        text = last_user_text(body) or str(body.get("inputText") or "Hello!")
        tokens_out = -(-len(text) // 4)
        if operation_of({**body, "model": model}) == "embeddings":
            return CannedAnswer(
                answer={"embedding": [0.125, -0.5], "inputTextTokenCount": tokens_out}, events=None, aws="chunks"
            )
        whole, events = _answer(text, {**body, "model": model}, tokens_out, serial)
        is_stream = path.endswith(_STREAM)
        return CannedAnswer(answer=whole, events=_chunks(events, tokens_out) if is_stream else None, aws="chunks")

    def error_body(self, status: int, *, openrouter: bool) -> Json:  # noqa: ARG002 - the same for every server
        """Return an error of AWS."""
        return aws_error_body(status)


def _answer(text: str, body: Mapping[str, Any], tokens_out: int, serial: int) -> tuple[Json, list[Json]]:
    family, model = family_of_request(body), str(body["model"])
    if family == "anthropic":
        usage = {"input_tokens": tokens_out + 8, "output_tokens": tokens_out}
        whole = messages_answer(text, model=model, usage=usage, answer_id=f"msg_bdrk_{serial}")
        return whole, messages_events(whole)
    if family == "converse":
        whole = converse_answer(text)
        return whole, converse_events(whole)
    if family == "chat":
        whole = chat_answer(text, model=model, answer_id=f"chatcmpl-{serial}")
        return whole, chat_chunks(whole)
    counts = {"prompt_token_count": tokens_out + 8, "generation_token_count": tokens_out}
    last = {**counts, "stop_reason": "stop"}
    parts = [{"generation": part, "stop_reason": None} for part in split(text, 2)]
    return {"generation": text, **last}, [*parts, {"generation": "", **last}]


def _chunks(events: list[Json], tokens_out: int) -> list[Json]:
    metrics = {
        "inputTokenCount": tokens_out + 8, "outputTokenCount": tokens_out, "invocationLatency": 120,
        "firstByteLatency": 30,
    }  # fmt: skip
    return [*events[:-1], {**events[-1], METRICS: metrics}]


ANSWERS: Final = _InvokeAnswers()
