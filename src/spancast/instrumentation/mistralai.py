"""Patches of mistralai: chat, fill-in-the-middle, agents, conversations, embeddings; also by its clouds' clients.

The SDK has no way to add fields to a request, so trace keys are not forwarded.
"""

from __future__ import annotations

from typing import Final

from spancast.dialects.mistral.conversations import CONVERSATION_ID, MISTRAL_CONVERSATIONS
from spancast.dialects.openai_chat.completions import OPENAI_COMPLETIONS
from spancast.dialects.openai_chat.reader import OPENAI_CHAT
from spancast.dialects.openai_embeddings import OPENAI_EMBEDDINGS
from spancast.instrumentation.speakeasy import Resource, speakeasy_patches

_METHODS: Final = ("complete", "stream")
_TURNS: Final = ("start", "start_stream", "append", "append_stream", "restart", "restart_stream")

PATCHES: Final = speakeasy_patches(
    packages=("mistralai.client", "mistralai.azure.client", "mistralai.gcp.client"),
    provider="mistral_ai",
    resources=(
        Resource("chat", "Chat", _METHODS, OPENAI_CHAT),
        Resource("fim", "Fim", _METHODS, OPENAI_COMPLETIONS),
        Resource("agents", "Agents", _METHODS, OPENAI_CHAT),
        Resource(
            "conversations", "Conversations", _TURNS, MISTRAL_CONVERSATIONS,
            attribute="beta.conversations", in_path=CONVERSATION_ID,
        ),
        Resource("embeddings", "Embeddings", ("create",), OPENAI_EMBEDDINGS),
    ),
)  # fmt: skip
