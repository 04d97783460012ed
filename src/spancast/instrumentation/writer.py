"""Patches of writer-sdk: chat, its parse and stream helpers."""

from __future__ import annotations

from typing import Final

from spancast.dialects.openai_chat.reader import OPENAI_CHAT
from spancast.instrumentation.stainless import Resource, stainless_patches

_CLASSES: Final = ("ChatResource", "AsyncChatResource")

PATCHES: Final = stainless_patches(
    package="writerai",
    provider="writer",
    endpoints={"/v1/chat": OPENAI_CHAT},
    resources=(Resource("chat", "writerai.resources.chat", _CLASSES, ("chat", "parse", "stream")),),
)
