"""Interactions (``POST /interactions``) of the Gemini API, and interactions that are fetched by their id."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from spancast.dialects import accessors
from spancast.dialects import parameters as read
from spancast.dialects.content import text_part
from spancast.dialects.error_body import http_error_attributes
from spancast.dialects.finish import output_messages
from spancast.dialects.gemini.reader import api_failure, error_details
from spancast.dialects.gemini_interactions.steps import awaits_caller, content_parts, input_messages, output_parts
from spancast.dialects.gemini_interactions.stream import InteractionStream
from spancast.dialects.parameters import Range, Row
from spancast.dialects.protocol import RESPONSE_ID, Dialect
from spancast.dialects.sanitize import public_url, to_json_data
from spancast.dialects.usage import Table, Usage, read_usage
from spancast.model import json_codec, semconv
from spancast.model.call import Attributes, Request, Response

_PARAMETERS: Final[Mapping[str, Row]] = {
    "temperature": Row(semconv.REQUEST_TEMPERATURE, read.number),
    "top_p": Row(semconv.REQUEST_TOP_P, read.number),
    "seed": Row(semconv.REQUEST_SEED, read.integer),
    "stop_sequences": Row(semconv.REQUEST_STOP_SEQUENCES, read.string_list),
    "max_output_tokens": Row(semconv.REQUEST_MAX_TOKENS, read.integer),
    "thinking_level": Row(semconv.REQUEST_REASONING_LEVEL, read.text),
    "previous_interaction_id": Row(semconv.REQUEST_PREVIOUS_RESPONSE_ID, read.text),
    "agent": Row(semconv.AGENT_NAME, read.text),
    "stream": Row(semconv.REQUEST_STREAM, read.true_flag),
}
_FETCH_PARAMETERS: Final[Mapping[str, Row]] = {
    RESPONSE_ID: Row(semconv.RESPONSE_ID, read.text),
    "last_event_id": Row(semconv.REQUEST_STREAM_CURSOR, read.text),
    "stream": _PARAMETERS["stream"],
}
_RANGES: Final[Mapping[str, Range]] = {
    "temperature": Range(0, 2),
    "top_p": Range(0, 1),
    "max_output_tokens": Range(1),
}
_TRACE_KEYS: Final = frozenset({"metadata", "session_id", "trace", "user"})
_SKIPPED: Final = frozenset({"continuation_token", "input", "model", "system_instruction", "tools"}) | _TRACE_KEYS
_OUTPUT_TYPES: Final = {"audio": "speech", "image": "image"}

_REPEATED: Final = frozenset(
    {
        "agent", "agent_config", "background", "cached_content", "environment", "generation_config", "input", "labels",
        "previous_interaction_id", "response_format", "response_mime_type", "response_modalities", "safety_settings",
        "store", "stream", "system_instruction", "tools", "webhook_config",
    }
)  # fmt: skip
"""Fields of the request that the response repeats."""
# ``output_text`` and the like are copies of the content, added by google-genai.
_NOT_FIELDS: Final = _REPEATED | {
    "continuation_token", "error", "id", "model", "output_text", "outputs", "role", "steps", "usage",
}  # fmt: skip
_FIELDS: Final[Mapping[str, Row]] = {
    "object": Row(semconv.RESPONSE_OBJECT, read.text),
    "created": Row(semconv.RESPONSE + "create_time", read.text),
}
_USAGE: Final[Table] = {
    "total_input_tokens": semconv.USAGE_INPUT_TOKENS,
    "total_output_tokens": semconv.USAGE_OUTPUT_TOKENS,
    "total_cached_tokens": semconv.USAGE_CACHE_READ,
    "total_thought_tokens": semconv.USAGE_REASONING,
    "total_tokens": semconv.USAGE_TOTAL_TOKENS,
    "input_tokens_by_modality": {
        "audio": semconv.USAGE_AUDIO_INPUT,
        "image": semconv.USAGE_IMAGE_INPUT,
        "text": semconv.USAGE_TEXT_INPUT,
    },
    "output_tokens_by_modality": {
        "audio": semconv.USAGE_AUDIO_OUTPUT,
        "image": semconv.USAGE_IMAGE_OUTPUT,
        "text": semconv.USAGE_TEXT_OUTPUT,
    },
}
_TOOL_USE: Final = semconv.USAGE + "total_tool_use_tokens"
_FINISH_REASONS: Final = {
    "completed": "stop",
    "requires_action": "tool_calls",
    "incomplete": "length",
    "budget_exceeded": "length",
    "requires_continuation": "length",
    "failed": "error",
    "cancelled": "error",
}
"""Finish reasons by status; an interaction that is queued or running has none."""


class _GeminiInteractions(Dialect):
    """The dialect; stateless."""

    __slots__ = ()

    name: str = "gemini_interactions"
    provider: str = "gcp.gen_ai"
    is_stored: bool = True
    end_marker: str | None = "[DONE]"
    answers: str | None = "spancast.dialects.gemini_interactions.answers:ANSWERS"

    def read_request(self, body: Mapping[str, Any], *, content: bool) -> Request:
        """Read a request body; ``input`` has the messages."""
        given = {**body, **accessors.fields(body.get("generation_config"))}
        given.pop("generation_config", None)
        attributes = read.read_parameters(given, _PARAMETERS, _SKIPPED)
        if output_type := _output_type(given):
            attributes[semconv.OUTPUT_TYPE] = output_type
        return Request(
            model=accessors.text(given.get("model")),
            stream=given.get("stream") is True,
            messages=input_messages(given.get("input")) if content else [],
            system_instructions=content_parts(given.get("system_instruction")) if content else [],
            tools=[_tool(tool) for tool in accessors.items(given.get("tools"))] if content else [],
            attributes=attributes,
            validation_errors=read.out_of_range(given, _RANGES),
        )

    def read_response(self, response: object, *, content: bool) -> Response:
        """Read a complete interaction; a string is the model's text."""
        if isinstance(response, str):
            return Response(messages=output_messages([text_part(response)], None) if content and response else [])
        return read_body(accessors.fields(response), content=content)

    def new_stream(self, *, content: bool) -> InteractionStream:
        """Return a reader for one stream."""
        return InteractionStream(read_body, content=content)

    def is_last(self, event: Mapping[str, Any]) -> bool:
        """Return whether ``event`` ends a stream."""
        return event.get("event_type") in ("interaction.completed", "interaction.complete")

    def is_background(self, body: Mapping[str, Any]) -> bool:
        """Return whether the request asks for an interaction in the background."""
        return body.get("background") is True

    def error_attributes(self, error: BaseException) -> Attributes:
        """Return HTTP status and code of the SDK's exception; its type is ``status`` (``RESOURCE_EXHAUSTED``)."""
        found = http_error_attributes(error)
        body: Any = getattr(error, "body", None)
        body = json_codec.decode(body) if isinstance(body, (str, bytes)) else body
        inner = accessors.fields(accessors.fields(body).get("error")) or accessors.fields(body)
        failure = api_failure(inner or None)
        if failure is not None and failure.type == inner.get("status"):
            found[semconv.ERROR_TYPE] = failure.type
        return found


GEMINI_INTERACTIONS: Final = _GeminiInteractions()


class _FetchedInteraction(_GeminiInteractions):
    """``GET /interactions/<id>``: the interaction of an earlier call, whole or as the rest of its stream."""

    __slots__ = ()

    name: str = "gemini_fetched_interaction"
    operation: str = semconv.FETCH_RESPONSE
    answers: str | None = None

    def read_request(self, body: Mapping[str, Any], *, content: bool) -> Request:  # noqa: ARG002 - there is none
        """Read the id and the query of a request."""
        attributes = read.read_parameters(body, _FETCH_PARAMETERS, _TRACE_KEYS)
        return Request(model=None, stream=body.get("stream") is True, attributes=attributes)

    def read_response(self, response: object, *, content: bool) -> Response:
        """Read an interaction that may still be in progress."""
        return _read_fetched(accessors.fields(response), content=content)

    def new_stream(self, *, content: bool) -> InteractionStream:
        """Return a reader for the rest of a stream."""
        return InteractionStream(_read_fetched, content=content)

    def span_name(self, model: str | None) -> str:  # noqa: ARG002 - its request has none
        """Return the name of the operation, as the convention requires."""
        return self.operation


GEMINI_FETCHED_INTERACTION: Final = _FetchedInteraction()


def _read_fetched(response: Mapping[str, Any], *, content: bool) -> Response:
    read_response = read_body(response, content=content)
    if status := accessors.text(response.get("status")):
        read_response.attributes.pop(semconv.RESPONSE + "status", None)
        read_response.attributes[semconv.RESPONSE_STATUS] = status
    return read_response


def read_body(response: Mapping[str, Any], *, content: bool) -> Response:
    """Read an interaction, or an error body."""
    steps = response.get("steps") or response.get("outputs")
    status = accessors.text(response.get("status"))
    errors = accessors.items(response.get("errors")) if status == "failed" else ()
    error = response.get("error") or (errors[0] if errors else None)
    failure = api_failure(error, is_failed=status == "failed")
    reason = "error" if failure is not None else _FINISH_REASONS.get(status or "")
    if reason == "stop" and awaits_caller(steps) and status == "completed":
        reason = "tool_calls"
    usage = read_usage(_by_modality(response.get("usage")), _USAGE)
    _add_excluded(usage)
    skipped = _NOT_FIELDS | {"errors"} if errors else _NOT_FIELDS
    attributes = read.read_fields(response, _FIELDS, skipped, nested=True)
    attributes.update(usage.attributes)
    attributes.update(error_details(error, failure))
    return Response(
        id=accessors.text(response.get("id")),
        model=accessors.text(response.get("model")),
        finish_reasons=[reason] if reason else [],
        messages=output_messages(output_parts(steps), reason) if content else [],
        usage=usage.counts,
        attributes=attributes,
        failure=failure,
    )


def _output_type(given: Mapping[str, Any]) -> str | None:
    modalities = [str(one).lower() for one in accessors.items(given.get("response_modalities"))]
    for name, output_type in _OUTPUT_TYPES.items():
        if name in modalities:
            return output_type
    mime_type = given.get("response_mime_type")
    return "json" if mime_type == "application/json" or not json_codec.is_absent(given.get("response_format")) else None


def _by_modality(usage: object) -> dict[str, Any]:
    """Return the usage with lists of counts, by modality or by tool, as objects."""
    counts: dict[str, Any] = {}
    for name, value in accessors.fields(usage).items():
        listed = [accessors.fields(item) for item in accessors.items(value)]
        if listed:
            value = {  # noqa: PLW2901 - in its other form
                str(item.get("modality") or item.get("type")): item.get("tokens", item.get("count")) for item in listed
            }
        counts[name] = value
    return counts


def _add_excluded(usage: Usage) -> None:
    """Add thoughts to the output, and the results of tools to the input: the totals of this API exclude them."""
    counts = usage.counts
    for name, excluded in (
        (semconv.USAGE_INPUT_TOKENS, _TOOL_USE),
        (semconv.USAGE_OUTPUT_TOKENS, semconv.USAGE_REASONING),
    ):
        if counts.get(excluded):
            counts[name] = counts.get(name, 0) + counts[excluded]


def _tool(value: object) -> dict[str, Any]:
    """Return a tool definition: functions by reference, tools of the provider as a copy without credentials."""
    tool = accessors.fields(value)
    kind = accessors.text(tool.get("type")) or "unknown"
    name = accessors.text(tool.get("name")) or kind
    if kind == "function":
        return {**{key: item for key, item in tool.items() if not json_codec.is_absent(item)}, "name": name}
    definition = to_json_data(dict(tool))
    if "url" in tool:
        definition["url"] = public_url(tool["url"])
    return {**definition, "type": kind, "name": name}
