"""Wrong parameters, responses and chunks: the call is unchanged, the span has validation errors, one warning is logged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

import spancast
from spancast.dialects.openai_chat.answers import chat_answer, chat_chunks
from spancast.testing import CapturedSpans, ReplayServer, Reply
from spancast.testing.spans import attributes

MESSAGES: Any = [{"role": "user", "content": "hi"}]


@pytest.fixture
def client(server: ReplayServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0) as made:
        yield spancast.instrument(made)


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"temperature": 7}, "temperature: int 7 given, 0 to 2 is allowed; sent as it is"),
        ({"top_p": -0.5}, "top_p: float -0.5 given, 0 to 1 is allowed; sent as it is"),
        ({"n": 0}, "n: int 0 given, 1 or more is allowed; sent as it is"),
        ({"stop": list("abcde")}, "stop: 5 sequences given, at most 4 are allowed; sent as they are"),
        ({"extra_body": {"min_p": 2.0}}, "min_p: float 2.0 given, 0 to 1 is allowed; sent as it is"),
    ],
)
def test_call_with_parameter_out_of_range_is_recorded_with_validation_error(
    parameters: dict[str, Any], problem: str, client: Any, server: ReplayServer, spans: CapturedSpans,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    for _ in range(2):
        assert client.chat.completions.create(model="m", messages=MESSAGES, **parameters).choices
    expected = {**parameters, **parameters.get("extra_body", {})}
    expected.pop("extra_body", None)
    assert server.requests[0].body.items() >= expected.items()
    assert attributes(spans.all()[0])["spancast.validation_errors"] == [problem]
    assert [record.getMessage() for record in caplog.records] == [problem]


def test_strict_with_wrong_parameter_raises_before_the_request(
    server: ReplayServer, spans: CapturedSpans, client: Any
) -> None:
    spancast.configure(tracer_provider=spans.provider, strict=True)
    with pytest.raises(spancast.SpancastError, match="temperature: int 7 given, 0 to 2 is allowed"):
        client.chat.completions.create(model="m", messages=MESSAGES, temperature=7)
    assert server.requests == []
    assert attributes(spans.one())["error.type"] == "spancast.SpancastError"


def test_misspelled_trace_key_is_kept_and_warned_of_once_and_is_an_error_if_strict(
    client: Any, server: ReplayServer, spans: CapturedSpans, caplog: pytest.LogCaptureFixture
) -> None:
    problem = "trace.trace_nam: unknown key (did you mean `trace_name`?); recorded as a custom one"
    for _ in range(2):
        assert client.chat.completions.create(model="m", messages=MESSAGES, trace={"trace_nam": "x", "tier": 2}).choices
    found = attributes(spans.all()[0])
    assert found["spancast.validation_errors"] == [problem]
    assert (found["trace.metadata.trace_nam"], found["trace.metadata.tier"]) == ("x", 2)
    assert [record.getMessage() for record in caplog.records] == [problem]
    spancast.configure(tracer_provider=spans.provider, strict=True)
    with pytest.raises(spancast.TraceKeyError, match=r"unknown key \(did you mean `trace_name`\?\)$"):
        client.chat.completions.create(model="m", messages=MESSAGES, trace={"trace_nam": "x"})
    assert len(server.requests) == 2
    with pytest.raises(spancast.ConfigError, match=r"did you mean `session_id`\?\)$"):
        spancast.configure(default_trace={"sesion_id": "chat-42"})


@pytest.mark.parametrize(
    "reply",
    [
        Reply.json({}),
        Reply.json([1, 2]),
        Reply.json("text"),
        Reply.json(None),
        Reply.raw(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 15\r\n\r\n<html>ok</html>"),
        Reply.raw(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 5\r\n\r\n{brok"),
        Reply.raw(b"HTTP/1.1 204 No Content\r\n\r\n"),
        Reply.json({"choices": "none", "usage": 7, "id": 3}),
        Reply.json({"choices": [None, {"message": 5}, {"message": {"tool_calls": [None, {"function": 1}]}}]}),
    ],
)
def test_malformed_response_is_returned_unchanged(
    reply: Reply, client: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    def outcome(one: Any) -> str:
        server.reply(reply)
        try:
            return repr(one.chat.completions.create(model="m", messages=MESSAGES))
        except Exception as error:  # noqa: BLE001 - compared with the plain client's
            return repr(type(error))

    with openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0) as plain:
        assert outcome(client) == outcome(plain)
    assert spans.one().name == "chat m"
    assert not spancast.stats().internal_errors


def test_response_of_another_shape_is_a_validation_error(
    client: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    server.reply(Reply.json({}))
    client.chat.completions.create(model="m", messages=MESSAGES)
    assert attributes(spans.one())["spancast.validation_errors"] == [
        "answer: expected a response of openai_chat; returned unchanged"
    ]


def test_malformed_chunks_are_returned_unchanged(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    chunks: list[Any] = chat_chunks(chat_answer("hello", model="m"))
    odd: list[Any] = [{}, {"choices": []}, {"choices": [{"index": 0, "delta": {}}]}, {"surprise": 1}]
    server.reply(Reply.stream([*odd, chunks[0], *odd, *chunks[1:]]))
    list(client.chat.completions.create(model="m", messages=MESSAGES, stream=True))
    server.reply(Reply.stream([chunks[0], "{broken json", chunks[1]], done=False))
    with pytest.raises(Exception, match=r"Expecting property name|JSON"):
        list(client.chat.completions.create(model="m", messages=MESSAGES, stream=True))
    first, second = (attributes(span) for span in spans.all())
    assert "spancast.validation_errors" not in first
    assert second["error.type"]
    assert not spancast.stats().internal_errors


@pytest.mark.parametrize("value", ["SPAN_ONLY", "true", "NO_CONTENT", "EVENT_ONLY"])
def test_standard_variable_sets_content_capture(
    value: str, client: Any, spans: CapturedSpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", value)
    spancast.configure(tracer_provider=spans.provider)
    client.chat.completions.create(model="m", messages=MESSAGES)
    assert ("gen_ai.input.messages" in attributes(spans.one())) == (value in ("SPAN_ONLY", "true"))
