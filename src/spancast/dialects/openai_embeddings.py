"""Embeddings (``POST /embeddings``) of OpenAI, Mistral, OpenRouter and others.

Each text of the input is a user message. Vectors are never recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from spancast.dialects import accessors
from spancast.dialects import parameters as read
from spancast.dialects.content import generic_part
from spancast.dialects.error_body import error_attributes, read_failure
from spancast.dialects.openai_chat.messages import content_part
from spancast.dialects.parameters import Row
from spancast.dialects.protocol import Dialect, StreamReader
from spancast.dialects.usage import Table, read_usage
from spancast.model import semconv
from spancast.model.call import Attributes, MessagePart, Request, Response

_PARAMETERS: Final[Mapping[str, Row]] = {
    "dimensions": Row(semconv.EMBEDDINGS_DIMENSIONS, read.integer),
    "output_dimension": Row(semconv.EMBEDDINGS_DIMENSIONS, read.integer),
    "encoding_format": Row(semconv.REQUEST_ENCODING_FORMATS, read.string_list),
}
_SKIPPED: Final = frozenset({"input", "inputs", "model", "metadata", "session_id", "trace", "user"})
_FIELDS: Final[Mapping[str, Row]] = {
    "object": Row(semconv.RESPONSE_OBJECT, read.text),
    "created": Row(semconv.RESPONSE_CREATED, read.integer),
    "provider": Row(semconv.RESPONSE_PROVIDER, read.text),
}
_NOT_FIELDS: Final = frozenset({"id", "model", "data", "usage", "error"})
_USAGE: Final[Table] = {
    "prompt_tokens": semconv.USAGE_INPUT_TOKENS,
    "total_tokens": semconv.USAGE_TOTAL_TOKENS,
}


class OpenAIEmbeddings(Dialect):
    """The dialect; stateless."""

    __slots__ = ()

    name: str = "openai_embeddings"
    provider: str = "openai"
    is_shared: bool = True
    operation: str = "embeddings"
    answers: str | None = "spancast.dialects.openai_embeddings_answers:ANSWERS"

    def read_request(self, body: Mapping[str, Any], *, content: bool) -> Request:
        """Read a request body."""
        given = body.get("input", body.get("inputs")) if content else None
        return Request(
            model=accessors.text(body.get("model")),
            messages=[{"role": "user", "parts": parts} for parts in _inputs(given)],
            attributes=read.read_parameters(body, _PARAMETERS, _SKIPPED),
        )

    def read_response(self, response: object, *, content: bool) -> Response:  # noqa: ARG002 - there is no content
        """Read a response without its vectors."""
        fields = accessors.fields(response)
        usage = read_usage(fields.get("usage"), _USAGE)
        error = fields.get("error")
        failure = read_failure(error, fields)
        return Response(
            id=accessors.text(fields.get("id")),
            model=accessors.text(fields.get("model")),
            usage=usage.counts,
            attributes={
                **read.read_fields(fields, _FIELDS, _NOT_FIELDS),
                **_dimensions(fields),
                **usage.attributes,
                **error_attributes(error, failure),
            },
            failure=failure,
        )

    def new_stream(self, *, content: bool) -> StreamReader:
        """Return a reader of the last chunk; no server streams embeddings."""
        return LastAnswer(self, content=content)


class LastAnswer(StreamReader):
    """A reader of complete responses: the last one counts."""

    __slots__ = ("_content", "_dialect", "_response")

    def __init__(self, dialect: Dialect, *, content: bool) -> None:
        self._dialect = dialect
        self._content = content
        self._response = Response()

    def feed(self, chunk: object) -> None:
        """Read ``chunk`` as a complete response."""
        self._response = self._dialect.read_response(chunk, content=self._content)

    def result(self) -> Response:
        """Return the last response."""
        return self._response


def _inputs(given: object) -> list[list[MessagePart]]:
    """Return the parts of each input: a text, a list of token numbers, or an object with content parts."""
    values = accessors.items(given)
    is_one = isinstance(given, str) or (values and accessors.count(values[0]) is not None)
    return [_parts(value) for value in ((given,) if is_one else values)]


def _parts(value: object) -> list[MessagePart]:
    tokens = accessors.items(value)
    if tokens:
        return [generic_part("tokens", count=len(tokens))]
    # OpenRouter's multimodal input.
    return [content_part(item) for item in accessors.items(accessors.fields(value).get("content")) or (value,)]


def _dimensions(response: Mapping[str, Any]) -> Attributes:
    """Return the length of the first vector, unless it is encoded or quantized."""
    data = accessors.items(response.get("data"))
    vector = accessors.items(accessors.fields(data[0]).get("embedding")) if data else ()
    return {semconv.EMBEDDINGS_DIMENSIONS: len(vector)} if vector and isinstance(vector[0], float) else {}


OPENAI_EMBEDDINGS: Final = OpenAIEmbeddings()
