"""One ``spancast.trace(...)`` object entered many times: each exit restores the state of its own entry only."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry import baggage
from opentelemetry import context as context_api
from opentelemetry import trace as trace_api
from starlette.responses import StreamingResponse
from starlette.testclient import TestClient

import spancast
from spancast.dialects.openai_chat.answers import chat_answer, chat_chunks
from spancast.testing import CapturedSpans
from spancast.testing.spans import attributes
from spancast.tracing.call_tracer import CALL_TRACER
from spancast.tracing.trace_block import ACTIVE_KEYS, NO_ACTIVE_KEYS, _in_generators

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
    return ACTIVE_KEYS.get() is NO_ACTIVE_KEYS and not trace_api.get_current_span().get_span_context().is_valid


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
        # Tasks exit in another order than they enter.
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


def test_object_nested_in_itself_opens_a_span_per_entry(spans: CapturedSpans) -> None:
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


def test_calls_of_an_entry_and_of_the_object(spans: CapturedSpans) -> None:
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


def test_object_used_without_as(spans: CapturedSpans) -> None:
    block = spancast.trace(trace_name="T", session_id="s")
    with block, ThreadPoolExecutor(2) as pool:
        list(pool.map(block.bind(call), ["a", "b"]))
        assert {ids.trace_id for ids in block.calls} == {block.trace_id}
    assert sessions(spans) == {"a": "s", "b": "s"}
    assert len(spans.tree()["T"]) == 2


@pytest.mark.parametrize("is_shared", [True, False])
def test_interleaved_generators_leave_nothing_active(spans: CapturedSpans, *, is_shared: bool) -> None:
    """Each generator holds a block over its ``yield``; the first to enter is the first to exit."""
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


def test_block_exited_in_another_context_ends_its_span_and_leaves_nothing_active(spans: CapturedSpans) -> None:
    shared = spancast.trace(session_id="s", span_name="work")
    contextvars.copy_context().run(shared.__enter__)
    with spancast.trace(session_id="other", span_name="other"):
        shared.__exit__(None, None, None)
        call("inside other")
    assert is_clean()
    assert sessions(spans) == {"inside other": "other"}
    assert spans.tree() == {"work": {}, "other": {"inside other": {}}}


def test_block_exited_in_a_copy_of_its_context_leaves_nothing_active_there(spans: CapturedSpans) -> None:
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


def test_task_started_in_a_block_keeps_its_keys_after_the_exit(spans: CapturedSpans) -> None:
    shared = spancast.trace(session_id="s")

    def later() -> None:
        with shared, spancast.trace(user="u"):
            pass
        call("later")

    with shared:
        copied = contextvars.copy_context()
    copied.run(later)
    assert sessions(spans) == {"later": "s"}


def test_exit_without_an_entry_is_harmless(spans: CapturedSpans) -> None:
    block = spancast.trace(session_id="s")
    block.__exit__(None, None, None)
    with block:
        call("inside")
    block.__exit__(None, None, None)
    assert sessions(spans) == {"inside": "s"}


def test_shared_object_with_wrong_keys_leaves_nothing_active(spans: CapturedSpans) -> None:
    spancast.configure(tracer_provider=spans.provider, strict=True)
    wrong = spancast.trace(span_name="work", session_id="s" * 257)
    for _ in range(2):
        with pytest.raises(spancast.TraceKeyError), wrong:
            pass
        assert is_clean()
    assert spans.all() == []


# --- functions with steps -------------------------------------------------------------------------


def in_context(function: Callable[..., Any], *args: Any) -> Any:
    """Call ``function`` in a new copy of the caller's context, as web frameworks drive each step of a generator."""
    return contextvars.copy_context().run(function, *args)


def test_traced_generator_has_its_keys_in_each_step_and_none_between(spans: CapturedSpans) -> None:
    @spancast.trace(session_id="s", span_name="work")
    def generator(name: str) -> Generator[str, str, str]:
        """Doc."""
        with spancast.trace(feature="inner"):
            call(f"{name} 1")
            sent = yield "first"
            call(f"{name} 2")
        try:
            yield sent
        except KeyError:
            call(f"{name} 3")
        return "returned"

    assert inspect.isgeneratorfunction(generator)
    assert (generator.__name__, generator.__doc__) == ("generator", "Doc.")
    one, two = generator("one"), generator("two")
    assert [next(one), next(two), is_clean()] == ["first", "first", True]
    call("between")
    assert [in_context(two.send, "b"), in_context(one.send, "a"), is_clean()] == ["b", "a", True]
    for running in (one, two):
        with pytest.raises(StopIteration, match="returned"):
            in_context(running.throw, KeyError("k"))
    assert is_clean()
    inside = [f"{name} {step}" for name in ("one", "two") for step in (1, 2, 3)]
    assert sessions(spans) == {**dict.fromkeys(inside, "s"), "between": None}
    features = {span.name: attributes(span).get("trace.metadata.feature") for span in spans.calls()}
    assert {name for name, feature in features.items() if feature} == {name for name in inside if name[-1] != "3"}
    assert spans.tree() == {
        "work": {"one 1": {}, "one 2": {}, "one 3": {}}, "work'": {"two 1": {}, "two 2": {}, "two 3": {}},
        "between": {},
    }  # fmt: skip


async def test_traced_async_generator_driven_by_several_tasks_has_its_keys(spans: CapturedSpans) -> None:
    @spancast.trace(session_id="s", trace_name="T")
    async def generator(name: str) -> AsyncGenerator[str]:
        with spancast.trace(span_name="part"):
            for step in range(3):
                await asyncio.sleep(0)
                assert not is_clean()
                call(f"{name} {step}")
                yield f"{name} {step}"

    async def step(running: Any) -> Any:
        item = await anext(running)
        assert is_clean()
        return item

    assert inspect.isasyncgenfunction(generator)
    one, two = generator("one"), generator("two")
    for number in range(3):
        assert await asyncio.gather(asyncio.create_task(step(one)), asyncio.create_task(step(two))) == [
            f"one {number}", f"two {number}",
        ]  # fmt: skip
    await one.aclose()
    assert [item async for item in two] == []
    assert is_clean()
    assert set(sessions(spans).values()) == {"s"}
    parts = [{"part": {f"{name} {step}": {} for step in range(3)}} for name in ("one", "two")]
    assert list(spans.tree().values()) == parts


@pytest.mark.parametrize("kind", ["coroutine", "generator", "async generator"])
async def test_traced_function_that_returns_a_generator_or_coroutine(kind: str, spans: CapturedSpans) -> None:
    async def coroutine() -> str:
        await asyncio.sleep(0)
        call("step")
        return "answer"

    def generator() -> Generator[str]:
        call("step")
        yield "answer"

    async def async_generator() -> AsyncGenerator[str]:
        call("step")
        yield "answer"

    @spancast.trace(session_id="s", span_name="work")
    def function() -> Any:
        call("called")
        return {"coroutine": coroutine, "generator": generator, "async generator": async_generator}[kind]()

    result = function()
    assert is_clean()
    if kind == "coroutine":
        assert await result == "answer"
    elif kind == "generator":
        assert list(result) == ["answer"]
    else:
        assert [item async for item in result] == ["answer"]
    assert is_clean()
    assert spans.tree() == {"work": {"called": {}, "step": {}}}
    assert sessions(spans) == {"called": "s", "step": "s"}


def test_traced_instrumented_generator_has_the_keys(spans: CapturedSpans) -> None:
    @spancast.trace(session_id="s", span_name="work")
    @spancast.instrument
    def generator(**_: Any) -> Iterator[Any]:
        yield from chat_chunks(chat_answer("hello", model="m"))

    assert len(list(generator(model="m", messages=MESSAGES))) > 1
    assert spans.tree() == {"work": {"chat m": {}}}
    assert sessions(spans) == {"chat m": "s"}


def test_traced_generator_failed_left_or_never_started_ends_its_span(spans: CapturedSpans) -> None:
    @spancast.trace(span_name="work")
    def generator() -> Iterator[None]:
        yield
        raise LookupError

    @spancast.trace(span_name="called")
    def function() -> Iterator[None]:
        return (item for item in [None])

    failing, left = generator(), generator()
    next(failing)
    next(left)
    with pytest.raises(LookupError):
        next(failing)
    left.close()  # type: ignore[attr-defined]
    del left
    generator()
    function()
    gc.collect()
    assert is_clean()
    assert [(span.name, attributes(span).get("error.type")) for span in spans.all()] == [
        ("work", "LookupError"), ("work", None), ("called", None),
    ]  # fmt: skip


def test_block_with_a_span_in_a_traced_generator_restores_the_context(spans: CapturedSpans) -> None:
    @spancast.trace(session_id="s")
    def generator() -> Iterator[None]:
        call("1")
        with spancast.trace(span_name="part"):
            yield
            call("2")
            yield
        call("3")
        yield

    running = generator()
    with spans.provider.get_tracer("app").start_as_current_span("first"):
        next(running)
        call("between")
    assert is_clean()
    in_context(next, running)
    with spans.provider.get_tracer("app").start_as_current_span("last"):
        next(running)
        call("after")
    running.close()  # type: ignore[attr-defined]
    assert is_clean()
    # A block restores the context of its entry.
    assert spans.tree() == {"first": {"1": {}, "part": {"2": {}}, "between": {}, "3": {}}, "last": {"after": {}}}
    assert sessions(spans) == {"1": "s", "between": None, "2": "s", "3": "s", "after": None}


async def test_context_attached_by_a_traced_function_stays_attached(spans: CapturedSpans) -> None:
    @spancast.trace(session_id="s")
    def function(value: str) -> None:
        context_api.attach(baggage.set_baggage("mine", value))

    @spancast.trace(session_id="s")
    async def coroutine(value: str) -> None:
        await asyncio.sleep(0)
        context_api.attach(baggage.set_baggage("mine", value))
        await asyncio.sleep(0)

    def sync_found() -> object:
        function("one")
        return baggage.get_baggage("mine")

    assert in_context(sync_found) == "one"

    async def found() -> object:
        await coroutine("two")
        return baggage.get_baggage("mine")

    assert await asyncio.create_task(found()) == "two"


async def test_block_in_a_generator_that_others_drive_has_its_keys(spans: CapturedSpans) -> None:
    @spancast.instrument
    async def ask_async(**_: Any) -> dict[str, Any]:
        await asyncio.sleep(0)
        return chat_answer("hello", model="m")

    def generator() -> Iterator[Any]:
        with spancast.trace(session_id="s", span_name="work") as scope:
            yield
            call("in the block")
            with spancast.trace(user="own"):
                call("in an inner block")
                yield
                call("after the inner yield")
            scope.bind(call)("bound")
            yield asyncio.create_task(later(scope))
            yield scope.bind(ask_async)(model="m", messages=MESSAGES, trace={"generation_name": "awaited"})
        call("after the block")

    async def later(scope: Any) -> None:
        scope.bind(call)("in a task")

    running = generator()
    in_context(next, running)
    with spancast.trace(session_id="another's", user="u"):
        in_context(next, running)
        await in_context(next, running)
        await in_context(next, running)
        in_context(list, running)
        call("of the driver")
    assert is_clean()
    assert sessions(spans) == {
        "in the block": "s", "in an inner block": "s", "after the inner yield": "s", "bound": "s", "in a task": "s",
        "awaited": "s", "after the block": "another's", "of the driver": "another's",
    }  # fmt: skip
    users = {span.name: attributes(span).get("user.id") for span in spans.calls()}
    assert users == {
        "in the block": None, "in an inner block": "own", "after the inner yield": "own", "bound": None,
        "in a task": None, "awaited": None, "after the block": "u", "of the driver": "u",
    }  # fmt: skip
    inside = ["in the block", "in an inner block", "after the inner yield", "bound", "in a task", "awaited"]
    assert spans.tree() == {"work": {name: {} for name in inside}, "after the block": {}, "of the driver": {}}
    gc.collect()
    assert not _in_generators


async def test_block_in_an_async_generator_driven_by_several_tasks_has_its_keys(spans: CapturedSpans) -> None:
    async def generator(session: str) -> AsyncGenerator[int]:
        async with spancast.trace(session_id=session, span_name="work"):
            for number in range(4):
                await asyncio.sleep(0)
                call(f"{session}{number}")
                yield number

    async def step(running: AsyncGenerator[int]) -> int | None:
        return await anext(running, None)

    generators = [generator("a"), generator("b")]
    for _ in range(5):
        await asyncio.gather(*map(step, generators))
    assert is_clean()
    assert sessions(spans) == {f"{session}{number}": session for session in "ab" for number in range(4)}
    works = [span.context.span_id for span in spans.all() if span.name == "work"]
    assert sorted(span.parent.span_id for span in spans.calls()) == sorted(works * 4)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_block_in_the_body_of_a_streaming_response_has_its_keys(kind: str, spans: CapturedSpans) -> None:
    """Starlette drives a plain generator by a thread pool: each step has a context of its own."""

    def body() -> Iterator[str]:
        with spancast.trace(session_id="s", trace_id="t", span_name="work"):
            for number in range(3):
                call(f"{number}")
                yield f"{number}"

    async def async_body() -> AsyncGenerator[str]:
        with spancast.trace(session_id="s", trace_id="t", span_name="work"):
            for number in range(3):
                call(f"{number}")
                yield f"{number}"

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await StreamingResponse(body() if kind == "sync" else async_body())(scope, receive, send)

    assert TestClient(app).get("/").text == "012"
    assert sessions(spans) == {"0": "s", "1": "s", "2": "s"}
    assert spans.tree() == {"work": {"0": {}, "1": {}, "2": {}}}
    assert not _in_generators


def test_inner_block_of_a_generator_that_others_drive_leaves_nothing_active(spans: CapturedSpans) -> None:
    def generator() -> Iterator[None]:
        with spancast.trace(session_id="s", span_name="work"):
            yield
            with spancast.trace(span_name="tool", user="u"):
                call("inner")
            call("outer")
            yield

    running = generator()
    in_context(next, running)
    with spancast.trace(session_id="another's", span_name="driver"):
        before = ACTIVE_KEYS.get(), context_api.get_current()
        next(running)
        assert (ACTIVE_KEYS.get(), context_api.get_current()) == before
        next(running, None)
        assert (ACTIVE_KEYS.get(), context_api.get_current()) == before
    assert is_clean()
    assert sessions(spans) == {"inner": "s", "outer": "s"}
    assert spans.tree() == {"driver": {}, "work": {"tool": {"inner": {}}, "outer": {}}}


def test_span_of_others_in_a_generator_that_others_drive_has_the_keys(spans: CapturedSpans) -> None:
    tracer = trace_api.get_tracer("app", tracer_provider=CALL_TRACER.settings.tracer_provider)

    def generator() -> Iterator[None]:
        with spancast.trace(session_id="s"):
            yield
            tracer.start_span("tool").end()

    running = generator()
    in_context(next, running)
    in_context(list, running)
    tool = next(span for span in spans.all() if span.name == "tool")
    assert attributes(tool)["session.id"] == "s"


def test_dropped_generator_leaves_no_entry(spans: CapturedSpans) -> None:
    shared = spancast.trace(session_id="s", span_name="work")

    def generator(held: list[Any]) -> Iterator[list[Any]]:
        with shared:
            yield held

    held: list[Any] = []
    held.append(generator(held))
    in_context(next, held[0])
    del held
    gc.collect()
    assert not _in_generators
    assert [span.name for span in spans.all()] == ["work"]


def test_bind_in_the_block_keeps_the_context_of_the_moment(spans: CapturedSpans) -> None:
    with spancast.trace(session_id="s", span_name="work") as scope:
        with spans.provider.get_tracer("app").start_as_current_span("tool"), spancast.trace(user="u"):
            bound = scope.bind(call)
        thread = threading.Thread(target=bound, args=("thread",))
        thread.start()
        thread.join()
    scope.bind(call)("after")
    assert sessions(spans) == {"thread": "s", "after": "s"}
    assert attributes(spans.calls()[0])["user.id"] == "u"
    assert spans.tree() == {"work": {"tool": {"thread": {}}, "after": {}}}
