"""Events alike but for one string, as nearly all of a stream's are: cut instead of decoded.

Two events with the same text before and after a JSON string say the same but for that string. So once one of
them has been read whole, the others are a comparison and a slice. Must never: take a text for a string that
``json`` would not read as one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from spancast.model import json_codec

_PADDING: Final = '"obfuscation":"'
"""Random padding that OpenAI puts at the end of every event."""
_END: Final = '"}'
_MAX_LESSONS: Final = 32
_FEW: Final = 8
"""How many texts are tried at first: where runs are short, not much is lost."""


class DeltaFastPath:
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
        if self._head is None:
            return start
        if self._is_padded:
            return self._take_padded(self._head, texts, start)
        at, count = start, _FEW
        while at < len(texts):
            some = texts[at : at + count]
            taken = self._take_together(self._head, some)
            at += taken
            if taken < len(some):
                break
            count *= 2
        return at

    def _take_together(self, head: str, texts: Sequence[str]) -> int:
        """Take the first ones of ``texts`` that continue the run: compared all at once, a fifth of one by one."""
        tail = self._tail
        begin, rest = len(head), len(tail)
        values = [text[begin:-rest] for text in texts]
        # Where one is too short, what is put together again is longer than what there was.
        if f"{head}{f'{tail}{head}'.join(values)}{tail}" != "".join(texts):
            for at, text in enumerate(texts):
                if not (text.startswith(head) and text.endswith(tail) and len(text) >= begin + rest):
                    del values[at:]
                    break
        return self._keep(values)

    def _keep(self, values: list[str]) -> int:
        """Keep ``values``, each the inside of a string of JSON; return how many are, up to the first that is not."""
        whole = "".join(values)
        if '"' not in whole and "\\" not in whole and whole.isprintable():
            self._sink += values
            return len(values)
        for at, value in enumerate(values):
            text: object = value
            if '"' in value or "\\" in value or not value.isprintable():
                text = json_codec.decode(f'"{value}"')
            if type(text) is not str:
                return at
            self._sink.append(text)
        return len(values)

    def _take_padded(self, head: str, texts: Sequence[str], start: int) -> int:
        tail = self._tail
        begin, rest = len(head), len(tail)
        values: list[str] = []
        for text in texts[start:]:
            if not text.startswith(head):
                break
            end = text.rfind(tail)
            padding = text[end + rest :]
            if end < begin or not padding.endswith(_END) or '"' in padding[:-2] or "\\" in padding:
                break
            values.append(text[begin:end])
        return start + self._keep(values)


class TextReader(Protocol):
    """A reader of events that has a run of them."""

    run: DeltaFastPath

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
