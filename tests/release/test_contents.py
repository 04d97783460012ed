"""What `make release` must notice in a distribution, each defect by itself; and the repository as it is has none."""

from __future__ import annotations

import tomllib
from email.message import Message
from pathlib import Path

import pytest
from release.__main__ import DESTINATIONS, MODULES
from release.contents import changelog_faults, link_faults, metadata_faults, sdist_faults, wheel_faults

ROOT = Path(__file__).parents[2]
STATIC = "spancast/ui/static/"
TRACKED = {
    "spancast/__init__.py", "spancast/py.typed", "spancast/ui/app.py", "spancast/ui/templates/list.html",
    *(STATIC + name for name in ("htmx.min.js", "htmx.LICENSE", "uplot.min.js", "uplot.min.css", "uplot.LICENSE")),
}  # fmt: skip
INFO = "spancast-1.2.3.dist-info/"
WHEEL = TRACKED | {
    INFO + name
    for name in (
        "METADATA", "WHEEL", "entry_points.txt", "RECORD", "licenses/LICENSE",
        "licenses/src/spancast/ui/static/htmx.LICENSE", "licenses/src/spancast/ui/static/uplot.LICENSE",
    )
}  # fmt: skip


def test_sound_wheel_has_no_fault() -> None:
    assert list(wheel_faults(WHEEL, TRACKED, "1.2.3")) == []


@pytest.mark.parametrize("missing", sorted(WHEEL))
def test_each_missing_file_of_a_wheel_is_a_fault(missing: str) -> None:
    assert any(missing in fault for fault in wheel_faults(WHEEL - {missing}, TRACKED, "1.2.3"))


@pytest.mark.parametrize("lost", ["spancast/py.typed", STATIC + "htmx.LICENSE", STATIC + "uplot.LICENSE"])
def test_file_that_the_repository_lost_too_is_a_fault(lost: str) -> None:
    assert list(wheel_faults(WHEEL - {lost}, TRACKED - {lost}, "1.2.3"))


def test_page_without_assets_is_a_fault() -> None:
    assets = {name for name in TRACKED if name.startswith(STATIC)}
    assert "wheel: the assets of the page are missing" in wheel_faults(WHEEL - assets, TRACKED - assets, "1.2.3")


@pytest.mark.parametrize(
    "added",
    ["tests/test_x.py", "benchmarks/__main__.py", "spancast/notes.txt", "spancast/__pycache__/x.pyc",
     "spancast/test_x.py", "spancast/tests/x.py", INFO + "licenses/OTHER", "spancast-9.dist-info/METADATA"],
)  # fmt: skip
@pytest.mark.parametrize("is_tracked", [False, True])
def test_each_other_file_of_a_wheel_is_a_fault(added: str, *, is_tracked: bool) -> None:
    tracked = TRACKED | {added} if is_tracked and added.startswith("spancast/") else TRACKED
    assert any(added in fault for fault in wheel_faults(WHEEL | {added}, tracked, "1.2.3"))


def test_sdist_has_what_is_tracked_without_servers() -> None:
    tracked = {"README.md", "src/spancast/__init__.py", "servers/build", ".ci/run"}
    names = {"README.md", "src/spancast/__init__.py", "PKG-INFO"}
    assert list(sdist_faults(names, tracked)) == []
    assert list(sdist_faults(names - {"README.md"}, tracked)) == ["sdist: README.md is missing"]
    assert list(sdist_faults(names | {"notes.txt"}, tracked)) == ["sdist: notes.txt does not belong in it"]


METADATA = {
    "Version": "1.2.3", "Summary": "s", "License-Expression": "MIT", "Requires-Python": ">=3.11", "Keywords": "k",
    "Description-Content-Type": "text/markdown",
}  # fmt: skip
CHANGELOG = "# Changelog\n\n## [Unreleased]\n\n## [1.2.3] - 2026-01-31\n\n### Added\n\n- a\n\n### Fixed\n"


def metadata(**changed: str) -> Message:
    message = Message()
    for name, value in {**METADATA, **{key.replace("_", "-"): value for key, value in changed.items()}}.items():
        if value:
            message[name] = value
    for minor in ("11", "12"):
        message["Classifier"] = f"Programming Language :: Python :: 3.{minor}"
    return message


def test_sound_metadata_has_no_fault() -> None:
    assert list(metadata_faults(metadata(), "1.2.3", ["3.11", "3.12", "3.12t"], CHANGELOG)) == []


@pytest.mark.parametrize("field", [name for name in METADATA if name != "Version"])
def test_each_missing_field_of_metadata_is_a_fault(field: str) -> None:
    given = metadata(**{field.replace("-", "_"): ""})
    assert len(list(metadata_faults(given, "1.2.3", ["3.11", "3.12"], CHANGELOG))) == 1


@pytest.mark.parametrize(
    ("version", "pythons", "changelog", "fault"),
    [
        ("1.2.4", ["3.11", "3.12"], CHANGELOG.replace("1.2.3", "1.2.4"), "metadata: version 1.2.3, expected 1.2.4"),
        ("1.2.3", ["3.11"], CHANGELOG, "metadata: Python 3.12 has a classifier and is not tested"),
        ("1.2.3", ["3.11", "3.12", "3.13"], CHANGELOG, "metadata: no classifier for Python 3.13, which is tested"),
        ("1.2.3", ["3.11", "3.12"], "# Changelog\n", "CHANGELOG.md: no section for 1.2.3"),
    ],
)
def test_metadata_that_disagrees_is_a_fault(version: str, pythons: list[str], changelog: str, fault: str) -> None:
    assert list(metadata_faults(metadata(), version, pythons, changelog)) == [fault]


def test_changelog_of_this_repository_has_no_fault() -> None:
    assert list(changelog_faults(CHANGELOG)) == []
    assert list(changelog_faults((ROOT / "CHANGELOG.md").read_text())) == []


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("# Changelog", "# History"),
        ("## [1.2.3] - 2026-01-31", "## 1.2.3 (2026-01-31)"),
        ("## [1.2.3] - 2026-01-31", "## [1.2.3] - January 2026"),
        ("### Added", "### New"),
        ("### Fixed", "### Added"),
    ],
)
def test_each_other_heading_of_a_changelog_is_a_fault(good: str, bad: str) -> None:
    assert len(list(changelog_faults(CHANGELOG.replace(good, bad, 1)))) == 1


PAGES = {
    "README.md": "[a](docs/a.md#two-words) [b](docs/) [c](#head) [d](https://e.test)\n\n# Head\n```\n[x](no)\n```",
    "docs/a.md": "# Two `words`\n\n[back](../README.md#head)\n\n## Same\n\n## Same\n[s](#same-1)",
}
NAMES = {*PAGES, "docs/picture.png"}


def test_links_that_lead_somewhere_have_no_fault() -> None:
    assert list(link_faults(PAGES, NAMES)) == []


@pytest.mark.parametrize(
    ("good", "bad"),
    [("docs/a.md#two", "docs/b.md#two"), ("#two-words", "#two-word"), ("docs/)", "doc/)"), ("#head", "#heads")],
)
def test_each_dead_link_is_a_fault(good: str, bad: str) -> None:
    pages = {**PAGES, "README.md": PAGES["README.md"].replace(good, bad, 1)}
    assert len(list(link_faults(pages, NAMES))) == 1


def test_links_of_this_repository_lead_somewhere() -> None:
    names = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if ".venv" not in path.parts]
    pages = {name: (ROOT / name).read_text() for name in names if name.endswith(".md")}
    assert list(link_faults(pages, names)) == []


def test_every_extra_is_tried() -> None:
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    assert extras - {"all"} == set(MODULES)
    assert set(DESTINATIONS) <= extras
