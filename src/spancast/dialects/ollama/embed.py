"""Ollama's embeddings: ``POST /api/embed``, and the older ``/api/embeddings``, which takes one prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from spancast.dialects import accessors
from spancast.dialects.ollama.chat import parameters, with_usage
from spancast.dialects.openai_embeddings import OpenAIEmbeddings
from spancast.model.call import Request, Response

_VECTORS: Final = ("embeddings", "embedding")


class _OllamaEmbed(OpenAIEmbeddings):
    """The dialect; stateless."""

    __slots__ = ()

    name: str = "ollama_embed"
    provider: str = "ollama"
    is_shared: bool = False
    answers: str | None = "spancast.dialects.ollama.answers:EMBED"

    def read_request(self, body: Mapping[str, Any], *, content: bool) -> Request:
        """Read a request body."""
        given = body.get("input", body.get("prompt"))
        return super().read_request({**parameters(body), "input": given}, content=content)

    def read_response(self, response: object, *, content: bool) -> Response:
        """Read a response without its vectors."""
        fields = accessors.fields(response)
        vectors = [*accessors.items(fields.get("embeddings"))] or [fields.get("embedding")]
        kept = {name: value for name, value in with_usage(fields).items() if name not in _VECTORS}
        return super().read_response({**kept, "data": [{"embedding": vectors[0]}]}, content=content)


OLLAMA_EMBED: Final = _OllamaEmbed()
