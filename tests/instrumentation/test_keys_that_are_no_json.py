"""Trace keys that are not JSON do not fail the call: real SDKs send them as JSON, and they are readable on the span."""

from __future__ import annotations

import contextlib
import decimal
import uuid
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import anthropic
import httpx
import openai
import openrouter
import pytest
from tests.contract.test_every_client import close, outcome
from tests.instrumentation.drivers import DRIVERS, Driver
from tests.instrumentation.http_drivers import HTTP_LIBRARIES
from tests.model.test_json_data import RULES, RaisingStr

import spancast
from spancast.dialects.openai_chat.answers import chat_answer
from spancast.model import json_codec
from spancast.testing import CapturedSpans, ReplayServer
from spancast.testing.spans import attributes

MESSAGES: Any = [{"role": "user", "content": "hi"}]
ONE = uuid.UUID(int=1)
VALUES = {name: value for name, (value, _) in RULES.items()}
EXPECTED = {name: expected for name, (_, expected) in RULES.items()}


def always(spans: CapturedSpans, **settings: Any) -> None:
    spancast.configure(tracer_provider=spans.provider, forward_trace_keys="always", **settings)


def ids(span: Any) -> dict[str, str]:
    return {"trace_id": f"{span.context.trace_id:032x}", "parent_span_id": f"{span.context.span_id:016x}"}


def without_none(value: Any) -> Any:
    """Return what huggingface_hub sends: its own code removes None from objects, at every depth."""
    if isinstance(value, dict):
        return {name: without_none(item) for name, item in value.items() if item is not None}
    return [without_none(item) for item in value] if isinstance(value, (list, tuple)) else value


# A raw request is sent as it is given, Bedrock takes keys as metadata of texts, and litellm has arguments, not bodies.
FORWARDING = [
    driver
    for driver in DRIVERS
    if driver.forwards_keys and driver.has_clients and driver.sdk not in (*HTTP_LIBRARIES, "bedrock")
]


@pytest.mark.parametrize("driver", FORWARDING, ids=lambda driver: driver.id)
async def test_keys_that_are_not_json_do_not_fail_any_sdk_call(
    driver: Driver, server: ReplayServer, spans: CapturedSpans
) -> None:
    plain_client = driver.make(server)
    await outcome(driver, plain_client)
    await close(driver, plain_client)
    always(spans, default_trace={"of_configuration": ONE})
    client = spancast.instrument(driver.make(server))
    with spancast.trace(of_block={ONE}, user=ONE):
        await outcome(driver, client, trace={"generation_name": ONE, **VALUES}, session_id=ONE)
    await close(driver, client)
    plain, mine = server.requests
    assert mine.body == {
        **plain.body,
        "trace": {
            **(without_none(EXPECTED) if driver.sdk == "huggingface_hub" else EXPECTED),
            "generation_name": str(ONE), "of_block": [str(ONE)], "of_configuration": str(ONE),
            **ids(spans.one()),
        },
        "session_id": str(ONE),
        "user": str(ONE),
    }  # fmt: skip
    found = attributes(spans.one())
    assert spans.one().name == str(ONE)
    assert (found["session.id"], found["user.id"]) == (str(ONE), str(ONE))
    assert not spancast.stats().internal_errors


Send: TypeAlias = "Callable[..., Any]"


@contextlib.contextmanager
def by_openai(server: ReplayServer) -> Iterator[Send]:
    with openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0) as made:
        create: Any = spancast.instrument(made).chat.completions.create
        yield lambda **keys: create(model="m", messages=MESSAGES, **keys) and server.requests[-1].body


@contextlib.contextmanager
def by_anthropic(server: ReplayServer) -> Iterator[Send]:
    with anthropic.Anthropic(base_url=server.url, api_key="k", max_retries=0) as made:
        create: Any = spancast.instrument(made).messages.create
        yield lambda **keys: create(model="m", messages=MESSAGES, max_tokens=9, **keys) and server.requests[-1].body


@contextlib.contextmanager
def by_openrouter(server: ReplayServer) -> Iterator[Send]:
    with openrouter.OpenRouter(api_key="k", server_url=server.base_url) as made:
        send: Any = spancast.instrument(made).chat.send
        yield lambda **keys: send(model="m", messages=MESSAGES, **keys) and server.requests[-1].body


SDKS: dict[str, Any] = {"openai": by_openai, "anthropic": by_anthropic, "openrouter": by_openrouter}
every_sdk = pytest.mark.parametrize("sdk", SDKS)


def test_each_key_type_has_its_form_on_the_span(server: ReplayServer, spans: CapturedSpans) -> None:
    always(spans)
    with by_openai(server) as send:
        for name, value in VALUES.items():
            assert send(trace={"key": value})["trace"]["key"] == EXPECTED[name]
    for (name, expected), span in zip(EXPECTED.items(), spans.all(), strict=True):
        found = {key: value for key, value in (span.attributes or {}).items() if key.startswith("trace.metadata.")}
        if not isinstance(expected, (dict, list)):
            assert found == {"trace.metadata.key": expected}
        # Lists of one type stay lists, objects are flattened, all else is JSON text.
        assert "object at 0x" not in str(found)
        assert found or name == "not given"


@every_sdk
def test_each_type_as_session_user_and_metadata_is_sent_as_text(
    sdk: str, server: ReplayServer, spans: CapturedSpans
) -> None:
    """A value is sent as its text; without one it is left out and is a validation error on the span."""
    always(spans)
    sent: dict[str, Any] = {}
    with SDKS[sdk](server) as send:
        for name, value in VALUES.items():
            # JSON values are sent unchanged for the provider or the SDK to check; two SDKs serialize models themselves.
            is_json = EXPECTED[name] is value or (type(value) is int and EXPECTED[name] == value)
            if not is_json and (name != "model" or sdk == "openrouter"):
                user = {"extra_body": {"user": value}} if sdk == "anthropic" else {"user": value}
                sent[name] = send(session_id=value, metadata={"key": value}, **user)
    for (name, body), span in zip(sent.items(), spans.all(), strict=True):
        expected, found = EXPECTED[name], attributes(span)
        text = expected if isinstance(expected, str) else json_codec.encode(expected)
        assert body["metadata"] == {"key": text}
        for field, attribute, limit in (("session_id", "session.id", 256), ("user", "user.id", 128)):
            if attribute in found:
                assert str(found[attribute]) == text[:limit]
                assert body[field] in (text, text[:limit])
            else:
                assert [problem for problem in found["spancast.validation_errors"] if problem.startswith(f"{field}: ")]
                assert field not in body or body[field] == text


@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
def test_callers_own_extra_body_is_not_changed(sdk: str, server: ReplayServer, spans: CapturedSpans) -> None:
    always(spans)
    inner = {"ids": {ONE}, "deep": [{"at": b"b"}]}
    trace = {"trace_name": ONE, "inner": inner, "bad": RaisingStr()}
    given = {"trace": trace, "session_id": ONE, "top": 1}
    copies = [dict(given), dict(trace), dict(inner), list(inner["deep"])]
    with SDKS[sdk](server) as send:
        body = send(extra_body=given)
    for now, before in zip([given, trace, inner], copies[:3], strict=True):
        assert list(now) == list(before)
        assert all(now[key] is before[key] for key in before)
    assert inner["deep"] == [{"at": b"b"}]
    generation = spans.calls()[0]
    assert body["trace"] == {
        "trace_name": str(ONE), "inner": {"ids": [str(ONE)], "deep": [{"at": "b"}]}, "bad": "<RaisingStr>",
        **ids(generation),
    }  # fmt: skip
    assert (body["session_id"], body["top"]) == (str(ONE), 1)
    assert attributes(generation)["trace.name"] == str(ONE)


@every_sdk
def test_trace_or_metadata_that_is_not_a_mapping(sdk: str, server: ReplayServer, spans: CapturedSpans) -> None:
    always(spans)
    with SDKS[sdk](server) as send:
        body = send(trace={ONE}, metadata=ONE, session_id="s")
    assert "metadata" not in body
    assert body["trace"] == ids(spans.one())
    assert attributes(spans.one())["spancast.validation_errors"] == [
        "trace: set given, an object of keys is allowed; ignored",
        "metadata: UUID given, an object of keys is allowed; ignored",
    ]


def test_json_keys_are_sent_as_given(server: ReplayServer, spans: CapturedSpans) -> None:
    always(spans)
    given = {"trace": {"a": [1, None, {"b": 2.5}], "é": "x" * 70_000}, "user": 7, "metadata": {"n": 1}, "session_id": 3}
    with by_openai(server) as send:
        body = send(**given)
    trace = body.pop("trace")
    assert {name: trace[name] for name in given["trace"]} == given["trace"]
    assert {name: body[name] for name in ("user", "metadata", "session_id")} == {
        "user": 7, "metadata": {"n": 1}, "session_id": 3,
    }  # fmt: skip


def test_keys_that_are_not_forwarded_are_on_the_span(server: ReplayServer, spans: CapturedSpans) -> None:
    with by_openai(server) as send, spancast.trace(of_block=RaisingStr()):
        body = send(trace=VALUES, session_id=ONE, extra_body={"trace": {"more": {1}}})
    assert body == {"model": "m", "messages": MESSAGES}
    found = attributes(spans.one())
    assert (found["session.id"], found["trace.metadata.uuid"], found["trace.metadata.of_block"]) == (
        str(ONE), str(ONE), "<RaisingStr>",
    )  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
async def test_openrouter_host_gets_the_keys_by_default(stream: bool, spans: CapturedSpans) -> None:
    """OpenRouter is recognized by its host name; a proxy sends the request to the test server."""
    url = "http://openrouter.ai/api/v1"
    with ReplayServer(openrouter=True) as server:
        with openai.OpenAI(
            base_url=url, api_key="k", max_retries=0, http_client=openai.DefaultHttpxClient(proxy=server.url)
        ) as made:
            chat: Any = spancast.instrument(made).chat.completions
            answer = chat.create(model="m", messages=MESSAGES, trace=VALUES, stream=stream, user=ONE)
            assert not stream or list(answer)
        async with openai.AsyncOpenAI(
            base_url=url, api_key="k", max_retries=0, http_client=openai.DefaultAsyncHttpxClient(proxy=server.url)
        ) as made_async:
            chat = spancast.instrument(made_async).chat.completions
            answer = await chat.create(model="m", messages=MESSAGES, trace=VALUES, stream=stream, user=ONE)
            assert not stream or [chunk async for chunk in answer]
        bodies = [request.body for request in server.requests]
    for body, span in zip(bodies, spans.all(), strict=True):
        assert body["trace"] == {**EXPECTED, **ids(span)}
        assert body["user"] == str(ONE)


def test_strict_with_key_without_text_raises_before_the_request(server: ReplayServer, spans: CapturedSpans) -> None:
    always(spans, strict=True)
    with by_openai(server) as send:
        send(trace={"customer": ONE, "price": decimal.Decimal("1.5")})
        with pytest.raises(spancast.TraceKeyError, match=r"trace\.o: RaisingStr given, a JSON value is allowed"):
            send(trace={"o": RaisingStr()})
    assert len(server.requests) == 1


def test_configure_encodes_key_values_and_checks_names(server: ReplayServer, spans: CapturedSpans) -> None:
    # A value that contains itself or cannot be read is a configuration error.
    values = {name: value for name, value in VALUES.items() if name not in {"cycle", "no mapping"}}
    always(spans, default_trace={**values, "session_id": ONE})
    with by_openai(server) as send:
        body = send()
    expected = {name: EXPECTED[name] for name in values}
    assert body["trace"] == {**expected, **ids(spans.one())}
    assert body["session_id"] == str(ONE)
    with pytest.raises(spancast.ConfigError, match=r"trace\.trace_id: list given, a string of 1 to 1024"):
        always(spans, default_trace={"trace_id": {1}})


def test_arguments_of_a_decorated_function_are_not_changed(spans: CapturedSpans) -> None:
    given: list[dict[str, Any]] = []

    @spancast.instrument(base_url="https://openrouter.ai/api/v1")
    def ask(**request: Any) -> Any:
        given.append(request)
        return chat_answer("hello", model="m")

    metadata = {"id": ONE}
    ask(model="m", messages=MESSAGES, user=ONE, metadata=metadata, trace={"k": {ONE}}, session_id=ONE)
    assert given[0]["user"] is ONE
    assert given[0]["metadata"] is metadata
    assert (given[0]["trace"], given[0]["session_id"]) == (
        {"id": str(ONE), "k": [str(ONE)], **ids(spans.one())},
        str(ONE),
    )
    assert httpx.Request("POST", "http://x", json=given[0]["trace"]).content
