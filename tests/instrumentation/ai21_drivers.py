"""Drivers of ai21; none if it is not installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

from tests.instrumentation.driver import Driver


def rows() -> Iterator[Driver]:
    if importlib.util.find_spec("ai21") is None:
        return
    from ai21 import AI21Client, AsyncAI21Client
    from ai21.errors import TooManyRequestsError
    from ai21.models.chat import UserMessage

    chat: dict[str, Any] = {"model": "m-1", "messages": [UserMessage(content="hi")]}
    for kind, way in ((AI21Client, ""), (AsyncAI21Client, "async-")):
        common: dict[str, Any] = {
            "sdk": "ai21", "is_async": bool(way), "path": "/chat/completions", "status_error": TooManyRequestsError,
            "make": lambda server, kind=kind: kind(api_key="test", api_host=server.base_url),
        }  # fmt: skip
        yield Driver(name=f"{way}chat", call=lambda c, **k: c.chat.completions.create(**{**chat, **k}), **common)
        yield Driver(
            name=f"{way}chat-stream", stream="iterator",
            call=lambda c, **k: c.chat.completions.create(**{**chat, **k}, stream=True), **common,
        )  # fmt: skip
