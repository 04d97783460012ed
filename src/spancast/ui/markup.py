"""Recorded text as HTML: markdown, JSON as a tree, and control characters made visible. All content is untrusted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, Final, TypeVar

from markdown_it import MarkdownIt
from markupsafe import Markup, escape

from spancast.model import json_codec
from spancast.model.json_codec import is_list, is_mapping

T = TypeVar("T")

MAX_SHOWN: Final = 20_000
"""Characters of one text that a page shows; the rest is a link away."""
MAX_ROWS: Final = 500
"""Attributes of one span that a page shows; the rest is in the JSON."""
LONG: Final = 4_000
"""Characters of a text from which it scrolls in its own box."""
_MAX_NODES: Final = 400
_RICH: Final = 200_000
_PLAIN: Final = 2_000_000
_MESSAGES: Final = 300
_FEW: Final = 5
_LEAST: Final = 1_000
_MAX_LINES: Final = 1_000
_MAX_DEPTH: Final = 24
_OPEN_DEPTH: Final = 2
_SHORT_LIST: Final = 72
_DIRECTIONS: Final = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_CONTROL: Final = {
    **{code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"},
    **dict.fromkeys(range(127, 160), "�"),
    0x2028: "\n", 0x2029: "\n",
}  # fmt: skip
_ALIGNED: Final = re.compile('style="text-align:(left|right|center)"')
_MARKDOWN: Final = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"])
# An image would be a request to another server; its text and address remain readable.
_MARKDOWN.disable(["image", "html_block", "html_inline"])


class Room:
    """How much of texts and messages one page shows, so that any content is a page that a browser shows in time.

    A static file of a whole trace has more room: ``times``.
    """

    def __init__(self, times: int = 1) -> None:
        self._rich = _RICH * times
        self._plain = _PLAIN * times
        self._messages = _MESSAGES * times

    def is_rich(self, text: str) -> bool:
        """Return whether ``text`` is shown as markdown, which takes longer than plain text."""
        if len(text) > min(MAX_SHOWN, self._rich) or text.count("\n") > _MAX_LINES:
            return False
        self._rich -= len(text)
        return True

    def beginning(self, text: str) -> str:
        """Return the part of ``text`` that is shown as plain text."""
        shown = text[: MAX_SHOWN if self._plain > 0 else _LEAST]
        self._plain -= len(shown)
        return shown

    def last(self, messages: Sequence[T]) -> Sequence[T]:
        """Return the last of ``messages``: those before them are left out of a page with very many."""
        # A few of each call of a session.
        count = max(min(len(messages), self._messages), _FEW)
        self._messages -= min(len(messages), count)
        return messages[-count:]


def visible(text: object) -> str:
    """Return ``text`` with control characters as pictures (``␛``) and marks of direction as ``[U+202E]``."""
    plain = text if isinstance(text, str) else "" if text is None else str(text)
    if plain.isascii() and plain.isprintable():
        return plain
    return _DIRECTIONS.sub(lambda found: f"[U+{ord(found[0]):04X}]", plain).translate(_CONTROL)


def markdown(text: str) -> Markup:
    """Return ``text`` as HTML without any HTML of its own; links open nothing but what the reader clicks."""
    html: str = _MARKDOWN.render(visible(text))
    # The policy of the page allows no style in an element.
    html = _ALIGNED.sub(r'class="\1"', html)
    return Markup(html.replace("<a href=", '<a rel="noopener noreferrer nofollow" target="_blank" href='))  # noqa: S704 - escaped by markdown-it


def json_of(text: str) -> Any:  # noqa: ANN401 - any JSON
    """Return the object or list that ``text`` is in JSON, else None."""
    stripped = text.strip()
    if stripped[:1] not in ("{", "[") or len(text) > MAX_SHOWN:
        return None
    value = json_codec.decode(stripped)
    return value if is_mapping(value) or is_list(value) else None


def json_tree(value: object) -> Markup:
    """Return ``value`` as nested ``<details>``, which need no script; the end of a large one is left out and named."""
    room = [_MAX_NODES]
    # The names of an object stand alone, without a line for the object itself.
    nodes = (
        (_node(key, item, 1, room) for key, item in value.items())
        if is_mapping(value)
        else [_node(None, value, 0, room)]
    )
    html = Markup("").join(chain.from_iterable(nodes))
    more = Markup('<p class="dim">more than {} values; the rest is in the JSON</p>').format(_MAX_NODES)
    return Markup('<div class="json">{}</div>{}').format(html, more if room[0] < 0 else "")


def _node(name: object, value: object, depth: int, room: list[int]) -> Iterator[Markup]:
    room[0] -= 1
    if room[0] < 0:
        return
    label = Markup("") if name is None else Markup("<b>{}</b>: ").format(visible(name))
    items: Sequence[tuple[object, object]] = ()
    count = 0
    # What is beyond the room is not shown.
    if is_mapping(value):
        items, count = list(islice(value.items(), room[0] + 1)), len(value)
    elif is_list(value):
        items, count = list(islice(enumerate(value), room[0] + 1)), len(value)
    if not items or depth >= _MAX_DEPTH or _is_short(value):
        yield Markup("<div>{}{}</div>").format(label, _scalar(value))
        return
    kind = "{…}" if is_mapping(value) else "[…]"
    opened = " open" if depth < _OPEN_DEPTH else ""
    yield Markup("<details{}><summary>{}<i>{} {}</i></summary>").format(Markup(opened), label, kind, count)  # noqa: S704 - constants
    for key, item in items:
        yield from _node(key, item, depth + 1, room)
    yield Markup("</details>")


def _is_short(value: object) -> bool:
    """Return whether a list of plain values fits on one line."""
    if not is_list(value) or len(value) > _SHORT_LIST or any(is_mapping(one) or is_list(one) for one in value):
        return False
    return len(json_codec.encode(value)) <= _SHORT_LIST


def _scalar(value: object) -> Markup:
    if isinstance(value, str):
        shown = visible(value[:MAX_SHOWN]) + (f"… ({len(value):,} characters)" if len(value) > MAX_SHOWN else "")
        return Markup('<span class="s">{}</span>').format(f'"{shown}"')
    return Markup('<span class="n">{}</span>').format(visible(json_codec.encode(value)))


def highlighted(text: str, start: str, end: str) -> Markup:
    """Return ``text`` with what stands between the marks ``start`` and ``end`` in ``<mark>``."""
    parts = re.split(f"[{start}{end}]", text)
    return Markup("").join(
        Markup("<mark>{}</mark>").format(visible(part)) if position % 2 else escape(visible(part))
        for position, part in enumerate(parts)
    )


def coded(text: str) -> Markup:
    """Return a sentence with its commands, which stand between backticks, as code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(visible(text))
    return Markup("").join(
        Markup("<code>{}</code>").format(visible(part)) if position % 2 else escape(visible(part))
        for position, part in enumerate(parts)
    )


def plain_attributes(attributes: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return attributes in the order of their names, JSON text as data."""
    return [
        (name, decoded if isinstance(value, str) and (decoded := json_of(value)) is not None else value)
        for name, value in sorted(attributes.items())
    ]
