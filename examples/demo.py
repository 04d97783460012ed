"""Trace a support conversation with three SDKs as one tree.

Runs against the replay server, so it needs no API key and no network. If Jaeger (or a
Collector) listens on localhost:4318, the trace is also sent there and the link is printed.
"""

from __future__ import annotations

import contextlib
import socket
import uuid

import anthropic
import openai
import openrouter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import spancast
from spancast.dialects.anthropic_messages.answers import messages_answer, messages_events
from spancast.dialects.openai_chat.answers import chat_answer, chat_chunks
from spancast.testing import ReplayServer, Reply, tree_text

ORDER = f"order-{uuid.uuid4().hex[:8]}"
SESSION = "chat-42"
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "look_up_order",
            "description": "Status of an order.",
            "parameters": {"type": "object", "properties": {"order_id": {"type": "string"}}},
        },
    }
]


def main() -> None:
    provider = TracerProvider(resource=Resource.create({"service.name": "support-bot"}))
    ended = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(ended))
    sends_to_jaeger = _listens(4318)
    spancast.configure(
        tracer_provider=provider,
        destinations={"jaeger": {"type": "jaeger"}} if sends_to_jaeger else None,
        spool="memory",
    )
    with ReplayServer(openrouter=True) as server:
        converse(server)
    report = spancast.flush()

    spans = ended.get_finished_spans()
    print(tree_text(spans))
    trace_id = f"{spans[0].get_span_context().trace_id:032x}"
    print(f"\ntrace_id {ORDER!r} is trace {trace_id}")
    if sends_to_jaeger:
        print(f"In Jaeger: http://localhost:16686/trace/{trace_id} ({report})")
    else:
        print("No Jaeger on localhost:4318. Run `make jaeger` in another terminal, then run this again.")
    spancast.shutdown()
    provider.shutdown()


def converse(server: ReplayServer) -> None:
    """Classify with openai, look the order up with a tool, rephrase with anthropic, rate with openrouter."""
    script(server)
    keys = {"trace_id": ORDER, "trace_name": "Support", "feature": "billing", "tier": 2}
    question = {"role": "user", "content": "Where is my order 7781?"}

    with contextlib.closing(openai.OpenAI(base_url=server.base_url, api_key="demo", max_retries=0)) as gpt:
        spancast.instrument(gpt)
        gpt.chat.completions.create(
            model="openai/gpt-5.2", messages=[question], session_id=SESSION, user="u-7",
            trace={**keys, "span_name": "triage", "generation_name": "classify"},
        )  # fmt: skip
        tool_call = gpt.chat.completions.create(
            model="openai/gpt-5.2", messages=[question], tools=TOOLS, session_id=SESSION, user="u-7",
            trace={**keys, "span_name": "triage", "generation_name": "choose tool"},
        )  # fmt: skip
        with contextlib.suppress(openai.RateLimitError):
            gpt.chat.completions.create(
                model="openai/gpt-5.2", messages=[question], session_id=SESSION, user="u-7",
                trace={**keys, "span_name": "answer", "generation_name": "draft"},
            )  # fmt: skip
        stream = gpt.chat.completions.create(
            model="openai/gpt-5.2",
            messages=[
                question,
                tool_call.choices[0].message,
                {"role": "tool", "tool_call_id": "call_1", "content": '{"status": "shipped"}'},
            ],
            stream=True, session_id=SESSION, user="u-7",
            trace={**keys, "span_name": "answer", "generation_name": "draft, again"},
        )  # fmt: skip
        for _ in stream:
            pass

    with contextlib.closing(anthropic.Anthropic(base_url=server.url, api_key="demo", max_retries=0)) as claude:
        spancast.instrument(claude)
        with claude.messages.stream(
            model="claude-sonnet-5", max_tokens=200, messages=[question], system="Be kind.",
            extra_body={
                "session_id": SESSION,
                "trace": {**keys, "span_name": "answer", "generation_name": "rephrase"},
            },
        ) as rephrased:  # fmt: skip
            rephrased.until_done()

    with openrouter.OpenRouter(api_key="demo", server_url=server.base_url) as router:
        spancast.instrument(router)
        router.chat.send(
            model="mistralai/mistral-large", messages=[question], session_id=SESSION, user="u-7",
            trace={**keys, "span_name": "check", "generation_name": "rate the answer"},
        )  # fmt: skip


def script(server: ReplayServer) -> None:
    """Set the responses of the three providers, in order."""
    classified = chat_answer("billing", model="openai/gpt-5.2", cost=0.000145)
    chosen = chat_answer(
        None, model="openai/gpt-5.2", tool_calls=[("look_up_order", {"order_id": "7781"})], cost=0.00189
    )
    drafted = chat_answer("Your order has shipped and arrives on Friday.", model="openai/gpt-5.2", cost=0.0021)
    rephrased = messages_answer("Good news! It has shipped and should arrive on Friday.", model="claude-sonnet-5")
    server.reply(
        "/chat/completions",
        Reply.json(classified, delay_s=0.03),
        Reply.json(chosen, delay_s=0.05),
        Reply.error(429, headers={"retry-after": "1"}),
        Reply.stream(chat_chunks(drafted, pieces=6), first_gap_s=0.04, gap_s=0.01),
        Reply.json(chat_answer("5/5", model="mistralai/mistral-large", cost=0.00012), delay_s=0.02),
    )
    server.reply("/messages", Reply.stream(messages_events(rephrased, pieces=6), first_gap_s=0.03, gap_s=0.01))


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    main()
