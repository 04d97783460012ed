"""Patches of groq: Chat Completions and embeddings."""

from __future__ import annotations

from typing import Final

from spancast.dialects.openai_chat.reader import OPENAI_CHAT
from spancast.dialects.openai_embeddings import OPENAI_EMBEDDINGS
from spancast.instrumentation.stainless import Resource, stainless_patches

PATCHES: Final = stainless_patches(
    package="groq",
    provider="groq",
    endpoints={"/openai/v1/chat/completions": OPENAI_CHAT, "/openai/v1/embeddings": OPENAI_EMBEDDINGS},
    resources=(
        Resource(
            "chat.completions", "groq.resources.chat.completions", ("Completions", "AsyncCompletions"), ("create",)
        ),
        Resource("embeddings", "groq.resources.embeddings", ("Embeddings", "AsyncEmbeddings"), ("create",)),
    ),
)
