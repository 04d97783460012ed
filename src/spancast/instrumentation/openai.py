"""Patches of openai: Chat Completions, Responses, legacy completions, embeddings; of any OpenAI-compatible server.

Also Responses and Realtime over a web socket.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from typing import Final

from spancast.dialects.openai_chat.completions import OPENAI_COMPLETIONS
from spancast.dialects.openai_chat.reader import OPENAI_CHAT
from spancast.dialects.openai_embeddings import OPENAI_EMBEDDINGS
from spancast.dialects.openai_responses.reader import OPENAI_FETCHED_RESPONSE, OPENAI_RESPONSES
from spancast.dialects.openai_responses.realtime import OPENAI_REALTIME
from spancast.instrumentation.openai_websockets import websocket_patches
from spancast.instrumentation.stainless import Resource, stainless_patches

# genai-prices imports httpx2 on a thread of ours. openai 2 takes it out of ``sys.modules`` even if it is imported in
# part, and fails; so it is imported before any call. openai 3 imports it itself.
with suppress(ImportError):
    import_module("httpx2")

_COMPLETIONS: Final = "openai.resources.chat.completions.completions"
_METHODS: Final = ("create", "parse", "stream")

_REQUESTS: Final = stainless_patches(
    package="openai",
    endpoints={
        "/chat/completions": OPENAI_CHAT,
        "/responses": OPENAI_RESPONSES,
        "/responses/compact": OPENAI_RESPONSES,
        "/completions": OPENAI_COMPLETIONS,
        "/embeddings": OPENAI_EMBEDDINGS,
    },
    fetches={"/responses/": OPENAI_FETCHED_RESPONSE},
    resources=(
        Resource("chat.completions", _COMPLETIONS, ("Completions", "AsyncCompletions"), _METHODS),
        Resource("completions", "openai.resources.completions", ("Completions", "AsyncCompletions"), ("create",)),
        Resource("embeddings", "openai.resources.embeddings", ("Embeddings", "AsyncEmbeddings"), ("create",)),
        Resource(
            "responses",
            "openai.resources.responses.responses",
            ("Responses", "AsyncResponses"),
            (*_METHODS, "retrieve", "compact"),
        ),
    ),
    key_methods=frozenset(
        f"openai.resources.beta.responses.responses:{owner}.{method}"
        for owner in ("Responses", "AsyncResponses")
        for method in ("create", "retrieve")
    ),
)
_PATCHES, _INSTANCE_PATCHES = websocket_patches(_REQUESTS.instrumented)

PATCHES: Final = replace(
    _REQUESTS,
    dialects=(*_REQUESTS.dialects, OPENAI_REALTIME.name),
    patches=(*_REQUESTS.patches, *_PATCHES),
    instance_patches=(*_REQUESTS.instance_patches, *_INSTANCE_PATCHES),
)
