"""Bedrock Converse (``POST /model/{modelId}/converse``), and the messages of Nova in ``InvokeModel``, which equal it.

A request has its model in the path, so ``model`` is a field that the instrumentation adds. ``inputTokens`` excludes
cached tokens; the attribute includes them. A response names neither its model nor an id, except the id of the request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from spancast.dialects import accessors, parameters
from spancast.dialects.bedrock_converse.blocks import content_parts, input_messages
from spancast.dialects.bedrock_converse.stream import ConverseStream
from spancast.dialects.content import text_part
from spancast.dialects.error_body import error_attributes, read_failure
from spancast.dialects.finish import output_messages
from spancast.dialects.parameters import Range, Row
from spancast.dialects.protocol import Dialect
from spancast.dialects.sanitize import add_rest, to_json_data
from spancast.dialects.usage import Table, read_usage
from spancast.model import json_codec, semconv
from spancast.model.call import Attributes, Failure, Request, Response

_PARAMETERS: Final[Mapping[str, Row]] = {"stream": Row(semconv.REQUEST_STREAM, parameters.true_flag)}
_SKIPPED: Final = frozenset(
    {
        "messages", "model", "modelId", "system", "inferenceConfig", "toolConfig", "outputConfig", "promptVariables",
        "metadata", "session_id", "trace", "user",
    }
)  # fmt: skip
_INFERENCE: Final[Mapping[str, Row]] = {
    "maxTokens": Row(semconv.REQUEST_MAX_TOKENS, parameters.integer),
    "max_new_tokens": Row(semconv.REQUEST_MAX_TOKENS, parameters.integer),
    "temperature": Row(semconv.REQUEST_TEMPERATURE, parameters.number),
    "topP": Row(semconv.REQUEST_TOP_P, parameters.number),
    "top_p": Row(semconv.REQUEST_TOP_P, parameters.number),
    "topK": Row(semconv.REQUEST_TOP_K, parameters.integer),
    "top_k": Row(semconv.REQUEST_TOP_K, parameters.integer),
    "stopSequences": Row(semconv.REQUEST_STOP_SEQUENCES, parameters.string_list),
}
"""Parameters of ``inferenceConfig``; those with an underscore are Nova's."""
_RANGES: Final[Mapping[str, Range]] = {"temperature": Range(0, 1), "topP": Range(0, 1), "maxTokens": Range(1)}
_TOP_K: Final = ("top_k", "topK", "k")
_PROMPT_ARN: Final = ":prompt/"

_FIELDS: Final[Mapping[str, Row]] = {}
_NOT_FIELDS: Final = frozenset({"output", "stopReason", "usage", "metrics", "error", "ResponseMetadata"})
_USAGE: Final[Table] = {
    "inputTokens": semconv.USAGE_INPUT_TOKENS,
    "outputTokens": semconv.USAGE_OUTPUT_TOKENS,
    "totalTokens": semconv.USAGE_TOTAL_TOKENS,
    "cacheReadInputTokens": semconv.USAGE_CACHE_READ,
    "cacheWriteInputTokens": semconv.USAGE_CACHE_WRITE,
    "cacheReadInputTokenCount": semconv.USAGE_CACHE_READ,
    "cacheWriteInputTokenCount": semconv.USAGE_CACHE_WRITE,
}
_FINISH_REASONS: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
    "malformed_model_output": "error",
    "malformed_tool_use": "error",
}


class _BedrockConverse(Dialect):
    """The dialect; stateless."""

    __slots__ = ()

    name: str = "bedrock_converse"
    provider: str = "aws.bedrock"
    answers: str | None = "spancast.dialects.bedrock_converse.answers:ANSWERS"

    def read_request(self, body: Mapping[str, Any], *, content: bool) -> Request:
        """Read a request: the parameters of ``converse()`` or their JSON, with the model as ``model``."""
        attributes = parameters.read_parameters(body, _PARAMETERS, _SKIPPED)
        inference = accessors.fields(body.get("inferenceConfig"))
        attributes.update(parameters.read_parameters(inference, _INFERENCE, frozenset()))
        model = accessors.text(body.get("model")) or accessors.text(body.get("modelId"))
        _add_derived(body, model, attributes)
        return Request(
            model=model,
            stream=body.get("stream") is True,
            messages=input_messages(body.get("messages")) if content else [],
            system_instructions=content_parts(body.get("system")) if content else [],
            tools=_tools(accessors.fields(body.get("toolConfig")).get("tools")) if content else [],
            attributes=attributes,
            validation_errors=parameters.out_of_range(inference, _RANGES),
        )

    def read_response(self, response: object, *, content: bool) -> Response:
        """Read a complete response; a string is one assistant message."""
        if isinstance(response, str):
            return Response(messages=output_messages([text_part(response)], None) if content and response else [])
        return read_body(accessors.fields(response), content=content)

    def new_stream(self, *, content: bool) -> ConverseStream:
        """Return a reader for one stream."""
        return ConverseStream(read_body, content=content)

    def error_attributes(self, error: BaseException) -> Attributes:
        """Return code, status and request id of an exception of botocore."""
        return client_error_attributes(error)


BEDROCK_CONVERSE: Final = _BedrockConverse()


def read_body(response: Mapping[str, Any], *, content: bool, is_cut: bool = False) -> Response:
    """Read a response; ``is_cut``: its stream ended without a stop reason."""
    failure = read_failure(response.get("error"), response)
    native = accessors.text(response.get("stopReason"))
    reason = _FINISH_REASONS.get(native, native) if native else None
    if reason == "error" and failure is None:
        failure = Failure(type=native or semconv.OTHER)
    if failure is not None or is_cut:
        reason = "error"
    usage = read_usage(response.get("usage"), _USAGE)
    include_cache(usage.counts)
    attributes = parameters.read_fields(response, _FIELDS, _NOT_FIELDS, nested=native is not None)
    attributes.update(usage.attributes)
    attributes.update(error_attributes(response.get("error"), failure))
    for name, value in accessors.fields(response.get("metrics")).items():
        if not json_codec.is_absent(value):
            is_number = parameters.number(value) is not None
            attributes[f"{semconv.RESPONSE}metrics.{name}"] = value if is_number else parameters.json_attribute(value)
    if native is not None:
        attributes[semconv.RESPONSE_NATIVE_FINISH_REASONS] = [native]
    output = accessors.fields(response.get("output"))
    if rest := {name: value for name, value in output.items() if name != "message"}:
        attributes[semconv.RESPONSE + "output"] = parameters.json_attribute(rest)
    message = accessors.fields(output.get("message"))
    role = accessors.text(message.get("role")) or "assistant"
    messages = output_messages(content_parts(message.get("content")), reason, role=role) if content else []
    for one in messages:
        add_rest(one, message, {"role", "content"})
    router = accessors.fields(accessors.fields(response.get("trace")).get("promptRouter"))
    return Response(
        id=accessors.text(accessors.fields(response.get("ResponseMetadata")).get("RequestId")),
        model=accessors.text(router.get("invokedModelId")),
        finish_reasons=[reason] if reason else [],
        messages=messages,
        usage=usage.counts,
        attributes=attributes,
        failure=failure,
    )


def include_cache(counts: dict[str, int | float]) -> None:
    """Add cached tokens to the input total, as the conventions require."""
    if semconv.USAGE_INPUT_TOKENS in counts:
        counts[semconv.USAGE_INPUT_TOKENS] += counts.get(semconv.USAGE_CACHE_READ, 0) + counts.get(
            semconv.USAGE_CACHE_WRITE, 0
        )


def client_error_attributes(error: BaseException) -> Attributes:
    """Return ``error.type`` (the code of AWS), HTTP status and request id of botocore's ``ClientError``."""
    found: Attributes = {}
    response = accessors.fields(getattr(error, "response", None))
    metadata = accessors.fields(response.get("ResponseMetadata"))
    details = accessors.fields(response.get("Error"))
    status, code = metadata.get("HTTPStatusCode"), accessors.text(details.get("Code"))
    # Without a code of the server, botocore gives the status, which says less than the exception's class.
    if code is not None and code != str(status):
        found[semconv.ERROR_TYPE] = code
    if isinstance(status, int):
        found[semconv.RESPONSE + "status_code"] = status
    if request_id := accessors.text(metadata.get("RequestId")):
        found[semconv.RESPONSE + "request_id"] = request_id
    if retries := accessors.count(metadata.get("RetryAttempts")):
        found[semconv.RESPONSE + "retry_attempts"] = retries
    return found


def add_guardrail(attributes: Attributes, identifier: object) -> None:
    """Add the id of a guardrail."""
    if (guardrail := accessors.text(identifier)) is not None:
        attributes[semconv.BEDROCK_GUARDRAIL_ID] = guardrail


def _add_derived(body: Mapping[str, Any], model: str | None, attributes: Attributes) -> None:
    """Add attributes that depend on a part of a parameter."""
    add_guardrail(attributes, accessors.fields(body.get("guardrailConfig")).get("guardrailIdentifier"))
    tools = accessors.fields(body.get("toolConfig"))
    if choice := accessors.fields(tools.get("toolChoice")):
        name = next(iter(choice))
        is_name = choice == {name: {}}
        attributes[semconv.REQUEST + "toolChoice"] = name if is_name else parameters.json_attribute(choice)
    if rest := {name: value for name, value in tools.items() if name not in ("tools", "toolChoice")}:
        attributes[semconv.REQUEST + "toolConfig"] = parameters.json_attribute(rest)
    if more := accessors.fields(body.get("additionalModelRequestFields")):
        # Nova has it in a configuration of the same name.
        found = (
            fields.get(name) for fields in (more, accessors.fields(more.get("inferenceConfig"))) for name in _TOP_K
        )
        top_k = next((number for value in found if (number := parameters.integer(value)) is not None), None)
        if top_k is not None:
            attributes[semconv.REQUEST_TOP_K] = top_k
    if output := accessors.fields(body.get("outputConfig")):
        if accessors.fields(output.get("textFormat")).get("type") == "json_schema":
            attributes[semconv.OUTPUT_TYPE] = "json"
        if level := accessors.text(output.get("effort")):
            attributes[semconv.REQUEST_REASONING_LEVEL] = level
        if rest := {name: value for name, value in output.items() if name != "effort" or not level}:
            attributes[semconv.REQUEST + "outputConfig"] = parameters.json_attribute(rest)
    _add_prompt(body, model, attributes)


def _add_prompt(body: Mapping[str, Any], model: str | None, attributes: Attributes) -> None:
    """Add name, version and variables of a stored prompt, whose ARN is then the model."""
    if model is not None and _PROMPT_ARN in model:
        prompt, _, version = model.partition(_PROMPT_ARN)[2].partition(":")
        attributes[semconv.PROMPT_NAME] = prompt
        if version:
            attributes[semconv.PROMPT_VERSION] = version
    for name, value in accessors.fields(body.get("promptVariables")).items():
        fields = accessors.fields(value)
        text = fields["text"] if len(fields) == 1 and "text" in fields else value
        attributes[f"{semconv.PROMPT_VARIABLE}.{name}"] = parameters.json_attribute(text)


def _tools(value: object) -> list[dict[str, Any]]:
    tools: list[dict[str, Any]] = []
    for item in accessors.items(value):
        for kind, inner in accessors.fields(item).items():
            fields = accessors.fields(inner)
            if kind == "cachePoint" and tools:
                tools[-1][kind] = to_json_data(fields)
            elif kind == "toolSpec":
                tools.append(_tool(fields))
            elif not json_codec.is_absent(inner):
                tools.append(
                    {**to_json_data(dict(fields)), "type": kind, "name": accessors.text(fields.get("name")) or kind}
                )
    return tools


def _tool(fields: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: item for key, item in fields.items() if key != "inputSchema" and not json_codec.is_absent(item)}
    definition: dict[str, Any] = {"type": "function", **kept, "name": accessors.text(fields.get("name")) or ""}
    schema = accessors.fields(fields.get("inputSchema"))
    if not json_codec.is_absent(schema.get("json")):
        definition["parameters"] = schema["json"]
    if rest := {name: value for name, value in schema.items() if name != "json"}:
        definition["inputSchema"] = to_json_data(rest)
    return definition
