"""Drivers of replicate, for what is one request; none if it is not installed. Streams: test_replicate.py."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

from tests.instrumentation.driver import Driver

MODEL = "meta/llama"
PROMPT: dict[str, Any] = {"prompt": "hi"}


def rows() -> Iterator[Driver]:
    if importlib.util.find_spec("replicate") is None:
        return
    from replicate.client import Client
    from replicate.exceptions import ReplicateError

    common: dict[str, Any] = {
        "sdk": "replicate", "path": "/models/meta/llama/predictions", "status_error": ReplicateError,
        "make": lambda server: Client(api_token="test", base_url=server.url),
        "model": MODEL, "operation": "generate_content", "forwards_keys": False,
    }  # fmt: skip
    yield Driver(name="run", call=lambda c, **k: c.run(MODEL, input=PROMPT, **k), **common)
    yield Driver(name="async-run", is_async=True, call=lambda c, **k: c.async_run(MODEL, input=PROMPT, **k), **common)
