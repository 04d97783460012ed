"""Drivers of azure-ai-inference; none if it is not installed."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

from tests.instrumentation.driver import MESSAGES, Driver

_CHAT: dict[str, Any] = {"model": "m-1", "messages": MESSAGES}
_INPUT: dict[str, Any] = {"model": "m-1", "input": ["hi"]}


def _is_installed() -> bool:
    try:
        return importlib.util.find_spec("azure.ai.inference") is not None
    except ModuleNotFoundError:
        return False


@asynccontextmanager
async def _awaited(stream: Any) -> AsyncIterator[Any]:
    async with await stream as opened:
        yield opened


def rows() -> Iterator[Driver]:
    if not _is_installed():
        return
    from azure.ai import inference
    from azure.ai.inference import aio
    from azure.core.credentials import AzureKeyCredential
    from azure.core.exceptions import HttpResponseError

    def maker(kind: Any) -> Any:
        return lambda server: kind(server.url, AzureKeyCredential("test"), retry_total=0)

    # A stream read to its end does not close its connection; only its context manager does.
    def opened(stream: Any) -> Any:
        return _awaited(stream) if inspect.isawaitable(stream) else stream

    for module, way in ((inference, ""), (aio, "async-")):
        common: dict[str, Any] = {
            "sdk": "azure_ai_inference", "is_async": bool(way), "status_error": HttpResponseError,
            "make": maker(module.ChatCompletionsClient), "path": "/chat/completions",
        }  # fmt: skip
        embed = {
            **common, "path": "/embeddings", "operation": "embeddings", "make": maker(module.EmbeddingsClient),
        }  # fmt: skip
        yield Driver(name=f"{way}chat", call=lambda c, **k: c.complete(**{**_CHAT, **k}), **common)
        yield Driver(
            name=f"{way}chat-stream", stream="helper", reads_ahead=bool(way),
            call=lambda c, **k: opened(c.complete(**{**_CHAT, **k}, stream=True)), **common,
        )  # fmt: skip
        yield Driver(name=f"{way}chat-body", call=lambda c, **k: c.complete({**_CHAT, **k}), **common)
        yield Driver(name=f"{way}embed", call=lambda c, **k: c.embed(**{**_INPUT, **k}), **embed)
