"""Cases of a framework: functions that make calls through it, and what they must give."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import openai

from spancast.dialects.openai_chat.answers import chat_answer, chat_chunks
from spancast.dialects.openai_responses.answers import responses_answer, responses_events
from spancast.testing import ReplayServer, Reply

T = TypeVar("T")

os.environ.update(
    OPENAI_API_KEY="sk-test", ANTHROPIC_API_KEY="k", LANGSMITH_TRACING="false", CREWAI_DISABLE_TELEMETRY="true",
    CREWAI_TRACING_ENABLED="false", HAYSTACK_TELEMETRY_ENABLED="False", LITELLM_LOCAL_MODEL_COST_MAP="True",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """Calls through a framework; ``run`` returns what the framework gave, as JSON."""

    run: Callable[[ReplayServer], Any]
    replies: Sequence[Reply] = ()
    calls: int = 1
    raises: str = ""
    """The name of the exception that the caller gets."""
    ends: str = ""
    """How the stream of the last call ended: an expression of ``spancast.response.incomplete`` ("None": completely)."""
    keys: Mapping[str, Any] = field(default_factory=dict)
    """The attributes that the framework's own way of passing keys gives the calls."""


@dataclass(frozen=True, slots=True)
class Framework:
    """A framework: its import package and the module with its cases."""

    package: str
    module: str


FRAMEWORKS = {
    "autogen": Framework("autogen_agentchat", "autogen_driver"),
    "crewai": Framework("crewai", "crewai_driver"),
    "dspy": Framework("dspy", "dspy_driver"),
    "haystack": Framework("haystack", "haystack_driver"),
    "instructor": Framework("instructor", "instructor_driver"),
    "langchain": Framework("langchain_openai", "langchain_driver"),
    "langgraph": Framework("langgraph", "langgraph_driver"),
    "llama-index": Framework("llama_index.llms.openai", "llama_index_driver"),
    "openai-agents": Framework("agents", "openai_agents_driver"),
    "pydantic-ai": Framework("pydantic_ai", "pydantic_ai_driver"),
    "smolagents": Framework("smolagents", "smolagents_driver"),
}


REQUIRED = tuple(os.environ.get("SPANCAST_REQUIRE_FRAMEWORKS", "").split())
"""The frameworks that ``make frameworks`` has installed in this environment; a missing one fails its tests."""


def why_skipped(name: str) -> str | None:
    """Return the reason to skip the tests of a framework, None if they run."""
    framework = FRAMEWORKS[name]
    try:
        is_installed = importlib.util.find_spec(framework.package) is not None
    except ModuleNotFoundError:
        is_installed = False
    assert is_installed or name not in REQUIRED, f"{name} is not installed"
    return None if is_installed else f"{name} is not installed; `make frameworks` installs it"


_LOOP = asyncio.new_event_loop()


def wait(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return the result of ``coroutine``. All run in one loop, as some frameworks cache an asynchronous client."""
    return _LOOP.run_until_complete(coroutine)


def settle() -> None:
    """Collect garbage, and run what that schedules: asynchronous generators that were left are closed in the loop."""
    for _ in range(3):
        gc.collect()
        _LOOP.run_until_complete(asyncio.sleep(0))
        while tasks := asyncio.all_tasks(_LOOP):
            _LOOP.run_until_complete(asyncio.wait(tasks))


def whole(text: str | None = "Hello!", **more: Any) -> Reply:
    return Reply.json(chat_answer(text, **more))


def streamed(text: str | None = "Hello!", **more: Any) -> Reply:
    return Reply.stream(chat_chunks(chat_answer(text, **more), pieces=4))


SERVERS: list[ReplayServer] = []
"""The server of the running case, last."""


def forecast(city: str) -> str:
    """Return the weather: a tool that calls a model itself, on whatever thread the framework runs it."""
    with openai.OpenAI(base_url=SERVERS[-1].base_url, api_key="k", max_retries=0) as client:
        answer = client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": city}])
    return f"{answer.choices[0].message.content} in {city}"


WEATHER = ("weather", {"city": "Oslo"})
TOOL_LOOP = (whole(None, tool_calls=[WEATHER]), whole("sunny"), whole("Sunny in Oslo."))
STREAMED_TOOL_LOOP = (streamed(None, tool_calls=[WEATHER]), whole("sunny"), streamed("Sunny in Oslo."))
CITY = (whole('{"city": "Oslo"}'),)
CITY_AS_TOOL = (whole(None, tool_calls=[("City", {"city": "Oslo"})]),)
RESPONSES_TOOL_LOOP = (
    Reply.json(responses_answer(None, tool_calls=[WEATHER])),
    whole("sunny"),
    Reply.json(responses_answer("Sunny in Oslo.")),
)
STREAMED_RESPONSE = (Reply.stream(responses_events(responses_answer("Sunny in Oslo."), pieces=4)),)
LIMITED = (Reply.error(429),)
# More than one event, so that the stream is left before it has ended.
LONG = (streamed("one two three four five six seven eight"),)
