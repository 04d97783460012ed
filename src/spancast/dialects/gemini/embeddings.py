"""Embeddings of the Gemini API (``batchEmbedContents``) and Vertex AI (``embedContent``, ``predict``).

Each content is a user message. Vectors are never recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from spancast.dialects import accessors
from spancast.dialects import parameters as read
from spancast.dialects.gemini.parts import content_parts, named
from spancast.dialects.gemini.reader import api_error_attributes, api_failure, error_details, flattened, read_counts
from spancast.dialects.openai_embeddings import LastAnswer
from spancast.dialects.parameters import Row
from spancast.dialects.protocol import Dialect, StreamReader
from spancast.model import semconv
from spancast.model.call import Attributes, Message, Request, Response

_PARAMETERS: Final[Mapping[str, Row]] = {
    "output_dimensionality": Row(semconv.EMBEDDINGS_DIMENSIONS, read.integer),
}
_INPUTS: Final = ("requests", "instances", "contents")
_SKIPPED: Final = frozenset(
    {*_INPUTS, "content", "http_options", "metadata", "model", "session_id", "title", "trace", "user"}
)
_NOT_FIELDS: Final = frozenset(
    {"embedding", "embeddings", "error", "metadata", "predictions", "sdk_http_response", "usage_metadata"}
)


class _GeminiEmbeddings(Dialect):
    """The dialect; stateless."""

    __slots__ = ()

    name: str = "gemini_embeddings"
    provider: str = "gcp.gen_ai"
    operation: str = "embeddings"
    answers: str | None = "spancast.dialects.gemini.answers:EMBEDDINGS"

    def read_request(self, body: Mapping[str, Any], *, content: bool) -> Request:
        """Read a request body with ``model``."""
        given = flattened(body)
        inputs = list(_inputs(given))
        # Each input of a batch repeats its parameters.
        given = {**(flattened(accessors.fields(inputs[0])) if inputs else {}), **given}
        messages = [_message(one) for one in inputs] if content else []
        return Request(
            model=accessors.text(given.get("model")),
            messages=[message for message in messages if message["parts"]],
            attributes=read.read_parameters(given, _PARAMETERS, _SKIPPED | {"parts", "role"}),
        )

    def read_response(self, response: object, *, content: bool) -> Response:  # noqa: ARG002 - there is no content
        """Read a response without its vectors."""
        fields = named(response)
        usage = read_counts(fields.get("usage_metadata"))
        vectors = [*map(named, _vectors(fields))]
        counts = dict(usage.counts)
        tokens = [accessors.count(named(vector.get("statistics")).get("token_count")) for vector in vectors]
        if semconv.USAGE_INPUT_TOKENS not in counts and any(tokens):
            counts[semconv.USAGE_INPUT_TOKENS] = sum(count or 0 for count in tokens)
        billable = accessors.count(named(fields.get("metadata")).get("billable_character_count"))
        if billable is not None:
            counts[semconv.USAGE + "billable_character_count"] = billable
        failure = api_failure(fields.get("error"))
        attributes: Attributes = {
            **read.read_fields(fields, {}, _NOT_FIELDS, nested=True),
            **usage.attributes,
            **error_details(fields.get("error"), failure),
        }
        values = accessors.items(vectors[0].get("values")) if vectors else ()
        if values:
            attributes[semconv.EMBEDDINGS_DIMENSIONS] = len(values)
        return Response(usage=counts, attributes=attributes, failure=failure)

    def new_stream(self, *, content: bool) -> StreamReader:
        """Return a reader of the last chunk; no server streams embeddings."""
        return LastAnswer(self, content=content)

    def error_attributes(self, error: BaseException) -> Attributes:
        """Return HTTP status, code and details of google-genai's ``APIError``."""
        return api_error_attributes(error)


GEMINI_EMBEDDINGS: Final = _GeminiEmbeddings()


def _inputs(given: Mapping[str, Any]) -> Iterator[object]:
    """Return each input of a batch, or the only one."""
    for name in _INPUTS:
        value = given.get(name)
        yield from accessors.items(value) or (() if value is None else (value,))
    if "content" in given:
        yield {"content": given["content"]}


def _message(value: object) -> Message:
    """Return the message of an input, which may itself be the content."""
    fields = accessors.fields(value)
    message: Message = {"role": "user", "parts": content_parts(fields.get("content", value))}
    if title := accessors.text(fields.get("title")):
        message["title"] = title
    return message


def _vectors(response: Mapping[str, Any]) -> Iterator[object]:
    yield from accessors.items(response.get("embeddings"))
    yield from (accessors.fields(one).get("embeddings") for one in accessors.items(response.get("predictions")))
    if "embedding" in response:
        yield response["embedding"]
