"""haystack: generators, pipelines and agents, with and without its own spans."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from haystack import Pipeline, tracing
from haystack.components.agents import Agent
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.tools import tool
from haystack.utils import Secret
from haystack_integrations.tracing.opentelemetry import OpenTelemetryTracer
from opentelemetry.sdk.trace import TracerProvider
from pydantic import BaseModel
from tests.frameworks.driver import CITY, LIMITED, TOOL_LOOP, Case, forecast, streamed, wait

from spancast.testing import ReplayServer


class City(BaseModel):
    """A city."""

    city: str


@tool
def weather(city: str) -> str:
    """Return the weather."""
    return forecast(city)


_MESSAGES = [ChatMessage.from_user("hi")]


def generator(server: ReplayServer, **more: Any) -> OpenAIChatGenerator:
    return OpenAIChatGenerator(
        model="gpt-5.2", api_key=Secret.from_token("k"), api_base_url=server.base_url, max_retries=0, **more
    )


def said(result: Any) -> Any:
    return [[reply.text, reply.meta.get("finish_reason"), reply.meta.get("usage")] for reply in result["replies"]]


def conversation(server: ReplayServer) -> Any:
    agent = Agent(chat_generator=generator(server), tools=[weather])
    return [message.text for message in agent.run(messages=[ChatMessage.from_user("Weather in Oslo?")])["messages"]]


def stream(server: ReplayServer) -> Any:
    chunks: list[Any] = []
    result = generator(server, streaming_callback=lambda chunk: chunks.append(chunk.content)).run(_MESSAGES)
    return [chunks, said(result)]


async def awaited(server: ReplayServer) -> Any:
    return said(await generator(server).run_async(_MESSAGES))


def _pipeline(server: ReplayServer) -> Any:
    made = Pipeline()
    made.add_component("first", generator(server))
    made.add_component("second", generator(server))
    return made


def pipeline(server: ReplayServer) -> Any:
    given = {"first": {"messages": _MESSAGES}, "second": {"messages": _MESSAGES}}
    return {name: said(found) for name, found in _pipeline(server).run(given).items()}


async def apipeline(server: ReplayServer) -> Any:
    given = {"first": {"messages": _MESSAGES}, "second": {"messages": _MESSAGES}}
    found = await _pipeline(server).run_async(given)
    return {name: said(one) for name, one in sorted(found.items())}


_BODY = {"extra_body": {"trace": {"feature": "billing"}, "session_id": "chat-7"}}

CASES = {
    "conversation": Case(conversation, TOOL_LOOP, calls=3),
    "streamed": Case(stream, (streamed(),)),
    "error": Case(lambda s: said(generator(s).run(_MESSAGES)), LIMITED, raises="RateLimitError"),
    "async": Case(lambda s: wait(awaited(s))),
    "structured": Case(lambda s: said(generator(s, generation_kwargs={"response_format": City}).run(_MESSAGES)), CITY),
    "pipeline": Case(pipeline, calls=2),
    "async pipeline": Case(lambda s: wait(apipeline(s)), calls=2),
    "keys by generation_kwargs": Case(
        lambda s: said(generator(s, generation_kwargs=_BODY).run(_MESSAGES)),
        keys={"session.id": "chat-7", "trace.metadata.feature": "billing"},
    ),
}


@contextmanager
def own_tracing(provider: TracerProvider) -> Iterator[None]:
    """Switch the framework's own spans on."""
    tracing.enable_tracing(OpenTelemetryTracer(provider.get_tracer("haystack")))
    try:
        yield
    finally:
        tracing.disable_tracing()


TREE = {
    "haystack.agent.run": {
        "haystack.agent.step": {
            "haystack.agent.step.llm": {"chat gpt-5.2": {}},
            "haystack.agent.step.tool": {"chat gpt-4o-mini": {}},
        },
        "haystack.agent.step'": {"haystack.agent.step.llm": {"chat gpt-5.2": {}}},
    }
}
"""The spans of ``conversation`` with the framework's own tracing."""
