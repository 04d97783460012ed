"""Drivers of litellm's functions; none if it is not installed.

There are no clients: an object stands for one, and the functions are instrumented when it calls one of them.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.instrumentation.driver import MESSAGES, Driver

import spancast
from spancast.testing import ReplayServer

# Else it reads its table of prices from a web page.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")


@dataclass
class Functions:
    """litellm's functions, for calls of one server."""

    server: ReplayServer
    is_async: bool = False
    is_recorded: bool = False

    def call(self, name: str, **arguments: Any) -> Any:
        import litellm

        litellm.suppress_debug_info = True
        if self.is_recorded:
            spancast.instrument("litellm")
        function: Any = litellm
        for part in name.split("."):
            function = getattr(function, part)
        return function(**arguments, api_key="test", max_retries=0)

    def close(self) -> Any:
        return _nothing() if self.is_async else None


async def _nothing() -> None:
    return


def _instrument(functions: Functions) -> Functions:
    functions.is_recorded = True
    return functions


_CHAT: dict[str, Any] = {"messages": MESSAGES}
_ROWS: tuple[tuple[str, str, str, str, dict[str, Any]], ...] = (
    ("openai", "completion", "openai/m-1", "/chat/completions", _CHAT),
    ("anthropic", "completion", "anthropic/m-1", "/messages", {**_CHAT, "max_tokens": 16}),
    ("mistral", "completion", "mistral/m-1", "/chat/completions", _CHAT),
    ("text", "text_completion", "text-completion-openai/m-1", "/completions", {"prompt": "hi"}),
    ("embeddings", "embedding", "openai/m-1", "/embeddings", {"input": ["hi"]}),
    ("responses", "responses", "openai/m-1", "/responses", {"input": "hi"}),
    ("messages", "anthropic.messages.create", "anthropic/m-1", "/messages", {**_CHAT, "max_tokens": 16}),
)
_OPERATIONS = {"text": "text_completion", "embeddings": "embeddings"}
_ASYNC = {"anthropic.messages.create": "anthropic.messages.acreate"}


def rows() -> Iterator[Driver]:
    if importlib.util.find_spec("litellm") is None:
        return
    for name, function, model, path, body in _ROWS:
        for is_async in (False, True):
            called = _ASYNC.get(function, f"a{function}") if is_async else function
            way = "async-" if is_async else ""
            at_root = model.startswith("anthropic/")
            common: dict[str, Any] = {
                "sdk": "litellm", "is_async": is_async, "path": path, "operation": _OPERATIONS.get(name, "chat"),
                "make": lambda server, is_async=is_async: Functions(server, is_async), "instrument": _instrument,
                "has_clients": False,
            }  # fmt: skip

            def call(c: Functions, *, _of: Any = (called, model, body, at_root), **more: Any) -> Any:
                function, model, body, at_root = _of
                base = c.server.url if at_root else c.server.base_url
                return c.call(function, model=model, api_base=base, **{**body, **more})

            yield Driver(name=f"{way}{name}", call=call, **common)
            # A text stream cannot be closed.
            if name not in ("text", "embeddings"):
                yield Driver(
                    name=f"{way}{name}-stream", stream="iterator",
                    call=lambda c, *, _call=call, **more: _call(c, stream=True, **more), **common,
                )  # fmt: skip
