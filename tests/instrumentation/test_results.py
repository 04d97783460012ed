"""Results of decorated functions: they behave as the original and are recorded however they are read."""

from __future__ import annotations

import asyncio
import collections.abc
import contextlib
import copy
import dataclasses
import gc
import inspect
import pickle
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Self
from unittest.mock import AsyncMock, MagicMock

import openai
import pytest

import spancast
from spancast.dialects.openai_chat.answers import chat_answer, chat_chunks
from spancast.testing import CapturedSpans, ReplayServer
from spancast.testing.spans import attributes

REQUEST: Any = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
ANSWER = chat_answer("hello", model="m")
CHUNKS = chat_chunks(ANSWER)


class BothWays:
    """One object iterable synchronously and asynchronously, as litellm's ``CustomStreamWrapper``."""

    def __init__(self, chunks: list[Any] = CHUNKS, *, fails_after: int | None = None) -> None:
        self.left = list(chunks)
        self.taken: list[Any] = []
        self.closed_by: list[str] = []
        self._hidden_params = {"response_cost": 1}
        self.fails_after = fails_after

    def __iter__(self) -> BothWays:
        return self

    def __next__(self) -> Any:
        if self.fails_after is not None and len(self.taken) == self.fails_after:
            raise TimeoutError("slow")
        if not self.left:
            raise StopIteration
        self.taken.append(self.left.pop(0))
        return self.taken[-1]

    def __aiter__(self) -> BothWays:
        return self

    async def __anext__(self) -> Any:
        await asyncio.sleep(0)
        try:
            return self.__next__()
        except StopIteration:
            raise StopAsyncIteration from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed_by.append("exit")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.closed_by.append("aexit")

    def close(self) -> str:
        self.closed_by.append("close")
        return "closed"

    async def aclose(self) -> str:
        self.closed_by.append("aclose")
        return "closed"

    def __len__(self) -> int:
        return len(self.left) + len(self.taken)

    def __bool__(self) -> bool:
        return True


class NewIterators:
    """Iterable synchronously and asynchronously, with a new iterator each time."""

    def __iter__(self) -> Iterator[Any]:
        yield from CHUNKS

    async def __aiter__(self) -> AsyncIterator[Any]:
        for chunk in CHUNKS:
            yield chunk


class OneWay:
    def __init__(self) -> None:
        self.left = list(CHUNKS)

    def __iter__(self) -> OneWay:
        return self

    def __next__(self) -> Any:
        if not self.left:
            raise StopIteration
        return self.left.pop(0)


class OtherWay:
    def __init__(self) -> None:
        self.left = list(CHUNKS)

    def __aiter__(self) -> OtherWay:
        return self

    async def __anext__(self) -> Any:
        if not self.left:
            raise StopAsyncIteration
        return self.left.pop(0)

    async def close(self) -> str:
        return "closed"


class Sends(Generator[Any, Any, Any]):
    """An object with the methods of a generator and another type."""

    def __init__(self) -> None:
        self.left = list(CHUNKS)
        self.sent: list[Any] = []

    def send(self, value: Any) -> Any:
        self.sent.append(value)
        if not self.left:
            raise StopIteration("returned")
        return self.left.pop(0)

    def throw(self, *error: Any) -> Any:
        raise error[0]


class Later:
    """Awaitable and a context manager, as aiohttp's requests."""

    def __await__(self) -> Generator[Any, Any, Any]:
        yield from asyncio.sleep(0).__await__()
        return ANSWER

    async def __aenter__(self) -> Any:
        return BothWays()

    async def __aexit__(self, *_: object) -> None: ...


@dataclasses.dataclass
class WithFields(OneWay):
    left: list[Any] = dataclasses.field(default_factory=lambda: list(CHUNKS))
    __hash__ = None  # type: ignore[assignment]


class Manager(contextlib.AbstractContextManager[Any]):
    def __exit__(self, *_: object) -> None: ...


async def _is_both(stream: BothWays) -> list[Any]:
    first = next(stream)
    return [first, *[chunk async for chunk in stream]]


async def read_with(stream: Any) -> list[Any]:
    with stream as entered:
        assert entered is stream
        return list(entered)


async def read_async_with(stream: Any) -> list[Any]:
    async with stream as entered:
        assert entered is stream
        return [chunk async for chunk in entered]


async def read_closing(stream: Any) -> list[Any]:
    with contextlib.closing(stream) as entered:
        return list(entered)


async def read_aclosing(stream: Any) -> list[Any]:
    async with contextlib.aclosing(stream) as entered:
        return [chunk async for chunk in entered]


async def read_delegating(stream: Any) -> list[Any]:
    def outer() -> Iterator[Any]:
        yield from stream

    return list(outer())


async def read_loop(stream: Any) -> list[Any]:
    found: list[Any] = []
    async for chunk in stream:
        found.append(chunk)  # noqa: PERF401 - the loop is what is tried
    return found


async def read_list(stream: Any) -> list[Any]:
    return list(stream)


WAYS: list[Callable[[Any], Any]] = [
    read_list, read_loop, _is_both, read_with, read_async_with, read_closing, read_aclosing, read_delegating,
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("is_async", [False, True])
async def test_result_iterable_sync_and_async_is_recorded(way: Any, is_async: bool, spans: CapturedSpans) -> None:
    made: list[BothWays] = []

    @spancast.instrument
    async def coroutine(**_: Any) -> Any:
        made.append(BothWays())
        return made[0]

    @spancast.instrument
    def plain(**_: Any) -> Any:
        made.append(BothWays())
        return made[0]

    stream = await coroutine(**REQUEST) if is_async else plain(**REQUEST)
    plain_stream = BothWays()
    assert all(mine is theirs for mine, theirs in zip(await way(stream), CHUNKS, strict=True))
    await way(plain_stream)
    assert made[0].closed_by == plain_stream.closed_by
    found = attributes(spans.one())
    assert found["gen_ai.output.messages"][0]["parts"][0]["content"] == "hello"
    assert "spancast.response.incomplete" not in found
    assert "gen_ai.response.time_to_first_chunk" in found


RESULTS: dict[str, Callable[[], Any]] = {
    "both ways": BothWays,
    "new iterators": NewIterators,
    "one way": OneWay,
    "other way": OtherWay,
    "sends": Sends,
    "later": Later,
    "fields": WithFields,
    "manager": Manager,
    "list iterator": lambda: iter(CHUNKS),
    "map": lambda: map(str, CHUNKS),
    "generator": lambda: (chunk for chunk in CHUNKS),
    "context manager": contextmanager(lambda: (yield ANSWER)),
}
QUESTIONS: dict[str, Callable[[Any], Any]] = {
    **{f"hasattr {name}": lambda x, name=name: hasattr(x, name) for name in (
        "__iter__", "__next__", "__aiter__", "__anext__", "__enter__", "__exit__", "__aenter__", "__aexit__",
        "__await__", "__len__", "__getitem__", "__call__", "__dict__", "send", "throw", "close", "aclose", "asend",
        "left", "nothing",
    )},
    **{f"isinstance {name}": lambda x, name=name: isinstance(x, getattr(collections.abc, name)) for name in (
        "Iterable", "Iterator", "AsyncIterable", "AsyncIterator", "Generator", "AsyncGenerator", "Awaitable",
        "Coroutine", "Sized", "Container", "Collection", "Mapping", "Sequence", "Hashable", "Callable",
    )},
    **{f"inspect {name}": lambda x, name=name: getattr(inspect, name)(x) for name in (
        "isgenerator", "isasyncgen", "iscoroutine", "isawaitable", "isfunction", "isclass",
    )},
    "class": lambda x: x.__class__,
    "class name": lambda x: (type(x).__name__, type(x).__qualname__, type(x).__module__, x.__doc__),
    "dir": dir,
    "callable": callable,
    "bool": bool,
    "dataclass": dataclasses.is_dataclass,
    "close is a coroutine function": lambda x: inspect.iscoroutinefunction(getattr(x, "close", None)),
    "aclose is a coroutine function": lambda x: inspect.iscoroutinefunction(getattr(x, "aclose", None)),
    "managers": lambda x: (isinstance(x, contextlib.AbstractContextManager),
                           isinstance(x, contextlib.AbstractAsyncContextManager)),
}  # fmt: skip


@pytest.mark.parametrize("name", RESULTS)
def test_stand_in_behaves_as_the_original(name: str, spans: CapturedSpans) -> None:
    original, handed = RESULTS[name](), spancast.instrument(lambda: RESULTS[name]())()
    differ = [question for question, ask in QUESTIONS.items() if ask(handed) != ask(original)]
    if name == "generator":
        # Another frame, of the same type.
        assert type(handed) is type(original)
    assert differ == []


def test_stand_in_passes_operations_to_the_original(spans: CapturedSpans) -> None:
    made = BothWays()
    handed = spancast.instrument(lambda **_: made)(**REQUEST)
    assert (len(handed), handed == made, hash(handed), handed._hidden_params) == (
        len(CHUNKS), True, hash(made), {"response_cost": 1},
    )  # fmt: skip
    assert repr(handed) == repr(made)
    handed.more = 1
    assert made.more == 1  # type: ignore[attr-defined]
    del handed.more
    assert not hasattr(made, "more")
    assert vars(handed) is vars(made)
    assert type(copy.copy(handed)) is BothWays
    assert type(pickle.loads(pickle.dumps(handed))) is BothWays
    with pytest.raises(AttributeError, match="nothing"):
        handed.nothing
    with pytest.raises(TypeError, match="unhashable type: 'WithFields'"):
        hash(spancast.instrument(lambda: WithFields())())


def test_result_with_new_iterators_is_recorded_once(spans: CapturedSpans) -> None:
    handed = spancast.instrument(lambda **_: NewIterators())(**REQUEST)
    assert [list(handed), list(handed)] == [CHUNKS, CHUNKS]
    found = attributes(spans.one())
    assert found["gen_ai.output.messages"][0]["parts"][0]["content"] == "hello"
    assert found["gen_ai.usage.output_tokens"] == ANSWER["usage"]["completion_tokens"]


def test_stand_in_left_closed_failed_or_dropped_is_recorded(spans: CapturedSpans) -> None:
    recorded = spancast.instrument(lambda **_: BothWays(fails_after=2))
    for end in ("close", "exit", "drop", "error"):
        stream = recorded(**REQUEST, trace={"generation_name": end})
        if end == "exit":
            with stream:
                next(stream)
        elif end == "error":
            with pytest.raises(TimeoutError, match="slow"):
                list(stream)
        else:
            next(stream)
            assert end == "drop" or stream.close() == "closed"
        del stream
        gc.collect()
    found = {span.name: attributes(span) for span in spans.all()}
    assert {name: (one["spancast.response.incomplete"], one["gen_ai.response.model"]) for name, one in found.items()} == {
        "close": ("closed", "m"), "exit": ("closed", "m"), "drop": ("abandoned", "m"), "error": ("failed", "m"),
    }  # fmt: skip
    assert found["error"]["error.type"] == "TimeoutError"


async def test_stand_in_closed_asynchronously_is_recorded(spans: CapturedSpans) -> None:
    for made in (BothWays(), OtherWay()):
        stream = spancast.instrument(lambda made=made, **_: made)(**REQUEST)
        await anext(stream)
        assert await (stream.aclose() if isinstance(made, BothWays) else stream.close()) == "closed"
    assert [attributes(span)["spancast.response.incomplete"] for span in spans.all()] == ["closed", "closed"]


def test_object_with_generator_methods_is_recorded(spans: CapturedSpans) -> None:
    handed = spancast.instrument(lambda **_: Sends())(**REQUEST)
    assert handed.send(None) is CHUNKS[0]
    assert next(handed) is CHUNKS[1]
    assert handed.send(5) is CHUNKS[2]
    for _ in CHUNKS[3:]:
        next(handed)
    with pytest.raises(StopIteration, match="returned"):
        handed.send(None)
    assert handed.sent[:3] == [None, None, 5]
    assert attributes(spans.one())["gen_ai.output.messages"][0]["parts"][0]["content"] == "hello"


def test_generator_started_before_is_recorded(spans: CapturedSpans) -> None:
    def begun(**_: Any) -> Any:
        def generator() -> Generator[Any, Any, str]:
            found = [(yield "ready")]
            yield from CHUNKS
            return f"sent {found[0]}"

        running = generator()
        next(running)
        return running

    handed = spancast.instrument(begun)(**REQUEST)
    assert inspect.isgenerator(handed)
    assert handed.send("x") is CHUNKS[0]

    def outer() -> Generator[Any, Any, Any]:
        return (yield from handed)

    rest = outer()
    assert [next(rest) for _ in CHUNKS[1:]] == CHUNKS[1:]
    with pytest.raises(StopIteration, match="sent x"):
        next(rest)
    assert attributes(spans.one())["gen_ai.output.messages"][0]["parts"][0]["content"] == "hello"


GIVEN: dict[str, Callable[[], Any]] = {
    "answer": lambda: ANSWER,
    "both ways": BothWays,
    "generator": lambda: (chunk for chunk in CHUNKS),
}


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("is_async", [False, True])
async def test_value_of_a_context_manager_is_recorded(given: str, is_async: bool, spans: CapturedSpans) -> None:
    ended: list[str] = []

    @contextmanager
    def ask(**_: Any) -> Any:
        try:
            yield GIVEN[given]()
        finally:
            ended.append("ended")

    @asynccontextmanager
    async def ask_async(**_: Any) -> Any:
        await asyncio.sleep(0)
        try:
            yield GIVEN[given]()
        finally:
            await asyncio.sleep(0)
            ended.append("ended")

    if is_async:
        async with spancast.instrument(ask_async)(**REQUEST) as value:
            result = value if given == "answer" else list(value)
    else:
        with spancast.instrument(ask)(**REQUEST) as value:
            result = value if given == "answer" else list(value)
    assert ended == ["ended"]
    assert result == (ANSWER if given == "answer" else CHUNKS)
    found = attributes(spans.one())
    assert found["gen_ai.output.messages"][0]["parts"][0]["content"] == "hello"
    assert not {"spancast.response.incomplete", "spancast.validation_errors", "error.type"} & set(found)


def test_context_manager_that_fails_or_is_left_early_is_recorded(spans: CapturedSpans) -> None:
    @spancast.instrument
    @contextmanager
    def ask(*, fails: bool, **_: Any) -> Any:
        if fails:
            raise LookupError
        yield BothWays()

    with pytest.raises(LookupError), ask(fails=True, **REQUEST):
        pass
    with pytest.raises(KeyError), ask(fails=False, **REQUEST) as stream:
        raise KeyError(next(stream))
    first, second = (attributes(span) for span in spans.all())
    assert first["error.type"] == "LookupError"
    assert (second["spancast.response.incomplete"], "error.type" in second) == ("closed", False)


async def test_object_awaited_or_entered_is_recorded(spans: CapturedSpans) -> None:
    recorded = spancast.instrument(lambda **_: Later())
    assert await recorded(**REQUEST) is ANSWER
    async with recorded(**REQUEST) as stream:
        assert [chunk async for chunk in stream] == CHUNKS
    gc.collect()
    assert [attributes(span)["gen_ai.output.messages"][0]["parts"][0]["content"] for span in spans.all()] == [
        "hello"
    ] * 2
    assert "spancast.response.incomplete" not in attributes(spans.all()[0])


async def test_complete_responses_mocks_and_futures_are_the_same_object(spans: CapturedSpans) -> None:
    future = asyncio.get_running_loop().create_future()
    for answer in (MagicMock(), MagicMock(spec=BothWays()), ANSWER, future, [1], {1}, range(3)):
        assert spancast.instrument(lambda answer=answer, **_: answer)(**REQUEST) is answer
    mock = AsyncMock(return_value=ANSWER)
    assert await spancast.instrument(mock)(**REQUEST) is ANSWER
    assert future.cancel()


def test_nested_instrumented_functions_have_one_span(spans: CapturedSpans) -> None:
    inner: Any = spancast.instrument(lambda **_: BothWays())
    handed = spancast.instrument(lambda **request: inner(**request))(**REQUEST)
    assert isinstance(handed, BothWays)
    assert list(handed) == CHUNKS
    assert attributes(spans.one())["gen_ai.output.messages"][0]["parts"][0]["content"] == "hello"


async def test_stream_of_an_sdk_from_a_context_manager_is_the_same_object(
    server: ReplayServer, spans: CapturedSpans
) -> None:
    with openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0) as client:
        made: list[Any] = []

        @spancast.instrument
        @contextmanager
        def ask(**request: Any) -> Generator[Any]:
            with client.chat.completions.create(**request, stream=True) as stream:
                made.append(stream)
                yield stream

        with ask(**REQUEST) as stream:
            assert stream is made[0]
            assert len(list(stream)) > 1
    found = attributes(spans.one())
    assert found["gen_ai.output.messages"]
    assert "spancast.response.incomplete" not in found


async def test_inner_calls_of_a_result_annotate_the_same_span(spans: CapturedSpans) -> None:
    inner: Any = spancast.instrument(lambda **_: ANSWER)

    class Asking(BothWays):
        def __next__(self) -> Any:
            inner(**REQUEST)
            return super().__next__()

    for read in (read_list, read_loop):
        await read(spancast.instrument(lambda **_: Asking())(**REQUEST))
    assert len(spans.all()) == 2


async def test_async_generator_result_keeps_its_type(spans: CapturedSpans) -> None:
    async def chunks() -> AsyncGenerator[Any]:
        for chunk in CHUNKS:
            yield chunk

    handed = spancast.instrument(lambda **_: chunks())(**REQUEST)
    assert inspect.isasyncgen(handed)
    assert [chunk async for chunk in handed] == CHUNKS
    assert len(spans.all()) == 1
