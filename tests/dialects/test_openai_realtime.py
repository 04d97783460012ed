"""The dialect of OpenAI Realtime: whole responses, and those assembled from events."""

from __future__ import annotations

import pytest
from tests.dialects.streams import read_stream, recordings

from spancast.dialects.openai_responses.realtime import OPENAI_REALTIME

CASES = recordings("openai_realtime")


def test_response_is_read_with_its_transcript_call_and_usage() -> None:
    read = OPENAI_REALTIME.read_response(CASES["audio"]["response"], content=True)
    (message,) = read.messages
    assert message["parts"][0]["content"] == "Hello there."
    assert message["parts"][1]["arguments"] == {"city": "Oslo"}
    assert (read.id, read.finish_reasons, read.failure) == ("resp_1", ["tool_calls"], None)
    assert read.usage.items() >= {
        "gen_ai.usage.input_tokens": 20, "gen_ai.usage.output_tokens": 10,
        "gen_ai.usage.cache_read.input_tokens": 4, "gen_ai.usage.audio.input_tokens": 15,
        "gen_ai.usage.audio.output_tokens": 8,
    }.items()  # fmt: skip
    assert read.attributes["gen_ai.conversation.id"] == "conv_1"
    assert not {name for name in read.attributes if "voice" in name or "status_details" in name}


def test_stream_gives_the_same_response() -> None:
    events = CASES["audio.stream"]["stream"]
    assert read_stream(OPENAI_REALTIME, events) == OPENAI_REALTIME.read_response(
        CASES["audio"]["response"], content=True
    )


@pytest.mark.parametrize("size", [3, 5, 7, 9])
def test_part_of_a_stream_has_what_arrived_and_no_audio(size: int) -> None:
    read = read_stream(OPENAI_REALTIME, CASES["audio.stream"]["stream"][:size])
    assert str(read.messages).startswith("[{'role': 'assistant', 'parts': [{'type': 'text', 'content': 'Hello ")
    assert "QUJDREVG" not in str(read)
    assert read.finish_reasons == ["error"]


def test_failed_and_interrupted_responses_have_their_reasons() -> None:
    failed = OPENAI_REALTIME.read_response(CASES["failed"]["response"], content=True)
    assert failed.failure is not None
    assert (failed.failure.type, failed.attributes["spancast.response.status"]) == ("overloaded", "failed")
    interrupted = OPENAI_REALTIME.read_response(CASES["interrupted"]["response"], content=True)
    assert (interrupted.failure, interrupted.finish_reasons) == (None, ["turn_detected"])


def test_request_has_instructions_tools_and_output_type() -> None:
    read = OPENAI_REALTIME.read_request(CASES["audio"]["request"], content=True)
    assert read.system_instructions == [{"type": "text", "content": "Be kind."}]
    assert read.tools[0]["name"] == "weather"
    assert read.attributes["gen_ai.output.type"] == "speech"
    assert read.attributes["openai.api.type"] == "realtime"
