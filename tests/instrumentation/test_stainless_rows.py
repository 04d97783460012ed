from __future__ import annotations

import importlib
from typing import Any
from urllib.parse import urlsplit

import anthropic
import httpx
import openai
import pytest

import spancast
from spancast.testing import CapturedSpans, ReplayServer, Reply
from spancast.testing.spans import attributes

MESSAGES: list[Any] = [{"role": "user", "content": "hi"}]
CHAT = "chat.completions.create"


class _Detour(httpx.HTTPTransport):
    """Sends every request to the replay server, whatever its host."""

    def __init__(self, server: ReplayServer) -> None:
        super().__init__()
        self._port = urlsplit(server.url).port

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.url = request.url.copy_with(scheme="http", host="127.0.0.1", port=self._port)
        return super().handle_request(request)


@pytest.mark.parametrize(
    ("package", "client", "method", "provider", "host"),
    [
        ("groq", "Groq", CHAT, "groq", "api.groq.com"),
        ("together", "Together", CHAT, "together", "api-inference.together.ai"),
        ("fireworks", "Fireworks", CHAT, "fireworks", "api.fireworks.ai"),
        ("fireworks", "Fireworks", "messages.create", "fireworks", "api.fireworks.ai"),
        ("cerebras.cloud.sdk", "Cerebras", CHAT, "cerebras", "api.cerebras.ai"),
        ("sambanova", "SambaNova", CHAT, "sambanova", "api.sambanova.ai"),
        ("sambanova", "SambaNova", "messages.create", "sambanova", "api.sambanova.ai"),
        ("writerai", "Writer", "chat.chat", "writer", "api.writer.com"),
    ],
)
def test_call_of_a_client_with_its_default_url_has_the_server_of_the_request(
    package: str, client: str, method: str, provider: str, host: str, server: ReplayServer, spans: CapturedSpans
) -> None:
    made = getattr(importlib.import_module(package), client)(
        api_key="k", max_retries=0, http_client=httpx.Client(transport=_Detour(server))
    )
    more = {"max_tokens": 9} if method == "messages.create" else {}
    with spancast.instrument(made):
        call = made
        for name in method.split("."):
            call = getattr(call, name)
        call(model="m-1", messages=MESSAGES, **more)
    found = attributes(spans.one())
    assert (found["gen_ai.provider.name"], found["server.address"]) == (provider, host)


@pytest.mark.parametrize(
    ("package", "client", "provider"),
    [("groq", "Groq", "groq"), ("cerebras.cloud.sdk", "Cerebras", "cerebras"), ("openai", "OpenAI", "_OTHER")],
)
def test_call_to_an_unknown_host_has_the_provider_of_the_sdk_if_it_is_made_for_one(
    package: str, client: str, provider: str, server: ReplayServer, spans: CapturedSpans
) -> None:
    url = server.base_url if package == "openai" else server.url
    with getattr(importlib.import_module(package), client)(api_key="k", max_retries=0, base_url=url) as made:
        spancast.instrument(made)
        made.chat.completions.create(model="m-1", messages=MESSAGES)
    assert attributes(spans.one())["gen_ai.provider.name"] == provider


@pytest.mark.parametrize("package", ["openai", "anthropic"])
@pytest.mark.parametrize("is_answered", [True, False])
def test_retries_of_the_sdk_are_counted_on_the_one_span(
    package: str, is_answered: bool, server: ReplayServer, spans: CapturedSpans
) -> None:
    again = Reply.error(503, headers={"retry-after-ms": "1"})
    server.reply(again, again, *([] if is_answered else [again]))
    with _client(package, server) as made:
        call = spancast.instrument(made)
        call = call.chat.completions if package == "openai" else call.messages
        if is_answered:
            call.create(model="m-1", messages=MESSAGES, max_tokens=9)
        else:
            with pytest.raises(Exception, match=r"503|overloaded|Provider"):
                call.create(model="m-1", messages=MESSAGES, max_tokens=9)
    assert attributes(spans.one())["http.request.resend_count"] == 2
    assert len(server.requests) == 3


def test_request_that_was_sent_once_has_no_count_of_retries(server: ReplayServer, spans: CapturedSpans) -> None:
    with _client("openai", server) as made:
        spancast.instrument(made).chat.completions.create(model="m-1", messages=MESSAGES)
    assert "http.request.resend_count" not in attributes(spans.one())


def _client(package: str, server: ReplayServer) -> Any:
    if package == "openai":
        return openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=2)
    return anthropic.Anthropic(base_url=server.url, api_key="k", max_retries=2)
