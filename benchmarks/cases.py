"""The measured cases: requests and the provider's response bytes. Standard library only, for every environment."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

PROMPT_FIRST = "PROMPTFIRST"
PROMPT_LAST = "PROMPTLAST"
TOKENS_IN = 43_217
TOKENS_OUT = 9_871
MODEL = "gpt-4o-mini"
CLAUDE = "claude-sonnet-5"
TRACE_KEYS: dict[str, Any] = {
    "trace_id": "order-7781", "trace_name": "Support", "span_name": "triage", "generation_name": "classify",
    "feature": "billing", "tier": 2, "region": "eu-west-1", "experiment": "b",
}  # fmt: skip
OPEN_KEYS: dict[str, Any] = {"trace_id": "order-7781", "trace_name": "Support", "span_name": "triage"}
SESSION = "chat-42"
USER = "u-7"
_MIB = 1 << 20
_STREAM_CHUNKS = 200


@dataclass(frozen=True, kw_only=True)
class Case:
    """One kind of call. ``pieces`` is the response body as it arrives: one bytes object per event of a stream."""

    name: str
    title: str
    api: str = "chat"
    request: dict[str, Any]
    pieces: list[bytes]
    status: int = 200
    calls: int = 40
    """Calls per flush if the CPU time of other threads is measured: about 50 ms of the SDK's own work."""
    concurrency: int = 0
    threads: int = 0
    keys: dict[str, Any] | None = None
    duration_factor: float = 1.0
    """Time to measure this case, relative to an ordinary case: slow calls give fewer samples in the same time."""
    expected: dict[str, str] = field(default_factory=dict)
    """Piece of content -> text that the span must contain."""

    @property
    def is_stream(self) -> bool:
        return bool(self.request.get("stream"))

    @property
    def is_async(self) -> bool:
        return self.concurrency > 0

    @property
    def unit(self) -> int:
        """Return the number of calls timed together: the minimum, so that the baseline is timed in the same ms."""
        return max(1, self.concurrency, self.threads)


def case_of(name: str) -> Case:
    """Return the case of that name. ``messages=300``, ``chunks=50`` and ``attributes=16`` are points of a curve."""
    kind, _, number = name.partition("=")
    if number:
        return _CURVE_POINTS[kind](name, int(number))
    return _CASES[name]()


def _chat(messages: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": messages, "temperature": 0.2, "max_tokens": 500, **more}


def _messages(count: int, length: int = 200) -> list[dict[str, Any]]:
    words = ("the order was sent on monday and has not arrived yet " * (length // 50 + 1))[:length]
    roles = ("user", "assistant")
    messages = [{"role": roles[index % 2], "content": f"{index}: {words}"} for index in range(count)]
    messages[0]["content"] = f"{PROMPT_FIRST} {words}"
    messages[-1] = {"role": "user", "content": f"{words} {PROMPT_LAST}"}
    return messages


def _short_messages() -> list[dict[str, Any]]:
    return [
        {"role": "system", "content": f"{PROMPT_FIRST} You answer in one sentence."},
        {"role": "user", "content": f"Where is my order? {PROMPT_LAST}"},
    ]


def _tools(count: int) -> list[dict[str, Any]]:
    return [
        {
            "type": "function",
            "function": {
                "name": f"look_up_{index}",
                "description": "Look an order up by its number and return where it is.",
                "parameters": {
                    "type": "object",
                    "properties": {
                        "order": {"type": "string", "description": "The order's number"},
                        "detail": {"type": "string", "enum": ["short", "long"]},
                    },
                    "required": ["order"],
                },
            },
        }
        for index in range(count)
    ]


_TEXT = "Your order left the warehouse on Monday and will be with you tomorrow. ANSWEREND"
_CHAT_USAGE = {
    "prompt_tokens": TOKENS_IN,
    "completion_tokens": TOKENS_OUT,
    "total_tokens": TOKENS_IN + TOKENS_OUT,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
}
_HEAD = {"id": "chatcmpl-1", "created": 1_790_700_000, "model": MODEL, "system_fingerprint": "fp_1"}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _chat_body(message: dict[str, Any] | None = None) -> list[bytes]:
    message = {"role": "assistant", "content": _TEXT, "refusal": None, **(message or {})}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    return [_json({**_HEAD, "object": "chat.completion", "choices": [choice], "usage": _CHAT_USAGE})]


def _chat_events(deltas: list[dict[str, Any]], reason: str) -> list[bytes]:
    head = {**_HEAD, "object": "chat.completion.chunk"}
    chunks: list[dict[str, Any]] = [
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None, "logprobs": None}]}
        for delta in ({"role": "assistant", "content": ""}, *deltas)
    ]
    chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": reason, "logprobs": None}]})
    chunks.append({**head, "choices": [], "usage": _CHAT_USAGE})
    return [*(b"data: " + _json(chunk) + b"\n\n" for chunk in chunks), b"data: [DONE]\n\n"]


def _expected(answer: str = "ANSWEREND", model: str = MODEL) -> dict[str, str]:
    return {
        "model": model,
        "first message": PROMPT_FIRST,
        "last message": PROMPT_LAST,
        "answer": answer,
        "input tokens": str(TOKENS_IN),
        "output tokens": str(TOKENS_OUT),
    }


def _complete(name: str, title: str, messages: list[dict[str, Any]], calls: int, **more: Any) -> Case:
    tools = {"tools": more.pop("tools")} if "tools" in more else {}
    request = _chat(messages, **tools)
    return Case(name=name, title=title, request=request, pieces=_chat_body(), calls=calls, expected=_expected(), **more)


def _short() -> Case:
    return replace(_complete("short", "short", _short_messages(), 40), duration_factor=2.0)


def _long() -> Case:
    return replace(_complete("long", "40 messages + tools", _messages(40), 30, tools=_tools(5)), duration_factor=3.0)


def _stream(name: str, count: int) -> Case:
    # The first chunk has the role, the last two the finish reason and the usage: ``count`` chunks in total.
    words = [f"w{index} " for index in range(count - 3)]
    return Case(
        name=name,
        title=f"stream of {count}",
        request=_chat(_short_messages(), stream=True, stream_options={"include_usage": True}),
        pieces=_chat_events([{"content": word} for word in words], "stop"),
        calls=max(2, min(50, 1_000 // count)),
        duration_factor=2.0,
        expected=_expected("".join(words).strip()),
    )


def _async() -> Case:
    return _complete("async", "50 async", _short_messages(), 50, concurrency=50)


def _error() -> Case:
    error = {"message": "Rate limit exceeded", "type": "rate_limit_error", "param": None, "code": "rate_limit_exceeded"}
    body = {"error": error}
    expected = {
        "model": MODEL,
        "first message": PROMPT_FIRST,
        "last message": PROMPT_LAST,
        "error": "Rate limit exceeded",
    }
    return Case(
        name="error",
        title="429 error",
        request=_chat(_short_messages()),
        pieces=[_json(body)],
        status=429,
        calls=40,
        expected=expected,
    )


def _keys(name: str = "keys", keys: dict[str, Any] | None = None) -> Case:
    keys = keys or TRACE_KEYS
    case = _complete(name, "trace keys", _short_messages(), 50, keys=keys)
    case.request["user"] = USER
    case.expected.update(session=SESSION, user=USER)
    return case


def _anthropic() -> Case:
    response = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": CLAUDE,
        "content": [{"type": "text", "text": _TEXT}], "stop_reason": "end_turn", "stop_sequence": None,
        "usage": {"input_tokens": TOKENS_IN, "output_tokens": TOKENS_OUT,
                  "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0},
    }  # fmt: skip
    messages = [{"role": "user", "content": f"Where is my order? {PROMPT_LAST}"}]
    request = {"model": CLAUDE, "max_tokens": 500, "system": f"{PROMPT_FIRST} One sentence.", "messages": messages}
    return Case(
        name="anthropic",
        title="Anthropic",
        api="messages",
        request=request,
        pieces=[_json(response)],
        calls=40,
        expected=_expected(model=CLAUDE),
    )


def _responses() -> Case:
    part = {"type": "output_text", "text": _TEXT, "annotations": [], "logprobs": []}
    response = {
        "id": "resp_1", "object": "response", "created_at": 1_790_700_000, "completed_at": 1_790_700_001,
        "status": "completed", "error": None, "incomplete_details": None, "instructions": None, "metadata": {},
        "model": MODEL, "parallel_tool_calls": True, "temperature": 0.2, "top_p": 1.0,
        "tool_choice": "auto", "tools": [],
        "output": [{"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [part]}],
        "usage": {
            "input_tokens": TOKENS_IN, "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": TOKENS_OUT, "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": TOKENS_IN + TOKENS_OUT,
        },
    }  # fmt: skip
    messages = [{"role": "user", "content": f"Where is my order? {PROMPT_LAST}"}]
    request = {"model": MODEL, "instructions": f"{PROMPT_FIRST} One sentence.", "input": messages, "temperature": 0.2}
    return Case(
        name="responses",
        title="Responses",
        api="responses",
        request={**request, "max_output_tokens": 500},
        pieces=[_json(response)],
        calls=40,
        expected=_expected(),
    )


def _tool_stream() -> Case:
    parts = [f"a{index}," for index in range(50)]
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "look_up_0", "arguments": ""}}
    deltas = [{"tool_calls": [call]}]
    deltas += ({"tool_calls": [{"index": 0, "function": {"arguments": part}}]} for part in ('{"order":"', *parts, '"}'))
    return Case(
        name="tool_stream",
        title="tool-call stream",
        request=_chat(_short_messages(), stream=True, stream_options={"include_usage": True}, tools=_tools(2)),
        pieces=_chat_events(deltas, "tool_calls"),
        calls=10,
        expected=_expected("".join(parts)),
    )


def _megabyte() -> Case:
    text = ("all the work of a long day in one prompt " * (_MIB // 40))[:_MIB]
    messages = [{"role": "user", "content": f"{PROMPT_FIRST} {text} {PROMPT_LAST}"}]
    return _complete("megabyte", "1 MB prompt", messages, 5)


def _thousand() -> Case:
    return _complete("thousand", "1 000 messages", _messages(1_000), 3)


def _growing_messages(name: str, count: int) -> Case:
    return replace(
        _complete(name, f"{count} messages", _messages(count), max(3, min(50, 2_000 // count))), duration_factor=5.0
    )


def _growing_concurrency(name: str, count: int) -> Case:
    return _complete(name, f"{count} together", _short_messages(), max(count, 50), concurrency=count)


def _growing_threads(name: str, count: int) -> Case:
    return _complete(name, f"{count} threads", _short_messages(), max(count, 48), threads=count)


def _growing_keys(name: str, count: int) -> Case:
    return _keys(name, {"trace_id": "order-7781", **{f"key_{index}": f"value {index}" for index in range(count)}})


_CASES = {
    "short": _short,
    "long": _long,
    "stream": lambda: _stream("stream", _STREAM_CHUNKS),
    "stream_20": lambda: _stream("stream_20", 20),
    "async": _async,
    "error": _error,
    "keys": _keys,
    "anthropic": _anthropic,
    "responses": _responses,
    "tool_stream": _tool_stream,
    "megabyte": _megabyte,
    "thousand": _thousand,
}
_CURVE_POINTS = {
    "messages": _growing_messages,
    "chunks": _stream,
    "attributes": _growing_keys,
    "concurrency": _growing_concurrency,
    "threads": _growing_threads,
}

FIRST_SIX = ("short", "long", "stream", "stream_20", "async", "error")
"""The cases with goals. ``stream_20`` is only needed for the cost per chunk."""
ALL = tuple(_CASES)
CURVES = {
    "messages": tuple(f"messages={count}" for count in (10, 40, 100, 300)),
    "chunks": tuple(f"chunks={count}" for count in (20, 100, 200, 500, 1_000)),
    "attributes": tuple(f"attributes={count}" for count in (1, 8, 32, 64, 96)),
    "concurrency": tuple(f"concurrency={count}" for count in (1, 8, 50, 200)),
    "threads": tuple(f"threads={count}" for count in (1, 4, 16)),
}
