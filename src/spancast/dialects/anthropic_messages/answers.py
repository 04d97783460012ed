"""Canned answers of Anthropic Messages, whole and streamed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from spancast.dialects.canned_answers import (
    EchoAnswers,
    Json,
    ToolCalls,
    compact,
    error_of,
    numbered,
    openrouter_cost,
    openrouter_provider,
    split,
)


def messages_answer(  # noqa: PLR0913 - all keyword, all optional
    text: str | None = "Hello!",
    *,
    model: str = "claude-sonnet-5",
    tool_calls: ToolCalls = (),
    reasoning: str | None = None,
    usage: Mapping[str, Any] | None = None,
    cost: float | None = None,
    answer_id: str = "msg_1",
) -> Json:
    """Return a ``message``; the parameters are those of ``chat_answer``. ``reasoning`` is a signed thinking block."""
    content: list[Json] = []
    if reasoning is not None:
        content.append({"type": "thinking", "thinking": reasoning, "signature": "c2lnbmF0dXJl"})
    if text is not None:
        content.append({"type": "text", "text": text})
    for call_id, name, arguments in numbered(tool_calls):
        content.append({"type": "tool_use", "id": call_id, "name": name, "input": orjson.loads(arguments)})
    answer: Json = {
        "id": answer_id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": "tool_use" if tool_calls else "end_turn",
        "stop_sequence": None,
        "usage": dict(usage if usage is not None else _messages_usage(25, 10)),
    }
    if cost is not None:
        answer["provider"] = openrouter_provider(model)
        answer["usage"] |= openrouter_cost(cost, "upstream_inference_input_cost", "upstream_inference_output_cost")
    return answer


def messages_events(answer: Mapping[str, Any], *, pieces: int = 2) -> list[Json]:
    """Return ``answer`` as stream events, each text and each tool input cut in up to ``pieces`` parts.

    As on the real wire ``message_start`` has the input tokens and one output token, and
    ``message_delta`` the cumulative usage, which is the answer's own.
    """
    usage = answer["usage"]
    begun: Json = {**answer, "content": [], "stop_reason": None, "stop_sequence": None}
    begun["usage"] = {**usage, "output_tokens": 1}
    ended = {"stop_reason": answer["stop_reason"], "stop_sequence": answer["stop_sequence"]}
    events: list[Json] = [{"type": "message_start", "message": begun}, {"type": "ping"}]
    for index, block in enumerate(answer["content"]):
        start, deltas = _messages_block(block, pieces)
        events.append({"type": "content_block_start", "index": index, "content_block": start})
        events += ({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas)
        events.append({"type": "content_block_stop", "index": index})
    events.append({"type": "message_delta", "delta": ended, "usage": usage})
    events.append({"type": "message_stop"})
    return events


def _messages_block(block: Mapping[str, Any], pieces: int) -> tuple[Json, list[Json]]:
    kind = block["type"]
    if kind == "text":
        return {**block, "text": ""}, [{"type": "text_delta", "text": part} for part in split(block["text"], pieces)]
    if kind == "tool_use":
        parts = split(compact(block["input"]), pieces)
        return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": part} for part in parts]
    if kind == "thinking":
        deltas: list[Json] = [{"type": "thinking_delta", "thinking": part} for part in split(block[kind], pieces)]
        deltas.append({"type": "signature_delta", "signature": block["signature"]})
        return {**block, "thinking": "", "signature": ""}, deltas
    # Server tools, redacted thinking and the like arrive whole at their start.
    return dict(block), []


def _messages_usage(tokens_in: int, tokens_out: int) -> Json:
    cache = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    return {"input_tokens": tokens_in, **cache, "output_tokens": tokens_out}


class _MessagesAnswers(EchoAnswers):
    """Answers of ``/messages``."""

    # The last ones are Vertex AI's, which have the model in the path.
    paths = ("/messages", ":rawPredict", ":streamRawPredict")
    model = "claude-sonnet-5"
    id_prefix = "msg_"

    def whole(self, text: str, *, model: str, tokens: tuple[int, int], cost: float | None, answer_id: str) -> Json:
        """Return a whole answer of ``tokens`` input and output tokens."""
        return messages_answer(text, model=model, usage=_messages_usage(*tokens), cost=cost, answer_id=answer_id)

    def events(self, answer: Json, body: Mapping[str, Any], *, openrouter: bool) -> list[Json]:  # noqa: ARG002 - the same for every request
        """Return ``answer`` as stream events."""
        return messages_events(answer)

    def error_body(self, status: int, *, openrouter: bool) -> Json:  # noqa: ARG002 - OpenRouter answers alike
        """Return an error in Anthropic's envelope."""
        message, _, kind = error_of(status)
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


ANSWERS: Final = _MessagesAnswers()
