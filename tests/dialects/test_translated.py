"""The dialects that are translated to Chat Completions; their canned answers and streams: tests/testing/test_contract.py."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from tests.dialects.streams import check_request, check_response, read_stream, recordings

from spancast.dialects.registry import find_dialect
from spancast.dialects.xai.chat import XAI_CHAT
from spancast.model.call import Failure

DIALECTS = (
    "cohere_chat", "cohere_chat_v1", "cohere_embed", "dashscope_chat", "huggingface_embed",
    "huggingface_generate", "mistral_conversations", "ollama_chat", "ollama_embed",
    "ollama_generate", "replicate_prediction", "xai_chat",
)  # fmt: skip
USER: list[Any] = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize(
    ("dialect", "answer", "expected"),
    [
        ("cohere_chat", {"message": {"content": []}, "finish_reason": "STOP_SEQUENCE"}, "stop"),
        ("cohere_chat", {"message": {"content": []}, "finish_reason": "TIMEOUT"}, "error"),
        ("cohere_chat_v1", {"text": "", "finish_reason": "ERROR_TOXIC"}, "content_filter"),
        ("cohere_chat_v1", {"text": "", "finish_reason": "ERROR_LIMIT"}, "length"),
        ("ollama_chat", {"message": {"content": ""}, "done_reason": "load"}, "stop"),
        ("ollama_chat", {"message": {"content": "a"}, "done_reason": "length"}, "length"),
        ("xai_chat", {"outputs": [{"message": {}, "finish_reason": "REASON_MAX_CONTEXT"}]}, "length"),
        ("xai_chat", {"outputs": [{"message": {}, "finish_reason": "REASON_TIME_LIMIT"}]}, "length"),
        ("xai_chat", {"outputs": [{"message": {}, "finish_reason": "REASON_TOOL_CALLS"}]}, "tool_calls"),
        ("dashscope_chat", {"output": {"choices": [{"message": {}, "finish_reason": "tool_calls"}]}}, "tool_calls"),
        ("dashscope_chat", {"output": {"text": "a", "finish_reason": "null"}}, None),
        ("huggingface_generate", {"generated_text": "a", "details": {"finish_reason": "stop_sequence"}}, "stop"),
        ("huggingface_generate", [{"generated_text": "a", "details": {"finish_reason": "length"}}], "length"),
        ("replicate_prediction", {"status": "succeeded", "output": ["a"]}, "stop"),
        ("replicate_prediction", {"status": "failed", "error": "no"}, "error"),
        ("replicate_prediction", {"status": "canceled", "output": ["a"]}, "error"),
        ("replicate_prediction", {"status": "starting"}, None),
        ("replicate_prediction", {"status": "aborted", "output": ["a"]}, None),
        ("replicate_prediction", {"status": "processing", "output": ["a"]}, None),
    ],
)
def test_finish_reason_is_in_the_words_of_chat_completions(dialect: str, answer: Any, expected: str | None) -> None:
    read = find_dialect(dialect).read_response(answer, content=True)
    assert read.finish_reasons == ([] if expected is None else [expected])


@pytest.mark.parametrize(
    ("data", "expected", "native"),
    [
        ("{}", ["stop"], None),
        ('{"reason": "canceled"}', ["error"], ["canceled"]),
        # Not documented: kept as it is.
        ('{"reason": "tired"}', ["tired"], None),
    ],
)
def test_end_of_a_stream_of_replicate_says_why(data: str, expected: list[str], native: list[str] | None) -> None:
    events = [{"event": "output", "data": "a"}, {"event": "done", "data": data}]
    read = read_stream(find_dialect("replicate_prediction"), events)
    assert read.finish_reasons == expected
    assert read.attributes.get("spancast.response.native_finish_reasons") == native


def test_tokens_without_a_billed_count_are_the_usage_of_cohere() -> None:
    usage = {"tokens": {"input_tokens": 90.0, "output_tokens": 2.0}, "cached_tokens": 16}
    read = find_dialect("cohere_chat").read_response({"message": {"content": []}, "usage": usage}, content=True)
    assert read.usage["gen_ai.usage.input_tokens"] == 90
    assert read.usage["gen_ai.usage.cache_read.input_tokens"] == 16


def test_end_of_a_stream_of_cohere_has_the_type_of_its_error() -> None:
    ending = {"finish_reason": "ERROR", "error": "no valid call", "error_type": "INVALID_TOOL_GENERATION"}
    read = read_stream(find_dialect("cohere_chat"), [{"type": "message-end", "delta": ending}])
    assert read.failure == Failure(type="INVALID_TOOL_GENERATION", message="no valid call")


def test_damaged_message_on_the_wire_is_empty() -> None:
    pytest.importorskip("xai_sdk.chat")
    assert XAI_CHAT.read_request({"proto": "ffff", "model": "m"}, content=True).messages == []
    assert XAI_CHAT.read_response({"proto": "no"}, content=True).messages == []


def test_messages_on_the_wire_of_every_size_are_read() -> None:
    pytest.importorskip("xai_sdk.chat")
    from xai_sdk.chat import assistant, image, system, user
    from xai_sdk.proto import chat_pb2

    texts = [
        "",
        *("é" * (size // 2) + "a" * (size % 2) for size in (*range(1, 140), *range(16_370, 16_390), 2_097_152)),
    ]
    messages = [user(text) for text in texts]
    messages += [system("Be kind."), user("one", "two"), assistant("yes"), user(image("https://x/y.png")), user("end")]
    messages[5].name = "Ada"
    wire = chat_pb2.GetCompletionsRequest(model="m", messages=messages).SerializeToString()
    # Fields may come in any order, and again.
    wire += chat_pb2.GetCompletionsRequest(user="u", messages=[user("late")]).SerializeToString()
    read = XAI_CHAT.read_request({"proto": wire.decode("latin-1"), "model": "m"}, content=True).messages
    assert read[: len(texts)] == [
        {"role": "user", "parts": [{"type": "text", "content": text}] if text else [], **({"name": "Ada"} if at == 5 else {})}
        for at, text in enumerate(texts)
    ]  # fmt: skip
    rest = [
        (message["role"], [part.get("content", part.get("uri")) for part in message["parts"]])
        for message in read[len(texts) :]
    ]
    assert rest == [
        ("system", ["Be kind."]), ("user", ["one", "two"]), ("assistant", ["yes"]), ("user", ["https://x/y.png"]),
        ("user", ["end"]), ("user", ["late"]),
    ]  # fmt: skip


_ODD: tuple[Any, ...] = (None, -1, "x", [{}], {"a": 1})


@pytest.mark.parametrize("name", DIALECTS)
def test_recordings_with_any_one_value_replaced_are_read(name: str) -> None:
    dialect: Any = find_dialect(name)
    for case in recordings(name).values():
        for kind in case.keys() & {"request", "response", "stream"}:
            for changed in _changed(case[kind]):
                if kind == "stream" and isinstance(changed, list):
                    check_response(read_stream(dialect, changed))
                elif kind == "response":
                    check_response(dialect.read_response(changed, content=True))
                elif kind == "request" and isinstance(changed, dict):
                    check_request(dialect.read_request(changed, content=True))


def _changed(value: Any) -> Iterator[Any]:
    for path, odd in zip(_paths(value), itertools.cycle(_ODD), strict=False):
        if not path:
            yield odd
            continue
        changed = copy.deepcopy(value)
        holder = changed
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = odd
        yield changed


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield from _paths(item, (*path, key))
