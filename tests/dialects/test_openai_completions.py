from __future__ import annotations

import pytest
from tests.dialects.streams import read_stream, recordings

from spancast.dialects.openai_chat.completions import OPENAI_COMPLETIONS
from spancast.model.call import Request, Response

CREATED = {"spancast.response.created": 1790700000, "spancast.response.object": "text_completion"}


def test_several_prompts_are_a_message_and_a_choice_each() -> None:
    case = recordings("openai_completions")["prompts"]
    assert OPENAI_COMPLETIONS.read_request(case["request"], content=True) == Request(
        model="gpt-3.5-turbo-instruct",
        messages=[
            {"role": "user", "parts": [{"type": "text", "content": "One and"}]},
            {"role": "user", "parts": [{"type": "text", "content": "Two and"}]},
        ],
        attributes={
            "spancast.request.best_of": 2, "spancast.request.echo": False, "spancast.request.logprobs": 1,
            "gen_ai.request.max_tokens": 4, "gen_ai.request.temperature": 0.2, "gen_ai.request.seed": 7,
            "gen_ai.request.stop_sequences": ["\n"],
        },
    )  # fmt: skip
    assert OPENAI_COMPLETIONS.read_response(case["response"], content=True) == Response(
        id="cmpl-2",
        model="gpt-3.5-turbo-instruct",
        finish_reasons=["stop", "length"],
        messages=[
            {"role": "assistant", "parts": [{"type": "text", "content": " one"}], "finish_reason": "stop"},
            {"role": "assistant", "parts": [{"type": "text", "content": " two"}], "finish_reason": "length"},
        ],
        usage={"gen_ai.usage.input_tokens": 4, "gen_ai.usage.output_tokens": 2, "spancast.usage.total_tokens": 6},
        attributes={
            **CREATED, "openai.response.system_fingerprint": "fp_1",
            "spancast.response.logprobs":
                '[{"tokens":[" one"],"token_logprobs":[-0.1],"top_logprobs":[{" one":-0.1}],"text_offset":[7]},null]',
        },
    )  # fmt: skip


@pytest.mark.parametrize("content", [True, False])
def test_stream_equals_the_complete_response(*, content: bool) -> None:
    cases = recordings("openai_completions")
    streamed = read_stream(OPENAI_COMPLETIONS, cases["text.stream"]["stream"], content=content)
    assert streamed == OPENAI_COMPLETIONS.read_response(cases["text"]["response"], content=content)
    assert streamed.messages == (
        [{"role": "assistant", "parts": [{"type": "text", "content": " Paris, of course."}], "finish_reason": "stop"}]
        if content
        else []
    )


def test_prompt_of_token_numbers_stays_a_parameter() -> None:
    request = OPENAI_COMPLETIONS.read_request({"model": "m", "prompt": [[1, 2], [3]]}, content=True)
    assert (request.messages, request.attributes) == ([], {"spancast.request.prompt": "[[1,2],[3]]"})
