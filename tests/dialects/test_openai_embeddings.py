from __future__ import annotations

from typing import Any

import pytest
from tests.dialects.streams import recordings

from spancast.dialects.openai_embeddings import OPENAI_EMBEDDINGS
from spancast.model.call import Failure, Request, Response


def text(content: str) -> dict[str, Any]:
    return {"type": "text", "content": content}


def user(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "parts": list(parts)}]


IMAGE = {"type": "uri", "modality": "image", "uri": "https://example.com/cat.png"}
EXPECTED: dict[str, tuple[Request, Response]] = {
    "texts": (
        Request(
            model="text-embedding-3-small",
            messages=[*user(text("The food was delicious")), *user(text("and the waiter"))],
            attributes={"gen_ai.embeddings.dimension.count": 3, "gen_ai.request.encoding_formats": ["float"]},
        ),
        Response(
            model="text-embedding-3-small",
            usage={"gen_ai.usage.input_tokens": 8, "spancast.usage.total_tokens": 8},
            attributes={"spancast.response.object": "list", "gen_ai.embeddings.dimension.count": 3},
        ),
    ),
    "base64_tokens": (
        Request(
            model="text-embedding-3-large",
            messages=[*user({"type": "tokens", "count": 3}), *user({"type": "tokens", "count": 2})],
            attributes={"gen_ai.request.encoding_formats": ["base64"]},
        ),
        Response(
            model="text-embedding-3-large",
            usage={"gen_ai.usage.input_tokens": 5, "spancast.usage.total_tokens": 5},
            attributes={"spancast.response.object": "list"},
        ),
    ),
    "mistral": (
        Request(
            model="mistral-embed",
            messages=user(text("a")),
            attributes={"gen_ai.embeddings.dimension.count": 256, "spancast.request.output_dtype": "int8"},
        ),
        Response(
            id="e-1",
            model="mistral-embed",
            usage={
                "gen_ai.usage.input_tokens": 3, "spancast.usage.total_tokens": 3, "spancast.usage.completion_tokens": 0,
            },
            attributes={"spancast.response.object": "list"},
        ),
    ),
    "openrouter": (
        Request(
            model="openai/text-embedding-3-small",
            messages=user(text("a cat"), IMAGE),
            attributes={"spancast.request.provider": '{"order":["openai"]}'},
        ),
        Response(
            id="gen-emb-1",
            model="openai/text-embedding-3-small",
            usage={"gen_ai.usage.input_tokens": 7, "spancast.usage.total_tokens": 7, "spancast.usage.cost": 1.4e-07},
            attributes={
                "spancast.response.object": "list", "spancast.response.provider": "OpenAI",
                "gen_ai.embeddings.dimension.count": 2,
            },
        ),
    ),
    "error": (
        Request(model="m-1", messages=user(text("hi"))),
        Response(
            attributes={
                "spancast.response.error": '{"code":429,"metadata":{"error_type":"rate_limit_exceeded"}}'
            },
            failure=Failure(type="rate_limit_exceeded", message="Rate limit exceeded"),
        ),
    ),
}  # fmt: skip


def test_every_recording_is_expected() -> None:
    assert set(recordings("openai_embeddings")) == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_recording_is_read_without_vectors(name: str) -> None:
    case = recordings("openai_embeddings")[name]
    found = (
        OPENAI_EMBEDDINGS.read_request(case["request"], content=True),
        OPENAI_EMBEDDINGS.read_response(case["response"], content=True),
    )
    assert found == EXPECTED[name]


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ("hi", [text("hi")]),
        (["hi"], [text("hi")]),
        ([1, 2, 3], [{"type": "tokens", "count": 3}]),
        ([], None),
        (None, None),
        (7, None),
    ],
)
def test_one_input_of_each_form_is_one_message(given: Any, parts: Any) -> None:
    messages = OPENAI_EMBEDDINGS.read_request({"model": "m", "input": given}, content=True).messages
    assert messages == ([] if parts is None else user(*parts))
