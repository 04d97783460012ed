"""Ollama's embeddings: ``POST /api/embed``, and the older ``/api/embeddings``, which takes one prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from spancast.dialects import accessors
from spancast.dialects.ollama.chat import parameters, usage_of
from spancast.dialects.openai_embeddings import OpenAIEmbeddings
from spancast.model.call import Request, Response


class _OllamaEmbed(OpenAIEmbeddings):
    """The dialect; stateless."""

    __slots__ = ()

    name: str = "ollama_embed"
    provider: str = "ollama"
    is_shared: bool = False
    answers: str | None = "spancast.dialects.ollama.answers:EMBED"

    def read_request(self, body: Mapping[str, Any], *, content: bool) -> Request:
        """Read a request body."""
        return super().read_request({**parameters(body), "input": body.get("input", body.get("prompt"))}, content=content)

    def read_response(self, response: object, *, content: bool) -> Response:
        """Read a response without its vectors."""
        fields = accessors.fields(response)
        vectors = [*accessors.items(fields.get("embeddings"))] or [fields.get("embedding")]
        translated = {"model": fields.get("model"), "error": fields.get("error"), "usage": usage_of(fields)}
        return super().read_response({**translated, "data": [{"embedding": vectors[0]}]}, content=content)


OLLAMA_EMBED: Final = _OllamaEmbed()
