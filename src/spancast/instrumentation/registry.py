"""The registry of supported SDKs. The patches of an SDK are imported with the SDK."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from spancast.instrumentation.patching import ClientPatches, ClientSpec
from spancast.model.entry_points import installed, load

ENTRY_POINTS: Final = "spancast.clients"
"""The entry point group for SDKs of other distributions: ``name = "module:SPEC"``."""

CLIENTS: Final[dict[str, ClientSpec]] = {
    spec.name: spec
    for spec in (
        ClientSpec(
            name="openai",
            distribution="openai",
            packages=("openai",),
            min_version="2.0.0",
            patches="spancast.instrumentation.openai:PATCHES",
        ),
        ClientSpec(
            name="openrouter",
            distribution="openrouter",
            packages=("openrouter",),
            min_version="1.0.0",
            patches="spancast.instrumentation.openrouter:PATCHES",
        ),
        ClientSpec(
            name="anthropic",
            distribution="anthropic",
            packages=("anthropic",),
            min_version="1.0.0",
            patches="spancast.instrumentation.anthropic:PATCHES",
        ),
        ClientSpec(
            name="google_genai",
            distribution="google-genai",
            packages=("google.genai",),
            min_version="1.25.0",
            patches="spancast.instrumentation.google_genai:PATCHES",
        ),
        ClientSpec(
            name="groq",
            distribution="groq",
            packages=("groq",),
            min_version="0.13.0",
            patches="spancast.instrumentation.groq:PATCHES",
        ),
        ClientSpec(
            name="together",
            distribution="together",
            packages=("together",),
            min_version="2.0.0",
            patches="spancast.instrumentation.together:PATCHES",
        ),
        ClientSpec(
            name="fireworks",
            distribution="fireworks-ai",
            packages=("fireworks",),
            min_version="1.2.0",
            patches="spancast.instrumentation.fireworks:PATCHES",
        ),
        ClientSpec(
            name="cerebras",
            distribution="cerebras_cloud_sdk",
            packages=("cerebras.cloud.sdk",),
            min_version="1.14.0",
            patches="spancast.instrumentation.cerebras:PATCHES",
        ),
        ClientSpec(
            name="sambanova",
            distribution="sambanova",
            packages=("sambanova",),
            min_version="1.10.0",
            patches="spancast.instrumentation.sambanova:PATCHES",
        ),
        ClientSpec(
            name="writer",
            distribution="writer-sdk",
            packages=("writerai",),
            min_version="2.4.0",
            patches="spancast.instrumentation.writer:PATCHES",
        ),
        ClientSpec(
            name="mistralai",
            distribution="mistralai",
            # ``mistralai`` itself has no code, so its import is not noticed.
            packages=("mistralai.client", "mistralai.azure.client", "mistralai.gcp.client"),
            # Older ones pin OpenTelemetry's conventions.
            min_version="2.10.1",
            patches="spancast.instrumentation.mistralai:PATCHES",
        ),
        ClientSpec(
            name="huggingface_hub",
            distribution="huggingface_hub",
            packages=("huggingface_hub",),
            min_version="1.0.0",
            patches="spancast.instrumentation.huggingface_hub:PATCHES",
        ),
        ClientSpec(
            name="bedrock",
            distribution="boto3",
            # botocore makes a class for each service.
            packages=("botocore.client.BedrockRuntime", "aiobotocore.client.BedrockRuntime"),
            min_version="1.34.116",
            patches="spancast.instrumentation.bedrock:PATCHES",
        ),
        ClientSpec(
            name="litellm",
            distribution="litellm",
            packages=("litellm",),
            min_version="1.79.0",
            patches="spancast.instrumentation.litellm:PATCHES",
        ),
        ClientSpec(
            name="dspy",
            distribution="dspy",
            packages=("dspy", "lm15"),
            min_version="3.4.0",
            patches="spancast.instrumentation.dspy:PATCHES",
        ),
        ClientSpec(
            name="httpx",
            distribution="httpx",
            packages=("httpx",),
            min_version="0.25.0",
            patches="spancast.instrumentation.httpx:PATCHES",
            by_name_only=True,
        ),
        ClientSpec(
            name="httpx2",
            distribution="httpx2",
            packages=("httpx2",),
            min_version="2.0.0",
            patches="spancast.instrumentation.httpx:PATCHES_OF_HTTPX2",
            by_name_only=True,
        ),
        ClientSpec(
            name="requests",
            distribution="requests",
            packages=("requests",),
            min_version="2.31.0",
            patches="spancast.instrumentation.requests:PATCHES",
            by_name_only=True,
        ),
        ClientSpec(
            name="aiohttp",
            distribution="aiohttp",
            packages=("aiohttp",),
            min_version="3.9.5",
            patches="spancast.instrumentation.aiohttp:PATCHES",
            by_name_only=True,
        ),
        ClientSpec(
            name="urllib3",
            distribution="urllib3",
            packages=("urllib3",),
            min_version="2.0.0",
            patches="spancast.instrumentation.urllib3:PATCHES",
            by_name_only=True,
        ),
        ClientSpec(
            name="cohere",
            distribution="cohere",
            packages=("cohere",),
            min_version="5.16.0",
            patches="spancast.instrumentation.cohere:PATCHES",
        ),
        ClientSpec(
            name="ollama",
            distribution="ollama",
            packages=("ollama",),
            # Older ones need httpx before 0.28.
            min_version="0.4.7",
            patches="spancast.instrumentation.ollama:PATCHES",
        ),
        ClientSpec(
            name="zai",
            distribution="zai-sdk",
            packages=("zai", "zhipuai"),
            min_version="0.0.4",
            patches="spancast.instrumentation.zai:PATCHES",
        ),
        ClientSpec(
            name="ai21",
            distribution="ai21",
            packages=("ai21",),
            min_version="4.0.0",
            patches="spancast.instrumentation.ai21:PATCHES",
        ),
        ClientSpec(
            name="xai",
            distribution="xai-sdk",
            packages=("xai_sdk",),
            min_version="1.4.0",
            patches="spancast.instrumentation.xai:PATCHES",
        ),
        ClientSpec(
            name="azure_ai_inference",
            distribution="azure-ai-inference",
            packages=("azure.ai.inference",),
            min_version="1.0.0b9",
            patches="spancast.instrumentation.azure_ai_inference:PATCHES",
        ),
        ClientSpec(
            name="dashscope",
            distribution="dashscope",
            packages=("dashscope",),
            min_version="1.20.0",
            patches="spancast.instrumentation.dashscope:PATCHES",
        ),
        ClientSpec(
            name="replicate",
            distribution="replicate",
            packages=("replicate",),
            min_version="1.0.0",
            patches="spancast.instrumentation.replicate:PATCHES",
        ),
    )
}


def installed_clients(name: str | None = None) -> dict[str, ClientSpec]:
    """Return the SDKs that installed distributions offer, only ``name`` if given."""
    return installed(ENTRY_POINTS, ClientSpec.__name__, lambda value: isinstance(value, ClientSpec), name)


def find_client(name: str) -> ClientSpec | None:
    """Return the SDK ``name``, built in or of an installed distribution; None if unknown."""
    return CLIENTS.get(name) or installed_clients(name).get(name)


def find_patches(name: str) -> ClientPatches | None:
    """Return the patches of the SDK ``name``, built in or of an installed distribution; None if unknown."""
    spec = find_client(name)
    return None if spec is None else load(spec.patches)


def name_of(client: object) -> str | None:
    """Return the name of the SDK of ``client``; None if unknown.

    The most specific package decides, so that SDKs may share a namespace (``google.genai``).
    """
    return None if client is None else _owner(client, CLIENTS) or _owner(client, installed_clients())


def _owner(client: object, specs: Mapping[str, ClientSpec]) -> str | None:
    owners = {package: name for name, spec in specs.items() for package in spec.packages}
    for kind in type(client).__mro__:
        # The name of the class too: one package has the clients of every service of AWS.
        package = f"{kind.__module__}.{kind.__name__}"
        while package:
            if package in owners:
                return owners[package]
            package = package.rpartition(".")[0]
    return None
