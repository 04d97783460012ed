"""Streams that are left early, in any way: everything received is on the span."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.instrumentation.drivers import CHAT, MESSAGES_PATH, OF_EACH_MECHANISM, RESPONSES, Driver

import spancast
from spancast.dialects.anthropic_messages.answers import messages_answer, messages_events
from spancast.dialects.openai_chat.answers import chat_answer, chat_chunks
from spancast.dialects.openai_responses.answers import responses_answer, responses_events
from spancast.testing import CapturedSpans, ReplayServer, Reply
from spancast.testing.spans import attributes

TRIALS = 12
"""Trials per way and client; the order in which a garbage cycle is finalized varies."""
PIECES = 6
TEXT = "one two three four five six"

EVENTS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    CHAT: lambda: chat_chunks(chat_answer(TEXT, model="m-1"), pieces=PIECES),
    RESPONSES: lambda: responses_events(responses_answer(TEXT, model="m-1"), pieces=PIECES),
    MESSAGES_PATH: lambda: messages_events(messages_answer(TEXT, model="m-1"), pieces=PIECES),
}

CHATS = [driver for driver in OF_EACH_MECHANISM if driver.stream and driver.operation == "chat"]
every_sync = pytest.mark.parametrize("driver", [d for d in CHATS if not d.is_async], ids=lambda d: d.id)
every_async = pytest.mark.parametrize("driver", [d for d in CHATS if d.is_async], ids=lambda d: d.id)


def text_of(item: Any) -> str:
    """Return the text in a chunk of a stream or of a stream helper."""
    kind = getattr(item, "type", None)
    if kind == "response.output_text.delta":
        return item.delta
    if kind == "content_block_delta":
        return item.delta.text
    chunk = getattr(item, "chunk", None) or item
    choices = getattr(chunk, "choices", None) or []
    content = choices[0].delta.content if choices else None
    return content if isinstance(content, str) else ""


def output_text(span: Any) -> str:
    found = attributes(span)
    messages = found.get("gen_ai.output.messages") or [{"parts": []}]
    return "".join(part.get("content", "") for part in messages[0]["parts"])


def check(spans: CapturedSpans, seen: list[str]) -> None:
    """Assert that every span has the text that its reader had received, and that its response is incomplete."""
    calls = spans.calls()
    assert len(calls) == len(seen)
    assert all(seen)
    for span, text in zip(calls, seen, strict=True):
        found = attributes(span)
        assert output_text(span).startswith(text)
        assert TEXT.startswith(output_text(span))
        assert found["gen_ai.response.id"]
        assert found["gen_ai.response.model"] == "m-1"
        assert found["spancast.response.incomplete"] in ("closed", "abandoned", "cancelled")
        assert span.status.is_unset


def opened(driver: Driver, client: Any) -> Any:
    result = driver.call(client)
    return result.__enter__() if driver.stream == "helper" else result


def read_until_text(stream: Any) -> str:
    for item in stream:
        if text := text_of(item):
            return text
    return ""


def left_by_break(driver: Driver, client: Any, seen: list[str]) -> None:
    for item in opened(driver, client):
        if text := text_of(item):
            seen.append(text)
            break


def left_by_del(driver: Driver, client: Any, seen: list[str]) -> None:
    stream = opened(driver, client)
    seen.append(read_until_text(stream))
    del stream


def left_in_a_cycle(driver: Driver, client: Any, seen: list[str]) -> None:
    held: list[Any] = [opened(driver, client)]
    held.append(held)
    seen.append(read_until_text(held[0]))


def left_in_a_generator(driver: Driver, client: Any, seen: list[str]) -> None:
    def texts() -> Iterator[str]:
        for item in opened(driver, client):
            if text := text_of(item):
                yield text

    mine = texts()
    seen.append(next(mine))
    mine.close()


def left_by_an_error_of_the_users(driver: Driver, client: Any, seen: list[str]) -> None:
    with contextlib.suppress(KeyError):
        for item in opened(driver, client):
            if text := text_of(item):
                seen.append(text)
                raise KeyError(text)


def left_out_of_with(driver: Driver, client: Any, seen: list[str]) -> None:
    with driver.call(client) as stream:
        for item in stream:
            if text := text_of(item):
                seen.append(text)
                break


WAYS = [
    left_by_break, left_by_del, left_in_a_cycle, left_in_a_generator, left_by_an_error_of_the_users, left_out_of_with,
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@every_sync
def test_stream_left_early_records_the_received_part(
    driver: Driver, way: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    server.reply(*[Reply.stream(EVENTS[driver.path]())] * TRIALS)
    client = spancast.instrument(driver.make(server))
    seen: list[str] = []
    for _ in range(TRIALS):
        way(driver, client, seen)
    gc.collect()
    check(spans, seen)


def test_200_streams_abandoned_at_once_are_recorded(server: ReplayServer, spans: CapturedSpans) -> None:
    server.reply(*[Reply.stream(EVENTS[CHAT]())] * 200)
    seen: list[str] = []
    with openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0) as made:
        client = spancast.instrument(made)
        gc.disable()
        try:
            for _ in range(200):
                left_by_break(next(d for d in OF_EACH_MECHANISM if d.id == "openai-chat-stream"), client, seen)
            assert spans.calls() == []
        finally:
            gc.enable()
        gc.collect()
    check(spans, seen)


async def opened_async(driver: Driver, client: Any) -> Any:
    result = driver.call(client)
    if driver.stream == "helper":
        return await result.__aenter__()
    return await result if inspect.isawaitable(result) else result


async def async_texts(driver: Driver, client: Any) -> AsyncIterator[str]:
    async for item in await opened_async(driver, client):
        if text := text_of(item):
            yield text


async def async_left_by_break(driver: Driver, client: Any, seen: list[str]) -> None:
    async for item in await opened_async(driver, client):
        if text := text_of(item):
            seen.append(text)
            break


async def async_left_in_a_cycle(driver: Driver, client: Any, seen: list[str]) -> None:
    held: list[Any] = [await opened_async(driver, client)]
    held.append(held)
    async for item in held[0]:
        if text := text_of(item):
            seen.append(text)
            return


async def async_left_in_a_generator(driver: Driver, client: Any, seen: list[str]) -> None:
    mine: Any = async_texts(driver, client)
    seen.append(await anext(mine))
    await mine.aclose()


async def async_left_by_a_cancelled_task(driver: Driver, client: Any, seen: list[str]) -> None:
    has_seen = asyncio.Event()

    async def reads() -> None:
        async for text in async_texts(driver, client):
            seen.append(text)
            has_seen.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(reads())
    await has_seen.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def async_left_out_of_with(driver: Driver, client: Any, seen: list[str]) -> None:
    result = driver.call(client)
    async with result if driver.stream == "helper" else await result as stream:
        async for item in stream:
            if text := text_of(item):
                seen.append(text)
                break


ASYNC_WAYS = [
    async_left_by_break, async_left_in_a_cycle, async_left_in_a_generator, async_left_by_a_cancelled_task,
    async_left_out_of_with,
]  # fmt: skip


@pytest.mark.parametrize("way", ASYNC_WAYS, ids=lambda way: way.__name__)
@every_async
async def test_async_stream_left_early_records_the_received_part(
    driver: Driver, way: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    server.reply(*[Reply.stream(EVENTS[driver.path]())] * TRIALS)
    client = spancast.instrument(driver.make(server))
    seen: list[str] = []
    # A collection on a thread of the server would end httpx's generators while the event loop runs them.
    gc.disable()
    try:
        for _ in range(TRIALS):
            await way(driver, client, seen)
        # The event loop closes an abandoned async generator some turns after its collection.
        for _ in range(20):
            if len(spans.calls()) == TRIALS:
                break
            gc.collect()
            for _ in range(20):
                await asyncio.sleep(0)
    finally:
        gc.enable()
    check(spans, seen)


async def test_task_cancelled_during_a_chunk_records_the_received_part(
    server: ReplayServer, spans: CapturedSpans
) -> None:
    gate = threading.Event()
    server.reply(Reply.stream(EVENTS[CHAT](), gates={3: gate}))
    seen: list[str] = []
    has_seen = asyncio.Event()
    async with openai.AsyncOpenAI(base_url=server.base_url, api_key="k", max_retries=0) as made:
        client = spancast.instrument(made)

        async def reads() -> None:
            stream = await client.chat.completions.create(
                model="m-1", messages=[{"role": "user", "content": "x"}], stream=True
            )
            async for chunk in stream:
                if text := text_of(chunk):
                    seen.append(text)
                    has_seen.set()

        task = asyncio.ensure_future(reads())
        await has_seen.wait()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.set()
    check(spans, ["".join(seen)])
    assert attributes(spans.one())["spancast.response.incomplete"] == "cancelled"


RAW_WAYS: dict[str, Callable[[Any], Any]] = {
    "iter_bytes": lambda response: response.iter_bytes(),
    "iter_lines": lambda response: response.iter_lines(),
    "iter_raw": lambda response: response.iter_raw(),
}


@pytest.mark.parametrize("way", RAW_WAYS)
def test_dropped_raw_body_records_the_received_part(way: str, server: ReplayServer, spans: CapturedSpans) -> None:
    server.reply(*[Reply.stream(EVENTS[CHAT]())] * TRIALS)
    with openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0) as made:
        client = spancast.instrument(made)
        for _ in range(TRIALS):
            raw = client.chat.completions.with_raw_response.create(
                model="m-1", messages=[{"role": "user", "content": "x"}], stream=True
            )
            pieces = RAW_WAYS[way](raw.http_response)
            read = ""
            while "one" not in read:
                piece = next(pieces)
                read += piece if isinstance(piece, str) else piece.decode()
            del raw, pieces
    gc.collect()
    check(spans, ["one"] * TRIALS)


def test_decorated_generator_in_a_garbage_cycle_is_recorded(spans: CapturedSpans) -> None:
    @spancast.instrument
    def answer(**_: Any) -> Iterator[Any]:
        yield from EVENTS[CHAT]()

    seen: list[str] = []
    for _ in range(TRIALS):
        held: list[Any] = [answer(model="m-1", messages=[{"role": "user", "content": "x"}])]
        held.append(held)
        next(held[0])
        seen.append(next(held[0])["choices"][0]["delta"]["content"])
        del held
    gc.collect()
    check(spans, seen)


PROGRAM = """
import sys, atexit
{before}
import openai, spancast
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, ConsoleSpanExporter
from spancast.testing import ReplayServer
from spancast.testing.spans import attributes

{setup}
server = ReplayServer()
server.__enter__()
client = spancast.instrument(openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0))
sent_messages = [{{"role": "user", "content": "one two three"}}]
HELD = client.chat.completions.create(model="m-1", messages=sent_messages, stream=True)
while not (chunk := next(HELD)).choices[0].delta.content:
    pass
{after}
"""


def ran(tmp_path: Path, setup: str, before: str = "", after: str = "") -> str:
    program = tmp_path / "program.py"
    parts = {"setup": setup, "before": before, "after": after}
    program.write_text(PROGRAM.format(**{name: textwrap.dedent(part) for name, part in parts.items()}))
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=120, check=True)
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.mark.parametrize("processor", ["BatchSpanProcessor", "SimpleSpanProcessor"])
def test_stream_held_by_a_global_at_exit_reaches_the_applications_exporter(tmp_path: Path, processor: str) -> None:
    output = ran(
        tmp_path,
        f"""
        provider = TracerProvider()
        provider.add_span_processor({processor}(ConsoleSpanExporter()))
        spancast.configure(tracer_provider=provider)
        """,
    )
    assert '\\"content\\":\\"' in output
    assert '"spancast.response.incomplete": "abandoned"' in output


def test_stream_held_by_a_global_at_exit_reaches_a_destination(tmp_path: Path) -> None:
    path = tmp_path / "spans.jsonl"
    ran(
        tmp_path,
        f"spancast.configure(destinations={{'f': {{'type': 'file', 'path': {str(path)!r}}}}}, spool='memory')",
    )
    output = path.read_text()
    assert output.count('"chat m-1"') == 1
    assert "spancast.response.incomplete" in output
    assert "gen_ai.output.messages" in output


def test_stream_can_be_read_to_its_end_after_exit_hooks(tmp_path: Path) -> None:
    """The span ends before that; the stream itself is not changed."""
    output = ran(
        tmp_path,
        "spancast.configure(tracer_provider=TracerProvider())",
        """
        def rest():
            print("rest:", "".join(c.choices[0].delta.content or "" for c in HELD if c.choices))
        atexit.register(rest)
        """,
    )
    assert "rest: " in output
    assert output.split("rest: ")[1].strip()


@pytest.mark.parametrize("way", ["sys.exit()", "list(HELD)", "HELD.close()", "del HELD; gc.collect()"])
def test_forked_child_does_not_end_streams_of_its_parent(tmp_path: Path, way: str) -> None:
    output = ran(
        tmp_path,
        """
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
        spancast.configure(tracer_provider=provider)
        """,
        after=f"""
        import gc, os
        sys.stdout.flush()
        if os.fork() == 0:
            {way}
            sys.exit()
        os.wait()
        """,
    )
    assert output.count('"name": "chat m-1"') == 1
    assert '"spancast.response.incomplete": "abandoned"' in output


COLLECTED_WITHIN = """
import gc
import spancast
from contextvars import ContextVar
from opentelemetry import context
from spancast.testing import captured_spans
from spancast.dialects.openai_chat.answers import chat_answer, chat_chunks

CHUNKS = chat_chunks(chat_answer("one two three", model="m"), pieces=3)
VARIABLE, *OTHERS = [ContextVar(f"v{number}") for number in range(4)]


@spancast.instrument
def answer(**_):
    yield from CHUNKS


with captured_spans() as spans:
    context.attach(context.get_current())
    for other in OTHERS:
        other.set(0)
    for number in range(2000):
        gc.disable()
        held = [answer(model="m", messages=[{"role": "user", "content": "x"}])]
        held.append(held)
        next(held[0])
        next(held[0])
        del held
        # The collection runs at the n-th allocation from here, during the setting of a variable.
        gc.set_threshold(gc.get_count()[0] + 1 + number % 4)
        gc.enable()
        token = VARIABLE.set(number)
        gc.disable()
        VARIABLE.reset(token)
    gc.collect()
    print(len(spans.calls()))
"""


def test_garbage_collection_during_the_setting_of_a_context_variable_does_not_crash(tmp_path: Path) -> None:
    """CPython before 3.12 crashes if a finalizer sets a variable in the same context, as processors do."""
    program = tmp_path / "program.py"
    program.write_text(COLLECTED_WITHIN)
    environment = {**os.environ, "PYTHONMALLOC": "debug"}
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, timeout=300, check=True, env=environment
    )
    assert done.stdout.split() == ["2000"]
