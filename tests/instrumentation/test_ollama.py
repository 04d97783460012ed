from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import spancast
from spancast.testing import CapturedSpans, ReplayServer, Reply
from spancast.testing.spans import attributes

ollama = pytest.importorskip("ollama")
RECORDINGS = Path(__file__).parents[1] / "recordings/ollama_chat"
MESSAGES: list[Any] = [{"role": "user", "content": "hi"}]


def recording(name: str) -> dict[str, Any]:
    return json.loads((RECORDINGS / f"{name}.json").read_text())


@pytest.fixture
def client(server: ReplayServer) -> Any:
    made = ollama.Client(server.url)
    yield spancast.instrument(made)
    made._client.close()


def test_request_and_stream_are_recorded(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    case = recording("tools.stream")
    server.reply(Reply.stream(case["stream"], ndjson=True))
    list(client.chat(**case["request"]))
    found = attributes(spans.one())
    assert found["gen_ai.output.messages"][0]["parts"] == [
        {"type": "reasoning", "content": "They want weather."},
        {"type": "text", "content": "Looking."},
        {"type": "tool_call", "id": None, "name": "weather", "arguments": {"city": "Oslo"}},
    ]
    image = found["gen_ai.input.messages"][1]["parts"][1]
    assert (image["mime_type"], image["byte_size"]) == ("image/png", 8)
    assert (
        found.items()
        >= {
            "gen_ai.provider.name": "ollama",
            "gen_ai.request.max_tokens": 10,
            "gen_ai.request.temperature": 0.5,
            "spancast.request.num_ctx": 2048,
            "gen_ai.output.type": "json",
            # Ollama says "stop" after tool calls, too.
            "gen_ai.response.finish_reasons": ["tool_calls"],
            "gen_ai.usage.input_tokens": 21,
            "gen_ai.usage.output_tokens": 9,
            "spancast.usage.load_duration": 100,
        }.items()
    )


def test_fields_that_the_models_of_the_sdk_drop_are_recorded(
    client: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    answer = {**recording("real_text")["response"], "something_new": "kept"}
    server.reply(Reply.json(answer), Reply.stream([answer], ndjson=True))
    client.chat(model="m-1", messages=MESSAGES)
    list(client.chat(model="m-1", messages=MESSAGES, stream=True))
    assert [attributes(span)["spancast.response.something_new"] for span in spans.calls()] == ["kept", "kept"]


def test_error_line_in_a_stream_is_the_failure_of_the_span(
    client: Any, server: ReplayServer, spans: CapturedSpans
) -> None:
    server.reply(Reply.stream(recording("out_of_memory.stream")["stream"], ndjson=True))
    with pytest.raises(ollama.ResponseError):
        list(client.chat(model="m-1", messages=MESSAGES, stream=True))
    span = spans.one()
    assert not span.status.is_unset
    found = attributes(span)
    assert found["gen_ai.output.messages"][0]["parts"][-1] == {"type": "text", "content": "Hel"}
    assert "spancast.response.status_code" not in found


def test_keys_of_one_call_do_not_reach_another(client: Any, spans: CapturedSpans) -> None:
    first = client.chat(model="m-1", messages=MESSAGES, stream=True, trace={"generation_name": "first"})
    client.chat(model="m-1", messages=MESSAGES)
    list(first)
    assert [span.name for span in spans.calls()] == ["chat m-1", "first"]


def test_functions_of_the_module_are_recorded(
    server: ReplayServer, spans: CapturedSpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ollama.Client(server.url)
    monkeypatch.setattr(ollama.chat.__self__, "_client", made._client)
    spancast.instrument("ollama")
    with spancast.trace(session_id="chat-42"):
        ollama.chat("m-1", MESSAGES)
        assert len(list(ollama.generate("m-1", "hi", stream=True))) == 3
    spancast.uninstrument("ollama")
    made._client.close()
    assert [span.name for span in spans.calls()] == ["chat m-1", "text_completion m-1"]
    assert [attributes(span)["session.id"] for span in spans.calls()] == ["chat-42", "chat-42"]


def test_other_requests_are_not_recorded(client: Any, server: ReplayServer, spans: CapturedSpans) -> None:
    server.reply(Reply.json({"models": []}))
    assert client.list().models == []
    assert spans.all() == []
