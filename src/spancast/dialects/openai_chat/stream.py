"""Stream reader of Chat Completions: assembles the complete response from its chunks.

The assembled response is read like any other, so that a stream gives the same span. Usage
is not summed: the last value wins. No chunk is kept.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol, cast

from spancast.dialects import accessors
from spancast.dialects.delta_fast_path import DeltaFastPath
from spancast.dialects.protocol import StreamReader
from spancast.dialects.sanitize import shallow_copy
from spancast.model import json_codec, kept_copy
from spancast.model.call import Response

_STRING_FIELDS: Final = ("content", "reasoning", "reasoning_content", "refusal")
_REPEATED_FIELDS: Final = frozenset(
    {"id", "object", "created", "model", "system_fingerprint", "service_tier", "provider", "obfuscation", "choices"}
)
"""The fields that most servers repeat in every chunk."""
_CHOICE_FIELDS: Final = frozenset({"index", "delta"})
_NOT_FINAL: Final = frozenset({"index", "delta", "message", "text", "logprobs"})

_TEXT_ONLY: Final = frozenset({"content", "role"})
_PIECE_ONLY: Final = _REPEATED_FIELDS | _CHOICE_FIELDS | {"role", "content", "tool_calls"}
"""The fields of a chunk that has one piece of text and otherwise repeats known values."""
_FRAGMENT_FIELDS: Final = frozenset({"index", "function"})
_ARGUMENT_FIELDS: Final = frozenset({"arguments"})
_TEXT_DETAILS: Final = frozenset({"reasoning.text", "reasoning.summary"})
_REPEATED: Final = "provider"
"""A field that OpenRouter repeats in every chunk."""


def _has_new_values(extra: dict[str, Any]) -> bool:
    """Return whether fields unknown to the SDK have new values."""
    for name, value in extra.items():  # noqa: SIM110 - any() with a generator takes three times as long per chunk
        if value is not None and name != _REPEATED:
            return True
    return False


class ResponseReader(Protocol):
    """Reads a complete response."""

    def __call__(self, response: object, *, content: bool) -> Response:
        """Return the parsed response."""
        ...


class ChatStream(StreamReader):
    """A reader of the chunks of one response; without ``content`` it keeps no text."""

    __slots__ = ("_choices", "_content", "_has_choice", "_holds_objects", "_read", "_response", "_texts", "fast_path")

    def __init__(self, read: ResponseReader, *, content: bool) -> None:
        self._read = read
        self._content = content
        self._response: dict[str, Any] = {}
        self._choices: dict[int, _Choice] = {}
        self._has_choice = False
        """True after a chunk with a choice: fields that are sent once are known."""
        self._holds_objects = False
        self._texts: dict[int, list[str]] = {}
        """The text pieces of each choice; empty without content."""
        self.fast_path = DeltaFastPath()

    def feed_text(self, text: str) -> None:
        """Process the next chunk given as JSON text, and learn from it."""
        chunk = json_codec.decode(text)
        if type(chunk) is not dict:
            return
        had_choice = self._has_choice
        if not (had_choice and self._feed_json_text(chunk)):
            self._feed_any(chunk)  # pyright: ignore[reportUnknownArgumentType] - wire JSON
        if had_choice and self._content:
            self._learn(text, chunk)

    def _learn(self, text: str, chunk: Any) -> None:  # noqa: ANN401 - wire JSON
        """Learn from a chunk that has only one piece of text or of a tool call's arguments."""
        try:
            (choice,) = chunk["choices"]
            delta, index = choice["delta"], choice["index"]
            names = {name for name, value in {**chunk, **choice, **delta}.items() if value is not None}
            if not names <= _PIECE_ONLY:
                return
            calls = delta.get("tool_calls")
            if calls is None:
                self.fast_path.learn(text, "content", delta["content"], self._texts[index])
                return
            (call,) = calls
            if (
                delta.get("content") is None
                and call.keys() <= _FRAGMENT_FIELDS
                and call["function"].keys() == _ARGUMENT_FIELDS
            ):
                fragments = self._choices[index].fragments(call["index"])
                self.fast_path.learn(text, "arguments", call["function"]["arguments"], fragments)
        except (AttributeError, KeyError, TypeError, ValueError):
            # Another shape: no fast path for it.
            return

    def feed(self, chunk: Any) -> None:  # noqa: ANN401 - an SDK's object has any class
        """Process the next chunk: wire JSON, the SDK's object, or text (of choice 0)."""
        if type(chunk) is dict:
            if not (self._has_choice and self._feed_json_text(chunk)):
                self._feed_any(self._copied(chunk))
            return
        # Fast path: most SDK chunks have text only.
        try:
            fields = chunk.__dict__
            (choice,) = fields["choices"]
            known = choice.__dict__
            delta = known["delta"]
            if (
                self._has_choice
                and fields["usage"] is None
                and known["finish_reason"] is None
                and known["logprobs"] is None
                and delta.__pydantic_fields_set__ <= _TEXT_ONLY
                and not ((extra := chunk.__pydantic_extra__) and _has_new_values(extra))
                and not ((extra := choice.__pydantic_extra__) and _has_new_values(extra))
                and not ((extra := delta.__pydantic_extra__) and _has_new_values(extra))
            ):
                pieces = self._texts[known["index"]]
                content = delta.content
                if content is None or type(content) is str:
                    if content and self._content:
                        pieces.append(content)
                    return
        except (AttributeError, KeyError, TypeError, ValueError):
            # Another shape, or another class.
            pass
        self._feed_any(self._copied(chunk))

    def _copied(self, chunk: Any) -> Any:  # noqa: ANN401 - an SDK's object has any class
        """Return a copy of ``chunk``, which the caller could change; the object itself if it can't be copied."""
        if type(chunk) is str:
            return chunk
        try:
            return kept_copy.plain(chunk)
        except kept_copy.NOT_PLAIN:
            self._holds_objects = True
            return chunk

    @property
    def held_bytes(self) -> int | None:
        """Return the size of the texts, in bytes.

        None if an object is held that the caller could change, or log probabilities: thousands of small objects, which
        the limit of the span queue would not count.
        """
        if self._holds_objects or any(choice.has_logprobs for choice in self._choices.values()):
            return None
        return sum([choice.held_bytes for choice in self._choices.values()])

    def _feed_any(self, chunk: object) -> None:
        if isinstance(chunk, str):
            self._choice(0).pieces("content").append(chunk)
            return
        fields = accessors.fields(chunk)
        choices = fields.get("choices")
        self._merge(fields)
        self._has_choice = self._has_choice or bool(choices)
        for item in accessors.items(choices):
            choice = accessors.fields(item)
            index = choice.get("index")
            self._choice(index if isinstance(index, int) else 0).feed(choice, content=self._content)

    def _feed_json_text(self, chunk: Any) -> bool:  # noqa: ANN401 - wire JSON
        """Process a chunk of wire JSON if it has text only; return whether it has."""
        try:
            (choice,) = chunk["choices"]
            delta = choice["delta"]
            for name, value in delta.items():
                if value is not None and name not in _TEXT_ONLY:
                    return False
            for name, value in choice.items():
                if value is not None and name not in _CHOICE_FIELDS:
                    return False
            for name, value in chunk.items():
                if value is not None and name not in _REPEATED_FIELDS:
                    return False
            pieces = self._texts[choice["index"]]
        except (AttributeError, KeyError, TypeError, ValueError):
            return False
        content = delta.get("content")
        if content is not None and type(content) is not str:
            return False
        if content and self._content:
            pieces.append(content)
        return True

    def is_usage_only(self, chunk: object) -> bool:
        """Return whether ``chunk`` has usage and no choice."""
        fields = accessors.fields(chunk)
        return not fields.get("choices") and fields.get("usage") is not None

    def result(self) -> Response:
        """Return the response received so far; once complete, it equals the response without streaming."""
        choices = [self._choices[index].assembled(index) for index in sorted(self._choices)]
        return self._read({**self._response, "choices": choices}, content=self._content)

    def _merge(self, fields: Mapping[str, Any]) -> None:
        for name, value in fields.items():
            # Azure's first chunk has filter results and an empty id and model.
            if name == "choices" or value == "" or json_codec.is_absent(value):
                continue
            known = self._response.get(name)
            self._response[name] = _merged(known, value) if name != "usage" else value

    def _choice(self, index: int) -> _Choice:
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = _Choice(self.fast_path.forget)
            self._texts[index] = choice.pieces("content")
        return choice


class _Choice:
    """The received part of one choice."""

    __slots__ = (
        "_audio", "_audio_pieces", "_begin_call", "_calls", "_current_calls", "_details", "_final_fields", "_logprobs",
        "_message", "_other", "_parts", "_pieces",
    )  # fmt: skip

    def __init__(self, begin_call: Callable[[], None]) -> None:
        self._begin_call = begin_call
        """Called when a tool call begins, because fragments without an id belong to it from now on."""
        self._pieces: dict[str, list[str]] = {}
        self._parts: list[dict[str, Any]] = []
        """The content parts before the text in ``_pieces``, of servers that send lists."""
        self._message: dict[str, Any] = {}
        self._other: dict[str, list[Any]] = {}
        """The values of fields that this format does not define."""
        self._calls: list[tuple[object, _Call]] = []
        """Tool calls with their indexes; some servers give two calls the same index."""
        self._current_calls: dict[object, _Call] = {}
        """The last call of each index."""
        self._details: dict[Any, dict[str, Any]] = {}
        self._audio: dict[str, Any] = {}
        self._audio_pieces: dict[str, list[str]] = {}
        self._logprobs: dict[str, Any] = {}
        self._final_fields: dict[str, Any] = {}

    @property
    def has_logprobs(self) -> bool:
        """Return whether it has log probabilities."""
        return bool(self._logprobs)

    @property
    def held_bytes(self) -> int:
        """Return the size of its texts, in bytes."""
        calls = [call.arguments for _, call in self._calls]
        others = [*self._other.values(), *[part.values() for part in (*self._parts, *self._details.values())]]
        texts = [text for values in others for text in values if isinstance(text, str)]
        lists = [*self._pieces.values(), *self._audio_pieces.values(), *calls, texts]
        return sum([sum(map(len, pieces)) for pieces in lists])

    def pieces(self, name: str) -> list[str]:
        """Return the pieces of the text field ``name``."""
        found = self._pieces.get(name)
        if found is None:
            found = self._pieces[name] = []
        return found

    def fragments(self, index: object) -> list[str]:
        """Return the argument pieces of the tool call ``index``, which has started."""
        return self._current_calls[index].arguments

    def feed(self, choice: Mapping[str, Any], *, content: bool) -> None:
        """Process the next chunk of this choice."""
        delta = choice.get("delta")
        if delta is None:
            # A complete response as one chunk, or the legacy completions endpoint.
            delta = choice.get("message") or {"content": choice.get("text")}
        for name, value in accessors.fields(delta).items():
            if value is None or not content:
                continue
            if name == "content" and type(value) is str:
                self.pieces(name).append(value)
            else:
                self._add_field(name, value)
        for name, value in choice.items():
            if name not in _NOT_FINAL and value != {} and not json_codec.is_absent(value):
                self._final_fields[name] = _merged(self._final_fields.get(name), value)
        logprobs = choice.get("logprobs")
        if logprobs is not None and content:
            self._add_logprobs(accessors.fields(logprobs))

    def assembled(self, index: int) -> dict[str, Any]:
        """Return the choice in the form of a response without streaming."""
        message: dict[str, Any] = {"role": "assistant", **self._message}
        for name, pieces in self._pieces.items():
            if pieces:
                message[name] = "".join(pieces)
        if self._parts:
            parts = [dict(part) for part in self._parts]
            if text := message.get("content"):
                _add_part(parts, {"type": "text", "text": text})
            message["content"] = parts
        for name, values in self._other.items():
            message[name] = _assembled(values)
        if self._calls:
            message["tool_calls"] = [call.assembled() for call in self._ordered_calls()]
        if self._details:
            message["reasoning_details"] = list(self._details.values())
        if self._audio or self._audio_pieces:
            message["audio"] = {**self._audio, **{name: "".join(pieces) for name, pieces in self._audio_pieces.items()}}
        choice: dict[str, Any] = {"index": index, "message": message, **self._final_fields}
        if self._logprobs:
            choice["logprobs"] = self._logprobs
        return choice

    def _add_field(self, name: str, value: Any) -> None:  # noqa: ANN401, C901 - wire JSON; one case per field
        if name == "tool_calls":
            self._add_calls(accessors.listed(value))
        elif name in _STRING_FIELDS and isinstance(value, str):
            self.pieces(name).append(value)
        elif name == "content":
            self._add_parts(accessors.listed(value))
        elif name == "function_call":
            self._add_call({"index": name, "function": value})
        elif name == "reasoning_details":
            for position, item in enumerate(accessors.items(value)):
                self._add_detail(accessors.fields(item), is_first=position == 0)
        elif name == "audio":
            self._add_audio(accessors.fields(value))
        elif name == "role":
            if isinstance(value, str) and value:
                self._message[name] = value
        elif not json_codec.is_absent(value):
            self._other.setdefault(name, []).append(value)

    def _add_parts(self, parts: Iterable[object]) -> None:
        pieces = self.pieces("content")
        if text := "".join(pieces):
            _add_part(self._parts, {"type": "text", "text": text})
            # The fast path adds to this list.
            pieces.clear()
        for part in parts:
            if isinstance(part, str):
                _add_part(self._parts, {"type": "text", "text": part})
            else:
                _add_part(self._parts, shallow_copy(part) or {"type": "unknown", "content": part})

    def _ordered_calls(self) -> list[_Call]:
        """Return the calls by index, or in order of arrival if the server sends no indexes."""
        indexes = [index for index, _ in self._calls]
        if not all(isinstance(index, int) for index in indexes):
            return [call for _, call in self._calls]
        return [call for _, call in sorted(self._calls, key=lambda entry: cast("int", entry[0]))]

    def _add_logprobs(self, logprobs: Mapping[str, Any]) -> None:
        for name, tokens in logprobs.items():
            known = self._logprobs.get(name)
            if json_codec.is_list(tokens):
                self._logprobs[name] = [*(known or ()), *tokens]
            elif not json_codec.is_absent(tokens):
                self._logprobs[name] = tokens

    def _add_calls(self, calls: Iterable[object]) -> None:
        for item in calls:
            if call := accessors.fields(item):
                self._add_call(call)
            else:
                self._add_parts((item,))

    def _add_call(self, call: Mapping[str, Any]) -> None:
        given = call.get("index")
        # Together sends a float.
        index = given if isinstance(given, str) else accessors.count(given)
        if index is None:
            # Some servers send complete calls without an index: a known id, else the last call.
            given_id = accessors.text(call.get("id"))
            index = next((key for key, one in self._calls if given_id and one.call_id == given_id), None)
            known = self._current_calls.get(index) if index is not None else self._calls[-1][1] if self._calls else None
        else:
            known = self._current_calls.get(index)
        if known is None or known.is_other(call):
            known = _Call()
            index = known if index is None else index
            self._calls.append((index, known))
            self._current_calls[index] = known
            self._begin_call()
        known.feed(call)

    def _add_detail(self, detail: Mapping[str, Any], *, is_first: bool) -> None:
        key = self._detail_key(detail, is_first=is_first)
        known = self._details.get(key)
        if known is None:
            self._details[key] = shallow_copy(detail)
            return
        for name, item in detail.items():
            if name in ("text", "summary", "data") and isinstance(item, str) and isinstance(known.get(name), str):
                known[name] += item
            elif not json_codec.is_absent(item):
                known[name] = item

    def _detail_key(self, detail: Mapping[str, Any], *, is_first: bool) -> object:
        """Return the key of the detail that this fragment belongs to: index and type, else the last text detail.

        Without an index, further details of a chunk are new details, and so is text after a
        signature, which ends a block.
        """
        kind = detail.get("type")
        index = detail.get("index")
        if isinstance(index, int) and isinstance(kind, str):
            return (index, kind)
        last = next(reversed(self._details), None)
        if is_first and isinstance(last, int) and isinstance(kind, str) and kind in _TEXT_DETAILS:
            known = self._details[last]
            if known.get("type") == kind and not accessors.text(known.get("signature")):
                return last
        return len(self._details)

    def _add_audio(self, audio: Mapping[str, Any]) -> None:
        for name, value in audio.items():
            if name in ("data", "transcript") and isinstance(value, str):
                self._audio_pieces.setdefault(name, []).append(value)
            elif not json_codec.is_absent(value):
                self._audio[name] = value


class _Call:
    """One tool call, with its arguments in fragments."""

    __slots__ = ("_fields", "_inner", "_kind", "_object", "arguments")

    def __init__(self) -> None:
        self._fields: dict[str, Any] = {}
        self._inner: dict[str, Any] = {}
        """The fields of the function beside its arguments."""
        self.arguments: list[str] = []
        self._kind = "function"
        self._object: Any = None
        """Arguments that the server sends as an object instead of JSON text."""

    @property
    def call_id(self) -> str | None:
        """Return the id, None if unknown."""
        return self._fields.get("id")

    def is_other(self, call: Mapping[str, Any]) -> bool:
        """Return whether ``call``, which has the same index or none, begins another call."""
        given_id = accessors.text(call.get("id"))
        if given_id and self.call_id:
            return given_id != self.call_id
        kind = accessors.text(call.get("type")) or self._kind
        name = accessors.text(accessors.fields(call.get(kind)).get("name"))
        known = self._inner.get("name")
        if not name or not known:
            return False
        # A server without ids: the name begins a call, unless it is repeated within one.
        return name != known or self._object is not None or json_codec.decode("".join(self.arguments)) is not None

    def feed(self, call: Mapping[str, Any]) -> None:
        """Process a fragment; only the first one has id and name."""
        if self._inner and call.keys() <= _FRAGMENT_FIELDS:
            function: Any = call.get("function")
            if type(function) is dict and len(function) == 1 and type(fragment := function.get("arguments")) is str:  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType, reportUnknownVariableType] - wire JSON
                self.arguments.append(fragment)
                return
        for name in ("id", "type"):
            value = call.get(name)
            if isinstance(value, str) and value:
                self._fields[name] = value
        kind = self._fields.get("type", "function")
        self._kind = kind if call.get(kind) is not None else self._kind
        given = call.get(self._kind)
        inner = accessors.fields(given)
        if not (inner or json_codec.is_absent(given)):
            inner = {self._kind: given}
        self._inner.update(_function_fields(inner))
        fragment = inner.get("arguments", inner.get("input"))
        if isinstance(fragment, str):
            self.arguments.append(fragment)
        elif not json_codec.is_absent(fragment):
            self._object = _merged(self._object, fragment)
        for name, value in call.items():
            if name not in ("index", "id", "type", self._kind) and not json_codec.is_absent(value):
                self._fields[name] = value

    def assembled(self) -> dict[str, Any]:
        """Return the call in the form of a response without streaming."""
        arguments = "".join(self.arguments) if self._object is None or self.arguments else self._object
        return {**self._fields, self._kind: {**self._inner, "arguments": arguments}}


def _function_fields(inner: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a function beside its arguments; a name is text."""
    return {
        name: value
        for name, value in inner.items()
        if name not in ("arguments", "input")
        and value != ""
        and not json_codec.is_absent(value)
        and (name != "name" or isinstance(value, str))
    }


def _merged(known: object, value: object) -> Any:  # noqa: ANN401 - wire JSON
    """Return ``value``; two objects are merged, the fields of ``value`` first."""
    return {**known, **value} if json_codec.is_mapping(known) and json_codec.is_mapping(value) else value


def _assembled(values: list[Any]) -> Any:  # noqa: ANN401 - wire JSON
    """Return the value of a field that came in pieces: texts and lists joined, objects merged, else the last one.

    A value that is repeated unchanged is one value.
    """
    first = values[0]
    if all(value == first for value in values):
        return first
    if all(isinstance(value, str) for value in values):
        return "".join(values)
    if all(isinstance(value, list) for value in values):
        return [item for value in values for item in value]
    return functools.reduce(_merged, values)


def _add_part(parts: list[dict[str, Any]], part: dict[str, Any]) -> None:
    """Add ``part``; a text continues a text before it, thinking continues thinking."""
    last = parts[-1] if parts else {}
    kind = part.get("type")
    if not isinstance(kind, str) or last.get("type") != kind or kind not in part:
        parts.append(part)
        return
    known, value = last.get(kind), part[kind]
    if isinstance(known, str) and isinstance(value, str):
        last.update({**part, kind: known + value})
    elif json_codec.is_list(known) and json_codec.is_list(value):
        inner: list[dict[str, Any]] = []
        for item in (*known, *value):
            _add_part(inner, shallow_copy(item))
        last.update({**part, kind: inner})
    else:
        parts.append(part)
