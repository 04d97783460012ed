"""Drivers of ollama; none if it is not installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

from tests.instrumentation.driver import MESSAGES, Driver

_CHAT: dict[str, Any] = {"model": "m-1", "messages": MESSAGES}
_PROMPT: dict[str, Any] = {"model": "m-1", "prompt": "hi"}
_INPUT: dict[str, Any] = {"model": "m-1", "input": ["hi"]}


def rows() -> Iterator[Driver]:
    if importlib.util.find_spec("ollama") is None:
        return
    import ollama

    for kind, way in ((ollama.Client, ""), (ollama.AsyncClient, "async-")):
        common: dict[str, Any] = {
            "sdk": "ollama", "is_async": bool(way), "path": "/api/chat", "status_error": ollama.ResponseError,
            "make": lambda server, kind=kind: kind(server.url), "lacks": ("gen_ai.response.id",),
        }  # fmt: skip
        generate = {**common, "path": "/api/generate", "operation": "text_completion"}
        embed = {**common, "path": "/api/embed", "operation": "embeddings"}
        late: dict[str, Any] = {"stream": "iterator", "starts_late": True}
        yield Driver(name=f"{way}chat", call=lambda c, **k: c.chat(**{**_CHAT, **k}), **common)
        yield Driver(
            name=f"{way}chat-stream", call=lambda c, **k: c.chat(**{**_CHAT, **k}, stream=True), **late, **common,
        )  # fmt: skip
        yield Driver(name=f"{way}generate", call=lambda c, **k: c.generate(**{**_PROMPT, **k}), **generate)
        yield Driver(
            name=f"{way}generate-stream",
            call=lambda c, **k: c.generate(**{**_PROMPT, **k}, stream=True), **late, **generate,
        )  # fmt: skip
        yield Driver(name=f"{way}embed", call=lambda c, **k: c.embed(**{**_INPUT, **k}), **embed)
