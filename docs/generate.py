"""Rewrite the tables of the documentation from the rows of the code: ``make docs``."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from spancast.clients.patching import Client
from spancast.clients.table import CLIENTS, installation
from spancast.model import semconv

ROOT = Path(__file__).parents[1]
_MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def clients() -> str:
    """Return the table of SDKs."""
    rows = [installation(name).client for name in CLIENTS]
    lines = [f"| `{row.name}` | {row.oldest} | {_dialects(row)} |" for row in rows]
    return "\n".join(["| SDK | oldest version tested | answers read |", "|---|---|---|", *lines])


def _dialects(row: Client) -> str:
    return ", ".join(f"`{name}`" for name in row.dialects)


def attributes() -> str:
    """Return the table of attribute names, by the module that defines them."""
    names = sorted({value for name, value in vars(semconv).items() if name.isupper() and _is_attribute(value)})
    lines = [f"| `{name}{'…' if name.endswith('.') else ''}` | {_source(name)} |" for name in names]
    return "\n".join(["| attribute | source |", "|---|---|", *lines])


def _is_attribute(value: object) -> bool:
    return isinstance(value, str) and "." in value and not value.startswith("http")


def _source(name: str) -> str:
    if name.startswith("spancast."):
        return "ours"
    if name.startswith("trace."):
        return "OpenRouter Broadcast"
    return "GenAI conventions" if name.startswith(("gen_ai.", "openai.")) else "semantic conventions 1.44"


TABLES = {"clients": clients, "attributes": attributes}


def rewritten(text: str) -> str:
    """Return a page with its marked tables made anew."""
    return _MARKED.sub(lambda found: f"{found[1]}{TABLES[found[2]]()}\n{found[3]}", text)


def pages() -> list[Path]:
    """Return the pages that may hold tables."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


if __name__ == "__main__":
    for page in pages():
        page.write_text(rewritten(page.read_text()))
    sys.exit()
