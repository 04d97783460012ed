"""One ``spancast.trace(...)`` object entered many times: each entry undoes what it did, and nothing else."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry import trace as trace_api

import spancast
from spancast.recording.scope import AMBIENT, NOWHERE
from spancast.testing import CapturedSpans
from spancast.testing.answers import chat_answer
from spancast.testing.spans import attributes

MESSAGES: Any = [{"role": "user", "content": "hi"}]
THREADS = 8
TURNS = 10


@spancast.instrument
def ask(**_: Any) -> dict[str, Any]:
    return chat_answer("hello", model="m")


def call(name: str) -> None:
    ask(model="m", messages=MESSAGES, trace={"generation_name": name})


def sessions(spans: CapturedSpans) -> dict[str, str | None]:
    """Return the session of each generation by its name."""
    return {span.name: attributes(span).get("session.id") for span in spans.calls()}


def is_clean() -> bool:
    return AMBIENT.get() is NOWHERE and not trace_api.get_current_span().get_span_context().is_valid


def on_threads(work: Callable[[int], Any]) -> list[Any]:
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, range(THREADS)))


def test_threads_that_share_an_object_keep_none_of_its_keys(spans: CapturedSpans) -> None:
    shared = spancast.trace(session_id="shared", span_name="work")
    together = threading.Barrier(THREADS, timeout=30)

    def work(thread: int) -> list[bool]:
        clean: list[bool] = []
        for turn in range(TURNS):
            with shared:
                together.wait()
                call(f"inside {thread} {turn}")
            together.wait()
            clean.append(is_clean())
            call(f"outside {thread} {turn}")
        return clean

    assert on_threads(work) == [[True] * TURNS] * THREADS
    found = sessions(spans)
    assert len(found) == 2 * THREADS * TURNS
    assert {name: session for name, session in found.items() if name.startswith("inside")} == {
        f"inside {thread} {turn}": "shared" for thread in range(THREADS) for turn in range(TURNS)
    }
    assert {session for name, session in found.items() if name.startswith("outside")} == {None}
    groups = [span for span in spans.all() if span.name == "work"]
    assert len(groups) == THREADS * TURNS
    parents = [span.parent.span_id for span in spans.calls() if span.parent]
    assert sorted(parents) == sorted(group.context.span_id for group in groups)


async def test_tasks_that_share_an_object_keep_none_of_its_keys(spans: CapturedSpans) -> None:
    shared = spancast.trace(session_id="shared", span_name="work")

    async def work(task: int) -> bool:
        # Tasks leave in another order than they enter.
        async with shared:
            for _ in range(task % 3):
                await asyncio.sleep(0)
            call(f"inside {task}")
        call(f"outside {task}")
        return is_clean()

    assert await asyncio.gather(*(work(task) for task in range(20))) == [True] * 20
    found = sessions(spans)
    assert found == {**{f"inside {n}": "shared" for n in range(20)}, **{f"outside {n}": None for n in range(20)}}
    assert is_clean()
    assert len(spans.all()) == 60


async def test_decorated_functions_that_run_at_once_keep_none_of_its_keys(spans: CapturedSpans) -> None:
    shared = spancast.trace(session_id="shared", span_name="work")
    together = threading.Barrier(THREADS, timeout=30)

    @shared
    def work(thread: int) -> None:
        together.wait()
        call(f"inside {thread}")

    @shared
    async def work_async(task: int) -> None:
        await asyncio.sleep(0)
        call(f"inside {THREADS + task}")

    def around(thread: int) -> bool:
        work(thread)
        call(f"outside {thread}")
        return is_clean()

    assert on_threads(around) == [True] * THREADS
    await asyncio.gather(*map(work_async, range(THREADS)))
    assert is_clean()
    found = sessions(spans)
    assert {name for name, session in found.items() if session == "shared"} == {
        f"inside {n}" for n in range(2 * THREADS)
    }
    assert len(shared.calls) == 2 * THREADS


def test_an_object_nested_in_itself(spans: CapturedSpans) -> None:
    shared = spancast.trace(session_id="s", span_name="again")
    with shared as outer:
        call("one")
        with shared as inner:
            call("two")
        call("three")
        with outer as of_outer:
            call("four")
    call("five")
    assert is_clean()
    assert sessions(spans) == {"one": "s", "two": "s", "three": "s", "four": "s", "five": None}
    assert spans.tree() == {"again": {"one": {}, "again": {"two": {}}, "three": {}, "again'": {"four": {}}}, "five": {}}
    ids = {span.name: f"{span.context.span_id:016x}" for span in spans.calls()}
    assert [one.span_id for one in outer.calls] == [ids[name] for name in ("one", "two", "three", "four")]
    assert [one.span_id for one in inner.calls] == [ids["two"]]
    assert [one.span_id for one in of_outer.calls] == [ids["four"]]
    assert [one.span_id for one in shared.calls] == [ids[name] for name in ("one", "two", "three", "four")]


def test_a_scope_lists_its_own_entry_and_the_object_all_of_them(spans: CapturedSpans) -> None:
    shared = spancast.trace(trace_name="T")
    together = threading.Barrier(THREADS, timeout=30)

    def work(_: int) -> tuple[str | None, set[str]]:
        with shared as scope:
            together.wait()
            ask(model="m", messages=MESSAGES)
            together.wait()
        return scope.trace_id, {ids.trace_id for ids in scope.calls}

    found = on_threads(work)
    assert all(calls == {trace_id} for trace_id, calls in found)
    assert len({trace_id for trace_id, _ in found}) == THREADS
    assert {ids.trace_id for ids in shared.calls} == {trace_id for trace_id, _ in found}
    assert len(shared.calls) == THREADS


def test_an_object_used_without_as(spans: CapturedSpans) -> None:
    block = spancast.trace(trace_name="T", session_id="s")
    with block, ThreadPoolExecutor(2) as pool:
        list(pool.map(block.bind(call), ["a", "b"]))
        assert {ids.trace_id for ids in block.calls} == {block.trace_id}
    assert sessions(spans) == {"a": "s", "b": "s"}
    assert len(spans.tree()["T"]) == 2


@pytest.mark.parametrize("is_shared", [True, False])
def test_generators_that_take_turns_leave_nothing(spans: CapturedSpans, *, is_shared: bool) -> None:
    """Each holds a block over its ``yield``; the first to enter is the first to leave."""
    shared = spancast.trace(session_id="0", span_name="work")

    def generator(session: str) -> Iterator[None]:
        with shared if is_shared else spancast.trace(session_id=session, span_name="work"):
            yield
            yield
        call(f"outside {session}")

    with spancast.trace(user="u", trace_name="T"):
        for _ in zip(generator("0"), generator("1"), strict=True):
            pass
        call("after")
    call("outermost")
    assert is_clean()
    found = {span.name: attributes(span) for span in spans.calls()}
    assert "session.id" not in found["outside 1"]
    assert "session.id" not in found["after"]
    assert found["after"]["user.id"] == "u"
    assert "user.id" not in found["outermost"]
    assert {"after", "work"} <= set(spans.tree()["T"])


def test_a_block_left_in_another_context_ends_its_span_and_leaves_nothing(spans: CapturedSpans) -> None:
    shared = spancast.trace(session_id="s", span_name="work")
    contextvars.copy_context().run(shared.__enter__)
    with spancast.trace(session_id="other", span_name="other"):
        shared.__exit__(None, None, None)
        call("inside other")
    assert is_clean()
    assert sessions(spans) == {"inside other": "other"}
    assert spans.tree() == {"work": {}, "other": {"inside other": {}}}


def test_a_block_left_in_a_copy_of_its_context_leaves_nothing_there(spans: CapturedSpans) -> None:
    shared = spancast.trace(session_id="s", span_name="work")

    def left() -> bool:
        shared.__exit__(None, None, None)
        call("after")
        return is_clean()

    def entered() -> contextvars.Context:
        shared.__enter__()
        return contextvars.copy_context()

    assert contextvars.copy_context().run(entered).run(left)
    assert sessions(spans) == {"after": None}


def test_a_task_begun_in_a_block_keeps_its_keys_when_the_block_is_left(spans: CapturedSpans) -> None:
    shared = spancast.trace(session_id="s")

    def later() -> None:
        with shared, spancast.trace(user="u"):
            pass
        call("later")

    with shared:
        copied = contextvars.copy_context()
    copied.run(later)
    assert sessions(spans) == {"later": "s"}


def test_an_exit_without_an_entry_is_harmless(spans: CapturedSpans) -> None:
    block = spancast.trace(session_id="s")
    block.__exit__(None, None, None)
    with block:
        call("inside")
    block.__exit__(None, None, None)
    assert sessions(spans) == {"inside": "s"}


def test_a_shared_object_that_is_wrong_leaves_nothing(spans: CapturedSpans) -> None:
    spancast.configure(tracer_provider=spans.provider, strict=True)
    wrong = spancast.trace(span_name="work", session_id="s" * 257)
    for _ in range(2):
        with pytest.raises(spancast.TraceKeyError), wrong:
            pass
        assert is_clean()
    assert spans.all() == []
