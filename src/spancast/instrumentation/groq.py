"""Patches of groq: Chat Completions."""

from __future__ import annotations

from typing import Final

from spancast.dialects.openai_chat.reader import OPENAI_CHAT
from spancast.instrumentation.stainless import Resource, stainless_patches

PATCHES: Final = stainless_patches(
    package="groq",
    provider="groq",
    endpoints={"/openai/v1/chat/completions": OPENAI_CHAT},
    resources=(
        Resource(
            "chat.completions", "groq.resources.chat.completions", ("Completions", "AsyncCompletions"), ("create",)
        ),
    ),
)
