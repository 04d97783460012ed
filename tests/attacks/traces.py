"""Random programs of blocks, calls, threads, tasks, generators and exceptions, whose tree of spans is known before.

Each node has a name of its own, so siblings that run at the same time compare in any order.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any, Final

from opentelemetry import context as context_api

import spancast
from spancast.testing import CapturedSpans
from spancast.testing.spans import attributes
from spancast.tracing.trace_block import ACTIVE_KEYS
from spancast.tracing.traced_call import CURRENT_CALL

_KINDS: Final = (
    "call", "call", "call", "async call", "block", "trace", "session", "decorated", "tasks", "thread", "generator",
    "async generator", "fails", "stream",
)  # fmt: skip
_DEPTH: Final = 5


@dataclass
class Node:
    kind: str
    name: str
    children: list[Node] = field(default_factory=list["Node"])

    @property
    def opens_span(self) -> bool:
        return self.kind in ("block", "trace", "decorated", "generator", "async generator", "fails")

    @property
    def starts_tasks(self) -> bool:
        return self.kind in ("tasks", "generator", "async generator") or any(one.starts_tasks for one in self.children)

    def tree(self) -> dict[str, Any]:
        """Return the spans that this node makes."""
        inside = {name: tree for child in self.children for name, tree in child.tree().items()}
        if self.kind in ("call", "async call", "stream"):
            return {self.name: {}}
        return {self.name: inside} if self.opens_span else inside

    def sessions(self, session: str | None) -> dict[str, str | None]:
        """Return the session of each call."""
        if not self.children:
            return {self.name: session} if self.kind in ("call", "async call", "stream") else {}
        session = self.name if self.kind == "session" else session
        return {name: found for child in self.children for name, found in child.sessions(session).items()}


def node(chance: random.Random, numbers: Iterator[int], depth: int = _DEPTH) -> Node:
    """Return a random program."""
    kind = chance.choice(_KINDS[:4] if not depth else _KINDS[4:] if depth == _DEPTH else _KINDS)
    made = Node(kind, f"{kind} {next(numbers)}")
    if kind not in ("call", "async call", "stream"):
        made.children = [node(chance, numbers, depth - 1) for _ in range(chance.randrange(1, 4))]
    return made


@spancast.instrument
def _answer(**_: Any) -> str:
    return "hi"


@spancast.instrument
async def _answer_later(**_: Any) -> str:
    await asyncio.sleep(0)
    return "hi"


@spancast.instrument
def _answer_in_parts(**_: Any) -> Iterator[str]:
    yield "h"
    yield "i"


def _named(name: str) -> dict[str, Any]:
    return {"model": "m", "messages": [], "trace": {"generation_name": name}}


class Planned(Exception):  # noqa: N818 - it is raised on purpose
    """Raised by a node of the program."""


async def _run_all(nodes: list[Node]) -> None:
    for one in nodes:
        await run(one)


async def run(one: Node) -> None:
    """Run a program."""
    await _WAYS[one.kind](one)


async def _call(one: Node) -> None:
    _answer(**_named(one.name))


async def _async_call(one: Node) -> None:
    await _answer_later(**_named(one.name))


async def _stream(one: Node) -> None:
    for _ in _answer_in_parts(**_named(one.name)):
        await asyncio.sleep(0)


async def _block(one: Node) -> None:
    with spancast.trace(span_name=one.name):
        await _run_all(one.children)


async def _trace(one: Node) -> None:
    async with spancast.trace(span_name=one.name, custom=1):
        await _run_all(one.children)


async def _session(one: Node) -> None:
    with spancast.trace(session_id=one.name):
        await _run_all(one.children)


async def _decorated(one: Node) -> None:
    await spancast.trace(span_name=one.name)(_run_all)(one.children)


async def _tasks(one: Node) -> None:
    await asyncio.gather(*map(run, one.children))


async def _thread(one: Node) -> None:
    with spancast.trace() as scope, ThreadPoolExecutor(2) as pool:
        work = scope.bind(lambda child: asyncio.run(run(child)))
        futures = [pool.submit(work, child) for child in one.children]
        for future in futures:
            await asyncio.wrap_future(future)


async def _generator(one: Node) -> None:
    def steps() -> Iterator[None]:
        with spancast.trace(span_name=one.name) as scope:
            for child in one.children:
                # Each step is on a thread and in a loop of its own. What it starts on others must be bound.
                bound = scope.bind(asyncio.run) if child.starts_tasks else asyncio.run
                bound(run(child))
                yield

    generator = steps()
    with ThreadPoolExecutor(1) as pool:
        while await asyncio.wrap_future(pool.submit(copy_context().run, next, generator, "ended")) != "ended":
            pass


async def _async_generator(one: Node) -> None:
    async def steps() -> AsyncIterator[None]:
        with spancast.trace(span_name=one.name) as scope:
            for child in one.children:
                bound = scope.bind(run) if child.starts_tasks else run
                await bound(child)
                yield

    generator = steps()
    # Each step is a task of its own, as a server drives a response.
    while await asyncio.ensure_future(anext(generator, "ended")) != "ended":
        pass


async def _fails(one: Node) -> None:
    with suppress(Planned), spancast.trace(span_name=one.name):
        await _run_all(one.children)
        raise Planned


_WAYS: Final[dict[str, Any]] = {
    "call": _call, "async call": _async_call, "stream": _stream, "block": _block, "trace": _trace, "session": _session,
    "decorated": _decorated, "tasks": _tasks, "thread": _thread, "generator": _generator,
    "async generator": _async_generator, "fails": _fails,
}  # fmt: skip


def trial(spans: CapturedSpans, seed: int) -> tuple[int, str]:
    """Run the program ``seed``; return the number of its spans and what is wrong, empty if nothing is."""
    program = node(random.Random(seed), iter(range(10_000)))

    async def traced() -> tuple[Any, ...]:
        await run(program)
        return CURRENT_CALL.get(), ACTIVE_KEYS.get().entries, context_api.get_current()

    left = asyncio.run(traced())
    tree = spans.tree()
    sessions = {span.name: attributes(span).get("session.id") for span in spans.calls()}
    count = len(spans.all())
    spans.clear()
    if left != (None, (), {}):
        return count, f"left current: {left}"
    if tree != program.tree():
        return count, f"the tree is {tree}\n instead of {program.tree()}"
    wanted = program.sessions(None)
    return count, "" if sessions == wanted else f"the sessions are {sessions}\n instead of {wanted}"


def trials(spans: CapturedSpans, seeds: range) -> tuple[int, dict[int, str]]:
    """Return how many spans the programs ``seeds`` made, and what is wrong with which of them."""
    found = {seed: trial(spans, seed) for seed in seeds}
    return sum(count for count, _ in found.values()), {seed: wrong for seed, (_, wrong) in found.items() if wrong}
