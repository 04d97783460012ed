"""What a built distribution must have and what it must not have: each function returns the faults that it finds."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from email.message import Message
from pathlib import PurePosixPath
from typing import Final

_PACKAGE: Final = "spancast/"
_STATIC: Final = "spancast/ui/static/"
_SUFFIXES: Final = {".py", ".typed", ".html", ".css", ".js", ".svg", ".LICENSE"}
_DIST_INFO: Final = {
    "METADATA", "WHEEL", "entry_points.txt", "RECORD", "licenses/LICENSE",
    "licenses/src/spancast/ui/static/htmx.LICENSE", "licenses/src/spancast/ui/static/uplot.LICENSE",
}  # fmt: skip
_NOT_IN_SDIST: Final = ("servers/", ".ci/", "release/", ".venv/", "dist/")
_RELEASE: Final = re.compile(r"^## \[([^]]+)\]", re.MULTILINE)
_SECTION: Final = re.compile(r"## \[\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?\] - (?:\d{4}-\d\d-\d\d|unreleased)")
_CHANGES: Final = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
_LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
_FENCED: Final = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_HEADING: Final = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
_TARGET: Final = re.compile(r"<a (?:id|name)=\"([^\"]+)\"")


def wheel_faults(names: Collection[str], tracked: Iterable[str], version: str) -> Iterator[str]:
    """Compare the files of a wheel with those of ``src/spancast`` in the repository.

    Both are relative to the root of what is installed.
    """
    info = f"spancast-{version}.dist-info/"
    ours = {name for name in names if name.startswith(_PACKAGE)}
    expected = set(tracked)
    yield from (f"wheel: {name} is missing" for name in sorted(expected - ours))
    yield from (f"wheel: {name} is not in the repository" for name in sorted(ours - expected))
    for name in sorted(ours):
        path = PurePosixPath(name)
        if path.suffix not in _SUFFIXES or path.name.startswith("test_") or "tests" in path.parts:
            yield f"wheel: {name} does not belong in it"
    have = {name.removeprefix(info) for name in names if name.startswith(info)}
    yield from (f"wheel: {info}{name} is missing" for name in sorted(_DIST_INFO - have))
    yield from (f"wheel: {info}{name} is not expected" for name in sorted(have - _DIST_INFO))
    others = sorted(name for name in names if not name.startswith((_PACKAGE, info)))
    yield from (f"wheel: {name} is neither in spancast/ nor in {info}" for name in others)
    yield from _needed(ours)


def _needed(names: Collection[str]) -> Iterator[str]:
    """Name what ``git`` would not miss if it were never added."""
    if "spancast/py.typed" not in names:
        yield "wheel: py.typed is missing, so type checkers ignore the annotations"
    for name in sorted(one for one in names if one.startswith(_STATIC) and ".min." in one):
        if f"{_STATIC}{PurePosixPath(name).name.partition('.')[0]}.LICENSE" not in names:
            yield f"wheel: {name} is another project's, and its licence is missing"
    if not any(name.startswith(_STATIC) for name in names):
        yield "wheel: the assets of the page are missing"


def sdist_faults(names: Collection[str], tracked: Iterable[str]) -> Iterator[str]:
    """Compare the files of an sdist with those of the repository."""
    expected = {name for name in tracked if not name.startswith(_NOT_IN_SDIST)}
    have = set(names) - {"PKG-INFO"}
    yield from (f"sdist: {name} is missing" for name in sorted(expected - have))
    yield from (f"sdist: {name} does not belong in it" for name in sorted(have - expected))


def metadata_faults(metadata: Message, version: str, pythons: Collection[str], changelog: str) -> Iterator[str]:
    """Check version, supported versions of Python, licence and description; ``pythons`` are those that are tested."""
    if metadata["Version"] != version:
        yield f"metadata: version {metadata['Version']}, expected {version}"
    # `3.14t` is a build of 3.14.
    classifier = "Programming Language :: Python :: 3."
    named = {one.removeprefix(classifier) for one in metadata.get_all("Classifier", ()) if one.startswith(classifier)}
    tested = {one.removeprefix("3.").removesuffix("t") for one in pythons}
    yield from (f"metadata: no classifier for Python 3.{one}, which is tested" for one in sorted(tested - named))
    yield from (f"metadata: Python 3.{one} has a classifier and is not tested" for one in sorted(named - tested))
    for field in ("Summary", "License-Expression", "Requires-Python", "Keywords"):
        if not metadata[field]:
            yield f"metadata: {field} is missing"
    if metadata["Description-Content-Type"] != "text/markdown":
        yield "metadata: the description is not marked as Markdown"
    if version not in _RELEASE.findall(changelog):
        yield f"CHANGELOG.md: no section for {version}"


def changelog_faults(text: str) -> Iterator[str]:
    """Check the form of https://keepachangelog.com: a section per release, and in it the kinds of changes."""
    headings = [line for line in _FENCED.sub("", text).splitlines() if line.startswith("#")]
    if not headings or headings[0] != "# Changelog":
        yield "CHANGELOG.md: does not begin with `# Changelog`"
    sections = [line for line in headings if line.startswith("## ")]
    if not sections:
        yield "CHANGELOG.md: has no section"
    for place, line in enumerate(sections):
        is_next = line == "## [Unreleased]" and place == 0
        if not is_next and not _SECTION.fullmatch(line):
            yield f"CHANGELOG.md: `{line}` is not `## [1.2.3] - 2026-01-31`"
    kinds: list[str] = []
    for line in headings[1:]:
        if line.startswith("## "):
            kinds = []
        elif line.removeprefix("### ") not in _CHANGES:
            yield f"CHANGELOG.md: `{line}` is none of {', '.join(_CHANGES)}"
        elif line in kinds:
            yield f"CHANGELOG.md: `{line}` is twice in one section"
        else:
            kinds.append(line)


def link_faults(pages: Mapping[str, str], names: Collection[str]) -> Iterator[str]:
    """Check the relative links of ``pages`` (text by name) against the files ``names`` and the headings of pages."""
    folders = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    for page, text in pages.items():
        for link in _LINK.findall(_FENCED.sub("", text)):
            if link.startswith(("http://", "https://", "mailto:")):
                continue
            path, _, anchor = link.partition("#")
            target = _normal(PurePosixPath(page).parent / path) if path else page
            if target not in names and target not in folders:
                yield f"{page}: link to {link}, and there is no {target}"
            elif anchor and target in pages and anchor not in _anchors(pages[target]):
                yield f"{page}: link to {link}, and {target} has no such heading"


def _normal(path: PurePosixPath) -> str:
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts = parts[:-1]
        else:
            parts.append(part)
    return "/".join(parts) or "."


def _anchors(text: str) -> set[str]:
    found = set(_TARGET.findall(text))
    seen: Counter[str] = Counter()
    for heading in _HEADING.findall(_FENCED.sub("", text)):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found
