"""Events alike but for one string, as nearly all of a stream's are: cut instead of decoded.

Two events with the same text before and after a JSON string say the same but for that string. So once one of
them has been read whole, the others are a comparison and a slice. Must never: take a text for a string that
``json`` would not read as one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from spancast.model import json_text

_PADDING: Final = '"obfuscation":"'
"""Random padding that OpenAI puts at the end of every event."""
_END: Final = '"}'
_MAX_LESSONS: Final = 32


class EventRun:
    """What surrounds the string of the events that come, and the list its pieces go to."""

    __slots__ = ("_head", "_is_padded", "_lessons", "_sink", "_tail")

    def __init__(self) -> None:
        self._head: str | None = None
        self._tail = ""
        self._is_padded = False
        self._sink: list[str] = []
        self._lessons = 0

    def learn(self, text: str, name: str, value: str, sink: list[str]) -> None:
        """Learn from ``text``, of which the field ``name`` with ``value``, already in ``sink``, is all that is new."""
        # Streams that alternate between two kinds of events are no run, and learning costs more than it saves.
        if self._lessons >= _MAX_LESSONS or not value or "\\" in value or '"' in value:
            return
        self._lessons += 1
        for colon in (":", ": "):
            opening = f'"{name}"{colon}"'
            at = text.find(f'{opening}{value}"')
            if at >= 0 and text.count(opening) == 1:
                start = at + len(opening)
                self._head, self._tail = text[:start], text[start + len(value) :]
                tail, found, padding = self._tail.partition(_PADDING)
                self._is_padded = bool(found) and padding.endswith(_END)
                if self._is_padded:
                    self._tail = tail + found
                self._sink = sink
                return

    def take(self, texts: Sequence[str], start: int) -> int:
        """Take the texts from ``start`` on that continue the run; return the index of the first that does not."""
        head, tail, sink = self._head, self._tail, self._sink
        if head is None:
            return start
        begin, rest, is_padded = len(head), len(tail), self._is_padded
        shortest = begin + rest
        for at in range(start, len(texts)):
            text = texts[at]
            if not text.startswith(head):
                return at
            if is_padded:
                end = text.rfind(tail)
                padding = text[end + rest :]
                if end < begin or not padding.endswith(_END) or '"' in padding[:-2] or "\\" in padding:
                    return at
                value = text[begin:end]
            else:
                if not text.endswith(tail) or len(text) < shortest:
                    return at
                value = text[begin:-rest]
            if '"' in value or "\\" in value:
                value = json_text.decode(f'"{value}"')
                if type(value) is not str:
                    return at
            sink.append(value)
        return len(texts)


class TextReader(Protocol):
    """A reader of events that has a run of them."""

    run: EventRun

    def feed_text(self, text: str) -> None:
        """Take the next event as the JSON text it came as, and learn from it."""
        ...


def feed_texts(reader: TextReader, texts: Sequence[str], feed: Callable[[str], None]) -> None:
    """Give ``texts`` to ``reader``: to its run as far as that goes, the others to ``feed``, its ``feed_text``."""
    take, at, end = reader.run.take, 0, len(texts)
    while at < end:
        at = take(texts, at)
        if at < end:
            feed(texts[at])
            at += 1
