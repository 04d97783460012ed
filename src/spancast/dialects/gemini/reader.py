"""Gemini (``generateContent``) of the Gemini API and Vertex AI.

The model is in the path of a request; a client puts it, and ``stream``, into the body that is read. Parameters have the
names of google-genai (``max_output_tokens``). A candidate that calls functions ends with ``STOP``, which is
``tool_calls`` on the attribute; the native reasons are in ``spancast.response.native_finish_reasons``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from spancast.dialects import accessors
from spancast.dialects import parameters as read
from spancast.dialects.content import text_part
from spancast.dialects.error_body import error_attributes, http_error_attributes, read_failure
from spancast.dialects.finish import MESSAGE_REASONS, output_messages
from spancast.dialects.gemini.parts import content_messages, content_parts, named, tool_definitions
from spancast.dialects.gemini.stream import GeminiStream
from spancast.dialects.parameters import Range, Row
from spancast.dialects.protocol import Dialect
from spancast.dialects.sanitize import add_rest, to_json_data
from spancast.dialects.usage import Table, Usage, read_usage
from spancast.model import json_codec, semconv
from spancast.model.call import Attributes, AttributeValue, Failure, Message, Request, Response


def _choice_count(value: object) -> AttributeValue | None:
    """Read the number of candidates, which by the convention is recorded only if it is not 1."""
    return [] if value == 1 else read.integer(value)


_PARAMETERS: Final[Mapping[str, Row]] = {
    "temperature": Row(semconv.REQUEST_TEMPERATURE, read.number),
    "top_p": Row(semconv.REQUEST_TOP_P, read.number),
    "top_k": Row(semconv.REQUEST_TOP_K, read.integer),
    "seed": Row(semconv.REQUEST_SEED, read.integer),
    "stop_sequences": Row(semconv.REQUEST_STOP_SEQUENCES, read.string_list),
    "max_output_tokens": Row(semconv.REQUEST_MAX_TOKENS, read.integer),
    "frequency_penalty": Row(semconv.REQUEST_FREQUENCY_PENALTY, read.number),
    "presence_penalty": Row(semconv.REQUEST_PRESENCE_PENALTY, read.number),
    "candidate_count": Row(semconv.REQUEST_CHOICE_COUNT, _choice_count),
    "thinking_level": Row(semconv.REQUEST_REASONING_LEVEL, read.text),
    "stream": Row(semconv.REQUEST_STREAM, read.true_flag),
}
_RANGES: Final[Mapping[str, Range]] = {
    "temperature": Range(0, 2),
    "top_p": Range(0, 1),
    "top_k": Range(1),
    "max_output_tokens": Range(1),
}
_FLATTENED: Final = ("generation_config", "config", "thinking_config", "embed_content_config", "parameters")
"""Objects whose fields are parameters; ``config`` is that of google-genai's methods."""
_TRACE_KEYS: Final = frozenset({"metadata", "session_id", "trace", "user"})
_SKIPPED: Final = (
    frozenset({"contents", "http_options", "model", "system_instruction", "tools", "automatic_function_calling"})
    | _TRACE_KEYS
)
_OUTPUT_TYPES: Final = {"AUDIO": "speech", "IMAGE": "image"}

_FIELDS: Final[Mapping[str, Row]] = {}
_NOT_FIELDS: Final = frozenset(
    {
        "candidates", "error", "model_version", "response_id", "usage_metadata",
        # google-genai's own.
        "automatic_function_calling_history", "parsed", "sdk_http_response",
    }
)  # fmt: skip
_CANDIDATE_FIELDS: Final = frozenset({"content", "continuation_token", "finish_reason", "index", "logprobs_result"})
_EMPTY: Final = ("type", "content")
_CONTENT_FIELDS: Final = frozenset({"parts", "role"})
_USAGE: Final[Table] = {
    "prompt_token_count": semconv.USAGE_INPUT_TOKENS,
    "candidates_token_count": semconv.USAGE_OUTPUT_TOKENS,
    "response_token_count": semconv.USAGE_OUTPUT_TOKENS,
    "cached_content_token_count": semconv.USAGE_CACHE_READ,
    "thoughts_token_count": semconv.USAGE_REASONING,
    "total_token_count": semconv.USAGE_TOTAL_TOKENS,
    "prompt_tokens_details": {
        "audio": semconv.USAGE_AUDIO_INPUT,
        "image": semconv.USAGE_IMAGE_INPUT,
        "text": semconv.USAGE_TEXT_INPUT,
    },
    "candidates_tokens_details": {
        "audio": semconv.USAGE_AUDIO_OUTPUT,
        "image": semconv.USAGE_IMAGE_OUTPUT,
        "text": semconv.USAGE_TEXT_OUTPUT,
    },
}
_TOOL_USE: Final = semconv.USAGE + "tool_use_prompt_token_count"

_FILTERED: Final = (
    "SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE", "IMAGE_SAFETY",
    "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "MODEL_ARMOR",
)  # fmt: skip
_FAILED: Final = (
    "MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS",
    "MISSING_THOUGHT_SIGNATURE", "NO_IMAGE", "IMAGE_OTHER", "OTHER",
)  # fmt: skip
_FINISH_REASONS: Final = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
    **dict.fromkeys(_FILTERED, "content_filter"),
    **dict.fromkeys(_FAILED, "error"),
}
_UNSPECIFIED: Final = "FINISH_REASON_UNSPECIFIED"


class _Gemini(Dialect):
    """The dialect; stateless."""

    __slots__ = ()

    name: str = "gemini"
    provider: str = "gcp.gen_ai"
    operation: str = "generate_content"
    answers: str | None = "spancast.dialects.gemini.answers:ANSWERS"

    def read_request(self, body: Mapping[str, Any], *, content: bool) -> Request:
        """Read a request body with ``model`` and ``stream``."""
        given = flattened(body)
        attributes = read.read_parameters(given, _PARAMETERS, _SKIPPED)
        if output_type := _output_type(given):
            attributes[semconv.OUTPUT_TYPE] = output_type
        return Request(
            model=accessors.text(given.get("model")),
            stream=given.get("stream") is True,
            messages=content_messages(given.get("contents")) if content else [],
            system_instructions=content_parts(given.get("system_instruction")) if content else [],
            tools=tool_definitions(given.get("tools")) if content else [],
            attributes=attributes,
            validation_errors=read.out_of_range(given, _RANGES),
        )

    def read_response(self, response: object, *, content: bool) -> Response:
        """Read a complete response; a string is the model's text, a list the chunks of a stream."""
        if isinstance(response, str):
            return Response(messages=output_messages([text_part(response)], None) if content and response else [])
        if isinstance(response, list):
            stream = self.new_stream(content=content)
            stream.feed(response)  # pyright: ignore[reportUnknownArgumentType] - wire JSON
            return stream.result()
        return read_body(named(response), content=content)

    def new_stream(self, *, content: bool) -> GeminiStream:
        """Return a reader for one stream."""
        return GeminiStream(read_body, content=content)

    def is_last(self, event: Mapping[str, Any]) -> bool:
        """Return whether ``event`` ends a stream: every candidate in it has a finish reason."""
        candidates = [named(item) for item in accessors.items(event.get("candidates"))]
        return bool(candidates) and all("finish_reason" in candidate for candidate in candidates)

    def error_attributes(self, error: BaseException) -> Attributes:
        """Return HTTP status, code and details of google-genai's ``APIError``."""
        return api_error_attributes(error)


GEMINI: Final = _Gemini()


def flattened(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a request and of the objects that hold parameters, by their names in snake_case."""
    given = named(body)
    for name in _FLATTENED:
        inner = named(given.get(name))
        if inner or given.get(name) == {}:
            del given[name]
            given = {**given, **inner}
    return given


def _output_type(given: Mapping[str, Any]) -> str | None:
    modalities = accessors.items(given.get("response_modalities"))
    for name, output_type in _OUTPUT_TYPES.items():
        if name in modalities:
            return output_type
    mime_type = accessors.text(given.get("response_mime_type"))
    if mime_type == "application/json" or "response_schema" in given or "response_json_schema" in given:
        return "json"
    return "text" if mime_type is not None and mime_type.startswith("text/") else None


def read_body(response: Mapping[str, Any], *, content: bool) -> Response:
    """Read a response whose names are in snake_case."""
    candidates = [named(item) for item in accessors.items(response.get("candidates"))]
    usage = read_counts(response.get("usage_metadata"))
    attributes = read.read_fields(response, _FIELDS, _NOT_FIELDS, nested=True)
    attributes.update(usage.attributes)
    failure = api_failure(response.get("error"))
    attributes.update(error_details(response.get("error"), failure))
    native = [accessors.text(candidate.get("finish_reason")) or "" for candidate in candidates]
    reasons = [_reason(candidate) for candidate in candidates]
    if not candidates and (blocked := accessors.text(named(response.get("prompt_feedback")).get("block_reason"))):
        native, reasons = [blocked], ["content_filter"]
    if any(native):
        attributes[semconv.RESPONSE_NATIVE_FINISH_REASONS] = native
    if content and (
        logprobs := [to_json_data(one["logprobs_result"]) for one in candidates if "logprobs_result" in one]
    ):
        attributes[semconv.RESPONSE_LOGPROBS] = json_codec.encode(logprobs)
    if failure is None and "error" in reasons:
        at = reasons.index("error")
        failure = Failure(type=native[at], message=accessors.text(candidates[at].get("finish_message")) or "")
    return Response(
        id=accessors.text(response.get("response_id")),
        model=accessors.text(response.get("model_version")),
        finish_reasons=[reason for reason in reasons if reason is not None],
        messages=[_output(candidate) for candidate in candidates] if content else [],
        usage=usage.counts,
        attributes=attributes,
        failure=failure,
    )


def _output(candidate: Mapping[str, Any]) -> Message:
    content = candidate.get("content")
    parts = content_parts(content)
    if len(parts) > 1:
        parts = [part for part in parts if len(part) > len(_EMPTY) or part.get("content") != ""]
    message: Message = {"role": "assistant", "parts": parts}
    if reason := _reason(candidate):
        message["finish_reason"] = MESSAGE_REASONS.get(reason, reason)
    add_rest(message, accessors.fields(content), _CONTENT_FIELDS)
    return message if candidate.keys() <= _CANDIDATE_FIELDS else add_rest(message, candidate, _CANDIDATE_FIELDS)


def _reason(candidate: Mapping[str, Any]) -> str | None:
    native = accessors.text(candidate.get("finish_reason"))
    if native is None or native == _UNSPECIFIED:
        return None
    reason = _FINISH_REASONS.get(native, native)
    if reason == "stop":
        parts = accessors.items(accessors.fields(candidate.get("content")).get("parts"))
        if any("function_call" in named(part) for part in parts):
            return "tool_calls"
    return reason


def read_counts(usage: object) -> Usage:
    """Return the counts of ``usageMetadata``."""
    counts = read_usage(_by_modality(usage), _USAGE)
    _add_excluded(counts)
    return counts


def _by_modality(usage: object) -> dict[str, Any]:
    """Return the usage by names in snake_case, and lists of counts by modality as objects."""
    counts: dict[str, Any] = {}
    for name, value in named(usage).items():
        by_modality = [named(item) for item in accessors.items(value)]
        if by_modality and all("modality" in item for item in by_modality):
            value = {  # noqa: PLW2901 - in its other form
                str(item["modality"]).rpartition(".")[2].lower(): item.get("token_count", 0) for item in by_modality
            }
        counts[name] = value
    return counts


def _add_excluded(usage: Usage) -> None:
    """Add thoughts to the output, and the results of tools to the input, unless the total says they are part of it."""
    counts = usage.counts
    sent, received, thoughts, total = (
        counts.get(name, 0)
        for name in (
            semconv.USAGE_INPUT_TOKENS, semconv.USAGE_OUTPUT_TOKENS, semconv.USAGE_REASONING,
            semconv.USAGE_TOTAL_TOKENS,
        )
    )  # fmt: skip
    tools = counts.get(_TOOL_USE, 0)
    if tools:
        counts[semconv.USAGE_INPUT_TOKENS] = sent + tools
    if thoughts and total != sent + received + tools:
        counts[semconv.USAGE_OUTPUT_TOKENS] = received + thoughts


def api_failure(error: object, *, is_failed: bool = False) -> Failure | None:
    """Return the failure of an ``error`` object of a Google API; its type is ``status`` (``RESOURCE_EXHAUSTED``).

    ``is_failed`` is as in ``read_failure``.
    """
    return read_failure(error, {"error_type": accessors.fields(error).get("status")}, is_failed=is_failed)


def error_details(error: object, failure: Failure | None) -> Attributes:
    """Return the fields of an ``error`` that are not in ``failure``, which was read from it, as one JSON attribute."""
    fields = accessors.fields(error)
    is_type = failure is not None and fields.get("status") == failure.type
    return error_attributes(
        {name: value for name, value in fields.items() if not (is_type and name == "status")}, failure
    )


def api_error_attributes(error: BaseException) -> Attributes:
    """Return HTTP status, provider's code and details of an exception with a Google API's error as ``details``."""
    details: Any = getattr(error, "details", None)
    if not json_codec.is_mapping(details):
        return http_error_attributes(error)
    found: Attributes = {}
    code = getattr(error, "code", None)
    if isinstance(code, int):
        found[semconv.RESPONSE + "status_code"] = code
    inner: object = details.get("error") or details
    failure = api_failure(inner)
    if failure is not None and failure.type not in (semconv.OTHER, str(code)):
        found[semconv.ERROR_TYPE] = failure.type
    found.update(error_details(inner, failure))
    return found
