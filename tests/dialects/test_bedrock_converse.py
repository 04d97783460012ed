from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from tests.dialects.streams import check_request, check_response, read_stream, recordings

from spancast.dialects.bedrock_converse.reader import BEDROCK_CONVERSE
from spancast.model.call import Failure, Request, Response
from spancast.testing import check_dialect

RECORDINGS = recordings("bedrock_converse")
PNG = {"type": "uri", "modality": "image", "mime_type": "image/png", "byte_size": 4,
       "uri": "sha256:0f4636c78f65d3639ece5a064b5ae753e3408614a14fb18ab4d7540d2c248543"}  # fmt: skip
PDF = {"type": "uri", "modality": "document", "mime_type": "application/pdf", "byte_size": 4,
       "uri": "sha256:315d429b7714cedb6ad04ac31240145257692630457f3c88253c5beceac76027"}  # fmt: skip
JPEG = {"type": "uri", "modality": "image", "mime_type": "image/jpeg", "byte_size": 3,
        "uri": "sha256:6e568e1f67fba258184c78181539e5e8fdee447e49bb706fc0ea34fbf12336a5"}  # fmt: skip


def text(content: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "content": content, **more}


def call(call_id: str, name: str, arguments: Any) -> dict[str, Any]:
    return {"type": "tool_call", "id": call_id, "name": name, "arguments": arguments}


EXPECTED: dict[str, tuple[Request, Response]] = {
    "tools": (
        Request(
            model="anthropic.claude-self-v1:0",
            messages=[
                {"role": "user", "parts": [text("See"), PNG, {**PDF, "name": "doc", "cachePoint": {"type": "default"}}]},
                {"role": "assistant", "parts": [call("t0", "weather", {"city": "Rome"})]},
                {
                    "role": "tool",
                    "parts": [
                        {"type": "tool_call_response", "id": "t0", "response": {"temp": 20}, "status": "success"}
                    ],
                },
            ],
            system_instructions=[text("Brief.")],
            tools=[
                {
                    "type": "function", "name": "weather", "description": "W.",
                    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
                }
            ],
            attributes={
                "gen_ai.request.max_tokens": 10, "gen_ai.request.temperature": 0.5, "gen_ai.request.top_p": 0.9,
                "gen_ai.request.top_k": 5, "gen_ai.request.stop_sequences": ["END"],
                "aws.bedrock.guardrail.id": "gr-1",
                "spancast.request.guardrailConfig":
                    '{"guardrailIdentifier":"gr-1","guardrailVersion":"1","trace":"enabled"}',
                "spancast.request.additionalModelRequestFields":
                    '{"top_k":5,"thinking":{"type":"enabled","budget_tokens":1024}}',
                "spancast.request.requestMetadata": '{"team":"x"}',
                "spancast.request.performanceConfig": '{"latency":"standard"}',
                "spancast.request.toolChoice": "auto",
            },
        ),
        Response(
            finish_reasons=["tool_calls"],
            messages=[
                {
                    "role": "assistant",
                    "parts": [
                        {"type": "reasoning", "content": "They want weather."}, text("Looking."),
                        call("tooluse_1", "weather", {"city": "Oslo"}),
                    ],
                    "finish_reason": "tool_call",
                }
            ],
            usage={
                "gen_ai.usage.input_tokens": 29, "gen_ai.usage.output_tokens": 9,
                "gen_ai.usage.cache_read.input_tokens": 6, "gen_ai.usage.cache_write.input_tokens": 2,
                "spancast.usage.total_tokens": 38,
            },
            attributes={
                "spancast.response.native_finish_reasons": ["tool_use"],
                "spancast.response.metrics.latencyMs": 120,
                "spancast.response.additionalModelResponseFields": "{}",
                "spancast.response.trace": '{"guardrail":{"inputAssessment":{"gr-1":{"topicPolicy":{"topics":[]}}}}}',
                "spancast.response.performanceConfig": '{"latency":"standard"}',
                "spancast.response.serviceTier": '{"type":"default"}',
            },
        ),
    ),
    "guardrail": (
        Request(
            model="arn:aws:bedrock:eu-central-1:123456789012:prompt/PROMPT12345:2",
            messages=[
                {
                    "role": "user",
                    "parts": [
                        text("What is in these files?"), PNG, {**PDF, "name": "report", "citations": {"enabled": True}},
                        text("Notes of the meeting.", mime_type="text/plain", name="notes"),
                        {
                            "type": "uri", "modality": "video", "uri": "s3://bucket/clip.3gp",
                            "mime_type": "video/3gpp", "bucketOwner": "123456789012",
                        },
                        {"type": "uri", "modality": "audio", "uri": "s3://bucket/voice.mp3", "mime_type": "audio/mpeg"},
                        text(
                            "Guard this sentence.", qualifiers=["query"], cachePoint={"type": "default", "ttl": "1h"}
                        ),
                        {
                            "type": "searchResult", "source": "https://example.com", "title": "A page about it",
                            "content": [{"text": "What the page says."}],
                        },
                    ],
                },
                {
                    "role": "assistant",
                    "parts": [
                        {"type": "reasoning", "content": "I should look it up."}, {"type": "reasoning", "content": ""},
                        text(
                            "It says this.",
                            citations=[
                                {
                                    "title": "report",
                                    "location": {"documentPage": {"documentIndex": 0, "start": 1, "end": 2}},
                                }
                            ],
                        ),
                        call("t1", "weather", {"city": "Oslo"}), call("t2", "news", {}),
                    ],
                },
                {
                    "role": "tool",
                    "parts": [
                        {
                            "type": "tool_call_response", "id": "t1", "response": {"temperature": -4},
                            "status": "success",
                        },
                        {
                            "type": "tool_call_response", "id": "t2", "response": [text("The server is down."), JPEG],
                            "status": "error",
                        },
                    ],
                },
            ],
            system_instructions=[text("Answer briefly.", cachePoint={"type": "default"})],
            tools=[
                {
                    "type": "function", "name": "weather", "description": "Tells the weather.",
                    "parameters": {"type": "object"}, "cachePoint": {"type": "default"},
                },
                {"type": "systemTool", "name": "nova_grounding"},
            ],
            attributes={
                "aws.bedrock.guardrail.id": "gr-1", "gen_ai.request.top_k": 5, "gen_ai.output.type": "json",
                "gen_ai.request.reasoning.level": "low", "gen_ai.prompt.name": "PROMPT12345",
                "gen_ai.prompt.version": "2", "gen_ai.prompt.variable.city": "Oslo in winter",
                "spancast.request.additionalModelRequestFields":
                    '{"top_k":5,"thinking":{"type":"enabled","budget_tokens":1024}}',
                "spancast.request.guardrailConfig":
                    '{"guardrailIdentifier":"gr-1","guardrailVersion":"DRAFT","trace":"enabled",'
                    '"streamProcessingMode":"async"}',
                "spancast.request.performanceConfig": '{"latency":"optimized"}',
                "spancast.request.serviceTier": '{"type":"flex"}',
                "spancast.request.requestMetadata": '{"team":"support"}',
                "spancast.request.toolChoice": '{"tool":{"name":"weather"}}',
                "spancast.request.outputConfig":
                    '{"textFormat":{"type":"json_schema","structure":{"jsonSchema":{"schema":"{}","name":"answer"}}}}',
            },
        ),
        Response(
            model="anthropic.claude-3-5-haiku-20241022-v1:0",
            finish_reasons=["content_filter"],
            messages=[
                {
                    "role": "assistant", "parts": [text("I can't talk about that.")], "finish_reason": "content_filter",
                }
            ],
            usage={
                "gen_ai.usage.input_tokens": 160, "gen_ai.usage.output_tokens": 0,
                "gen_ai.usage.cache_read.input_tokens": 40, "gen_ai.usage.cache_write.input_tokens": 20,
                "spancast.usage.total_tokens": 160,
            },
            attributes={
                "spancast.response.native_finish_reasons": ["guardrail_intervened"],
                "spancast.response.metrics.latencyMs": 721,
                "spancast.response.trace":
                    '{"guardrail":{"inputAssessment":{"gr-1":{"topicPolicy":{"topics":[{"name":"Investment advice",'
                    '"type":"DENY","action":"BLOCKED"}]}}}},'
                    '"promptRouter":{"invokedModelId":"anthropic.claude-3-5-haiku-20241022-v1:0"}}',
                "spancast.response.performanceConfig": '{"latency":"optimized"}',
                "spancast.response.serviceTier": '{"type":"flex"}',
                "spancast.usage.cacheDetails": '[{"ttl":"1h","inputTokens":20}]',
            },
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPECTED)
def test_request_and_response_are_read(name: str) -> None:
    recording, (request, response) = RECORDINGS[name], EXPECTED[name]
    assert BEDROCK_CONVERSE.read_request(recording["request"], content=True) == request
    assert BEDROCK_CONVERSE.read_response(recording["response"], content=True) == response


@pytest.mark.parametrize("name", [name for name in RECORDINGS if f"{name}.stream" in RECORDINGS])
def test_stream_gives_the_response(name: str) -> None:
    whole = BEDROCK_CONVERSE.read_response(RECORDINGS[name]["response"], content=True)
    assert read_stream(BEDROCK_CONVERSE, RECORDINGS[f"{name}.stream"]["stream"]) == whole


@pytest.mark.parametrize("name", RECORDINGS)
def test_messages_are_valid(name: str) -> None:
    recording = RECORDINGS[name]
    check_request(BEDROCK_CONVERSE.read_request(recording["request"], content=True))
    if "response" in recording:
        check_response(BEDROCK_CONVERSE.read_response(recording["response"], content=True))
    else:
        check_response(read_stream(BEDROCK_CONVERSE, recording["stream"]))


def test_dialect_keeps_the_contract() -> None:
    check_dialect(BEDROCK_CONVERSE, RECORDINGS)


def test_exception_in_a_stream_is_the_failure() -> None:
    read = read_stream(BEDROCK_CONVERSE, RECORDINGS["exception.stream"]["stream"])
    assert read.failure == Failure(type="modelStreamErrorException", message="The model broke.")
    assert read.finish_reasons == ["error"]
    assert read.messages[0]["parts"][1] == text("Hel")


def test_bytes_of_parameters_are_read_as_those_of_the_wire() -> None:
    def body(data: Any) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": [{"image": {"format": "png", "source": {"bytes": data}}}]}]}

    found = [
        BEDROCK_CONVERSE.read_request(body(data), content=True).messages
        for data in (b"\x89PNG", bytearray(b"\x89PNG"), base64.b64encode(b"\x89PNG").decode())
    ]
    assert found == [[{"role": "user", "parts": [PNG]}]] * 3


@pytest.mark.parametrize(
    ("native", "reason"),
    [
        ("end_turn", "stop"), ("stop_sequence", "stop"), ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"), ("content_filtered", "content_filter"),
        ("something_new", "something_new"),
    ],
)  # fmt: skip
def test_stop_reasons_are_those_of_chat_completions(native: str, reason: str) -> None:
    read = BEDROCK_CONVERSE.read_response({"stopReason": native}, content=True)
    assert (read.finish_reasons, read.failure) == ([reason], None)


def test_malformed_output_is_a_failure() -> None:
    read = BEDROCK_CONVERSE.read_response({"stopReason": "malformed_tool_use"}, content=True)
    assert (read.finish_reasons, read.failure) == (["error"], Failure(type="malformed_tool_use"))


def test_out_of_range_parameters_are_reported() -> None:
    request = BEDROCK_CONVERSE.read_request({"inferenceConfig": {"temperature": 1.5, "maxTokens": 5}}, content=True)
    assert request.validation_errors == ["temperature: float 1.5 given, 0 to 1 is allowed; sent as it is"]


def _with_new_fields(value: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield ``value`` with an unknown field in each of its objects, and the path of that object."""
    if isinstance(value, dict):
        yield at, {**value, "future": "from-2027"}
        for name, inner in value.items():
            yield from ((path, {**value, name: changed}) for path, changed in _with_new_fields(inner, (*at, name)))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            for path, changed in _with_new_fields(inner, (*at, "[]")):
                yield path, [*value[:index], changed, *value[index + 1 :]]


@pytest.mark.parametrize("name", RECORDINGS)
def test_unknown_fields_of_every_object_are_kept(name: str) -> None:
    recording = RECORDINGS[name]
    read = {"request": BEDROCK_CONVERSE.read_request, "response": BEDROCK_CONVERSE.read_response}
    lost = {
        (side, *path)
        for side in read
        for path, changed in _with_new_fields(recording.get(side))
        if "from-2027" not in str(read[side](changed, content=True))
    }
    # A tool is a union: an object whose key is its kind.
    assert lost <= {("request", "toolConfig", "tools", "[]")}
