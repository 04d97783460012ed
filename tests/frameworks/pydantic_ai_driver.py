"""pydantic-ai over openai and anthropic, with and without its own instrumentation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from openai import AsyncOpenAI
from opentelemetry.sdk.trace import TracerProvider
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.instrumented import InstrumentationSettings
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
from tests.frameworks.driver import (
    LIMITED,
    LONG,
    RESPONSES_TOOL_LOOP,
    STREAMED_TOOL_LOOP,
    TOOL_LOOP,
    Case,
    forecast,
    wait,
    whole,
)

from spancast.testing import ReplayServer


class City(BaseModel):
    """A city."""

    city: str


def weather(city: str) -> str:
    """Return the weather."""
    return forecast(city)


def agent(server: ReplayServer, kind: Any = OpenAIChatModel, **more: Any) -> Any:
    client = AsyncOpenAI(base_url=server.base_url, api_key="k", max_retries=0)
    provider = OpenAIProvider(openai_client=client)
    return Agent(kind("gpt-5.2", provider=provider), tools=[weather], **more)


def said(result: Any) -> Any:
    usage = result.usage() if callable(result.usage) else result.usage
    return [result.output, usage.requests, usage.input_tokens, usage.output_tokens]


async def awaited(server: ReplayServer) -> Any:
    return said(await agent(server).run("Weather in Oslo?"))


async def streamed(server: ReplayServer) -> Any:
    async with agent(server).run_stream("Weather in Oslo?") as result:
        return [text async for text in result.stream_text(delta=True, debounce_by=None)]


async def left(server: ReplayServer) -> Any:
    async with agent(server).run_stream("hi") as result:
        async for text in result.stream_text(delta=True, debounce_by=None):
            return text
    return None


def structured(server: ReplayServer) -> Any:
    return agent(server, output_type=City).run_sync("hi").output.model_dump()


def anthropic(server: ReplayServer) -> Any:
    claude = AnthropicModel("claude-sonnet-5", provider=AnthropicProvider(base_url=server.url, api_key="k"))
    return said(Agent(claude).run_sync("hi"))


_SETTINGS: Any = {"extra_body": {"trace": {"feature": "billing"}, "session_id": "chat-7"}}
_KEYS = {"session.id": "chat-7", "trace.metadata.feature": "billing"}
_FINAL = (whole(None, tool_calls=[("final_result", {"city": "Oslo"})]),)

CASES = {
    "conversation": Case(lambda s: said(agent(s).run_sync("Weather in Oslo?")), TOOL_LOOP, calls=3),
    "streamed": Case(lambda s: wait(streamed(s)), STREAMED_TOOL_LOOP, calls=3),
    "left": Case(lambda s: wait(left(s)), LONG, ends="closed|abandoned|cancelled"),
    "error": Case(lambda s: agent(s).run_sync("hi"), LIMITED, raises="ModelRateLimitError"),
    "async": Case(lambda s: wait(awaited(s)), TOOL_LOOP, calls=3),
    "structured": Case(structured, _FINAL),
    "responses": Case(lambda s: said(agent(s, OpenAIResponsesModel).run_sync("hi")), RESPONSES_TOOL_LOOP, calls=3),
    "anthropic": Case(anthropic),
    "keys by model_settings": Case(lambda s: said(agent(s).run_sync("hi", model_settings=_SETTINGS)), keys=_KEYS),
}


@contextmanager
def own_tracing(provider: TracerProvider) -> Iterator[None]:
    """Switch the framework's own spans on."""
    Agent.instrument_all(InstrumentationSettings(tracer_provider=provider))
    try:
        yield
    finally:
        Agent.instrument_all(instrument=False)


TREE = {
    "invoke_agent agent": {"chat gpt-5.2": {}, "execute_tool weather": {"chat gpt-4o-mini": {}}, "chat gpt-5.2'": {}}
}
"""The spans of ``conversation`` with the framework's own tracing."""
