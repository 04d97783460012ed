from __future__ import annotations

from typing import Any

import pytest
from tests.dialects.streams import check_request, check_response, read_stream, recordings

from spancast.dialects.bedrock_invoke.families import operation_of
from spancast.dialects.bedrock_invoke.reader import BEDROCK_INVOKE
from spancast.model.call import Failure, Response
from spancast.testing import check_dialect

RECORDINGS = recordings("bedrock_invoke")


def text(content: str) -> dict[str, Any]:
    return {"type": "text", "content": content}


def user(*contents: str) -> list[dict[str, Any]]:
    return [{"role": "user", "parts": [text(content)]} for content in contents]


def answer(reason: str, *parts: Any) -> list[dict[str, Any]]:
    return [{"role": "assistant", "parts": list(parts), "finish_reason": reason}]


def usage(sent: int, received: int, **more: int) -> dict[str, int]:
    return {"gen_ai.usage.input_tokens": sent, "gen_ai.usage.output_tokens": received, **more}


CACHED = {"gen_ai.usage.cache_read.input_tokens": 4}
SAMPLING = {"gen_ai.request.max_tokens": 10, "gen_ai.request.temperature": 0.5, "gen_ai.request.top_p": 0.9}
LOOKING = (
    text("Looking it up."),
    {"type": "tool_call", "id": "c1", "name": "weather", "arguments": {"city": "Oslo"}},
)
ROME = (
    text("It is sunny in Rome."),
    {"type": "tool_call", "id": None, "name": "weather", "arguments": {"city": "Rome"}},
)

READ: dict[str, tuple[str, list[Any], dict[str, Any], list[Any], list[str], dict[str, int]]] = {
    # operation, input messages, request attributes, output messages, finish reasons, usage
    "anthropic": ("chat", user("hi"), {"gen_ai.request.max_tokens": 10}, answer("stop", text("Hi.")), ["stop"],
                  usage(13, 2, **CACHED)),
    "nova": ("chat", user("hi"), {**SAMPLING, "gen_ai.request.top_k": 5, "gen_ai.request.stop_sequences": ["END"]},
             answer("stop", text("Hi.")), ["stop"], usage(3, 2)),
    "llama": ("text_completion", user("<|begin_of_text|>hi"), SAMPLING, answer("stop", text("Hi.")), ["stop"],
              usage(3, 2)),
    "mistral": ("text_completion", user("<s>[INST] hi [/INST]"),
                {**SAMPLING, "gen_ai.request.top_k": 5, "gen_ai.request.stop_sequences": ["END"]},
                answer("stop", text("Hi.")), ["stop"], {}),
    "mistral_chat": ("chat", user("What is the weather in Oslo?"), {"gen_ai.request.max_tokens": 64},
                     answer("tool_call", *LOOKING), ["tool_calls"], {}),
    "titan": ("text_completion", user("hi"), {**SAMPLING, "gen_ai.request.stop_sequences": ["END"]},
              answer("stop", text("Hi.")), ["stop"], usage(3, 2)),
    "command": ("text_completion", user("Say hello, please."),
                {"gen_ai.request.max_tokens": 20, "gen_ai.request.top_p": 0.9, "gen_ai.request.top_k": 5,
                 "gen_ai.request.choice.count": 2, "gen_ai.request.stop_sequences": ["END"]},
                [*answer("stop", text("Hello to you.")), *answer("length", text("Hi there, friend."))],
                ["stop", "length"], {}),
    "command_r": ("chat",
                  [*user("What is the weather in Oslo?"), {"role": "assistant", "parts": [text("It snows there.")]},
                   *user("And in Rome?"),
                   {"role": "tool", "parts": [{"type": "tool_call_response", "id": None,
                                               "response": [{"temperature": 20}],
                                               "call": {"name": "weather", "parameters": {"city": "Rome"}}}]}],
                  {"gen_ai.request.max_tokens": 20, "gen_ai.request.temperature": 0.3}, answer("stop", *ROME),
                  ["stop"], usage(12, 4)),
    "claude_text": ("text_completion", user("\n\nHuman: Say hello.\n\nAssistant:"),
                    {"gen_ai.request.max_tokens": 20, "gen_ai.request.top_k": 250},
                    answer("stop", text(" Hello to you.")), ["stop"], {}),
    "titan_embed": ("embeddings", user("The food was delicious."), {"gen_ai.embeddings.dimension.count": 256}, [], [],
                    {"gen_ai.usage.input_tokens": 6}),
    "cohere_embed": ("embeddings", user("The food was delicious.", "and the waiter too"),
                     {"gen_ai.request.encoding_formats": ["float"]}, [], [], {}),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_every_family_is_read_by_its_keys(name: str) -> None:
    operation, asked, attributes, answered, reasons, counts = READ[name]
    recording = RECORDINGS[name]
    request = BEDROCK_INVOKE.read_request(recording["request"], content=True)
    response = BEDROCK_INVOKE.read_response(recording["response"], content=True)
    assert operation_of(recording["request"]) == operation
    assert request.messages == asked
    assert request.attributes.items() >= attributes.items()
    assert "openai.api.type" not in request.attributes
    assert (response.messages, response.finish_reasons) == (answered, reasons)
    assert response.usage.items() >= counts.items()


@pytest.mark.parametrize("name", [name for name in READ if not name.endswith("embed")])
def test_family_is_found_without_the_name_of_the_model(name: str) -> None:
    """The ARN of an application's inference profile names no vendor."""
    named = RECORDINGS[name]["request"]
    unnamed = {**named, "model": "arn:aws:bedrock:us-east-1:1:application-inference-profile/abc123"}
    assert operation_of(unnamed) == operation_of(named)
    read, known = (BEDROCK_INVOKE.read_request(body, content=True) for body in (unnamed, named))
    assert (read.messages, read.attributes) == (known.messages, known.attributes)


@pytest.mark.parametrize("name", [name for name in RECORDINGS if f"{name}.stream" in RECORDINGS])
def test_stream_gives_the_response_and_the_metrics(name: str) -> None:
    whole = BEDROCK_INVOKE.read_response(RECORDINGS[name]["response"], content=True)
    events = RECORDINGS[f"{name}.stream"]["stream"]
    streamed = read_stream(BEDROCK_INVOKE, events)
    assert (streamed.messages, streamed.finish_reasons) == (whole.messages, whole.finish_reasons)
    metrics = events[-1].get("amazon-bedrock-invocationMetrics")
    if metrics:
        assert streamed.attributes["spancast.response.invocationLatency"] == metrics["invocationLatency"]
        assert streamed.usage["gen_ai.usage.output_tokens"] == metrics["outputTokenCount"]


@pytest.mark.parametrize("name", RECORDINGS)
def test_messages_are_valid(name: str) -> None:
    recording = RECORDINGS[name]
    check_request(BEDROCK_INVOKE.read_request(recording["request"], content=True))
    if "response" in recording:
        check_response(BEDROCK_INVOKE.read_response(recording["response"], content=True))
    else:
        check_response(read_stream(BEDROCK_INVOKE, recording["stream"]))


def test_dialect_keeps_the_contract() -> None:
    check_dialect(BEDROCK_INVOKE, RECORDINGS)


def test_metrics_count_where_the_body_does_not() -> None:
    chunks = [
        {"outputs": [{"text": "Hi.", "stop_reason": "stop"}],
         "amazon-bedrock-invocationMetrics": {"inputTokenCount": 5, "outputTokenCount": 2,
                                              "cacheReadInputTokenCount": 100, "invocationLatency": 30}},
    ]  # fmt: skip
    assert read_stream(BEDROCK_INVOKE, chunks).usage == {
        "gen_ai.usage.input_tokens": 105, "gen_ai.usage.output_tokens": 2,
        "gen_ai.usage.cache_read.input_tokens": 100,
    }  # fmt: skip


@pytest.mark.parametrize("name", [name for name in RECORDINGS if name.endswith(".stream")])
def test_exception_ends_a_stream_of_any_family(name: str) -> None:
    chunks = RECORDINGS[name]["stream"][:-1]
    read = read_stream(BEDROCK_INVOKE, [*chunks, {"error": {"type": "throttlingException", "message": "Slow down."}}])
    assert read.failure == Failure(type="throttlingException", message="Slow down.")
    assert read.finish_reasons == ["error"]
    assert {message["finish_reason"] for message in read.messages} <= {"error"}


@pytest.mark.parametrize("name", ["anthropic", "nova", "llama", "titan"])
def test_guardrail_that_intervened_is_the_finish_reason(name: str) -> None:
    action = {"amazon-bedrock-guardrailAction": "INTERVENED", "amazon-bedrock-trace": {"guardrail": {}}}
    whole = BEDROCK_INVOKE.read_response({**RECORDINGS[name]["response"], **action}, content=True)
    *events, last = RECORDINGS[f"{name}.stream"]["stream"]
    for read in (whole, read_stream(BEDROCK_INVOKE, [*events, {**last, **action}])):
        assert read.finish_reasons == ["content_filter"]
        assert [message["finish_reason"] for message in read.messages] == ["content_filter"]
        assert read.attributes["spancast.response.amazon-bedrock-guardrailAction"] == "INTERVENED"


def test_vectors_are_not_recorded() -> None:
    for name in ("titan_embed", "cohere_embed"):
        read = BEDROCK_INVOKE.read_response(RECORDINGS[name]["response"], content=True)
        assert "0.125" not in str(read)
        assert "-0.25" not in str(read)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ({"text": {"value": "hi", "truncationMode": "END"}}, {"type": "text", "content": "hi", "truncationMode": "END"}),
        ({"image": {"format": "png", "source": {"bytes": "AAAA"}, "detailLevel": "STANDARD_IMAGE"}},
         {"modality": "image", "mime_type": "image/png", "byte_size": 3, "detailLevel": "STANDARD_IMAGE"}),
        ({"video": {"format": "mp4", "source": {"s3Location": {"uri": "s3://b/v.mp4"}}}},
         {"type": "uri", "modality": "video", "mime_type": "video/mp4", "uri": "s3://b/v.mp4"}),
    ],
)  # fmt: skip
def test_content_of_an_embedding_of_nova_is_its_input(content: Any, part: dict[str, Any]) -> None:
    given = {"embeddingPurpose": "GENERIC_INDEX", "embeddingDimension": 256, **content}
    body = {"taskType": "SINGLE_EMBEDDING", "singleEmbeddingParams": given}
    read = BEDROCK_INVOKE.read_request(body, content=True)
    assert read.attributes == {
        "spancast.request.taskType": "SINGLE_EMBEDDING",
        "spancast.request.embeddingPurpose": "GENERIC_INDEX",
        "gen_ai.embeddings.dimension.count": 256,
    }
    (message,) = read.messages
    assert message["parts"][0].items() >= part.items()
    assert BEDROCK_INVOKE.for_request(body).operation == "embeddings"


def test_unknown_format_keeps_its_fields() -> None:
    recording = RECORDINGS["unknown"]
    request = BEDROCK_INVOKE.read_request({**recording["request"], "style": {"name": "oil"}}, content=True)
    assert request.messages == user("Paint a cat, please.")
    assert request.attributes == {"spancast.request.steps": 30, "spancast.request.style": '{"name":"oil"}'}
    read = BEDROCK_INVOKE.read_response({**recording["response"], "result_of_filter": {"safe": True}}, content=True)
    assert read.messages[0]["parts"][0].items() >= {"type": "uri", "modality": "image", "byte_size": 4}.items()
    assert read.attributes == {
        "spancast.response.seed": 7, "spancast.response.result_of_filter": '{"safe":true}',
    }  # fmt: skip
    assert read_stream(BEDROCK_INVOKE, []) == Response()


@pytest.mark.parametrize(
    ("model", "body", "operation"),
    [
        ("amazon.nova-canvas-v1:0", {"taskType": "TEXT_IMAGE", "textToImageParams": {"text": "A cat."}}, "generate_content"),
        ("stability.stable-image-core-v1:0", {"prompt": "A cat."}, "generate_content"),
        ("amazon.titan-text-lite-v1", {"inputText": "hi"}, "text_completion"),
        ("arn:aws:bedrock:us-east-1:1:provisioned-model/abc", {"inputText": "hi"}, "embeddings"),
        ("amazon.titan-embed-image-v1", {"inputText": "hi", "inputImage": "iVBORw=="}, "embeddings"),
    ],
)  # fmt: skip
def test_operation_is_that_of_the_body_and_the_model(model: str, body: dict[str, Any], operation: str) -> None:
    assert operation_of({**body, "model": model}) == operation


@pytest.mark.parametrize(
    ("name", "held_by"), [("mistral", "outputs"), ("titan", "results"), ("command", "generations")]
)
def test_unknown_fields_of_a_generated_text_are_kept(name: str, held_by: str) -> None:
    given = RECORDINGS[name]["response"]
    grown = {**given, held_by: [{**one, "novelty": {"score": 0.5}} for one in given[held_by]]}
    known, read = (BEDROCK_INVOKE.read_response(body, content=True) for body in (given, grown))
    assert read.messages == [{**message, "novelty": {"score": 0.5}} for message in known.messages]
    if len(read.messages) == 1:
        assert read_stream(BEDROCK_INVOKE, [grown]).messages == read.messages
