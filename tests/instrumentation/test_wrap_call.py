"""``wrap_call``: one description, a synchronous and an asynchronous wrapper."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import spancast
from spancast.diagnostics import reraise_internal_errors
from spancast.dialects.openai_chat.answers import chat_answer, chat_chunks
from spancast.dialects.openai_chat.reader import OPENAI_CHAT
from spancast.instrumentation.patching import wrap_method
from spancast.instrumentation.stream_recorder import AsyncRecordingIterator, StreamRecorder, record_iterator
from spancast.instrumentation.wrap_call import Begun, CallDescription, wrap_call
from spancast.model.providers import server_of
from spancast.testing import CapturedSpans
from spancast.testing.spans import attributes
from spancast.tracing.call_tracer import CALL_TRACER
from spancast.tracing.traced_call import CURRENT_CALL, TracedCall

REFUSED = ValueError("refused")


class Sdk:
    """An SDK that streams with plain generators, which nothing can be attached to."""

    def answer(self, **body: Any) -> Any:
        assert CURRENT_CALL.get() is not None
        if body["model"] == "refused":
            raise REFUSED
        return chat_answer("Hi", model=body["model"])

    def stream(self, **body: Any) -> Iterator[Any]:
        yield from chat_chunks(chat_answer("Hi", model=body["model"]))

    async def answer_async(self, **body: Any) -> Any:
        return self.answer(**body)

    async def stream_async(self, **body: Any) -> AsyncIterator[Any]:
        return _async(self.stream(**body))


async def _async(chunks: Iterator[Any]) -> AsyncIterator[Any]:
    for chunk in chunks:
        yield chunk


class Description(CallDescription):
    def begin(self, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Begun:
        kwargs = dict(kwargs)
        keys = {"trace": kwargs.pop("trace")} if "trace" in kwargs else {}
        traced_call = CALL_TRACER.start_call(OPENAI_CHAT, {**kwargs, **keys}, server_of("https://api.example.com"))
        return traced_call, args, kwargs, None

    def record(self, traced_call: TracedCall, result: Any, note: None) -> object | None:
        if inspect.isgenerator(result):
            return record_iterator(result, StreamRecorder(traced_call))
        if inspect.isasyncgen(result):
            return AsyncRecordingIterator(result, StreamRecorder(traced_call))
        traced_call.end_with(result)
        return None


class BrokenRecord(Description):
    def record(self, traced_call: TracedCall, result: Any, note: None) -> object | None:
        return 1 / 0


class BrokenBegin(Description):
    def begin(self, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Begun:
        raise KeyError


class BrokenFail(Description):
    def fail(self, traced_call: TracedCall, error: BaseException, note: None) -> None:
        raise KeyError


def sdk(description: CallDescription | None = None) -> Any:
    hooks = wrap_call(description or Description())

    class Wrapped(Sdk):
        answer = wrap_method(Sdk.answer, hooks.sync)
        stream = wrap_method(Sdk.stream, hooks.sync)
        answer_async = wrap_method(Sdk.answer_async, hooks.asynchronous)
        stream_async = wrap_method(Sdk.stream_async, hooks.asynchronous)

    return Wrapped()


async def test_sync_and_async_methods_of_one_description_are_recorded_alike(spans: CapturedSpans) -> None:
    client, keys = sdk(), {"trace": {"feature": "billing"}}
    answers = [client.answer(model="m", **keys), await client.answer_async(model="m", **keys)]
    chunks = list(client.stream(model="m", **keys))
    async_chunks = [chunk async for chunk in await client.stream_async(model="m", **keys)]
    assert answers == [chat_answer("Hi", model="m")] * 2
    assert chunks == async_chunks == chat_chunks(chat_answer("Hi", model="m"))
    found = [attributes(span) for span in spans.all()]
    assert len(found) == 4
    assert [span.name for span in spans.all()] == ["chat m"] * 4
    assert {one["trace.metadata.feature"] for one in found} == {"billing"}
    assert [one["gen_ai.output.messages"] for one in found] == [found[0]["gen_ai.output.messages"]] * 4
    assert ["gen_ai.response.time_to_first_chunk" in one for one in found] == [False, False, True, True]
    assert CURRENT_CALL.get() is None


async def test_exception_of_the_method_reaches_the_caller_and_the_span(spans: CapturedSpans) -> None:
    with pytest.raises(ValueError, match="refused") as caught:
        sdk().answer(model="refused")
    with pytest.raises(ValueError, match="refused") as caught_async:
        await sdk().answer_async(model="refused")
    assert caught.value is caught_async.value is REFUSED
    assert [attributes(span)["error.type"] for span in spans.all()] == ["ValueError", "ValueError"]


@pytest.mark.parametrize("description", [BrokenRecord(), BrokenFail()])
async def test_broken_description_leaves_the_call_as_it_is(description: CallDescription, spans: CapturedSpans) -> None:
    reraise_internal_errors(enabled=False)
    client = sdk(description)
    assert client.answer(model="m") == await client.answer_async(model="m") == chat_answer("Hi", model="m")
    with pytest.raises(ValueError, match="refused"):
        client.answer(model="refused")
    assert len(spans.all()) == 3
    assert spancast.stats().internal_errors >= 1


def test_broken_begin_calls_the_method_with_its_own_arguments(spans: CapturedSpans) -> None:
    reraise_internal_errors(enabled=False)
    assert list(sdk(BrokenBegin()).stream(model="m")) == chat_chunks(chat_answer("Hi", model="m"))
    assert not spans.all()
    assert spancast.stats().internal_errors == 1
