"""Feature extraction of Hugging Face's servers: texts, and their vectors without any field around them."""

from __future__ import annotations

from typing import Final

from spancast.dialects import accessors
from spancast.dialects.openai_embeddings import OpenAIEmbeddings
from spancast.model.call import Response


class _HuggingFaceEmbed(OpenAIEmbeddings):
    """The dialect; stateless."""

    __slots__ = ()

    name: str = "huggingface_embed"
    provider: str = "hugging_face"
    is_shared: bool = False
    answers: str | None = "spancast.dialects.huggingface.answers:EMBED"

    def read_response(self, response: object, *, content: bool) -> Response:
        """Read a response without its vectors: one, one per text, or one per token of each text."""
        vector = accessors.items(response)
        if not vector:
            return super().read_response(response, content=content)
        while vector and (inner := accessors.items(vector[0])):
            vector = inner
        return super().read_response({"data": [{"embedding": vector}]}, content=content)


HUGGINGFACE_EMBED: Final = _HuggingFaceEmbed()
