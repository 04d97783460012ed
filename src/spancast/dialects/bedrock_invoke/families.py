"""Which family of models a body of ``InvokeModel`` is written for.

Decided by the keys of the body. The name of the model only decides between bodies with the same keys, as the ARN of an
inference profile or of provisioned throughput names no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from spancast.dialects import accessors

Family = Literal["anthropic", "converse", "chat", "text"]

_CONVERSE_KEYS: Final = frozenset({"schemaVersion", "inferenceConfig"})
_EMBEDDING_KEYS: Final = frozenset(
    {
        "texts",
        "input_type",
        "inputImage",
        "embeddingConfig",
        "embeddingTypes",
        "embedding_types",
        "singleEmbeddingParams",
    }
)
_TITAN_TEXT: Final = "textGenerationConfig"
_TEXT_KEYS: Final = ("prompt", "inputText")
_IMAGE_MODELS: Final = ("stability.", "-image", "nova-canvas")
_MESSAGE_TYPES: Final = ("message", "content_block", "ping", "error")
_EVENTS: Final = frozenset(
    {"messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata"}
)


def family_of_request(body: Mapping[str, Any]) -> Family:
    """Return the family of a request."""
    if "messages" not in body:
        return "text"
    model = accessors.text(body.get("model")) or ""
    if "anthropic_version" in body or "anthropic." in model:
        return "anthropic"
    return "converse" if not _CONVERSE_KEYS.isdisjoint(body) or ".nova-" in model else "chat"


def family_of_response(response: Mapping[str, Any]) -> Family:
    """Return the family of a response, or of a chunk of a stream."""
    if "choices" in response:
        return "chat"
    if "message" in accessors.fields(response.get("output")) or not _EVENTS.isdisjoint(response):
        return "converse"
    kind = accessors.text(response.get("type")) or ""
    return "anthropic" if kind.startswith(_MESSAGE_TYPES) or "content" in response else "text"


def operation_of(body: Mapping[str, Any]) -> str:
    """Return the name of the operation that a request asks for."""
    model = accessors.text(body.get("model")) or ""
    is_embedding = "embed" in model or not _EMBEDDING_KEYS.isdisjoint(body)
    if is_embedding or ("inputText" in body and _TITAN_TEXT not in body and "titan-t" not in model):
        return "embeddings"
    if "messages" in body or "message" in body:
        return "chat"
    is_image = any(part in model for part in _IMAGE_MODELS)
    return "text_completion" if not is_image and any(name in body for name in _TEXT_KEYS) else "generate_content"
