"""Stream reader of the Messages API: assembles the response from its events.

Usage in ``message_delta`` is cumulative: the last value of each field wins, and missing
fields keep the value of ``message_start``. Events of the SDK's stream helper (``text``,
``input_json``, ...) repeat the raw events and are ignored.
SDK objects are copied, because the SDK's stream helper modifies them.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Final, Protocol

from spancast.dialects import accessors
from spancast.dialects.delta_fast_path import DeltaFastPath
from spancast.dialects.protocol import StreamReader
from spancast.dialects.sanitize import shallow_copy
from spancast.model import json_codec
from spancast.model.call import Response

_Fields = Mapping[str, Any]

_DELTAS: Final = {
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "thinking"),
    "input_json_delta": ("partial_json", "input"),
    "compaction_delta": ("content", "content"),
}
"""Type of a delta to its text field and the field of the block."""
_DELTA_ONLY: Final = frozenset({"type", "index", "delta"})
_EVENT_FIELDS: Final = frozenset({"type", "message", "delta", "usage", "error"})
_MESSAGE_EVENTS: Final = frozenset({"message_start", "message_delta", "message_stop", "error"})
"""Events whose other fields belong to the message."""
_PAIR: Final = 2

_BLOCK_OF: Final = {"text": "text", "thinking": "thinking", "input": "tool_use", "content": "compaction"}


class ResponseReader(Protocol):
    """Reads a ``message`` object; ``is_cut``: the stop reason is missing."""

    def __call__(self, response: _Fields, *, content: bool, is_cut: bool) -> Response:
        """Return the parsed response."""
        ...


class MessagesStream(StreamReader):
    """A reader of the events of one response; without ``content`` it keeps no text."""

    __slots__ = ("_blocks", "_content", "_message", "_pieces", "_read", "_usage", "fast_path")

    def __init__(self, read: ResponseReader, *, content: bool) -> None:
        self._read = read
        self._content = content
        self._message: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._blocks: dict[Hashable, dict[str, Any]] = {}
        """Content blocks of ``content_block_start``, by index."""
        self._pieces: dict[tuple[Hashable, str], list[str]] = {}
        """Texts by (index of the block, field of the block)."""
        self.fast_path = DeltaFastPath()

    def feed_text(self, text: str) -> None:
        """Process the next event given as JSON text, and learn from it."""
        event = json_codec.decode(text)
        self.feed(event)
        if self._content and type(event) is dict and event.keys() == _DELTA_ONLY:  # pyright: ignore[reportUnknownMemberType] - wire JSON
            self._learn(text, event)  # pyright: ignore[reportUnknownArgumentType] - wire JSON

    def _learn(self, text: str, event: dict[str, Any]) -> None:
        """Learn from a delta that has only one piece of text."""
        delta, index = event["delta"], event["index"]
        if type(delta) is not dict or len(delta) != _PAIR or not isinstance(index, int):  # pyright: ignore[reportUnknownArgumentType] - wire JSON
            return
        kind: object = delta.get("type")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - wire JSON
        row = _DELTAS.get(kind) if isinstance(kind, str) else None
        pieces = self._pieces.get((index, row[1])) if row is not None else None
        if row is not None and pieces is not None and event["type"] == "content_block_delta":
            piece: object = delta.get(row[0])  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - wire JSON
            if isinstance(piece, str):
                self.fast_path.learn(text, row[0], piece, pieces)

    def feed(self, chunk: object) -> None:
        """Process the next event: a dict of wire JSON or an SDK's object."""
        # Text deltas are the hot path: extra fields are not merged.
        event: Any = chunk if type(chunk) is dict else getattr(chunk, "__dict__", None)  # pyright: ignore[reportUnknownVariableType]
        if not event or event.get("type") != "content_block_delta":
            self._feed_event(accessors.fields(chunk))  # pyright: ignore[reportUnknownArgumentType]
        elif self._content:
            delta = event.get("delta")
            delta_fields: Any = delta if type(delta) is dict else getattr(delta, "__dict__", None)  # pyright: ignore[reportUnknownVariableType]
            if delta_fields:
                try:
                    self._feed_delta(event.get("index"), delta_fields, delta)  # pyright: ignore[reportUnknownArgumentType]
                except TypeError:
                    # An unhashable index or type is invalid.
                    return

    def result(self) -> Response:
        """Return the response received so far."""
        response = dict(self._message)
        if self._usage:
            response["usage"] = self._usage
        if self._content and (blocks := self._assemble()):
            response["content"] = blocks
        return self._read(response, content=self._content, is_cut=bool(response) and not response.get("stop_reason"))

    def _feed_delta(self, index: Hashable, delta_fields: _Fields, delta: object) -> None:
        kind = delta_fields.get("type")
        row = _DELTAS.get(kind)  # pyright: ignore[reportArgumentType] - any value may be looked up
        if row is None or len(delta_fields) > _PAIR:
            self._merge_delta(index, accessors.fields(delta), () if row is None else row)
            if row is None:
                return
        text = delta_fields.get(row[0])
        if type(text) is not str:
            # An SDK without a class for this delta has its fields in ``__pydantic_extra__``.
            text = accessors.fields(delta).get(row[0])
            if type(text) is not str:
                self._merge_delta(index, accessors.fields(delta), ())
                return
        key = (index, row[1])
        pieces = self._pieces.get(key)
        if pieces is None:
            self._pieces[key] = [text]
        else:
            pieces.append(text)

    def _merge_delta(self, index: Hashable, delta: _Fields, read: tuple[str, ...]) -> None:
        """Add the fields of a delta that are not ``read`` to its block: text is appended, so that none is lost."""
        block = self._blocks.setdefault(index, {"type": _BLOCK_OF[read[1]] if read else "text"})
        for name, value in delta.items():
            if name == "type" or name in read or json_codec.is_absent(value):
                continue
            known = block.get(name)
            if name == "citation":
                block["citations"] = [*accessors.items(block.get("citations")), value]
            else:
                block[name] = known + value if isinstance(known, str) and isinstance(value, str) else value

    def _feed_event(self, event: _Fields) -> None:
        kind = event.get("type")
        if kind == "message_start":
            self._message = {**accessors.fields(event.get("message"))}
            self._usage = _present(accessors.fields(self._message.pop("usage", None)))
        elif kind == "content_block_start" and self._content:
            index = event.get("index")
            if isinstance(index, Hashable):
                self._blocks[index] = shallow_copy(event.get("content_block"))
        elif kind == "message_delta":
            self._message.update(_present(accessors.fields(event.get("delta"))))
            self._usage.update(_present(accessors.fields(event.get("usage"))))
        elif kind == "error":
            self._message["error"] = event.get("error") or {"message": event.get("message")}
        if isinstance(kind, str) and kind in _MESSAGE_EVENTS:
            # Among them the request id of an error, and Bedrock's metrics in ``message_stop``.
            self._message.update(_present({name: event[name] for name in event.keys() - _EVENT_FIELDS}))

    def _assemble(self) -> list[dict[str, Any]]:
        blocks = {index: dict(block) for index, block in self._blocks.items()}
        for (index, field), pieces in self._pieces.items():
            block = blocks.setdefault(index, {"type": _BLOCK_OF[field]})
            text = "".join(pieces)
            if field == "input":
                if text:
                    decoded = json_codec.decode(text)
                    block[field] = text if decoded is None else decoded
            else:
                block[field] = (accessors.text(block.get(field)) or "") + text
        return list(blocks.values())


def _present(fields: _Fields) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if not json_codec.is_absent(value)}
