"""A support conversation with three providers: a tool call, a refused call and streams."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Mapping
from typing import Any, Final

import spancast
from spancast.demo.providers import Engine, Provider
from spancast.dialects.anthropic_messages.answers import messages_answer, messages_events
from spancast.dialects.openai_chat.answers import chat_answer, chat_chunks
from spancast.testing import ReplayServer, Reply

SESSION: Final = "chat-42"
SERVICE: Final = "support-bot"
_GPT: Final = "openai/gpt-5.2"
_CLAUDE: Final = "claude-sonnet-5"
_MISTRAL: Final = "mistralai/mistral-large"
_REAL: Final = "smollm2"
_TOOL: Final = "look_up_order"
_ORDER_7781: Final = {"order_id": "7781"}
_TOOLS: Final = [
    {
        "type": "function",
        "function": {
            "name": _TOOL,
            "description": "Status of an order.",
            "parameters": {"type": "object", "properties": {"order_id": {"type": "string"}}},
        },
    }
]
_DRAFT: Final = "Your order has shipped and arrives on Friday."
_ANSWER: Final = "Good news! It has shipped and should arrive on Friday."


def new_order() -> str:
    """Return a trace id as an application has one: the number of an order."""
    return f"order-{uuid.uuid4().hex[:8]}"


def converse(server: ReplayServer | Engine, providers: Mapping[str, Provider], order: str) -> None:
    """Classify with openai, look the order up with a tool, rephrase with anthropic, rate with openrouter."""
    if isinstance(server, ReplayServer):
        _script(server)
        models, limit = (_GPT, _CLAUDE, _MISTRAL), dict[str, Any]()
    else:
        # The server has one model, which would go on for long.
        models, limit = (_REAL,) * 3, {"max_tokens": 32}
    gpt, claude, router = providers["openai"], providers["anthropic"], providers["openrouter"]
    question: dict[str, Any] = {"role": "user", "content": "Where is my order 7781?"}
    called = {"id": "call_1", "type": "function", "function": {"name": _TOOL, "arguments": json.dumps(_ORDER_7781)}}
    looked_up: list[dict[str, Any]] = [
        question,
        {"role": "assistant", "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "call_1", "content": '{"status": "shipped"}'},
    ]
    with spancast.trace(
        trace_id=order, trace_name="Support", session_id=SESSION, user="u-7", feature="billing", tier=2
    ):
        gpt.call(
            model=models[0], messages=[question], temperature=0.2, **limit,
            trace={"span_name": "triage", "generation_name": "classify"},
        )  # fmt: skip
        gpt.call(
            model=models[0], messages=[question], temperature=0.2, tools=_TOOLS, **limit,
            trace={"span_name": "triage", "generation_name": "choose tool"},
        )  # fmt: skip
        with contextlib.suppress(gpt.refused):
            gpt.call(
                model=models[0], messages=looked_up, temperature=0.2, **limit,
                trace={"span_name": "answer", "generation_name": "draft"},
            )  # fmt: skip
        gpt.stream(
            model=models[0], messages=looked_up, temperature=0.2, **limit,
            trace={"span_name": "answer", "generation_name": "draft, again"},
        )  # fmt: skip
        claude.stream(
            model=models[1], max_tokens=limit.get("max_tokens", 200), system="Be kind.",
            messages=[{"role": "user", "content": _DRAFT}],
            trace={"span_name": "answer", "generation_name": "rephrase"},
        )  # fmt: skip
        router.call(
            model=models[2], messages=[{"role": "user", "content": f"Rate this answer: {_ANSWER}"}], **limit,
            trace={"span_name": "check", "generation_name": "rate the answer"},
        )  # fmt: skip


def _script(server: ReplayServer) -> None:
    """Set the responses of the providers, in order."""
    classified = chat_answer("billing", model=_GPT, usage=_usage(31, 1), cost=0.000145)
    chosen = chat_answer(None, model=_GPT, tool_calls=[(_TOOL, _ORDER_7781)], usage=_usage(96, 18), cost=0.00189)
    drafted = chat_answer(_DRAFT, model=_GPT, usage=_usage(124, 11), cost=0.0021)
    rephrased = messages_answer(_ANSWER, model=_CLAUDE)
    server.reply(
        "/chat/completions",
        Reply.json(classified, delay_s=0.03),
        Reply.json(chosen, delay_s=0.05),
        Reply.error(429, headers={"retry-after": "1"}),
        Reply.stream(chat_chunks(drafted, pieces=6), first_gap_s=0.04, gap_s=0.01),
        Reply.json(chat_answer("5/5", model=_MISTRAL, usage=_usage(40, 3), cost=0.00012), delay_s=0.02),
    )
    server.reply("/messages", Reply.stream(messages_events(rephrased, pieces=6), first_gap_s=0.03, gap_s=0.01))


def _usage(sent: int, received: int) -> dict[str, int]:
    return {"prompt_tokens": sent, "completion_tokens": received, "total_tokens": sent + received}
