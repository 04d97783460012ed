"""URLs of completion endpoints and their dialects, for requests that are made without an SDK.

A path names an API whatever the host: gateways and servers of one's own have the paths of the provider they stand for.
Some of these paths are ordinary words (``/messages``), so the body must have the fields of the API, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import translate
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

from spancast.model.providers import Server, server_of


class CompletionUrl(NamedTuple):
    """The end of the path of an endpoint, its dialect, and fields of which a request has at least one."""

    end: str
    dialect: str
    fields: tuple[str, ...]


_OF_INVOKE: Final = ("messages", "message", "prompt", "inputText", "texts", "inputs", "singleEmbeddingParams")
"""Fields of the bodies of InvokeModel."""
COMPLETION_URLS: Final = (
    CompletionUrl("/chat/completions", "openai_chat", ("messages",)),
    CompletionUrl("/agents/completions", "openai_chat", ("messages",)),
    CompletionUrl("/fim/completions", "openai_completions", ("prompt",)),
    CompletionUrl("/completions", "openai_completions", ("prompt",)),
    CompletionUrl("/responses", "openai_responses", ("input", "prompt")),
    CompletionUrl("/api/embeddings", "ollama_embed", ("prompt",)),
    CompletionUrl("/embeddings", "openai_embeddings", ("input",)),
    CompletionUrl("/messages", "anthropic_messages", ("messages",)),
    CompletionUrl("/invoke", "anthropic_messages", ("anthropic_version",)),
    CompletionUrl("/invoke-with-response-stream", "anthropic_messages", ("anthropic_version",)),
    CompletionUrl("/invoke", "bedrock_invoke", _OF_INVOKE),
    CompletionUrl("/invoke-with-response-stream", "bedrock_invoke", _OF_INVOKE),
    CompletionUrl(":rawPredict", "anthropic_messages", ("anthropic_version",)),
    CompletionUrl(":streamRawPredict", "anthropic_messages", ("anthropic_version",)),
    CompletionUrl(":rawPredict", "openai_chat", ("messages",)),
    CompletionUrl(":streamRawPredict", "openai_chat", ("messages",)),
    CompletionUrl(":generateContent", "gemini", ("contents",)),
    CompletionUrl(":streamGenerateContent", "gemini", ("contents",)),
    CompletionUrl(":batchEmbedContents", "gemini_embeddings", ("requests",)),
    CompletionUrl(":embedContent", "gemini_embeddings", ("content",)),
    CompletionUrl("/interactions", "gemini_interactions", ("input",)),
    CompletionUrl("/conversations", "mistral_conversations", ("inputs",)),
    CompletionUrl("/converse", "bedrock_converse", ("messages",)),
    CompletionUrl("/converse-stream", "bedrock_converse", ("messages",)),
    CompletionUrl("/v2/chat", "cohere_chat", ("messages",)),
    CompletionUrl("/v1/chat", "cohere_chat_v1", ("message",)),
    CompletionUrl("/v1/chat", "openai_chat", ("messages",)),
    CompletionUrl("/embed", "cohere_embed", ("texts", "inputs", "images")),
    CompletionUrl("/api/chat", "ollama_chat", ("messages",)),
    CompletionUrl("/api/generate", "ollama_generate", ("prompt",)),
    CompletionUrl("/api/embed", "ollama_embed", ("input",)),
    CompletionUrl("/generation", "dashscope_chat", ("input",)),
)
"""Longer ends come before shorter ones with the same last word. The first row counts whose fields the body has."""

DIALECTS: Final = tuple(dict.fromkeys(url.dialect for url in COMPLETION_URLS))
"""The names of the dialects of these endpoints."""

_MODEL: Final = re.compile(r"/(?:deployments|models?)/([^/]+?)(?=/|:[A-Za-z]+\Z)")
"""The model in the path, of Azure, Bedrock and Vertex."""
_CONVERSATION: Final = "/conversations"
_CONTINUED: Final = re.compile(rf"{_CONVERSATION}/([^/]+)(?:/restart)?\Z")
"""The path of a request that continues a conversation of Mistral."""


def _by_last_word() -> dict[str, list[CompletionUrl]]:
    found: dict[str, list[CompletionUrl]] = {}
    for url in COMPLETION_URLS:
        found.setdefault(_last_word(url.end), []).append(url)
    return found


def _last_word(path: str) -> str:
    name = path[path.rfind("/") + 1 :]
    return name[name.rfind(":") + 1 :] if ":" in name else name


_BY_LAST_WORD: Final = _by_last_word()


class OwnUrl:
    """A URL that the user has named, ``host/path`` or with a scheme; ``*`` stands for any text."""

    def __init__(self, url: str, dialect: str) -> None:
        self.dialect: Final = dialect
        self._matches: Final = re.compile(translate(url if "://" in url else f"*://{url}")).match

    def matches(self, url: str) -> bool:
        """Return whether ``url``, without its query, is meant."""
        return self._matches(url) is not None


class Endpoint(NamedTuple):
    """What a request says about its endpoint, besides its body."""

    dialect: str
    server: Server
    in_path: Mapping[str, str]
    """Fields of the request that its path has and its body has not: ``model``, ``conversation_id``."""


def may_be_completion(path: str) -> bool:
    """Return whether a request to ``path`` may be one of a known endpoint; the fast answer for all the others."""
    return (
        path[path.rfind("/") + 1 :] in _BY_LAST_WORD
        or path[path.rfind(":") + 1 :] in _BY_LAST_WORD
        or f"{_CONVERSATION}/" in path
    )


def endpoint_of(url: str, body: Mapping[str, Any], own: tuple[OwnUrl, ...]) -> Endpoint | None:
    """Return the endpoint of a request with JSON ``body``; None if it is none of ``own`` and no known one.

    A host that is no known provider's needs a request with a model.
    """
    url = url.partition("?")[0]
    server = server_of(url)
    in_path: dict[str, str] = {}
    if not isinstance(body.get("model"), str) and (model := _MODEL.search(url)):
        in_path["model"] = unquote(model[1])
    for named in own:
        if named.matches(url):
            return Endpoint(named.dialect, server, in_path)
    if continued := _CONTINUED.search(url):
        in_path["conversation_id"] = unquote(continued[1])
        url = f"{url[: continued.start()]}{_CONVERSATION}"
    rows = _BY_LAST_WORD.get(_last_word(url), ())
    known = next((one for one in rows if url.endswith(one.end) and any(name in body for name in one.fields)), None)
    if known is None or (server.provider is None and "model" not in body and not in_path):
        return None
    return Endpoint(known.dialect, server, in_path)
