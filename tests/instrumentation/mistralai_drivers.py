"""Drivers of mistralai; none if it is not installed (it needs a recent OpenTelemetry)."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

from tests.instrumentation.driver import MESSAGES, Driver

from spancast.testing import ReplayServer

IS_INSTALLED = importlib.util.find_spec("mistralai") is not None
_CHAT: dict[str, Any] = {"model": "m-1", "messages": MESSAGES}
_AGENT: dict[str, Any] = {"agent_id": "ag-1", "messages": MESSAGES}
_PROMPT: dict[str, Any] = {"model": "m-1", "prompt": "hi", "suffix": "bye"}
_TALK: dict[str, Any] = {"model": "m-1", "inputs": "hi"}
_INPUTS: dict[str, Any] = {"model": "m-1", "inputs": ["hi"]}


def _make(server: ReplayServer) -> Any:
    from mistralai.client import Mistral

    return Mistral(api_key="test", server_url=server.url)


def rows() -> Iterator[Driver]:
    if not IS_INSTALLED:
        return
    from mistralai.client import errors

    common: dict[str, Any] = {
        "sdk": "mistralai", "make": _make, "path": "/chat/completions", "status_error": errors.SDKError,
        "forwards_keys": False,
    }  # fmt: skip
    fim = {**common, "path": "/fim/completions", "operation": "text_completion"}
    embeddings = {**common, "path": "/embeddings", "operation": "embeddings"}
    talk = {**common, "path": "/v1/conversations", "lacks": ("gen_ai.response.id",)}
    yield Driver(name="chat", call=lambda c, **k: c.chat.complete(**{**_CHAT, **k}), **common)
    yield Driver(name="chat-stream", stream="iterator", call=lambda c, **k: c.chat.stream(**{**_CHAT, **k}), **common)
    yield Driver(name="fim-stream", stream="iterator", call=lambda c, **k: c.fim.stream(**{**_PROMPT, **k}), **fim)
    yield Driver(name="embeddings", call=lambda c, **k: c.embeddings.create(**{**_INPUTS, **k}), **embeddings)
    yield Driver(name="conversations", call=lambda c, **k: c.beta.conversations.start(**{**_TALK, **k}), **talk)
    yield Driver(
        name="conversations-stream", stream="iterator",
        call=lambda c, **k: c.beta.conversations.start_stream(**{**_TALK, **k}), **talk,
    )  # fmt: skip
    common |= {"is_async": True}
    talk |= {"is_async": True}
    yield Driver(
        name="async-conversations", call=lambda c, **k: c.beta.conversations.start_async(**{**_TALK, **k}), **talk
    )
    yield Driver(
        name="async-conversations-stream", stream="iterator",
        call=lambda c, **k: c.beta.conversations.start_stream_async(**{**_TALK, **k}), **talk,
    )  # fmt: skip
    fim |= {"is_async": True}
    yield Driver(name="async-chat", call=lambda c, **k: c.chat.complete_async(**{**_CHAT, **k}), **common)
    yield Driver(
        name="async-chat-stream", stream="iterator",
        call=lambda c, **k: c.chat.stream_async(**{**_CHAT, **k}), **common,
    )  # fmt: skip
    yield Driver(name="async-fim", call=lambda c, **k: c.fim.complete_async(**{**_PROMPT, **k}), **fim)
