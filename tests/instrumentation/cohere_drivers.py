"""Drivers of cohere; none if it is not installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

from tests.instrumentation.driver import MESSAGES, Driver

_ONCE: dict[str, Any] = {"request_options": {"max_retries": 0}}
_CHAT: dict[str, Any] = {"model": "m-1", "messages": MESSAGES, **_ONCE}
_TEXTS: dict[str, Any] = {
    "model": "m-1", "texts": ["hi"], "input_type": "search_query", "embedding_types": ["float"], **_ONCE,
}  # fmt: skip


def rows() -> Iterator[Driver]:
    if importlib.util.find_spec("cohere") is None:
        return
    import cohere

    for kind, way in ((cohere.ClientV2, ""), (cohere.AsyncClientV2, "async-")):
        common: dict[str, Any] = {
            "sdk": "cohere", "is_async": bool(way), "path": "/v2/chat", "status_error": cohere.TooManyRequestsError,
            "make": lambda server, kind=kind: kind("test", base_url=server.url), "lacks": ("gen_ai.response.model",),
        }  # fmt: skip
        yield Driver(name=f"{way}chat", call=lambda c, **k: c.chat(**{**_CHAT, **k}), **common)
        yield Driver(
            name=f"{way}chat-stream", stream="iterator", starts_late=True,
            call=lambda c, **k: c.chat_stream(**{**_CHAT, **k}), **common,
        )  # fmt: skip
        yield Driver(
            name=f"{way}chat-raw", call=lambda c, **k: c.with_raw_response.chat(**{**_CHAT, **k}), **common,
        )  # fmt: skip
        embed = {**common, "path": "/v2/embed", "operation": "embeddings"}
        yield Driver(name=f"{way}embed", call=lambda c, **k: c.embed(**{**_TEXTS, **k}), **embed)
