"""Patches of together: Chat Completions."""

from __future__ import annotations

from typing import Final

from spancast.dialects.openai_chat.reader import OPENAI_CHAT
from spancast.instrumentation.stainless import Resource, stainless_patches

_CLASSES: Final = ("CompletionsResource", "AsyncCompletionsResource")

PATCHES: Final = stainless_patches(
    package="together",
    provider="together",
    # Before 3.0 without the version, which was in the base URL.
    endpoints={"/v1/chat/completions": OPENAI_CHAT, "/chat/completions": OPENAI_CHAT},
    resources=(Resource("chat.completions", "together.resources.chat.completions", _CLASSES, ("create",)),),
)
