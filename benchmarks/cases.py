"""What is measured: requests, and the bytes the provider answers. Standard library only: workers run anywhere."""

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
SESSION = "chat-42"
USER = "u-7"
_MIB = 1 << 20
_STREAMED = 200


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way of calling; ``pieces`` are the body as it arrives, one bytes object per event of a stream."""

    name: str
    title: str
    api: str = "chat"
    request: dict[str, Any]
    pieces: list[bytes]
    status: int = 200
    calls: int = 40
    """Calls in a row before a flush, where what other threads do is counted: some 50 ms of the SDK's own work."""
    concurrency: int = 0
    threads: int = 0
    keys: dict[str, Any] | None = None
    visit: float = 1.0
    """How long it is looked at, where an ordinary case is 1: what takes long is timed less often in the same time."""
    expected: dict[str, str] = field(default_factory=dict)
    """Piece of content -> text that must be in the span."""

    @property
    def is_stream(self) -> bool:
        return bool(self.request.get("stream"))

    @property
    def is_async(self) -> bool:
        return self.concurrency > 0

    @property
    def unit(self) -> int:
        """Return how many calls are timed at a time: as few as can be, so that the twin is timed in the same ms."""
        return max(1, self.concurrency, self.threads)


def case_of(name: str) -> Case:
    """Return the case of that name; ``messages=300``, ``chunks=50``, ``attributes=16`` are points of a curve."""
    kind, _, number = name.partition("=")
    if number:
        return _GROWTH[kind](name, int(number))
    return _CASES[name]()


def _chat(messages: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": messages, "temperature": 0.2, "max_tokens": 500, **more}


def _messages(count: int, length: int = 200) -> list[dict[str, Any]]:
    words = ("the order was sent on monday and has not arrived yet " * (length // 50 + 1))[:length]
    roles = ("user", "assistant")
    made = [{"role": roles[index % 2], "content": f"{index}: {words}"} for index in range(count)]
    made[0]["content"] = f"{PROMPT_FIRST} {words}"
    made[-1] = {"role": "user", "content": f"{words} {PROMPT_LAST}"}
    return made


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


def _whole(name: str, title: str, messages: list[dict[str, Any]], calls: int, **more: Any) -> Case:
    tools = {"tools": more.pop("tools")} if "tools" in more else {}
    request = _chat(messages, **tools)
    return Case(name=name, title=title, request=request, pieces=_chat_body(), calls=calls, expected=_expected(), **more)


def _short() -> Case:
    return replace(_whole("short", "short", _short_messages(), 40), visit=2.0)


def _long() -> Case:
    return replace(_whole("long", "40 messages + tools", _messages(40), 30, tools=_tools(5)), visit=3.0)


def _stream(name: str, count: int) -> Case:
    # The role comes first, the reason and the usage last: count chunks in all.
    words = [f"w{index} " for index in range(count - 3)]
    return Case(
        name=name,
        title=f"stream of {count}",
        request=_chat(_short_messages(), stream=True, stream_options={"include_usage": True}),
        pieces=_chat_events([{"content": word} for word in words], "stop"),
        calls=max(2, min(50, 1_000 // count)),
        visit=2.0,
        expected=_expected("".join(words).strip()),
    )


def _async() -> Case:
    return _whole("async", "50 async", _short_messages(), 50, concurrency=50)


def _error() -> Case:
    told = {"message": "Rate limit exceeded", "type": "rate_limit_error", "param": None, "code": "rate_limit_exceeded"}
    body = {"error": told}
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
    case = _whole(name, "trace keys", _short_messages(), 50, keys=keys)
    case.request["user"] = USER
    case.expected.update(session=SESSION, user=USER)
    return case


def _anthropic() -> Case:
    answer = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": CLAUDE,
        "content": [{"type": "text", "text": _TEXT}], "stop_reason": "end_turn", "stop_sequence": None,
        "usage": {"input_tokens": TOKENS_IN, "output_tokens": TOKENS_OUT,
                  "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0},
    }  # fmt: skip
    asked = [{"role": "user", "content": f"Where is my order? {PROMPT_LAST}"}]
    request = {"model": CLAUDE, "max_tokens": 500, "system": f"{PROMPT_FIRST} One sentence.", "messages": asked}
    return Case(
        name="anthropic",
        title="Anthropic",
        api="messages",
        request=request,
        pieces=[_json(answer)],
        calls=40,
        expected=_expected(model=CLAUDE),
    )


def _responses() -> Case:
    part = {"type": "output_text", "text": _TEXT, "annotations": [], "logprobs": []}
    answer = {
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
    asked = [{"role": "user", "content": f"Where is my order? {PROMPT_LAST}"}]
    request = {"model": MODEL, "instructions": f"{PROMPT_FIRST} One sentence.", "input": asked, "temperature": 0.2}
    return Case(
        name="responses",
        title="Responses",
        api="responses",
        request={**request, "max_output_tokens": 500},
        pieces=[_json(answer)],
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
    asked = [{"role": "user", "content": f"{PROMPT_FIRST} {text} {PROMPT_LAST}"}]
    return _whole("megabyte", "1 MB prompt", asked, 5)


def _thousand() -> Case:
    return _whole("thousand", "1 000 messages", _messages(1_000), 3)


def _growing_messages(name: str, count: int) -> Case:
    return replace(_whole(name, f"{count} messages", _messages(count), max(3, min(50, 2_000 // count))), visit=5.0)


def _growing_concurrency(name: str, count: int) -> Case:
    return _whole(name, f"{count} together", _short_messages(), max(count, 50), concurrency=count)


def _growing_threads(name: str, count: int) -> Case:
    return _whole(name, f"{count} threads", _short_messages(), max(count, 48), threads=count)


def _growing_keys(name: str, count: int) -> Case:
    return _keys(name, {"trace_id": "order-7781", **{f"key_{index}": f"value {index}" for index in range(count)}})


_CASES = {
    "short": _short,
    "long": _long,
    "stream": lambda: _stream("stream", _STREAMED),
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
_GROWTH = {
    "messages": _growing_messages,
    "chunks": _stream,
    "attributes": _growing_keys,
    "concurrency": _growing_concurrency,
    "threads": _growing_threads,
}

FIRST_SIX = ("short", "long", "stream", "stream_20", "async", "error")
"""The table of the goals; ``stream_20`` is there for the cost of one chunk only."""
ALL = tuple(_CASES)
CURVES = {
    "messages": tuple(f"messages={count}" for count in (10, 40, 100, 300)),
    "chunks": tuple(f"chunks={count}" for count in (20, 100, 200, 500, 1_000)),
    "attributes": tuple(f"attributes={count}" for count in (1, 8, 32, 64, 96)),
    "concurrency": tuple(f"concurrency={count}" for count in (1, 8, 50, 200)),
    "threads": tuple(f"threads={count}" for count in (1, 4, 16)),
}
