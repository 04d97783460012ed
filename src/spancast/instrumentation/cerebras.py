"""Patches of cerebras_cloud_sdk: Chat Completions and completions."""

from __future__ import annotations

from typing import Final

from spancast.dialects.openai_chat.completions import OPENAI_COMPLETIONS
from spancast.dialects.openai_chat.reader import OPENAI_CHAT
from spancast.instrumentation.stainless import Resource, stainless_patches

_CLASSES: Final = ("CompletionsResource", "AsyncCompletionsResource")

PATCHES: Final = stainless_patches(
    package="cerebras.cloud.sdk",
    provider="cerebras",
    endpoints={"/v1/chat/completions": OPENAI_CHAT, "/v1/completions": OPENAI_COMPLETIONS},
    resources=(
        Resource("chat.completions", "cerebras.cloud.sdk.resources.chat.completions", _CLASSES, ("create",)),
        Resource("completions", "cerebras.cloud.sdk.resources.completions", _CLASSES, ("create",)),
    ),
)
