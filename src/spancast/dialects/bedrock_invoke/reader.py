"""Bedrock ``InvokeModel``: a body in the format of the model's vendor, read by the dialect of that format.

A request has the model as ``model``, and the parameters of ``invoke_model()`` that are headers, beside the body.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Final

from spancast.dialects import accessors, parameters
from spancast.dialects.anthropic_messages.reader import ANTHROPIC_MESSAGES
from spancast.dialects.bedrock_converse.reader import (
    BEDROCK_CONVERSE,
    add_guardrail,
    client_error_attributes,
    include_cache,
)
from spancast.dialects.bedrock_invoke import text
from spancast.dialects.bedrock_invoke.families import Family, family_of_request, family_of_response, operation_of
from spancast.dialects.content import text_part
from spancast.dialects.error_body import error_attributes, read_failure
from spancast.dialects.finish import output_messages
from spancast.dialects.openai_chat.reader import OPENAI_CHAT
from spancast.dialects.protocol import Dialect, StreamReader
from spancast.dialects.usage import Table, read_usage
from spancast.model import json_codec, semconv
from spancast.model.call import Attributes, Request, Response

API_PARAMETERS: Final = frozenset(
    {
        "accept", "contentType", "guardrailIdentifier", "guardrailVersion", "guardrailTrace",
        "performanceConfigLatency", "projectIdentifier", "requestMetadata", "serviceTier",
    }
)  # fmt: skip
"""Parameters of ``invoke_model()`` that are not in the body. Its ``trace`` is ``guardrailTrace`` here."""
METRICS: Final = "amazon-bedrock-invocationMetrics"
"""The field of the last chunk of a stream with token counts and times; a complete response has them in headers."""

_SKIPPED: Final = frozenset({"accept", "contentType", "guardrailIdentifier"})
_COUNTS: Final[Table] = {
    "inputTokenCount": semconv.USAGE_INPUT_TOKENS,
    "outputTokenCount": semconv.USAGE_OUTPUT_TOKENS,
    "cacheReadInputTokenCount": semconv.USAGE_CACHE_READ,
    "cacheWriteInputTokenCount": semconv.USAGE_CACHE_WRITE,
}
_GUARDRAIL_ACTION: Final = semconv.RESPONSE + "amazon-bedrock-guardrailAction"
_FINISH_REASONS: Final = {"end_turn": "stop", "max_tokens": "length", "tool_use": "tool_calls"}


class BedrockInvoke(Dialect):
    """The dialect; stateless."""

    __slots__ = ()

    name: str = "bedrock_invoke"
    provider: str = "aws.bedrock"
    answers: str | None = "spancast.dialects.bedrock_invoke.answers:ANSWERS"

    def for_request(self, body: Mapping[str, Any]) -> BedrockInvoke:
        """Return the dialect with the operation that the request ``body`` asks for."""
        return _BY_OPERATION[operation_of(body)]

    def read_request(self, body: Mapping[str, Any], *, content: bool) -> Request:
        """Read a request: the body and ``API_PARAMETERS``."""
        own = {name: value for name, value in body.items() if name not in API_PARAMETERS}
        given = {name: value for name, value in body.items() if name in API_PARAMETERS}
        request = _READERS[family_of_request(own)](own, content=content)
        request.attributes.pop(semconv.OPENAI_API_TYPE, None)
        request.attributes.update(parameters.read_parameters(given, {}, _SKIPPED))
        add_guardrail(request.attributes, given.get("guardrailIdentifier"))
        return request

    def read_response(self, response: object, *, content: bool) -> Response:
        """Read a complete response; a string is one assistant message."""
        if isinstance(response, str):
            return Response(messages=output_messages([text_part(response)], None) if content and response else [])
        return _with_guardrail(_read(accessors.fields(response), content=content))

    def new_stream(self, *, content: bool) -> StreamReader:
        """Return a reader for one stream."""
        return _InvokeStream(content=content)

    def error_attributes(self, error: BaseException) -> Attributes:
        """Return code, status and request id of an exception of botocore."""
        return client_error_attributes(error)


class _TextCompletion(BedrockInvoke):
    __slots__ = ()

    operation: str = "text_completion"


class _Embeddings(BedrockInvoke):
    __slots__ = ()

    operation: str = "embeddings"


class _Generation(BedrockInvoke):
    """Images, and whatever an unknown model makes."""

    __slots__ = ()

    operation: str = "generate_content"


BEDROCK_INVOKE: Final = BedrockInvoke()
_BY_OPERATION: Final[Mapping[str, BedrockInvoke]] = {
    dialect.operation: dialect for dialect in (BEDROCK_INVOKE, _TextCompletion(), _Embeddings(), _Generation())
}
_READERS: Final[Mapping[Family, Callable[..., Request]]] = {
    "anthropic": ANTHROPIC_MESSAGES.read_request,
    "converse": BEDROCK_CONVERSE.read_request,
    "chat": OPENAI_CHAT.read_request,
    "text": text.read_request,
}


def _read(response: Mapping[str, Any], *, content: bool) -> Response:
    family = family_of_response(response)
    if family == "text":
        return text.read_response(response, content=content)
    if family == "anthropic":
        return ANTHROPIC_MESSAGES.read_response(response, content=content)
    if family == "converse":
        return BEDROCK_CONVERSE.read_response(response, content=content)
    return OPENAI_CHAT.read_response(_chat(response), content=content)


def _with_guardrail(response: Response) -> Response:
    """Return ``response`` with the finish reason of a guardrail that intervened; the model's own says another one."""
    if response.attributes.get(_GUARDRAIL_ACTION) != "INTERVENED":
        return response
    return _ended(response, "content_filter")


def _ended(response: Response, reason: str) -> Response:
    messages = [{**message, "finish_reason": reason} for message in response.messages]
    return dataclasses.replace(response, finish_reasons=[reason], messages=messages)


def with_metrics(response: Response, metrics: Mapping[str, Any]) -> Response:
    """Return ``response`` with the times in ``metrics``, and with their token counts if it has none of its own.

    The count of input tokens excludes cached ones.
    """
    if not metrics:
        return response
    times = {name: value for name, value in metrics.items() if name not in _COUNTS}
    attributes = {**response.attributes, **parameters.read_fields(times, {}, frozenset())}
    usage = response.usage
    if semconv.USAGE_INPUT_TOKENS not in usage and semconv.USAGE_OUTPUT_TOKENS not in usage:
        counted = read_usage({name: metrics[name] for name in _COUNTS if name in metrics}, _COUNTS).counts
        include_cache(counted)
        usage = {**counted, **usage}
    return dataclasses.replace(response, attributes=attributes, usage=usage)


def _chat(response: Mapping[str, Any], *, is_chunk: bool = False) -> Mapping[str, Any]:
    """Return a chat response with OpenAI's names: Mistral's choices have ``stop_reason``, and messages as deltas."""
    names = {"stop_reason": "finish_reason", **({"message": "delta"} if is_chunk else {})}
    choices = [accessors.fields(choice) for choice in accessors.items(response.get("choices"))]
    if all(names.keys().isdisjoint(choice) for choice in choices):
        return response
    renamed = [{names.get(name, name): value for name, value in choice.items()} for choice in choices]
    for choice in renamed:
        reason = choice.get("finish_reason")
        if isinstance(reason, str):
            choice["finish_reason"] = _FINISH_REASONS.get(reason, reason)
    return {**response, "choices": renamed}


class _InvokeStream(StreamReader):
    """A reader of the chunks of any family, which is found by the first chunk."""

    __slots__ = ("_content", "_error", "_family", "_metrics", "_reader")

    def __init__(self, *, content: bool) -> None:
        self._content = content
        self._error: object = None
        self._family: Family | None = None
        self._metrics: Mapping[str, Any] = {}
        self._reader: StreamReader | None = None

    def feed(self, chunk: object) -> None:
        """Process the next chunk; an error is an object with the key ``error`` only."""
        fields = accessors.fields(chunk)
        if METRICS in fields:
            self._metrics = accessors.fields(fields[METRICS])
            fields = {name: value for name, value in fields.items() if name != METRICS}
        if fields.keys() == {"error"}:
            self._error = fields["error"]
        elif fields:
            if self._reader is None:
                self._family = family_of_response(fields)
                self._reader = self._new_reader(self._family)
            self._reader.feed(_chat(fields, is_chunk=True) if self._family == "chat" else fields)

    def _new_reader(self, family: Family) -> StreamReader:
        if family == "text":
            return text.TextStream(content=self._content)
        dialects: Mapping[str, Dialect] = {"anthropic": ANTHROPIC_MESSAGES, "converse": BEDROCK_CONVERSE}
        return dialects.get(family, OPENAI_CHAT).new_stream(content=self._content)

    def result(self) -> Response:
        """Return the response received so far."""
        response = with_metrics(Response() if self._reader is None else self._reader.result(), self._metrics)
        failure = None if json_codec.is_absent(self._error) else read_failure(self._error, {})
        if failure is None:
            return _with_guardrail(response)
        attributes = {**response.attributes, **error_attributes(self._error, failure)}
        return dataclasses.replace(_ended(response, "error"), failure=failure, attributes=attributes)
