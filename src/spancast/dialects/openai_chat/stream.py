"""Stream reader of Chat Completions: assembles the complete response from its chunks.

The assembled response is read like any other, so that a stream gives the same span. Usage
is not summed: the last value wins. No chunk is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

from spancast.dialects import accessors
from spancast.dialects.delta_fast_path import DeltaFastPath
from spancast.dialects.protocol import StreamReader
from spancast.dialects.sanitize import shallow_copy
from spancast.model import json_codec
from spancast.model.call import Response

_UPDATED_FIELDS: Final = ("usage", "error", "service_tier", "openrouter_metadata")
_STRING_FIELDS: Final = ("content", "reasoning", "reasoning_content", "refusal")
_LIST_FIELDS: Final = ("images", "annotations")
_MESSAGE_FIELDS: Final = frozenset(
    {*_STRING_FIELDS, *_LIST_FIELDS, "role", "tool_calls", "function_call", "reasoning_details", "audio"}
)


_TEXT_ONLY: Final = frozenset({"content", "role"})
_PIECE_ONLY: Final = frozenset(
    {"id", "object", "created", "model", "system_fingerprint", "service_tier", "provider", "obfuscation"}
    | {"choices", "index", "delta", "role", "content", "tool_calls"}
)
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

    __slots__ = ("_choices", "_content", "_has_choice", "_read", "_response", "_texts", "fast_path")

    def __init__(self, read: ResponseReader, *, content: bool) -> None:
        self._read = read
        self._content = content
        self._response: dict[str, Any] = {}
        self._choices: dict[int, _Choice] = {}
        self._has_choice = False
        """True after a chunk with a choice: fields that are sent once are known."""
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
                self._feed_any(chunk)  # pyright: ignore[reportUnknownArgumentType]
            return
        # Fast path: most SDK chunks have text only.
        try:
            fields = chunk.__dict__
            (choice,) = fields["choices"]
            choice_fields = choice.__dict__
            delta = choice_fields["delta"]
            is_text_only = (
                self._has_choice
                and fields["usage"] is None
                and choice_fields["finish_reason"] is None
                and choice_fields["logprobs"] is None
                and delta.__pydantic_fields_set__ <= _TEXT_ONLY
                and not ((extra := chunk.__pydantic_extra__) and _has_new_values(extra))
                and not ((extra := choice.__pydantic_extra__) and _has_new_values(extra))
                and not ((extra := delta.__pydantic_extra__) and _has_new_values(extra))
            )
            pieces = self._texts[choice_fields["index"]]
            content = delta.content
        except (AttributeError, KeyError, TypeError, ValueError):
            self._feed_any(chunk)
            return
        if not is_text_only:
            self._feed_any(chunk)
        elif type(content) is str and self._content:
            pieces.append(content)

    def _feed_any(self, chunk: object) -> None:
        if isinstance(chunk, str):
            self._choice(0).pieces("content").append(chunk)
            return
        fields = accessors.fields(chunk)
        choices = fields.get("choices")
        if self._has_choice and choices:
            for name in _UPDATED_FIELDS:
                value = fields.get(name)
                if value is not None and not json_codec.is_sentinel(value):
                    self._response[name] = value
        else:
            self._merge(fields)
            self._has_choice = bool(choices)
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
            get = choice.get
            is_text_only = (
                get("finish_reason") is None
                and get("native_finish_reason") is None
                and get("logprobs") is None
                and get("error") is None
                and chunk.get("usage") is None
                and chunk.get("error") is None
                and chunk.get("openrouter_metadata") is None
            )
            pieces = self._texts[choice["index"]]
        except (AttributeError, KeyError, TypeError, ValueError):
            return False
        if not is_text_only:
            return False
        content = delta.get("content")
        if type(content) is str and self._content:
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
            if value is not None and value != "" and name not in ("choices", "debug"):
                self._response[name] = value

    def _choice(self, index: int) -> _Choice:
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = _Choice()
            self._texts[index] = choice.pieces("content")
        return choice


class _Choice:
    """The received part of one choice."""

    __slots__ = ("_audio", "_audio_pieces", "_calls", "_details", "_final_fields", "_logprobs", "_message", "_pieces")

    def __init__(self) -> None:
        self._pieces: dict[str, list[str]] = {}
        self._message: dict[str, Any] = {}
        self._calls: dict[Any, _Call] = {}
        self._details: dict[Any, dict[str, Any]] = {}
        self._audio: dict[str, Any] = {}
        self._audio_pieces: dict[str, list[str]] = {}
        self._logprobs: dict[str, list[Any]] = {}
        self._final_fields: dict[str, Any] = {}

    def pieces(self, name: str) -> list[str]:
        """Return the pieces of the text field ``name``."""
        found = self._pieces.get(name)
        if found is None:
            found = self._pieces[name] = []
        return found

    def fragments(self, index: object) -> list[str]:
        """Return the argument pieces of the tool call ``index``, which has started."""
        return self._calls[index].arguments

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
                pieces = self._pieces.get(name)
                if pieces is None:
                    self._pieces[name] = [value]
                else:
                    pieces.append(value)
            elif name in _MESSAGE_FIELDS:
                self._add_field(name, value)
        for name in ("finish_reason", "native_finish_reason", "error"):
            value = choice.get(name)
            if value is not None:
                self._final_fields[name] = value
        logprobs = choice.get("logprobs")
        if logprobs is not None and content:
            self._add_logprobs(accessors.fields(logprobs))

    def assembled(self, index: int) -> dict[str, Any]:
        """Return the choice in the form of a response without streaming."""
        message: dict[str, Any] = {"role": "assistant", **self._message}
        for name, pieces in self._pieces.items():
            if pieces:
                message[name] = "".join(pieces)
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
            for item in accessors.items(value):
                self._add_call(accessors.fields(item))
        elif name in _STRING_FIELDS:
            if isinstance(value, str):
                self.pieces(name).append(value)
        elif name in _LIST_FIELDS:
            self._message.setdefault(name, []).extend(accessors.items(value))
        elif name == "function_call":
            self._calls.setdefault("function_call", _Call()).feed({"function": value})
        elif name == "reasoning_details":
            for position, item in enumerate(accessors.items(value)):
                self._add_detail(accessors.fields(item), is_first=position == 0)
        elif name == "audio":
            self._add_audio(accessors.fields(value))
        elif isinstance(value, str) and value:
            self._message[name] = value

    def _ordered_calls(self) -> list[_Call]:
        """Return the calls by index, or in order of arrival if the server sends no indexes."""
        numbered = {index: call for index, call in self._calls.items() if isinstance(index, int)}
        if len(numbered) < len(self._calls):
            return list(self._calls.values())
        return [numbered[index] for index in sorted(numbered)]

    def _add_logprobs(self, logprobs: Mapping[str, Any]) -> None:
        for name, tokens in logprobs.items():
            if tokens is not None:
                self._logprobs.setdefault(name, []).extend(accessors.items(tokens))

    def _add_call(self, call: Mapping[str, Any]) -> None:
        index = call.get("index")
        if index is None:
            # Some servers send complete calls without an index: a new id is a new call.
            index = call.get("id") or next(reversed(self._calls), 0)
        if not isinstance(index, (int, str)):
            return
        known = self._calls.get(index)
        if known is None:
            known = self._calls[index] = _Call()
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

    __slots__ = ("_fields", "_kind", "_name_fields", "arguments")

    def __init__(self) -> None:
        self._fields: dict[str, Any] = {}
        self._name_fields: dict[str, str] = {}
        self.arguments: list[str] = []
        self._kind = "function"

    def feed(self, call: Mapping[str, Any]) -> None:
        """Process a fragment; only the first one has id and name."""
        if self._name_fields and call.get("id") is None:
            fragment = accessors.fields(call.get(self._kind)).get("arguments")
            if type(fragment) is str:
                self.arguments.append(fragment)
                return
        for name in ("id", "type"):
            value = call.get(name)
            if isinstance(value, str) and value:
                self._fields[name] = value
        kind = self._fields.get("type", "function")
        self._kind = kind if call.get(kind) is not None else self._kind
        inner = accessors.fields(call.get(self._kind))
        name = inner.get("name")
        if isinstance(name, str) and name:
            self._name_fields["name"] = name
        fragment = inner.get("arguments", inner.get("input"))
        if isinstance(fragment, str):
            self.arguments.append(fragment)

    def assembled(self) -> dict[str, Any]:
        """Return the call in the form of a response without streaming."""
        return {**self._fields, self._kind: {**self._name_fields, "arguments": "".join(self.arguments)}}
