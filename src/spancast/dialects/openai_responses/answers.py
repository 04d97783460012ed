"""Canned answers of OpenAI Responses, whole and streamed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from spancast.dialects.canned_answers import CREATED, EchoAnswers, Json, ToolCalls, numbered, openrouter_cost, split


def responses_answer(  # noqa: PLR0913 - all keyword, all optional
    text: str | None = "Hello!",
    *,
    model: str = "gpt-4o-mini",
    tool_calls: ToolCalls = (),
    reasoning: str | None = None,
    usage: Mapping[str, Any] | None = None,
    cost: float | None = None,
    answer_id: str = "resp_1",
) -> Json:
    """Return a completed ``response``; the parameters are those of ``chat_answer``."""
    answer: Json = {
        "id": answer_id,
        "object": "response",
        "created_at": CREATED,
        "completed_at": CREATED + 1,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": model,
        "output": _responses_output(text, tool_calls, reasoning),
        "parallel_tool_calls": True,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
        "temperature": 1.0,
        "top_p": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "usage": dict(usage if usage is not None else _responses_usage(25, 10)),
    }
    if cost is not None:
        answer["usage"] |= openrouter_cost(cost, "upstream_inference_input_cost", "upstream_inference_output_cost")
    return answer


def _responses_output(text: str | None, tool_calls: ToolCalls, reasoning: str | None) -> list[Json]:
    output: list[Json] = []
    if reasoning is not None:
        output.append({"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": reasoning}]})
    if text is not None:
        part: Json = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        output.append({"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [part]})
    for index, (call_id, name, arguments) in enumerate(numbered(tool_calls), start=1):
        call = {"type": "function_call", "id": f"fc_{index}", "call_id": call_id, "name": name, "arguments": arguments}
        output.append({**call, "status": "completed"})
    return output


def responses_events(answer: Mapping[str, Any], *, pieces: int = 2) -> list[Json]:
    """Return ``answer`` as stream events, each text and each argument string cut in up to ``pieces`` parts.

    The last event is named after the answer's ``status`` and carries the answer as it is, usage included.
    """
    begun: Json = {**answer, "status": "in_progress", "completed_at": None, "output": [], "usage": None}
    events: list[Json] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    for index, item in enumerate(answer["output"]):
        place = {"item_id": item["id"], "output_index": index}
        events.append({"type": "response.output_item.added", "output_index": index, "item": _begun_item(item)})
        events += ({**event, **place} for event in _responses_item(item, pieces))
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    events.append({"type": f"response.{answer['status']}", "response": dict(answer)})
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def _begun_item(item: Mapping[str, Any]) -> Json:
    empty: Json = {"status": "in_progress", "content": [], "summary": [], "arguments": ""}
    return {key: empty.get(key, value) for key, value in item.items()}


def _responses_item(item: Mapping[str, Any], pieces: int) -> Iterator[Json]:
    for index, part in enumerate(item.get("content") or ()):
        kind, field = ("refusal", "refusal") if part["type"] == "refusal" else ("output_text", "text")
        place = {"content_index": index}
        yield {"type": "response.content_part.added", **place, "part": {**part, field: ""}}
        yield from _texts(f"response.{kind}", field, part[field], pieces, {**place, "logprobs": []})
        yield {"type": "response.content_part.done", **place, "part": part}
    for index, part in enumerate(item.get("summary") or ()):
        place = {"summary_index": index}
        yield {"type": "response.reasoning_summary_part.added", **place, "part": {**part, "text": ""}}
        yield from _texts("response.reasoning_summary_text", "text", part["text"], pieces, place)
        yield {"type": "response.reasoning_summary_part.done", **place, "part": part}
    if item["type"] == "function_call":
        done = {"name": item["name"]}
        yield from _texts("response.function_call_arguments", "arguments", item["arguments"], pieces, done)


def _texts(prefix: str, field: str, text: str, pieces: int, extra: Json) -> Iterator[Json]:
    for part in split(text, pieces):
        yield {"type": f"{prefix}.delta", "delta": part, **extra}
    yield {"type": f"{prefix}.done", field: text, **extra}


def _responses_usage(tokens_in: int, tokens_out: int) -> Json:
    return {
        "input_tokens": tokens_in,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": tokens_out,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": tokens_in + tokens_out,
    }


class _ResponsesAnswers(EchoAnswers):
    """Answers of ``/responses``."""

    paths = ("/responses",)
    model = "gpt-4o-mini"
    id_prefix = "resp_"

    def whole(self, text: str, *, model: str, tokens: tuple[int, int], cost: float | None, answer_id: str) -> Json:
        """Return a whole answer of ``tokens`` input and output tokens."""
        return responses_answer(text, model=model, usage=_responses_usage(*tokens), cost=cost, answer_id=answer_id)

    def events(self, answer: Json, body: Mapping[str, Any], *, openrouter: bool) -> list[Json]:  # noqa: ARG002 - the same for every request
        """Return ``answer`` as stream events."""
        return responses_events(answer)


ANSWERS: Final = _ResponsesAnswers()
