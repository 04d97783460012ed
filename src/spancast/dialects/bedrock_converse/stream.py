"""Stream reader of Converse: assembles the complete response from its events.

An event is an object with its type as key, as botocore returns it and as Nova streams it:
``{"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "Hi"}}}``.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Final, Protocol

from spancast.dialects import accessors
from spancast.dialects.protocol import StreamReader
from spancast.model import json_codec
from spancast.model.call import Response

_DELTA: Final = "contentBlockDelta"
_INDEX: Final = "contentBlockIndex"

_TEXT_FIELDS: Final = {"reasoningContent": "text", "toolUse": "input"}
"""Kinds of deltas with several fields, and the one that is a piece of text."""
_ENCRYPTED: Final = frozenset({"signature", "redactedContent"})
_PARTS: Final = {"citation": "citationsContent"}
"""Kinds of deltas and the kind of block that they are a part of, if it has another name."""


class ResponseReader(Protocol):
    """Reads a complete response; ``is_cut``: the stop reason is missing."""

    def __call__(self, response: Mapping[str, Any], *, content: bool, is_cut: bool) -> Response:
        """Return the parsed response."""
        ...


class ConverseStream(StreamReader):
    """A reader of the events of one response; without ``content`` it keeps no text."""

    __slots__ = ("_blocks", "_content", "_pieces", "_read", "_response", "_role")

    def __init__(self, read: ResponseReader, *, content: bool) -> None:
        self._read = read
        self._content = content
        self._response: dict[str, Any] = {}
        self._role: object = None
        self._blocks: dict[Hashable, dict[str, Any]] = {}
        """Blocks by index: the fields that are not texts."""
        self._pieces: dict[tuple[Hashable, str], list[str]] = {}
        """Texts by index and kind of their block."""

    def feed(self, chunk: object) -> None:
        """Process the next event; an error is an object with the key ``error``."""
        for kind, value in accessors.fields(chunk).items():
            fields = accessors.fields(value)
            if kind == _DELTA:
                if self._content:
                    self._feed_delta(_hashable(fields.get(_INDEX)), accessors.fields(fields.get("delta")))
            elif kind == "contentBlockStart":
                for name, start in accessors.fields(fields.get("start")).items() if self._content else ():
                    self._block(_hashable(fields.get(_INDEX)), name).update(accessors.fields(start))
            elif kind == "messageStart":
                self._role = fields.get("role")
            elif kind in ("messageStop", "metadata"):
                self._response.update({name: item for name, item in fields.items() if not json_codec.is_absent(item)})
            elif kind != "contentBlockStop" and not json_codec.is_absent(value):
                # An error, or what a guardrail says of a body of Nova.
                self._response[kind] = value

    def result(self) -> Response:
        """Return the response received so far."""
        response = dict(self._response)
        if self._content and (self._blocks or self._pieces):
            response["output"] = {"message": {"role": self._role, "content": self._assembled()}}
        is_begun = bool(response) or self._role is not None
        return self._read(response, content=self._content, is_cut=is_begun and not response.get("stopReason"))

    def _feed_delta(self, index: Hashable, delta: Mapping[str, Any]) -> None:
        for kind, value in delta.items():
            if type(value) is str:
                self._add(index, kind, value)
                continue
            fields = accessors.fields(value)
            block = self._block(index, _PARTS.get(kind, kind))
            if kind in _TEXT_FIELDS:
                self._feed_fields(index, kind, fields, block)
            elif kind == "citation":
                block["citations"] = [*accessors.items(block.get("citations")), value]
            elif kind == "toolResult":
                block["content"] = [*accessors.items(block.get("content")), *accessors.items(value)]
            elif not json_codec.is_absent(value):
                block.update(fields or {"value": value})

    def _feed_fields(self, index: Hashable, kind: str, fields: Mapping[str, Any], block: dict[str, Any]) -> None:
        for name, item in fields.items():
            if name == _TEXT_FIELDS[kind] and isinstance(item, str):
                self._add(index, kind, item)
            elif name not in _ENCRYPTED:
                block[name] = item

    def _add(self, index: Hashable, kind: str, text: str) -> None:
        pieces = self._pieces.get((index, kind))
        if pieces is None:
            self._block(index, kind)
            self._pieces[index, kind] = [text]
        else:
            pieces.append(text)

    def _block(self, index: Hashable, kind: str) -> dict[str, Any]:
        """Return the fields of the part of block ``index`` that is of ``kind``."""
        return self._blocks.setdefault(index, {}).setdefault(kind, {})

    def _assembled(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for index, block in self._blocks.items():
            kinds: dict[str, Any] = {
                kind: self._assembled_kind(kind, fields, self._pieces.get((index, kind)))
                for kind, fields in block.items()
            }
            cited = kinds.get("citationsContent")
            if cited is not None and isinstance(text := kinds.pop("text", None), str):
                cited["content"] = [{"text": text}]
            found.append(kinds)
        return found

    @staticmethod
    def _assembled_kind(kind: str, fields: Mapping[str, Any], pieces: list[str] | None) -> Any:  # noqa: ANN401 - JSON has any shape
        text = "".join(pieces or ())
        if kind == "reasoningContent":
            return {"reasoningText": {**fields, "text": text}}
        if kind == "toolUse":
            if not text:
                return dict(fields)
            decoded = json_codec.decode(text)
            return {**fields, "input": text if decoded is None else decoded}
        return text if pieces is not None else dict(fields)


def _hashable(value: object) -> Hashable:
    try:
        hash(value)
    except TypeError:
        return None
    return value  # pyright: ignore[reportReturnType] - just hashed
