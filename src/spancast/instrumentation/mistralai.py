"""Patches of mistralai: chat, fill-in-the-middle, agents and embeddings; its Azure and Google Cloud clients.

The SDK has no way to add fields to a request, so trace keys are not forwarded.
"""

from __future__ import annotations

from typing import Final

from spancast.dialects.openai_chat.completions import OPENAI_COMPLETIONS
from spancast.dialects.openai_chat.reader import OPENAI_CHAT
from spancast.dialects.openai_embeddings import OPENAI_EMBEDDINGS
from spancast.instrumentation.speakeasy import Resource, speakeasy_patches

_METHODS: Final = ("complete", "stream")

PATCHES: Final = speakeasy_patches(
    packages=("mistralai.client", "mistralai.azure.client", "mistralai.gcp.client"),
    provider="mistral_ai",
    resources=(
        Resource("chat", "Chat", _METHODS, OPENAI_CHAT),
        Resource("fim", "Fim", _METHODS, OPENAI_COMPLETIONS),
        Resource("agents", "Agents", _METHODS, OPENAI_CHAT),
        Resource("embeddings", "Embeddings", ("create",), OPENAI_EMBEDDINGS),
    ),
)
