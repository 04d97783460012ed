"""A streamed chat completion, put together from its chunks into the whole answer.

The whole is then read like any other, so a streamed and an unstreamed answer give the same
span. Must never: index ``choices[0]`` unguarded, sum usage (the last wins), or keep a chunk.
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

_EVERY_CHUNK: Final = ("usage", "error", "service_tier", "openrouter_metadata")
_JOINED: Final = ("content", "reasoning", "reasoning_content", "refusal")
_LISTED: Final = ("images", "annotations")
_TOLD: Final = frozenset({*_JOINED, *_LISTED, "role", "tool_calls", "function_call", "reasoning_details", "audio"})


_TEXT_ONLY: Final = frozenset({"content", "role"})
_PIECE_ONLY: Final = frozenset(
    {"id", "object", "created", "model", "system_fingerprint", "service_tier", "provider", "obfuscation"}
    | {"choices", "index", "delta", "role", "content", "tool_calls"}
)
"""What a chunk has that tells one piece and repeats the rest."""
_FRAGMENT: Final = frozenset({"index", "function"})
_ARGUMENTS: Final = frozenset({"arguments"})
_WORDS: Final = frozenset({"reasoning.text", "reasoning.summary"})
_REPEATED: Final = "provider"
"""What OpenRouter repeats in every chunk; the first one told it."""


def _tells(extra: dict[str, Any]) -> bool:
    """Tell whether fields the SDK does not know say anything new."""
    for name, value in extra.items():  # noqa: SIM110 - any() with a generator costs three times as much, a chunk
        if value is not None and name != _REPEATED:
            return True
    return False


class AnswerReader(Protocol):
    """Reads a whole answer."""

    def __call__(self, answer: object, *, content: bool) -> Response:
        """Return the neutral answer."""
        ...


class ChatStream(StreamReader):
    """Reads the chunks of one answer; without ``content`` it keeps no text at all."""

    __slots__ = ("_answer", "_choices", "_content", "_is_told", "_read", "_texts", "run")

    def __init__(self, read: AnswerReader, *, content: bool) -> None:
        self._read = read
        self._content = content
        self._answer: dict[str, Any] = {}
        self._choices: dict[int, _Choice] = {}
        self._is_told = False
        """A chunk with a choice has come: what is said once was said by then."""
        self._texts: dict[int, list[str]] = {}
        """The text pieces of each choice seen; they stay empty without content."""
        self.run = DeltaFastPath()

    def feed_text(self, text: str) -> None:
        """Take the next chunk as the JSON text it came as, and learn from it."""
        chunk = json_codec.decode(text)
        if type(chunk) is not dict:
            return
        is_told = self._is_told
        if not (is_told and self._feed_json_text(chunk)):
            self._feed_any(chunk)  # pyright: ignore[reportUnknownArgumentType] - wire JSON
        if is_told and self._content:
            self._learn(text, chunk)

    def _learn(self, text: str, chunk: Any) -> None:  # noqa: ANN401 - wire JSON
        """Learn from a chunk that told a piece of text, or of a call's arguments, and nothing else."""
        try:
            (choice,) = chunk["choices"]
            delta, index = choice["delta"], choice["index"]
            told = {name for name, value in {**chunk, **choice, **delta}.items() if value is not None}
            if not told <= _PIECE_ONLY:
                return
            calls = delta.get("tool_calls")
            if calls is None:
                self.run.learn(text, "content", delta["content"], self._texts[index])
                return
            (call,) = calls
            if delta.get("content") is None and call.keys() <= _FRAGMENT and call["function"].keys() == _ARGUMENTS:
                fragments = self._choices[index].fragments(call["index"])
                self.run.learn(text, "arguments", call["function"]["arguments"], fragments)
        except (AttributeError, KeyError, TypeError, ValueError):
            # Of another shape: it has been read, and so will the next one be.
            return

    def feed(self, chunk: Any) -> None:  # noqa: ANN401 - an SDK's object has any class
        """Take the next chunk: wire JSON, the SDK's object, or text (of choice 0)."""
        if type(chunk) is dict:
            if not (self._is_told and self._feed_json_text(chunk)):
                self._feed_any(chunk)  # pyright: ignore[reportUnknownArgumentType]
            return
        # A chunk of the SDK that holds text and nothing else, as nearly all do, is taken here.
        try:
            fields = chunk.__dict__
            (choice,) = fields["choices"]
            told = choice.__dict__
            delta = told["delta"]
            is_plain = (
                self._is_told
                and fields["usage"] is None
                and told["finish_reason"] is None
                and told["logprobs"] is None
                and delta.__pydantic_fields_set__ <= _TEXT_ONLY
                and not ((extra := chunk.__pydantic_extra__) and _tells(extra))
                and not ((extra := choice.__pydantic_extra__) and _tells(extra))
                and not ((extra := delta.__pydantic_extra__) and _tells(extra))
            )
            pieces = self._texts[told["index"]]
            content = delta.content
        except (AttributeError, KeyError, TypeError, ValueError):
            self._feed_any(chunk)
            return
        if not is_plain:
            self._feed_any(chunk)
        elif type(content) is str and self._content:
            pieces.append(content)

    def _feed_any(self, chunk: object) -> None:
        if isinstance(chunk, str):
            self._choice(0).pieces("content").append(chunk)
            return
        fields = accessors.fields(chunk)
        choices = fields.get("choices")
        if self._is_told and choices:
            for name in _EVERY_CHUNK:
                value = fields.get(name)
                if value is not None and not json_codec.is_sentinel(value):
                    self._answer[name] = value
        else:
            self._merge(fields)
            self._is_told = bool(choices)
        for each in accessors.items(choices):
            choice = accessors.fields(each)
            index = choice.get("index")
            self._choice(index if isinstance(index, int) else 0).feed(choice, content=self._content)

    def _feed_json_text(self, chunk: Any) -> bool:  # noqa: ANN401 - wire JSON
        """Take a chunk of wire JSON that holds text and nothing else; tell whether it was one."""
        try:
            (choice,) = chunk["choices"]
            delta = choice["delta"]
            for name, value in delta.items():
                if value is not None and name not in _TEXT_ONLY:
                    return False
            told = choice.get
            is_plain = (
                told("finish_reason") is None
                and told("native_finish_reason") is None
                and told("logprobs") is None
                and told("error") is None
                and chunk.get("usage") is None
                and chunk.get("error") is None
                and chunk.get("openrouter_metadata") is None
            )
            pieces = self._texts[choice["index"]]
        except (AttributeError, KeyError, TypeError, ValueError):
            return False
        if not is_plain:
            return False
        content = delta.get("content")
        if type(content) is str and self._content:
            pieces.append(content)
        return True

    def is_usage_only(self, chunk: object) -> bool:
        """Tell whether ``chunk`` carries usage and no choice."""
        fields = accessors.fields(chunk)
        return not fields.get("choices") and fields.get("usage") is not None

    def result(self) -> Response:
        """Return what has been received; equals the unstreamed answer once complete."""
        choices = [self._choices[index].whole(index) for index in sorted(self._choices)]
        return self._read({**self._answer, "choices": choices}, content=self._content)

    def _merge(self, fields: Mapping[str, Any]) -> None:
        for name, value in fields.items():
            # Azure's first chunk has the filter's verdict, and an empty id and model.
            if value is not None and value != "" and name not in ("choices", "debug"):
                self._answer[name] = value

    def _choice(self, index: int) -> _Choice:
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = _Choice()
            self._texts[index] = choice.pieces("content")
        return choice


class _Choice:
    """What has arrived of one choice."""

    __slots__ = ("_audio", "_calls", "_details", "_ends", "_logprobs", "_message", "_pieces", "_sound")

    def __init__(self) -> None:
        self._pieces: dict[str, list[str]] = {}
        self._message: dict[str, Any] = {}
        self._calls: dict[Any, _Call] = {}
        self._details: dict[Any, dict[str, Any]] = {}
        self._audio: dict[str, Any] = {}
        self._sound: dict[str, list[str]] = {}
        self._logprobs: dict[str, list[Any]] = {}
        self._ends: dict[str, Any] = {}

    def pieces(self, name: str) -> list[str]:
        """Return the pieces of the text field ``name``."""
        found = self._pieces.get(name)
        if found is None:
            found = self._pieces[name] = []
        return found

    def fragments(self, index: object) -> list[str]:
        """Return the pieces of the arguments of the call ``index``, which has begun."""
        return self._calls[index].arguments

    def feed(self, choice: Mapping[str, Any], *, content: bool) -> None:
        """Take the next chunk of this choice."""
        delta = choice.get("delta")
        if delta is None:
            # A whole answer as one chunk; the legacy completions endpoint.
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
            elif name in _TOLD:
                self._take(name, value)
        for name in ("finish_reason", "native_finish_reason", "error"):
            value = choice.get(name)
            if value is not None:
                self._ends[name] = value
        logprobs = choice.get("logprobs")
        if logprobs is not None and content:
            self._take_logprobs(accessors.fields(logprobs))

    def whole(self, index: int) -> dict[str, Any]:
        """Return the choice as an unstreamed answer has it."""
        message: dict[str, Any] = {"role": "assistant", **self._message}
        for name, pieces in self._pieces.items():
            if pieces:
                message[name] = "".join(pieces)
        if self._calls:
            message["tool_calls"] = [call.whole() for call in self._ordered_calls()]
        if self._details:
            message["reasoning_details"] = list(self._details.values())
        if self._audio or self._sound:
            message["audio"] = {**self._audio, **{name: "".join(pieces) for name, pieces in self._sound.items()}}
        choice: dict[str, Any] = {"index": index, "message": message, **self._ends}
        if self._logprobs:
            choice["logprobs"] = self._logprobs
        return choice

    def _take(self, name: str, value: Any) -> None:  # noqa: ANN401, C901 - wire JSON; one case per field
        if name == "tool_calls":
            for each in accessors.items(value):
                self._take_call(accessors.fields(each))
        elif name in _JOINED:
            if isinstance(value, str):
                self.pieces(name).append(value)
        elif name in _LISTED:
            self._message.setdefault(name, []).extend(accessors.items(value))
        elif name == "function_call":
            self._calls.setdefault("function_call", _Call()).feed({"function": value})
        elif name == "reasoning_details":
            for position, each in enumerate(accessors.items(value)):
                self._take_detail(accessors.fields(each), is_first=position == 0)
        elif name == "audio":
            self._take_audio(accessors.fields(value))
        elif isinstance(value, str) and value:
            self._message[name] = value

    def _ordered_calls(self) -> list[_Call]:
        """Return the calls by index, or as they came where the server gives none."""
        numbered = {index: call for index, call in self._calls.items() if isinstance(index, int)}
        if len(numbered) < len(self._calls):
            return list(self._calls.values())
        return [numbered[index] for index in sorted(numbered)]

    def _take_logprobs(self, logprobs: Mapping[str, Any]) -> None:
        for name, tokens in logprobs.items():
            if tokens is not None:
                self._logprobs.setdefault(name, []).extend(accessors.items(tokens))

    def _take_call(self, call: Mapping[str, Any]) -> None:
        index = call.get("index")
        if index is None:
            # Some servers send whole calls without an index: a new id is a new call.
            index = call.get("id") or next(reversed(self._calls), 0)
        if not isinstance(index, (int, str)):
            return
        known = self._calls.get(index)
        if known is None:
            known = self._calls[index] = _Call()
        known.feed(call)

    def _take_detail(self, detail: Mapping[str, Any], *, is_first: bool) -> None:
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
        """Return which detail this is a fragment of: by index and type, else words continue the last words.

        Without an index, a chunk's further details are details of their own, and so are
        words after a signature, which ends a block.
        """
        kind = detail.get("type")
        index = detail.get("index")
        if isinstance(index, int) and isinstance(kind, str):
            return (index, kind)
        last = next(reversed(self._details), None)
        if is_first and isinstance(last, int) and isinstance(kind, str) and kind in _WORDS:
            known = self._details[last]
            if known.get("type") == kind and not accessors.text(known.get("signature")):
                return last
        return len(self._details)

    def _take_audio(self, audio: Mapping[str, Any]) -> None:
        for name, value in audio.items():
            if name in ("data", "transcript") and isinstance(value, str):
                self._sound.setdefault(name, []).append(value)
            elif not json_codec.is_absent(value):
                self._audio[name] = value


class _Call:
    """One tool call, its arguments in fragments."""

    __slots__ = ("_fields", "_kind", "_named", "arguments")

    def __init__(self) -> None:
        self._fields: dict[str, Any] = {}
        self._named: dict[str, str] = {}
        self.arguments: list[str] = []
        self._kind = "function"

    def feed(self, call: Mapping[str, Any]) -> None:
        """Take a fragment; id and name come with the first one only."""
        if self._named and call.get("id") is None:
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
        held = accessors.fields(call.get(self._kind))
        name = held.get("name")
        if isinstance(name, str) and name:
            self._named["name"] = name
        fragment = held.get("arguments", held.get("input"))
        if isinstance(fragment, str):
            self.arguments.append(fragment)

    def whole(self) -> dict[str, Any]:
        """Return the call as an unstreamed answer has it."""
        return {**self._fields, self._kind: {**self._named, "arguments": "".join(self.arguments)}}
