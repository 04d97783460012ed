"""Drivers of huggingface_hub; none if it is not installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

from tests.instrumentation.driver import MESSAGES, Driver

_CHAT: dict[str, Any] = {"model": "m-1", "messages": MESSAGES}


def rows() -> Iterator[Driver]:
    if importlib.util.find_spec("huggingface_hub") is None:
        return
    from huggingface_hub import AsyncInferenceClient, InferenceClient
    from huggingface_hub.errors import HfHubHTTPError

    for kind, way in ((InferenceClient, ""), (AsyncInferenceClient, "async-")):
        common: dict[str, Any] = {
            "sdk": "huggingface_hub", "is_async": bool(way), "path": "/chat/completions", "status_error": HfHubHTTPError,
            "make": lambda server, kind=kind: kind(base_url=server.url, api_key="test"),
        }  # fmt: skip
        yield Driver(name=f"{way}chat", call=lambda c, **k: c.chat_completion(**{**_CHAT, **k}), **common)
        yield Driver(
            name=f"{way}chat-stream", stream="iterator",
            call=lambda c, **k: c.chat.completions.create(**{**_CHAT, **k}, stream=True), **common,
        )  # fmt: skip
