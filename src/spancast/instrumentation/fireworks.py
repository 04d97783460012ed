"""Patches of fireworks-ai: Chat Completions and Messages."""

from __future__ import annotations

from typing import Final

from spancast.dialects.anthropic_messages.reader import ANTHROPIC_MESSAGES
from spancast.dialects.openai_chat.reader import OPENAI_CHAT
from spancast.instrumentation.stainless import Resource, stainless_patches

_CHAT: Final = ("CompletionsResource", "AsyncCompletionsResource")
_MESSAGES: Final = ("MessagesResource", "AsyncMessagesResource")

PATCHES: Final = stainless_patches(
    package="fireworks",
    provider="fireworks",
    endpoints={"/v1/chat/completions": OPENAI_CHAT, "/v1/messages": ANTHROPIC_MESSAGES},
    resources=(
        Resource("chat.completions", "fireworks.resources.chat.completions", _CHAT, ("create",)),
        Resource("messages", "fireworks.resources.messages", _MESSAGES, ("create",)),
    ),
)
