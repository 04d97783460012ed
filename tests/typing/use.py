"""Uses of the public API, checked by pyright strict and not run."""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import assert_type

import openai
from openai.types.chat import ChatCompletion

import spancast
from spancast.destinations.protocol import Payload

client = spancast.instrument(openai.OpenAI())
assert_type(client, openai.OpenAI)
answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
assert_type(answer, ChatCompletion)
assert_type(spancast.instrument(openai.AsyncOpenAI()), openai.AsyncOpenAI)
assert_type(spancast.instrument(), None)
assert_type(spancast.instrument("openai"), None)


@spancast.instrument
def complete(prompt: str, *, model: str = "m") -> str:
    return prompt + model


@spancast.instrument(dialect="anthropic_messages", base_url="https://api.anthropic.com")
async def complete_async(prompt: str) -> int:
    return len(prompt)


@spancast.instrument
def stream(prompt: str) -> Iterator[str]:
    yield prompt


@spancast.trace(trace_name="Support", session_id="s", feature="billing", tier=2)
def work(x: int) -> str:
    return str(x)


assert_type(complete("x", model="y"), str)
assert_type(stream("x"), Iterator[str])
assert_type(work(3), str)


class Mine:
    def deliver(self, payload: Payload, timeout_s: float) -> None:
        print(len(payload.json), timeout_s)


spancast.configure(
    "spancast.yaml", service_name="s", capture_content=False, forward_trace_keys="never", group_idle_timeout=5
)
spancast.configure(spool="memory", shutdown_timeout="2s", default_trace={"session_id": "s"}, set_global=True)
spancast.configure(spool={"path": Path(), "max_bytes": "64MiB", "max_age": "1d"}, strict=None)
spancast.configure(destinations={"a": {"type": "jaeger"}, "mine": Mine()})
# What pyright must not accept: without the error each comment here is one.
spancast.configure(capture_contents=False)  # pyright: ignore[reportCallIssue]
spancast.configure(strict="yes")  # pyright: ignore[reportArgumentType]
spancast.configure(forward_trace_keys="sometimes")  # pyright: ignore[reportArgumentType]
spancast.configure(spool={"size": 1})  # pyright: ignore[reportArgumentType]
spancast.configure(destinations={"mine": Path()})  # pyright: ignore[reportArgumentType]


async def main() -> None:
    assert_type(await complete_async("x"), int)
    with spancast.trace(session_id="s") as scope:
        bound: Callable[[int], str] = scope.bind(work)
        assert_type(bound(1), str)
        assert_type(scope.calls[-1].trace_id, str)
    assert_type(spancast.stats(), dict[str, int])
    report = spancast.flush()
    assert_type(report, spancast.FlushReport)
    assert_type(report.destinations["x"].waiting, int)
