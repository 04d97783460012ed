"""DIALECTS: the name users write -> where the dialect is, imported when it is first asked for."""

from __future__ import annotations

from typing import Any, Final

from spancast.dialects.protocol import Dialect
from spancast.model.entry_points import installed, load

ENTRY_POINTS: Final = "spancast.dialects"
"""The group in which a distribution offers dialects: ``name = "module:DIALECT"``."""

DIALECTS: Final[dict[str, str]] = {
    "openai_chat": "spancast.dialects.openai_chat.reader:OPENAI_CHAT",
    "openai_responses": "spancast.dialects.openai_responses.reader:OPENAI_RESPONSES",
    "anthropic_messages": "spancast.dialects.anthropic_messages.reader:ANTHROPIC_MESSAGES",
}

_READERS: Final = ("read_request", "read_response", "new_stream", "span_name", "error_attributes")


def find_dialect(name: str) -> Dialect | None:
    """Return the dialect ``name``, one of ours or of an installed distribution; None if there is none."""
    reference = DIALECTS.get(name)
    return load(reference) if reference else installed_dialects(name).get(name)


def installed_dialects(name: str | None = None) -> dict[str, Dialect]:
    """Return the dialects of installed distributions, only ``name`` if given."""
    return installed(ENTRY_POINTS, "an object of a subclass of spancast's Dialect", _is_dialect, name)


def _is_dialect(value: Any) -> bool:  # noqa: ANN401 - any object
    return all(callable(getattr(value, reader, None)) for reader in _READERS)
