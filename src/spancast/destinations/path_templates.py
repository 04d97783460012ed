"""``{date}`` and its like in paths and object keys. Pure."""

from __future__ import annotations

import string
from collections.abc import Callable, Collection
from datetime import datetime
from typing import Final

DATE_NAMES: Final = ("date", "year", "month", "day")


def template_of(*names: str) -> Callable[[str], str]:
    """Return a check that a template names nothing but ``names``."""

    def checked(text: str) -> str:
        _check(text, names)
        return text

    return checked


def _check(text: str, names: Collection[str]) -> None:
    allowed = f"must be a text in which {', '.join(f'{{{name}}}' for name in names)} may stand"
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError:
        raise ValueError(f"{allowed}; a brace is open") from None
    for _, name, spec, conversion in parts:
        if name is not None and (name not in names or spec or conversion):
            shown = f"{{{name}}}" if name.isidentifier() and name not in names else "what stands in a brace"
            raise ValueError(f"{allowed}; {shown} is unknown")


def date_values(at: datetime) -> dict[str, str]:
    """Return what the date placeholders stand for at ``at``."""
    return {"date": f"{at:%Y-%m-%d}", "year": f"{at:%Y}", "month": f"{at:%m}", "day": f"{at:%d}"}
