"""Ctrl-C inside our own lines: nothing of ours stays current in the caller's context.

A trace function raises KeyboardInterrupt at each line of ours in turn.
"""

from __future__ import annotations

import linecache
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import openai
import pytest
from opentelemetry import context as context_api

import spancast
from spancast.testing import CapturedSpans, ReplayServer, Reply
from spancast.tracing.trace_block import ACTIVE_KEYS
from spancast.tracing.traced_call import CURRENT_CALL

SOURCES = str(Path(spancast.__file__).parent)
STATE_FUNCTIONS = ("wrapper", "around", "attach", "detach")
"""Those that change what is current during a call of a client; each line costs a whole call."""
MESSAGES: Any = [{"role": "user", "content": "hi"}]


class Interrupt:
    """A trace function that raises KeyboardInterrupt at the line number ``at`` of those in ``functions`` (or all)."""

    def __init__(self, at: int, functions: tuple[str, ...]) -> None:
        self.left, self.functions, self.place = at, functions, ""
        self.entered: set[tuple[int, int]] = set()

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        name, function = frame.f_code.co_filename, frame.f_code.co_name
        if not name.startswith((SOURCES, "<spancast")) or (self.functions and function not in self.functions):
            return None
        if event == "line" and not self.place and not _before_exit(frame) and not self._leaves_block(frame):
            self.left -= 1
            if not self.left:
                self.place = f"{name}:{frame.f_lineno}"
                raise KeyboardInterrupt
        return self

    def _leaves_block(self, frame: FrameType) -> bool:
        """Return whether a ``with`` block ends here: Python acts on signals after calls, so first its lock is free."""
        if not linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip().startswith("with "):
            return False
        entered = id(frame), frame.f_lineno
        was_entered = entered in self.entered
        (self.entered.discard if was_entered else self.entered.add)(entered)
        return was_entered


def _before_exit(frame: FrameType) -> bool:
    """Return whether the ``with`` block has not called us yet; Python offers no protection there."""
    code = frame.f_code
    return code.co_qualname == "TraceBlock.__exit__" and frame.f_lineno <= code.co_firstlineno + 5


def current() -> tuple[Any, ...]:
    return CURRENT_CALL.get(), ACTIVE_KEYS.get().entries, context_api.get_current()


def is_free(work: Callable[[], object]) -> bool:
    """Return whether ``work`` ends on another thread: no lock is left behind."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(30)
    return not thread.is_alive()


def interrupted(work: Callable[[], object], functions: tuple[str, ...] = ()) -> Iterator[str]:
    """Call ``work`` once for each line; yield the lines."""
    number, place = 0, "first"
    while place:
        number += 1
        interrupt = Interrupt(number, functions)
        former = sys.gettrace()
        sys.settrace(interrupt)
        try:
            work()
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(former)
        place = interrupt.place
        yield place


@spancast.instrument
def function(**request: Any) -> str:
    return "hi"


@spancast.instrument
def generator(**request: Any) -> Iterator[str]:
    yield "h"
    yield "i"


@spancast.instrument
async def coroutine(**request: Any) -> str:
    return "hi"


@spancast.instrument
async def async_generator(**request: Any) -> AsyncIterator[str]:
    yield "hi"


@spancast.trace(session_id="s", span_name="x")
def traced() -> None:
    function(model="m", messages=MESSAGES)


@spancast.trace(session_id="s", span_name="x")
def traced_generator() -> Iterator[int]:
    yield 1
    function(model="m", messages=MESSAGES)
    yield 2


def block() -> None:
    with spancast.trace(session_id="s", span_name="x"):
        function(model="m", messages=MESSAGES)


def step(awaitable: Any) -> None:
    """Run a coroutine that does not wait, in this context."""
    with pytest.raises((StopIteration, StopAsyncIteration)):
        awaitable.send(None)


WORKS: dict[str, Callable[[], object]] = {
    "function": lambda: function(model="m", messages=MESSAGES),
    "generator": lambda: list(generator(model="m", messages=MESSAGES)),
    "coroutine": lambda: step(coroutine(model="m", messages=MESSAGES)),
    "async generator": lambda: step(async_generator(model="m", messages=MESSAGES).__anext__()),
    "traced function": traced,
    "traced generator": lambda: list(traced_generator()),
    "block": block,
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", WORKS)
def test_interrupt_at_any_line_leaves_nothing_current(name: str, spans: CapturedSpans) -> None:
    WORKS[name]()
    before, lines = current(), 0
    for place in interrupted(WORKS[name]):
        assert current() == before, place
        assert is_free(WORKS[name]), place
        lines += 1
    assert lines > 100


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("way", ["whole", "streamed", "refused"])
def test_interrupt_during_a_call_of_a_client_leaves_nothing_current(
    way: str, server: ReplayServer, spans: CapturedSpans
) -> None:
    client = spancast.instrument(openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0))

    def work() -> None:
        try:
            answer: Any = client.chat.completions.create(model="m", messages=MESSAGES, stream=way == "streamed")
        except openai.BadRequestError:
            return
        if way == "streamed":
            list(answer)

    if way == "refused":
        server.reply(*[Reply.error(400)] * 500)
    work()
    before = current()
    places = []
    for place in interrupted(work, STATE_FUNCTIONS):
        assert current() == before, place
        places.append(place)
    assert len(places) > 20


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_interrupt_during_a_call_of_an_async_client_leaves_nothing_current(
    server: ReplayServer, spans: CapturedSpans
) -> None:
    client = spancast.instrument(openai.AsyncOpenAI(base_url=server.base_url, api_key="k", max_retries=0))
    await client.chat.completions.create(model="m", messages=MESSAGES)
    before, number, place = current(), 0, "first"
    while place:
        number += 1
        interrupt = Interrupt(number, STATE_FUNCTIONS)
        former = sys.gettrace()
        sys.settrace(interrupt)
        try:
            await client.chat.completions.create(model="m", messages=MESSAGES)
        except (KeyboardInterrupt, openai.APIConnectionError):
            pass
        finally:
            sys.settrace(former)
        place = interrupt.place
        assert current() == before, place
    assert number > 20
