"""smolagents over openai: agents with tools (which run on threads), streams."""

from __future__ import annotations

from typing import Any

from smolagents import OpenAIModel, ToolCallingAgent, tool
from smolagents.monitoring import LogLevel
from tests.frameworks.driver import LIMITED, LONG, WEATHER, Case, forecast, streamed, whole

from spancast.testing import ReplayServer


@tool
def weather(city: str) -> str:
    """Return the weather.

    Args:
        city: The city.
    """
    return forecast(city)


_MESSAGES: Any = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]
_FINAL = ("final_answer", {"answer": "Sunny in Oslo."})


def model(server: ReplayServer, **more: Any) -> OpenAIModel:
    return OpenAIModel("gpt-4o-mini", api_base=server.base_url, api_key="k", client_kwargs={"max_retries": 0}, **more)


def agent(server: ReplayServer, **more: Any) -> ToolCallingAgent:
    return ToolCallingAgent([weather], model(server), verbosity_level=LogLevel.OFF, **more)


def said(message: Any) -> Any:
    return [message.content, message.token_usage and message.token_usage.dict()]


def chunks(server: ReplayServer) -> Any:
    return [delta.content for delta in model(server).generate_stream(_MESSAGES)]


_LOOP = (whole(None, tool_calls=[WEATHER]), whole("sunny"), whole(None, tool_calls=[_FINAL]))
_SUNNY = _LOOP[1:2]
_BODY = {"trace": {"feature": "billing"}, "session_id": "chat-7"}

CASES = {
    "conversation": Case(lambda s: agent(s).run("Weather in Oslo?"), _LOOP, calls=3),
    "streamed agent": Case(
        lambda s: agent(s, stream_outputs=True).run("Weather in Oslo?"),
        (streamed(None, tool_calls=[WEATHER]), whole("sunny"), streamed(None, tool_calls=[_FINAL])), calls=3,
    ),
    "tools on threads": Case(
        lambda s: agent(s).run("Weather?"),
        (whole(None, tool_calls=[WEATHER, ("weather", {"city": "Rome"})]), *_SUNNY * 2, _LOOP[-1]), calls=4,
    ),
    "streamed": Case(chunks, (streamed(),)),
    "left": Case(lambda s: next(model(s).generate_stream(_MESSAGES)).content, LONG, ends="closed|abandoned"),
    "error": Case(lambda s: said(model(s, retry=False).generate(_MESSAGES)), LIMITED, raises="RateLimitError"),
    "keys by keywords": Case(
        lambda s: said(model(s, extra_body=_BODY).generate(_MESSAGES)),
        keys={"session.id": "chat-7", "trace.metadata.feature": "billing"},
    ),
}  # fmt: skip
