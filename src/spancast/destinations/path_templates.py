"""Templates of paths and object keys with placeholders such as ``{date}``."""

from __future__ import annotations

import string
from collections.abc import Callable, Collection
from datetime import datetime
from typing import Final

DATE_NAMES: Final = ("date", "year", "month", "day")


def template_of(*names: str) -> Callable[[str], str]:
    """Return a validator of templates whose placeholders are ``names``."""

    def validate(text: str) -> str:
        _check(text, names)
        return text

    return validate


def _check(text: str, names: Collection[str]) -> None:
    allowed = f"must be a template with the placeholders {', '.join(f'{{{name}}}' for name in names)}"
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError:
        raise ValueError(f"{allowed}; unbalanced brace") from None
    for _, name, spec, conversion in parts:
        if name is not None and (name not in names or spec or conversion):
            placeholder = f"{{{name}}}" if name.isidentifier() and name not in names else "a placeholder"
            raise ValueError(f"{allowed}; {placeholder} is unknown")


def date_values(at: datetime) -> dict[str, str]:
    """Return the values of the date placeholders for ``at``."""
    return {"date": f"{at:%Y-%m-%d}", "year": f"{at:%Y}", "month": f"{at:%m}", "day": f"{at:%d}"}
