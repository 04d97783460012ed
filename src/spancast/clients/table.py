"""CLIENTS: name -> the row of an SDK, imported when first asked for."""

from __future__ import annotations

import functools
from typing import Final

from spancast.clients.patching import Client, Installation, load

CLIENTS: Final = {
    "openai": "spancast.clients.openai:CLIENT",
    "openrouter": "spancast.clients.openrouter:CLIENT",
    "anthropic": "spancast.clients.anthropic:CLIENT",
}


@functools.cache
def installation(name: str) -> Installation:
    """Return the one installation of the SDK ``name``.

    Raises:
        KeyError: There is no such row.
    """
    client: Client = load(CLIENTS[name])
    return Installation(client)
