from __future__ import annotations

import base64
import copy
import hashlib
from typing import Any

import pytest
from anthropic import NOT_GIVEN
from anthropic._models import construct_type
from anthropic.types import RawMessageStreamEvent
from anthropic.types.beta import BetaMessage, BetaRawMessageStreamEvent
from hypothesis import given, settings
from hypothesis import strategies as st
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

from spancast.dialects.anthropic_messages.reader import ANTHROPIC_MESSAGES
from spancast.model import semconv
from spancast.model.call import Failure, Request, Response
from spancast.model.privacy import without_content

CASES = recordings("anthropic_messages")
STREAMS = sorted(name for name in CASES if name.endswith(".stream"))
WHOLES = sorted(set(CASES) - set(STREAMS))
PAIRS = sorted(name for name in WHOLES if f"{name}.stream" in CASES)


def complete(name: str, *, content: bool = True) -> Response:
    return ANTHROPIC_MESSAGES.read_response(CASES[name]["response"], content=content)


def streamed(name: str, *, content: bool = True) -> Response:
    return read_stream(ANTHROPIC_MESSAGES, CASES[name]["stream"], content=content)


def answer(name: str) -> Response:
    return streamed(name) if name in STREAMS else complete(name)


def request_of(name: str, *, content: bool = True) -> Request:
    return ANTHROPIC_MESSAGES.read_request(CASES[name]["request"], content=content)


def reference(data: str, modality: str, mime_type: str) -> dict[str, Any]:
    raw = base64.b64decode(data)
    digest = hashlib.sha256(raw).hexdigest()
    return {
        "type": "uri",
        "modality": modality,
        "uri": f"sha256:{digest}",
        "byte_size": len(raw),
        "mime_type": mime_type,
    }


# --- complete responses ------------------------------------------------------------------------------


def test_read_response_text():
    assert complete("text") == Response(
        id="msg_01AbCdEfGhIjKlMnOpQrStUv",
        model="claude-sonnet-4-5-20250929",
        finish_reasons=["stop"],
        messages=[
            {
                "role": "assistant",
                "parts": [{"type": "text", "content": "Four plus five is nine."}],
                "finish_reason": "stop",
            }
        ],
        usage={
            "gen_ai.usage.input_tokens": 14,
            "gen_ai.usage.cache_write.input_tokens": 0,
            "gen_ai.usage.cache_read.input_tokens": 0,
            "spancast.usage.cache_creation.ephemeral_5m_input_tokens": 0,
            "spancast.usage.cache_creation.ephemeral_1h_input_tokens": 0,
            "gen_ai.usage.output_tokens": 9,
        },
        attributes={
            "spancast.response.object": "message",
            "spancast.usage.service_tier": "standard",
            "spancast.usage.inference_geo": "us",
            "spancast.response.native_finish_reasons": ["end_turn"],
        },
    )


def test_read_response_tool_calls():
    response = complete("tool_use")
    assert (response.finish_reasons, response.messages) == (
        ["tool_calls"],
        [
            {
                "role": "assistant",
                "parts": [
                    {"type": "text", "content": "I will look."},
                    {"type": "tool_call", "id": "toolu_1", "name": "get_weather", "arguments": {"city": "Paris"}},
                    {
                        "type": "tool_call",
                        "id": "toolu_2",
                        "name": "get_weather",
                        "arguments": {"city": "Zürich", "unit": None},
                    },
                    {"type": "tool_call", "id": "toolu_3", "name": "now", "arguments": {}},
                ],
                "finish_reason": "tool_call",
            }
        ],
    )


def test_thinking_is_reasoning_without_signature():
    response = complete("thinking")
    assert response.messages[0]["parts"] == [
        {"type": "reasoning", "content": "s-t-r-a-w-b-e-r-r-y: three."},
        {"type": "reasoning", "content": ""},
        {"type": "text", "content": "Three."},
    ]
    assert response.usage[semconv.USAGE_REASONING] == 190


def test_usage_input_total_includes_cache():
    assert complete("cache").usage == {
        "gen_ai.usage.input_tokens": 21 + 188086 + 456,
        "gen_ai.usage.cache_read.input_tokens": 188086,
        "gen_ai.usage.cache_write.input_tokens": 456,
        "spancast.usage.cache_creation.ephemeral_5m_input_tokens": 148,
        "spancast.usage.cache_creation.ephemeral_1h_input_tokens": 308,
        "gen_ai.usage.output_tokens": 50,
    }


def test_read_response_web_search_keeps_citations():
    response = complete("web_search")
    assert response.usage["spancast.usage.server_tool_use.web_search_requests"] == 1
    assert response.messages[0]["parts"] == [
        {"type": "text", "content": "I will search."},
        {
            "type": "server_tool_call",
            "id": "srvtoolu_1",
            "name": "web_search",
            "server_tool_call": {"type": "web_search", "input": {"query": "news"}},
        },
        {
            "type": "server_tool_call_response",
            "id": "srvtoolu_1",
            "server_tool_call_response": {
                "type": "web_search",
                "content": [
                    {"type": "web_search_result", "url": "https://example.com/notes", "title": "Release notes"}
                ],
            },
        },
        {
            "type": "text",
            "content": "Version 3 is out.",
            "citations": [
                {
                    "type": "web_search_result_location",
                    "url": "https://example.com/notes",
                    "title": "Release notes",
                    "cited_text": "Version 3",
                }
            ],
        },
    ]


def test_mcp_and_code_execution_are_server_tools():
    assert complete("mcp").messages[0]["parts"] == [
        {
            "type": "server_tool_call",
            "id": "mcptoolu_1",
            "name": "ask",
            "server_tool_call": {"type": "mcp", "server_name": "wiki", "input": {"q": "mean"}},
        },
        {
            "type": "server_tool_call_response",
            "id": "mcptoolu_1",
            "server_tool_call_response": {
                "type": "mcp",
                "is_error": False,
                "content": [{"type": "text", "text": "arithmetic"}],
            },
        },
        {
            "type": "server_tool_call",
            "id": "srvtoolu_2",
            "name": "code_execution",
            "server_tool_call": {"type": "code_execution", "input": {"code": "print(2)"}},
        },
        {
            "type": "server_tool_call_response",
            "id": "srvtoolu_2",
            "server_tool_call_response": {
                "type": "code_execution",
                "content": {
                    "type": "code_execution_result",
                    "stdout": "2\n",
                    "stderr": "",
                    "return_code": 0,
                    "content": [],
                },
            },
        },
        {"type": "file", "modality": "document", "file_id": "file_9"},
        {"type": "text", "content": "Two."},
    ]


def test_read_response_compaction_and_iterations():
    response = complete("compaction")
    assert response.messages[0]["parts"][0] == {"type": "compaction", "content": "So far: two files read."}
    assert response.attributes["spancast.usage.iterations"] == (
        '[{"type":"compaction","input_tokens":80,"output_tokens":20,'
        '"cache_read_input_tokens":0,"cache_creation_input_tokens":0}]'
    )


def test_usage_openrouter_cost():
    response = complete("openrouter")
    assert (response.usage["gen_ai.usage.input_tokens"], response.usage["spancast.usage.cost"]) == (110, 0.0005)
    assert response.attributes["spancast.response.provider"] == "Anthropic"
    assert response.attributes["spancast.usage.is_byok"] is False


@pytest.mark.parametrize(
    ("name", "reasons", "native", "failure"),
    [
        ("refusal", ["content_filter"], ["refusal"], None),
        ("max_tokens", ["length"], ["max_tokens"], None),
        ("stop_sequence", ["stop"], ["stop_sequence"], None),
        ("pause_turn", ["stop"], ["pause_turn"], None),
        (
            "error_before",
            ["error"],
            None,
            Failure(type="provider_overloaded", message="Provider is temporarily overloaded"),
        ),
        (
            "error_anthropic",
            ["error"],
            None,
            Failure(type="not_found_error", message="The requested resource could not be found."),
        ),
        ("cut.stream", ["error"], None, None),
        ("cut_in_call.stream", ["error"], None, None),
        ("error_midstream.stream", ["error"], None, Failure(type="overloaded_error", message="Overloaded")),
        ("error_first.stream", ["error"], None, Failure(type="overloaded_error", message="Overloaded")),
    ],
)
def test_finish_reasons_and_failure(name: str, reasons: list[str], native: list[str] | None, failure: Failure | None):
    read = answer(name)
    ended = (read.finish_reasons, read.attributes.get(semconv.RESPONSE_NATIVE_FINISH_REASONS), read.failure)
    assert ended == (reasons, native, failure)


@pytest.mark.parametrize(
    ("stop_reason", "reasons"),
    [
        ("model_context_window_exceeded", ["length"]),
        ("compaction", ["compaction"]),
        ("new_reason", ["new_reason"]),
        (None, []),
        (3, []),
    ],
)
def test_stop_reason_gives_finish_reason(stop_reason: object, reasons: list[str]):
    read = ANTHROPIC_MESSAGES.read_response({"content": "a", "stop_reason": stop_reason}, content=True)
    assert read.finish_reasons == reasons
    assert [message.get("finish_reason") for message in read.messages] == [reasons[0] if reasons else None]


def test_stop_details_are_part_of_message():
    refused, stopped = complete("refusal"), complete("stop_sequence")
    assert refused.messages[0]["stop_details"] == {
        "type": "refusal",
        "category": "bio",
        "explanation": "asks for a method",
    }
    assert refused.attributes["spancast.response.stop_details.category"] == "bio"
    assert stopped.messages[0]["stop_sequence"] == "4"


@pytest.mark.parametrize("nothing", [None, 5, True, b"bytes", [], {}, object(), ValueError("x"), ""])
def test_read_response_without_fields_is_empty(nothing: object):
    assert ANTHROPIC_MESSAGES.read_response(nothing, content=True) == Response()


def test_read_response_string_is_assistant_text():
    page = "<html>502 Bad Gateway</html>"
    assert ANTHROPIC_MESSAGES.read_response(page, content=True) == Response(
        messages=[{"role": "assistant", "parts": [{"type": "text", "content": page}]}]
    )
    assert ANTHROPIC_MESSAGES.read_response(page, content=False) == Response()


# --- requests -----------------------------------------------------------------------------------


def test_request_parameters():
    assert request_of("text") == Request(
        model="claude-sonnet-4-5",
        messages=[{"role": "user", "parts": [{"type": "text", "content": "What is four plus five?"}]}],
        system_instructions=[{"type": "text", "content": "Be brief."}],
        attributes={
            "gen_ai.request.max_tokens": 1024,
            "gen_ai.request.temperature": 1.0,
            "gen_ai.request.top_k": 40,
            "gen_ai.request.top_p": 0.9,
            "gen_ai.request.stop_sequences": ["END"],
            "spancast.request.service_tier": "auto",
        },
    )


def test_request_of_a_stream_with_tools():
    request = request_of("tool_use.stream")
    assert (request.stream, request.attributes, request.tools) == (
        True,
        {
            "gen_ai.request.max_tokens": 1024,
            "gen_ai.request.stream": True,
            "spancast.request.tool_choice": '{"type":"auto","disable_parallel_tool_use":false}',
        },
        [
            {
                "type": "function",
                "name": "get_weather",
                "description": "Current weather of a city",
                "cache_control": {"type": "ephemeral"},
                "parameters": {
                    "type": "object",
                    "properties": {"city": {"type": "string"}},
                    "required": ["city"],
                },
            },
            {"type": "bash_20250124", "name": "bash"},
        ],
    )


def test_request_blocks_become_parts():
    blocks = CASES["tool_results"]["request"]["messages"][0]["content"]
    png = reference(blocks[1]["source"]["data"], "image", "image/png")
    pdf = reference(blocks[4]["source"]["data"], "document", "application/pdf")
    request = request_of("tool_results")
    assert request.system_instructions == [
        {"type": "text", "content": "You read files.", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "content": "Be brief."},
    ]
    assert request.messages == [
        {
            "role": "user",
            "parts": [
                {"type": "text", "content": "What is in these?"},
                png,
                {"type": "uri", "modality": "image", "uri": "https://example.com/cat.png"},
                {"type": "file", "modality": "image", "file_id": "file_1"},
                {**pdf, "title": "Report"},
                {"type": "text", "content": "plain words", "mime_type": "text/plain"},
                {"type": "document", "content": [{"type": "text", "content": "chunk"}]},
                {
                    "type": "search_result",
                    "source": "kb",
                    "title": "T",
                    "content": [{"type": "text", "text": "found"}],
                },
            ],
        },
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "Look first."},
                {"type": "reasoning", "content": ""},
                {"type": "tool_call", "id": "toolu_1", "name": "get_weather", "arguments": {"city": "Paris"}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"type": "tool_call_response", "id": "toolu_1", "response": "14 °C"},
                {
                    "type": "tool_call_response",
                    "id": "toolu_2",
                    "response": [{"type": "text", "content": "no map"}, png],
                    "is_error": True,
                },
            ],
        },
    ]
    assert request.attributes["spancast.request.thinking"] == '{"type":"enabled","budget_tokens":2048}'


def test_request_without_credentials():
    assert request_of("mcp").attributes == {
        "gen_ai.request.max_tokens": 1024,
        "spancast.request.betas": ["mcp-client-2025-11-20"],
        "spancast.request.container": '{"skills":[{"type":"anthropic","skill_id":"pptx","version":"latest"}]}',
        "spancast.request.mcp_servers": (
            '[{"type":"url","name":"wiki","url":"https://mcp.example.com/sse","tool_configuration":{"enabled":true}}]'
        ),
    }
    assert request_of("mcp").tools == [{"type": "mcp_toolset", "name": "wiki", "mcp_server_name": "wiki"}]


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({"output_config": {"effort": "low"}}, {semconv.REQUEST_REASONING_LEVEL: "low"}),
        ({"output_config": {"effort": 3}}, {"spancast.request.output_config": '{"effort":3}'}),
        ({"output_config": NOT_GIVEN}, {}),
        ({"output_config": {"effort": None, "format": None}}, {}),
        (
            {"output_config": {"task_budget": {"total": 5}}},
            {"spancast.request.output_config": '{"task_budget":{"total":5}}'},
        ),
        (
            {"output_format": {"type": "json_schema"}},
            {semconv.OUTPUT_TYPE: "json", "spancast.request.response_format": '{"type":"json_schema"}'},
        ),
        (
            {"output_config": {"format": {"type": "text"}}},
            {
                semconv.OUTPUT_TYPE: "text",
                "spancast.request.response_format": '{"type":"text"}',
            },
        ),
    ],
)
def test_request_output_shapes(given: dict[str, Any], read: dict[str, Any]):
    assert ANTHROPIC_MESSAGES.read_request(given, content=True).attributes == read


def test_unknown_blocks_become_generic_parts():
    blocks: list[Any] = [
        "bare text",
        {"type": "text"},
        {"type": "image", "source": {"type": "base64"}},
        {"type": "document", "source": {"type": "url"}, "title": "T"},
        {"type": "mcp_tool_result"},
        {"type": "brand_new", "kind": "k", "signature": "sealed", "cache_control": {"type": "ephemeral"}},
        {},
    ]
    request = ANTHROPIC_MESSAGES.read_request({"messages": [{"content": blocks}]}, content=True)
    assert request.messages == [
        {
            "role": "user",
            "parts": [
                {"type": "text", "content": "bare text"},
                {"type": "malformed_text"},
                {"type": "image", "source": {"type": "base64"}},
                {"type": "document", "source": {"type": "url"}, "title": "T"},
                {"type": "server_tool_call_response", "id": None, "server_tool_call_response": {"type": "mcp"}},
                {"type": "brand_new", "kind": "k", "cache_control": {"type": "ephemeral"}},
                {"type": "unknown"},
            ],
        }
    ]


def test_tools_and_servers_of_unknown_shapes():
    request = ANTHROPIC_MESSAGES.read_request({"tools": [{"name": "f"}, 5], "mcp_servers": ["bare"]}, content=True)
    assert request.tools == [{"type": "function", "name": "f"}, {"type": "function", "name": "custom"}]
    assert request.attributes["spancast.request.mcp_servers"] == '["bare"]'


def test_request_openrouter_parameters_without_trace_keys():
    assert request_of("openrouter").attributes == {
        "gen_ai.request.max_tokens": 1024,
        "spancast.request.provider": '{"order":["anthropic"]}',
        "spancast.request.models": ["anthropic/claude-sonnet-4.5"],
    }


# --- streams --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("content", [True, False])
def test_stream_equals_response(name: str, content: bool):
    assert streamed(f"{name}.stream", content=content) == complete(name, content=content)


def test_stream_usage_last_value_wins_per_field():
    start = {"input_tokens": 10, "cache_read_input_tokens": 90, "output_tokens": 1, "service_tier": "priority"}
    events = [
        {"type": "message_start", "message": {"id": "msg", "content": [], "usage": start}},
        {"type": "message_delta", "delta": {"stop_reason": None}, "usage": {"output_tokens": 20}},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {"output_tokens": 30, "cache_read_input_tokens": None, "input_tokens": 12},
        },
    ]
    read = read_stream(ANTHROPIC_MESSAGES, events)
    assert (read.usage, read.attributes["spancast.usage.service_tier"]) == (
        {
            "gen_ai.usage.input_tokens": 102,
            "gen_ai.usage.cache_read.input_tokens": 90,
            "gen_ai.usage.output_tokens": 30,
        },
        "priority",
    )


def test_stream_interrupted_keeps_received_part():
    assert streamed("cut.stream").messages == [
        {"role": "assistant", "parts": [{"type": "text", "content": "Four plus five i"}], "finish_reason": "error"}
    ]
    assert streamed("cut.stream").usage[semconv.USAGE_INPUT_TOKENS] == 14
    assert streamed("cut_in_call.stream").messages[0]["parts"] == [
        {"type": "text", "content": "I will look."},
        {"type": "tool_call", "id": "toolu_1", "name": "get_weather", "arguments": '{"city'},
    ]


def test_stream_helper_events_are_ignored():
    events = [
        *CASES["thinking.stream"]["stream"],
        {"type": "text", "text": "Three.", "snapshot": "Three."},
        {"type": "thinking", "thinking": "s-t-r", "snapshot": "s-t-r"},
        {"type": "input_json", "partial_json": "{", "snapshot": {}},
        {"type": "signature", "signature": "x"},
    ]
    assert read_stream(ANTHROPIC_MESSAGES, events) == complete("thinking")


def test_stream_empty_gives_empty_response():
    assert read_stream(ANTHROPIC_MESSAGES, []) == Response()
    assert read_stream(ANTHROPIC_MESSAGES, [{"type": "ping"}, {}, None, 3, {"type": 3}]) == Response()


@pytest.mark.parametrize("name", WHOLES)
def test_read_response_sdk_object_equals_dict(name: str):
    converted: Any = construct_type(type_=BetaMessage, value=CASES[name]["response"])
    assert comparable(ANTHROPIC_MESSAGES.read_response(converted, content=True)) == comparable(complete(name))


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("events_of", [RawMessageStreamEvent, BetaRawMessageStreamEvent])
def test_stream_sdk_events_equal_dicts(name: str, events_of: Any):
    """Also events of the non-beta SDK classes, which lack the deltas of the betas."""
    events = CASES[name]["stream"]
    converted = [
        construct_type(type_=events_of, value=event) if event["type"] not in ("ping", "error") else event
        for event in events
    ]
    assert comparable(read_stream(ANTHROPIC_MESSAGES, converted)) == comparable(streamed(name))


# --- for all recordings ---------------------------------------------------------------------------


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
def test_no_credential_base64_or_encrypted_field_is_recorded(name: str):
    recorded = repr((request_of(name), answer(name)))
    for kept_out in ("CANARYSECRET", "iVBOR", "c2lnbmF0dXJl", "EqgfCio", "Eo8BCio", "c2VhbGVk"):
        assert kept_out not in recorded


@pytest.mark.parametrize("name", sorted(CASES))
def test_readers_do_not_modify_input(name: str):
    before = copy.deepcopy(CASES[name])
    request_of(name)
    answer(name)
    assert CASES[name] == before


# --- properties -------------------------------------------------------------------------------------------

TEXTS = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "input_json_delta": "partial_json",
    "compaction_delta": "content",
}


def delta_of(event: dict[str, Any]) -> tuple[dict[str, Any], str] | None:
    delta = event.get("delta", {})
    key = TEXTS.get(delta.get("type"))
    return (delta, key) if key else None


@pytest.mark.parametrize("name", STREAMS)
@settings(max_examples=15)
@given(data=st.data())
def test_stream_any_split_gives_same_response(name: str, data: st.DataObject):
    events = resplit(CASES[name]["stream"], delta_of, data.draw)
    assert read_stream(ANTHROPIC_MESSAGES, events) == streamed(name)
    check_response(read_stream(ANTHROPIC_MESSAGES, events[: data.draw(st.integers(0, len(events)))]))


@settings(max_examples=150)
@given(value=json_values, events=st.lists(json_values, max_size=5), content=st.booleans())
def test_readers_random_json_never_raises(value: Any, events: list[Any], content: bool):
    body = value if isinstance(value, dict) else {"messages": value, "tools": value, "system": value}
    ANTHROPIC_MESSAGES.read_request(body, content=content)
    ANTHROPIC_MESSAGES.read_response(value, content=content)
    read_stream(ANTHROPIC_MESSAGES, events, content=content)


@pytest.mark.parametrize("name", sorted(CASES))
@settings(max_examples=15)
@given(data=st.data())
def test_readers_malformed_recording_never_raises(name: str, data: st.DataObject):
    case = mutate(CASES[name], data.draw)
    if not isinstance(case, dict):
        return
    request = case.get("request")
    if isinstance(request, dict):
        check_request(ANTHROPIC_MESSAGES.read_request(request, content=True))
    check_response(ANTHROPIC_MESSAGES.read_response(case.get("response"), content=True))
    events = case.get("stream")
    check_response(read_stream(ANTHROPIC_MESSAGES, events if isinstance(events, list) else []))


def test_unknown_fields_of_answer_and_blocks_are_kept_whole_and_streamed():
    message = {
        "id": "msg", "type": "message", "role": "assistant", "model": "m", "stop_reason": "tool_use",
        "container": {"id": "c1", "expires_at": "soon"}, "context_management": {"applied_edits": []},
        "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}, "caller": {"type": "direct"}}],
        "usage": {"input_tokens": 1, "output_tokens": 2},
    }  # fmt: skip
    whole = ANTHROPIC_MESSAGES.read_response(message, content=True)
    assert whole.messages[0]["parts"] == [
        {"type": "tool_call", "id": "t", "name": "f", "arguments": {}, "caller": {"type": "direct"}}
    ]
    assert whole.attributes["spancast.response.container"] == '{"id":"c1","expires_at":"soon"}'
    assert whole.attributes["spancast.response.context_management"] == '{"applied_edits":[]}'
    late = {"stop_reason": "tool_use", "container": message["container"]}
    edits = {"context_management": message["context_management"]}
    started = {**message, "content": [], "stop_reason": None, "container": None, "context_management": None}
    events = [
        {"type": "message_start", "message": started},
        {"type": "content_block_start", "index": 0, "content_block": message["content"][0]},
        {"type": "message_delta", "delta": late, "usage": message["usage"], **edits},
        {"type": "message_stop"},
    ]
    assert read_stream(ANTHROPIC_MESSAGES, events) == whole


def test_usage_includes_the_billed_tokens_of_compactions():
    iterations = [
        {"type": "compaction", "input_tokens": 100, "output_tokens": 30, "cache_read_input_tokens": 7},
        {"type": "message", "input_tokens": 10, "output_tokens": 5},
    ]
    usage = {"input_tokens": 10, "output_tokens": 5, "iterations": iterations}
    counts = ANTHROPIC_MESSAGES.read_response({"stop_reason": "end_turn", "usage": usage}, content=True).usage
    assert counts[semconv.USAGE_INPUT_TOKENS] == 117
    assert counts[semconv.USAGE_OUTPUT_TOKENS] == 35
    assert counts[semconv.USAGE_CACHE_READ] == 7


def test_deltas_of_unknown_kinds_and_fields_are_kept():
    events = [
        {"type": "message_start", "message": {"id": "m", "content": []}, "region": "eu"},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "plan", "steps": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "steps_delta", "steps": "one, "}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "steps_delta", "steps": "two"}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Hi", "language": "en"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {}},
        {"type": "message_stop", "amazon-bedrock-invocationMetrics": {"inputTokenCount": 3}},
    ]
    read = read_stream(ANTHROPIC_MESSAGES, events)
    assert read.messages[0]["parts"] == [
        {"type": "plan", "steps": "one, two"},
        {"type": "text", "content": "Hi", "language": "en"},
    ]
    assert read.attributes["spancast.response.region"] == "eu"
    assert read.attributes["spancast.response.amazon-bedrock-invocationMetrics"] == '{"inputTokenCount":3}'
