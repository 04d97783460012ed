"""langgraph: nodes on threads and in tasks, agents, checkpoints."""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

from langchain.agents import create_agent
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from tests.frameworks.driver import CITY, LIMITED, LONG, STREAMED_TOOL_LOOP, TOOL_LOOP, Case, wait
from tests.frameworks.langchain_driver import City, model, said, weather

from spancast.testing import ReplayServer


class State(TypedDict):
    """The answers of the nodes."""

    answers: Annotated[list[Any], operator.add]


def graph(server: ReplayServer) -> Any:
    """Return a graph of two nodes at once (langgraph runs synchronous ones on threads) and one after them."""
    built = StateGraph(State)

    def ask(state: State) -> Any:
        return {"answers": [said(model(server).invoke("hi"))]}

    async def ask_async(state: State) -> Any:
        return {"answers": [said(await model(server).ainvoke("hi"))]}

    for name in ("left", "right", "last"):
        built.add_node(name, ask_async if server in _ASYNC else ask)
    for name in ("left", "right"):
        built.add_edge(START, name)
        built.add_edge(name, "last")
    built.add_edge("last", END)
    return built.compile(checkpointer=InMemorySaver())


_ASYNC: set[ReplayServer] = set()
_THREAD: Any = {"configurable": {"thread_id": "chat-7", "api_key": "sk-secret"}}
_CONFIG: Any = {**_THREAD, "metadata": {"feature": "billing", "user_id": "u-1"}}
_EMPTY: Any = {"answers": []}


async def agraph(server: ReplayServer) -> Any:
    _ASYNC.add(server)
    try:
        return (await graph(server).ainvoke(_EMPTY, _CONFIG))["answers"]
    finally:
        _ASYNC.discard(server)


def agent(server: ReplayServer, **more: Any) -> Any:
    return create_agent(model(server), tools=[weather], **more)


_QUESTION: Any = {"messages": [("user", "Weather in Oslo?")]}


def texts(state: Any) -> Any:
    return [[message.type, message.content] for message in state["messages"]]


async def aagent(server: ReplayServer) -> Any:
    return texts(await agent(server).ainvoke(_QUESTION))


def streamed(server: ReplayServer) -> Any:
    parts = agent(server).stream(_QUESTION, stream_mode="messages")
    return [[message.type, message.content] for message, _ in parts]


def left(server: ReplayServer) -> Any:
    for message, _ in agent(server).stream(_QUESTION, stream_mode="messages"):
        return message.content
    return None


def checkpoints(server: ReplayServer) -> Any:
    remembering = agent(server, checkpointer=InMemorySaver())
    first = texts(remembering.invoke({"messages": [("user", "one")]}, _CONFIG))
    return [first, texts(remembering.invoke({"messages": [("user", "two")]}, _CONFIG))]


def structured(server: ReplayServer) -> Any:
    return agent(server, response_format=City).invoke(_QUESTION)["structured_response"].model_dump()


_KEYS = {"session.id": "chat-7", "user.id": "u-1", "trace.metadata.feature": "billing"}

CASES = {
    "conversation": Case(lambda s: texts(agent(s).invoke(_QUESTION)), TOOL_LOOP, calls=3),
    "streamed": Case(streamed, STREAMED_TOOL_LOOP, calls=3),
    "left": Case(left, LONG, ends="None|closed|abandoned"),
    "error": Case(lambda s: agent(s).invoke(_QUESTION), LIMITED, raises="OpenAIRateLimitError"),
    "async": Case(lambda s: wait(aagent(s)), TOOL_LOOP, calls=3),
    "structured": Case(structured, CITY),
    "nodes on threads": Case(
        lambda s: graph(s).invoke(_EMPTY, _THREAD)["answers"], calls=3, keys={"session.id": "chat-7"}
    ),
    "nodes in tasks": Case(lambda s: wait(agraph(s)), calls=3, keys=_KEYS),
    "keys by config": Case(checkpoints, calls=2, keys={**_KEYS, "trace.metadata.langgraph_node": "model"}),
}
