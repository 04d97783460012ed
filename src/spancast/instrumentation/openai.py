"""Patches of openai: Chat Completions, Responses, legacy completions, embeddings; of any OpenAI-compatible server."""

from __future__ import annotations

from typing import Final

from spancast.dialects.openai_chat.completions import OPENAI_COMPLETIONS
from spancast.dialects.openai_chat.reader import OPENAI_CHAT
from spancast.dialects.openai_embeddings import OPENAI_EMBEDDINGS
from spancast.dialects.openai_responses.reader import OPENAI_RESPONSES
from spancast.instrumentation.stainless import Resource, stainless_patches

_COMPLETIONS: Final = "openai.resources.chat.completions.completions"
_METHODS: Final = ("create", "parse", "stream")

PATCHES: Final = stainless_patches(
    package="openai",
    endpoints={
        "/chat/completions": OPENAI_CHAT,
        "/responses": OPENAI_RESPONSES,
        "/completions": OPENAI_COMPLETIONS,
        "/embeddings": OPENAI_EMBEDDINGS,
    },
    resources=(
        Resource("chat.completions", _COMPLETIONS, ("Completions", "AsyncCompletions"), _METHODS),
        Resource("completions", "openai.resources.completions", ("Completions", "AsyncCompletions"), ("create",)),
        Resource("embeddings", "openai.resources.embeddings", ("Embeddings", "AsyncEmbeddings"), ("create",)),
        Resource("responses", "openai.resources.responses.responses", ("Responses", "AsyncResponses"), _METHODS),
    ),
    key_methods=frozenset(
        f"openai.resources.beta.responses.responses:{owner}.create" for owner in ("Responses", "AsyncResponses")
    ),
)
