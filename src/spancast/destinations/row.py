"""The shape of a row of ``table``: what there is to say of one type of destination."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One type of destination.

    ``config`` and ``factory`` name (``module:name``) its model and what makes a
    ``Destination`` of ``(config, encoder)``; they are imported when first used.
    ``convention`` is its attribute convention, ``extra`` what ``pip install spancast[extra]``
    adds for it, ``source`` the page its contract was read from. ``extra_help`` names a function
    that returns what `spancast destinations TYPE` shows behind the fields.
    """

    title: str
    about: str
    config: str
    factory: str
    convention: str = "gen_ai"
    extra: str | None = None
    source: str = ""
    extra_help: str | None = None
