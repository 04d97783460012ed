"""Bodies with a text or a prompt instead of a list of messages: Llama, Mistral, Titan, Cohere, AI21, embeddings.

Their names differ and do not collide, so one table reads all of them, and whatever an unknown model has in common with
them. Other fields are kept as they are. Vectors are never recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from spancast.dialects import accessors, parameters
from spancast.dialects.content import media_part, text_part, tool_call_part, tool_result_part
from spancast.dialects.error_body import error_attributes, read_failure
from spancast.dialects.finish import output_messages
from spancast.dialects.parameters import Row
from spancast.dialects.protocol import StreamReader
from spancast.dialects.sanitize import add_rest, to_json_data
from spancast.dialects.usage import Table, read_usage
from spancast.model import json_codec, semconv
from spancast.model.call import Attributes, Message, MessagePart, Request, Response

_PARAMETERS: Final[Mapping[str, Row]] = {
    **dict.fromkeys(
        ("max_gen_len", "max_tokens", "max_tokens_to_sample", "maxTokenCount", "maxTokens"),
        Row(semconv.REQUEST_MAX_TOKENS, parameters.integer),
    ),
    **dict.fromkeys(("top_p", "topP", "p"), Row(semconv.REQUEST_TOP_P, parameters.number)),
    **dict.fromkeys(("top_k", "topK", "k"), Row(semconv.REQUEST_TOP_K, parameters.integer)),
    **dict.fromkeys(
        ("stop", "stop_sequences", "stopSequences"), Row(semconv.REQUEST_STOP_SEQUENCES, parameters.string_list)
    ),
    **dict.fromkeys(
        ("dimensions", "outputEmbeddingLength", "output_dimension", "embeddingDimension"),
        Row(semconv.EMBEDDINGS_DIMENSIONS, parameters.integer),
    ),
    **dict.fromkeys(
        ("embeddingTypes", "embedding_types"), Row(semconv.REQUEST_ENCODING_FORMATS, parameters.string_list)
    ),
    "temperature": Row(semconv.REQUEST_TEMPERATURE, parameters.number),
    "frequency_penalty": Row(semconv.REQUEST_FREQUENCY_PENALTY, parameters.number),
    "presence_penalty": Row(semconv.REQUEST_PRESENCE_PENALTY, parameters.number),
    "seed": Row(semconv.REQUEST_SEED, parameters.integer),
    "num_generations": Row(semconv.REQUEST_CHOICE_COUNT, parameters.integer),
    "stream": Row(semconv.REQUEST_STREAM, parameters.true_flag),
}
_NESTED: Final = ("textGenerationConfig", "embeddingConfig")
"""Objects with parameters."""
_EMBEDDED: Final = "singleEmbeddingParams"
"""The parameters and the content of an embedding of Nova."""
_EMBEDDED_KINDS: Final = ("text", "image", "audio", "video")
_SKIPPED: Final = frozenset(
    {
        "model", "prompt", "inputText", "inputImage", "images", "message", "chat_history", "preamble", "tools",
        "tool_results",
        "texts", "text_prompts", "metadata", "session_id", "trace", "user", _EMBEDDED, *_NESTED,
    }
)  # fmt: skip
_MEDIA: Final = {"images": "image", "inputImage": "image"}
_ROLES: Final = {"USER": "user", "CHATBOT": "assistant", "SYSTEM": "system", "TOOL": "tool"}

_LISTS: Final = ("outputs", "results", "generations", "completions")
_TEXTS: Final = ("text", "generation", "outputText", "completion")
_REASONS: Final = ("stop_reason", "completionReason", "finish_reason", "finishReason")
_VECTORS: Final = ("embedding", "embeddings", "embeddingsByType")
_FIELDS: Final[Mapping[str, Row]] = {"type": Row(semconv.RESPONSE_OBJECT, parameters.text)}
# Cohere repeats the request.
_NOT_FIELDS: Final = frozenset(
    {
        *_LISTS, *_TEXTS, *_REASONS, *_VECTORS, "id", "response_id", "model", "error", "usage", "tool_calls", "images",
        "artifacts", "chat_history", "texts", "prompt", "prompt_token_count", "generation_token_count",
        "inputTextTokenCount", "totalOutputTextTokenCount", "ResponseMetadata",
    }
)  # fmt: skip
_OF_CHUNKS: Final = frozenset({*_LISTS, *_TEXTS, *_REASONS, "response", "index", "event_type", "is_finished"})
_CANDIDATE_FIELDS: Final = frozenset({*_TEXTS, *_REASONS, "data", "id", "index", "tokenCount"})
_FINISH_REASONS: Final = {
    "finish": "stop",
    "complete": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "endoftext": "stop",
    "max_tokens": "length",
    "error_limit": "length",
    "error_toxic": "content_filter",
    "content_filtered": "content_filter",
    "tool_call": "tool_calls",
    "user_cancel": "error",
}
_USAGE: Final[Table] = {
    "prompt_token_count": semconv.USAGE_INPUT_TOKENS,
    "inputTextTokenCount": semconv.USAGE_INPUT_TOKENS,
    "generation_token_count": semconv.USAGE_OUTPUT_TOKENS,
    "totalOutputTextTokenCount": semconv.USAGE_OUTPUT_TOKENS,
    "input_tokens": semconv.USAGE_INPUT_TOKENS,
    "output_tokens": semconv.USAGE_OUTPUT_TOKENS,
}


def read_request(body: Mapping[str, Any], *, content: bool) -> Request:
    """Read a request body."""
    attributes = parameters.read_parameters(body, _PARAMETERS, _SKIPPED)
    for name in _NESTED:
        attributes.update(parameters.read_parameters(accessors.fields(body.get(name)), _PARAMETERS, frozenset()))
    embedded = accessors.fields(body.get(_EMBEDDED))
    attributes.update(parameters.read_parameters(embedded, _PARAMETERS, frozenset(_EMBEDDED_KINDS)))
    preamble = accessors.text(body.get("preamble"))
    return Request(
        model=accessors.text(body.get("model")),
        stream=body.get("stream") is True,
        messages=list(_input(body)) if content else [],
        system_instructions=[text_part(preamble)] if content and preamble else [],
        tools=[_tool(tool) for tool in accessors.items(body.get("tools"))] if content else [],
        attributes=attributes,
    )


def _input(body: Mapping[str, Any]) -> Iterator[Message]:
    for turn in map(accessors.fields, accessors.items(body.get("chat_history"))):
        yield _turn(turn)
    for name in ("prompt", "inputText", "message"):
        if isinstance(text := body.get(name), str):
            yield {"role": "user", "parts": [text_part(text)]}
    for name in ("texts", "text_prompts"):
        for item in accessors.items(body.get(name)):
            text = item if isinstance(item, str) else accessors.fields(item).get("text")
            yield {
                "role": "user",
                "parts": [text_part(text) if isinstance(text, str) else {"type": name, **_rest(item)}],
            }
    for name, kind in _MEDIA.items():
        given = body.get(name)
        for item in [given] if isinstance(given, str) else accessors.items(given):
            if isinstance(item, str):
                yield {"role": "user", "parts": [_media(kind, item)]}
    embedded = accessors.fields(body.get(_EMBEDDED))
    kinds = [kind for kind in _EMBEDDED_KINDS if kind in embedded]
    yield from ({"role": "user", "parts": [_embedded(kind, accessors.fields(embedded[kind]))]} for kind in kinds)
    if results := accessors.items(body.get("tool_results")):
        yield {"role": "tool", "parts": [_tool_result(result) for result in results]}


def _embedded(kind: str, item: Mapping[str, Any]) -> MessagePart:
    """Return the text or medium of an embedding of Nova."""
    if isinstance(text := item.get("value"), str):
        return add_rest(text_part(text), item, {"value"})
    source, form = accessors.fields(item.get("source")), accessors.text(item.get("format"))
    data, url = source.get("bytes"), accessors.text(accessors.fields(source.get("s3Location")).get("uri"))
    part = media_part(
        kind, url=url, data=data if isinstance(data, str) else None, mime_type=f"{kind}/{form}" if form else None
    )
    return add_rest(part, item, {"source", "format"})


def _turn(turn: Mapping[str, Any]) -> Message:
    """Return a turn of Cohere's ``chat_history``."""
    role, text = accessors.text(turn.get("role")) or "USER", turn.get("message")
    parts = [text_part(text)] if isinstance(text, str) else []
    parts += [_tool_call(call) for call in accessors.items(turn.get("tool_calls"))]
    parts += [_tool_result(result) for result in accessors.items(turn.get("tool_results"))]
    message: Message = {"role": _ROLES.get(role, role), "parts": parts}
    return add_rest(message, turn, {"role", "message", "tool_calls", "tool_results"})


def _tool_call(value: object) -> MessagePart:
    call = accessors.fields(value)
    part = tool_call_part(accessors.text(call.get("id")), accessors.text(call.get("name")), call.get("parameters"))
    return add_rest(part, call, {"id", "name", "parameters"})


def _tool_result(value: object) -> MessagePart:
    result = accessors.fields(value)
    call = accessors.fields(result.get("call"))
    part = tool_result_part(accessors.text(call.get("id")), to_json_data(result.get("outputs")))
    return add_rest(part, result, {"outputs"})


def _tool(value: object) -> dict[str, Any]:
    tool = accessors.fields(value)
    kept: dict[str, Any] = to_json_data(dict(tool)) if tool else {}
    return {"type": "function", **kept, "name": accessors.text(tool.get("name")) or ""}


def _media(kind: str, text: str) -> MessagePart:
    is_url = text[:5].lower() == "data:" or "://" in text[:10]
    return media_part(kind, url=text) if is_url else media_part(kind, data=text)


def _rest(value: object) -> dict[str, Any]:
    fields = accessors.fields(value)
    return to_json_data(dict(fields)) if fields else {"value": to_json_data(value)}


def read_response(response: Mapping[str, Any], *, content: bool) -> Response:
    """Read a complete response; one of an unknown model has the attributes that its fields give."""
    failure = read_failure(response.get("error"), response)
    candidates = list(_candidates(response))
    native = [reason for _, reason, _ in candidates if reason]
    reasons = [_FINISH_REASONS.get(reason.lower(), reason.lower()) for reason in native]
    if failure is not None:
        reasons = ["error"]
    usage = read_usage(_usage_of(response), _USAGE)
    attributes = parameters.read_fields(response, _FIELDS, _NOT_FIELDS, nested=True)
    attributes |= {**usage.attributes, **_dimensions(response), **error_attributes(response.get("error"), failure)}
    if native and [reason.lower() for reason in native] != reasons:
        attributes[semconv.RESPONSE_NATIVE_FINISH_REASONS] = native
    return Response(
        id=accessors.text(response.get("response_id")) or accessors.text(response.get("id")),
        model=accessors.text(response.get("model")),
        finish_reasons=reasons,
        messages=_output(response, candidates, reasons) if content else [],
        usage=usage.counts,
        attributes=attributes,
        failure=failure,
    )


def _candidates(response: Mapping[str, Any]) -> Iterator[tuple[str | None, str | None, Mapping[str, Any]]]:
    """Yield the text and the finish reason of each generated text, and the object in a list that has them."""
    found = next((response[name] for name in _LISTS if accessors.items(response.get(name))), None)
    for item in accessors.items(found) if found is not None else (response,):
        fields = accessors.fields(item)
        inner = accessors.fields(fields.get("data"))
        texts = (one.get(name) for one in (fields, inner) for name in _TEXTS)
        text = next((text for text in texts if isinstance(text, str)), None)
        given = (fields.get(name) for name in _REASONS)
        words = (one if isinstance(one, str) else accessors.fields(one).get("reason") for one in given)
        reason = next((word for word in words if isinstance(word, str) and word), None)
        if text is not None or reason is not None:
            yield text, reason, {} if found is None else fields


def _output(
    response: Mapping[str, Any],
    candidates: list[tuple[str | None, str | None, Mapping[str, Any]]],
    reasons: list[str],
) -> list[Message]:
    messages: list[Message] = []
    calls = [_tool_call(call) for call in accessors.items(response.get("tool_calls"))]
    made = accessors.items(response.get("images")) or [
        accessors.fields(artifact).get("base64") for artifact in accessors.items(response.get("artifacts"))
    ]
    images = [_media("image", image) for image in made if isinstance(image, str)]
    for index, (text, _, fields) in enumerate(candidates or [(None, None, {})]):
        parts = [text_part(text)] if text else []
        if not index:
            parts += [*calls, *images]
        made_of = output_messages(parts, reasons[index] if index < len(reasons) else None)
        messages += [add_rest(message, fields, _CANDIDATE_FIELDS) for message in made_of]
    return messages


def _usage_of(response: Mapping[str, Any]) -> dict[str, Any]:
    counts: dict[str, Any] = {name: response[name] for name in _USAGE if name in response}
    results = [
        accessors.count(accessors.fields(one).get("tokenCount")) for one in accessors.items(response.get("results"))
    ]
    if any(results):
        counts["output_tokens"] = sum(filter(None, results))
    billed = accessors.fields(accessors.fields(response.get("meta")).get("billed_units"))
    return {**counts, **billed, **accessors.fields(response.get("usage"))}


def _dimensions(response: Mapping[str, Any]) -> Attributes:
    """Return the length of the first vector."""
    given = next((response[name] for name in _VECTORS if not json_codec.is_absent(response.get(name))), None)
    for _ in range(3):
        # A vector, a list of them, or one such list of each type.
        if json_codec.is_mapping(given):
            given = given.get("embedding") or next(iter(given.values()), None)
        vector = accessors.items(given)
        if vector and isinstance(vector[0], (int, float)):
            return {semconv.EMBEDDINGS_DIMENSIONS: len(vector)}
        given = vector[0] if vector else None
    return {}


class TextStream(StreamReader):
    """A reader of chunks that each have a piece of the text; without ``content`` it keeps no text."""

    __slots__ = ("_candidate", "_content", "_fields", "_pieces", "_whole")

    def __init__(self, *, content: bool) -> None:
        self._content = content
        self._candidate: dict[str, Any] = {}
        """Other fields of the objects that have the pieces."""
        self._fields: dict[str, Any] = {}
        self._pieces: list[str] = []
        self._whole: Mapping[str, Any] | None = None

    def feed(self, chunk: object) -> None:
        """Process the next chunk; Cohere's last one has the whole response."""
        fields = accessors.fields(chunk)
        whole = fields.get("response")
        if json_codec.is_mapping(whole):
            self._whole = whole
        elif any(len(accessors.items(fields.get(name))) > 1 for name in _LISTS):
            # Several texts at once are not a piece of one.
            self._whole = fields
        for text, reason, candidate in _candidates(fields):
            if self._content:
                self._candidate |= {name: candidate[name] for name in candidate if name not in _CANDIDATE_FIELDS}
            if self._content and text:
                self._pieces.append(text)
            if reason is not None:
                self._fields["stop_reason"] = reason
        for name, value in fields.items():
            if name == "tool_calls":
                self._fields[name] = [*accessors.items(self._fields.get(name)), *accessors.items(value)]
            elif name not in _OF_CHUNKS and not json_codec.is_absent(value):
                self._fields[name] = value

    def result(self) -> Response:
        """Return the response received so far."""
        text: dict[str, Any] = {"text": "".join(self._pieces)} if self._pieces else {}
        if text and self._candidate:
            text = {"outputs": [{**self._candidate, **text, "stop_reason": self._fields.get("stop_reason")}]}
        return read_response({**self._fields, **text, **(self._whole or {})}, content=self._content)
