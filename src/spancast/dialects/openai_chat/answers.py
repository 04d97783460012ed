"""Canned answers of OpenAI Chat Completions, whole and streamed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from spancast.dialects import accessors
from spancast.dialects.canned_answers import (
    CREATED,
    EchoAnswers,
    Json,
    ToolCalls,
    numbered,
    openrouter_cost,
    openrouter_provider,
    split,
)


def chat_answer(  # noqa: PLR0913 - all keyword, all optional
    text: str | None = "Hello!",
    *,
    model: str = "gpt-4o-mini",
    tool_calls: ToolCalls = (),
    reasoning: str | None = None,
    usage: Mapping[str, Any] | None = None,
    cost: float | None = None,
    answer_id: str = "chatcmpl-1",
) -> Json:
    """Return a ``chat.completion``.

    ``usage`` is in this format's own keys (default: 25 prompt and 10 completion tokens).
    With ``cost`` (USD) it is an answer of OpenRouter: ``provider``, ``native_finish_reason``, ``usage.cost``.
    """
    message: Json = {"role": "assistant", "content": text, "refusal": None}
    if reasoning is not None:
        message["reasoning"] = reasoning
    if tool_calls:
        message["tool_calls"] = [
            {"index": index, "id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
            for index, (call_id, name, arguments) in enumerate(numbered(tool_calls))
        ]
    reason = "tool_calls" if tool_calls else "stop"
    answer: Json = {
        "id": answer_id,
        "object": "chat.completion",
        "created": CREATED,
        "model": model,
        "system_fingerprint": None,
        "choices": [{"index": 0, "message": message, "finish_reason": reason, "logprobs": None}],
        "usage": dict(usage if usage is not None else _chat_usage(25, 10)),
    }
    if cost is not None:
        answer["provider"] = openrouter_provider(model)
        answer["choices"][0]["native_finish_reason"] = reason
        answer["usage"] |= openrouter_cost(
            cost, "upstream_inference_prompt_cost", "upstream_inference_completions_cost"
        )
    return answer


def chat_chunks(answer: Mapping[str, Any], *, pieces: int = 2, include_usage: bool = True) -> list[Json]:
    """Return ``answer`` as chunks, each text and each argument string cut in up to ``pieces`` parts.

    Usage, where the answer has it and ``include_usage``, comes in a last chunk without choices.
    """
    head = {key: value for key, value in answer.items() if key not in {"choices", "usage"}}
    head["object"] = "chat.completion.chunk"
    chunks = [{**head, "choices": [choice]} for whole in answer["choices"] for choice in _chat_choices(whole, pieces)]
    if include_usage and answer.get("usage"):
        chunks.append({**head, "choices": [], "usage": answer["usage"]})
    return chunks


def _chat_choices(choice: Mapping[str, Any], pieces: int) -> Iterator[Json]:
    for delta in _chat_deltas(choice["message"], pieces):
        yield {"index": choice["index"], "delta": delta, "finish_reason": None, "logprobs": None}
    yield {**{key: value for key, value in choice.items() if key != "message"}, "delta": {}}


def _chat_deltas(message: Mapping[str, Any], pieces: int) -> Iterator[Json]:
    streamed = ("reasoning", "refusal", "content")
    whole = {key: value for key, value in message.items() if value and key not in {*streamed, "tool_calls"}}
    yield {**whole, "content": None if message.get("content") is None else ""}
    for name in streamed:
        for part in split(message.get(name), pieces):
            yield {name: part}
    for index, call in enumerate(message.get("tool_calls") or ()):
        function = call["function"]
        yield {"tool_calls": [{**call, "index": index, "function": {**function, "arguments": ""}}]}
        for part in split(function["arguments"], pieces):
            yield {"tool_calls": [{"index": index, "function": {"arguments": part}}]}


def _chat_usage(tokens_in: int, tokens_out: int) -> Json:
    return {
        "prompt_tokens": tokens_in,
        "completion_tokens": tokens_out,
        "total_tokens": tokens_in + tokens_out,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


class _ChatAnswers(EchoAnswers):
    """Answers of ``/chat/completions`` and of Writer's path."""

    paths = ("/chat/completions", "/v1/chat")
    model = "gpt-4o-mini"
    id_prefix = "chatcmpl-"
    done = True

    def whole(self, text: str, *, model: str, tokens: tuple[int, int], cost: float | None, answer_id: str) -> Json:
        """Return a whole answer of ``tokens`` input and output tokens."""
        return chat_answer(text, model=model, usage=_chat_usage(*tokens), cost=cost, answer_id=answer_id)

    def events(self, answer: Json, body: Mapping[str, Any], *, openrouter: bool) -> list[Json]:
        """Return ``answer`` as stream events."""
        asked = accessors.fields(body.get("stream_options")).get("include_usage")
        return chat_chunks(answer, include_usage=bool(asked or openrouter))


class _CompletionsAnswers(EchoAnswers):
    """Answers of ``/completions``."""

    paths = ("/completions",)
    model = "gpt-3.5-turbo-instruct"
    id_prefix = "cmpl-"
    done = True

    def whole(self, text: str, *, model: str, tokens: tuple[int, int], cost: float | None, answer_id: str) -> Json:
        """Return a whole answer of ``tokens`` input and output tokens."""
        answer = chat_answer(text, model=model, usage=_chat_usage(*tokens), cost=cost, answer_id=answer_id)
        choices = [{"index": 0, "text": text, "finish_reason": "stop", "logprobs": None}]
        return {**answer, "object": "text_completion", "choices": choices}

    def events(self, answer: Json, body: Mapping[str, Any], *, openrouter: bool) -> list[Json]:
        """Return ``answer`` as stream events."""
        asked = accessors.fields(body.get("stream_options")).get("include_usage")
        head = {name: value for name, value in answer.items() if name != "usage"}
        (choice,) = answer["choices"]
        pieces = [*({"text": piece, "finish_reason": None} for piece in split(choice["text"], 2)), {"text": ""}]
        events: list[Json] = [{**head, "choices": [{**choice, **piece}]} for piece in pieces]
        return [*events, {**head, "choices": [], "usage": answer["usage"]}] if asked or openrouter else events


ANSWERS: Final = _ChatAnswers()
COMPLETIONS: Final = _CompletionsAnswers()
