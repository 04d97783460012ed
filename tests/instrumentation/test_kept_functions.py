"""A decorated function's request and response are copied and parsed later; the span is that of parsing at once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import anthropic
import openai
import pytest
from openai.types.chat import ChatCompletionChunk
from tests.tracing.span_targets import SpanTarget, captured_by_target, captured_from_sdk, shown

import spancast
from spancast.diagnostics import reraise_internal_errors
from spancast.dialects.openai_chat.answers import chat_answer
from spancast.model import kept_copy
from spancast.testing import ReplayServer, Reply

Ask = Callable[..., Any]


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    former = reraise_internal_errors(enabled=True)
    yield
    reraise_internal_errors(enabled=former)
    spancast.shutdown(1)


def messages() -> list[Any]:
    return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "hi"}]}]


def through_openai(server: ReplayServer) -> Ask:
    client = openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0)
    return lambda **request: client.chat.completions.create(**request)


def through_responses(server: ReplayServer) -> Ask:
    client = openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0)
    return lambda model, messages: client.responses.create(model=model, input=messages[-1]["content"][0]["text"])


def through_anthropic(server: ReplayServer) -> Ask:
    client = anthropic.Anthropic(base_url=server.base_url, api_key="k", max_retries=0)
    return lambda model, messages: client.messages.create(model=model, messages=messages[1:], max_tokens=9)


def through_traced_client(server: ReplayServer) -> Ask:
    client = spancast.instrument(openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0))
    return lambda **request: client.chat.completions.create(**request, temperature=0.5)


def through_second_attempt(server: ReplayServer) -> Ask:
    client = spancast.instrument(openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0))

    def ask(**request: Any) -> Any:
        server.reply(Reply.error(500))
        with pytest.raises(openai.InternalServerError):
            client.chat.completions.create(**request)
        return client.chat.completions.create(**request)

    return ask


def refused(server: ReplayServer) -> Ask:
    client = openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0)

    def ask(**request: Any) -> Any:
        server.reply(Reply.error(429))
        return client.chat.completions.create(**request)

    return ask


def refused_traced_client(server: ReplayServer) -> Ask:
    client = spancast.instrument(openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0))

    def ask(**request: Any) -> Any:
        server.reply(Reply.error(429))
        return client.chat.completions.create(**request)

    return ask


def plain_answer(_: ReplayServer) -> Ask:
    return lambda **_: chat_answer("hello", model="m")


def text_answer(_: ReplayServer) -> Ask:
    return lambda **_: "hello"


WAYS: dict[str, tuple[Callable[[ReplayServer], Ask], str]] = {
    "SDK object": (through_openai, "openai_chat"),
    "responses": (through_responses, "openai_responses"),
    "anthropic": (through_anthropic, "anthropic_messages"),
    "traced client": (through_traced_client, "openai_chat"),
    "second attempt": (through_second_attempt, "openai_chat"),
    "refused": (refused, "openai_chat"),
    "traced client refused": (refused_traced_client, "openai_chat"),
    "dict": (plain_answer, "openai_chat"),
    "text": (text_answer, "openai_chat"),
}


def call(function: Ask, dialect: str) -> Any:
    try:
        return spancast.instrument(function, dialect=dialect)(model="m", messages=messages())
    except (openai.OpenAIError, anthropic.AnthropicError):
        return None


@pytest.mark.parametrize("way", WAYS)
def test_call_parsed_later_gives_the_span_of_parsing_at_once(way: str, server: ReplayServer) -> None:
    begin, dialect = WAYS[way]
    later = captured_by_target()
    call(begin(server), dialect)
    [(_, unparsed)] = later.taken
    assert unparsed is not None, "nothing was left to parse"
    assert unparsed.size_bytes > len("Be brief.")
    at_once = captured_from_sdk()
    call(begin(server), dialect)
    [(_, unparsed)] = at_once.taken
    assert unparsed is None
    assert shown(later.parsed()[0]) == shown(at_once.parsed()[0])


def output_text(target: SpanTarget) -> str:
    return shown(target.parsed()[0])["attributes"]["gen_ai.output.messages"][0]["parts"][0]["content"]


def test_changes_after_the_call_are_not_recorded(server: ReplayServer) -> None:
    target, given = captured_by_target(), messages()
    answer = spancast.instrument(through_openai(server))(model="m", messages=given)
    text = answer.choices[0].message.content
    answer.choices[0].message.content = answer.model = "changed"
    answer.choices.append("changed")
    given.append({"role": "assistant", "content": "changed"})
    given[0]["content"] = "changed"
    found = shown(target.parsed()[0])["attributes"]
    assert found["gen_ai.output.messages"][0]["parts"][0]["content"] == text
    assert found["gen_ai.response.model"] != "changed"
    assert [one["parts"][0]["content"] for one in found["gen_ai.input.messages"]] == ["Be brief.", "hi"]


def test_chunks_changed_by_the_caller_are_recorded_as_they_were(server: ReplayServer) -> None:
    target, create, texts = captured_by_target(), through_openai(server), []

    @spancast.instrument
    def ask(**request: Any) -> Iterator[Any]:
        yield from create(stream=True, **request)

    for chunk in ask(model="m", messages=messages()):
        for choice in chunk.choices:
            texts.append(choice.delta.content or "")
            choice.delta.content = "changed"
    assert output_text(target) == "".join(texts) != ""


@dataclass
class Answer:
    choices: list[Any]


def test_result_that_cannot_be_copied_is_parsed_at_once() -> None:
    target = captured_by_target()
    answer = Answer(chat_answer("hello")["choices"])
    spancast.instrument(lambda **_: answer)(model="m", messages=messages())
    answer.choices[0]["message"]["content"] = "changed"
    [(_, attributes, _)] = target.parsed()
    assert "hello" in attributes["gen_ai.output.messages"]
    assert output_text(target) == "hello"


def test_argument_that_cannot_be_copied_is_parsed_at_once(server: ReplayServer) -> None:
    target = captured_by_target()
    client = openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0)

    @spancast.instrument
    def ask(client: Any, **request: Any) -> Any:
        return client.chat.completions.create(**request)

    given = messages()
    ask(client, model="m", messages=given)
    given.clear()
    assert len(shown(target.parsed()[0])["attributes"]["gen_ai.input.messages"]) == 2


class Counting(dict[str, Any]):
    def items(self) -> Any:
        raise AssertionError


@pytest.mark.parametrize(
    "value",
    [{"a": [1, 2.5, None, True, ("x", {"y": "\ud800"})]}, "text", [], {}, 1 << 80],
    ids=lambda value: str(type(value)),
)
def test_kept_copy_is_equal(value: Any) -> None:
    kept = kept_copy.keep(value)
    assert kept is not None
    assert kept_copy.restore(kept) == value


def test_kept_copy_runs_no_code_of_the_caller() -> None:
    circular: list[Any] = []
    circular.append(circular)
    for value in (Counting(a=1), [object()], {"a": Counting()}, circular, type("Model", (), {"__getattr__": None})()):
        assert kept_copy.keep(value) is None


def test_kept_copy_of_a_model_has_the_fields_that_are_given(server: ReplayServer) -> None:
    answer = through_openai(server)(model="m", messages=messages())
    kept = kept_copy.keep([answer, copy.copy(answer)])
    assert kept is not None
    first, second = kept_copy.restore(kept)
    assert first == second == {**answer.model_dump(exclude_none=True), "_request_id": "req_1"}


TOKEN = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [{"token": "b", "logprob": -1.5, "bytes": [98]}]}


@pytest.mark.parametrize(
    "choice",
    [
        {"delta": {"content": "x" * 100}},
        {"delta": {"content": [{"type": "text", "text": "x" * 100}]}},
        {"delta": {"reasoning_details": [{"type": "reasoning.text", "text": "x" * 100, "index": 0}]}},
        {"delta": {"thoughts": "x" * 100}},
        {"delta": {"content": "a"}, "logprobs": {"content": [TOKEN]}},
    ],
    ids=["text", "parts", "reasoning details", "unknown field", "log probabilities"],
)
def test_memory_of_a_stream_that_waits_for_its_parsing_is_counted(choice: dict[str, Any]) -> None:
    def stream(**_: Any) -> Iterator[Any]:
        for _number in range(50):
            yield {"choices": [{"index": 0, **choice}]}

    target = captured_by_target()
    list(spancast.instrument(stream)(model="m", messages=messages()))
    [(_, unparsed)] = target.taken
    assert unparsed is not None
    assert unparsed.size_bytes > 50 * 90


@pytest.mark.parametrize("as_dict", [False, True], ids=["objects", "JSON data"])
def test_chunks_after_a_text_give_their_id_and_model(as_dict: bool) -> None:
    def stream(**_: Any) -> Iterator[Any]:
        yield "Well, "
        chunk = ChatCompletionChunk.model_validate({
            "id": "chunk-1", "object": "chat.completion.chunk", "created": 1, "model": "served",
            "choices": [{"index": 0, "delta": {"content": "hello"}, "finish_reason": None, "logprobs": None}],
        })  # fmt: skip
        yield chunk.model_dump() if as_dict else chunk

    target = captured_by_target()
    list(spancast.instrument(stream)(model="m", messages=messages()))
    [(_, attributes, _)] = target.parsed()
    assert (attributes["gen_ai.response.id"], attributes["gen_ai.response.model"]) == ("chunk-1", "served")
    assert output_text(target) == "Well, hello"
