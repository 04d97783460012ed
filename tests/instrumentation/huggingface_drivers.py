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
        # The model is the URL of a server, so these requests name none.
        generate = {
            **common, "path": "/generate", "operation": "text_completion", "model": "", "forwards_keys": False,
            "lacks": ("gen_ai.response.id", "gen_ai.response.model"),
            "make": lambda server, kind=kind: kind(model=f"{server.url}/generate", token="test"),
        }  # fmt: skip
        yield Driver(name=f"{way}generate", call=lambda c, **k: c.text_generation("hi", details=True, **k), **generate)
        yield Driver(
            name=f"{way}generate-stream", stream="iterator",
            call=lambda c, **k: c.text_generation("hi", details=True, stream=True, **k), **generate,
        )  # fmt: skip
        embed = {
            **generate, "path": "/feature-extraction", "operation": "embeddings",
            "lacks": ("gen_ai.response.model", "gen_ai.usage.input_tokens"),
            "make": lambda server, kind=kind: kind(model=f"{server.url}/feature-extraction", token="test"),
        }  # fmt: skip
        yield Driver(name=f"{way}features", call=lambda c, **k: c.feature_extraction(["hi"], **k), **embed)
