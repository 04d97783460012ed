"""``check_destination`` and ``check_dialect``: they pass what keeps the contract, and name what does not."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.dialects.streams import recordings

from spancast.destinations.protocol import Delivered, Outcome, Payload, Retry
from spancast.dialects.openai_chat.reader import OPENAI_CHAT
from spancast.dialects.registry import DIALECTS, find_dialect
from spancast.model.call import Request, Response
from spancast.testing import check_destination, check_dialect

SITE = Path(__file__).parents[1] / "extensions" / "site"
PATHS = {
    "openai_chat": "/v1/chat/completions",
    "openai_completions": "/v1/completions",
    "openai_embeddings": "/v1/embeddings",
    "openai_responses": "/v1/responses",
    "anthropic_messages": "/v1/messages",
    "cohere_chat": "/v2/chat",
    "cohere_chat_v1": "/v1/chat",
    "cohere_embed": "/v2/embed",
    "mistral_conversations": "/v1/conversations",
    "ollama_chat": "/api/chat",
    "ollama_generate": "/api/generate",
    "ollama_embed": "/api/embed",
    "xai_chat": "/xai_api.Chat/GetCompletion",
    "dashscope_chat": "/api/v1/services/aigc/text-generation/generation",
    "huggingface_generate": "/generate",
    "huggingface_embed": "/pipeline/feature-extraction",
    "replicate_prediction": "/v1/models/meta/llama/predictions",
    "gemini": "/v1beta/models/m-1:streamGenerateContent",
    "gemini_embeddings": "/v1beta/models/m-1:batchEmbedContents",
    "gemini_interactions": "/v1beta/interactions",
    "bedrock_converse": "/model/m-1/converse-stream",
    "bedrock_invoke": "/model/m-1/invoke-with-response-stream",
}


class Good:
    def deliver(self, payload: Payload, timeout_s: float) -> Any:
        assert payload.json
        return Delivered()


class Away(Good):
    def deliver(self, payload: Payload, timeout_s: float) -> Any:
        return Retry("nobody answers")


class Truthy(Good):
    def deliver(self, payload: Payload, timeout_s: float) -> Any:
        return True


class Choosy(Good):
    def deliver(self, payload: Payload, timeout_s: float) -> Any:
        return Retry("odd") if b"odd.text" in payload.json else None


class Untested(Good):
    def test_connection(self, timeout_s: float) -> Outcome:
        return Retry("later")


class Shown(Good):
    def __repr__(self) -> str:
        return "Shown(key='sk-secret')"


class Logging(Good):
    def deliver(self, payload: Payload, timeout_s: float) -> Any:
        logging.getLogger("spancast").warning("with sk-secret")


def test_good_destination_passes() -> None:
    check_destination(Good, unreachable=Away, secrets=["sk-secret"])
    check_destination(lambda: {"type": Good(), "privacy_mode": True})
    check_destination(lambda: {"type": "acme", "project": "p"})


@pytest.fixture(autouse=True)
def acme(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(SITE)
    yield
    for name in ("acme_llm", "acme_spancast"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"factory": Truthy, "timeout_s": 1.0}, "of 3 spans 0 were delivered"),
        ({"factory": Choosy, "timeout_s": 1.0}, "a span with odd values is still tried again"),
        ({"factory": Untested}, "test_connection: expected Delivered, got Retry"),
        ({"factory": Good, "unreachable": Good}, "spans were delivered to where no server is"),
        ({"factory": Shown, "secrets": ["sk-secret"]}, "a secret is in a log, a report or a representation"),
        ({"factory": Logging, "secrets": ["sk-secret"]}, "a secret is in a log, a report or a representation"),
    ],
)
def test_destination_that_breaks_the_contract_is_named(given: Any, expected: str) -> None:
    with pytest.raises(AssertionError, match=expected):
        check_destination(**given)


@pytest.mark.parametrize("name", DIALECTS)
def test_every_dialect_of_ours_passes(name: str) -> None:
    dialect = find_dialect(name)
    assert dialect is not None
    # A canned vector has no message, and Bedrock's is at the path of its chats. A web socket has no path.
    path = {"path": PATHS[name]} if name != "openai_realtime" else {}
    recorded = recordings(name).items()
    check_dialect(
        dialect, {case: {**recording, **({} if case.endswith("_embed") else path)} for case, recording in recorded}
    )


def test_dialect_of_an_installed_distribution_passes() -> None:
    import acme_spancast

    whole = {"request": {"model": "m", "prompt": "hi"}, "response": {"id": "a", "text": "Hello", "tokens": 2}}
    stream = {**whole, "stream": [{"id": "a", "text": "Hel"}, {"text": "lo"}, {"tokens": 2}]}
    del stream["response"]
    both = {"hello": {**whole, "path": "/models/m:generate"}, "hello.stream": {**stream, "path": "/models/m:stream"}}
    check_dialect(acme_spancast.DIALECT, both)


class Leaking(type(OPENAI_CHAT)):
    def read_response(self, answer: object, *, content: bool) -> Response:
        return super().read_response(answer, content=True)


class Changing(type(OPENAI_CHAT)):
    def read_request(self, body: Any, *, content: bool) -> Request:
        read = super().read_request(body, content=content)
        body["seen"] = True
        return read


class Raising(type(OPENAI_CHAT)):
    def read_response(self, answer: Any, *, content: bool) -> Response:
        return super().read_response({**answer}, content=content)


@pytest.mark.parametrize(
    ("dialect", "error", "expected"),
    [
        (Leaking(), AssertionError, "messages are read with content=False"),
        (Changing(), AssertionError, "reading changes what was given"),
        (Raising(), TypeError, "not a mapping"),
    ],
)
def test_dialect_that_breaks_the_contract_is_named(dialect: Any, error: Any, expected: str) -> None:
    with pytest.raises(error, match=expected):
        check_dialect(dialect, recordings("openai_chat"))


def test_stream_that_says_otherwise_than_the_answer_is_named() -> None:
    cases = recordings("openai_chat")
    mixed = {"a": cases["openrouter"], "a.stream": cases["azure.stream"]}
    with pytest.raises(AssertionError, match="a: the stream gives other messages than the answer"):
        check_dialect(OPENAI_CHAT, mixed)
