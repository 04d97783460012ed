"""openai-agents: runs, tools, streams, with and without its own tracing (which is not OpenTelemetry's)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import agents
from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, OpenAIResponsesModel, RunConfig, Runner
from openai import AsyncOpenAI
from opentelemetry.sdk.trace import TracerProvider
from pydantic import BaseModel
from tests.frameworks.driver import (
    CITY,
    LIMITED,
    LONG,
    RESPONSES_TOOL_LOOP,
    STREAMED_RESPONSE,
    TOOL_LOOP,
    Case,
    forecast,
    wait,
)

from spancast.testing import ReplayServer

agents.set_tracing_disabled(True)
# The default one sends to OpenAI.
agents.set_trace_processors([])


class City(BaseModel):
    """A city."""

    city: str


@agents.function_tool
def weather(city: str) -> str:
    """Return the weather."""
    return forecast(city)


def agent(server: ReplayServer, kind: Any = OpenAIChatCompletionsModel, **more: Any) -> Any:
    client = AsyncOpenAI(base_url=server.base_url, api_key="k", max_retries=0)
    return Agent(name="Assistant", instructions="Be brief.", model=kind("gpt-5.2", client), tools=[weather], **more)


def said(result: Any) -> Any:
    usage = result.context_wrapper.usage
    return [str(result.final_output), usage.requests, usage.input_tokens, usage.output_tokens]


def run(server: ReplayServer, *arguments: Any, run_config: Any = None, **more: Any) -> Any:
    return said(wait(Runner.run(agent(server, *arguments, **more), "Weather in Oslo?", run_config=run_config)))


async def streamed(server: ReplayServer, kind: Any) -> Any:
    result = Runner.run_streamed(agent(server, kind), "hi")
    events = [event.type async for event in result.stream_events()]
    return [events, said(result)]


async def left(server: ReplayServer) -> Any:
    result = Runner.run_streamed(agent(server, OpenAIChatCompletionsModel), "hi")
    async for event in result.stream_events():
        if event.type == "raw_response_event":
            result.cancel()
            return event.data.type
    return None


async def handoff(server: ReplayServer) -> Any:
    billing = agent(server)
    billing.name = "billing"
    return said(await Runner.run(agent(server, handoffs=[billing]), "hi"))


_BODY: dict[str, Any] = {"trace": {"feature": "billing"}, "session_id": "chat-7"}
_KEYS = {"session.id": "chat-7", "trace.metadata.feature": "billing"}

CASES = {
    "conversation": Case(run, TOOL_LOOP, calls=3),
    "streamed": Case(lambda s: wait(streamed(s, OpenAIChatCompletionsModel))),
    "left": Case(lambda s: wait(left(s)), LONG, ends="None|closed|abandoned|cancelled"),
    "error": Case(run, LIMITED * 3, raises="RateLimitError"),
    "sync": Case(lambda s: said(Runner.run_sync(agent(s), "Weather in Oslo?")), TOOL_LOOP, calls=3),
    "structured": Case(lambda s: run(s, output_type=City), CITY),
    "responses": Case(lambda s: run(s, OpenAIResponsesModel), RESPONSES_TOOL_LOOP, calls=3),
    "responses streamed": Case(lambda s: wait(streamed(s, OpenAIResponsesModel)), STREAMED_RESPONSE),
    "keys by extra_body": Case(lambda s: run(s, model_settings=ModelSettings(extra_body=_BODY)), keys=_KEYS),
    "keys by extra_args": Case(lambda s: run(s, model_settings=ModelSettings(extra_args=_BODY)), keys=_KEYS),
}
TRACED_CASES = {
    "keys by run_config": Case(
        lambda s: run(s, run_config=RunConfig(group_id="chat-7", trace_metadata={"feature": "billing"})), keys=_KEYS
    ),
}


@contextmanager
def own_tracing(provider: TracerProvider) -> Iterator[None]:
    """Switch the framework's own tracing on."""
    agents.set_tracing_disabled(False)
    try:
        yield
    finally:
        agents.set_tracing_disabled(True)
