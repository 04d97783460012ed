"""What `make site` adds to the pages of docs/: pages of the repository's root, and links to its other files.

The pages are written for a reader of the repository. There, `../README.md` is a link; on the site it is a page of its
own, and a source file is the name without a link.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
OF_THE_ROOT = {"README.md": "first-minute.md"} | {
    name: name for name in ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "CODE_OF_CONDUCT.md")
}
"""Pages of the root, and their names on the site, which has a README of its own."""
_LINK = re.compile(r"(!?)\[([^\]\n]*)\]\((?!https?://|#)([^)#\s]+)(#[^)\s]*)?\)")
_CODE = re.compile(r"(^```.*?^```|`[^`\n]+`)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the root."""
    for name, page in OF_THE_ROOT.items():
        if (ROOT / name).exists():
            files.append(File.generated(config, page, content=(ROOT / name).read_text()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return the page with links that the site can follow."""
    is_of_root = page.file.src_path in OF_THE_ROOT.values()
    folder = ROOT if is_of_root else ROOT / "docs"

    def rewritten(found: re.Match[str]) -> str:
        image, text, target, anchor = found[1], found[2], found[3], found[4] or ""
        path = (folder / target).resolve()
        if not path.exists():
            return found[0]  # mkdocs reports it
        name = path.relative_to(ROOT).as_posix()
        if name in OF_THE_ROOT:
            return f"{image}[{text}]({OF_THE_ROOT[name]}{anchor})"
        if path.is_relative_to(ROOT / "docs") and path != ROOT / "docs":
            if text.removeprefix("docs/") == path.name:  # a title says more
                text = path.read_text().partition("\n")[0].removeprefix("# ")
            return f"{image}[{text}]({path.relative_to(ROOT / 'docs').as_posix()}{anchor})"
        return f"[{text}](README.md)" if path == ROOT / "docs" else text

    # Not in code, which is no link.
    parts = _CODE.split(markdown)
    return "".join(part if number % 2 else _LINK.sub(rewritten, part) for number, part in enumerate(parts))
