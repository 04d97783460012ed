"""Stream reader of Gemini: assembles the complete response from its chunks.

Each chunk is a whole response with the parts that are new. A text continues a text before it, a thought a thought.
Usage is cumulative: the last value of each field wins. Lists in an object (citations, grounding) are continued.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

from spancast.dialects import accessors
from spancast.dialects.gemini.parts import named
from spancast.dialects.protocol import StreamReader
from spancast.model import json_codec
from spancast.model.call import Response

_TEXT_FIELDS: Final = frozenset({"text", "thought", "thought_signature"})
_CALL: Final = "function_call"


class ResponseReader(Protocol):
    """Reads a response whose names are in snake_case."""

    def __call__(self, response: Mapping[str, Any], *, content: bool) -> Response:
        """Return the parsed response."""
        ...


class GeminiStream(StreamReader):
    """A reader of the chunks of one response; without ``content`` it keeps no text."""

    __slots__ = ("_candidates", "_content", "_read", "_response")

    def __init__(self, read: ResponseReader, *, content: bool) -> None:
        self._read = read
        self._content = content
        self._response: dict[str, Any] = {}
        self._candidates: dict[int, _Candidate] = {}

    def feed(self, chunk: object) -> None:
        """Process the next chunk: wire JSON, the SDK's object, or a list of these (a stream without ``alt=sse``)."""
        if isinstance(chunk, list):
            for one in chunk:  # pyright: ignore[reportUnknownVariableType] - wire JSON
                self.feed(one)  # pyright: ignore[reportUnknownArgumentType] - wire JSON
            return
        response = named(chunk)
        for item in accessors.items(response.pop("candidates", None)):
            candidate = named(item)
            index = candidate.get("index")
            # The first one has no index on the wire.
            at = index if isinstance(index, int) else 0
            self._candidates.setdefault(at, _Candidate()).feed(candidate, content=self._content)
        if "usage_metadata" in response:
            response["usage_metadata"] = {
                **self._response.get("usage_metadata", {}),
                **named(response["usage_metadata"]),
            }
        self._response.update(response)

    def result(self) -> Response:
        """Return the response received so far."""
        candidates = [self._candidates[index].assembled() for index in sorted(self._candidates)]
        response = {**self._response, "candidates": candidates} if candidates else self._response
        return self._read(response, content=self._content)


class _Candidate:
    """One candidate: its fields, and its parts as far as they have arrived."""

    __slots__ = ("_content", "_fields", "_parts", "_pieces")

    def __init__(self) -> None:
        self._fields: dict[str, Any] = {}
        self._content: dict[str, Any] = {}
        self._parts: list[dict[str, Any]] = []
        self._pieces: list[str] | None = None
        """The texts of the last part, if it can be continued."""

    def feed(self, candidate: dict[str, Any], *, content: bool) -> None:
        given = named(candidate.pop("content", None))
        self._content.update({name: value for name, value in given.items() if name != "parts"})
        for part in map(named, accessors.items(given.get("parts"))):
            if content:
                self._add(part)
            elif _CALL in part:
                self._parts.append({_CALL: {}})
        for name, value in candidate.items():
            self._fields[name] = _continued(self._fields.get(name), value)

    def _add(self, part: dict[str, Any]) -> None:
        text = part.get("text")
        if isinstance(text, str) and part.keys() <= _TEXT_FIELDS:
            last = self._parts[-1] if self._parts else {}
            is_thought = part.get("thought") is True
            # An empty text carries the finish reason or a signature only.
            if self._pieces is not None and last.get("thought", False) is is_thought:
                self._pieces.append(text)
            elif text or not self._parts:
                self._end_text()
                self._parts.append({"text": "", "thought": True} if is_thought else {"text": ""})
                self._pieces = [text]
            return
        self._end_text()
        call = named(part.get(_CALL)) if _CALL in part else None
        if call is not None and "name" not in call and self._parts and _CALL in self._parts[-1]:
            # The rest of a call whose arguments are streamed.
            before = self._parts[-1][_CALL]
            pieces = [*accessors.items(before.get("partial_args")), *accessors.items(call.pop("partial_args", None))]
            self._parts[-1] = {**self._parts[-1], **part, _CALL: {**before, **call, "partial_args": pieces}}
            return
        self._parts.append(part if call is None else {**part, _CALL: call})

    def _end_text(self) -> None:
        if self._pieces is not None:
            self._parts[-1]["text"] = "".join(self._pieces)
            self._pieces = None

    def assembled(self) -> dict[str, Any]:
        parts = self._parts
        if self._pieces is not None:
            parts = [*parts[:-1], {**parts[-1], "text": "".join(self._pieces)}]
        return {**self._fields, "content": {**self._content, "parts": parts}} if parts else dict(self._fields)


def _continued(known: Any, value: Any) -> Any:  # noqa: ANN401 - wire JSON
    """Return ``value`` as it continues ``known``: lists in objects grow, any other value is replaced."""
    if not (json_codec.is_mapping(known) and json_codec.is_mapping(value)):
        return value
    merged = {**known}
    for name, item in value.items():
        before = merged.get(name)
        if json_codec.is_list(before) and json_codec.is_list(item):
            # Some servers repeat what they sent before.
            merged[name] = item if list(item[: len(before)]) == list(before) else [*before, *item]
        else:
            merged[name] = _continued(before, item)
    return merged
