"""The contract of instrumented clients, run with every driver of every SDK."""

from __future__ import annotations

import asyncio
import copy
import gc
import importlib.util
import inspect
import json
import time
import warnings
from collections.abc import Iterable
from typing import Any

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.instrumentation.drivers import DRIVERS, MESSAGES, Driver
from tests.instrumentation.http_drivers import HTTP_LIBRARIES
from tests.tracing.span_targets import captured_by_target, own_provider, shown

import spancast
from spancast.diagnostics import reraise_internal_errors
from spancast.instrumentation.registry import CLIENTS, find_patches
from spancast.testing import CapturedSpans, ReplayServer, Reply
from spancast.testing.answers import canned_answer
from spancast.testing.spans import attributes

KEYS = {
    "session_id": "chat-42",
    "trace": {"trace_id": "order-7781", "trace_name": "Support", "span_name": "triage", "generation_name": "classify",
              "feature": "billing", "tier": 2},
}  # fmt: skip


def _each(drivers: Iterable[Driver]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "driver",
        [
            pytest.param(one, id=one.id, marks=[pytest.mark.filterwarnings(text) for text in one.filters])
            for one in drivers
        ],
    )


every = _each(DRIVERS)
every_client = _each(driver for driver in DRIVERS if driver.has_clients)
every_sdk = _each(driver for driver in DRIVERS if driver.sdk not in HTTP_LIBRARIES)
every_whole = _each(driver for driver in DRIVERS if not driver.stream)
every_stream = _each(driver for driver in DRIVERS if driver.stream)
every_async = _each(driver for driver in DRIVERS if driver.is_async)


async def outcome(driver: Driver, client: Any, *, take: int | None = None, **keys: Any) -> Any:
    """Make one call and return the caller's result: the response, or the list of chunks (at most ``take``)."""
    result = driver.call(client, **keys)
    if driver.stream == "helper":
        if driver.is_async:
            async with result as stream:
                return [chunk async for chunk in _first(stream, take)]
        with result as stream:
            return [chunk for _, chunk in zip(range(take or 10_000), stream, strict=False)]
    if inspect.isawaitable(result):
        result = await result
    if not driver.stream:
        return result
    if driver.is_async:
        return [chunk async for chunk in _first(result, take)]
    return [chunk for _, chunk in zip(range(take or 10_000), result, strict=False)]


def skip_kept_stream(driver: Driver) -> None:
    if driver.keeps_streams:
        pytest.skip("this version of the SDK keeps its streams")


async def _first(stream: Any, take: int | None) -> Any:
    count = 0
    async for chunk in stream:
        yield chunk
        count += 1
        if take is not None and count >= take:
            return


def canned_stream(driver: Driver, *, cut_after: int) -> Reply:
    body = {
        "model": "m-1",
        "stream": True,
        "messages": MESSAGES,
        "input": "hi",
        "prompt": "hi",
        "anthropic_version": "1",
    }
    canned = canned_answer(f"/v1{driver.path}", body, serial=1, openrouter=False)
    assert canned is not None
    assert canned.events
    return Reply.stream(canned.events, cut_after=cut_after, aws=canned.aws, ndjson=canned.ndjson)


CLOSED_BY_MANAGER = ("cohere", "zai", "azure_ai_inference", "openrouter", "mistralai")


async def close(driver: Driver, client: Any) -> None:
    if driver.sdk in CLOSED_BY_MANAGER:
        await closed_by_manager(client)
    elif driver.sdk == "google_genai":
        if hasattr(client, "close"):
            client.close()
        if driver.is_async and hasattr(client.aio, "aclose"):
            await client.aio.aclose()
    elif driver.sdk == "urllib3":
        client.clear()
    elif driver.sdk == "replicate":
        # It can't be closed itself.
        await client._async_client.aclose()
        client._client.close()
    else:
        owner = client._client if driver.sdk in ("ai21", "ollama") else client
        closed = owner.aclose() if driver.is_async and hasattr(owner, "aclose") else owner.close()
        if driver.is_async:
            await closed


async def closed_by_manager(client: Any) -> None:
    if hasattr(client, "__exit__"):
        with client:
            pass
    if hasattr(client, "__aexit__"):
        async with client:
            pass


def dumped(value: Any) -> Any:
    """Return SDK objects as plain data, without ids and times, which differ in each response."""
    if isinstance(value, (list, tuple)):
        return [dumped(item) for item in value]
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return _without_serials(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    data = value.model_dump(warnings=False) if hasattr(value, "model_dump") else vars(value)
    return _without_serials(data)


def _without_keys(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in ("trace", "session_id")}


SERIALS = {
    "id",
    "continuation_ids",
    "conversation_id",
    "created",
    "created_at",
    "item_id",
    "response_id",
    "sdk_http_response",
}


def _without_serials(data: Any) -> Any:
    if isinstance(data, dict):
        return {k: _without_serials(v) for k, v in data.items() if k not in SERIALS}
    if isinstance(data, (list, tuple)):
        return [_without_serials(item) for item in data]
    if isinstance(data, bytes):
        return _without_serials(json.loads(data))
    return type(data).__name__ if hasattr(data, "__dict__") else data


@every
async def test_every_call_has_one_complete_span(driver: Driver, server: ReplayServer, spans: CapturedSpans) -> None:
    client = driver.instrument(driver.make(server))
    await outcome(driver, client)
    await close(driver, client)

    span = spans.one()
    found = attributes(span)
    answered = {"gen_ai.response.id", "gen_ai.response.finish_reasons"} if driver.operation != "embeddings" else ()
    assert span.name == f"{driver.operation} {driver.model}".strip()
    assert span.status.is_unset
    assert {
        "gen_ai.operation.name": driver.operation,
        "server.address": "127.0.0.1",
        **({"gen_ai.request.model": driver.model} if driver.model else {}),
    }.items() <= found.items()
    assert all(found[name] for name in {"gen_ai.response.model", *answered} - {*driver.lacks})
    assert driver.stream or "gen_ai.usage.input_tokens" in driver.lacks or found["gen_ai.usage.input_tokens"]
    assert found["gen_ai.input.messages"][-1]["role"] == "user"
    if driver.operation != "embeddings":
        assert found["gen_ai.output.messages"][0]["parts"]
    assert ("gen_ai.response.time_to_first_chunk" in found) == bool(driver.stream)


@every
async def test_caller_gets_the_result_of_the_sdk(driver: Driver, server: ReplayServer, spans: CapturedSpans) -> None:
    plain_client, client = driver.make(server), driver.instrument(driver.make(server))
    plain = await outcome(driver, plain_client)
    plain_request = server.requests[-1]
    mine = await outcome(driver, client)
    my_request = server.requests[-1]
    await close(driver, plain_client)
    await close(driver, client)

    assert type(mine) is type(plain)
    assert dumped(mine) == dumped(plain)
    assert my_request.raw == plain_request.raw
    assert sorted(name for name in my_request.headers) == sorted(name for name in plain_request.headers)
    assert len(spans.calls()) == 1


@every
async def test_trace_keys_give_the_tree_and_are_not_sent(
    driver: Driver, server: ReplayServer, spans: CapturedSpans
) -> None:
    plain_client, client = driver.make(server), driver.instrument(driver.make(server))
    await outcome(driver, plain_client)
    await outcome(driver, client, **KEYS)
    await close(driver, plain_client)
    await close(driver, client)

    assert spans.tree() == {"Support": {"triage": {"classify": {}}}}
    assert (
        attributes(spans.calls()[0]).items()
        >= {
            "session.id": "chat-42",
            "gen_ai.conversation.id": "chat-42",
            "trace.name": "Support",
            "trace.metadata.feature": "billing",
            "trace.metadata.tier": 2,
        }.items()
    )
    if driver.sends_keys:
        assert server.requests[1].body["trace"].items() >= {**KEYS["trace"], "trace_id": "order-7781"}.items()
        assert server.requests[1].body["trace"]["parent_span_id"] == f"{spans.calls()[0].context.span_id:016x}"
    assert _without_keys(server.requests[1].body) == server.requests[0].body


@every_sdk
async def test_rejected_call_raises_the_error_of_the_sdk(
    driver: Driver, server: ReplayServer, spans: CapturedSpans
) -> None:
    refusal = Reply.error(429, {"error": {"code": 429, "message": "slow down"}})
    # litellm's embeddings are retried in any case.
    server.reply(refusal, refusal, refusal)
    client = driver.instrument(driver.make(server))
    with pytest.raises(driver.status_error) as caught:
        await outcome(driver, client, **KEYS)
    await close(driver, client)

    span = spans.calls()[0]
    assert not span.status.is_ok
    assert not span.status.is_unset
    assert attributes(span)["error.type"].endswith(driver.error_types or type(caught.value).__qualname__)
    assert attributes(span)["trace.metadata.feature"] == "billing"
    assert [event.name for event in span.events] == ["exception"]


@every_stream
async def test_truncated_stream_raises_and_records_the_received_part(
    driver: Driver, server: ReplayServer, spans: CapturedSpans
) -> None:
    skip_kept_stream(driver)
    plain_client, client = driver.make(server), driver.instrument(driver.make(server))
    whole = await outcome(driver, plain_client)
    server.reply(canned_stream(driver, cut_after=driver.cut_after))
    with pytest.raises(driver.mid_stream_error):
        await outcome(driver, client)
    await close(driver, plain_client)
    await close(driver, client)
    with warnings.catch_warnings():
        # aiohttp warns of a failed stream that the caller does not close, also without spancast.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()

    assert len(whole) > 2
    span = spans.one()
    assert attributes(span)["spancast.response.incomplete"] == "failed"
    assert "error.type" in attributes(span)
    assert [event.name for event in span.events] == ["exception"]


# aiohttp warns of a response that is dropped.
@pytest.mark.filterwarnings("ignore:Unclosed:ResourceWarning")
@every_stream
async def test_stream_left_early_is_recorded(driver: Driver, server: ReplayServer, spans: CapturedSpans) -> None:
    skip_kept_stream(driver)
    client = driver.instrument(driver.make(server))
    await outcome(driver, client, take=1)
    gc.collect()
    # The event loop closes an abandoned async generator one turn later, and those that it reads from after that.
    for _ in range(20):
        await asyncio.sleep(0)
    gc.collect()
    await close(driver, client)
    # On a busy machine it takes more turns.
    end_s = time.monotonic() + 10
    while not spans.all() and time.monotonic() < end_s:
        gc.collect()
        await asyncio.sleep(0)

    span = spans.one()
    ways = ("closed", "abandoned", *((None,) if driver.reads_ahead else ()))
    assert attributes(span).get("spancast.response.incomplete") in ways
    assert span.status.is_unset


@every_stream
async def test_stream_never_read_is_recorded(driver: Driver, server: ReplayServer, spans: CapturedSpans) -> None:
    skip_kept_stream(driver)
    client = driver.instrument(driver.make(server))
    result = driver.call(client)
    if driver.stream == "helper":
        if driver.is_async:
            async with result:
                pass
        else:
            with result:
                pass
    elif inspect.isawaitable(result):
        result = await result
        # A plain async generator has ``aclose``.
        closed = result.aclose() if inspect.isasyncgen(result) else result.close()
        if inspect.isawaitable(closed):
            await closed
    elif hasattr(result, "close"):
        result.close()
    del result
    gc.collect()
    await close(driver, client)

    if driver.starts_late:
        assert not spans.all()
        assert not server.requests
    else:
        assert attributes(spans.one())["spancast.response.incomplete"] in ("closed", "abandoned")


@every_async
async def test_cancelled_call_is_recorded(driver: Driver, server: ReplayServer, spans: CapturedSpans) -> None:
    server.reply(Reply.hang(60))
    client = driver.instrument(driver.make(server))
    task = asyncio.ensure_future(outcome(driver, client))
    await asyncio.to_thread(server.wait_for_requests, 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await close(driver, client)

    span = spans.one()
    assert attributes(span)["spancast.response.incomplete"] == "cancelled"
    assert span.status.is_unset


@every
async def test_client_instrumented_in_several_ways_has_one_span_per_call(
    driver: Driver, server: ReplayServer, spans: CapturedSpans
) -> None:
    spancast.instrument()
    spancast.instrument(driver.sdk)
    client = driver.instrument(driver.instrument(driver.make(server)))
    await outcome(driver, client, **KEYS)
    await close(driver, client)

    assert spans.tree() == {"Support": {"triage": {"classify": {}}}}


@every
async def test_uninstrument_restores_every_method(driver: Driver, server: ReplayServer, spans: CapturedSpans) -> None:
    before = originals(driver.sdk)
    spancast.instrument()
    spancast.instrument(driver.sdk)
    assert all(now is not then for now, then in zip(originals(driver.sdk), before, strict=True))
    client = driver.make(server)
    await outcome(driver, client, **KEYS)
    assert len(spans.calls()) == 1

    spancast.uninstrument()
    assert all(now is then for now, then in zip(originals(driver.sdk), before, strict=True))
    await outcome(driver, client)
    await close(driver, client)
    assert len(spans.calls()) == 1


def originals(sdk: str) -> list[Any]:
    """Return the current functions of the SDK's classes, one per patch."""
    found = []
    for patch in find_patches(sdk).patches:
        class_name, dot, method = patch.attribute.partition(".")
        try:
            module = importlib.import_module(patch.module)
        except ImportError:
            # Of another version, or it needs what is not installed.
            continue
        owner = getattr(module, class_name, None)
        if owner is not None and not dot:
            # A function stays the same object.
            found.append(owner.__code__)
        elif owner is not None and method in vars(owner):
            found.append(vars(owner)[method])
    assert found
    return found


@every_client
async def test_instrument_of_one_client_does_not_record_others(
    driver: Driver, server: ReplayServer, spans: CapturedSpans
) -> None:
    before = originals(driver.sdk)
    one, other = driver.instrument(driver.make(server)), driver.make(server)
    assert all(now is then for now, then in zip(originals(driver.sdk), before, strict=True))
    await outcome(driver, other)
    assert spans.all() == []
    await outcome(driver, one)
    assert len(spans.all()) == 1
    spancast.uninstrument(one)
    await outcome(driver, one)
    await close(driver, one)
    await close(driver, other)
    assert len(spans.all()) == 1


@every_client
async def test_patched_methods_have_the_attributes_of_the_original(driver: Driver, server: ReplayServer) -> None:
    plain, client = driver.make(server), driver.instrument(driver.make(server))
    # botocore makes a class for each client.
    assert type(client) is type(plain) or type(client).__bases__ == type(plain).__bases__
    assert set(dir(plain)) <= set(dir(client))
    for patch in find_patches(driver.sdk).instance_patches:
        mine, theirs = client, plain
        for name in patch.path.split("."):
            mine, theirs = getattr(mine, name, None), getattr(theirs, name, None)
        if theirs is not None:
            assert inspect.signature(mine) == inspect.signature(theirs)
            assert mine.__name__ == theirs.__name__
            assert inspect.iscoroutinefunction(mine) == inspect.iscoroutinefunction(theirs)
    await close(driver, client)
    await close(driver, plain)


@pytest.mark.parametrize("status", [200, 400])
@every
async def test_a_call_parsed_on_the_export_thread_has_the_span_of_one_parsed_at_once(
    driver: Driver, status: int, server: ReplayServer
) -> None:
    found: list[Any] = []
    for others in ([], [SimpleSpanProcessor(InMemorySpanExporter())]):
        provider = own_provider()
        target = captured_by_target(provider)
        for other in others:
            provider.add_span_processor(other)
        client = driver.instrument(driver.make(server))
        if status == 200:
            await outcome(driver, client)
        else:
            # An SDK names the request in its error, by an id of its own if the response has none.
            server.reply(driver.path, Reply.error(status, headers={"x-request-id": "r-1", "request-id": "r-1"}))
            with pytest.raises(Exception, match=r".") as refused:
                await outcome(driver, client)
            del refused
        await close(driver, client)
        [(_, unparsed)] = target.taken
        assert unparsed is None or not others
        found.append(shown(target.parsed()[0]))
    spancast.shutdown(1)
    assert found[0] == found[1]


HOOKS = [
    "spancast.tracing.call_tracer.CallTracer.read_keys",
    "spancast.tracing.traced_call.TracedCall.start",
    "spancast.tracing.traced_call.TracedCall._finalize",
    "spancast.tracing.group_spans.GroupSpans.resolve_parent",
    "spancast.instrumentation.stream_recorder.StreamRecorder.__init__",
    "spancast.instrumentation.sse_events.ArrivedEvents.result",
    "spancast.tracing.traced_call.TracedCall._read",
]


_OTHER_RECORDERS = frozenset(
    {
        "openrouter", "mistralai", "huggingface_hub", "cohere", "ollama", "zai", "zhipuai", "ai21", "xai",
        "azure_ai_inference", "google_genai", "bedrock", "litellm", *HTTP_LIBRARIES,
    }
)  # fmt: skip
"""Clients whose streams are recorded by another recorder than those of HOOKS."""


@every
async def test_internal_error_does_not_reach_the_call(
    driver: Driver, server: ReplayServer, spans: CapturedSpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    reraise_internal_errors(enabled=False)
    client = driver.make(server)
    plain = dumped(await outcome(driver, client))
    await close(driver, client)

    def broken(*_: Any, **__: Any) -> None:
        message = "a defect"
        raise RuntimeError(message)

    for hook in HOOKS:
        if driver.sdk in {"openrouter", "mistralai"}:
            # A collected client schedules its closing on the running loop, with a copy of the current context.
            # During the call below the copy would keep the traced call alive until the loop runs.
            gc.collect()
        client = driver.instrument(driver.make(server))
        ended, errors = len(spans.calls()), spancast.stats().internal_errors
        monkeypatch.setattr(hook, broken)
        mine = await outcome(driver, client, **KEYS)
        monkeypatch.undo()
        await close(driver, client)

        # A span that was started has ended, whatever failed after that.
        if hook.startswith(("spancast.instrumentation", "spancast.tracing.traced_call.TracedCall._")):
            assert len(spans.calls()) == ended + 1, hook
        assert dumped(mine) == plain, hook
        sent = server.requests[-1].body
        assert _without_keys(sent) == server.requests[0].body, hook
        assert driver.sends_keys or driver.sdk in HTTP_LIBRARIES or "trace" not in sent, hook
        if not hook.startswith("spancast.instrumentation") or (driver.stream and driver.sdk not in _OTHER_RECORDERS):
            assert spancast.stats().internal_errors > errors, hook


@every
async def test_copies_behave_as_without_spancast(driver: Driver, server: ReplayServer, spans: CapturedSpans) -> None:
    client = driver.instrument(driver.make(server))
    try:
        baseline = copy.copy(client)
    except RecursionError:
        # As a client of botocore does without spancast.
        with pytest.raises(RecursionError):
            copy.copy(driver.make(server))
        baseline = client
    await outcome(driver, baseline)
    await close(driver, client)
    assert len(spans.all()) <= 1


def is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def test_every_row_is_driven() -> None:
    installed = {name for name, spec in CLIENTS.items() if is_installed(spec.modules[0])}
    # dashscope has no client objects: tests/instrumentation/test_dashscope.py.
    assert {driver.sdk for driver in DRIVERS} == installed - {"dashscope"}
