"""Wrapping of SDKs and functions, beyond the contract tests of every client."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import gc
import inspect
import pickle
import subprocess
import sys
import threading
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Any
from unittest import mock

import anthropic
import openai
import pydantic
import pytest
import wrapt
from opentelemetry import trace as trace_api
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

import spancast
from spancast.dialects.openai_chat.answers import chat_answer, chat_chunks
from spancast.instrumentation.patching import wrap_method
from spancast.instrumentation.stainless import pop_trace_keys
from spancast.testing import CapturedSpans, ReplayServer, Reply
from spancast.testing.spans import attributes

MESSAGES: Any = [{"role": "user", "content": "hi"}]


@pytest.fixture
def client(server: ReplayServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0) as made:
        yield spancast.instrument(made)


@pytest.fixture
def claude(server: ReplayServer) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.url, api_key="k", max_retries=0) as made:
        yield spancast.instrument(made)


def chat(client: Any, **more: Any) -> Any:
    return client.chat.completions.create(model="m", messages=MESSAGES, **more)


def complete(found: dict[str, Any]) -> bool:
    return {"gen_ai.response.model", "gen_ai.usage.input_tokens", "gen_ai.output.messages"} <= set(found)


# --- A: wrapping ---------------------------------------------------------------------------------


@pytest.mark.parametrize("is_class", [False, True])
def test_warning_of_an_sdk_names_the_line_of_the_caller(
    server: ReplayServer, spans: CapturedSpans, *, is_class: bool
) -> None:
    deprecated = next(iter(anthropic.resources.messages.messages.DEPRECATED_MODELS))
    with anthropic.Anthropic(base_url=server.url, api_key="k", max_retries=0) as made:
        spancast.instrument("anthropic" if is_class else made)
        try:
            with pytest.warns(DeprecationWarning, match="deprecated") as warned:
                made.messages.create(model=deprecated, max_tokens=9, messages=MESSAGES, session_id="s")  # type: ignore[call-arg]
        finally:
            spancast.uninstrument("anthropic" if is_class else made)
    assert [one.filename for one in warned] == [__file__]
    assert attributes(spans.one())["session.id"] == "s"


@pytest.mark.parametrize("is_class", [False, True])
async def test_warning_of_an_async_call_names_the_same_line_as_without_spancast(
    server: ReplayServer, spans: CapturedSpans, *, is_class: bool
) -> None:
    deprecated = next(iter(anthropic.resources.messages.messages.DEPRECATED_MODELS))

    async def warned_at(client: anthropic.AsyncAnthropic) -> list[str]:
        with pytest.warns(DeprecationWarning, match="deprecated") as warned:
            await client.messages.create(model=deprecated, max_tokens=9, messages=MESSAGES)
        return [one.filename for one in warned]

    async with anthropic.AsyncAnthropic(base_url=server.url, api_key="k", max_retries=0) as made:
        plain = await warned_at(made)
        spancast.instrument("anthropic" if is_class else made)
        try:
            assert await warned_at(made) == plain
        finally:
            spancast.uninstrument("anthropic" if is_class else made)
    assert spans.one()


async def test_warning_of_a_coroutine_function_names_the_awaiting_line() -> None:
    async def method(_: object) -> None:
        warnings.warn("old", DeprecationWarning, stacklevel=2)

    with pytest.warns(DeprecationWarning, match="old") as warned:
        await wrap_method(method, pop_trace_keys)(None)
    assert [one.filename for one in warned] == [__file__]


def test_a1_raw_responses(client: Any, claude: Any, spans: CapturedSpans) -> None:
    raw = client.chat.completions.with_raw_response.create(model="m", messages=MESSAGES)
    assert (type(raw).__name__, raw.headers["content-type"]) == ("LegacyAPIResponse", "application/json")
    assert isinstance(raw.parse(), openai.types.chat.ChatCompletion)
    raw = claude.messages.with_raw_response.create(model="m", messages=MESSAGES, max_tokens=9)
    assert isinstance(raw.parse(), anthropic.types.Message)
    with client.responses.with_streaming_response.create(model="m", input="hi") as raw:
        assert isinstance(raw.parse(), openai.types.responses.Response)
    assert [complete(attributes(span)) for span in spans.all()] == [True] * 3


async def test_a1_raw_responses_async(server: ReplayServer, spans: CapturedSpans) -> None:
    async with openai.AsyncOpenAI(base_url=server.base_url, api_key="k") as made:
        client = spancast.instrument(made)
        raw = await client.chat.completions.with_raw_response.create(model="m", messages=MESSAGES)
        assert isinstance(raw.parse(), openai.types.chat.ChatCompletion)
        async with client.chat.completions.with_streaming_response.create(model="m", messages=MESSAGES) as raw:
            assert isinstance(await raw.parse(), openai.types.chat.ChatCompletion)
    assert [complete(attributes(span)) for span in spans.all()] == [True] * 2


READS = {
    "parse": lambda raw: list(raw.parse()),
    "read": lambda raw: raw.http_response.read(),
    "iter_bytes": lambda raw: list(raw.http_response.iter_bytes()),
    "iter_lines": lambda raw: list(raw.http_response.iter_lines()),
}


@pytest.mark.parametrize("gzip", [False, True])
@pytest.mark.parametrize("way", READS)
def test_a2_raw_streams_end_once_whichever_way_they_are_read(
    way: str,
    gzip: bool,
    client: Any,
    server: ReplayServer,
    spans: CapturedSpans,
) -> None:
    server.reply(Reply.stream(chat_chunks(chat_answer("hello", model="m")), gzip=gzip))
    raw = client.chat.completions.with_raw_response.create(model="m", messages=MESSAGES, stream=True)
    if way == "parse":
        stream = raw.parse()
        assert isinstance(stream, openai.Stream)
        list(stream)
    else:
        READS[way](raw)
    raw.http_response.close()
    found = attributes(spans.one())
    assert complete(found)
    assert found["gen_ai.output.messages"][0]["parts"] == [{"type": "text", "content": "hello"}]
    assert "spancast.response.incomplete" not in found
    assert "gen_ai.response.time_to_first_chunk" in found


def test_a2_a_raw_stream_closed_unread(client: Any, spans: CapturedSpans) -> None:
    raw = client.chat.completions.with_raw_response.create(model="m", messages=MESSAGES, stream=True)
    raw.http_response.close()
    assert attributes(spans.one())["spancast.response.incomplete"] == "closed"


INFERENCE_METHODS = {
    ("chat.completions", "create"), ("chat.completions", "parse"), ("chat.completions", "stream"),
    ("responses", "create"), ("responses", "parse"), ("responses", "stream"), ("responses", "compact"),
}  # fmt: skip
PASSED_THROUGH = {
    ("chat.completions", "retrieve"), ("chat.completions", "update"), ("chat.completions", "list"),
    ("chat.completions", "delete"),
    # Fetching and cancelling are not inference; semconv has fetch_response for the first.
    ("responses", "retrieve"), ("responses", "delete"), ("responses", "cancel"),
    ("responses", "connect"),
}  # fmt: skip


@pytest.mark.parametrize("path", ["chat.completions", "responses"])
def test_a3_every_method_is_traced_or_passed_through_by_name(path: str, client: Any) -> None:
    resource: Any = client
    for name in path.split("."):
        resource = getattr(resource, name)
    methods = {
        (path, name)
        for name in dir(type(resource))
        if not name.startswith("_") and callable(getattr(type(resource), name, None)) and name != "with_raw_response"
    }
    assert methods <= INFERENCE_METHODS | PASSED_THROUGH, "a new method: is it traced?"


def test_a5_isinstance(client: Any, claude: Any) -> None:
    with chat(client, stream=True) as stream:
        assert isinstance(stream, openai.Stream)
    with claude.messages.create(model="m", messages=MESSAGES, max_tokens=9, stream=True) as stream:
        assert isinstance(stream, anthropic.Stream)
    assert type(chat(client)) is openai.types.chat.ChatCompletion


class Answer(pydantic.BaseModel):
    capital: str


def test_a7_structured_output_without_warnings(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    server.reply(Reply.json(chat_answer('{"capital": "Paris"}', model="m")))
    parsed = client.chat.completions.parse(model="m", messages=MESSAGES, response_format=Answer)
    assert parsed.choices[0].message.parsed == Answer(capital="Paris")
    assert attributes(spans.one())["gen_ai.output.type"] == "json"


def test_a8_copies_and_locks(client: Any, spans: CapturedSpans) -> None:
    assert type(copy.copy(client)) is openai.OpenAI
    for one in (openai.OpenAI(api_key="k"), client):
        with pytest.raises(TypeError, match="cannot pickle"):
            pickle.dumps(one)

    @spancast.instrument
    def work(**request: Any) -> dict[str, Any]:
        return {"choices": [], "lock": request["lock"]}

    lock = threading.RLock()
    assert work(model="m", messages=MESSAGES, lock=lock)["lock"] is lock
    assert attributes(spans.one())["spancast.request.lock"] == '"<RLock>"'


def test_a9_no_sentinel_reaches_a_span(client: Any, spans: CapturedSpans) -> None:
    chat(client, temperature=openai.omit, seed=openai.NOT_GIVEN, stop=None)

    @spancast.instrument
    def work(**_: Any) -> None:
        return None

    work(model="m", messages=MESSAGES, temperature=openai.NOT_GIVEN, nested={"a": openai.omit})
    for span in spans.all():
        assert not [v for v in (span.attributes or {}).values() if "NOT_GIVEN" in str(v) or "Omit" in str(v)]


def test_a10_provider_owned_keys_are_untouched(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    chat(client, metadata={"tenant": "t"}, user="u", store=True, extra_body={"provider": {"order": ["x"]}})
    assert server.requests[0].body == {
        "model": "m", "messages": MESSAGES, "metadata": {"tenant": "t"}, "user": "u", "store": True,
        "provider": {"order": ["x"]},
    }  # fmt: skip
    assert attributes(spans.one())["trace.metadata.tenant"] == "t"


def test_a11_a_missing_method_leaves_the_others_on(server: ReplayServer, spans: CapturedSpans) -> None:
    from dataclasses import replace

    from spancast.instrumentation.patching import Instrumentor, Patch
    from spancast.instrumentation.registry import find_patches
    from spancast.instrumentation.stainless import pop_trace_keys

    patches = find_patches("openai")
    broken = Patch("openai._base_client", "SyncAPIClient.gone", pop_trace_keys)
    one = Instrumentor(replace(patches, patches=(broken, *patches.patches)))
    one.instrument()
    try:
        with openai.OpenAI(base_url=server.base_url, api_key="k") as client:
            chat(client)
    finally:
        one.uninstall()
    assert len(spans.all()) == 1
    assert spancast.stats().patches_not_found == 1


def test_a12_a_decorated_call_over_an_instrumented_client(client: Any, spans: CapturedSpans) -> None:
    @spancast.instrument
    def outer(prompt: str, *, model: str) -> str:
        return chat(client).choices[0].message.content + prompt

    outer("!", model="mine")
    found = attributes(spans.one())
    assert found["gen_ai.request.model"] == "mine"
    # Attributes that only the inner call has are on the one span too.
    assert found["server.address"] == "127.0.0.1"
    assert found["gen_ai.usage.input_tokens"]


def test_a13_configured_twice_recorded_once(client: Any, spans: CapturedSpans) -> None:
    for _ in range(3):
        spancast.configure(tracer_provider=spans.provider)
        spancast.instrument()
    chat(client)
    assert len(spans.all()) == 1


ORDERS = {
    "instrument first": "import spancast; spancast.instrument(); import openai",
    "import first": "import openai.resources.chat.completions; import spancast; spancast.instrument()",
    "name first": "import spancast; spancast.instrument('openai'); from openai import OpenAI; import openai",
}


@pytest.mark.parametrize("order", ORDERS)
def test_a14_import_order_does_not_matter(order: str, server: ReplayServer) -> None:
    code = f"""
from spancast.testing import captured_spans
with captured_spans() as spans:
    {ORDERS[order]}
    client = openai.OpenAI(base_url={server.base_url!r}, api_key='k')
    client.chat.completions.create(model='m', messages=[], trace={{'trace_name': 'T'}})
    assert spans.names() == ['T', 'chat m'], spans.names()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a15_streams_keep_every_attribute(client: Any, server: ReplayServer) -> None:
    with openai.OpenAI(base_url=server.base_url, api_key="k") as plain_client:
        plain, mine = chat(plain_client, stream=True), chat(client, stream=True)
        assert set(dir(plain)) <= set(dir(mine))
        assert type(mine.response) is type(plain.response)
        assert isinstance(mine.response.stream, type(plain.response.stream))
        plain.close()
        mine.close()


# --- B: context ----------------------------------------------------------------------------------


def test_b2_nothing_is_current_after_a_stream_starts_or_ends(client: Any, spans: CapturedSpans) -> None:
    with spans.provider.get_tracer("app").start_as_current_span("mine") as mine:
        stream = chat(client, stream=True)
        assert trace_api.get_current_span() is mine
        for _ in stream:
            assert trace_api.get_current_span() is mine
        assert trace_api.get_current_span() is mine


def test_b3_a_stream_made_on_one_thread_and_read_on_another(client: Any, spans: CapturedSpans) -> None:
    with spancast.trace(trace_name="Support", session_id="s"):
        stream = chat(client, stream=True)
    reader = threading.Thread(target=lambda: list(stream))
    reader.start()
    reader.join()
    assert spans.tree() == {"Support": {"chat m": {}}}
    assert attributes(spans.calls()[0])["session.id"] == "s"


def test_b5_an_inbound_parent_is_joined(client: Any, spans: CapturedSpans) -> None:
    inbound = SpanContext(0xABC, 0xDEF, is_remote=True, trace_flags=TraceFlags(1))
    with trace_api.use_span(NonRecordingSpan(inbound)):
        chat(client)
    assert (spans.one().context.trace_id, spans.one().parent.span_id) == (0xABC, 0xDEF)


def test_b8_no_baggage_and_no_keys_in_headers(client: Any, server: ReplayServer) -> None:
    chat(client, session_id="s", user="u", trace={"a": 1})
    assert not {"baggage", "traceparent", "x-session-id"} & {name.lower() for name in server.requests[0].headers}


def test_b12_the_ids_of_a_stream_are_known_before_it_is_read(client: Any, spans: CapturedSpans) -> None:
    with spancast.trace() as scope:
        stream = chat(client, stream=True)
        ids = scope.calls[-1]
        list(stream)
    assert (ids.trace_id, ids.span_id) == (
        f"{spans.one().context.trace_id:032x}",
        f"{spans.one().context.span_id:016x}",
    )


# --- C: streaming --------------------------------------------------------------------------------


def test_c4_an_error_in_the_middle_keeps_the_text_and_the_users_exception(
    client: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    chunks = chat_chunks(chat_answer("one two three", model="m"), pieces=3)
    server.reply(Reply.stream([*chunks[:3], {**chunks[0], "choices": [], "error": {"code": 502, "message": "gone"}}]))
    with pytest.raises(openai.APIError, match="gone"):
        list(chat(client, stream=True))
    found = attributes(spans.one())
    assert found["error.type"] == "502"
    assert found["gen_ai.output.messages"][0]["parts"][0]["content"]


def usage_chunks(chunks: list[Any]) -> list[Any]:
    return [chunk for chunk in chunks if not chunk.choices]


def test_c6_injected_usage_chunk_is_hidden(server: ReplayServer, spans: CapturedSpans) -> None:
    spancast.configure(tracer_provider=spans.provider, request_stream_usage=True)
    with openai.OpenAI(base_url=server.base_url, api_key="k") as plain_client:
        plain = list(chat(plain_client, stream=True))
    with openai.OpenAI(base_url=server.base_url, api_key="k") as made:
        client = spancast.instrument(made)
        mine = list(chat(client, stream=True))
        requested = list(chat(client, stream=True, stream_options={"include_usage": True}))
    assert [len(mine), usage_chunks(mine), len(usage_chunks(requested))] == [len(plain), [], 1]
    assert server.requests[1].body["stream_options"] == {"include_usage": True}
    assert all(attributes(span)["gen_ai.usage.input_tokens"] for span in spans.all())


async def test_c6_injected_usage_chunk_is_hidden_async(server: ReplayServer, spans: CapturedSpans) -> None:
    spancast.configure(tracer_provider=spans.provider, request_stream_usage=True)
    async with openai.AsyncOpenAI(base_url=server.base_url, api_key="k") as made:
        client = spancast.instrument(made)
        mine = [
            chunk async for chunk in await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        ]
    assert usage_chunks(mine) == []
    assert attributes(spans.one())["gen_ai.usage.input_tokens"]


def test_c6_usage_is_not_requested_by_default(client: Any, server: ReplayServer) -> None:
    list(chat(client, stream=True))
    assert "stream_options" not in server.requests[0].body


def test_c9_the_first_chunk_is_the_first_data_not_a_comment(
    client: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    gate = threading.Event()
    chunks = chat_chunks(chat_answer("hello", model="m"))
    server.reply(Reply.stream(chunks, comments=(": OPENROUTER PROCESSING",), gates={0: gate}))
    raw = client.chat.completions.with_raw_response.create(model="m", messages=MESSAGES, stream=True)
    pieces = raw.http_response.iter_bytes()
    next(pieces)
    released = spans.provider.get_tracer("t").start_span("released")
    gate.set()
    list(pieces)
    call = spans.calls()[0]
    first_ns = call.start_time + attributes(call)["gen_ai.response.time_to_first_chunk"] * 1e9
    assert first_ns >= released.start_time
    released.end()


def test_c11_each_chunk_is_the_same_object(server: ReplayServer, spans: CapturedSpans) -> None:
    made = [{"choices": [{"index": 0, "delta": {"content": str(n)}}]} for n in range(5)]

    @spancast.instrument
    def stream(**_: Any) -> Iterator[Any]:
        yield from made

    assert all(mine is theirs for mine, theirs in zip(stream(model="m", messages=MESSAGES), made, strict=True))


def test_c12_streams_of_the_other_apis(client: Any, spans: CapturedSpans) -> None:
    list(client.responses.create(model="m", input="hi", stream=True))
    with client.responses.stream(model="m", input="hi") as stream:
        stream.until_done()
    assert [complete(attributes(span)) for span in spans.all()] == [True] * 2


# --- functions of every kind --------------------------------------------------------------------------


class Bot:
    """A class whose methods are completions."""

    @spancast.instrument
    def plain(self, **_: Any) -> dict[str, Any]:
        """Doc."""
        return chat_answer("plain", model="m")

    @spancast.instrument
    async def coroutine(self, **_: Any) -> dict[str, Any]:
        return chat_answer("coroutine", model="m")

    @spancast.instrument
    def generator(self, **_: Any) -> Iterator[dict[str, Any]]:
        yield from chat_chunks(chat_answer("generator", model="m"))

    @spancast.instrument
    async def async_generator(self, **_: Any) -> AsyncIterator[dict[str, Any]]:
        for chunk in chat_chunks(chat_answer("async_generator", model="m")):
            await asyncio.sleep(0)
            yield chunk

    @classmethod
    @spancast.instrument
    def of_class(cls, **_: Any) -> str:
        return "text"


async def test_every_kind_of_function_is_recorded(spans: CapturedSpans) -> None:
    import inspect

    bot, request = Bot(), {"model": "m", "messages": MESSAGES, "trace": {"kind": "x"}}
    bot.plain(**request)
    await bot.coroutine(**request)
    list(bot.generator(**request))
    [chunk async for chunk in bot.async_generator(**request)]
    Bot.of_class(**request)
    texts = [attributes(span)["gen_ai.output.messages"][0]["parts"][0]["content"] for span in spans.all()]
    assert texts == ["plain", "coroutine", "generator", "async_generator", "text"]
    assert bot.plain.__doc__ == "Doc."
    assert inspect.iscoroutinefunction(bot.coroutine)
    assert inspect.isgeneratorfunction(bot.generator)
    assert inspect.isasyncgenfunction(bot.async_generator)
    assert inspect.isgenerator(bot.generator(**request))


async def test_generators_left_early_thrown_into_or_cancelled_are_recorded(spans: CapturedSpans) -> None:
    bot, request = Bot(), {"model": "m", "messages": MESSAGES}
    early = bot.generator(**request)
    next(early)
    early.close()
    abandoned = bot.async_generator(**request)
    await anext(abandoned)
    del abandoned
    thrown = bot.generator(**request)
    next(thrown)
    with pytest.raises(KeyError):
        thrown.throw(KeyError("x"))  # pyright: ignore[reportAttributeAccessIssue]
    task = asyncio.ensure_future(anext(bot.async_generator(**request)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for _ in range(5):
        await asyncio.sleep(0)
        gc.collect()
    incomplete = [attributes(span).get("spancast.response.incomplete") for span in spans.all()]
    assert sorted(incomplete) == ["cancelled", "closed", "closed", "failed"]


def test_odd_response_is_returned_unchanged(spans: CapturedSpans) -> None:
    answers: list[Any] = [None, 7, "text", [], object(), b"<html>", {"choices": "none"}, ValueError]
    for answer in answers:
        assert spancast.instrument(lambda answer=answer, **_: answer)(model="m", messages=MESSAGES) is answer
    assert len(spans.all()) == len(answers)


def test_instrument_with_wrong_arguments_raises_config_error(spans: CapturedSpans) -> None:
    with pytest.raises(spancast.ConfigError, match="unknown SDK 'vertexai'; expected one of openai, openrouter"):
        spancast.instrument("vertexai")
    with pytest.raises(spancast.ConfigError, match="unknown dialect 'chat'; expected one of openai_chat"):
        spancast.instrument(print, dialect="chat")
    with pytest.raises(spancast.ConfigError, match=r"instrument: expected a client object of .*, got int"):
        spancast.instrument(7)
    with pytest.raises(spancast.ConfigError, match="group_idle_timeout: must be a duration"):
        spancast.configure(tracer_provider=spans.provider, group_idle_timeout=0, capture_content="maybe")


@contextlib.contextmanager
def without_content(spans: CapturedSpans) -> Iterator[None]:
    spancast.configure(tracer_provider=spans.provider, capture_content=False)
    yield


def test_content_capture_off_records_no_content(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    canary = "canary-7781"
    with without_content(spans):
        server.reply(
            Reply.json(chat_answer(canary, model="m")),
            Reply.error(400, {"error": {"message": f"you said {canary}", "code": 400}}),
        )
        for _ in range(2):
            with contextlib.suppress(openai.BadRequestError):
                client.chat.completions.create(
                    model="m", messages=[{"role": "user", "content": canary}], stop=[canary],
                    tools=[{"type": "function", "function": {"name": "f", "description": canary}}],
                )  # fmt: skip
    for span in spans.all():
        assert canary not in span.to_json()
    assert spans.all()[0].attributes["gen_ai.usage.input_tokens"]


def _counted(seen: list[Any]) -> Any:
    """Return a wrapt wrapper of another tracer that records the object and the arguments."""

    def wrapper(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        seen.append((wrapped.__name__, instance))
        return wrapped(*args, **kwargs)

    return wrapper


@pytest.mark.parametrize("is_first", [True, False], ids=["before us", "after us"])
@pytest.mark.parametrize("way", ["class", "client"])
def test_tracer_that_wraps_with_wrapt_sees_the_call_once(
    way: str, is_first: bool, server: ReplayServer, spans: CapturedSpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In both orders, both see the call once, and the other tracer gets the same object as without spancast."""
    base, completions = openai._base_client.SyncAPIClient, openai.resources.chat.completions.Completions
    seen: list[Any] = []

    def other() -> None:
        for owner, name in ((base, "request"), (base, "_process_response"), (completions, "create")):
            monkeypatch.setattr(owner, name, wrapt.FunctionWrapper(vars(owner)[name], _counted(seen)))

    if is_first:
        other()
    if way == "class":
        spancast.instrument("openai")
    with openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0) as client:
        if way == "client":
            spancast.instrument(client)
        if not is_first and way == "class":
            other()
        answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
        assert answer.choices
        found = [(name, type(instance)) for name, instance in seen]
        assert inspect.signature(client.chat.completions.create) == inspect.signature(completions.create).replace(
            parameters=list(inspect.signature(completions.create).parameters.values())[1:]
        )
    if is_first or way == "class":
        assert found == [("create", completions), ("request", openai.OpenAI), ("_process_response", openai.OpenAI)]
    assert len(spans.calls()) == 1


def test_plain_function_set_on_the_object_is_recorded(server: ReplayServer, spans: CapturedSpans) -> None:
    """It needs no object, and gets the arguments unchanged."""
    with openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0) as client:
        original, given = client.chat.completions.create, list[Any]()

        def create(*args: Any, **kwargs: Any) -> Any:
            given.append((args, kwargs.pop("mine")))
            return original(*args, **kwargs)

        client.chat.completions.create = create  # type: ignore[method-assign]
        spancast.instrument(spancast.instrument(client))
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}], mine=1)
        assert given == [((), 1)]
        assert len(spans.calls()) == 1
        assert inspect.signature(client.chat.completions.create) == inspect.signature(create)


# --- other libraries that wrap ------------------------------------------------------------------------


def _wrapped_by_wrapt(owner: Any, name: str, seen: list[Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Wrap a method of ``owner`` as another tracer does, and return that tracer's proxy."""
    held = vars(owner).get(name) or getattr(owner, name)
    proxy = wrapt.FunctionWrapper(held, _counted(seen))
    monkeypatch.setattr(owner, name, proxy)
    return proxy


@pytest.fixture
def plain(server: ReplayServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0) as made:
        yield made


@pytest.fixture
def everywhere() -> Iterator[None]:
    yield
    spancast.uninstrument()


COMPLETIONS = openai.resources.chat.completions.Completions
CLIENT_BASE = openai._base_client.SyncAPIClient


@pytest.mark.parametrize("way", ["class", "client"])
def test_wrapped_wrapt_proxy_stays_a_wrapt_proxy(
    way: str, plain: openai.OpenAI, spans: CapturedSpans, monkeypatch: pytest.MonkeyPatch, everywhere: None
) -> None:
    owner: Any = COMPLETIONS if way == "class" else plain.chat.completions
    # A bound method accepts no attributes, so a library marks its proxy only on a class.
    monkeypatch.setattr(vars(COMPLETIONS)["create"], "theirs", True, raising=False)
    proxy = _wrapped_by_wrapt(owner, "create", [], monkeypatch)
    spancast.instrument("openai" if way == "class" else plain)  # type: ignore[call-overload]
    held = inspect.getattr_static(owner, "create")
    assert held is not proxy
    assert isinstance(held, wrapt.FunctionWrapper)
    assert isinstance(owner.create, (wrapt.FunctionWrapper, wrapt.BoundFunctionWrapper))
    assert owner.create.theirs
    chat(plain, session_id="s")
    assert attributes(spans.one())["session.id"] == "s"
    spancast.uninstrument("openai" if way == "class" else plain)
    assert inspect.getattr_static(owner, "create") is proxy


def test_wrapped_proxy_of_a_copy_of_wrapt_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some tracers contain wrapt under another name, and recognize only the wrappers of that copy."""

    class FunctionWrapper(wrapt.FunctionWrapper):
        pass

    proxy = FunctionWrapper(lambda self: self, _counted([]))
    assert type(wrap_method(proxy, pop_trace_keys)) is FunctionWrapper


@pytest.mark.parametrize("way", ["class", "client"])
def test_wrapper_of_another_library_set_later_stays_and_ours_inside_is_inactive(
    way: str, plain: openai.OpenAI, spans: CapturedSpans, monkeypatch: pytest.MonkeyPatch, everywhere: None
) -> None:
    target: Any = "openai" if way == "class" else plain
    owner: Any = COMPLETIONS if way == "class" else plain.chat.completions
    request_owner: Any = CLIENT_BASE if way == "class" else plain
    originals = [vars(owner).get("create"), vars(request_owner).get("request")]
    seen: list[Any] = []
    spancast.instrument(target)
    ours = [vars(owner)["create"], vars(request_owner)["request"]]
    theirs = [_wrapped_by_wrapt(owner, "create", seen, monkeypatch)]
    theirs.append(_wrapped_by_wrapt(request_owner, "request", seen, monkeypatch))

    spancast.uninstrument(target)
    assert [vars(owner)["create"], vars(request_owner)["request"]] == theirs
    chat(plain)
    assert (len(seen), spans.all()) == (2, [])
    with pytest.raises(TypeError, match="unexpected keyword argument 'session_id'"):
        chat(plain, session_id="s")

    # The other library removes its wrapper, which restores ours.
    owner.create, request_owner.request = ours
    chat(plain)
    assert spans.all() == []
    spancast.instrument(target)
    chat(plain, session_id="s")
    assert attributes(spans.one())["session.id"] == "s"
    spancast.uninstrument(target)
    assert [vars(owner).get("create"), vars(request_owner).get("request")] == originals


def test_wrapper_of_another_library_set_before_is_restored(
    plain: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = plain.request

    def request(*args: Any, **kwargs: Any) -> Any:
        return original(*args, **kwargs)

    monkeypatch.setattr(plain, "request", request)
    spancast.instrument(plain)
    assert plain.request is not request
    spancast.uninstrument(plain)
    assert plain.request is request


def test_patch_stays_if_a_library_inside_unwraps_the_outermost_wrapper(
    plain: openai.OpenAI, spans: CapturedSpans, monkeypatch: pytest.MonkeyPatch, everywhere: None
) -> None:
    """The ``unwrap`` functions of ddtrace and OpenTelemetry do this."""
    original, seen = vars(COMPLETIONS)["create"], list[Any]()
    _wrapped_by_wrapt(COMPLETIONS, "create", seen, monkeypatch)
    spancast.instrument("openai")
    COMPLETIONS.create = COMPLETIONS.create.__wrapped__  # type: ignore[method-assign,attr-defined]
    chat(plain, session_id="s")
    assert seen == []
    assert attributes(spans.one())["session.id"] == "s"
    spancast.uninstrument("openai")
    assert vars(COMPLETIONS)["create"] is original


@pytest.mark.parametrize("way", ["class", "client"])
def test_class_patched_by_a_test_affects_an_instrumented_client(
    way: str, plain: openai.OpenAI, spans: CapturedSpans, everywhere: None
) -> None:
    chat(spancast.instrument(plain) if way == "client" else plain)
    if way == "class":
        spancast.instrument("openai")
    with mock.patch.object(COMPLETIONS, "create", return_value="mocked") as create:
        assert plain.chat.completions.create(model="m", messages=MESSAGES) == "mocked"
    create.assert_called_once_with(model="m", messages=MESSAGES)
    with mock.patch.object(COMPLETIONS, "create", autospec=True) as create:
        plain.chat.completions.create(model="m", messages=MESSAGES)
    create.assert_called_once_with(plain.chat.completions, model="m", messages=MESSAGES)
    with mock.patch.object(openai.OpenAI, "request", return_value="mocked"):
        assert plain.chat.completions.create(model="m", messages=MESSAGES) == "mocked"
    spans.clear()
    chat(plain)
    assert spans.one()


def test_library_that_wraps_a_class_later_sees_the_calls_of_an_instrumented_client(
    plain: openai.OpenAI, spans: CapturedSpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    spancast.instrument(plain)
    _wrapped_by_wrapt(COMPLETIONS, "create", seen, monkeypatch)
    _wrapped_by_wrapt(CLIENT_BASE, "request", seen, monkeypatch)
    chat(plain, session_id="s")
    assert [(name, type(instance)) for name, instance in seen] == [("create", COMPLETIONS), ("request", openai.OpenAI)]
    assert attributes(spans.one())["session.id"] == "s"


def test_copy_of_an_uninstrumented_client_is_not_recorded(plain: openai.OpenAI, spans: CapturedSpans) -> None:
    spancast.instrument(plain)
    copying = plain.copy
    chat(copying())
    assert spans.one()
    spancast.uninstrument(plain)
    spans.clear()
    chat(copying())
    assert spans.all() == []


@pytest.mark.parametrize("with_wrapt", [True, False])
def test_inherited_method_wrapped_by_another_library_is_recorded(
    plain: openai.OpenAI,
    server: ReplayServer,
    spans: CapturedSpans,
    monkeypatch: pytest.MonkeyPatch,
    everywhere: None,
    *,
    with_wrapt: bool,
) -> None:
    """OpenInference and logfire set their wrapper of ``SyncAPIClient.request`` on ``OpenAI``."""
    inherited, seen = openai.OpenAI.request, list[Any]()

    @functools.wraps(inherited)
    def request(*args: Any, **kwargs: Any) -> Any:
        seen.append(args[0])
        return inherited(*args, **kwargs)

    theirs = wrapt.FunctionWrapper(inherited, _counted(seen)) if with_wrapt else request
    monkeypatch.setattr(openai.OpenAI, "request", theirs)
    spancast.instrument("openai")
    chat(plain, session_id="s")
    assert attributes(spans.one())["session.id"] == "s"
    assert len(seen) == 1
    assert "session_id" not in server.requests[0].body
    spancast.uninstrument("openai")
    assert vars(openai.OpenAI)["request"] is theirs
    chat(plain)
    assert (len(spans.all()), len(seen)) == (1, 2)

    # They leave the inherited method on the subclass; our wrapper is still in place.
    monkeypatch.setattr(openai.OpenAI, "request", inherited)
    spancast.instrument("openai")
    spans.clear()
    chat(plain)
    assert (len(spans.all()), len(seen)) == (1, 2)


def depth(function: Any) -> list[Any]:
    found = []
    while function is not None:
        found.append(function)
        function = getattr(function, "__wrapped__", None)
    return found


@pytest.mark.parametrize("way", ["class", "client"])
@pytest.mark.parametrize("kind", [openai.OpenAI, openai.AsyncOpenAI])
def test_patched_methods_have_the_signature_of_the_original(kind: Any, way: str, everywhere: None) -> None:
    client = kind(base_url="http://127.0.0.1:9", api_key="k")
    paths = [
        "chat.completions.create",
        "chat.completions.parse",
        "chat.completions.stream",
        "responses.create",
        "request",
    ]

    def methods() -> list[Any]:
        return [functools.reduce(getattr, path.split("."), client) for path in paths]

    def answers(method: Any) -> list[Any]:
        return [
            method.__name__, method.__qualname__, method.__module__, method.__doc__, inspect.signature(method),
            inspect.unwrap(method.__func__), [inspect.iscoroutinefunction(one) for one in depth(method.__func__)][:2],
            method.__self__, type(method), inspect.getsource(method),
        ]  # fmt: skip

    before = methods()
    spancast.instrument("openai" if way == "class" else client)
    after = methods()
    for mine, theirs in zip(after, before, strict=True):
        assert mine != theirs
        assert answers(mine)[:6] == answers(theirs)[:6]
        assert answers(mine)[7:] == answers(theirs)[7:]
        # The kinds of the method and of its ``__wrapped__``: LangSmith checks both.
        assert any(answers(mine)[6]) == any(answers(theirs)[6])
        if len(depth(theirs.__func__)) > 1:
            assert len(depth(mine.__func__)) == len(depth(theirs.__func__))
            assert answers(mine)[6] == answers(theirs)[6]
    spancast.uninstrument("openai" if way == "class" else client)
    assert methods() == before


def test_patched_method_is_pickled_by_its_name(everywhere: None) -> None:
    spancast.instrument("openai")
    assert pickle.loads(pickle.dumps(COMPLETIONS.create)) is COMPLETIONS.create


async def test_stream_in_a_proxy_of_another_library_is_recorded(server: ReplayServer, spans: CapturedSpans) -> None:
    """OpenInference has one proxy type for synchronous and asynchronous streams."""

    class StreamProxy(wrapt.ObjectProxy):
        def __aiter__(self) -> Any:
            return self.__wrapped__.__aiter__()

    def proxied(stream: Any) -> Any:
        return StreamProxy(stream)

    with openai.OpenAI(base_url=server.base_url, api_key="k") as made:
        original = made.request
        made.request = lambda *args, **kwargs: proxied(original(*args, **kwargs))  # type: ignore[method-assign]
        assert list(chat(spancast.instrument(made), stream=True))
    async with openai.AsyncOpenAI(base_url=server.base_url, api_key="k") as async_made:
        async_original = async_made.request

        async def request(*args: Any, **kwargs: Any) -> Any:
            return proxied(await async_original(*args, **kwargs))

        async_made.request = request  # type: ignore[method-assign]
        assert [chunk async for chunk in await chat(spancast.instrument(async_made), stream=True)]
    assert ["gen_ai.output.messages" in attributes(span) for span in spans.all()] == [True] * 2


# --- trace keys on methods that are not traced -----------------------------------------------------------

KEYS: Any = {"session_id": "s", "trace": {"trace_name": "T"}}
NOT_TRACED: dict[str, Any] = {
    "moderations.create": {"input": "hi"},
    "moderations.with_raw_response.create": {"input": "hi"},
    "with_raw_response.moderations.create": {"input": "hi"},
    "images.generate": {"prompt": "hi"},
    "images.edit": {"prompt": "hi", "image": b"png"},
    "audio.speech.create": {"model": "m", "input": "hi", "voice": "alloy"},
    "audio.transcriptions.create": {"model": "m", "file": b"mp3"},
    "files.create": {"file": b"{}", "purpose": "batch"},
    "batches.list": {},
    "vector_stores.search": {"vector_store_id": "v", "query": "hi"},
    "models.list": {},
    "responses.cancel": {"response_id": "r"},
    "beta.threads.create": {},
}


@pytest.mark.parametrize("way", ["class", "client", "client, its resources made before"])
@pytest.mark.parametrize("path", NOT_TRACED)
def test_untraced_methods_do_not_get_trace_keys(
    path: str, way: str, plain: openai.OpenAI, server: ReplayServer, spans: CapturedSpans, everywhere: None
) -> None:
    def call(client: Any, **keys: Any) -> Any:
        with contextlib.suppress(openai.NotFoundError), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            functools.reduce(getattr, path.split("."), client)(**NOT_TRACED[path], **keys)
        sent = server.requests[-1]
        return sent.method, sent.path, sent.body

    if way.endswith("before"):
        # The raw variant caches the methods.
        functools.reduce(getattr, path.split("."), plain)
    spancast.instrument("openai" if way == "class" else plain)  # type: ignore[call-overload]
    with openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0) as other:
        assert call(plain, **KEYS) == call(other)
        if way != "class":
            with pytest.raises(TypeError, match="unexpected keyword argument"):
                call(other, **KEYS)
    assert spans.all() == []
    spancast.uninstrument("openai" if way == "class" else plain)
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        call(plain, **KEYS)


def test_method_with_a_session_id_parameter_gets_it(
    server: ReplayServer, spans: CapturedSpans, everywhere: None
) -> None:
    spancast.instrument("anthropic")
    with anthropic.Anthropic(base_url=server.url, api_key="k", max_retries=0) as made:
        with contextlib.suppress(anthropic.NotFoundError):
            made.beta.sessions.retrieve(session_id="theirs")
        assert "theirs" in server.requests[-1].path


@pytest.mark.parametrize("way", ["class", "client"])
def test_further_methods_of_a_traced_endpoint_accept_trace_keys(
    way: str, plain: openai.OpenAI, server: ReplayServer, spans: CapturedSpans, everywhere: None
) -> None:
    with anthropic.Anthropic(base_url=server.url, api_key="k", max_retries=0) as made:
        for one, name in ((plain, "openai"), (made, "anthropic")):
            spancast.instrument(name if way == "class" else one)
        plain.beta.responses.create(model="m", input="hi", **KEYS)
        runner: Any = made.beta.messages.tool_runner(model="m", max_tokens=9, messages=MESSAGES, tools=[], **KEYS)
        assert list(runner)
        plain.beta.chat.completions.parse(model="m", messages=MESSAGES, **KEYS)
    assert [attributes(span)["session.id"] for span in spans.calls()] == ["s"] * 3
    assert not any({"trace", "session_id"} & set(request.body) for request in server.requests)


def test_uninstrument_of_a_client_restores_its_resources(plain: openai.OpenAI) -> None:
    # Clients of other tests are collected, and their patches are removed.
    gc.collect()
    spancast.uninstrument()
    made_before, base = plain.embeddings, openai._resource.SyncAPIResource
    original = base.__init__
    spancast.instrument(plain)
    made_after = plain.completions
    assert "create" in vars(made_before)
    assert "create" in vars(made_after)
    spancast.uninstrument(plain)
    assert "create" not in {*vars(made_before), *vars(made_after)}
    assert base.__init__ is original


class Forwarding:
    """Stands for the wrapper of another library (braintrust's of anthropic): no subclass, it forwards attributes."""

    def __init__(self, client: Any) -> None:
        self._inner = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@pytest.mark.parametrize("kind", [openai.OpenAI, anthropic.Anthropic])
def test_object_that_forwards_to_a_client_is_instrumented_and_returned(
    kind: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    client = kind(
        base_url=server.base_url.removesuffix("/v1") if kind is anthropic.Anthropic else server.base_url, api_key="k"
    )
    wrapper = Forwarding(client)
    assert spancast.instrument(wrapper) is wrapper
    path = wrapper.chat.completions if kind is openai.OpenAI else wrapper.messages
    path.create(model="m", max_tokens=5, messages=MESSAGES, session_id="s")
    assert [attributes(span)["session.id"] for span in spans.calls()] == ["s"]
    spancast.uninstrument(wrapper)
    path.create(model="m", max_tokens=5, messages=MESSAGES)
    assert len(spans.calls()) == 1


def test_object_that_forwards_to_no_client_is_refused() -> None:
    with pytest.raises(spancast.ConfigError, match="got Forwarding"):
        spancast.instrument(Forwarding(object()))
