"""The description of a destination type in the registry."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A destination type.

    ``config`` and ``factory`` are import names (``module:name``) of its model and of the function that
    creates a ``Destination`` from ``(config, encoder)``; they are imported on first use.
    ``convention`` is its attribute convention, ``extra`` the pip extra with its dependencies,
    ``source`` the page with its contract. ``extra_help`` is the import name of a function whose
    result `spancast destinations TYPE` shows after the fields.
    """

    title: str
    about: str
    config: str
    factory: str
    convention: str = "gen_ai"
    extra: str | None = None
    source: str = ""
    extra_help: str | None = None
