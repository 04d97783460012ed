"""One call as a conversation: its messages, tool calls with their results, and what is new since an earlier call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from spancast.encoding.span_data import SpanData, cached_on_span
from spancast.model import json_codec, semconv
from spancast.model.json_codec import is_list, is_mapping

_CALLS: Final = ("tool_call", "server_tool_call")
_RESULTS: Final = ("tool_call_response", "server_tool_call_response")
_MEDIA: Final = ("uri", "file", "blob")
_DIGEST: Final = "sha256:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a message. ``kind`` is ``text``, ``reasoning``, ``call``, ``result``, ``media`` or ``data``.

    ``value`` is the text, the arguments, the result or any other data. ``result`` is the result of a tool call;
    ``found_in`` is a later call that sent this result.
    """

    kind: str
    value: Any = None
    name: str = ""
    id: str = ""
    result: Part | None = None
    found_in: SpanData | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message; ``position`` is its number in the request, -1 for a choice of the response."""

    role: str
    parts: Sequence[Part]
    position: int = -1
    finish_reason: str = ""

    @property
    def text(self) -> str:
        """Return the texts of the message."""
        return "\n".join(part.value for part in self.parts if part.kind == "text")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """The messages of a call: those an earlier call (``since``) had, the new ones, and the choices of the response."""

    old: Sequence[Message] = ()
    new: Sequence[Message] = ()
    answers: Sequence[Message] = ()
    since: SpanData | None = None
    shared: int = 0
    """The number of messages of the request that ``since`` had; a result inside its call is one of them."""
    is_recorded: bool = True
    """False if no content was recorded (privacy mode, or another instrumentation)."""


@cached_on_span
def messages_of(span: SpanData) -> tuple[Message, ...] | None:
    """Return the messages of the request, system instructions first; None if there are none."""
    inputs = _decoded(span, semconv.INPUT_MESSAGES)
    system = _decoded(span, semconv.SYSTEM_INSTRUCTIONS)
    if inputs is None and system is None:
        return None
    given: list[Mapping[str, Any]] = []
    if is_list(system) and system:
        given.append({"role": "system", "parts": system})
    if is_list(inputs):
        given += [one if is_mapping(one) else {"role": "user", "parts": [one]} for one in inputs]
    elif inputs is not None:
        given.append({"role": "user", "parts": [{"type": "text", "content": _text(inputs)}]})
    return tuple(_message(one, position) for position, one in enumerate(given))


@cached_on_span
def answers_of(span: SpanData) -> tuple[Message, ...] | None:
    """Return the choices of the response; None if there are none."""
    outputs = _decoded(span, semconv.OUTPUT_MESSAGES)
    if outputs is None:
        return None
    several = outputs if is_list(outputs) else [outputs]
    given: list[Mapping[str, Any]] = [one if is_mapping(one) else {"parts": [one]} for one in several]
    return tuple(_message(one, -1) for one in given)


def conversation_of(span: SpanData, earlier: Sequence[SpanData], later: Sequence[SpanData]) -> Conversation:
    """Return the conversation of ``span``.

    ``earlier`` and ``later`` are other calls of its session or trace, the nearest first.
    """
    messages, answers = messages_of(span), answers_of(span)
    if messages is None and answers is None:
        return Conversation(is_recorded=False)
    messages = messages or ()
    since, shared = _baseline(span, earlier)
    return Conversation(
        old=list(_joined(messages[:shared], messages)),
        new=list(_joined(messages[shared:], messages)),
        answers=[_with_later_results(one, span, later) for one in answers or ()],
        since=since,
        shared=shared,
    )


def _baseline(span: SpanData, earlier: Sequence[SpanData]) -> tuple[SpanData | None, int]:
    """Return the earlier call with the most messages in common at the beginning, and their number."""
    own = _keys(span)
    best: tuple[SpanData | None, int] = None, 0
    for one in earlier:
        known = _keys(one)
        shared = next(
            (at for at, (a, b) in enumerate(zip(own, known, strict=False)) if a != b), min(len(own), len(known))
        )
        # System instructions alone are common to calls that have nothing else to do with each other.
        # Its answer, sent back, is not new either.
        answer = _answer_key(one)
        if answer and shared == len(known) < len(own) and _spoken((messages_of(span) or ())[shared]) == answer:
            shared += 1
        if shared > best[1] and any(not key.startswith('["system"') for key in own[:shared]):
            best = one, shared
    return best


@cached_on_span
def _keys(span: SpanData) -> list[str]:
    return [json_codec.encode([message.role, *message.parts]) for message in messages_of(span) or ()]


@cached_on_span
def _answer_key(span: SpanData) -> str:
    answers = answers_of(span)
    return _spoken(answers[0]) if answers else ""


def _spoken(message: Message) -> str:
    """Return a message as it is sent back: many programs leave the reasoning out."""
    return json_codec.encode([message.role, *(part for part in message.parts if part.kind != "reasoning")])


def _joined(section: Sequence[Message], whole: Sequence[Message]) -> Iterator[Message]:
    """Yield the messages of ``section``, each result inside its call if both are in the section, else with its name."""
    call_of = _calls_of_results(whole)
    result_of = {call: result for result, call in call_of.items()}
    section_of = {message.position for message in section}

    def at(place: tuple[int, int]) -> Part:
        return whole[place[0]].parts[place[1]]

    for message in section:
        parts: list[Part] = []
        for number, part in enumerate(message.parts):
            place = message.position, number
            if (result := result_of.get(place)) and result[0] in section_of:
                parts.append(replace(part, result=at(result)))
            elif (call := call_of.get(place)) is None:
                parts.append(part)
            elif call[0] not in section_of:
                parts.append(replace(part, name=part.name or at(call).name))
        if parts or not message.parts:
            yield replace(message, parts=parts)


def _calls_of_results(messages: Sequence[Message]) -> dict[tuple[int, int], tuple[int, int]]:
    """Return the place of the tool call of each result, as message and part: some engines use an id again."""
    waiting: dict[str, tuple[int, int]] = {}
    found: dict[tuple[int, int], tuple[int, int]] = {}
    for message in messages:
        for number, part in enumerate(message.parts):
            if part.kind == "call" and part.id:
                waiting[part.id] = message.position, number
            elif part.kind == "result" and part.id in waiting:
                found[message.position, number] = waiting.pop(part.id)
    return found


def _with_later_results(answer: Message, span: SpanData, later: Sequence[SpanData]) -> Message:
    parts = [_with_later_result(part, span, later) if part.kind == "call" else part for part in answer.parts]
    return replace(answer, parts=parts)


def _with_later_result(part: Part, span: SpanData, later: Sequence[SpanData]) -> Part:
    own = _keys(span)
    for one in later if part.id else ():
        messages = messages_of(one) or ()
        # What the request of `span` had already is of an earlier call with the same id.
        new = messages[len(own) :] if _keys(one)[: len(own)] == own else messages
        for found in (found for message in new for found in message.parts):
            if found.kind == "result" and found.id == part.id:
                return replace(part, result=found, found_in=one)
    return part


# --- reading --------------------------------------------------------------------------------------


def _decoded(span: SpanData, name: str) -> Any:  # noqa: ANN401 - any JSON
    value = span.first(name)
    if not isinstance(value, str):
        return value
    decoded = json_codec.decode(value)
    return value if decoded is None else decoded


def _message(given: Mapping[str, Any], position: int) -> Message:
    parts = given.get("parts", given.get("content"))
    read = list(_parts(parts))
    # The chat form of other instrumentations.
    if is_list(calls := given.get("tool_calls")):
        read += [_chat_call(call) for call in calls if is_mapping(call)]
    role = str(given.get("role") or "assistant")
    if role == "tool" and given.get("tool_call_id"):
        read = [Part(kind="result", value="\n".join(_text(one.value) for one in read), id=str(given["tool_call_id"]))]
    return Message(role=role, parts=tuple(read), position=position, finish_reason=str(given.get("finish_reason") or ""))


def _parts(given: object) -> Iterator[Part]:
    if isinstance(given, str):
        yield Part(kind="text", value=given)
    elif is_list(given):
        for one in given:
            yield _part(one) if is_mapping(one) else Part(kind="text", value=_text(one))
    elif given is not None:
        yield Part(kind="data", value=given)


def _part(given: Mapping[str, Any]) -> Part:
    kind = str(given.get("type"))
    if kind in ("text", "reasoning"):
        value = given.get("content", given.get("text"))
        extra = {name: item for name, item in given.items() if name not in ("type", "content", "text")}
        return Part(kind=kind, value=_text(value), name=json_codec.encode(extra) if extra else "")
    identifier, name = str(given.get("id") or ""), str(given.get("name") or "")
    if kind in _CALLS:
        value = given.get("arguments", given.get(kind))
        return Part(kind="call", value=_data(value), name=name or kind, id=identifier)
    if kind in _RESULTS:
        value = given.get("response", given.get("result", given.get(kind)))
        return Part(kind="result", value=_data(value), name=name, id=identifier)
    if kind in _MEDIA:
        return Part(kind="media", value=_media(given), name=str(given.get("modality") or "file"))
    return Part(kind="data", value=dict(given), name=kind)


def _chat_call(call: Mapping[str, Any]) -> Part:
    function = call.get("function")
    named: Mapping[str, Any] = function if is_mapping(function) else call
    return Part(
        kind="call",
        value=_data(named.get("arguments")),
        name=str(named.get("name") or "tool"),
        id=str(call.get("id") or ""),
    )


def _media(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return type, size, digest or address of a media part; never its bytes."""
    address = str(given.get("uri") or "")
    size = given.get("byte_size")
    content = given.get("content", given.get("data"))
    return {
        "type": given.get("mime_type") or "",
        "bytes": size if isinstance(size, int) else len(content) if isinstance(content, str) else None,
        "digest": address.removeprefix(_DIGEST) if address.startswith(_DIGEST) else "",
        "address": "" if address.startswith((_DIGEST, "data:")) else address,
        "file": str(given.get("file_id") or ""),
    }


def _data(value: object) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, str) and value.strip()[:1] in ("{", "["):
        decoded = json_codec.decode(value)
        return value if decoded is None else decoded
    return value


def _text(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else json_codec.encode(value)
