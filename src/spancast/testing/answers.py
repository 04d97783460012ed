"""Canned answers in the providers' wire formats, whole and streamed: plain JSON, for tests and demos.

A streamed answer says what the whole one says: same content, same usage.
Must never: do I/O or depend on an SDK.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson

from spancast.dialects.accessors import fields, items

Json: TypeAlias = dict[str, Any]

ToolCalls: TypeAlias = Sequence[tuple[str, Mapping[str, Any]]]
"""Name and arguments of each call; ids are ``call_1``, ``call_2``, ... in every format."""

CREATED = 1_790_700_000
"""Seconds since 1970: every canned answer was created at this moment, so that runs can be compared."""


# --- OpenAI Chat Completions ---------------------------------------------------------------------


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
            for index, (call_id, name, arguments) in enumerate(_numbered(tool_calls))
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
        answer["provider"] = _provider(model)
        answer["choices"][0]["native_finish_reason"] = reason
        answer["usage"] |= _cost(cost, "upstream_inference_prompt_cost", "upstream_inference_completions_cost")
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
        for part in _split(message.get(name), pieces):
            yield {name: part}
    for index, call in enumerate(message.get("tool_calls") or ()):
        function = call["function"]
        yield {"tool_calls": [{**call, "index": index, "function": {**function, "arguments": ""}}]}
        for part in _split(function["arguments"], pieces):
            yield {"tool_calls": [{"index": index, "function": {"arguments": part}}]}


def _chat_usage(tokens_in: int, tokens_out: int) -> Json:
    return {
        "prompt_tokens": tokens_in,
        "completion_tokens": tokens_out,
        "total_tokens": tokens_in + tokens_out,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


# --- OpenAI Responses ----------------------------------------------------------------------------


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
        answer["usage"] |= _cost(cost, "upstream_inference_input_cost", "upstream_inference_output_cost")
    return answer


def _responses_output(text: str | None, tool_calls: ToolCalls, reasoning: str | None) -> list[Json]:
    output: list[Json] = []
    if reasoning is not None:
        output.append({"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": reasoning}]})
    if text is not None:
        part: Json = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        output.append({"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [part]})
    for index, (call_id, name, arguments) in enumerate(_numbered(tool_calls), start=1):
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
    for part in _split(text, pieces):
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


# --- Anthropic Messages --------------------------------------------------------------------------


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
    for call_id, name, arguments in _numbered(tool_calls):
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
        answer["provider"] = _provider(model)
        answer["usage"] |= _cost(cost, "upstream_inference_input_cost", "upstream_inference_output_cost")
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
        return {**block, "text": ""}, [{"type": "text_delta", "text": part} for part in _split(block["text"], pieces)]
    if kind == "tool_use":
        parts = _split(_compact(block["input"]), pieces)
        return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": part} for part in parts]
    if kind == "thinking":
        deltas: list[Json] = [{"type": "thinking_delta", "thinking": part} for part in _split(block[kind], pieces)]
        deltas.append({"type": "signature_delta", "signature": block["signature"]})
        return {**block, "thinking": "", "signature": ""}, deltas
    # Server tools, redacted thinking and the like arrive whole at their start.
    return dict(block), []


def _messages_usage(tokens_in: int, tokens_out: int) -> Json:
    cache = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    return {"input_tokens": tokens_in, **cache, "output_tokens": tokens_out}


# --- any endpoint: an answer to a request, an error body -----------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Format:
    answer: Callable[..., Json]
    events: Callable[..., list[Json]]
    usage: Callable[[int, int], Json]
    id_prefix: str
    model: str


_FORMATS = {
    "/chat/completions": _Format(
        answer=chat_answer, events=chat_chunks, usage=_chat_usage, id_prefix="chatcmpl-", model="gpt-4o-mini"
    ),
    "/responses": _Format(
        answer=responses_answer, events=responses_events, usage=_responses_usage, id_prefix="resp_", model="gpt-4o-mini"
    ),
    "/messages": _Format(
        answer=messages_answer,
        events=messages_events,
        usage=_messages_usage,
        id_prefix="msg_",
        model="claude-sonnet-5",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CannedAnswer:
    """An answer to one request, whole, and as ``events`` where the request asked for a stream."""

    answer: Json
    events: list[Json] | None


def canned_answer(path: str, body: Mapping[str, Any], *, serial: int, openrouter: bool) -> CannedAnswer | None:
    """Return an answer that echoes the last user message, or None where no format is served at ``path``.

    ``serial`` makes the answer's id unique; token counts grow with the text (four characters each).
    """
    form = next((form for suffix, form in _FORMATS.items() if path.endswith(suffix)), None)
    if form is None:
        return None
    text = last_user_text(body) or "Hello!"
    tokens_out = -(-len(text) // 4)
    answer = form.answer(
        text,
        model=str(body.get("model") or form.model),
        usage=form.usage(tokens_out + 8, tokens_out),
        cost=tokens_out * 2e-6 if openrouter else None,
        answer_id=f"gen-{CREATED}-{serial:020}" if openrouter else f"{form.id_prefix}{serial}",
    )
    if not body.get("stream"):
        return CannedAnswer(answer=answer, events=None)
    if form.events is chat_chunks:
        asked = fields(body.get("stream_options")).get("include_usage")
        return CannedAnswer(answer=answer, events=chat_chunks(answer, include_usage=bool(asked or openrouter)))
    return CannedAnswer(answer=answer, events=form.events(answer))


def last_user_text(body: Mapping[str, Any]) -> str:
    """Return the text of the last user message of a request in any of the three formats, else ``""``."""
    messages = body.get("messages") or body.get("input")
    if isinstance(messages, str):
        return messages
    asked = [fields(message).get("content") for message in items(messages) if fields(message).get("role") == "user"]
    content = asked[-1] if asked else None
    if isinstance(content, str):
        return content
    return "".join(str(fields(part).get("text") or "") for part in items(content))


_ERRORS: dict[int, tuple[str, str, str]] = {
    # status: message, OpenRouter's error_type, Anthropic's type
    400: ("Invalid request parameters", "invalid_request", "invalid_request_error"),
    401: ("Missing Authentication header", "authentication", "authentication_error"),
    402: ("Insufficient credits", "payment_required", "billing_error"),
    403: ("Request blocked", "permission_denied", "permission_error"),
    404: ("Resource not found", "not_found", "not_found_error"),
    408: ("Operation timed out. Please try again later.", "timeout", "timeout_error"),
    413: ("Request payload too large", "payload_too_large", "request_too_large"),
    422: ("Invalid argument", "unprocessable", "invalid_request_error"),
    429: ("Rate limit exceeded", "rate_limit_exceeded", "rate_limit_error"),
    500: ("Internal Server Error", "server", "api_error"),
    502: ("Provider returned error", "provider_unavailable", "api_error"),
    503: ("Service temporarily unavailable", "provider_overloaded", "overloaded_error"),
    504: ("Operation timed out. Please try again later.", "timeout", "timeout_error"),
    524: ("Request timed out. Please try again later.", "timeout", "timeout_error"),
    529: ("Provider returned error", "provider_overloaded", "overloaded_error"),
}


def error_body(status: int, path: str, *, openrouter: bool) -> Json:
    """Return the JSON of an error: Anthropic's envelope at ``/messages``, else OpenRouter's or OpenAI's."""
    message, kind, anthropic = _ERRORS.get(status, ("Request failed", "unmapped", "api_error"))
    if path.endswith("/messages"):
        return {"type": "error", "error": {"type": anthropic, "message": message}, "request_id": "req_1"}
    if openrouter:
        return {"error": {"code": status, "message": message, "metadata": {"error_type": kind}}}
    return {"error": {"message": message, "type": anthropic, "param": None, "code": kind}}


# --- shared --------------------------------------------------------------------------------------


def _split(text: str | None, pieces: int) -> list[str]:
    if not text:
        return []
    size = -(-len(text) // max(1, pieces))
    return [text[start : start + size] for start in range(0, len(text), size)]


def _numbered(tool_calls: ToolCalls) -> Iterator[tuple[str, str, str]]:
    for number, (name, arguments) in enumerate(tool_calls, start=1):
        yield f"call_{number}", name, _compact(arguments)


def _compact(value: object) -> str:
    return orjson.dumps(value).decode()


def _cost(cost: float, input_key: str, output_key: str) -> Json:
    # OpenRouter's own samples split a cost 40 : 60; what matters is that the parts sum to the whole.
    prompt = cost * 0.4
    details = {"upstream_inference_cost": None, input_key: prompt, output_key: cost - prompt}
    return {"cost": cost, "is_byok": False, "cost_details": details}


def _provider(model: str) -> str:
    if "claude" in model:
        return "Anthropic"
    return {"google": "Google", "mistralai": "Mistral"}.get(model.partition("/")[0], "OpenAI")
