"""A streamed chat completion, put together from its chunks into the whole answer.

The whole is then read like any other, so a streamed and an unstreamed answer give the same
span. Must never: index ``choices[0]`` unguarded, sum usage (the last wins), or keep a chunk.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

from spancast.dialects import wire
from spancast.dialects.plain import shallow
from spancast.model.exchange import Response

_EVERY_CHUNK: Final = ("usage", "error", "service_tier", "openrouter_metadata")
_JOINED: Final = ("content", "reasoning", "reasoning_content", "refusal")
_LISTED: Final = ("images", "annotations")
_TOLD: Final = frozenset({*_JOINED, *_LISTED, "role", "tool_calls", "function_call", "reasoning_details", "audio"})


class AnswerReader(Protocol):
    """Reads a whole answer."""

    def __call__(self, answer: object, *, content: bool) -> Response:
        """Return the neutral answer."""
        ...


class ChatStream:
    """Reads the chunks of one answer; without ``content`` it keeps no text at all."""

    __slots__ = ("_answer", "_choices", "_content", "_read")

    def __init__(self, read: AnswerReader, *, content: bool) -> None:
        self._read = read
        self._content = content
        self._answer: dict[str, Any] = {}
        self._choices: dict[int, _Choice] = {}

    def feed(self, chunk: object) -> None:
        """Take the next chunk: wire JSON, the SDK's object, or text (of choice 0)."""
        if isinstance(chunk, str):
            self._choice(0).pieces("content").append(chunk)
            return
        fields = wire.fields(chunk)
        choices = fields.get("choices")
        answer = self._answer
        if not answer or not choices:
            self._merge(fields)
        else:
            for name in _EVERY_CHUNK:
                value = fields.get(name)
                if value is not None:
                    answer[name] = value
        for each in wire.items(choices):
            choice = wire.fields(each)
            index = choice.get("index")
            self._choice(index if isinstance(index, int) else 0).feed(choice, content=self._content)

    def is_usage_only(self, chunk: object) -> bool:
        """Tell whether ``chunk`` carries usage and no choice."""
        fields = wire.fields(chunk)
        return not fields.get("choices") and fields.get("usage") is not None

    def result(self) -> Response:
        """Return what has been received; equals the unstreamed answer once complete."""
        choices = [self._choices[index].whole(index) for index in sorted(self._choices)]
        return self._read({**self._answer, "choices": choices}, content=self._content)

    def _merge(self, fields: Mapping[str, Any]) -> None:
        for name, value in fields.items():
            if value is not None and name not in ("choices", "debug"):
                self._answer[name] = value

    def _choice(self, index: int) -> _Choice:
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = _Choice()
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

    def feed(self, choice: Mapping[str, Any], *, content: bool) -> None:
        """Take the next chunk of this choice."""
        delta = choice.get("delta")
        for name, value in wire.fields(delta).items():
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
            self._take_logprobs(wire.fields(logprobs))

    def whole(self, index: int) -> dict[str, Any]:
        """Return the choice as an unstreamed answer has it."""
        message: dict[str, Any] = {"role": "assistant", **self._message}
        for name, pieces in self._pieces.items():
            message[name] = "".join(pieces)
        if self._calls:
            message["tool_calls"] = [call.whole() for call in self._calls.values()]
        if self._details:
            message["reasoning_details"] = list(self._details.values())
        if self._audio or self._sound:
            message["audio"] = {**self._audio, **{name: "".join(pieces) for name, pieces in self._sound.items()}}
        choice: dict[str, Any] = {"index": index, "message": message, **self._ends}
        if self._logprobs:
            choice["logprobs"] = self._logprobs
        return choice

    def _take(self, name: str, value: Any) -> None:  # noqa: ANN401, C901 - wire JSON; one case per field
        if name in _JOINED:
            if isinstance(value, str):
                self.pieces(name).append(value)
        elif name in _LISTED:
            self._message.setdefault(name, []).extend(wire.items(value))
        elif name == "tool_calls":
            for each in wire.items(value):
                self._take_call(wire.fields(each))
        elif name == "function_call":
            self._calls.setdefault("function_call", _Call()).feed({"function": value})
        elif name == "reasoning_details":
            for each in wire.items(value):
                self._take_detail(each)
        elif name == "audio":
            self._take_audio(wire.fields(value))
        elif isinstance(value, str) and value:
            self._message[name] = value

    def _take_logprobs(self, logprobs: Mapping[str, Any]) -> None:
        for name, tokens in logprobs.items():
            if tokens is not None:
                self._logprobs.setdefault(name, []).extend(wire.items(tokens))

    def _take_call(self, call: Mapping[str, Any]) -> None:
        index = call.get("index")
        if index is None:
            # Some servers send whole calls without an index: a new id is a new call.
            index = call.get("id") or next(reversed(self._calls), 0)
        if not isinstance(index, (int, str)):
            return
        self._calls.setdefault(index, _Call()).feed(call)

    def _take_detail(self, value: object) -> None:
        detail = wire.fields(value)
        kind = detail.get("type")
        index = detail.get("index")
        key = (index, kind) if isinstance(index, int) and isinstance(kind, str) else len(self._details)
        known = self._details.get(key)
        if known is None:
            self._details[key] = shallow(detail)
            return
        for name, item in detail.items():
            if name in ("text", "summary", "data") and isinstance(item, str) and isinstance(known.get(name), str):
                known[name] += item
            elif item is not None:
                known[name] = item

    def _take_audio(self, audio: Mapping[str, Any]) -> None:
        for name, value in audio.items():
            if name in ("data", "transcript") and isinstance(value, str):
                self._sound.setdefault(name, []).append(value)
            elif value is not None:
                self._audio[name] = value


class _Call:
    """One tool call, its arguments in fragments."""

    __slots__ = ("_arguments", "_fields", "_kind", "_named")

    def __init__(self) -> None:
        self._fields: dict[str, Any] = {}
        self._named: dict[str, str] = {}
        self._arguments: list[str] = []
        self._kind = "function"

    def feed(self, call: Mapping[str, Any]) -> None:
        """Take a fragment; id and name come with the first one only."""
        for name in ("id", "type"):
            value = call.get(name)
            if isinstance(value, str) and value:
                self._fields[name] = value
        kind = self._fields.get("type", "function")
        self._kind = kind if call.get(kind) is not None else self._kind
        held = wire.fields(call.get(self._kind))
        name = held.get("name")
        if isinstance(name, str) and name:
            self._named["name"] = name
        fragment = held.get("arguments", held.get("input"))
        if isinstance(fragment, str):
            self._arguments.append(fragment)

    def whole(self) -> dict[str, Any]:
        """Return the call as an unstreamed answer has it."""
        return {**self._fields, self._kind: {**self._named, "arguments": "".join(self._arguments)}}
