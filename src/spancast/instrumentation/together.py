"""Patches of together: Chat Completions, completions and embeddings."""

from __future__ import annotations

from typing import Final

from spancast.dialects.openai_chat.completions import OPENAI_COMPLETIONS
from spancast.dialects.openai_chat.reader import OPENAI_CHAT
from spancast.dialects.openai_embeddings import OPENAI_EMBEDDINGS
from spancast.instrumentation.stainless import Resource, stainless_patches

_CLASSES: Final = ("CompletionsResource", "AsyncCompletionsResource")
_EMBEDDINGS: Final = ("EmbeddingsResource", "AsyncEmbeddingsResource")
_ENDPOINTS: Final = {
    "/v1/chat/completions": OPENAI_CHAT,
    "/v1/completions": OPENAI_COMPLETIONS,
    "/v1/embeddings": OPENAI_EMBEDDINGS,
}

PATCHES: Final = stainless_patches(
    package="together",
    provider="together",
    endpoints={
        **_ENDPOINTS,
        # Before 3.0 the version was in the base URL.
        **{path.removeprefix("/v1"): dialect for path, dialect in _ENDPOINTS.items()},
    },
    resources=(
        Resource("chat.completions", "together.resources.chat.completions", _CLASSES, ("create",)),
        Resource("completions", "together.resources.completions", _CLASSES, ("create",)),
        Resource("embeddings", "together.resources.embeddings", _EMBEDDINGS, ("create",)),
    ),
)
