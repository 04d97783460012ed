"""langchain over openai and anthropic: models, chains, batches, tools, structured output."""

from __future__ import annotations

from typing import Any

from langchain_anthropic import ChatAnthropic
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableParallel
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel
from tests.frameworks.driver import (
    CITY,
    LIMITED,
    LONG,
    STREAMED_RESPONSE,
    TOOL_LOOP,
    Case,
    forecast,
    streamed,
    wait,
    whole,
)

from spancast.testing import ReplayServer


class City(BaseModel):
    """A city."""

    city: str


@tool
def weather(city: str) -> str:
    """Return the weather."""
    return forecast(city)


def model(server: ReplayServer, **more: Any) -> ChatOpenAI:
    return ChatOpenAI(model="gpt-5.2", base_url=server.base_url, api_key="k", max_retries=0, **more)


def said(message: Any) -> Any:
    return [
        type(message).__name__, message.content, message.tool_calls, message.usage_metadata,
        message.response_metadata.get("finish_reason"),
    ]  # fmt: skip


def conversation(server: ReplayServer) -> Any:
    bound = model(server).bind_tools([weather])
    messages: list[Any] = [("user", "Weather in Oslo?")]
    asked = bound.invoke(messages)
    results = [weather.invoke(call) for call in asked.tool_calls]
    return [said(asked), said(bound.invoke([*messages, asked, *results]))]


async def awaited(server: ReplayServer) -> Any:
    return said(await model(server).ainvoke("hi"))


async def astreamed(server: ReplayServer) -> Any:
    return [said(chunk) async for chunk in model(server, stream_usage=True).astream("hi")]


def left(server: ReplayServer) -> Any:
    return said(next(model(server).stream("hi")))


async def aleft(server: ReplayServer) -> Any:
    async for chunk in model(server).astream("hi"):
        return said(chunk)
    return None


def chain(server: ReplayServer) -> Any:
    return ChatPromptTemplate.from_messages([("user", "{question}")]) | model(server)


def parallel(server: ReplayServer) -> Any:
    """Two models at once, each on a thread of langchain's pool."""
    both = RunnableParallel(first=model(server), second=model(server))
    return {name: said(message) for name, message in both.invoke("hi").items()}


async def aparallel(server: ReplayServer) -> Any:
    return [said(message) for message in await chain(server).abatch([{"question": "a"}, {"question": "b"}])]


def anthropic(server: ReplayServer) -> Any:
    claude = ChatAnthropic(model="claude-sonnet-5", base_url=server.url, api_key="k", max_retries=0)
    return [claude.invoke("hi").content, [chunk.content for chunk in claude.stream("hi")]]


_KEYS = {"session.id": "chat-7", "trace.metadata.feature": "billing"}
_CONFIG: Any = {"metadata": {"session_id": "chat-7", "feature": "billing"}}
_BODY: dict[str, Any] = {"trace": {"feature": "billing"}, "session_id": "chat-7"}

CASES = {
    "conversation": Case(conversation, TOOL_LOOP, calls=3),
    "streamed": Case(lambda s: [said(chunk) for chunk in model(s, stream_usage=True).stream("hi")], (streamed(),)),
    "left": Case(left, LONG, ends="closed|abandoned"),
    "error": Case(lambda s: model(s).invoke("hi"), LIMITED, raises="OpenAIRateLimitError"),
    "async": Case(lambda s: wait(awaited(s))),
    "async streamed": Case(lambda s: wait(astreamed(s)), (streamed(),)),
    "async left": Case(lambda s: wait(aleft(s)), LONG, ends="closed|abandoned"),
    "structured": Case(lambda s: model(s).with_structured_output(City).invoke("hi").model_dump(), CITY),
    "chain": Case(lambda s: said(chain(s).invoke({"question": "hi"}))),
    "batch": Case(lambda s: [said(m) for m in model(s).batch(["a", "b", "c"])], calls=3),
    "parallel": Case(parallel, calls=2),
    "async batch": Case(lambda s: wait(aparallel(s)), calls=2),
    "responses": Case(lambda s: model(s, use_responses_api=True).invoke("hi").text),
    "responses streamed": Case(
        lambda s: [chunk.text for chunk in model(s, use_responses_api=True).stream("hi")], STREAMED_RESPONSE
    ),
    "anthropic": Case(anthropic, calls=2),
    "keys by config of a chain": Case(lambda s: said(chain(s).invoke({"question": "hi"}, _CONFIG)), keys=_KEYS),
    "keys by bind": Case(lambda s: said(model(s).bind(**_BODY).invoke("hi")), keys=_KEYS),
    "keys by extra_body": Case(lambda s: said(model(s, extra_body=_BODY).invoke("hi")), (whole(),), keys=_KEYS),
}
