"""Drivers of zai-sdk and zhipuai; none for one that is not installed. They have no asynchronous client."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from typing import Any

from tests.instrumentation.driver import MESSAGES, Driver

_CHAT: dict[str, Any] = {"model": "m-1", "messages": MESSAGES}
_INPUT: dict[str, Any] = {"model": "m-1", "input": "hi"}


def rows() -> Iterator[Driver]:
    for package, client in (("zai", "ZaiClient"), ("zhipuai", "ZhipuAI")):
        if importlib.util.find_spec(package) is None:
            continue
        module = importlib.import_module(package)
        kind = getattr(module, client)
        errors = importlib.import_module(f"{package}.core._errors")
        common: dict[str, Any] = {
            "sdk": "zai", "path": "/chat/completions", "status_error": errors.APIReachLimitError,
            "make": lambda server, kind=kind: kind(api_key="test.test", base_url=server.url, max_retries=0),
        }  # fmt: skip
        embeddings = {**common, "path": "/embeddings", "operation": "embeddings"}
        yield Driver(name=f"{package}-chat", call=lambda c, **k: c.chat.completions.create(**{**_CHAT, **k}), **common)
        yield Driver(
            name=f"{package}-chat-stream", stream="iterator",
            call=lambda c, **k: c.chat.completions.create(**{**_CHAT, **k}, stream=True), **common,
        )  # fmt: skip
        yield Driver(
            name=f"{package}-embeddings", call=lambda c, **k: c.embeddings.create(**{**_INPUT, **k}), **embeddings
        )
