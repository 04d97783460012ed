"""The registry of dialects by name; a dialect is imported on first use."""

from __future__ import annotations

from typing import Any, Final

from spancast.dialects.protocol import Dialect
from spancast.model.entry_points import installed, load

ENTRY_POINTS: Final = "spancast.dialects"
"""The entry point group for dialects of other distributions: ``name = "module:DIALECT"``."""

DIALECTS: Final[dict[str, str]] = {
    "openai_chat": "spancast.dialects.openai_chat.reader:OPENAI_CHAT",
    "openai_completions": "spancast.dialects.openai_chat.completions:OPENAI_COMPLETIONS",
    "openai_embeddings": "spancast.dialects.openai_embeddings:OPENAI_EMBEDDINGS",
    "openai_responses": "spancast.dialects.openai_responses.reader:OPENAI_RESPONSES",
    "openai_realtime": "spancast.dialects.openai_responses.realtime:OPENAI_REALTIME",
    "anthropic_messages": "spancast.dialects.anthropic_messages.reader:ANTHROPIC_MESSAGES",
    "gemini": "spancast.dialects.gemini.reader:GEMINI",
    "gemini_embeddings": "spancast.dialects.gemini.embeddings:GEMINI_EMBEDDINGS",
    "gemini_interactions": "spancast.dialects.gemini_interactions.reader:GEMINI_INTERACTIONS",
    "bedrock_converse": "spancast.dialects.bedrock_converse.reader:BEDROCK_CONVERSE",
    "bedrock_invoke": "spancast.dialects.bedrock_invoke.reader:BEDROCK_INVOKE",
    "cohere_chat": "spancast.dialects.cohere.chat:COHERE_CHAT",
    "cohere_chat_v1": "spancast.dialects.cohere.chat_v1:COHERE_CHAT_V1",
    "cohere_embed": "spancast.dialects.cohere.embed:COHERE_EMBED",
    "mistral_conversations": "spancast.dialects.mistral.conversations:MISTRAL_CONVERSATIONS",
    "ollama_chat": "spancast.dialects.ollama.chat:OLLAMA_CHAT",
    "ollama_generate": "spancast.dialects.ollama.chat:OLLAMA_GENERATE",
    "ollama_embed": "spancast.dialects.ollama.embed:OLLAMA_EMBED",
    "xai_chat": "spancast.dialects.xai.chat:XAI_CHAT",
    "dashscope_chat": "spancast.dialects.dashscope.chat:DASHSCOPE_CHAT",
    "huggingface_generate": "spancast.dialects.huggingface.generate:HUGGINGFACE_GENERATE",
    "huggingface_embed": "spancast.dialects.huggingface.embed:HUGGINGFACE_EMBED",
    "replicate_prediction": "spancast.dialects.replicate.prediction:REPLICATE_PREDICTION",
}

_READERS: Final = ("read_request", "read_response", "new_stream", "span_name", "error_attributes")


def find_dialect(name: str) -> Dialect | None:
    """Return the dialect ``name``, built in or of an installed distribution; None if unknown."""
    reference = DIALECTS.get(name)
    return load(reference) if reference else installed_dialects(name).get(name)


def installed_dialects(name: str | None = None) -> dict[str, Dialect]:
    """Return the dialects that installed distributions offer, only ``name`` if given."""
    return installed(ENTRY_POINTS, "an object of a subclass of spancast's Dialect", _is_dialect, name)


def _is_dialect(value: Any) -> bool:  # noqa: ANN401 - any object
    return all(callable(getattr(value, reader, None)) for reader in _READERS)
