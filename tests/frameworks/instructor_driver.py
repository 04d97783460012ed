"""instructor over openai and anthropic: structured output, validation retries, partial objects."""

from __future__ import annotations

from typing import Any

import anthropic
import instructor
import openai
from pydantic import BaseModel
from tests.frameworks.driver import CITY, CITY_AS_TOOL, LIMITED, Case, streamed, wait, whole

from spancast.dialects.anthropic_messages.answers import messages_answer
from spancast.testing import ReplayServer, Reply


class City(BaseModel):
    """A city."""

    city: str


_WRONG = whole(None, tool_calls=[("City", {"town": "Oslo"})])
_CITIES = ("IterableCity", {"tasks": [{"city": "Oslo"}, {"city": "Rome"}]})
_STREAMED = (streamed(None, tool_calls=[("City", {"city": "Oslo"})]),)
_USED = Reply.json(messages_answer(None, tool_calls=[("City", {"city": "Oslo"})]))


def request() -> dict[str, Any]:
    """Return a new request: instructor appends to its messages."""
    return {"model": "m", "response_model": City, "messages": [{"role": "user", "content": "hi"}], "max_retries": 1}


def client(server: ReplayServer, kind: Any = openai.OpenAI, **more: Any) -> Any:
    return instructor.from_openai(kind(base_url=server.base_url, api_key="k", max_retries=0), **more)


def ask(server: ReplayServer, **more: Any) -> Any:
    return client(server).chat.completions.create(**{**request(), **more}).model_dump()


async def awaited(server: ReplayServer) -> Any:
    return (await client(server, openai.AsyncOpenAI).chat.completions.create(**request())).model_dump()


async def astreamed(server: ReplayServer) -> Any:
    parts = client(server, openai.AsyncOpenAI).chat.completions.create_partial(**request())
    return [part.model_dump() async for part in parts]


def with_completion(server: ReplayServer) -> Any:
    city, completion = client(server).chat.completions.create_with_completion(**request())
    return [city.model_dump(), type(completion).__name__, completion.usage.total_tokens]


def partial(server: ReplayServer) -> Any:
    return [part.model_dump() for part in client(server).chat.completions.create_partial(**request())]


def left(server: ReplayServer) -> Any:
    return next(iter(client(server).chat.completions.create_partial(**request()))).model_dump()


def iterable(server: ReplayServer) -> Any:
    return [city.model_dump() for city in client(server).chat.completions.create_iterable(**request())]


def json_mode(server: ReplayServer) -> Any:
    asking = client(server, mode=instructor.Mode.JSON)
    return asking.chat.completions.create(**request()).model_dump()


def claude(server: ReplayServer) -> Any:
    asking = instructor.from_anthropic(anthropic.Anthropic(base_url=server.url, api_key="k", max_retries=0))
    return asking.messages.create(**request(), max_tokens=9).model_dump()


_KEYS = {"session.id": "chat-7", "trace.metadata.feature": "billing"}

CASES = {
    "conversation": Case(lambda s: ask(s, max_retries=2), (_WRONG, *CITY_AS_TOOL), calls=2),
    "streamed": Case(partial, _STREAMED),
    "left": Case(left, _STREAMED, ends="None|closed|abandoned"),
    "error": Case(ask, LIMITED * 3, raises="InstructorRetryException"),
    "async": Case(lambda s: wait(awaited(s)), CITY_AS_TOOL),
    "async streamed": Case(lambda s: wait(astreamed(s)), _STREAMED),
    "structured": Case(ask, CITY_AS_TOOL),
    "iterable": Case(iterable, (streamed(None, tool_calls=[_CITIES]),)),
    "with completion": Case(with_completion, CITY_AS_TOOL),
    "JSON mode": Case(json_mode, CITY),
    "anthropic": Case(claude, (_USED,)),
    "keys by keywords": Case(
        lambda s: ask(s, trace={"feature": "billing"}, session_id="chat-7"), CITY_AS_TOOL, keys=_KEYS
    ),
}
