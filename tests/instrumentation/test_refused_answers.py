"""A response that the SDK rejects is on the span, with the exception that the caller gets."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anthropic
import openai
import openrouter
import pydantic
import pytest
from tests.instrumentation.drivers import DRIVERS

import spancast
from spancast.dialects.anthropic_messages.answers import messages_answer
from spancast.dialects.openai_chat.answers import chat_answer
from spancast.dialects.openai_responses.answers import responses_answer
from spancast.testing import CapturedSpans, ReplayServer, Reply
from spancast.testing.spans import attributes

MESSAGES: Any = [{"role": "user", "content": "hi"}]
CUT = '{"name": "Par'


class City(pydantic.BaseModel):
    name: str
    people: int


def chat(text: str, reason: str) -> dict[str, Any]:
    answer = chat_answer(text, model="m-1", cost=0.02)
    answer["choices"][0]["finish_reason"] = reason
    return answer


def chat_parse(client: Any) -> Any:
    return client.chat.completions.parse(model="m", messages=MESSAGES, response_format=City)


def responses_parse(client: Any) -> Any:
    return client.responses.parse(model="m", input="hi", text_format=City)


def messages_parse(client: Any) -> Any:
    return client.messages.parse(model="m", max_tokens=9, messages=MESSAGES, output_format=City)


def beta_messages_parse(client: Any) -> Any:
    return client.beta.messages.parse(model="m", max_tokens=9, messages=MESSAGES, output_format=City)


Case = tuple[str, Callable[[Any], Any], dict[str, Any], type[Exception]]
CASES: list[Case] = [
    ("openai", chat_parse, chat(CUT, "length"), openai.LengthFinishReasonError),
    ("openai", chat_parse, chat(CUT, "content_filter"), openai.ContentFilterFinishReasonError),
    ("openai", chat_parse, chat('{"name": "Paris"}', "stop"), pydantic.ValidationError),
    ("openai", responses_parse, responses_answer(CUT, model="m-1"), pydantic.ValidationError),
    ("anthropic", messages_parse, messages_answer(CUT, model="m-1"), pydantic.ValidationError),
    ("anthropic", beta_messages_parse, messages_answer(CUT, model="m-1"), pydantic.ValidationError),
]
every = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[1].__name__}-{case[3].__name__}")


def check(spans: CapturedSpans, answer: dict[str, Any], error: BaseException) -> None:
    span = spans.one()
    found = attributes(span)
    assert found["error.type"].endswith(type(error).__qualname__)
    assert not span.status.is_unset
    assert not span.status.is_ok
    assert [event.name for event in span.events] == ["exception"]
    assert found["gen_ai.response.id"] == answer["id"]
    assert found["gen_ai.response.model"] == "m-1"
    assert found["gen_ai.usage.input_tokens"]
    assert found["gen_ai.usage.output_tokens"]
    assert found["gen_ai.response.finish_reasons"] != ["error"]
    assert found["gen_ai.output.messages"][0]["parts"][0]["content"]
    assert "spancast.response.incomplete" not in found
    if "cost" in answer.get("usage", {}):
        assert found["spancast.usage.cost"] == answer["usage"]["cost"]


@every
def test_response_rejected_by_the_helper_is_recorded(case: Case, server: ReplayServer, spans: CapturedSpans) -> None:
    sdk, call, answer, kind = case
    server.reply(Reply.json(answer), Reply.json(answer))
    make = next(driver.make for driver in DRIVERS if driver.sdk == sdk and not driver.is_async)
    with make(server) as plain, make(server) as mine:
        client = spancast.instrument(mine)
        with pytest.raises(kind) as without:
            call(plain)
        with pytest.raises(kind) as caught:
            call(client)
    assert type(caught.value) is type(without.value)
    assert str(caught.value) == str(without.value)
    check(spans, answer, caught.value)


@every
async def test_response_rejected_by_the_async_helper_is_recorded(
    case: Case, server: ReplayServer, spans: CapturedSpans
) -> None:
    sdk, call, answer, kind = case
    server.reply(Reply.json(answer))
    make = next(driver.make for driver in DRIVERS if driver.sdk == sdk and driver.is_async)
    async with make(server) as mine:
        client = spancast.instrument(mine)
        with pytest.raises(kind) as caught:
            await call(client)
    check(spans, answer, caught.value)


def test_response_rejected_by_strict_validation_is_recorded(server: ReplayServer, spans: CapturedSpans) -> None:
    answer = {**chat("Hello", "stop"), "created": "yesterday"}
    server.reply(Reply.json(answer))
    with openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0, _strict_response_validation=True) as made:
        client = spancast.instrument(made)
        with pytest.raises(openai.APIResponseValidationError) as caught:
            client.chat.completions.create(model="m", messages=MESSAGES)
    check(spans, answer, caught.value)


def test_response_that_is_not_json_is_recorded_as_error_only(server: ReplayServer, spans: CapturedSpans) -> None:
    body = b'{"id": "chatcmpl-1", "choi'
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    server.reply(Reply.raw(head + body))
    with openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0) as made:
        client = spancast.instrument(made)
        with pytest.raises(json.JSONDecodeError):
            client.chat.completions.create(model="m", messages=MESSAGES)
    found = attributes(spans.one())
    assert found["error.type"].endswith("JSONDecodeError")
    assert found["gen_ai.input.messages"]


def test_raw_response_parsed_with_error_later_is_recorded(server: ReplayServer, spans: CapturedSpans) -> None:
    """The span has ended before that, with the complete response."""
    answer = chat(CUT, "length")
    server.reply(Reply.json(answer))
    with openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0) as made:
        client = spancast.instrument(made)
        raw = client.chat.completions.with_raw_response.parse(model="m", messages=MESSAGES, response_format=City)
        with pytest.raises(openai.LengthFinishReasonError):
            raw.parse()
    found = attributes(spans.one())
    assert found["gen_ai.output.messages"][0]["parts"][0]["content"] == CUT
    assert found["gen_ai.usage.output_tokens"]


@pytest.mark.parametrize("is_async", [False, True])
async def test_response_rejected_by_openrouter_is_recorded(
    server: ReplayServer, spans: CapturedSpans, *, is_async: bool
) -> None:
    answer = {**chat("Hello", "stop"), "created": "yesterday"}
    server.reply(Reply.json(answer))
    client = spancast.instrument(next(driver.make for driver in DRIVERS if driver.sdk == "openrouter")(server))

    async def send() -> None:
        if is_async:
            # Close the connection here instead of at garbage collection.
            async with client:
                await client.chat.send_async(model="m", messages=MESSAGES)
        else:
            client.chat.send(model="m", messages=MESSAGES)

    with pytest.raises(openrouter.errors.ResponseValidationError) as caught:
        await send()
    check(spans, answer, caught.value)


def test_rejected_response_in_a_decorated_function_is_recorded(server: ReplayServer, spans: CapturedSpans) -> None:
    answer = chat(CUT, "length")
    server.reply(Reply.json(answer))
    with openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0) as made:
        client = spancast.instrument(made)

        @spancast.instrument
        def ask(**_: Any) -> Any:
            return chat_parse(client)

        with pytest.raises(openai.LengthFinishReasonError) as caught:
            ask(model="m", messages=MESSAGES)
    check(spans, answer, caught.value)


def test_body_of_an_error_status_is_not_a_response(server: ReplayServer, spans: CapturedSpans) -> None:
    server.reply(Reply.error(400, {"error": {"message": "no", "code": 400}, "user_id": "u"}))
    client = spancast.instrument(next(driver.make for driver in DRIVERS if driver.sdk == "openrouter")(server))
    with pytest.raises(openrouter.errors.BadRequestResponseError):
        client.chat.send(model="m", messages=MESSAGES)
    found = attributes(spans.one())
    assert found["gen_ai.response.finish_reasons"] == ["error"]
    assert "gen_ai.output.messages" not in found


def test_response_rejected_by_anthropic_strict_validation_is_recorded(
    server: ReplayServer, spans: CapturedSpans
) -> None:
    answer = {**messages_answer("Hello", model="m-1"), "role": 7}
    server.reply(Reply.json(answer))
    with anthropic.Anthropic(base_url=server.url, api_key="k", max_retries=0, _strict_response_validation=True) as made:
        client = spancast.instrument(made)
        with pytest.raises(anthropic.APIResponseValidationError) as caught:
            client.messages.create(model="m", max_tokens=9, messages=MESSAGES)
    check(spans, answer, caught.value)
