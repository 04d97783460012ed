"""A streamed answer of the Responses API, put together from its events.

The terminal event carries the whole answer and is believed; what was pieced together
serves a stream that was cut, or a server whose terminal event has no output.
Must never: keep an SDK object that its helper changes while it streams.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Final, NamedTuple, Protocol

from spancast.dialects import accessors
from spancast.dialects.protocol import StreamReader
from spancast.dialects.sanitize import shallow_copy
from spancast.model.call import Response

_Fields = Mapping[str, Any]


class AnswerReader(Protocol):
    """Reads a ``response`` object; ``is_cut``: no terminal event was seen."""

    def __call__(self, answer: _Fields, *, content: bool, is_cut: bool) -> Response:
        """Return the neutral answer."""
        ...


class _Slot(NamedTuple):
    """Where the text of a kind of delta belongs: ``item[field]``, or ``item[parts][event[place]][field]``."""

    item: str
    field: str
    done: str
    parts: str = ""
    part: str = ""
    place: str = ""


_TEXTS: Final = {
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
_DELTAS: Final = {f"{kind}.delta": slot for kind, slot in _TEXTS.items()}
_DONE: Final = {f"{kind}.done": (f"{kind}.delta", slot) for kind, slot in _TEXTS.items()}
_PARTS: Final = {
    "response.content_part.added": ("content", "content_index"),
    "response.content_part.done": ("content", "content_index"),
    "response.reasoning_summary_part.added": ("summary", "summary_index"),
    "response.reasoning_summary_part.done": ("summary", "summary_index"),
}
_BEGUN: Final = frozenset({"response.created", "response.queued", "response.in_progress"})
_ENDED: Final = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
_ERRORS: Final = frozenset({"error", "response.error"})

_Key = tuple[str, Hashable, Hashable]


class ResponsesStream(StreamReader):
    """Reads the events of one answer; without ``content`` it keeps no text at all."""

    __slots__ = ("_closed", "_content", "_error", "_has_ended", "_items", "_parts", "_pieces", "_read", "_response")

    def __init__(self, read: AnswerReader, *, content: bool) -> None:
        self._read = read
        self._content = content
        self._response: _Fields = {}
        self._has_ended = False
        self._error: _Fields | None = None
        self._items: dict[Hashable, dict[str, Any]] = {}
        """Output items by output index."""
        self._closed: set[Hashable] = set()
        """Indexes of the items that came whole."""
        self._parts: dict[_Key, dict[str, Any]] = {}
        """Parts of messages and summaries by (field of the item, output index, index in the field)."""
        self._pieces: dict[_Key, list[str]] = {}
        """Texts by (kind of delta, output index, index in the field)."""

    def feed(self, chunk: object) -> None:
        """Take the next event: a dict of wire JSON or an SDK's object."""
        # A text delta is the hot path: no merging of extra fields, no table but one.
        event: Any = chunk if type(chunk) is dict else getattr(chunk, "__dict__", None)  # pyright: ignore[reportUnknownVariableType]
        kind: Any = event.get("type") if event else None
        slot = _DELTAS.get(kind) if isinstance(kind, str) else None
        if slot is None:
            self._feed_event(accessors.fields(chunk))  # pyright: ignore[reportUnknownArgumentType]
            return
        if not self._content:
            return
        delta, index = event.get("delta"), event.get("output_index")
        if index is None or type(delta) is not str:
            # An SDK without a class for this event keeps its fields apart.
            event = accessors.fields(chunk)  # pyright: ignore[reportUnknownArgumentType]
            delta, index = event.get("delta"), event.get("output_index")
            if type(delta) is not str:
                return
        try:
            # Some compatible servers number nothing and name the item only.
            key = (kind, event.get("item_id") if index is None else index, event.get(slot.place))
            pieces = self._pieces.get(key)
        except TypeError:
            # An index that is no number names no place.
            return
        if pieces is None:
            self._pieces[key] = [delta]
        else:
            pieces.append(delta)

    def result(self) -> Response:
        """Return what has been received: the terminal event's answer, else what was pieced together."""
        answer = dict(self._response)
        if not accessors.items(answer.get("output")):
            answer["output"] = self._assembled()
        if self._error is not None and not answer.get("error"):
            answer["error"] = self._error
        has_begun = bool(self._response or answer["output"] or self._error)
        return self._read(answer, content=self._content, is_cut=has_begun and not self._has_ended)

    def _feed_event(self, event: _Fields) -> None:
        if event.get("is_unknown") is True:
            # The openrouter SDK's wrapping of an event it has no class for.
            event = accessors.fields(event.get("raw"))
        kind = event.get("type")
        if not isinstance(kind, str):
            return
        if kind in _BEGUN or kind in _ENDED:
            self._response = accessors.fields(event.get("response")) or self._response
            self._has_ended = kind in _ENDED
        elif kind in _ERRORS:
            nested = accessors.fields(event.get("error"))
            self._error = nested or {"code": event.get("code"), "message": event.get("message")}
        else:
            index = event.get("output_index")
            if index is None:
                index = event.get("item_id") or accessors.fields(event.get("item")).get("id")
            try:
                self._feed_item(kind, event, index)
            except TypeError:
                # As above: an index that cannot be a key.
                return

    def _feed_item(self, kind: str, event: _Fields, index: Hashable) -> None:
        if kind == "response.output_item.added":
            self._items[index] = self._kept(event.get("item"))
        elif kind == "response.output_item.done":
            self._items[index] = self._kept(event.get("item"))
            self._closed.add(index)
        elif not self._content:
            return
        elif kind in _PARTS:
            field, place = _PARTS[kind]
            self._parts[field, index, event.get(place)] = shallow_copy(event.get("part"))
        elif kind in _DONE:
            delta_kind, slot = _DONE[kind]
            text = event.get(slot.done)
            if isinstance(text, str):
                self._pieces[delta_kind, index, event.get(slot.place)] = [text]
        elif kind == "response.output_text.annotation.added":
            part = self._parts.setdefault(("content", index, event.get("content_index")), {"type": "output_text"})
            part["annotations"] = [*accessors.items(part.get("annotations")), event.get("annotation")]

    def _kept(self, item: object) -> dict[str, Any]:
        copied = shallow_copy(item)
        # Without content only what the finish reason is derived from is needed.
        return copied if self._content else {key: copied.get(key) for key in ("type", "call_id")}

    def _assembled(self) -> list[dict[str, Any]]:
        items = {index: dict(item) for index, item in self._items.items()}
        lists: dict[tuple[Hashable, str], dict[Hashable, dict[str, Any]]] = {}
        for (field, index, place), part in self._parts.items():
            if index not in self._closed:
                lists.setdefault((index, field), {})[place] = dict(part)
        for (kind, index, place), pieces in self._pieces.items():
            if index in self._closed:
                continue
            slot, text = _DELTAS[kind], "".join(pieces)
            item = items.setdefault(index, {"type": slot.item})
            if slot.parts:
                part = lists.setdefault((index, slot.parts), {}).setdefault(place, {"type": slot.part})
                part[slot.field] = text
            else:
                item[slot.field] = text
        for (index, field), parts in lists.items():
            items.setdefault(index, {"type": "message"})[field] = list(parts.values())
        return list(items.values())
