from __future__ import annotations

import base64
import copy
import dataclasses
import hashlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import NOT_GIVEN
from openai._models import construct_type
from openai.types.responses import Response as SdkResponse
from openai.types.responses import ResponseAudioDeltaEvent, ResponseStreamEvent
from openrouter import components
from pydantic import TypeAdapter
from tests.dialects.streams import (
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

from spancast.dialects.openai_responses.reader import OPENAI_RESPONSES
from spancast.model import json_codec, semconv
from spancast.model.call import Failure, Request, Response
from spancast.model.privacy import without_content

CASES = recordings("openai_responses")
STREAMS = sorted(name for name in CASES if name.endswith(".stream"))
WHOLES = sorted(set(CASES) - set(STREAMS))
PAIRS = sorted(name for name in WHOLES if f"{name}.stream" in CASES)
CUT = ("cut.stream", "cut_in_call.stream", "error_midstream.stream", "error_first.stream", "audio.stream")
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 3).decode()


def complete(name: str, *, content: bool = True) -> Response:
    return OPENAI_RESPONSES.read_response(CASES[name]["response"], content=content)


def streamed(name: str, *, content: bool = True) -> Response:
    return read_stream(OPENAI_RESPONSES, CASES[name]["stream"], content=content)


def without_ids(value: Any) -> Any:
    """Return messages or parts without the ids of their items, for tests of other fields."""
    if isinstance(value, Response):
        return dataclasses.replace(value, messages=without_ids(value.messages))
    if isinstance(value, dict):
        return {key: without_ids(item) for key, item in value.items() if key != "item_id"}
    return [without_ids(item) for item in value] if isinstance(value, list) else value


def answer(name: str) -> Response:
    return streamed(name) if name in STREAMS else complete(name)


def request_of(name: str, *, content: bool = True) -> Request:
    return OPENAI_RESPONSES.read_request(CASES[name]["request"], content=content)


def picture(data: str = PNG) -> dict[str, Any]:
    raw = base64.b64decode(data)
    return {
        "type": "uri",
        "modality": "image",
        "uri": f"sha256:{hashlib.sha256(raw).hexdigest()}",
        "byte_size": len(raw),
        "mime_type": "image/png",
    }


# --- complete responses ------------------------------------------------------------------------------


def test_read_response_text():
    assert without_ids(complete("text")) == Response(
        id="resp_0a1b2c3d4e5f60718293a4b5c6d7e8f9",
        model="gpt-5.2-2025-12-11",
        finish_reasons=["stop"],
        messages=[
            {
                "role": "assistant",
                "parts": [{"type": "text", "content": "Four plus five is **nine**."}],
                "finish_reason": "stop",
            }
        ],
        usage={
            "gen_ai.usage.input_tokens": 2006,
            "gen_ai.usage.output_tokens": 9,
            "gen_ai.usage.cache_read.input_tokens": 1920,
            "gen_ai.usage.cache_write.input_tokens": 0,
            "gen_ai.usage.reasoning.output_tokens": 0,
            "spancast.usage.total_tokens": 2015,
        },
        attributes={
            "openai.response.service_tier": "default",
            "spancast.response.object": "response",
            "spancast.response.created": 1790700000,
            "spancast.response.completed_at": 1790700003,
            "spancast.response.status": "completed",
        },
    )


def test_calls_of_caller_give_reason_tool_calls():
    response = without_ids(complete("tool_calls"))
    assert (response.finish_reasons, response.messages) == (
        ["tool_calls"],
        [
            {
                "role": "assistant",
                "parts": [
                    {"type": "tool_call", "id": "call_aaa", "name": "get_weather", "arguments": {"city": "Paris"}},
                    {"type": "tool_call", "id": "call_bbb", "name": "get_weather", "arguments": {"city": "Zürich"}},
                ],
                "finish_reason": "tool_call",
            }
        ],
    )


def test_reasoning_summary_and_text_are_reasoning_parts():
    summary, text = map(without_ids, (complete("reasoning"), complete("reasoning_text")))
    assert summary.messages[0]["parts"] == [
        {"type": "reasoning", "content": "**Counting primes**\n\n2, 3, 5, 7, 11, 13, 17, 19."},
        {"type": "reasoning", "content": "That makes eight."},
        {"type": "text", "content": "There are eight primes below 20.", "phase": "final_answer"},
    ]
    assert summary.usage[semconv.USAGE_REASONING] == 384
    assert text.messages[0]["parts"] == [
        {"type": "reasoning", "content": "Trivial: four."},
        {"type": "text", "content": "4"},
    ]


def test_encrypted_reasoning_is_empty_part():
    read = OPENAI_RESPONSES.read_response(
        {"output": [{"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "gAAAA"}]}, content=True
    )
    assert read.messages == [
        {"role": "assistant", "parts": [{"type": "reasoning", "content": "", "item_id": "rs"}], "finish_reason": "stop"}
    ]


def test_server_tools_have_call_and_result():
    parts = without_ids(complete("server_tools").messages[0]["parts"])
    assert parts == [
        {
            "type": "server_tool_call",
            "id": "fs_1",
            "name": "file_search",
            "server_tool_call": {"type": "file_search", "status": "completed", "queries": ["mean"]},
        },
        {
            "type": "server_tool_call_response",
            "id": "fs_1",
            "server_tool_call_response": {
                "type": "file_search",
                "results": [
                    {"file_id": "file-1", "filename": "a.csv", "score": 0.9, "text": "1,2,3", "attributes": {}}
                ],
            },
        },
        {
            "type": "server_tool_call",
            "id": "ci_1",
            "name": "code_interpreter",
            "server_tool_call": {
                "type": "code_interpreter",
                "status": "completed",
                "container_id": "cntr_1",
                "code": "print(sum([1, 2, 3]) / 3)",
            },
        },
        {
            "type": "server_tool_call_response",
            "id": "ci_1",
            "server_tool_call_response": {
                "type": "code_interpreter",
                "outputs": [{"type": "logs", "logs": "2.0\n"}, {"type": "image", "url": picture()}],
            },
        },
        {
            "type": "server_tool_call",
            "id": "mcp_1",
            "name": "ask",
            "server_tool_call": {
                "type": "mcp",
                "status": "completed",
                "server_label": "deepwiki",
                "name": "ask",
                "arguments": '{"q":"mean"}',
            },
        },
        {
            "type": "server_tool_call_response",
            "id": "mcp_1",
            "server_tool_call_response": {"type": "mcp", "output": "arithmetic mean"},
        },
        {
            "type": "server_tool_call",
            "id": "ig_1",
            "name": "image_generation",
            "server_tool_call": {
                "type": "image_generation",
                "status": "completed",
                "output_format": "png",
                "size": "1024x1024",
                "revised_prompt": "a bar chart",
            },
        },
        {
            "type": "server_tool_call_response",
            "id": "ig_1",
            "server_tool_call_response": {"type": "image_generation", "result": picture()},
        },
        {"type": "text", "content": "The mean is 2."},
    ]


def test_tools_of_caller_are_tool_calls():
    response = without_ids(complete("client_tools"))
    assert response.finish_reasons == ["tool_calls"]
    assert response.messages[0]["parts"] == [
        {"type": "tool_call", "id": "call_c", "name": "sql", "arguments": "select 1;"},
        {
            "type": "tool_call",
            "id": "call_l",
            "name": "local_shell",
            "arguments": {"type": "exec", "command": ["ls", "-l"], "env": {}},
        },
        {
            "type": "tool_call",
            "id": "call_u",
            "name": "computer",
            "arguments": {"type": "click", "button": "left", "x": 3, "y": 4},
        },
        {
            "type": "tool_call",
            "id": "call_p",
            "name": "apply_patch",
            "arguments": {"type": "delete_file", "path": "a.py"},
        },
        {
            "type": "mcp_approval_request",
            "id": "ma_1",
            "name": "ask",
            "server_label": "deepwiki",
            "arguments": "{}",
        },
    ]


def test_call_with_result_gives_reason_stop():
    call = {"type": "shell_call", "call_id": "c", "action": {"commands": ["ls"]}}
    done = {"type": "shell_call_output", "call_id": "c", "output": [{"stdout": "a.py"}]}
    read = OPENAI_RESPONSES.read_response({"status": "completed", "output": [call, done]}, content=True)
    assert read.finish_reasons == ["stop"]
    assert [part["type"] for part in read.messages[0]["parts"]] == ["tool_call", "tool_call_response"]


def test_citations_are_part_of_text():
    assert without_ids(complete("web_search")).messages[0]["parts"][-1] == {
        "type": "text",
        "content": "Version 3 is out.",
        "annotations": [
            {
                "type": "url_citation",
                "start_index": 0,
                "end_index": 12,
                "title": "Release notes",
                "url": "https://example.com/notes",
            }
        ],
    }


def test_openrouter_cost_provider_and_routing():
    response = complete("openrouter")
    assert response.usage == {
        "gen_ai.usage.input_tokens": 420,
        "gen_ai.usage.output_tokens": 33,
        "gen_ai.usage.cache_read.input_tokens": 300,
        "gen_ai.usage.cache_write.input_tokens": 64,
        "gen_ai.usage.reasoning.output_tokens": 0,
        "spancast.usage.total_tokens": 453,
        "spancast.usage.cost": 0.00123,
        "spancast.usage.cost_details.upstream_inference_input_cost": 0.001,
        "spancast.usage.cost_details.upstream_inference_output_cost": 0.00023,
        "spancast.usage.server_tool_use_details.web_search_requests": 1,
        "spancast.usage.server_tool_use_details.tool_calls_requested": 2,
        "spancast.usage.server_tool_use_details.tool_calls_executed": 2,
    }
    assert response.attributes == {
        "openai.response.service_tier": "default",
        "spancast.response.object": "response",
        "spancast.response.created": 1790700000,
        "spancast.response.completed_at": 1790700003,
        "spancast.response.status": "completed",
        "spancast.response.provider": "Anthropic",
        "spancast.response.openrouter_metadata": (
            '{"requested":"anthropic/claude-sonnet-4.5","strategy":"direct","attempt":1,"is_byok":false,'
            '"summary":"available=1, selected=Anthropic","endpoints":{"total":1,"available":'
            '[{"provider":"Anthropic","model":"anthropic/claude-sonnet-4.5","selected":true}]}}'
        ),
        "spancast.usage.is_byok": False,
    }


@pytest.mark.parametrize(
    ("name", "reasons", "native", "failure"),
    [
        ("refusal", ["stop"], None, None),
        ("incomplete_length", ["length"], ["max_output_tokens"], None),
        ("incomplete_filter", ["content_filter"], ["content_filter"], None),
        ("failed", ["error"], None, Failure(type="rate_limit_exceeded", message="Slow down.")),
        ("failed_openrouter", ["error"], None, Failure(type="authentication", message="Invalid credentials")),
        ("error_before", ["error"], None, Failure(type="provider_unavailable", message="Provider returned error")),
        ("cut.stream", ["error"], None, None),
        ("cut_in_call.stream", ["error"], None, None),
        ("error_midstream.stream", ["error"], None, Failure(type="server_error", message="The server had an error.")),
        ("error_first.stream", ["error"], None, Failure(type="context_length_exceeded", message="Too long.")),
    ],
)
def test_finish_reasons_and_failure(name: str, reasons: list[str], native: list[str] | None, failure: Failure | None):
    read = answer(name)
    ended = (read.finish_reasons, read.attributes.get(semconv.RESPONSE_NATIVE_FINISH_REASONS), read.failure)
    assert ended == (reasons, native, failure)


@pytest.mark.parametrize(
    ("status", "reasons"),
    [
        ({"status": "cancelled"}, ["error"]),
        ({"status": "queued"}, []),
        ({"status": "in_progress"}, []),
        ({"status": "incomplete"}, ["error"]),
        ({"status": "incomplete", "incomplete_details": {"reason": "new_reason"}}, ["new_reason"]),
        ({"status": "failed"}, ["error"]),
        ({}, ["stop"]),
    ],
)
def test_status_gives_finish_reason(status: dict[str, Any], reasons: list[str]):
    text = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]}
    read = OPENAI_RESPONSES.read_response({"output": [text], **status}, content=True)
    assert read.finish_reasons == reasons
    assert (read.failure == Failure(type="_OTHER")) is (status.get("status") == "failed")


def test_unknown_items_become_generic_parts():
    wav = base64.b64encode(b"RIFF").decode()
    output: list[Any] = [
        "bare text",
        {"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAAAsealed"},
        {"type": "message", "content": [{"type": "output_audio", "data": wav, "transcript": "Hi."}, "bare", {}]},
        {"type": "message", "content": [{"type": "input_image"}, {"type": "output_text"}, {"type": "text"}]},
        {"type": "computer_call", "call_id": "c", "actions": [{"type": "wait"}]},
        {"type": "program_output", "call_id": "p", "result": "done", "status": "completed"},
        {"type": "image_generation_call", "id": "ig", "result": None},
        {"type": "brand_new", "kind": "k", "api_key": "CANARY"},
    ]
    assert OPENAI_RESPONSES.read_response({"output": output}, content=True).messages[0]["parts"] == [
        {"type": "text", "content": "bare text"},
        {"type": "compaction", "id": "cmp_1"},
        {
            "type": "uri",
            "modality": "audio",
            "uri": f"sha256:{hashlib.sha256(b'RIFF').hexdigest()}",
            "byte_size": 4,
            "transcript": "Hi.",
        },
        {"type": "text", "content": "bare"},
        {"type": "unknown"},
        {"type": "input_image"},
        {"type": "output_text"},
        {"type": "malformed_text"},
        {"type": "tool_call", "id": "c", "name": "computer", "arguments": [{"type": "wait"}]},
        {"type": "tool_call_response", "id": "p", "response": "done"},
        {
            "type": "server_tool_call",
            "id": "ig",
            "name": "image_generation",
            "server_tool_call": {"type": "image_generation"},
        },
        {"type": "brand_new", "kind": "k"},
    ]


def test_openrouter_sdk_unknown_items_are_unwrapped():
    item: Any = TypeAdapter(components.OutputItems).validate_python({"type": "brand_new", "id": "x"})
    event: Any = TypeAdapter(components.StreamEvents).validate_python(
        {"type": "response.queued", "sequence_number": 0, "response": {"id": "resp_1", "status": "queued"}}
    )
    assert (item.is_unknown, event.is_unknown) == (True, True)
    read = OPENAI_RESPONSES.read_response({"output": [item]}, content=True)
    assert read.messages[0]["parts"] == [{"type": "brand_new", "id": "x"}]
    assert read_stream(OPENAI_RESPONSES, [event]).id == "resp_1"


def test_read_response_openrouter_sdk_object_equals_dict():
    body = {**CASES["openrouter"]["response"], "frequency_penalty": None, "presence_penalty": None}
    converted = components.OpenResponsesResult.model_validate(body)
    read, of_dict = OPENAI_RESPONSES.read_response(converted, content=True), complete("openrouter")
    assert (read.usage, read.finish_reasons) == (of_dict.usage, of_dict.finish_reasons)
    assert read.messages[0]["parts"][1:] == of_dict.messages[0]["parts"][1:]
    # Its model drops fields that its specification lacks.
    assert of_dict.attributes.keys() - read.attributes.keys() == {"spancast.response.provider"}


def test_refusal_is_generic_part():
    assert without_ids(complete("refusal")).messages[0]["parts"] == [
        {"type": "refusal", "content": "I can't help with that."}
    ]


def test_logprobs_are_content():
    recorded = [{"token": "a", "logprob": -0.1, "bytes": [97], "top_logprobs": []}]
    text = {"type": "output_text", "text": "a", "logprobs": recorded}
    body = {"output": [{"type": "message", "content": [text]}]}
    with_content = OPENAI_RESPONSES.read_response(body, content=True).attributes
    assert json_codec.decode(str(with_content[semconv.RESPONSE_LOGPROBS])) == [recorded]
    assert OPENAI_RESPONSES.read_response(body, content=False).attributes == {}


@pytest.mark.parametrize("nothing", [None, 5, True, b"bytes", [], {}, object(), ValueError("x"), ""])
def test_read_response_without_fields_is_empty(nothing: object):
    assert OPENAI_RESPONSES.read_response(nothing, content=True) == Response()


def test_read_response_string_is_assistant_text():
    page = "<html>502 Bad Gateway</html>"
    assert OPENAI_RESPONSES.read_response(page, content=True) == Response(
        messages=[{"role": "assistant", "parts": [{"type": "text", "content": page}]}]
    )
    assert OPENAI_RESPONSES.read_response(page, content=False) == Response()


# --- requests -----------------------------------------------------------------------------------


def test_request_parameters():
    assert request_of("text") == Request(
        model="gpt-5.2",
        messages=[{"role": "user", "parts": [{"type": "text", "content": "What is four plus five?"}]}],
        attributes={
            "gen_ai.request.temperature": 1.0,
            "gen_ai.request.top_p": 0.9,
            "gen_ai.request.max_tokens": 200,
            "spancast.request.store": True,
            "openai.api.type": "responses",
        },
    )


def test_request_of_a_stream_with_tools():
    assert request_of("tool_calls.stream") == Request(
        model="gpt-5.2",
        stream=True,
        messages=[{"role": "user", "parts": [{"type": "text", "content": "Weather in Paris and Berlin?"}]}],
        system_instructions=[{"type": "text", "content": "Answer in one sentence."}],
        tools=CASES["tool_calls"]["request"]["tools"],
        attributes={
            "gen_ai.request.stream": True,
            "spancast.request.tool_choice": "auto",
            "spancast.request.parallel_tool_calls": True,
            "openai.api.type": "responses",
        },
    )


def test_request_items_become_messages():
    pdf, wav = (CASES["tool_results"]["request"]["input"][1]["content"][place] for place in (3, 5))
    pdf_bytes = base64.b64decode(pdf["file_data"].partition(",")[2])
    wav_bytes = base64.b64decode(wav["input_audio"]["data"])
    assert without_ids(request_of("tool_results").messages) == [
        {"role": "developer", "parts": [{"type": "text", "content": "Be brief."}]},
        {
            "role": "user",
            "parts": [
                {"type": "text", "content": "What is in these?"},
                {**picture(), "detail": "low"},
                {"type": "uri", "modality": "image", "uri": "https://example.com/cat.png", "detail": "auto"},
                {
                    "type": "uri",
                    "modality": "document",
                    "uri": f"sha256:{hashlib.sha256(pdf_bytes).hexdigest()}",
                    "byte_size": len(pdf_bytes),
                    "mime_type": "application/pdf",
                    "name": "report.pdf",
                },
                {"type": "file", "modality": "document", "file_id": "file-abc"},
                {
                    "type": "uri",
                    "modality": "audio",
                    "uri": f"sha256:{hashlib.sha256(wav_bytes).hexdigest()}",
                    "byte_size": len(wav_bytes),
                    "mime_type": "audio/wav",
                },
            ],
        },
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "I should look it up."},
                {"type": "tool_call", "id": "call_aaa", "name": "get_weather", "arguments": {"city": "Paris"}},
            ],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "call_aaa", "response": '{"celsius": 14}'}]},
        {
            "role": "tool",
            "parts": [
                {
                    "type": "tool_call_response",
                    "id": "call_img",
                    "response": [{"type": "text", "content": "map"}, picture()],
                }
            ],
        },
        {"role": "user", "parts": [{"type": "item_reference", "id": "msg_before"}]},
    ]
    assert request_of("tool_results").attributes[semconv.REQUEST_PREVIOUS_RESPONSE_ID] == "resp_before"


def test_request_reasoning_and_format():
    assert request_of("reasoning").attributes == {
        "gen_ai.request.reasoning.level": "high",
        "spancast.request.reasoning": '{"effort":"high","summary":"detailed"}',
        "spancast.request.include": ["reasoning.encrypted_content"],
        "openai.api.type": "responses",
    }
    attributes = request_of("structured_output").attributes
    assert attributes[semconv.OUTPUT_TYPE] == "json"
    assert (attributes["spancast.request.conversation"], attributes[semconv.CONVERSATION_ID]) == ("conv_1", "conv_1")
    assert "json_schema" in str(attributes["spancast.request.text"])
    assert "spancast.request.text" not in without_content(attributes)


@pytest.mark.parametrize(
    ("given", "output_type"),
    [
        ({"text": {"format": {"type": "text"}}}, "text"),
        ({"text": {"format": {"type": "json_object"}}}, "json"),
        ({"text": {"format": {"type": "grammar"}}}, "text"),
        ({"text": {"verbosity": "low"}}, None),
        ({"modalities": ["text", "image"]}, "image"),
        ({"modalities": ["audio"]}, "speech"),
        ({"modalities": ["text"]}, None),
    ],
)
def test_request_output_type(given: dict[str, Any], output_type: str | None):
    read = OPENAI_RESPONSES.read_request(given, content=True).attributes
    assert read.get(semconv.OUTPUT_TYPE) == output_type


def test_request_conversation_object():
    read = OPENAI_RESPONSES.read_request({"conversation": {"id": "conv_2"}}, content=True).attributes
    assert read[semconv.CONVERSATION_ID] == "conv_2"


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({"effort": "low"}, {semconv.REQUEST_REASONING_LEVEL: "low"}),
        ({"effort": None}, {}),
        (None, {}),
        (NOT_GIVEN, {}),
        ({"effort": 3}, {"spancast.request.reasoning": '{"effort":3}'}),
        ("high", {"spancast.request.reasoning": "high"}),
    ],
)
def test_request_reasoning_shapes(given: object, read: dict[str, Any]):
    attributes = OPENAI_RESPONSES.read_request({"reasoning": given}, content=True).attributes
    assert {name: value for name, value in attributes.items() if "reasoning" in name} == read


def test_request_openrouter_parameters_without_trace_keys():
    assert request_of("openrouter").attributes == {
        "spancast.request.models": ["anthropic/claude-sonnet-4.5", "openai/gpt-5.2"],
        "spancast.request.provider": '{"order":["anthropic"],"zdr":true}',
        "spancast.request.plugins": '[{"id":"web"}]',
        "spancast.request.reasoning": '{"max_tokens":1024,"enabled":true}',
        "openai.api.type": "responses",
    }


def test_request_hosted_tools_without_credentials():
    assert request_of("server_tools").tools == [
        {
            "type": "mcp",
            "name": "deepwiki",
            "server_label": "deepwiki",
            "server_url": "https://mcp.example.com/mcp",
            "require_approval": "never",
        },
        {
            "type": "code_interpreter",
            "name": "code_interpreter",
            "container": {"type": "auto", "network_policy": {"type": "allowlist", "allowed_domains": ["a.example"]}},
        },
        {"type": "file_search", "name": "file_search", "vector_store_ids": ["vs_1"]},
        {"type": "image_generation", "name": "image_generation", "quality": "low"},
    ]


# --- for all recordings ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("content", [True, False])
def test_stream_equals_response(name: str, content: bool):
    assert streamed(f"{name}.stream", content=content) == complete(name, content=content)


def test_stream_delta_without_sdk_class():
    events = CASES["cut.stream"]["stream"]
    converted = [
        ResponseAudioDeltaEvent.construct(**event) if event["type"].endswith(".delta") else event for event in events
    ]
    assert "output_index" not in vars(converted[-1])
    assert read_stream(OPENAI_RESPONSES, converted) == streamed("cut.stream")


def test_stream_terminal_event_without_output_uses_pieces():
    assert streamed("terminal_without_output.stream") == complete("reasoning")


def test_stream_interrupted_keeps_received_part():
    assert without_ids(streamed("cut.stream").messages) == [
        {"role": "assistant", "parts": [{"type": "text", "content": "Four plus five is "}], "finish_reason": "error"}
    ]
    assert without_ids(streamed("cut_in_call.stream").messages[0]["parts"]) == [
        {"type": "tool_call", "id": "call_aaa", "name": "get_weather", "arguments": {"city": "Paris"}},
        {"type": "tool_call", "id": "call_bbb", "name": "get_weather", "arguments": '{"city":'},
    ]
    assert streamed("audio.stream").messages[0]["parts"] == [{"type": "text", "content": "Hi there."}]


@pytest.mark.parametrize("name", [name for name in PAIRS if name not in ("openrouter",)])
def test_stream_without_terminal_event_gives_same_parts(name: str):
    before_the_end = read_stream(OPENAI_RESPONSES, CASES[f"{name}.stream"]["stream"][:-1])
    parts = [message["parts"] for message in before_the_end.messages]
    assert parts == [message["parts"] for message in complete(name).messages]


# Hosted tools have no deltas: their result comes with the complete item only.
HOSTED = ("server_tools.stream", "openrouter.stream", "web_search.stream", "client_tools.stream")


@pytest.mark.parametrize("name", [name for name in STREAMS if name not in HOSTED])
def test_stream_deltas_alone_give_same_parts(name: str):
    """Some servers omit the events that repeat a complete item."""
    events = [
        event
        for event in CASES[name]["stream"]
        if not event["type"].endswith(".done") and not event["type"].startswith("response.completed")
    ]
    parts = [message["parts"] for message in read_stream(OPENAI_RESPONSES, events).messages]
    assert parts == [message["parts"] for message in answer(name).messages]


def test_stream_empty_gives_empty_response():
    assert read_stream(OPENAI_RESPONSES, []) == Response()
    assert read_stream(OPENAI_RESPONSES, [{"type": "ping"}, {}, None, 3, {"type": 3}]) == Response()


@pytest.mark.parametrize("name", WHOLES)
def test_read_response_sdk_object_equals_dict(name: str):
    converted: Any = construct_type(type_=SdkResponse, value=CASES[name]["response"])
    assert comparable(OPENAI_RESPONSES.read_response(converted, content=True)) == comparable(complete(name))


@pytest.mark.parametrize("name", STREAMS)
def test_stream_sdk_events_equal_dicts(name: str):
    converted = [construct_type(type_=ResponseStreamEvent, value=event) for event in CASES[name]["stream"]]
    assert comparable(read_stream(OPENAI_RESPONSES, converted)) == comparable(streamed(name))


@pytest.mark.parametrize("name", sorted(CASES))
def test_messages_match_schema(name: str):
    check_request(request_of(name))
    check_response(answer(name))


@pytest.mark.parametrize("name", sorted(CASES))
def test_without_content_no_text_is_recorded(name: str):
    request, response = request_of(name, content=False), answer(name)
    without_content_response = streamed(name, content=False) if name in STREAMS else complete(name, content=False)
    assert (request.messages, request.system_instructions, request.tools, without_content_response.messages) == (
        [],
        [],
        [],
        [],
    )
    assert (without_content_response.finish_reasons, without_content_response.usage, without_content_response.id) == (
        response.finish_reasons,
        response.usage,
        response.id,
    )
    recorded = repr((without_content(request.attributes), without_content(without_content_response.attributes)))
    assert not [text for text in texts_of(request_of(name).messages + response.messages) if text in recorded]


@pytest.mark.parametrize("name", sorted(CASES))
def test_no_credential_or_base64_is_recorded(name: str):
    recorded = repr((request_of(name), answer(name)))
    assert "CANARYSECRET" not in recorded
    assert PNG[:40] not in recorded
    assert "sealed" not in recorded


@pytest.mark.parametrize("name", sorted(CASES))
def test_readers_do_not_modify_input(name: str):
    before = copy.deepcopy(CASES[name])
    request_of(name)
    answer(name)
    assert CASES[name] == before


# --- properties -------------------------------------------------------------------------------------------


def delta_of(event: dict[str, Any]) -> tuple[dict[str, Any], str] | None:
    is_text = event["type"].endswith(".delta") and event["type"] != "response.audio.delta"
    return (event, "delta") if is_text else None


@pytest.mark.parametrize("name", STREAMS)
@settings(max_examples=15)
@given(data=st.data())
def test_stream_any_split_gives_same_response(name: str, data: st.DataObject):
    events = resplit(CASES[name]["stream"], delta_of, data.draw)
    # Without the terminal event, the response is assembled from the deltas.
    for upto in (len(events), data.draw(st.integers(0, len(events)))):
        cut = read_stream(OPENAI_RESPONSES, events[:upto])
        check_response(cut)
        if upto == len(events):
            assert cut == streamed(name)


@settings(max_examples=150)
@given(value=json_values, events=st.lists(json_values, max_size=5), content=st.booleans())
def test_readers_random_json_never_raises(value: Any, events: list[Any], content: bool):
    body = value if isinstance(value, dict) else {"input": value, "tools": value, "text": value}
    OPENAI_RESPONSES.read_request(body, content=content)
    OPENAI_RESPONSES.read_response(value, content=content)
    read_stream(OPENAI_RESPONSES, events, content=content)


@pytest.mark.parametrize("name", sorted(CASES))
@settings(max_examples=15)
@given(data=st.data())
def test_readers_malformed_recording_never_raises(name: str, data: st.DataObject):
    case = mutate(CASES[name], data.draw)
    if not isinstance(case, dict):
        return
    request = case.get("request")
    if isinstance(request, dict):
        check_request(OPENAI_RESPONSES.read_request(request, content=True))
    check_response(OPENAI_RESPONSES.read_response(case.get("response"), content=True))
    events = case.get("stream")
    check_response(read_stream(OPENAI_RESPONSES, events if isinstance(events, list) else []))


def test_ids_and_unknown_fields_of_items_and_parts_are_kept():
    output = [
        {"type": "message", "id": "msg", "role": "assistant", "status": "incomplete", "phase": "commentary",
         "content": [{"type": "output_text", "text": "Hi", "annotations": [], "weight": 2}]},
        {"type": "function_call", "id": "fc", "call_id": "c", "name": "f", "arguments": "{}", "namespace": "n"},
    ]  # fmt: skip
    answer = {"status": "completed", "output": output, "moderation": {"flagged": False}}
    read = OPENAI_RESPONSES.read_response(answer, content=True)
    assert read.messages[0]["parts"] == [
        {"type": "text", "content": "Hi", "weight": 2, "item_id": "msg", "status": "incomplete", "phase": "commentary"},
        {"type": "tool_call", "id": "c", "name": "f", "arguments": {}, "item_id": "fc", "namespace": "n"},
    ]
    assert read.attributes["spancast.response.moderation"] == '{"flagged":false}'


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ({"type": "mcp_approval_request", "id": "a", "name": "f", "arguments": "{}"}, "tool_calls"),
        ({"type": "tool_search_call", "id": "s", "call_id": "c", "execution": "client"}, "tool_calls"),
        ({"type": "tool_search_call", "id": "s", "call_id": "c", "execution": "server"}, "stop"),
    ],
)
def test_finish_reason_of_items_that_wait_for_the_caller(item: dict[str, Any], reason: str):
    answer = {"status": "completed", "output": [item]}
    assert OPENAI_RESPONSES.read_response(answer, content=True).finish_reasons == [reason]


def test_request_of_a_stored_prompt_has_its_names_and_variables_as_content():
    prompt = {"id": "pmpt_1", "version": "3", "variables": {"city": "Paris", "file": {"type": "input_file"}}}
    read = OPENAI_RESPONSES.read_request({"prompt": prompt}, content=True).attributes
    assert read["gen_ai.prompt.name"] == "pmpt_1"
    assert read["gen_ai.prompt.version"] == "3"
    assert read["gen_ai.prompt.variable.city"] == "Paris"
    assert read["gen_ai.prompt.variable.file"] == '{"type":"input_file"}'
    assert {name for name in without_content(read) if "prompt" in name} == {
        "gen_ai.prompt.name",
        "gen_ai.prompt.version",
    }


def test_unknown_deltas_of_a_stream_that_breaks_off_are_kept():
    events = [
        {"type": "response.created", "response": {"id": "r", "status": "in_progress", "output": []}},
        {"type": "response.output_item.added", "output_index": 0, "item": {"type": "apply_patch_call", "call_id": "c"}},
        {"type": "response.apply_patch_call_operation_diff.delta", "output_index": 0, "delta": "+ a "},
        {"type": "response.apply_patch_call_operation_diff.delta", "output_index": 0, "delta": "line"},
        {"type": "response.audio.delta", "output_index": 1, "delta": "UklGRg=="},
    ]
    (message,) = read_stream(OPENAI_RESPONSES, events).messages
    (part,) = message["parts"]
    assert part["type"] == "tool_call"
    assert part["apply_patch_call_operation_diff"] == "+ a line"


def test_fields_of_events_beside_the_response_are_kept():
    events = [
        {"type": "response.debug", "debug": {"echo_upstream_body": {"model": "x"}}},
        {
            "type": "response.completed",
            "response": {"id": "r", "status": "completed", "output": []},
            "timings": {"ms": 2},
        },
    ]
    read = read_stream(OPENAI_RESPONSES, events)
    assert read.attributes["spancast.response.timings"] == '{"ms":2}'
    assert read.attributes["spancast.response.debug"] == '{"echo_upstream_body":{"model":"x"}}'


def test_fields_of_a_message_without_content_are_kept():
    read = OPENAI_RESPONSES.read_response(
        {"status": "completed", "output": [{"type": "message", "id": "m", "phase": "final_answer", "content": []}]},
        content=True,
    )
    assert read.messages[0]["parts"] == [{"type": "message", "id": "m", "phase": "final_answer", "content": []}]


def test_object_in_the_place_of_a_list_is_read_as_its_only_item() -> None:
    text = {"type": "output_text", "text": "Hello"}
    output = {"type": "message", "role": "assistant", "content": text}
    (message,) = OPENAI_RESPONSES.read_response({"id": "r1", "output": output}, content=True).messages
    assert message["parts"] == [{"type": "text", "content": "Hello"}]
