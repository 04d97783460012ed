from __future__ import annotations

import json
from typing import Any

import pytest
from tests.dialects.streams import check_request, check_response, read_stream, recordings, texts_of

from spancast.dialects.gemini_interactions.answers import interaction_answer, interaction_events
from spancast.dialects.gemini_interactions.reader import GEMINI_FETCHED_INTERACTION, GEMINI_INTERACTIONS
from spancast.model.call import Failure, Request, Response
from spancast.model.privacy import without_content
from spancast.testing import check_dialect

CASES = recordings("gemini_interactions")


def asked(name: str) -> Request:
    return GEMINI_INTERACTIONS.read_request(CASES[name]["request"], content=True)


def answered(name: str, *, content: bool = True) -> Response:
    case = CASES[name]
    if "stream" in case:
        return read_stream(GEMINI_INTERACTIONS, case["stream"], content=content)
    return GEMINI_INTERACTIONS.read_response(case["response"], content=content)


def text(content: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "content": content, **more}


def thought(content: str) -> dict[str, Any]:
    return {"type": "reasoning", "content": content}


def test_steps_of_the_input_are_messages_by_their_role() -> None:
    call = {"type": "tool_call", "id": "fc-1", "name": "look", "arguments": {"what": "cat"}}
    result = {
        "type": "tool_call_response", "id": "fc-1", "name": "look", "is_error": False,
        "response": [text("a cat on a sofa")],
    }  # fmt: skip
    picture = {"type": "uri", "modality": "image", "uri": "gs://b/cat.png", "mime_type": "image/png"}
    assert asked("search").messages == [
        {"role": "user", "parts": [text("What is in this picture?"), picture]},
        {"role": "assistant", "parts": [thought(""), text("A cat, I will look it up."), call]},
        {"role": "tool", "parts": [result]},
        {"role": "user", "parts": [text("What is the weather in Oslo?")]},
    ]
    assert [message["role"] for message in asked("agent").messages] == ["user", "assistant", "user"]


def test_parameters_and_tools_have_their_names_and_no_credentials() -> None:
    assert asked("search").attributes == {
        "gen_ai.request.reasoning.level": "low", "gen_ai.output.type": "image",
        "spancast.request.thinking_summaries": "auto", "spancast.request.tool_choice": "auto",
        "spancast.request.response_modalities": ["text", "image"], "spancast.request.store": False,
        "spancast.request.background": False, "spancast.request.service_tier": "standard",
    }  # fmt: skip
    assert asked("search").tools == [
        {"type": "google_search", "name": "google_search"},
        {"type": "mcp_server", "name": "files", "url": "https://mcp.example.com/x"},
    ]
    assert asked("text.stream").attributes["gen_ai.request.previous_response.id"] == "int-0"
    assert asked("agent").attributes["gen_ai.agent.name"] == "deep-research-preview-04-2026"
    assert asked("steps").system_instructions == [text("Brief.")]


def test_tools_of_the_provider_and_media_are_parts_of_the_answer() -> None:
    (message,) = answered("search").messages
    citation = {
        "type": "url_citation", "url": "https://example.com/w", "title": "Weather", "start_index": 0, "end_index": 22,
    }  # fmt: skip
    assert message["parts"][:3] == [
        {
            "type": "server_tool_call", "id": "gs-1", "name": "google_search",
            "server_tool_call": {"type": "google_search", "arguments": {"queries": ["weather in Oslo"]}},
        },
        {
            "type": "server_tool_call_response", "id": "gs-1",
            "server_tool_call_response": {
                "type": "google_search", "result": [{"search_suggestions": "<div>weather in Oslo</div>"}],
            },
        },
        text("It is raining in Oslo.", annotations=[citation]),
    ]  # fmt: skip
    assert message["parts"][3]["modality"] == "image"
    assert message["parts"][3]["uri"].startswith("sha256:")


def test_usage_totals_include_thoughts_and_results_of_tools() -> None:
    assert answered("steps").usage == {
        "gen_ai.usage.input_tokens": 21, "gen_ai.usage.output_tokens": 21, "gen_ai.usage.reasoning.output_tokens": 12,
        "gen_ai.usage.cache_read.input_tokens": 8, "spancast.usage.total_tokens": 42,
        "spancast.usage.total_tool_use_tokens": 0, "gen_ai.usage.text.input_tokens": 21,
    }  # fmt: skip
    assert answered("search").usage == {
        "gen_ai.usage.input_tokens": 60, "gen_ai.usage.output_tokens": 30, "gen_ai.usage.reasoning.output_tokens": 0,
        "spancast.usage.total_tokens": 90, "spancast.usage.total_tool_use_tokens": 40,
        "gen_ai.usage.text.output_tokens": 20, "gen_ai.usage.image.output_tokens": 10,
        "spancast.usage.grounding_tool_count.google_search": 1,
    }  # fmt: skip
    assert without_content(dict(answered("search").usage)) == answered("search").usage


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("completed", "stop"), ("requires_action", "tool_calls"), ("incomplete", "length"),
        ("budget_exceeded", "length"), ("cancelled", "error"), ("in_progress", None), ("queued", None),
    ],
)  # fmt: skip
def test_status_is_the_finish_reason(status: str, reason: str | None) -> None:
    read = GEMINI_INTERACTIONS.read_response({"id": "i", "status": status}, content=True)
    assert read.finish_reasons == ([] if reason is None else [reason])
    assert read.attributes == {"spancast.response.status": status}
    fetched = GEMINI_FETCHED_INTERACTION.read_response({"id": "i", "status": status}, content=True)
    assert fetched.attributes == {"gen_ai.response.status": status}


@pytest.mark.parametrize(
    ("name", "failure"),
    [
        ("error", Failure(type="RESOURCE_EXHAUSTED", message="Quota exceeded (self-made).")),
        ("failed", Failure(type="model_overloaded", message="The model is overloaded.")),
        ("error_midstream.stream", Failure(type="quota_exceeded", message="Quota exceeded.")),
    ],
)
def test_error_of_each_form_is_the_failure(name: str, failure: Failure) -> None:
    read = answered(name)
    assert (read.failure, read.finish_reasons) == (failure, ["error"])


@pytest.mark.parametrize("content", [True, False])
def test_stream_gives_the_answer_of_the_whole(content: bool) -> None:
    assert answered("steps.stream", content=content) == answered("steps", content=content)
    answer = interaction_answer("Hello world")
    read = GEMINI_INTERACTIONS.read_response(answer, content=content)
    assert read_stream(GEMINI_INTERACTIONS, interaction_events(answer), content=content) == read


def test_version_1_is_read() -> None:
    assert answered("version_1").messages[0]["parts"] == [thought(""), text("Hi")]
    (message,) = answered("version_1_text.stream").messages
    assert message == {"role": "assistant", "parts": [text("Hi")], "finish_reason": "stop"}
    assert answered("version_1_text.stream").usage["gen_ai.usage.output_tokens"] == 1


def test_annotations_in_a_stream_belong_to_their_text() -> None:
    def delta(**fields: Any) -> dict[str, Any]:
        return {"event_type": "step.delta", "index": 0, "delta": fields}

    citation = {"type": "url_citation", "url": "https://example.com"}
    events = [
        {"event_type": "step.start", "index": 0, "step": {"type": "model_output"}},
        delta(type="text", text="a"), delta(type="text_annotation_delta", annotations=[citation]),
        delta(type="text", text="b"), delta(type="image", mime_type="image/png", uri="gs://b/x"),
        {"event_type": "step.start", "index": 1, "step": {"type": "code_execution_call", "id": "c"}},
        {"event_type": "step.delta", "index": 1, "delta": {"type": "code_execution_call", "arguments": {"code": "1"}}},
    ]  # fmt: skip
    (message,) = read_stream(GEMINI_INTERACTIONS, events).messages
    assert message["parts"] == [
        text("ab", annotations=[citation]),
        {"type": "uri", "modality": "image", "uri": "gs://b/x", "mime_type": "image/png"},
        {
            "type": "server_tool_call", "id": "c", "name": "code_execution",
            "server_tool_call": {"type": "code_execution", "arguments": {"code": "1"}},
        },
    ]  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_recording_is_valid_by_the_schemas_and_has_no_content_in_privacy_mode(name: str) -> None:
    check_request(asked(name))
    check_response(answered(name))
    left = json.dumps(without_content({**asked(name).attributes, **answered(name).attributes}))
    kept = {"gemini-3.8-flash", "deep-research-preview-04-2026", "2026-11-01T10:00:00Z"}
    assert not [one for one in texts_of([CASES[name]["request"].get("input")]) - kept if one in left]
    assert answered(name, content=False).messages == []


def test_dialect_follows_the_contract() -> None:
    check_dialect(GEMINI_INTERACTIONS, CASES)
