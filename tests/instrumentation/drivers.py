"""Drivers of the SDKs for the contract tests: one row per method that calls an endpoint.

A new client adds its rows here, or in a file of its own; the contract tests then run on them.
"""

from __future__ import annotations

from typing import Any

import anthropic
import httpx
import openai
import openrouter
from openrouter.utils import BackoffStrategy, RetryConfig
from tests.instrumentation import (
    ai21_drivers,
    azure_drivers,
    bedrock_drivers,
    cohere_drivers,
    google_drivers,
    http_drivers,
    huggingface_drivers,
    litellm_drivers,
    mistralai_drivers,
    ollama_drivers,
    replicate_drivers,
    stainless_drivers,
    xai_drivers,
    zai_drivers,
)
from tests.instrumentation.driver import MESSAGES, Driver

from spancast.testing import ReplayServer


def _openai(server: ReplayServer) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.base_url, api_key="sk-test", max_retries=0)


def _async_openai(server: ReplayServer) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=server.base_url, api_key="sk-test", max_retries=0)


def _azure(server: ReplayServer) -> openai.AzureOpenAI:
    return openai.AzureOpenAI(azure_endpoint=server.url, api_key="test", api_version="2026-01-01", max_retries=0)


def _anthropic(server: ReplayServer) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=server.url, api_key="test", max_retries=0)


def _async_anthropic(server: ReplayServer) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=server.url, api_key="test", max_retries=0)


def _openrouter(server: ReplayServer) -> openrouter.OpenRouter:
    once = RetryConfig("none", BackoffStrategy(1, 1, 1, 1), retry_connection_errors=False)
    return openrouter.OpenRouter(api_key="test", server_url=server.base_url, retry_config=once)


CHAT = "/chat/completions"
RESPONSES = "/responses"
COMPLETIONS = "/completions"
EMBEDDINGS = "/embeddings"
MESSAGES_PATH = "/messages"

_CHAT = {"model": "m-1", "messages": MESSAGES}
_RESPONSES = {"model": "m-1", "input": "hi"}
_PROMPT = {"model": "m-1", "prompt": "hi"}
_INPUT = {"model": "m-1", "input": ["hi"]}
_MESSAGES = {"model": "m-1", "messages": MESSAGES, "max_tokens": 16}


def _rows(sdk: str, make: Any, *, is_async: bool) -> list[Driver]:
    # During a stream, openai 2 raises the HTTP library's own error; openai 3 wraps it.
    error = Exception
    way = "async-" if is_async else ""
    common: dict[str, Any] = {"sdk": sdk, "make": make, "is_async": is_async}
    chat = {**common, "path": CHAT, "status_error": openai.RateLimitError, "mid_stream_error": error}
    responses = {**chat, "path": RESPONSES}
    completions = {**chat, "path": COMPLETIONS, "operation": "text_completion"}
    embeddings = {**chat, "path": EMBEDDINGS, "operation": "embeddings"}
    return [
        Driver(name=f"{way}chat", call=lambda c, **k: c.chat.completions.create(**{**_CHAT, **k}), **chat),
        Driver(name=f"{way}chat-parse", call=lambda c, **k: c.chat.completions.parse(**{**_CHAT, **k}), **chat),
        Driver(
            name=f"{way}chat-stream", stream="iterator",
            call=lambda c, **k: c.chat.completions.create(**{**_CHAT, **k}, stream=True), **chat,
        ),
        Driver(
            name=f"{way}chat-helper", stream="helper",
            call=lambda c, **k: c.chat.completions.stream(**{**_CHAT, **k}), **chat,
        ),
        Driver(name=f"{way}responses", call=lambda c, **k: c.responses.create(**{**_RESPONSES, **k}), **responses),
        Driver(
            name=f"{way}responses-stream", stream="iterator",
            call=lambda c, **k: c.responses.create(**{**_RESPONSES, **k}, stream=True), **responses,
        ),
        Driver(
            name=f"{way}responses-helper", stream="helper",
            call=lambda c, **k: c.responses.stream(**{**_RESPONSES, **k}), **responses,
        ),
        Driver(name=f"{way}completions", call=lambda c, **k: c.completions.create(**{**_PROMPT, **k}), **completions),
        Driver(
            name=f"{way}completions-stream", stream="iterator",
            call=lambda c, **k: c.completions.create(**{**_PROMPT, **k}, stream=True), **completions,
        ),
        Driver(name=f"{way}embeddings", call=lambda c, **k: c.embeddings.create(**{**_INPUT, **k}), **embeddings),
    ]  # fmt: skip


def _anthropic_rows(make: Any, *, is_async: bool) -> list[Driver]:
    way = "async-" if is_async else ""
    common: dict[str, Any] = {
        "sdk": "anthropic", "make": make, "is_async": is_async, "path": MESSAGES_PATH,
        "status_error": anthropic.RateLimitError, "mid_stream_error": Exception,
    }  # fmt: skip
    return [
        Driver(name=f"{way}messages", call=lambda c, **k: c.messages.create(**{**_MESSAGES, **k}), **common),
        Driver(name=f"{way}beta-messages", call=lambda c, **k: c.beta.messages.create(**{**_MESSAGES, **k}), **common),
        Driver(
            name=f"{way}messages-stream", stream="iterator",
            call=lambda c, **k: c.messages.create(**{**_MESSAGES, **k}, stream=True), **common,
        ),
        Driver(
            name=f"{way}messages-helper", stream="helper",
            call=lambda c, **k: c.messages.stream(**{**_MESSAGES, **k}), **common,
        ),
    ]  # fmt: skip


def _cloud_rows() -> list[Driver]:
    """Return drivers of Anthropic's clients of clouds; Bedrock's streams are event streams of AWS."""

    def bedrock(server: ReplayServer) -> Any:
        keys = {"aws_access_key": "a", "aws_secret_key": "s", "aws_region": "eu-central-1"}
        return anthropic.AnthropicBedrock(**keys, base_url=server.url, max_retries=0)

    def vertex(server: ReplayServer) -> Any:
        return anthropic.AnthropicVertex(
            project_id="p", region="europe-west4", access_token="t", base_url=server.url, max_retries=0
        )

    def foundry(server: ReplayServer) -> Any:
        return anthropic.AnthropicFoundry(api_key="k", base_url=f"{server.url}/anthropic", max_retries=0)

    found: list[Driver] = []
    for name, make, path, stream_path in (
        ("bedrock", bedrock, "/invoke", "/invoke-with-response-stream"),
        ("vertex", vertex, ":rawPredict", ":streamRawPredict"),
        ("foundry", foundry, MESSAGES_PATH, MESSAGES_PATH),
    ):
        common: dict[str, Any] = {
            "sdk": "anthropic", "make": make, "status_error": anthropic.RateLimitError, "mid_stream_error": Exception,
        }  # fmt: skip
        found.append(
            Driver(name=name, path=path, call=lambda c, **k: c.messages.create(**{**_MESSAGES, **k}), **common)
        )
        found.append(
            Driver(
                name=f"{name}-stream", path=stream_path, stream="iterator",
                call=lambda c, **k: c.messages.create(**{**_MESSAGES, **k}, stream=True), **common,
            )
        )  # fmt: skip
    return found


def _openrouter_rows() -> list[Driver]:
    common: dict[str, Any] = {
        "sdk": "openrouter", "make": _openrouter, "path": CHAT, "sends_keys": True,
        "status_error": openrouter.errors.TooManyRequestsResponseError, "mid_stream_error": httpx.HTTPError,
    }  # fmt: skip
    return [
        Driver(name="chat", call=lambda c, **k: c.chat.send(**{**_CHAT, **k}), **common),
        Driver(
            name="chat-stream", stream="iterator", call=lambda c, **k: c.chat.send(**{**_CHAT, **k}, stream=True), **common
        ),
        Driver(name="async-chat", is_async=True, call=lambda c, **k: c.chat.send_async(**{**_CHAT, **k}), **common),
        Driver(
            name="async-chat-stream", is_async=True, stream="iterator",
            call=lambda c, **k: c.chat.send_async(**{**_CHAT, **k}, stream=True), **common,
        ),
    ]  # fmt: skip


def _openrouter_embeddings() -> Driver:
    return Driver(
        name="embeddings", sdk="openrouter", make=_openrouter, path=EMBEDDINGS, operation="embeddings", sends_keys=True,
        call=lambda c, **k: c.embeddings.generate(**{**_INPUT, **k}),
        status_error=openrouter.errors.TooManyRequestsResponseError,
    )  # fmt: skip


OF_EACH_MECHANISM = [
    *_rows("openai", _openai, is_async=False),
    *_rows("openai", _async_openai, is_async=True),
    Driver(
        name="azure-chat", sdk="openai", make=_azure, path=CHAT, status_error=openai.RateLimitError,
        call=lambda c, **k: c.chat.completions.create(**{**_CHAT, **k}),
    ),
    *_anthropic_rows(_anthropic, is_async=False),
    *_anthropic_rows(_async_anthropic, is_async=True),
    *_openrouter_rows(),
]  # fmt: skip
"""Drivers of SDKs that are recorded in different ways, for tests of the ways themselves."""

DRIVERS = [
    *OF_EACH_MECHANISM,
    *http_drivers.rows(),
    *_cloud_rows(),
    *google_drivers.rows(),
    _openrouter_embeddings(),
    *stainless_drivers.rows(),
    *mistralai_drivers.rows(),
    *huggingface_drivers.rows(),
    *bedrock_drivers.rows(),
    *litellm_drivers.rows(),
    *cohere_drivers.rows(),
    *ollama_drivers.rows(),
    *zai_drivers.rows(),
    *ai21_drivers.rows(),
    *xai_drivers.rows(),
    *azure_drivers.rows(),
    *replicate_drivers.rows(),
]
