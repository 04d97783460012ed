"""API hosts and their ``gen_ai.provider.name``.

Values are the well-known ones of the convention, which allows custom values for other
providers (OpenRouter, Together, ...).
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, replace
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
    "ml.cloud.ibm.com": "ibm.watsonx.ai",
    "api.together.xyz": "together",
    "api.together.ai": "together",
    "api-inference.together.ai": "together",
    "api.fireworks.ai": "fireworks",
    "api.cerebras.ai": "cerebras",
    "api.sambanova.ai": "sambanova",
    "api.writer.com": "writer",
    "huggingface.co": "hugging_face",
    "huggingface.cloud": "hugging_face",
    "dashscope.aliyuncs.com": "alibaba_cloud",
    "dashscope-intl.aliyuncs.com": "alibaba_cloud",
    "api.z.ai": "z_ai",
    "open.bigmodel.cn": "z_ai",
    "api.moonshot.cn": "moonshot_ai",
    "api.ai21.com": "ai21",
    "api.replicate.com": "replicate",
}
"""An entry matches its host and every subdomain."""
_REGIONAL: Final = (
    (re.compile(r"(?:.+[.-])?aiplatform\.googleapis\.com"), "gcp.vertex_ai"),
    (
        re.compile(r"(?:.+\.)?bedrock(?:-[a-z-]+)?\.[a-z0-9-]+\.(?:vpce\.)?(?:amazonaws\.com(?:\.cn)?|api\.aws)"),
        "aws.bedrock",
    ),
)
"""Hosts with a region in them; other hosts of AWS serve anything."""

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
    return Server(_provider(host), {SERVER_ADDRESS: host, **({SERVER_PORT: port} if port else {})})


def provided_by(provider: str, base_url: str) -> Server:
    """Return the server of ``base_url``, which is ``provider`` unless the host is known: a gateway has another name."""
    known = server_of(base_url)
    return known if known.provider else replace(known, provider=provider)


def _provider(host: str) -> str | None:
    labels = host.split(".")
    for start in range(len(labels)):
        provider = PROVIDERS.get(".".join(labels[start:]))
        if provider is not None:
            return provider
    return next((provider for pattern, provider in _REGIONAL if pattern.fullmatch(host)), None)
