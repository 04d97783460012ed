from __future__ import annotations

import json
from typing import Any

import pytest
from tests.dialects.streams import check_request, check_response, read_stream, recordings, texts_of

from spancast.dialects.gemini.answers import gemini_answer, gemini_chunks
from spancast.dialects.gemini.embeddings import GEMINI_EMBEDDINGS
from spancast.dialects.gemini.reader import GEMINI
from spancast.model.call import Failure, Request, Response
from spancast.model.privacy import without_content
from spancast.testing import check_dialect

CASES = recordings("gemini")
EMBEDDINGS = recordings("gemini_embeddings")


def asked(name: str) -> Request:
    return GEMINI.read_request(CASES[name]["request"], content=True)


def answered(name: str, *, content: bool = True) -> Response:
    case = CASES[name]
    if "stream" in case:
        return read_stream(GEMINI, case["stream"], content=content)
    return GEMINI.read_response(case["response"], content=content)


def text(content: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "content": content, **more}


def thought(content: str) -> dict[str, Any]:
    return {"type": "reasoning", "content": content}


def tool_call(name: str, arguments: Any, call_id: str | None = None) -> dict[str, Any]:
    return {"type": "tool_call", "id": call_id, "name": name, "arguments": arguments}


def test_every_parameter_has_its_name() -> None:
    assert asked("every_parameter").attributes == {
        "gen_ai.request.temperature": 0.5, "gen_ai.request.top_p": 0.9, "gen_ai.request.top_k": 40,
        "gen_ai.request.max_tokens": 100, "gen_ai.request.stop_sequences": ["END"], "gen_ai.request.seed": 7,
        "gen_ai.request.presence_penalty": 0.1, "gen_ai.request.frequency_penalty": 0.2, "gen_ai.output.type": "json",
        "spancast.request.include_thoughts": True, "spancast.request.thinking_budget": 128,
        "spancast.request.response_logprobs": True, "spancast.request.logprobs": 2,
        "spancast.request.response_mime_type": "application/json",
        "spancast.request.response_schema": '{"properties":{"a":{"type":"STRING"}},"type":"OBJECT"}',
        "spancast.request.safety_settings": '[{"category":"HARM_CATEGORY_HARASSMENT","threshold":"BLOCK_ONLY_HIGH"}]',
        "spancast.request.tool_config": '{"functionCallingConfig":{"mode":"ANY"}}',
    }  # fmt: skip
    assert asked("two_candidates").attributes == {
        "gen_ai.request.choice.count": 2, "gen_ai.request.reasoning.level": "LOW", "gen_ai.output.type": "text",
        "spancast.request.response_mime_type": "text/plain",
        # Samples of a voice are not recorded.
        "spancast.request.speech_config": '{"voiceConfig":{"replicatedVoiceConfig":{"mimeType":"audio/wav"}}}',
    }  # fmt: skip


def test_messages_have_roles_and_parts_of_the_conventions() -> None:
    request = asked("media")
    digest = "sha256:4c4b6a3be1314ab86138bef4314dde022e600960d8689a2c8f8631802d20dab6"
    result = {"type": "tool_call_response", "name": "look"}
    jpeg = "sha256:f55517e918c9f1ac538778a7d787f93b66102886b93464e5bf61b48527913dfd"
    assert request.system_instructions == [text("Be brief and kind.")]
    assert request.messages == [
        {
            "role": "user",
            "parts": [
                text("Describe these files."),
                {
                    "type": "uri", "modality": "image", "uri": digest, "byte_size": 8, "mime_type": "image/png",
                    "display_name": "cat.png",
                },
                {
                    "type": "uri", "modality": "video", "uri": "gs://bucket/film.mp4", "mime_type": "video/mp4",
                    "video_metadata": {"startOffset": "1s", "fps": 2},
                },
                {
                    "type": "uri", "modality": "document",
                    "uri": "https://generativelanguage.googleapis.com/v1beta/files/abc",
                },
            ],
        },
        {"role": "assistant", "parts": [tool_call("look", {"at": ["a", "b"]})]},
        {
            "role": "tool",
            "parts": [
                {
                    **result, "id": None, "response": {"result": "a cat on a sofa"},
                    "parts": [
                        {"type": "uri", "modality": "image", "uri": jpeg, "byte_size": 5, "mime_type": "image/jpeg"}
                    ],
                }
            ],
        },
        {
            "role": "user",
            "parts": [{**result, "id": "fc-9", "response": {"output": "a dog"}}, text("Is that all of it?")],
        },
    ]  # fmt: skip
    # Only results of functions: the message of a tool.
    assert [message["role"] for message in asked("every_parameter").messages] == ["user", "assistant", "tool"]


def test_tools_are_functions_and_tools_of_the_provider_without_credentials() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    assert asked("function_response").tools == [
        {
            "type": "function", "name": "weather", "description": "Weather.", "parameters": schema,
            "response_json_schema": {"type": "string"},
        }
    ]  # fmt: skip
    assert asked("code_execution").tools == [
        {"type": "code_execution", "name": "code_execution"},
        {
            "type": "google_search", "name": "google_search",
            "timeRangeFilter": {"startTime": "2026-01-01T00:00:00Z"},
        },
        {"type": "retrieval", "name": "retrieval", "externalApi": {"endpoint": "https://search.example.com"}},
    ]  # fmt: skip


def test_function_call_is_the_finish_reason_though_gemini_says_stop() -> None:
    read = answered("every_parameter")
    assert read.finish_reasons == answered("every_parameter", content=False).finish_reasons == ["tool_calls"]
    assert read.attributes == {
        "spancast.response.create_time": "2026-11-01T10:00:00Z",
        "spancast.response.native_finish_reasons": ["STOP"],
        "spancast.usage.traffic_type": "ON_DEMAND",
    }
    (message,) = read.messages
    assert message["parts"] == [
        thought("The user wants weather."), text("I will look."), tool_call("weather", {"city": "Oslo"}, "fc-1"),
    ]  # fmt: skip
    assert message["finish_reason"] == "tool_call"
    assert message["grounding_metadata"]["webSearchQueries"] == ["oslo weather"]
    assert message["citation_metadata"]["citationSources"][0]["uri"] == "https://example.com/a"


def test_usage_totals_include_thoughts_and_results_of_tools() -> None:
    assert answered("every_parameter").usage == {
        "gen_ai.usage.input_tokens": 21, "gen_ai.usage.output_tokens": 21, "gen_ai.usage.reasoning.output_tokens": 12,
        "gen_ai.usage.cache_read.input_tokens": 8, "spancast.usage.total_tokens": 42,
        "gen_ai.usage.text.input_tokens": 15, "gen_ai.usage.image.input_tokens": 6,
        "gen_ai.usage.text.output_tokens": 9, "spancast.usage.cache_tokens_details.text": 8,
        "spancast.usage.tool_use_prompt_token_count": 0,
    }  # fmt: skip
    assert answered("code_execution").usage == {
        "gen_ai.usage.input_tokens": 50, "gen_ai.usage.output_tokens": 50, "gen_ai.usage.reasoning.output_tokens": 30,
        "spancast.usage.total_tokens": 100, "gen_ai.usage.text.input_tokens": 6,
        "spancast.usage.prompt_tokens_details.document": 4, "spancast.usage.tool_use_prompt_token_count": 40,
        "spancast.usage.tool_use_prompt_tokens_details.text": 40,
    }  # fmt: skip


def test_thoughts_that_the_total_says_are_in_the_output_are_not_added() -> None:
    counts = {"promptTokenCount": 7, "candidatesTokenCount": 5, "thoughtsTokenCount": 3, "totalTokenCount": 12}
    assert GEMINI.read_response({"usageMetadata": counts}, content=True).usage["gen_ai.usage.output_tokens"] == 5


def test_blocked_prompt_is_filtered_and_no_failure() -> None:
    read = answered("blocked")
    assert (read.finish_reasons, read.failure, read.messages) == (["content_filter"], None, [])
    assert read.attributes["spancast.response.native_finish_reasons"] == ["SAFETY"]
    left = without_content(read.attributes)
    assert json.loads(left["spancast.response.prompt_feedback"]) == {"blockReason": "SAFETY"}


@pytest.mark.parametrize(
    ("native", "reason"),
    [
        ("STOP", "stop"), ("MAX_TOKENS", "length"), ("CONTINUATION", "length"), ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"), ("IMAGE_SAFETY", "content_filter"), ("MODEL_ARMOR", "content_filter"),
        ("OTHER", "error"), ("TOO_MANY_TOOL_CALLS", "error"), ("A_NEW_ONE", "A_NEW_ONE"),
    ],
)  # fmt: skip
def test_finish_reason_has_the_word_of_all_dialects(native: str, reason: str) -> None:
    answer = {"candidates": [{"content": {"parts": [{"text": "a"}]}, "finishReason": native}]}
    read = GEMINI.read_response(answer, content=True)
    assert read.finish_reasons == [reason]
    assert read.attributes["spancast.response.native_finish_reasons"] == [native]
    assert read.failure == (Failure(type=native) if reason == "error" else None)


def test_refused_answer_of_the_model_is_the_failure() -> None:
    read = answered("malformed_call")
    assert read.failure == Failure(type="MALFORMED_FUNCTION_CALL", message="Malformed function call: look(")
    assert read.finish_reasons == ["error"]


@pytest.mark.parametrize("name", ["error", "error_midstream.stream"])
def test_error_has_the_status_as_its_type(name: str) -> None:
    read = answered(name)
    assert read.failure == Failure(type="RESOURCE_EXHAUSTED", message="Quota exceeded for self-made test.")
    detail = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "2s"}
    assert json.loads(str(read.attributes["spancast.response.error"])) == {"code": 429, "details": [detail]}


def test_stream_cut_before_its_finish_reason_has_what_arrived() -> None:
    read = answered("cut.stream")
    assert read.finish_reasons == []
    assert read.messages == [{"role": "assistant", "parts": [thought("Thinking."), text("Hel")]}]
    # The last counts, not their sum.
    assert read.usage["gen_ai.usage.output_tokens"] == 4


def test_streamed_arguments_are_joined_by_path() -> None:
    (message,) = answered("streamed_arguments.stream").messages
    assert message["parts"] == [
        tool_call("look", {"place": {"city": "New York"}, "days": 3}, "fc-1"), tool_call("rest", {}),
    ]  # fmt: skip


def test_grounding_of_a_stream_is_that_of_all_its_chunks() -> None:
    def chunk(at: int, **more: Any) -> dict[str, Any]:
        grounding = {"groundingChunks": [{"web": {"uri": f"https://example.com/{at}"}}], "webSearchQueries": ["q"]}
        return {"candidates": [{"content": {"parts": [{"text": str(at)}]}, "groundingMetadata": grounding, **more}]}

    read = read_stream(GEMINI, [chunk(1), chunk(2, finishReason="STOP")])
    grounding = read.messages[0]["grounding_metadata"]
    assert [one["web"]["uri"][-1] for one in grounding["groundingChunks"]] == ["1", "2"]
    assert grounding["webSearchQueries"] == ["q"]


def test_array_of_chunks_is_a_stream_without_sse() -> None:
    chunks = CASES["thinking.stream"]["stream"]
    assert GEMINI.read_response(chunks, content=True) == answered("thinking.stream")


@pytest.mark.parametrize("name", [name for name in CASES if f"{name}.stream" in CASES])
def test_stream_gives_the_answer_of_the_whole(name: str) -> None:
    for content in (True, False):
        assert answered(f"{name}.stream", content=content) == answered(name, content=content)


def test_snake_case_is_read_like_camel_case() -> None:
    def snake(value: Any) -> Any:
        if isinstance(value, list):
            return [snake(item) for item in value]
        if not isinstance(value, dict):
            return value
        names = {name: "".join(f"_{c.lower()}" if c.isupper() else c for c in name) for name in value}
        return {names[name]: snake(item) for name, item in value.items()}

    for name, case in CASES.items():
        found = GEMINI.read_request(snake(case["request"]), content=True)
        assert found.messages == GEMINI.read_request(snake(snake(case["request"])), content=True).messages
        assert [m["role"] for m in found.messages] == [m["role"] for m in asked(name).messages]
        assert found.attributes.keys() == asked(name).attributes.keys()
        if "response" in case:
            assert GEMINI.read_response(snake(case["response"]), content=True).usage == answered(name).usage


@pytest.mark.parametrize("name", CASES)
def test_recording_is_valid_by_the_schemas_and_has_no_content_in_privacy_mode(name: str) -> None:
    check_request(asked(name))
    check_response(answered(name))
    found = {**asked(name).attributes, **answered(name).attributes, **answered(name).usage}
    left = json.dumps(without_content(found))
    case = CASES[name]
    answers = case.get("stream") or [case["response"]]
    content = [
        *(case["request"].get(part) for part in ("contents", "systemInstruction", "tools", "labels")),
        *(one.get("content") for answer in answers for one in answer.get("candidates", ())),
        *(one.get("groundingMetadata") for answer in answers for one in answer.get("candidates", ())),
    ]
    assert not [one for one in texts_of(content) if one in left]
    request = GEMINI.read_request(CASES[name]["request"], content=False)
    assert (request.messages, request.system_instructions, request.tools) == ([], [], [])
    assert answered(name, content=False).messages == []


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ("hi", [text("hi")]),
        ({"text": "hi"}, [text("hi")]),
        ({"role": "user", "parts": [{"text": "hi"}]}, [text("hi")]),
        ([["hi", {"text": "you"}]], [text("hi"), text("you")]),
        (
            [{"parts": [{"newKind": {"a": "b"}, "thoughtSignature": "c2ln"}]}],
            [{"type": "new_kind", "new_kind": {"a": "b"}}],
        ),
        ([{"parts": [{"text": "a"}, {"text": "", "thoughtSignature": "c2ln"}]}], [text("a")]),
    ],
)
def test_contents_of_each_form_are_one_message(given: Any, parts: Any) -> None:
    assert GEMINI.read_request({"contents": given}, content=True).messages == [{"role": "user", "parts": parts}]


@pytest.mark.parametrize("dialect", [GEMINI, GEMINI_EMBEDDINGS], ids=lambda dialect: dialect.name)
def test_dialect_follows_the_contract(dialect: Any) -> None:
    check_dialect(dialect, recordings(dialect.name))


def test_canned_answer_gives_the_same_span_whole_and_streamed() -> None:
    answer = gemini_answer("Hello world", reasoning="Think.", tool_calls=[("weather", {"city": "Oslo"})])
    assert read_stream(GEMINI, gemini_chunks(answer)) == GEMINI.read_response(answer, content=True)


EXPECTED: dict[str, tuple[list[Any], dict[str, Any], dict[str, Any]]] = {
    "batch": (
        [[text("a")], [text("b")]],
        {"gen_ai.embeddings.dimension.count": 2},
        {"gen_ai.usage.input_tokens": 2, "gen_ai.usage.text.input_tokens": 2, "spancast.usage.total_tokens": 2},
    ),
    "vertex": (
        [[text("the first text")], [text("the second text")]],
        {
            "gen_ai.embeddings.dimension.count": 2, "spancast.request.auto_truncate": True,
            "spancast.request.task_type": "RETRIEVAL_DOCUMENT",
        },
        {"gen_ai.usage.input_tokens": 7, "spancast.usage.billable_character_count": 29},
    ),
    "multimodal": (
        [[{"type": "uri", "modality": "image", "uri": "gs://b/scones.jpg", "mime_type": "image/jpeg"}]],
        {"gen_ai.embeddings.dimension.count": 2},
        {
            "gen_ai.usage.input_tokens": 258, "gen_ai.usage.image.input_tokens": 258,
            "spancast.usage.total_tokens": 258,
        },
    ),
    "error": ([[text("a")], [text("b")]], {"gen_ai.embeddings.dimension.count": 2}, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_embeddings_are_read_without_vectors(name: str) -> None:
    parts, attributes, usage = EXPECTED[name]
    request = GEMINI_EMBEDDINGS.read_request(EMBEDDINGS[name]["request"], content=True)
    response = GEMINI_EMBEDDINGS.read_response(EMBEDDINGS[name]["response"], content=True)
    assert [message["parts"] for message in request.messages] == parts
    assert request.attributes == attributes
    assert response.usage == usage
    assert (response.failure is None) == (name != "error")
    assert "values" not in repr(response)
