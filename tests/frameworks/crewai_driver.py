"""crewai: its models and crews, which run tasks on threads."""

from __future__ import annotations

from typing import Any

from crewai import LLM, Agent, Crew, Task
from crewai.tools import tool
from pydantic import BaseModel
from tests.frameworks.driver import CITY, LIMITED, TOOL_LOOP, Case, forecast, streamed, wait, whole

from spancast.testing import ReplayServer


class City(BaseModel):
    """A city."""

    city: str


@tool("weather")
def weather(city: str) -> str:
    """Return the weather."""
    return forecast(city)


def model(server: ReplayServer, **more: Any) -> Any:
    return LLM(model="openai/gpt-4o-mini", base_url=server.base_url, api_key="k", max_retries=0, **more)


def crew(server: ReplayServer, tasks: int = 1, **more: Any) -> Crew:
    """Return a crew; all tasks but the last run at once, each on a thread of crewai."""
    agents: Any = [
        Agent(role=f"guide {i}", goal="answer", backstory="local", llm=model(server), tools=[weather], verbose=False)
        for i in range(tasks)
    ]
    todo = [
        Task(description=f"task {i}", expected_output="text", agent=agent, async_execution=i < tasks - 1, **more)
        for i, agent in enumerate(agents)
    ]
    return Crew(agents=agents, tasks=todo, verbose=False)


async def awaited(server: ReplayServer) -> Any:
    return (await crew(server).kickoff_async()).raw


async def native(server: ReplayServer) -> Any:
    return (await crew(server).akickoff()).raw


_BODY = {"extra_body": {"trace": {"feature": "billing"}, "session_id": "chat-7"}}
_ANSWER = (whole("Thought: I now can give a great answer\nFinal Answer: Sunny."),)

CASES = {
    "conversation": Case(lambda s: crew(s).kickoff().raw, TOOL_LOOP, calls=3),
    "model": Case(lambda s: model(s).call("hi")),
    "streamed": Case(lambda s: model(s, stream=True).call("hi"), (streamed(),)),
    "error": Case(lambda s: model(s).call("hi"), LIMITED * 3, raises="RateLimitError"),
    "tasks on threads": Case(lambda s: crew(s, 3).kickoff().raw, _ANSWER * 3, calls=3),
    "async on a thread": Case(lambda s: wait(awaited(s)), _ANSWER),
    "async": Case(lambda s: wait(native(s)), _ANSWER),
    "structured": Case(lambda s: crew(s, output_pydantic=City).kickoff().pydantic.model_dump(), CITY),
    "anthropic": Case(lambda s: LLM(model="anthropic/claude-sonnet-4-5", base_url=s.url, api_key="k").call("hi")),
    "keys by additional_params": Case(
        lambda s: model(s, additional_params=_BODY).call("hi"),
        keys={"session.id": "chat-7", "trace.metadata.feature": "billing"},
    ),
}
