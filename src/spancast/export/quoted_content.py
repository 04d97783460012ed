"""Remove what a destination's error message quotes of the content that was sent.

A server that rejects a request often repeats a part of it. The message is logged and reported, but content is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from spancast.encoding.span_data import read_record
from spancast.export.spool.protocol import Entry
from spancast.model import json_codec
from spancast.model.json_codec import is_list, is_mapping
from spancast.model.privacy import without_content

SHORTEST_QUOTE: Final = 10
"""Letters and digits. Shorter texts in common ("user", "text") may be the server's own words."""
_INSTEAD: Final = "[content]"
_CHARACTER: Final = re.compile(r"\\u[0-9a-fA-F]{4}|\\.|.", re.DOTALL)
_NO_LETTERS: Final = re.compile(r"[\W_]+")


def without_quotes(message: str, entries: Sequence[Entry]) -> str:
    """Return ``message`` with each text replaced that the spans contain, too.

    Only letters and digits are compared, because a server may quote, escape and wrap as it likes.
    """
    letters = [(letter, one) for one in _CHARACTER.finditer(message) if (letter := _letter(one[0]))]
    text = "".join([letter for letter, _ in letters])
    if len(text) < SHORTEST_QUOTE:
        return message
    content = "\0".join([_NO_LETTERS.sub("", one) for entry in entries for one in _content(entry)])
    parts: list[str] = []
    start = shown = 0
    while start + SHORTEST_QUOTE <= len(text):
        end = start + SHORTEST_QUOTE
        if text[start:end] not in content:
            start += 1
            continue
        while end < len(text) and text[start : end + 1] in content:
            end += 1
        parts += [message[shown : letters[start][1].start()], _INSTEAD]
        shown = letters[end - 1][1].end()
        start = end
    return "".join(parts) + message[shown:]


def _letter(character: str) -> str:
    """Return the letter or digit that ``character``, an escape of JSON or one character, stands for; else nothing."""
    letter = chr(int(character.removeprefix("\\u"), base=16)) if len(character) == len("\\u0000") else character
    return letter if letter.isalnum() else ""


def _content(entry: Entry) -> Iterator[str]:
    span = read_record(entry.record)
    yield span.status_message
    for attributes in (span.attributes, *(event.attributes for event in span.events)):
        kept = without_content(attributes)
        for name, value in attributes.items():
            if kept.get(name) != value:
                yield from _texts(json_codec.decode(value) if isinstance(value, str) and value[:1] in "[{" else value)


def _texts(value: object) -> Iterator[str]:
    """Yield the texts in ``value``, without the names of fields."""
    pending = [value]
    while pending:
        one = pending.pop()
        if isinstance(one, str):
            yield one
        elif is_mapping(one):
            pending += one.values()
        elif is_list(one):
            pending += one
