"""CLIENTS: name -> the row of an SDK, imported when first asked for."""

from __future__ import annotations

import functools
from typing import Final

from spancast.instrumentation.patching import Client, Instrumentor, load

CLIENTS: Final = {
    "openai": "spancast.instrumentation.openai:CLIENT",
    "openrouter": "spancast.instrumentation.openrouter:CLIENT",
    "anthropic": "spancast.instrumentation.anthropic:CLIENT",
}


@functools.cache
def instrumentor(name: str) -> Instrumentor:
    """Return the one installation of the SDK ``name``.

    Raises:
        KeyError: There is no such row.
    """
    client: Client = load(CLIENTS[name])
    return Instrumentor(client)
