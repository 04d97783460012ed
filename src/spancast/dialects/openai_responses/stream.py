"""Stream reader of the Responses API: assembles the response from its events.

The terminal event has the complete response, which is used. The assembled pieces are used if
the stream was interrupted, or if the terminal event has no output.
SDK objects are copied, because the SDK's stream helper modifies them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Hashable, Mapping
from typing import Any, Final, NamedTuple, Protocol

from spancast.dialects import accessors
from spancast.dialects.protocol import StreamReader
from spancast.dialects.sanitize import shallow_copy
from spancast.model import json_codec
from spancast.model.call import Response

_Fields = Mapping[str, Any]


class ResponseReader(Protocol):
    """Reads a ``response`` object; ``is_cut``: the terminal event is missing."""

    def __call__(self, response: _Fields, *, content: bool, is_cut: bool) -> Response:
        """Return the parsed response."""
        ...


class _Slot(NamedTuple):
    """The location of a delta's text: ``item[field]``, or ``item[parts][event[position]][field]``."""

    item: str
    field: str
    done: str
    parts: str = ""
    part: str = ""
    position: str = ""


_TEXT_SLOTS: Final = {
    "response.output_text": _Slot("message", "text", "text", "content", "output_text", "content_index"),
    "response.refusal": _Slot("message", "refusal", "refusal", "content", "refusal", "content_index"),
    "response.reasoning_text": _Slot("reasoning", "text", "text", "content", "reasoning_text", "content_index"),
    "response.reasoning_summary_text": _Slot("reasoning", "text", "text", "summary", "summary_text", "summary_index"),
    "response.function_call_arguments": _Slot("function_call", "arguments", "arguments"),
    "response.custom_tool_call_input": _Slot("custom_tool_call", "input", "input"),
    "response.mcp_call_arguments": _Slot("mcp_call", "arguments", "arguments"),
    "response.code_interpreter_call_code": _Slot("code_interpreter_call", "code", "code"),
    "response.audio.transcript": _Slot(
        "message", "transcript", "transcript", "content", "output_audio", "content_index"
    ),
}
_DELTAS: Final = {f"{kind}.delta": slot for kind, slot in _TEXT_SLOTS.items()}
_DONE: Final = {f"{kind}.done": (f"{kind}.delta", slot) for kind, slot in _TEXT_SLOTS.items()}
_PARTS: Final = {
    "response.content_part.added": ("content", "content_index"),
    "response.content_part.done": ("content", "content_index"),
    "response.reasoning_summary_part.added": ("summary", "summary_index"),
    "response.reasoning_summary_part.done": ("summary", "summary_index"),
}
_START_EVENTS: Final = frozenset({"response.created", "response.queued", "response.in_progress"})
_END_EVENTS: Final = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
_ERROR_EVENTS: Final = frozenset({"error", "response.error"})

_EVENT_FIELDS: Final = frozenset({"type", "sequence_number", "response", "error"})
_UNKNOWN_DELTA: Final = re.compile(r"response\.(?!audio\.)(.+)\.delta")
"""Any delta except bytes of audio, which are not kept."""

_Key = tuple[str, Hashable, Hashable]


class ResponsesStream(StreamReader):
    """A reader of the events of one response; without ``content`` it keeps no text."""

    __slots__ = (
        "_beside",
        "_closed",
        "_content",
        "_error",
        "_has_ended",
        "_items",
        "_parts",
        "_pieces",
        "_read",
        "_response",
    )

    def __init__(self, read: ResponseReader, *, content: bool) -> None:
        self._read = read
        self._content = content
        self._response: _Fields = {}
        self._beside: dict[str, Any] = {}
        """Fields of events beside the response: timings of llama.cpp, OpenRouter's debug echo."""
        self._has_ended = False
        self._error: _Fields | None = None
        self._items: dict[Hashable, dict[str, Any]] = {}
        """Output items by output index."""
        self._closed: set[Hashable] = set()
        """Indexes of complete items."""
        self._parts: dict[_Key, dict[str, Any]] = {}
        """Parts of messages and summaries by (field of the item, output index, index in the field)."""
        self._pieces: dict[_Key, list[str]] = {}
        """Texts by (kind of delta, output index, index in the field)."""

    def feed(self, chunk: object) -> None:
        """Process the next event: a dict of wire JSON or an SDK's object."""
        # Text deltas are the hot path: extra fields are not merged.
        event: Any = chunk if type(chunk) is dict else getattr(chunk, "__dict__", None)  # pyright: ignore[reportUnknownVariableType]
        kind: Any = event.get("type") if event else None
        slot = (_DELTAS.get(kind) or _unknown_slot(kind)) if isinstance(kind, str) else None
        if slot is None:
            self._feed_event(accessors.fields(chunk))  # pyright: ignore[reportUnknownArgumentType]
            return
        if not self._content:
            return
        delta, index = event.get("delta"), event.get("output_index")
        if index is None or type(delta) is not str:
            # An SDK without a class for this event has its fields in ``__pydantic_extra__``.
            event = accessors.fields(chunk)  # pyright: ignore[reportUnknownArgumentType]
            delta, index = event.get("delta"), event.get("output_index")
            if type(delta) is not str:
                return
        try:
            # Some compatible servers send an item id instead of an index.
            key = (kind, event.get("item_id") if index is None else index, event.get(slot.position))
            pieces = self._pieces.get(key)
        except TypeError:
            # An unhashable index is invalid.
            return
        if pieces is None:
            self._pieces[key] = [delta]
        else:
            pieces.append(delta)

    def result(self) -> Response:
        """Return the response of the terminal event, else the assembled one."""
        response = {**self._beside, **self._response}
        if not accessors.items(response.get("output")):
            response["output"] = self._assemble()
        if self._error is not None and not response.get("error"):
            response["error"] = self._error
        has_begun = bool(response["output"] or self._response or self._error)
        return self._read(response, content=self._content, is_cut=has_begun and not self._has_ended)

    def _feed_event(self, event: _Fields) -> None:
        if event.get("is_unknown") is True:
            # The openrouter SDK wraps unknown events.
            event = accessors.fields(event.get("raw"))
        kind = event.get("type")
        if not isinstance(kind, str):
            return
        if kind in _START_EVENTS or kind in _END_EVENTS:
            self._response = accessors.fields(event.get("response")) or self._response
            self._has_ended = kind in _END_EVENTS
            self._beside.update(_other_fields(event))
        elif kind in _ERROR_EVENTS:
            nested = accessors.fields(event.get("error"))
            if nested:
                self._beside.update(_other_fields(event))
            self._error = nested or {"message": None, **_other_fields(event)}
        elif kind == "response.debug":
            self._beside.update(_other_fields(event))
        else:
            index = event.get("output_index")
            if index is None:
                index = event.get("item_id") or accessors.fields(event.get("item")).get("id")
            try:
                self._feed_item(kind, event, index)
            except TypeError:
                # An unhashable index is invalid.
                return

    def _feed_item(self, kind: str, event: _Fields, index: Hashable) -> None:
        if kind == "response.output_item.added":
            self._items[index] = self._copy(event.get("item"))
        elif kind == "response.output_item.done":
            self._items[index] = self._copy(event.get("item"))
            self._closed.add(index)
        elif not self._content:
            return
        elif kind in _PARTS:
            field, position = _PARTS[kind]
            self._parts[field, index, event.get(position)] = shallow_copy(event.get("part"))
        elif kind in _DONE:
            delta_kind, slot = _DONE[kind]
            text = event.get(slot.done)
            if isinstance(text, str):
                self._pieces[delta_kind, index, event.get(slot.position)] = [text]
        elif kind == "response.output_text.annotation.added":
            part = self._parts.setdefault(("content", index, event.get("content_index")), {"type": "output_text"})
            part["annotations"] = [*accessors.items(part.get("annotations")), event.get("annotation")]

    def _copy(self, item: object) -> dict[str, Any]:
        copied = shallow_copy(item)
        # Without content, only the fields for the finish reason are needed.
        return copied if self._content else {key: copied.get(key) for key in ("type", "call_id")}

    def _assemble(self) -> list[dict[str, Any]]:
        items = {index: dict(item) for index, item in self._items.items()}
        lists: dict[tuple[Hashable, str], dict[Hashable, dict[str, Any]]] = {}
        for (field, index, position), part in self._parts.items():
            if index not in self._closed:
                lists.setdefault((index, field), {})[position] = dict(part)
        for (kind, index, position), pieces in self._pieces.items():
            if index in self._closed:
                continue
            slot, text = _DELTAS.get(kind) or _unknown_slot(kind), "".join(pieces)
            if slot is None:
                continue
            item = items.setdefault(index, {"type": slot.item})
            if slot.parts:
                part = lists.setdefault((index, slot.parts), {}).setdefault(position, {"type": slot.part})
                part[slot.field] = text
            else:
                item[slot.field] = text
        for (index, field), parts in lists.items():
            items.setdefault(index, {"type": "message"})[field] = list(parts.values())
        return list(items.values())


@functools.cache
def _unknown_slot(kind: str) -> _Slot | None:
    """Return the place of a delta that is not in the table: the field of its item that its name ends with."""
    match = _UNKNOWN_DELTA.fullmatch(kind)
    return None if match is None else _Slot("unknown", match[1], match[1])


def _other_fields(event: _Fields) -> dict[str, Any]:
    return {
        name: value for name, value in event.items() if name not in _EVENT_FIELDS and not json_codec.is_absent(value)
    }
