"""Conversations of mistralai: beginning, continuing and restarting one, whole and streamed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.dialects.streams import check_request, check_response, read_stream, recordings

import spancast
from spancast.dialects.mistral.conversations import MISTRAL_CONVERSATIONS
from spancast.testing import CapturedSpans, ReplayServer, Reply
from spancast.testing.spans import attributes

mistral = pytest.importorskip("mistralai.client")
CASES = recordings("mistral_conversations")
APPENDED: dict[str, Any] = {"conversation_id": "conv-7", "inputs": "hi"}
RESTARTED: dict[str, Any] = {**APPENDED, "from_entry_id": "m1"}


@pytest.fixture
def client(server: ReplayServer) -> Any:
    with mistral.Mistral(api_key="test", server_url=server.url) as made:
        yield spancast.instrument(made)


def test_request_has_its_entries_as_messages() -> None:
    request = MISTRAL_CONVERSATIONS.read_request(CASES["tools"]["request"], content=True)
    check_request(request)
    assert request.messages == [
        {
            "role": "user",
            "parts": [
                {"type": "text", "content": "Who won?"},
                {"type": "uri", "modality": "image", "uri": "https://example.com/a.png"},
            ],
        },
        {
            "role": "assistant",
            "parts": [{"type": "tool_call", "id": "c1", "name": "lookup", "arguments": {"year": 2025}}],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "Nobody"}]},
        {"role": "assistant", "parts": [{"type": "text", "content": "Nobody."}]},
        {"role": "user", "parts": [{"type": "text", "content": "And this year?"}]},
    ]
    assert request.system_instructions == [{"type": "text", "content": "Brief."}]
    assert [tool["name"] for tool in request.tools] == ["web_search", "lookup"]
    assert request.attributes == {
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 90,
        "gen_ai.request.seed": 7,
        "gen_ai.request.stop_sequences": ["END"],
        "spancast.request.tool_choice": "auto",
        "spancast.request.store": True,
        "spancast.request.handoff_execution": "server",
    }


def test_stream_is_read_as_the_whole_response() -> None:
    whole = MISTRAL_CONVERSATIONS.read_response(CASES["tools"]["response"], content=True)
    check_response(whole)
    call = {"type": "web_search", "arguments": {"query": "winner 2026"}}
    assert whole.messages[0] == {
        "role": "assistant",
        "finish_reason": "tool_call",
        "parts": [
            {"type": "server_tool_call", "id": "t1", "name": "web_search", "server_tool_call": call},
            {
                "type": "server_tool_call_response",
                "id": "t1",
                "server_tool_call_response": {"hits": 3, "type": "web_search"},
            },
            {"type": "text", "content": "Oslo won"},
            {"type": "tool_reference", "tool": "web_search", "title": "News", "url": "https://example.com/n"},
            {"type": "text", "content": "."},
            {"type": "tool_call", "id": "c2", "name": "lookup", "arguments": {"year": 2026}},
        ],
    }
    assert (whole.model, whole.conversation_id, whole.finish_reasons) == (
        "mistral-medium-2508", "conv-7", ["tool_calls"],
    )  # fmt: skip
    assert read_stream(MISTRAL_CONVERSATIONS, CASES["tools.stream"]["stream"]) == whole
    cut = read_stream(MISTRAL_CONVERSATIONS, CASES["tools.stream"]["stream"][:-1])
    assert (cut.finish_reasons, cut.usage) == ([], {})


def test_error_event_is_the_failure_of_the_call(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    server.reply(Reply.stream(CASES["error.stream"]["stream"]))
    with client.beta.conversations.start_stream(agent_id="ag-1", inputs="hi") as stream:
        list(stream)
    found = attributes(spans.one())
    assert (found["error.type"], found["spancast.request.agent_id"]) == ("503", "ag-1")
    assert found["gen_ai.output.messages"][0]["parts"] == [{"type": "reasoning", "content": "Hmm."}]


@pytest.mark.parametrize("way", ["whole", "stream"])
@pytest.mark.parametrize(("method", "given"), [("append", APPENDED), ("restart", RESTARTED)], ids=["append", "restart"])
async def test_continued_conversation_has_its_id_and_its_entries(
    method: str, given: dict[str, Any], way: str, client: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    case = CASES["tools"]["response"], CASES["tools.stream"]["stream"]
    for _ in range(2):
        server.reply(Reply.json(case[0]) if way == "whole" else Reply.stream(case[1]))
    name = method if way == "whole" else f"{method}_stream"
    result = getattr(client.beta.conversations, name)(**given)
    async with client:
        awaited = await getattr(client.beta.conversations, f"{name}_async")(**given)
        if way == "stream":
            assert len([event async for event in awaited]) == len(list(result)) == len(case[1])
    assert [request.path for request in server.requests] == [
        f"/v1/conversations/conv-7{'/restart' if method == 'restart' else ''}"
    ] * 2
    for span in spans.all():
        found = attributes(span)
        assert found["gen_ai.conversation.id"] == "conv-7"
        assert found["gen_ai.input.messages"] == [{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]
        assert found["gen_ai.response.finish_reasons"] == ["tool_calls"]
        assert found["gen_ai.usage.output_tokens"] == 12
        assert found.get("spancast.request.from_entry_id") == given.get("from_entry_id")
    assert len(spans.all()) == 2


def test_id_in_the_path_is_on_the_span_of_a_refused_call(
    client: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    server.reply(Reply.error(429))
    with pytest.raises(mistral.errors.SDKError):
        client.beta.conversations.append(**APPENDED)
    assert attributes(spans.one())["gen_ai.conversation.id"] == "conv-7"


def test_session_id_of_the_caller_takes_precedence(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    client.beta.conversations.start(model="m-1", inputs="hi", session_id="chat-42", metadata={"a": 1})
    assert attributes(spans.one())["gen_ai.conversation.id"] == "chat-42"
    assert server.requests[0].body["metadata"] == {"a": 1}
    assert "session_id" not in json.dumps(server.requests[0].body)
