"""Patches of fireworks-ai: Chat Completions, completions and Messages."""

from __future__ import annotations

from typing import Final

from spancast.dialects.anthropic_messages.reader import ANTHROPIC_MESSAGES
from spancast.dialects.openai_chat.completions import OPENAI_COMPLETIONS
from spancast.dialects.openai_chat.reader import OPENAI_CHAT
from spancast.instrumentation.stainless import Resource, stainless_patches

_COMPLETIONS: Final = ("CompletionsResource", "AsyncCompletionsResource")
_MESSAGES: Final = ("MessagesResource", "AsyncMessagesResource")

PATCHES: Final = stainless_patches(
    package="fireworks",
    provider="fireworks",
    endpoints={
        "/v1/chat/completions": OPENAI_CHAT,
        "/v1/completions": OPENAI_COMPLETIONS,
        "/v1/messages": ANTHROPIC_MESSAGES,
    },
    resources=(
        Resource("chat.completions", "fireworks.resources.chat.completions", _COMPLETIONS, ("create",)),
        Resource("completions", "fireworks.resources.completions", _COMPLETIONS, ("create",)),
        Resource("messages", "fireworks.resources.messages", _MESSAGES, ("create",)),
    ),
)
