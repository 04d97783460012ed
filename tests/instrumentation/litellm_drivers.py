"""Drivers of litellm's functions; none if it is not installed.

There are no clients: an object stands for one, and the functions are instrumented when it calls one of them.
"""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import aiohttp
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
        # Its threads would hold a stream that the caller has dropped.
        litellm.disable_streaming_logging = True
        if self.is_recorded:
            spancast.instrument("litellm")
        function: Any = litellm
        for part in name.split("."):
            function = getattr(function, part)
        return function(**arguments, api_key="test", max_retries=0)

    def close(self) -> Any:
        """Close what litellm keeps open for later calls."""
        return close_async() if self.is_async else close()


def close() -> None:
    import litellm

    for client in litellm.in_memory_llm_clients_cache.cache_dict.values():
        client.close()
    litellm.in_memory_llm_clients_cache.flush_cache()
    # Here, where the filters apply: it leaves event loops open.
    gc.collect()


async def close_async() -> None:
    import litellm
    from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER

    # In old versions it waits for tasks of other loops, without end.
    if hasattr(GLOBAL_LOGGING_WORKER, "pending_count"):
        await GLOBAL_LOGGING_WORKER.flush()
    # Old versions raise the cancellation of their task.
    with suppress(asyncio.CancelledError):
        await GLOBAL_LOGGING_WORKER.stop()
    await litellm.close_litellm_async_clients()
    litellm.in_memory_llm_clients_cache.flush_cache()
    # It keeps no client of a text completion: nobody else closes the connection, which fails a later test.
    for session in gc.get_objects():
        if issubclass(type(session), aiohttp.ClientSession) and not session.closed:
            await session.close()


def _instrument(functions: Functions) -> Functions:
    functions.is_recorded = True
    return functions


FILTERS = (
    # At its import.
    "ignore:Items? .* (is|are) using the `ReadOnly` qualifier:UserWarning",
    "ignore:Pydantic serializer warnings:UserWarning",
    # When it copies unknown fields of a chunk.
    "ignore:Accessing the 'model_:DeprecationWarning",
    # It leaves connections open at an error.
    "ignore:unclosed:ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)
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
    # 1.79 keeps every stream alive, and ends one that was cut without an error; without spancast, too.
    streams = metadata.distribution("litellm").locate_file("litellm/litellm_core_utils/streaming_handler.py")
    keeps_streams = "def aclose(" not in Path(str(streams)).read_text()
    for name, function, model, path, body in _ROWS:
        # Its synchronous Messages raise "not implemented".
        for is_async in (True,) if name == "messages" else (False, True):
            called = _ASYNC.get(function, f"a{function}") if is_async else function
            way = "async-" if is_async else ""
            at_root = model.startswith("anthropic/")
            common: dict[str, Any] = {
                "sdk": "litellm", "is_async": is_async, "path": path, "operation": _OPERATIONS.get(name, "chat"),
                "make": lambda server, is_async=is_async: Functions(server, is_async), "instrument": _instrument,
                "has_clients": False, "filters": FILTERS, "cut_after": 4 if path == "/messages" else 2,
            }  # fmt: skip

            def call(c: Functions, *, _of: Any = (called, model, body, at_root), **more: Any) -> Any:
                function, model, body, at_root = _of
                base = c.server.url if at_root else c.server.base_url
                return c.call(function, model=model, api_base=base, **{**body, **more})

            yield Driver(name=f"{way}{name}", call=call, **common)
            # A text stream cannot be closed; one of Responses is made of a whole response, for an unknown model; one of
            # Messages is of bytes, as they arrive: test_litellm.py.
            if name in ("openai", "anthropic", "mistral"):
                yield Driver(
                    name=f"{way}{name}-stream", stream="iterator", keeps_streams=keeps_streams,
                    call=lambda c, *, _call=call, **more: _call(c, stream=True, **more), **common,
                )  # fmt: skip
