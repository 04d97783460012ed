"""API hosts and their ``gen_ai.provider.name``.

Values are the well-known ones of the convention, which allows custom values for other
providers (OpenRouter, Together, ...). An unknown host keeps the dialect's provider.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from spancast.model.call import Attributes
from spancast.model.semconv import SERVER_ADDRESS, SERVER_PORT

OPENROUTER: Final = "openrouter"

PROVIDERS: Final = {
    "openrouter.ai": OPENROUTER,
    "api.openai.com": "openai",
    "api.anthropic.com": "anthropic",
    "openai.azure.com": "azure.ai.openai",
    "cognitiveservices.azure.com": "azure.ai.openai",
    "services.ai.azure.com": "azure.ai.inference",
    "models.inference.ai.azure.com": "azure.ai.inference",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral_ai",
    "api.deepseek.com": "deepseek",
    "api.x.ai": "x_ai",
    "api.perplexity.ai": "perplexity",
    "api.moonshot.ai": "moonshot_ai",
    "api.cohere.com": "cohere",
    "api.cohere.ai": "cohere",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "amazonaws.com": "aws.bedrock",
    "ml.cloud.ibm.com": "ibm.watsonx.ai",
    "api.together.xyz": "together",
    "api.fireworks.ai": "fireworks",
}
"""An entry matches its host and every subdomain."""

_DEFAULT_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class Server:
    """The server of a call, derived from the base URL."""

    provider: str | None
    """``gen_ai.provider.name``, None if the host is unknown."""

    attributes: Attributes
    """``server.address`` and ``server.port``; empty if unknown."""


UNKNOWN_SERVER: Final = Server(None, {})


@functools.lru_cache(maxsize=256)
def server_of(base_url: str) -> Server:
    """Return the server of ``base_url``; credentials and paths in it are not kept."""
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return UNKNOWN_SERVER
    if not host:
        return UNKNOWN_SERVER
    labels = host.split(".")
    candidates = (".".join(labels[start:]) for start in range(len(labels)))
    provider = next((PROVIDERS[name] for name in candidates if name in PROVIDERS), None)
    return Server(provider, {SERVER_ADDRESS: host, **({SERVER_PORT: port} if port else {})})
