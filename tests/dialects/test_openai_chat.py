from __future__ import annotations

import copy
import json
from types import MappingProxyType
from typing import Any

import openai
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai._models import construct_type
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openrouter import components
from openrouter.types import UNSET
from tests.dialects.streams import (
    RECORDINGS,
    check_request,
    check_response,
    comparable,
    json_values,
    mutate,
    read_stream,
    recordings,
    resplit,
    texts_of,
)

from spancast.dialects.openai_chat.reader import OPENAI_CHAT
from spancast.model.call import Failure, Request, Response
from spancast.model.privacy import without_content

CASES = recordings("openai_chat")
STREAMS = sorted(name for name in CASES if name.endswith(".stream"))
WHOLES = sorted(set(CASES) - set(STREAMS))
PAIRS = sorted(name for name in WHOLES if f"{name}.stream" in CASES)

PNG = "sha256:3eb10792d1f0c7e07e7248273540f1952d9a5a2996f4b5df70ab026cd9f05517"


def complete(name: str, *, content: bool = True) -> Response:
    return OPENAI_CHAT.read_response(CASES[name]["response"], content=content)


def streamed(name: str, *, content: bool = True) -> Response:
    return read_stream(OPENAI_CHAT, CASES[name]["stream"], content=content)


def answer(name: str, *, content: bool = True) -> Response:
    return streamed(name, content=content) if name in STREAMS else complete(name, content=content)


def request_of(name: str, *, content: bool = True) -> Request:
    return OPENAI_CHAT.read_request(CASES[name]["request"], content=content)


# --- complete responses ------------------------------------------------------------------------------


def test_read_response_openrouter() -> None:
    assert complete("openrouter") == Response(
        id="chatcmpl-9xYz",
        model="anthropic/claude-sonnet-4.6",
        finish_reasons=["stop"],
        messages=[
            {
                "role": "assistant",
                "parts": [
                    {
                        "type": "reasoning",
                        "content": "First, check the parity.",
                        "signature": "sig-xyz",
                        "format": "anthropic-claude-v1",
                    },
                    {"type": "reasoning.encrypted", "format": "openai-responses-v1", "byte_size": 8},
                    {"type": "text", "content": "It is even."},
                ],
                "finish_reason": "stop",
            }
        ],
        usage={
            "gen_ai.usage.input_tokens": 40,
            "gen_ai.usage.output_tokens": 120,
            "spancast.usage.total_tokens": 160,
            "spancast.usage.cost": 0.0021,
            "gen_ai.usage.cache_read.input_tokens": 12,
            "gen_ai.usage.cache_write.input_tokens": 4,
            "gen_ai.usage.audio.input_tokens": 0,
            "spancast.usage.cost_details.upstream_inference_prompt_cost": 0.00084,
            "spancast.usage.cost_details.upstream_inference_completions_cost": 0.00126,
            "gen_ai.usage.reasoning.output_tokens": 90,
            "gen_ai.usage.image.output_tokens": 0,
            "spancast.usage.server_tool_use_details.web_search_requests": 1,
        },
        attributes={
            "spancast.response.created": 1790700000,
            "spancast.response.object": "chat.completion",
            "spancast.response.provider": "Anthropic",
            "openai.response.service_tier": "default",
            "openai.response.system_fingerprint": "fp_44709d6fcb",
            "spancast.usage.is_byok": False,
            "spancast.response.native_finish_reasons": ["end_turn"],
        },
    )


def test_read_response_tool_calls() -> None:
    read = complete("parallel_tool_calls")
    assert read.finish_reasons == ["tool_calls"]
    assert read.messages == [
        {
            "role": "assistant",
            "parts": [
                {"type": "tool_call", "id": "call_1", "name": "get_weather", "arguments": {"location": "Boston"}},
                {"type": "tool_call", "id": "call_2", "name": "get_time", "arguments": {"tz": "UTC"}},
            ],
            "finish_reason": "tool_call",
        }
    ]


def test_read_response_refusal_images_annotations() -> None:
    assert complete("refusal").messages[0]["parts"] == [
        {"type": "refusal", "content": "I cannot help with that request."}
    ]
    assert {part["type"] for part in complete("images").messages[0]["parts"]} == {"text", "uri"}
    assert "base64" not in json.dumps(complete("images").messages)
    assert complete("annotations").messages[0]["annotations"][0]["type"] == "url_citation"


def test_read_response_choices_have_own_reasons() -> None:
    read = complete("two_choices")
    assert read.finish_reasons == ["stop", "length"]
    assert [message["finish_reason"] for message in read.messages] == ["stop", "length"]


@pytest.mark.parametrize(
    ("name", "reasons", "failure"),
    [
        ("error_body_http200", [], True),
        ("error_in_choice_http200", ["error"], True),
        ("error_midstream.stream", ["error"], True),
        ("error_string_code.stream", ["error"], True),
        ("truncated_disconnect.stream", [], False),
        ("length.stream", ["length"], False),
    ],
)
def test_finish_reasons_and_failure(name: str, reasons: list[str], failure: bool) -> None:
    read = answer(name)
    assert read.finish_reasons == reasons
    assert (read.failure is not None) == failure


def test_failure_type_is_a_code() -> None:
    error = {"error": {"code": 429, "message": "slow down", "metadata": {"error_type": "rate_limit_exceeded"}}}
    assert OPENAI_CHAT.read_response(error, content=True).failure == Failure(
        type="rate_limit_exceeded", message="slow down"
    )


def test_audio_part_has_type_size_digest_transcript() -> None:
    parts = streamed("audio.stream").messages[0]["parts"]
    sound = next(part for part in parts if part.get("modality") == "audio")
    assert sound["uri"].startswith("sha256:")
    assert sound["transcript"]


def test_unknown_response_fields_are_kept_with_content_only() -> None:
    unknown = {
        "citations": ["https://x.test"], "search_results": [{"title": "Paris", "date": None}], "tier": "gold", "count": 2,
    }  # fmt: skip
    read = OPENAI_CHAT.read_response({"choices": [], "created": 5, **unknown}, content=True)
    assert read == Response(
        attributes={
            "spancast.response.created": 5,
            "spancast.response.count": 2,
            "spancast.response.tier": "gold",
            "spancast.response.citations": ["https://x.test"],
            "spancast.response.search_results": '[{"title":"Paris"}]',
        }
    )
    assert without_content(read.attributes) == {
        "spancast.response.created": 5,
        "spancast.redacted": ["spancast.response.*"],
    }


def test_read_response_other_object_records_no_nested_fields() -> None:
    class Page:
        def __init__(self) -> None:
            self.headers = {"set-cookie": "s=1"}
            self.cookies = {"s": "1"}

    assert OPENAI_CHAT.read_response(Page(), content=True) == Response()


@pytest.mark.parametrize("nothing", [None, 7, [], {}, b"<html>", object()])
def test_read_response_without_fields_is_empty(nothing: object) -> None:
    assert OPENAI_CHAT.read_response(nothing, content=True) == Response()


def test_read_response_string_is_assistant_text() -> None:
    completion = [{"role": "assistant", "parts": [{"type": "text", "content": "hello"}]}]
    assert OPENAI_CHAT.read_response("hello", content=True).messages == completion
    stream = OPENAI_CHAT.new_stream(content=True)
    stream.feed("hel")
    stream.feed("lo")
    assert stream.result().messages == completion


# --- requests ---------------------------------------------------------------------------------------


def test_request_every_parameter() -> None:
    assert request_of("every_parameter").attributes == {
        "gen_ai.request.temperature": 1.0,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.top_k": 40,
        "gen_ai.request.seed": 7,
        "gen_ai.request.stop_sequences": ["END", "STOP"],
        "gen_ai.request.max_tokens": 100,
        "gen_ai.request.frequency_penalty": 0.1,
        "gen_ai.request.presence_penalty": -0.2,
        "gen_ai.request.choice.count": 3,
        "gen_ai.request.stream": True,
        "gen_ai.request.reasoning.level": "high",
        "gen_ai.output.type": "speech",
        "openai.request.service_tier": "flex",
        "openai.api.type": "chat_completions",
        "spancast.request.stream_options": '{"include_usage":true}',
        "spancast.request.logit_bias": '{"50256":-100}',
        "spancast.request.logprobs": True,
        "spancast.request.top_logprobs": 3,
        "spancast.request.modalities": ["text", "audio"],
        "spancast.request.models": ["openai/gpt-5.2", "anthropic/claude-sonnet-4.6"],
        "spancast.request.parallel_tool_calls": False,
        "spancast.request.plugins": '[{"id":"web","max_results":3}]',
        "spancast.request.provider": '{"order":["openai"],"allow_fallbacks":false}',
        "spancast.request.reasoning": '{"effort":"high","exclude":true}',
        "spancast.request.response_format": '{"type":"json_object"}',
        "spancast.request.route": "fallback",
        "spancast.request.tool_choice": '{"type":"function","function":{"name":"f"}}',
        "spancast.request.min_p": 0.1,
        "spancast.request.top_a": 0.2,
        "spancast.request.repetition_penalty": 1.1,
        "spancast.request.prompt_cache_key": "k",
        "spancast.request.verbosity": "low",
        "spancast.request.cache_control": '{"type":"ephemeral"}',
        "spancast.request.prediction": '{"type":"content","content":"secret"}',
        "spancast.request.image_config": '{"aspect_ratio":"1:1"}',
    }


# Read as messages, tools and trace keys, or by the tracer.
READ_ELSEWHERE = {"messages", "tools", "model", "metadata", "session_id", "trace", "user"}


@pytest.mark.parametrize("parameter", json.loads((RECORDINGS / "schemas" / "chat_request_parameters.json").read_text()))
def test_request_each_documented_parameter_is_recorded(parameter: str) -> None:
    if parameter in READ_ELSEWHERE:
        return
    values: dict[str, Any] = {"stream": True, "stop": "END", "service_tier": "flex", "reasoning_effort": "low"}
    body = {parameter: values.get(parameter, 0.5)}
    before = OPENAI_CHAT.read_request({}, content=True).attributes
    assert OPENAI_CHAT.read_request(body, content=True).attributes != before


@pytest.mark.parametrize(
    ("body", "attributes"),
    [
        ({"temperature": "hot"}, {"spancast.request.temperature": "hot"}),
        ({"max_tokens": 2.5}, {"spancast.request.max_tokens": "2.5"}),
        ({"n": 1}, {}),
        ({"stream": False}, {}),
        ({"service_tier": "auto"}, {}),
        ({"seed": None, "stop": openai.NOT_GIVEN, "user": openai.omit}, {}),
        ({"seed": 2**70}, {"spancast.request.seed": str(2**70)}),
        ({"max_completion_tokens": 5}, {"gen_ai.request.max_tokens": 5}),
        ({"stop": "END"}, {"gen_ai.request.stop_sequences": ["END"]}),
        ({"api_key": "sk-1", "extra_headers": {"authorization": "Bearer x"}}, {"spancast.request.extra_headers": "{}"}),
    ],
)
def test_request_unusual_parameters(body: dict[str, Any], attributes: dict[str, Any]) -> None:
    read = OPENAI_CHAT.read_request(body, content=True).attributes
    assert read == {"openai.api.type": "chat_completions", **attributes}


class Answer(pydantic.BaseModel):
    city: str


def test_request_response_format_class() -> None:
    assert OPENAI_CHAT.read_request({"response_format": Answer}, content=True).attributes == {
        "openai.api.type": "chat_completions",
        "gen_ai.output.type": "json",
        "spancast.request.response_format": '{"type":"json_schema","json_schema":{"name":"Answer"}}',
    }


@pytest.mark.parametrize("names", [("max_tokens", "max_completion_tokens"), ("max_completion_tokens", "max_tokens")])
def test_request_max_completion_tokens_overrides_max_tokens(names: tuple[str, str]) -> None:
    body = {name: 5 if name == "max_completion_tokens" else 9 for name in names}
    assert OPENAI_CHAT.read_request(body, content=True).attributes == {
        "openai.api.type": "chat_completions",
        "gen_ai.request.max_tokens": 5,
    }


def test_request_legacy_names() -> None:
    function = {"name": "f", "description": "d", "parameters": {"type": "object"}}
    body = {"prompt": "Say it.", "suffix": "Said.", "functions": [function], "function_call": "auto", "echo": False}
    recorded = {
        "openai.api.type": "chat_completions",
        "spancast.request.suffix": "Said.",
        "spancast.request.function_call": "auto",
        "spancast.request.echo": False,
    }
    assert OPENAI_CHAT.read_request(body, content=True) == Request(
        model=None,
        messages=[{"role": "user", "parts": [{"type": "text", "content": "Say it."}]}],
        tools=[{"type": "function", **function}],
        attributes=recorded,
    )
    assert OPENAI_CHAT.read_request(body, content=False) == Request(model=None, attributes=recorded)


def test_request_openrouter_sdk_objects_as_messages() -> None:
    completion = components.ChatResult.model_validate(CASES["openrouter"]["response"])
    message = completion.choices[0].message
    request_of = components.ChatAssistantMessage(role="assistant", content="hi")
    read = OPENAI_CHAT.read_request({"messages": [message, request_of], "stop": UNSET, "n": UNSET}, content=True)
    parts = [
        part if part["type"] != "reasoning.encrypted" else {**part, "format": "openai-responses-v1"}
        for part in read.messages[0]["parts"]
    ]
    assert (parts, read.messages[1], read.attributes) == (
        complete("openrouter").messages[0]["parts"],
        {"role": "assistant", "parts": [{"type": "text", "content": "hi"}]},
        {"openai.api.type": "chat_completions"},
    )


def test_request_conversation_messages() -> None:
    assert request_of("history").messages == [
        {"role": "user", "parts": [{"type": "text", "content": "Weather in Boston?"}]},
        {
            "role": "assistant",
            "parts": [
                {"type": "tool_call", "id": "call_1", "name": "get_weather", "arguments": {"location": "Boston"}}
            ],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "call_1", "response": '{"celsius":7}'}]},
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "The tool says 7."},
                {"type": "text", "content": "Seven degrees."},
            ],
            "name": "helper",
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "old_way", "response": "ok"}]},
        {"role": "developer", "parts": [{"type": "text", "content": "Be kind."}]},
    ]


def test_request_media_by_reference() -> None:
    parts = request_of("media").messages[0]["parts"]
    size = parts[1]["byte_size"]
    assert parts[1:] == [
        {"type": "uri", "modality": "image", "uri": parts[1]["uri"], "byte_size": size, "mime_type": "image/png",
         "detail": "low"},
        {"type": "uri", "modality": "image", "uri": "https://example.com/cat.png"},
        {"type": "uri", "modality": "audio", "uri": parts[1]["uri"], "byte_size": size, "mime_type": "audio/wav"},
        {
            "type": "uri", "modality": "document", "uri": parts[1]["uri"], "byte_size": size,
            "mime_type": "application/pdf", "name": "invoice.pdf",
        },
        {"type": "file", "modality": "document", "file_id": "file-abc"},
        {"type": "uri", "modality": "video", "uri": "https://example.com/cat.mp4"},
        {"type": "brand_new", "value": 7},
    ]  # fmt: skip
    assert parts[1]["uri"].startswith("sha256:")


def test_request_sdk_objects_as_messages() -> None:
    completion = construct_type(type_=ChatCompletion, value=CASES["parallel_tool_calls"]["response"])
    read = OPENAI_CHAT.read_request({"messages": [completion.choices[0].message]}, content=True)  # pyright: ignore[reportAttributeAccessIssue]
    assert [part["name"] for part in read.messages[0]["parts"]] == ["get_weather", "get_time"]


def test_request_iterator_of_messages_is_not_consumed() -> None:
    messages = iter([{"role": "user", "content": "hi"}])
    assert OPENAI_CHAT.read_request({"messages": messages}, content=True).messages == []
    assert next(messages)["content"] == "hi"


def test_request_tools_become_definitions() -> None:
    assert request_of("parallel_tool_calls").tools == [
        {
            "type": "function",
            "name": "get_weather",
            "description": "Weather of a place.",
            "parameters": {"type": "object", "properties": {"location": {"type": "string"}}},
            "strict": True,
        },
        {"type": "openrouter:web_search", "name": "openrouter:web_search", "parameters": {"max_results": 3}},
    ]


def test_ask_for_usage_only_if_unset() -> None:
    assert OPENAI_CHAT.ask_for_usage({"stream": True}) == {"stream_options": {"include_usage": True}}
    more = {"stream": True, "stream_options": {"x": 1}}
    assert OPENAI_CHAT.ask_for_usage(more) == {"stream_options": {"x": 1, "include_usage": True}}
    assert OPENAI_CHAT.ask_for_usage({"stream": True, "stream_options": {"include_usage": False}}) is None
    assert OPENAI_CHAT.ask_for_usage({}) is None


# --- streams ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [True, False])
@pytest.mark.parametrize("name", PAIRS)
def test_stream_equals_response(name: str, content: bool) -> None:
    assert comparable(streamed(f"{name}.stream", content=content)) == comparable(complete(name, content=content))


def test_stream_usage_on_last_chunk_with_choice() -> None:
    assert streamed("text_usage_with_choice.stream").usage == streamed("streamed_text.stream").usage


def test_stream_cumulative_usage_is_not_summed() -> None:
    chunks = [{"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": n}} for n in (1, 2, 3)]
    assert read_stream(OPENAI_CHAT, chunks).usage == {"gen_ai.usage.input_tokens": 5, "gen_ai.usage.output_tokens": 3}


def chunk(delta: Any, index: int = 0, **more: Any) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": index, "delta": delta, "finish_reason": None}], **more}


def fragment(index: int, text: str, **more: Any) -> dict[str, Any]:
    return {"index": index, "function": {"arguments": text}, **more}


def test_stream_interleaved_choices_and_calls() -> None:
    chunks = [
        chunk({"tool_calls": [{**fragment(1, ""), "id": "b", "function": {"name": "g", "arguments": '{"y"'}}]}, 1),
        chunk({"role": "assistant", "content": "a"}),
        chunk({"tool_calls": [{**fragment(0, ""), "id": "a", "function": {"name": "f", "arguments": "{"}}]}, 1),
        chunk({"tool_calls": [fragment(1, ":2}"), fragment(0, '"x":1}')]}, 1),
        chunk({"role": "assistant", "content": "b"}),
    ]
    read = read_stream(OPENAI_CHAT, chunks)
    assert read.messages == [
        {"role": "assistant", "parts": [{"type": "text", "content": "ab"}]},
        {
            "role": "assistant",
            "parts": [
                {"type": "tool_call", "id": "a", "name": "f", "arguments": {"x": 1}},
                {"type": "tool_call", "id": "b", "name": "g", "arguments": {"y": 2}},
            ],
        },
    ]
    assert read.finish_reasons == []


def test_stream_complete_response_as_one_chunk() -> None:
    response = CASES["parallel_tool_calls"]["response"]
    assert comparable(read_stream(OPENAI_CHAT, [response])) == comparable(complete("parallel_tool_calls"))


def test_stream_unset_fields_keep_values() -> None:
    chunks = [components.ChatStreamChunk.model_validate(each) for each in CASES["streamed_reasoning.stream"]["stream"]]
    assert read_stream(OPENAI_CHAT, chunks).messages == streamed("streamed_reasoning.stream").messages


@pytest.mark.parametrize("content", [True, False])
@pytest.mark.parametrize("name", STREAMS)
def test_stream_fast_path_equals_slow_path(name: str, content: bool) -> None:
    # A mapping that is not a dict never takes the fast path.
    slow = [MappingProxyType(each) for each in CASES[name]["stream"]]
    assert read_stream(OPENAI_CHAT, slow, content=content) == streamed(name, content=content)


@pytest.mark.parametrize(
    "more",
    [
        {"usage": {"prompt_tokens": 1}},
        {"error": {"code": 502, "message": "gone"}},
        {"openrouter_metadata": {"attempt": 2}},
        {"choices": [{"index": 0, "delta": {"content": "b"}, "finish_reason": "stop"}]},
        {"choices": [{"index": 0, "delta": {"content": "b"}, "native_finish_reason": "end_turn"}]},
        {"choices": [{"index": 0, "delta": {"content": "b"}, "error": {"code": 502}}]},
        {"choices": [{"index": 0, "delta": {"content": "b"}, "logprobs": {"content": [{"token": "b"}]}}]},
        {"choices": [{"index": 0, "delta": {"content": "b", "reasoning": "r"}}]},
        {"choices": [{"index": 0, "delta": {"content": "b", "refusal": "r"}}]},
        {"choices": [{"index": 1, "delta": {"content": "b"}}]},
    ],
)
@pytest.mark.parametrize("of_sdk", [True, False])
def test_stream_fields_beside_text_are_not_skipped(more: dict[str, Any], of_sdk: bool) -> None:
    plain = [chunk({"role": "assistant", "content": "a"}), {**chunk({"content": "b"}), **more}, chunk({"content": "c"})]
    converted: list[Any] = (
        [construct_type(type_=ChatCompletionChunk, value=each) for each in plain] if of_sdk else plain
    )
    read = comparable(read_stream(OPENAI_CHAT, converted))
    assert read == comparable(read_stream(OPENAI_CHAT, [MappingProxyType(each) for each in plain]))
    assert read != comparable(read_stream(OPENAI_CHAT, [plain[0], chunk({"content": "b"}), plain[2]]))


def test_is_usage_only() -> None:
    stream = OPENAI_CHAT.new_stream(content=True)
    asked_of = [{"choices": [], "usage": {}}, {"choices": []}, chunk({}, usage={}), {}, None, "text"]
    assert [stream.is_usage_only(each) for each in asked_of] == [True, False, False, False, False, False]


def test_stream_interrupted_keeps_received_part() -> None:
    read = streamed("truncated_disconnect.stream")
    assert read.messages[0]["parts"][0]["content"]
    assert read.usage == {}


def _delta_text(chunk: dict[str, Any]) -> tuple[dict[str, Any], str] | None:
    choices = chunk.get("choices") or []
    delta = choices[0].get("delta", {}) if len(choices) == 1 else {}
    if choices and (choices[0].get("logprobs") or choices[0].get("finish_reason")):
        return None
    for field in ("content", "reasoning_content"):
        if set(delta) == {field} and isinstance(delta[field], str):
            return delta, field
    calls = delta.get("tool_calls") or []
    if set(delta) == {"tool_calls"} and len(calls) == 1 and set(calls[0]) == {"index", "function"}:
        return calls[0]["function"], "arguments"
    return None


@settings(max_examples=15)
@given(data=st.data())
@pytest.mark.parametrize("name", PAIRS)
def test_stream_any_split_gives_same_response(name: str, data: st.DataObject) -> None:
    chunks = resplit(CASES[f"{name}.stream"]["stream"], _delta_text, data.draw)
    assert comparable(read_stream(OPENAI_CHAT, chunks)) == comparable(complete(name))


# --- SDK objects, schemas, privacy, anything ----------------------------------------------------------


@pytest.mark.parametrize("name", WHOLES)
def test_read_response_sdk_object_equals_dict(name: str) -> None:
    converted = construct_type(type_=ChatCompletion, value=copy.deepcopy(CASES[name]["response"]))
    assert comparable(OPENAI_CHAT.read_response(converted, content=True)) == comparable(complete(name))


@pytest.mark.parametrize("name", STREAMS)
def test_stream_sdk_chunks_equal_dicts(name: str) -> None:
    converted = [construct_type(type_=ChatCompletionChunk, value=copy.deepcopy(c)) for c in CASES[name]["stream"]]
    assert comparable(read_stream(OPENAI_CHAT, converted)) == comparable(streamed(name))


@pytest.mark.parametrize("name", sorted(CASES))
def test_messages_match_schema(name: str) -> None:
    check_response(answer(name))
    check_request(request_of(name))


@pytest.mark.parametrize("name", sorted(CASES))
def test_without_content_no_text_is_recorded(name: str) -> None:
    texts = texts_of(answer(name).messages) | texts_of(request_of(name).messages)
    without_content_response = answer(name, content=False).attributes, request_of(name, content=False).attributes
    kept = json.dumps([without_content(attributes) for attributes in without_content_response])
    assert not [text for text in texts if json.dumps(text)[1:-1] in kept]
    assert answer(name, content=False).messages == request_of(name, content=False).messages == []
    assert request_of(name, content=False).tools == []


@pytest.mark.parametrize("name", sorted(CASES))
def test_readers_do_not_modify_input(name: str) -> None:
    before = json.dumps(CASES[name])
    answer(name)
    request_of(name)
    assert json.dumps(CASES[name]) == before


@settings(max_examples=150)
@given(value=json_values, chunks=st.lists(json_values, max_size=5), content=st.booleans())
def test_readers_random_json_never_raises(value: Any, chunks: list[Any], content: bool) -> None:
    OPENAI_CHAT.read_response(value, content=content)
    read_stream(OPENAI_CHAT, chunks, content=content)
    OPENAI_CHAT.read_request(value if isinstance(value, dict) else {"messages": value}, content=content)


@settings(max_examples=15)
@given(data=st.data())
@pytest.mark.parametrize("name", sorted(CASES))
def test_readers_malformed_recording_never_raises(name: str, data: st.DataObject) -> None:
    case = CASES[name]
    body = mutate(case["request"], data.draw)
    check_request(OPENAI_CHAT.read_request(body if isinstance(body, dict) else {}, content=True))
    if "response" in case:
        check_response(OPENAI_CHAT.read_response(mutate(case["response"], data.draw), content=True))
    else:
        chunks = mutate(case["stream"], data.draw)
        check_response(read_stream(OPENAI_CHAT, chunks if isinstance(chunks, list) else [chunks]))


def test_content_part_with_field_named_kind() -> None:
    part = {"type": "brand_new", "kind": "x"}
    assert OPENAI_CHAT.read_request({"messages": [{"role": "user", "content": [part]}]}, content=True).messages == [
        {"role": "user", "parts": [part]}
    ]


def answers_of(*chunks: dict[str, Any]) -> list[Response]:
    """Read one stream in each way: as JSON text, as JSON, and as the SDK's objects."""
    as_text = OPENAI_CHAT.new_stream(content=True)
    for one in chunks:
        as_text.feed_text(json.dumps(one))
    objects = [construct_type(type_=ChatCompletionChunk, value=one) for one in chunks]
    return [as_text.result(), read_stream(OPENAI_CHAT, list(chunks)), comparable(read_stream(OPENAI_CHAT, objects))]


def body(message: dict[str, Any], **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", **message}}
    return {"id": "c", "object": "chat.completion", "model": "m", "choices": [choice], **fields}


def delta(fields: dict[str, Any], reason: str | None = None, **top: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": fields, "finish_reason": reason}
    return {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [choice], **top}


USAGE = {"prompt_tokens": 12, "completion_tokens": 26, "total_tokens": 38}


@pytest.mark.parametrize(
    "last",
    [
        delta({}, "stop", x_groq={"id": "req", "usage": USAGE}),
        {**delta({}), "choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": USAGE}]},
        delta({}, "stop", usage=USAGE),
    ],
    ids=["groq", "moonshot", "openai"],
)
def test_stream_usage_outside_of_usage_is_read(last: dict[str, Any]) -> None:
    for read in answers_of(delta({"content": ""}, x_groq={"id": "req"}), delta({"content": "Hello"}), last):
        assert read.usage == {
            "gen_ai.usage.input_tokens": 12, "gen_ai.usage.output_tokens": 26, "spancast.usage.total_tokens": 38,
        }  # fmt: skip
        assert read.finish_reasons == ["stop"]
        assert read.messages[0]["parts"] == [{"type": "text", "content": "Hello"}]


def test_stream_error_in_x_groq_is_a_failure() -> None:
    for read in answers_of(delta({"content": "Hel"}), delta({}, x_groq={"error": {"code": "over_capacity"}})):
        assert read.failure == Failure(type="over_capacity")


def test_stream_late_fields_equal_those_of_a_whole_answer() -> None:
    late = {
        "citations": ["https://example.com/a"],
        "search_results": [{"title": "A", "url": "https://example.com/a"}],
        "time_info": {"total_time": 0.5},
        "moderation": {"flagged": False},
    }
    whole = comparable(OPENAI_CHAT.read_response(body({"content": "Hello there"}, **late), content=True))
    # One comes with a text, and one between texts.
    chunks = [
        delta({"content": "Hello"}, citations=late["citations"]),
        delta({"content": " the"}),
        delta({"content": "re"}, "stop", **late),
    ]
    for read in answers_of(*chunks):
        assert comparable(read) == whole


def test_stream_lists_of_parts_keep_their_order_and_text() -> None:
    def thinking(text: str) -> dict[str, Any]:
        return delta({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": text}]}]})

    chunks = [
        delta({"content": ""}), thinking("Let me "), thinking("think."),
        delta({"content": [{"type": "text", "text": "It is "}]}), delta({"content": "fo"}), delta({"content": "ur."}),
        delta({"content": [{"type": "reference", "reference_ids": [3]}]}), delta({"content": " So"}), delta({"content": "!"}, "stop"),
    ]  # fmt: skip
    expected = [
        {"type": "reasoning", "content": "Let me think."},
        {"type": "text", "content": "It is four."},
        {"type": "reference", "reference_ids": [3]},
        {"type": "text", "content": " So!"},
    ]
    for read in answers_of(*chunks):
        assert read.messages[0]["parts"] == expected
    content = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Let me think."}]},
        {"type": "text", "text": "It is four."}, {"type": "reference", "reference_ids": [3]}, {"type": "text", "text": " So!"},
    ]  # fmt: skip
    assert OPENAI_CHAT.read_response(body({"content": content}), content=True).messages[0]["parts"] == expected


def call_fragment(name: str | None, arguments: Any, index: Any = None, call_id: str | None = None) -> dict[str, Any]:
    function = {"arguments": arguments} if name is None else {"name": name, "arguments": arguments}
    found: dict[str, Any] = {"function": function}
    if index is not None:
        found["index"] = index
    if call_id is not None:
        found["id"] = call_id
    return found


@pytest.mark.parametrize(
    "deltas",
    [
        [[call_fragment("f", '{"x":1}', 0, "a")], [call_fragment("g", '{"y":2}', 0, "b")]],
        [[call_fragment("f", '{"x"', 0, "a")], [call_fragment(None, ":", 0)], [call_fragment(None, "1}", 0)],
         [call_fragment("g", "{", 0, "b")], [call_fragment(None, '"y"', 0)], [call_fragment(None, ":2}", 0)]],
        [[call_fragment("f", {"x": 1}, 0, "a"), call_fragment("g", {"y": 2}, 1, "b")]],
        [[call_fragment("f", '{"x":1}', 0.0, "a"), call_fragment("g", '{"y":2}', 1.0, "b")]],
        [[call_fragment("f", '{"x":', None, "a")], [call_fragment(None, "1}")], [call_fragment("g", '{"y":2}', None, "b")]],
        [[call_fragment("f", '{"x":1}'), call_fragment("g", '{"y":2}')]],
        [[call_fragment("f", {"x": 1}, 0)], [call_fragment("g", {"y": 2}, 0)]],
        [[call_fragment("f", '{"x":', 0, "a")], [call_fragment("f", "1}", 0, "a"), call_fragment("g", '{"y":2}', 1, "b")]],
    ],
    ids=["shared index", "shared index in pieces", "objects", "float index", "no index", "no id and index", "no id", "repeated name"],
)  # fmt: skip
def test_stream_parallel_tool_calls_stay_apart(deltas: list[Any]) -> None:
    for read in answers_of(*(delta({"tool_calls": calls}) for calls in deltas), delta({}, "tool_calls")):
        assert [(part["name"], part["arguments"]) for part in read.messages[0]["parts"]] == [
            ("f", {"x": 1}),
            ("g", {"y": 2}),
        ]


def test_stream_two_calls_of_the_same_function_without_ids_stay_apart() -> None:
    calls = [delta({"tool_calls": [call_fragment("f", f'{{"x":{value}}}', 0)]}) for value in (1, 2)]
    for read in answers_of(*calls):
        assert [part["arguments"] for part in read.messages[0]["parts"]] == [{"x": 1}, {"x": 2}]


UNKNOWN = {
    "executed_tools": [{"index": 0, "type": "search", "output": "17 degrees"}],
    "context": {"citations": [{"title": "Doc A"}], "intent": "weather"},
    "channel": "final",
}


def test_unknown_fields_of_message_and_choice_are_kept_whole_and_streamed() -> None:
    of_choice = {"content_filter_results": {"hate": {"filtered": False}}, "stop_reason": 128001}
    whole = body({"content": "17", **UNKNOWN})
    whole["choices"][0].update(of_choice)
    expected = {
        "role": "assistant",
        "parts": [{"type": "text", "content": "17"}],
        "finish_reason": "stop",
        **UNKNOWN,
        **of_choice,
    }
    assert OPENAI_CHAT.read_response(whole, content=True).messages == [expected]
    last = delta({"content": "7"}, "stop")
    last["choices"][0].update(of_choice)
    for read in answers_of(delta({"content": "1", **UNKNOWN}), delta({"channel": "final"}), last):
        assert read.messages == [expected]


def test_unknown_fields_of_request_messages_and_parts_are_kept() -> None:
    messages = [
        {"role": "assistant", "content": "17", **UNKNOWN},
        {"role": "user", "content": [
            {"type": "text", "text": "see", "cache_control": {"type": "ephemeral"}},
            {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "high"}}]},
        {"role": "tool", "tool_call_id": "t", "content": "ok", "status": "done", "api_key": "secret"},
    ]  # fmt: skip
    read = OPENAI_CHAT.read_request({"messages": messages}, content=True).messages
    assert read == [
        {"role": "assistant", "parts": [{"type": "text", "content": "17"}], **UNKNOWN},
        {"role": "user", "parts": [
            {"type": "text", "content": "see", "cache_control": {"type": "ephemeral"}},
            {"type": "uri", "modality": "image", "uri": "https://example.com/a.png", "detail": "high"}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "t", "response": "ok"}], "status": "done"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("usage", "read", "written", "reasoning"),
    [
        ({"num_cached_tokens": 32}, 32, None, None),
        ({"cached_tokens": 32}, 32, None, None),
        ({"prompt_cache_hit_tokens": 32, "prompt_cache_miss_tokens": 32}, 32, None, None),
        ({"cache_read_input_tokens": 32, "cache_creation_input_tokens": 16}, 32, 16, None),
        ({"cacheReadInputTokens": 32, "cacheWriteInputTokens": 16}, 32, 16, None),
        ({"prompt_tokens_details": {"cached_tokens": 32, "cache_creation_tokens": 16}}, 32, 16, None),
        ({"prompt_token_details": {"cached_tokens": 32}}, 32, None, None),
        ({"reasoning_tokens": 5}, None, None, 5),
        ({"cached_tokens": 0, "prompt_tokens_details": {"cached_tokens": 32}, "cached_input": 1}, 32, None, None),
        ({"prompt_tokens": None, "completion_tokens": None, "input_tokens": 64, "output_tokens": 6}, None, None, None),
    ],
)
def test_usage_names_of_other_servers(
    usage: dict[str, Any], read: int | None, written: int | None, reasoning: int | None
) -> None:
    given = {"prompt_tokens": 64, "completion_tokens": 6, "total_tokens": 70, **usage}
    counts = OPENAI_CHAT.read_response(body({"content": "x"}, usage=given), content=True).usage
    names = (
        "input_tokens",
        "output_tokens",
        "cache_read.input_tokens",
        "cache_write.input_tokens",
        "reasoning.output_tokens",
    )
    assert [counts.get(f"gen_ai.usage.{name}") for name in names] == [64, 6, read, written, reasoning]


def test_usage_whose_output_excludes_reasoning_includes_it_afterwards() -> None:
    given = {
        "prompt_tokens": 10,
        "completion_tokens": 2,
        "total_tokens": 42,
        "completion_tokens_details": {"reasoning_tokens": 30},
    }
    assert (
        OPENAI_CHAT.read_response(body({"content": "x"}, usage=given), content=True).usage["gen_ai.usage.output_tokens"]
        == 32
    )


@pytest.mark.parametrize("reason", ["", None])
def test_finish_reason_missing_in_a_whole_answer_is_no_error_and_empty_fields_are_no_parts(reason: str | None) -> None:
    empty = {
        "tool_calls": None,
        "refusal": "",
        "function_call": {"name": "", "arguments": ""},
        "audio": {"id": "", "data": "", "expires_at": 0},
    }
    given = body({"content": "Paris", **empty}, service_tier="")
    given["choices"][0]["finish_reason"] = reason
    read = OPENAI_CHAT.read_response(given, content=True)
    assert (read.finish_reasons, read.failure) == ([], None)
    assert read.messages == [{"role": "assistant", "parts": [{"type": "text", "content": "Paris"}]}]
    assert "openai.response.service_tier" not in read.attributes


@pytest.mark.parametrize(
    ("given", "reason"),
    [("eos", "stop"), ("model_length", "length"), ("sensitive", "content_filter"), ("network_error", "error")],
)
def test_finish_reasons_of_other_servers_are_mapped(given: str, reason: str) -> None:
    whole = body({"content": "x"})
    whole["choices"][0]["finish_reason"] = given
    assert OPENAI_CHAT.read_response(whole, content=True).finish_reasons == [reason]


def test_reasoning_that_details_do_not_repeat_is_kept():
    details = [
        {"type": "reasoning.summary", "summary": "It is even."},
        {"type": "reasoning.encrypted", "data": "x", "id": "r-1"},
    ]
    message = {"role": "assistant", "content": "4", "reasoning_details": details}
    parts = OPENAI_CHAT.read_response(
        {"choices": [{"message": {**message, "reasoning": "It is\neven."}}]}, content=True
    ).messages[0]["parts"]
    assert parts == [
        {"type": "reasoning", "content": "It is even."},
        {"type": "reasoning.encrypted", "byte_size": 1, "id": "r-1"},
        {"type": "text", "content": "4"},
    ]
    parts = OPENAI_CHAT.read_response(
        {"choices": [{"message": {**message, "reasoning": "Something else."}}]}, content=True
    ).messages[0]["parts"]
    assert [part["content"] for part in parts[:2]] == ["Something else.", "It is even."]


def test_fields_of_tools_are_kept():
    tool = {"type": "function", "cache_control": {"type": "ephemeral"}, "function": {"name": "f", "examples": [1]}}
    read = OPENAI_CHAT.read_request({"messages": [], "tools": [tool]}, content=True)
    assert read.tools == [{"type": "function", "name": "f", "examples": [1], "cache_control": {"type": "ephemeral"}}]


def test_native_finish_reason_of_another_server_is_kept():
    read = OPENAI_CHAT.read_response({"choices": [{"finish_reason": "eos", "message": {"content": "x"}}]}, content=True)
    assert read.finish_reasons == ["stop"]
    assert read.attributes["spancast.response.native_finish_reasons"] == ["eos"]


# --- values of another type in known fields ----------------------------------------------------------

ODD_MESSAGES: list[tuple[dict[str, Any], list[dict[str, Any]]]] = [
    ({"content": 42}, [{"type": "unknown", "content": 42}]),
    ({"content": {"text": "Hello"}}, [{"type": "unknown", "text": "Hello"}]),
    ({"content": {"type": "text", "text": "Hello"}}, [{"type": "text", "content": "Hello"}]),
    (
        {"content": [["Hello"], "world", 7, {"type": "text", "text": ["a"]}]},
        [
            {"type": "unknown", "content": ["Hello"]},
            {"type": "text", "content": "world"},
            {"type": "unknown", "content": 7},
            {"type": "text", "content": "", "text": ["a"]},
        ],
    ),
    (
        {"tool_calls": {"id": "t1", "function": {"name": "look", "arguments": "{}"}}},
        [{"type": "tool_call", "id": "t1", "name": "look", "arguments": {}}],
    ),
    (
        {"tool_calls": [{"id": "t1", "function": "look"}, "see"]},
        [{"type": "tool_call", "id": "t1", "name": "", "function": "look"}, {"type": "text", "content": "see"}],
    ),
]


def comparable_parts(parts: list[dict[str, Any]]) -> list[str]:
    """Return parts without empty fields, and in any order: a stream has calls after all else."""
    return sorted(json.dumps({n: v for n, v in part.items() if v != ""}, sort_keys=True) for part in parts)


@pytest.mark.parametrize(("given", "parts"), ODD_MESSAGES)
def test_value_of_another_type_in_a_known_field_is_kept(given: dict[str, Any], parts: list[dict[str, Any]]) -> None:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", **given}}
    (message,) = OPENAI_CHAT.read_response({"id": "c1", "choices": [choice]}, content=True).messages
    assert message["parts"] == parts
    chunk = {"id": "c1", "choices": [{"index": 0, "finish_reason": "stop", "delta": choice["message"]}]}
    (message,) = read_stream(OPENAI_CHAT, [chunk], content=True).messages
    assert comparable_parts(message["parts"]) == comparable_parts(parts)


def test_legacy_text_of_another_type_is_kept() -> None:
    (message,) = OPENAI_CHAT.read_response({"choices": [{"text": ["Hello"]}]}, content=True).messages
    assert message["parts"] == [{"type": "text", "content": "Hello"}]
