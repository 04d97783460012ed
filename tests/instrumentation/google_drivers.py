"""Drivers of google-genai; none if it is not installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

from tests.instrumentation.driver import Driver

from spancast.testing import ReplayServer

_ASK: dict[str, Any] = {"model": "m-1", "contents": "hi"}
_INPUT: dict[str, Any] = {"model": "m-1", "input": "hi"}
_WHOLE = ":generateContent"
_STREAM = "/models/m-1:streamGenerateContent"


def is_installed() -> bool:
    return importlib.util.find_spec("google") is not None and importlib.util.find_spec("google.genai") is not None


def has_interactions() -> bool:
    """Return whether the SDK has interactions as of version 2."""
    return is_installed() and importlib.util.find_spec("google.genai._interactions_errors") is not None


def _gemini(server: ReplayServer) -> Any:
    from google import genai

    return genai.Client(api_key="test", http_options={"base_url": server.url})


def _interacting(server: ReplayServer) -> Any:
    from google import genai

    # By default, interactions are tried five times.
    options = {"base_url": server.url, "retry_options": {"attempts": 1}}
    return genai.Client(api_key="test", http_options=options)


def _interactions_error() -> type[Exception]:
    from google.genai import _interactions_errors

    return _interactions_errors.RateLimitError


def vertex_client(server: ReplayServer) -> Any:
    from google import genai
    from google.auth.credentials import Credentials

    class Always(Credentials):
        valid = True
        expired = False

        def __init__(self) -> None:
            super().__init__()
            self.token = "t-1"

        def refresh(self, request: Any) -> None:
            """Do nothing: the token stays valid."""

    options = {"base_url": server.url}
    return genai.Client(
        vertexai=True, project="p-1", location="europe-west4", credentials=Always(), http_options=options
    )


def _async_httpx(server: ReplayServer) -> Any:
    import httpx
    from google import genai

    # With a transport of httpx, the SDK does not use aiohttp.
    options = {"base_url": server.url, "async_client_args": {"transport": httpx.AsyncHTTPTransport()}}
    return genai.Client(api_key="test", http_options=options)


def rows() -> Iterator[Driver]:
    if not is_installed():
        return
    from google.genai import errors

    common: dict[str, Any] = {
        "sdk": "google_genai", "make": _gemini, "status_error": errors.ClientError, "operation": "generate_content",
    }  # fmt: skip
    whole = {**common, "path": _WHOLE}
    stream = {**common, "path": _STREAM, "stream": "iterator", "starts_late": True}
    embeddings = {
        **common,
        "path": ":batchEmbedContents",
        "operation": "embeddings",
        "lacks": ("gen_ai.response.model",),
    }
    vertex = {"make": vertex_client}
    yield Driver(name="generate", call=lambda c, **k: c.models.generate_content(**_ASK, **k), **whole)
    yield Driver(name="stream", call=lambda c, **k: c.models.generate_content_stream(**_ASK, **k), **stream)
    yield Driver(name="chat", call=lambda c, **k: c.chats.create(model="m-1").send_message("hi", **k), **whole)
    yield Driver(
        name="chat-stream", call=lambda c, **k: c.chats.create(model="m-1").send_message_stream("hi", **k), **stream
    )
    yield Driver(name="embeddings", call=lambda c, **k: c.models.embed_content(**_ASK, **k), **embeddings)
    yield Driver(name="vertex", call=lambda c, **k: c.models.generate_content(**_ASK, **k), **{**whole, **vertex})
    yield Driver(
        name="vertex-embeddings", call=lambda c, **k: c.models.embed_content(**_ASK, **k),
        **{**embeddings, **vertex, "path": ":predict"},
    )  # fmt: skip
    for rest in (whole, stream, embeddings):
        rest["is_async"] = True
    for way, more in (("async", {}), ("async-httpx", {"make": _async_httpx}), ("async-vertex", vertex)):
        yield Driver(
            name=f"{way}-generate", call=lambda c, **k: c.aio.models.generate_content(**_ASK, **k), **{**whole, **more}
        )
        yield Driver(
            name=f"{way}-stream", call=lambda c, **k: c.aio.models.generate_content_stream(**_ASK, **k),
            **{**stream, **more},
        )  # fmt: skip
    yield Driver(
        name="async-chat", call=lambda c, **k: c.aio.chats.create(model="m-1").send_message("hi", **k), **whole
    )
    yield Driver(
        name="async-chat-stream",
        call=lambda c, **k: c.aio.chats.create(model="m-1").send_message_stream("hi", **k), **stream,
    )  # fmt: skip
    yield Driver(name="async-embeddings", call=lambda c, **k: c.aio.models.embed_content(**_ASK, **k), **embeddings)
    if has_interactions():
        yield from _interactions(common)


def _interactions(common: dict[str, Any]) -> Iterator[Driver]:
    interactions = {
        **common, "path": "/interactions", "operation": "chat", "status_error": _interactions_error(), "make": _interacting,
    }  # fmt: skip
    event_stream = {**interactions, "stream": "iterator"}
    yield Driver(name="interactions", call=lambda c, **k: c.interactions.create(**_INPUT, **k), **interactions)
    yield Driver(
        name="interactions-stream",
        call=lambda c, **k: c.interactions.create(**_INPUT, stream=True, **k),
        **event_stream,
    )
    for rest in (interactions, event_stream):
        rest["is_async"] = True
    yield Driver(
        name="async-interactions", call=lambda c, **k: c.aio.interactions.create(**_INPUT, **k), **interactions
    )
    yield Driver(
        name="async-interactions-stream",
        call=lambda c, **k: c.aio.interactions.create(**_INPUT, stream=True, **k), **event_stream,
    )  # fmt: skip
