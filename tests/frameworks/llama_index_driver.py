"""llama-index over openai: models, agents (workflows, which run in tasks), structured output."""

from __future__ import annotations

from typing import Any

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.instrumentation.dispatcher import instrument_tags
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai import OpenAI, OpenAIResponses
from pydantic import BaseModel
from tests.frameworks.driver import CITY, LIMITED, LONG, STREAMED_TOOL_LOOP, Case, forecast, streamed, wait

from spancast.testing import ReplayServer


class City(BaseModel):
    """A city."""

    city: str


def weather(city: str) -> str:
    """Return the weather."""
    return forecast(city)


_MESSAGES = [ChatMessage(role="user", content="hi")]


def model(server: ReplayServer, kind: Any = OpenAI, **more: Any) -> Any:
    return kind(model="gpt-4o-mini", api_base=server.base_url, api_key="k", max_retries=0, **more)


def said(response: Any) -> Any:
    return [response.message.content, response.message.role.value]


async def conversation(server: ReplayServer) -> Any:
    return str(await FunctionAgent(tools=[weather], llm=model(server)).run("Weather in Oslo?"))


async def awaited(server: ReplayServer) -> Any:
    return said(await model(server).achat(_MESSAGES))


async def astreamed(server: ReplayServer) -> Any:
    return [chunk.delta async for chunk in await model(server).astream_chat(_MESSAGES)]


async def aleft(server: ReplayServer) -> Any:
    async for chunk in await model(server).astream_chat(_MESSAGES):
        return chunk.delta
    return None


def tagged(server: ReplayServer) -> Any:
    with instrument_tags({"session_id": "chat-7", "feature": "billing"}):
        return said(model(server).chat(_MESSAGES))


_BODY: dict[str, Any] = {"trace": {"feature": "billing"}, "session_id": "chat-7"}
_KEYS = {"session.id": "chat-7", "trace.metadata.feature": "billing"}

CASES = {
    "conversation": Case(lambda s: wait(conversation(s)), STREAMED_TOOL_LOOP, calls=3),
    "streamed": Case(lambda s: [chunk.delta for chunk in model(s).stream_chat(_MESSAGES)], (streamed(),)),
    "left": Case(lambda s: next(iter(model(s).stream_chat(_MESSAGES))).delta, LONG, ends="closed|abandoned"),
    "error": Case(lambda s: model(s).chat(_MESSAGES), LIMITED, raises="RateLimitError"),
    "async": Case(lambda s: wait(awaited(s))),
    "async streamed": Case(lambda s: wait(astreamed(s)), (streamed(),)),
    "async left": Case(lambda s: wait(aleft(s)), LONG, ends="closed|abandoned"),
    "complete": Case(lambda s: model(s).complete("hi").text),
    "structured": Case(lambda s: model(s).as_structured_llm(City).complete("hi").raw.model_dump(), CITY),
    "responses": Case(lambda s: said(model(s, OpenAIResponses).chat(_MESSAGES))),
    "keys by additional_kwargs": Case(lambda s: said(model(s, additional_kwargs=_BODY).chat(_MESSAGES)), keys=_KEYS),
    "keys by keywords": Case(lambda s: said(model(s).chat(_MESSAGES, **_BODY)), keys=_KEYS),
    "keys by tags": Case(tagged, keys=_KEYS),
}
