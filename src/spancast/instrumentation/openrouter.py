"""Patches of openrouter: chat, responses and embeddings, sync and async, streamed or not.

The SDK has the parameters ``trace``, ``session_id``, ``user`` and ``metadata`` itself. They stay in the request for
every host, unless ``forward_trace_keys="never"``.
"""

from __future__ import annotations

from typing import Final

from spancast.dialects.openai_chat.reader import OPENAI_CHAT
from spancast.dialects.openai_embeddings import OPENAI_EMBEDDINGS
from spancast.dialects.openai_responses.reader import OPENAI_RESPONSES
from spancast.instrumentation.speakeasy import Resource, speakeasy_patches
from spancast.model.providers import OPENROUTER

PATCHES: Final = speakeasy_patches(
    packages=("openrouter",),
    provider=OPENROUTER,
    has_key_parameters=True,
    not_body=(
        "http_referer", "x_open_router_title", "x_open_router_categories", "x_open_router_metadata",
        "x_open_router_cache", "accept_header_override",
    ),
    resources=(
        Resource("chat", "Chat", ("send",), OPENAI_CHAT),
        Resource("responses", "Responses", ("send",), OPENAI_RESPONSES),
        Resource("embeddings", "Embeddings", ("generate",), OPENAI_EMBEDDINGS),
    ),
)  # fmt: skip
