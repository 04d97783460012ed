"""autogen: its models, agents and teams, which run in tasks of its runtime; with its own spans."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core.models import UserMessage
from autogen_ext.models.openai import OpenAIChatCompletionClient
from opentelemetry import trace as trace_api
from opentelemetry.sdk.trace import TracerProvider
from pydantic import BaseModel
from tests.frameworks.driver import CITY, LIMITED, LONG, TOOL_LOOP, Case, forecast, streamed, wait

from spancast.testing import ReplayServer


class City(BaseModel):
    """A city."""

    city: str


async def weather(city: str) -> str:
    """Return the weather."""
    return forecast(city)


_INFO: Any = {
    "vision": False, "function_calling": True, "json_output": True, "family": "gpt-4o", "structured_output": True,
}  # fmt: skip
_MESSAGES = [UserMessage(content="hi", source="user")]


def model(server: ReplayServer) -> Any:
    return OpenAIChatCompletionClient(
        model="gpt-4o-mini", base_url=server.base_url, api_key="k", max_retries=0, model_info=_INFO
    )


def said(result: Any) -> Any:
    return [result.content, result.finish_reason, result.usage.prompt_tokens, result.usage.completion_tokens]


def agent(server: ReplayServer, name: str = "guide", **more: Any) -> AssistantAgent:
    return AssistantAgent(name, model(server), tools=[weather], **more)


async def conversation(server: ReplayServer) -> Any:
    result = await agent(server, reflect_on_tool_use=True).run(task="Weather in Oslo?")
    return [[message.source, type(message).__name__, str(message.to_text())] for message in result.messages]


async def team(server: ReplayServer) -> Any:
    members: Any = [agent(server, "one"), agent(server, "two")]
    chat = RoundRobinGroupChat(members, termination_condition=MaxMessageTermination(3))
    return [message.to_text() for message in (await chat.run(task="hi")).messages]


async def awaited(server: ReplayServer) -> Any:
    return said(await model(server).create(_MESSAGES))


async def astreamed(server: ReplayServer) -> Any:
    return [part if isinstance(part, str) else said(part) async for part in model(server).create_stream(_MESSAGES)]


async def left(server: ReplayServer) -> Any:
    async for part in model(server).create_stream(_MESSAGES):
        return part
    return None


async def structured(server: ReplayServer) -> Any:
    return said(await model(server).create(_MESSAGES, json_output=City))


async def keys(server: ReplayServer) -> Any:
    body = {"trace": {"feature": "billing"}, "session_id": "chat-7"}
    return said(await model(server).create(_MESSAGES, extra_create_args={"extra_body": body}))


CASES = {
    "conversation": Case(lambda s: wait(conversation(s)), TOOL_LOOP, calls=3),
    "team": Case(lambda s: wait(team(s)), calls=2),
    "async": Case(lambda s: wait(awaited(s))),
    "streamed": Case(lambda s: wait(astreamed(s)), (streamed(),)),
    "left": Case(lambda s: wait(left(s)), LONG, ends="closed|abandoned"),
    "error": Case(lambda s: wait(awaited(s)), LIMITED, raises="RateLimitError"),
    "structured": Case(lambda s: wait(structured(s)), CITY),
    "keys by extra_create_args": Case(
        lambda s: wait(keys(s)), keys={"session.id": "chat-7", "trace.metadata.feature": "billing"}
    ),
}


@contextmanager
def own_tracing(provider: TracerProvider) -> Iterator[None]:
    """Switch the framework's own spans on: they are those of the global provider."""
    with mock.patch.object(trace_api, "_TRACER_PROVIDER", provider):
        yield


TREE = {
    "create_agent guide": {},
    "invoke_agent guide": {
        "chat gpt-4o-mini": {},
        "execute_tool weather": {"chat gpt-4o-mini": {}},
        "chat gpt-4o-mini'": {},
    },
}
"""The spans of ``conversation`` with the framework's own tracing."""
