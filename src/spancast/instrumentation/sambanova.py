"""Patches of sambanova: Chat Completions, completions, Responses, Messages and embeddings."""

from __future__ import annotations

from typing import Final

from spancast.dialects.anthropic_messages.reader import ANTHROPIC_MESSAGES
from spancast.dialects.openai_chat.completions import OPENAI_COMPLETIONS
from spancast.dialects.openai_chat.reader import OPENAI_CHAT
from spancast.dialects.openai_embeddings import OPENAI_EMBEDDINGS
from spancast.dialects.openai_responses.reader import OPENAI_RESPONSES
from spancast.instrumentation.stainless import Resource, stainless_patches

_PATHS: Final = {
    "chat.completions": ("Completions", OPENAI_CHAT),
    "completions": ("Completions", OPENAI_COMPLETIONS),
    "responses": ("Responses", OPENAI_RESPONSES),
    "messages": ("Messages", ANTHROPIC_MESSAGES),
    "embeddings": ("Embeddings", OPENAI_EMBEDDINGS),
}

PATCHES: Final = stainless_patches(
    package="sambanova",
    provider="sambanova",
    endpoints={f"/{path.replace('.', '/')}": dialect for path, (_, dialect) in _PATHS.items()},
    resources=tuple(
        Resource(path, f"sambanova.resources.{path}", (f"{name}Resource", f"Async{name}Resource"), ("create",))
        for path, (name, _) in _PATHS.items()
    ),
)
