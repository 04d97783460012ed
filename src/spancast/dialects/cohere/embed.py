"""Cohere's embeddings (``POST /v2/embed`` and ``/v1/embed``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from spancast.dialects import accessors
from spancast.dialects.openai_embeddings import OpenAIEmbeddings
from spancast.model.call import Request, Response

_INPUTS: Final = ("texts", "inputs", "images")
_TOKENS: Final = {"input_tokens": "prompt_tokens"}
_ANSWER_FIELDS: Final = frozenset({"embeddings", "texts", "images", "inputs", "meta"})


class _CohereEmbed(OpenAIEmbeddings):
    """The dialect; stateless."""

    __slots__ = ()

    name: str = "cohere_embed"
    provider: str = "cohere"
    is_shared: bool = False
    answers: str | None = "spancast.dialects.cohere.answers:EMBED"

    def read_request(self, body: Mapping[str, Any], *, content: bool) -> Request:
        """Read a request body."""
        translated = {name: value for name, value in body.items() if name not in _INPUTS}
        given = [item for name in ("texts", "inputs") for item in accessors.items(body.get(name))]
        given += [{"content": [{"type": "image_url", "image_url": url}]} for url in accessors.items(body.get("images"))]
        translated |= {"input": given, "encoding_format": translated.pop("embedding_types", None)}
        return super().read_request(translated, content=content)

    def read_response(self, response: object, *, content: bool) -> Response:
        """Read a response without its vectors."""
        fields = accessors.fields(response)
        if "embeddings" not in fields:
            return super().read_response(fields, content=content)
        found = fields["embeddings"]
        # Either a list of vectors, or one for each type of numbers.
        vectors = accessors.items(found) or accessors.items(accessors.fields(found).get("float"))
        meta = accessors.fields(fields.get("meta"))
        billed = accessors.fields(meta.get("billed_units"))
        kept = {name: fields[name] for name in fields if name not in _ANSWER_FIELDS}
        usage: dict[str, Any] = {name: meta.get(name) for name in ("tokens", "cached_tokens")}
        usage |= {_TOKENS.get(name, name): billed[name] for name in billed}
        data = [{"embedding": vectors[0]}] if vectors else []
        return super().read_response({**kept, "data": data, "usage": usage}, content=content)


COHERE_EMBED: Final = _CohereEmbed()
