"""Fuzzing of every dialect's readers with mutated recordings.

No reader raises, no text that is still on the wire is lost, and however a response arrives, it gives the same span.
``SPANCAST_FUZZ_EXAMPLES=30000`` runs the long form.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.dialects.streams import (
    Json,
    check_request,
    check_response,
    comparable,
    json_values,
    mutate,
    read_stream,
    recordings,
)

from spancast.dialects.anthropic_messages.answers import messages_answer, messages_events
from spancast.dialects.anthropic_messages.reader import ANTHROPIC_MESSAGES
from spancast.dialects.bedrock_converse.reader import BEDROCK_CONVERSE
from spancast.dialects.bedrock_invoke.reader import BEDROCK_INVOKE
from spancast.dialects.delta_fast_path import feed_texts
from spancast.dialects.gemini.reader import GEMINI
from spancast.dialects.gemini_interactions.reader import GEMINI_INTERACTIONS
from spancast.dialects.openai_chat.answers import chat_answer, chat_chunks
from spancast.dialects.openai_chat.reader import OPENAI_CHAT
from spancast.dialects.openai_responses.answers import responses_answer, responses_events
from spancast.dialects.openai_responses.reader import OPENAI_FETCHED_RESPONSE, OPENAI_RESPONSES
from spancast.dialects.openai_responses.realtime import OPENAI_REALTIME
from spancast.dialects.protocol import Dialect
from spancast.dialects.registry import DIALECTS, find_dialect
from spancast.model import json_codec
from spancast.model.call import Response
from spancast.tracing.span_attributes import add_content, add_response

EXAMPLES = int(os.environ.get("SPANCAST_FUZZ_EXAMPLES", "25"))
fuzzed = settings(
    max_examples=EXAMPLES,
    derandomize=EXAMPLES < 1_000,
    database=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)

OF_REQUESTS = (
    OPENAI_CHAT,
    OPENAI_RESPONSES,
    ANTHROPIC_MESSAGES,
    BEDROCK_CONVERSE,
    BEDROCK_INVOKE,
    GEMINI,
    GEMINI_INTERACTIONS,
    OPENAI_REALTIME,
)
CASES = {dialect.name: recordings(dialect.name) for dialect in OF_REQUESTS}
CASES[OPENAI_FETCHED_RESPONSE.name] = {
    name: {key: value for key, value in case.items() if key != "request"}
    for name, case in CASES[OPENAI_RESPONSES.name].items()
}
every_dialect = pytest.mark.parametrize(
    "dialect",
    [*OF_REQUESTS, OPENAI_FETCHED_RESPONSE],
    ids=lambda dialect: dialect.name,
)


def wires(dialect: Dialect, kind: str) -> list[Any]:
    """Return the requests, responses or streams of all recordings, in a fixed order."""
    return [case[kind] for _, case in sorted(CASES[dialect.name].items()) if case.get(kind) is not None]


def mutated(dialect: Dialect, kind: str, data: st.DataObject) -> Any:
    return mutate(data.draw(st.sampled_from(wires(dialect, kind))), data.draw)


def read_texts(dialect: Dialect, events: list[Any]) -> Response:
    """Read ``events`` as JSON text, as the export thread does."""
    stream: Any = dialect.new_stream(content=True)
    texts = [json.dumps(event) for event in events]
    if hasattr(stream, "feed_text"):
        feed_texts(stream, texts, stream.feed_text)
    else:
        for text in texts:
            stream.feed(json_codec.decode(text))
    return stream.result()


# --- texts that must not be lost ---------------------------------------------------------------------
_SHORTEST = 12
"""A shorter text may be a name or an id."""
_NOT_TEXT = frozenset(
    {
        # Media, of which the part has size and digest; encrypted data and signatures; credentials.
        "b64_json", "data", "encrypted_content", "encrypted_index", "file_data", "image_url", "partial_image_b64",
        "result", "signature", "thinking_signature", "url", "authorization_token", "obfuscation", "bytes",
        "redactedContent",
        # Names and ids.
        "type", "role", "id", "index", "object", "item_id", "call_id", "tool_use_id", "status", "format", "media_type",
        "encrypted_stdout", "thoughtSignature", "uri", "fileUri", "file_uri",
    }
)  # fmt: skip


def texts(value: Any, key: str = "") -> Iterator[str]:
    """Yield every text below ``value`` that is content."""
    if isinstance(value, dict):
        for name, item in value.items():
            if name not in _NOT_TEXT:
                yield from texts(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item, key)
    elif isinstance(value, str) and len(value) >= _SHORTEST:
        yield value


def all_texts(value: Any) -> str:
    """Return every text below ``value``, also of JSON inside texts, joined."""
    if isinstance(value, dict):
        return "\n".join(f"{name}\n{all_texts(item)}" for name, item in value.items())
    if isinstance(value, list):
        return "\n".join(map(all_texts, value))
    if not isinstance(value, str):
        return json.dumps(value)
    decoded = json_codec.decode(value) if value[:1] in ("{", "[") else None
    return value if decoded is None else f"{value}\n{all_texts(decoded)}"


def lost_texts(value: Any, read: Any) -> list[str]:
    """Return the texts below ``value`` that are not in ``read``, whole, in adjacent parts, or decoded as JSON."""
    found = all_texts(read)
    found = compact(found + "".join(part["content"] for part in parts(read) if isinstance(part.get("content"), str)))
    lost = []
    for text in texts(value):
        decoded = json_codec.decode(text) if text[:1] in ("{", "[") else None
        if compact(text) not in found and any(compact(one) not in found for one in texts(decoded or text)):
            lost.append(text)
    return lost


def parts(value: Any) -> Iterator[Json]:
    if isinstance(value, list):
        for item in value:
            yield from parts(item)
    elif isinstance(value, dict):
        yield from parts(value["parts"]) if "parts" in value else [value]


def compact(text: str) -> str:
    return "".join(text.split())


# --- no exception ------------------------------------------------------------------------------------
@every_dialect
@given(data=st.data())
@fuzzed
def test_request_of_any_shape_is_read(dialect: Dialect, data: st.DataObject) -> None:
    if dialect is OPENAI_FETCHED_RESPONSE:
        body = data.draw(
            st.dictionaries(st.sampled_from(["response_id", "stream", "starting_after", "x"]), json_values)
        )
    else:
        body = mutated(dialect, "request", data)
    if not isinstance(body, dict):
        return
    read = dialect.read_request(body, content=True)
    check_request(read)
    names = ("messages", "input", "system", "instructions", "contents", "systemInstruction", "system_instruction")
    content = [body.get(name) for name in names]
    assert not lost_texts(content, [*read.messages, *read.system_instructions])
    without = dialect.read_request(body, content=False)
    assert not without.messages
    assert not without.system_instructions
    assert not without.tools


CONTENT: dict[str, Callable[[Json], Any]] = {
    OPENAI_CHAT.name: lambda answer: [
        one.get("message") for one in as_list(answer.get("choices")) if isinstance(one, dict)
    ],
    OPENAI_RESPONSES.name: lambda answer: answer.get("output"),
    OPENAI_FETCHED_RESPONSE.name: lambda answer: answer.get("output"),
    OPENAI_REALTIME.name: lambda answer: answer.get("output"),
    ANTHROPIC_MESSAGES.name: lambda answer: answer.get("content"),
    GEMINI.name: lambda answer: [
        one.get("content") for one in as_list(answer.get("candidates")) if isinstance(one, dict)
    ],
    GEMINI_INTERACTIONS.name: lambda answer: [
        # A response may repeat what the user said.
        one
        for one in as_list(answer.get("steps"))
        if not (isinstance(one, dict) and one.get("type") == "user_input")
    ],
    BEDROCK_CONVERSE.name: lambda answer: message_of(answer.get("output")),
    BEDROCK_INVOKE.name: lambda answer: message_of(answer.get("output")),
}


def message_of(output: Any) -> Any:
    message = output.get("message") if isinstance(output, dict) else None
    content = message.get("content") if isinstance(message, dict) else None
    return content if isinstance(content, list) else None


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


@every_dialect
@given(data=st.data())
@fuzzed
def test_response_of_any_shape_is_read_without_losing_text(dialect: Dialect, data: st.DataObject) -> None:
    answer = mutated(dialect, "response", data)
    read = dialect.read_response(answer, content=True)
    check_response(read)
    assert dialect.read_response(answer, content=False).messages == []
    if isinstance(answer, dict):
        assert not lost_texts(CONTENT[dialect.name](answer), read.messages)


@every_dialect
@given(data=st.data())
@fuzzed
def test_stream_of_any_shape_is_read_alike_as_objects_and_as_text(dialect: Dialect, data: st.DataObject) -> None:
    events = mutated(dialect, "stream", data)
    if not isinstance(events, list):
        return
    # As on the wire: no floats that JSON does not have, no lone surrogates. Text as a chunk is not of the wire.
    events = [event for event in json_codec.decode(json_codec.encode(events)) if not isinstance(event, str)]
    read = read_stream(dialect, events)
    check_response(read)
    assert comparable(read_texts(dialect, events)) == comparable(read)
    assert read_stream(dialect, events, content=False).messages == []


# --- fields that no reader knows ---------------------------------------------------------------------
UNKNOWN = "a text of an unknown field"
LEFT_OUT = frozenset(
    {
        # Trace keys, which are read elsewhere.
        "request metadata", "request trace",
        # Beside the parts of instructions, which are a list of parts on the span.
        "request systemInstruction",
        # Beside a count of one modality.
        "response usageMetadata.cacheTokensDetails", "response usageMetadata.candidatesTokensDetails",
        "response usageMetadata.promptTokensDetails", "response usageMetadata.toolUsePromptTokensDetails",
        "stream usageMetadata.promptTokensDetails", "stream usageMetadata.toolUsePromptTokensDetails",
        "response usage.input_tokens_by_modality", "response usage.output_tokens_by_modality",
        "response usage.grounding_tool_count", "stream interaction.completed interaction.usage.input_tokens_by_modality",
        # Beside a piece of arguments.
        "stream candidates.content.parts.functionCall.partialArgs",
        # Of the user's input, which an interaction repeats.
        "response steps", "response steps.content",
        # Frames of an event, and deltas that are no content.
        # Credentials.
        "request tools.headers", "request tools.retrieval.externalApi.apiAuth",
        "request tools.retrieval.externalApi.apiAuth.apiKeyConfig", "request tools.container.network_policy.domain_secrets",
        # A response repeats these parameters of its request.
        "response conversation", "response metadata", "response reasoning", "response text", "response text.format",
        "response tools", "response tools.parameters", "response tools.parameters.properties",
        "response tools.parameters.properties.city",
        # A response repeats these properties of its session.
        "response audio", "response audio.output", "response audio.output.format",
        # Frames of an event, around the part of the response that it has.
        *(f"stream {part}.{moment}" for part in ("content", "step") for moment in ("start", "delta", "stop")),
        *(f"stream interaction.{moment}" for moment in ("start", "created", "complete", "completed")),
        # A signature, or a piece of arguments.
        "stream step.delta delta", "stream error",
        "stream content_block_delta", "stream content_block_start", "stream content_block_stop", "stream ping",
        # Replaced by the input in the deltas.
        "stream content_block_start content_block.input",
    }
)  # fmt: skip
"""Places whose unknown fields are not recorded; each is a decision."""


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every object in ``value``."""
    if isinstance(value, dict):
        yield path
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(item, (*path, key))


def name_of(kind: str, wire: Any, path: tuple[Any, ...]) -> str:
    """Return the name of a place in ``LEFT_OUT``: kind of wire data, type of the event, keys."""
    event = wire[path[0]].get("type", wire[path[0]].get("event_type")) if isinstance(wire, list) else None
    return " ".join(filter(None, (kind, event, ".".join(key for key in path if isinstance(key, str)))))


def with_unknown_field(wire: Any, path: tuple[Any, ...]) -> Any:
    changed = inner = json.loads(json.dumps(wire))
    for key in path:
        inner = inner[key]
    inner["x_unknown"] = UNKNOWN
    return changed


# botocore refuses what it does not know in a request, and drops it from a response.
@pytest.mark.parametrize("kind", ["request", "response", "stream"])
@pytest.mark.parametrize(
    "dialect", [one for one in OF_REQUESTS if one not in (BEDROCK_CONVERSE, BEDROCK_INVOKE)], ids=lambda one: one.name
)
def test_unknown_field_of_any_object_is_recorded(dialect: Dialect, kind: str) -> None:
    if dialect in (OPENAI_RESPONSES, OPENAI_REALTIME) and kind == "stream":
        # Its last event has the whole response; the others repeat parts of it.
        kind, wanted = (
            "response",
            [stream[-1]["response"] for stream in wires(dialect, "stream") if "response" in stream[-1]],
        )
    else:
        wanted = wires(dialect, kind)
    lost = set()
    for wire in wanted:
        for path in places(wire):
            changed = with_unknown_field(wire, path)
            attributes: Any = {}
            if kind == "request":
                request = dialect.read_request(changed, content=True)
                add_content(attributes, request)
                attributes |= request.attributes
            else:
                is_stream = kind == "stream"
                read = read_stream(dialect, changed) if is_stream else dialect.read_response(changed, content=True)
                add_response(attributes, read, content=True, is_cut=False)
            if UNKNOWN not in all_texts(attributes):
                lost.add(name_of(kind, wire, path))
    assert lost <= LEFT_OUT


# --- whole equals streamed ---------------------------------------------------------------------------
words = st.text(max_size=40)
unknown = st.dictionaries(
    st.sampled_from(["x_new", "x_more"]), st.text(min_size=1) | st.integers(1, 9) | st.just({"a": ["b"]})
)
calls = st.lists(st.tuples(st.sampled_from(["look", "book"]), st.just('{"q": "caf\\u00e9 \\"x\\""}')), max_size=3)


def chat(draw: Callable[..., Any]) -> tuple[Json, list[Json]]:
    answer = chat_answer(draw(words), reasoning=draw(st.none() | words), tool_calls=draw(calls))
    answer |= draw(unknown)
    answer["choices"][0] |= draw(unknown)
    answer["choices"][0]["message"] |= draw(unknown)
    return answer, chat_chunks(answer, pieces=draw(st.integers(1, 5)))


def responses(draw: Callable[..., Any]) -> tuple[Json, list[Json]]:
    answer = responses_answer(draw(words), reasoning=draw(st.none() | words), tool_calls=draw(calls)) | draw(unknown)
    answer["output"] = [item | draw(unknown) for item in answer["output"]]
    return answer, responses_events(answer, pieces=draw(st.integers(1, 5)))


def messages(draw: Callable[..., Any]) -> tuple[Json, list[Json]]:
    answer = messages_answer(draw(words), reasoning=draw(st.none() | words), tool_calls=draw(calls)) | draw(unknown)
    answer["content"] = [block | draw(unknown) for block in answer["content"]]
    return answer, messages_events(answer, pieces=draw(st.integers(1, 5)))


@pytest.mark.parametrize(
    ("dialect", "both"),
    [(OPENAI_CHAT, chat), (OPENAI_RESPONSES, responses), (OPENAI_FETCHED_RESPONSE, responses),
     (ANTHROPIC_MESSAGES, messages)],
    ids=lambda value: getattr(value, "name", ""),
)  # fmt: skip
@given(data=st.data())
@fuzzed
def test_streamed_response_gives_the_same_as_the_whole_one(dialect: Dialect, both: Any, data: st.DataObject) -> None:
    answer, events = both(data.draw)
    whole = comparable(dialect.read_response(answer, content=True))
    assert comparable(read_stream(dialect, events)) == whole
    assert comparable(read_texts(dialect, events)) == whole


@every_dialect
@given(data=st.data())
@fuzzed
def test_stream_that_breaks_off_has_every_text_received(dialect: Dialect, data: st.DataObject) -> None:
    events = data.draw(st.sampled_from(wires(dialect, "stream")))
    received = events[: data.draw(st.integers(0, len(events)))]
    read = read_stream(dialect, received)
    check_response(read)
    assert comparable(read_texts(dialect, received)) == comparable(read)
    found = all_texts([read.messages])
    assert not [text for event in received for text in pieces(dialect, event) if text not in found]


def pieces(dialect: Dialect, event: Json) -> Iterator[str]:
    """Yield the pieces of visible text in an event."""
    if dialect in PIECES:
        yield from (text for text in PIECES[dialect](event) if isinstance(text, str))
    elif event["type"].endswith((".output_text.delta", ".refusal.delta", ".reasoning_text.delta")):
        yield event["delta"]


def chat_pieces(event: Json) -> Iterator[Any]:
    for choice in event.get("choices") or ():
        delta = choice.get("delta") or {}
        yield from (delta.get(name) for name in ("content", "refusal", "reasoning_content"))


def messages_pieces(event: Json) -> Iterator[Any]:
    delta = event.get("delta") or {}
    yield from (delta.get("text"), delta.get("thinking"))


def gemini_pieces(event: Json) -> Iterator[Any]:
    for candidate in event.get("candidates") or ():
        yield from (part.get("text") for part in candidate.get("content", {}).get("parts", ()))


def bedrock_pieces(event: Json) -> Iterator[Any]:
    delta = event.get("contentBlockDelta", {}).get("delta") or {}
    yield from (delta.get("text"), delta.get("reasoningContent", {}).get("text"), event.get("generation"))


PIECES: dict[Any, Callable[[Json], Iterator[Any]]] = {
    OPENAI_CHAT: chat_pieces,
    ANTHROPIC_MESSAGES: messages_pieces,
    BEDROCK_CONVERSE: bedrock_pieces,
    BEDROCK_INVOKE: bedrock_pieces,
    GEMINI: gemini_pieces,
    GEMINI_INTERACTIONS: lambda event: iter([event.get("delta", {}).get("text")]),
}


@pytest.mark.parametrize("name", [name for name in DIALECTS if recordings(name)])
@fuzzed
@given(data=st.data())
def test_reader_of_any_dialect_reads_mutated_recordings(name: str, data: st.DataObject) -> None:
    """Also of those dialects whose texts are not compared above."""
    dialect = find_dialect(name)
    assert dialect is not None
    cases = [case for _, case in sorted(recordings(name).items()) if isinstance(case, dict)]
    case = data.draw(st.sampled_from(cases))
    wire = {kind: mutate(case[kind], data.draw) for kind in ("request", "response", "stream") if case.get(kind)}
    if isinstance(request := wire.get("request"), dict):
        check_request(dialect.read_request(request, content=True))
        assert dialect.read_request(request, content=False).messages == []
    if "response" in wire:
        check_response(dialect.read_response(wire["response"], content=True))
        assert dialect.read_response(wire["response"], content=False).messages == []
    if isinstance(events := wire.get("stream"), list):
        check_response(read_stream(dialect, [event for event in events if not isinstance(event, str)]))
