"""Real tokens of a real engine over three APIs; words differ from run to run, so structure and usage are compared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest
from tests.e2e.engines import Llama
from tests.instrumentation.litellm_drivers import FILTERS, close

import spancast
from spancast.testing import CapturedSpans
from spancast.testing.spans import attributes

QUESTION: list[Any] = [
    {"role": "system", "content": "You answer in one short sentence."},
    {"role": "user", "content": "What is the capital of France?"},
]
ASKED: dict[str, Any] = {"model": Llama.MODEL, "messages": QUESTION, "max_tokens": 24}


@pytest.fixture
def gpt(llama: Llama) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{llama.url}/v1", api_key="none", max_retries=0) as client:
        yield spancast.instrument(client)


@pytest.fixture
def claude(llama: Llama) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=llama.url, api_key="none", max_retries=0) as client:
        yield spancast.instrument(client)


def text_of(found: dict[str, Any]) -> str:
    [message] = found["gen_ai.output.messages"]
    assert message["role"] == "assistant"
    return "".join(part["content"] for part in message["parts"] if part["type"] == "text")


def check(spans: CapturedSpans, *, text: str, sent: int, received: int) -> dict[str, Any]:
    span = spans.one()
    found = attributes(span)
    assert span.status.is_unset
    assert text
    assert text_of(found) == text
    assert (found["gen_ai.usage.input_tokens"], found["gen_ai.usage.output_tokens"]) == (sent, received)
    assert sent > 10
    assert 0 < received <= 24
    assert found["gen_ai.request.model"] == Llama.MODEL
    assert found["gen_ai.response.id"]
    assert found["gen_ai.response.finish_reasons"][0] in ("stop", "length", "end_turn", "max_tokens", "completed")
    return found


def test_chat_completion(gpt: openai.OpenAI, spans: CapturedSpans) -> None:
    answer = gpt.chat.completions.create(**ASKED)
    assert answer.usage is not None
    found = check(
        spans,
        text=str(answer.choices[0].message.content),
        sent=answer.usage.prompt_tokens,
        received=answer.usage.completion_tokens,
    )
    assert found["gen_ai.response.id"] == answer.id


def test_chat_stream_has_the_usage_and_the_text_that_the_caller_gets(gpt: openai.OpenAI, spans: CapturedSpans) -> None:
    chunks = list(gpt.chat.completions.create(**ASKED, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    usage = chunks[-1].usage
    assert usage is not None
    found = check(spans, text=text, sent=usage.prompt_tokens, received=usage.completion_tokens)
    assert 0 < found["gen_ai.response.time_to_first_chunk"] < 60


def test_chat_stream_left_early_has_the_part_that_arrived(gpt: openai.OpenAI, spans: CapturedSpans) -> None:
    stream = gpt.chat.completions.create(**{**ASKED, "max_tokens": 400}, stream=True)
    pieces = [chunk.choices[0].delta.content or "" for _, chunk in zip(range(5), stream, strict=False)]
    stream.close()
    found = attributes(spans.one())
    assert found["spancast.response.incomplete"] == "closed"
    assert text_of(found).startswith("".join(pieces))


@pytest.mark.parametrize("stream", [False, True])
def test_response(gpt: openai.OpenAI, spans: CapturedSpans, *, stream: bool) -> None:
    asked: dict[str, Any] = {"model": Llama.MODEL, "input": "Name a colour of the sky.", "max_output_tokens": 24}
    if stream:
        last: Any = list(gpt.responses.create(**asked, stream=True))[-1]
        answer = last.response
    else:
        answer = gpt.responses.create(**asked)
    check(spans, text=answer.output_text, sent=answer.usage.input_tokens, received=answer.usage.output_tokens)


def test_message(claude: anthropic.Anthropic, spans: CapturedSpans) -> None:
    answer = claude.messages.create(model=Llama.MODEL, max_tokens=24, system="Be brief.", messages=QUESTION[1:])
    [block] = answer.content
    assert isinstance(block, anthropic.types.TextBlock)
    check(
        spans,
        text=block.text,
        sent=answer.usage.input_tokens + (answer.usage.cache_read_input_tokens or 0),
        received=answer.usage.output_tokens,
    )


def test_message_stream(claude: anthropic.Anthropic, spans: CapturedSpans) -> None:
    asked: Any = {"model": Llama.MODEL, "max_tokens": 24, "system": "Be brief.", "messages": QUESTION[1:]}
    with claude.messages.stream(**asked) as running:
        text = running.get_final_text()
        usage = running.get_final_message().usage
    check(
        spans,
        text=text,
        sent=usage.input_tokens + (usage.cache_read_input_tokens or 0),
        received=usage.output_tokens,
    )


def test_too_long_request_is_refused(gpt: openai.OpenAI, spans: CapturedSpans) -> None:
    long: Any = [{"role": "user", "content": "word " * 6_000}]
    with pytest.raises(openai.BadRequestError, match="context"):
        gpt.chat.completions.create(model=Llama.MODEL, messages=long)
    found = attributes(spans.one())
    assert found["error.type"] == "exceed_context_size_error"
    assert found["spancast.response.status_code"] == 400


@pytest.mark.parametrize(
    "stream",
    [pytest.param(one, marks=[pytest.mark.filterwarnings(text) for text in FILTERS]) for one in (False, True)],
)
def test_litellm_in_front_of_it(llama: Llama, spans: CapturedSpans, *, stream: bool) -> None:
    litellm = pytest.importorskip("litellm")
    spancast.instrument("litellm")
    asked: Any = {**ASKED, "model": f"openai/{Llama.MODEL}", "api_base": f"{llama.url}/v1", "api_key": "none"}
    if stream:
        chunks = list(litellm.completion(**asked, stream=True, stream_options={"include_usage": True}))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        usage = chunks[-1].usage
    else:
        answer = litellm.completion(**asked)
        text, usage = answer.choices[0].message.content, answer.usage
    check(spans, text=text, sent=usage.prompt_tokens, received=usage.completion_tokens)
    close()
