"""The snippets of the documentation, read by the conventions of CONTRIBUTING.md ("Documentation").

The snippets below one heading belong together: they are run in order, in one folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

RUN = ("python", "bash", "yaml", "sql")
_PART = re.compile(
    r"^#{1,4} (?P<heading>[^\n]+)$"
    r"|^(?:<!-- (?P<key>not run|before|serves): (?P<value>.*?) ?-->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_FILE = re.compile(r"# ([\w.-]+\.\w+)\b.*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Snippet:
    """A fenced block of a page."""

    language: str
    code: str
    not_run: str = ""
    """The reason why no test runs it."""
    before: str = ""
    """Lines of Python that a reader need not see."""
    serves: str = ""
    """A URL of the server that the command starts."""

    @property
    def file(self) -> str:
        """Return the name of the file that the snippet is, if its first line is a comment with a name."""
        named = _FILE.match(self.code)
        return named[1] if named and self.language != "bash" else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A heading of a page and the snippets below it."""

    page: str
    heading: str
    snippets: tuple[Snippet, ...]


def sections(page: Path) -> Iterator[Section]:
    """Return the sections of a page that have snippets."""
    heading, found = page.stem, list[Snippet]()
    for part in _PART.finditer(page.read_text()):
        if part["heading"]:
            if found:
                yield Section(page=page.name, heading=heading, snippets=tuple(found))
            heading, found = part["heading"], []
        else:
            given = {part["key"].replace(" ", "_"): part["value"]} if part["key"] else {}
            found.append(Snippet(language=part["language"], code=part["code"], **given))
    if found:
        yield Section(page=page.name, heading=heading, snippets=tuple(found))
