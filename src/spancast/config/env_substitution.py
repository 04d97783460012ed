"""``${env:NAME}`` in texts of the configuration, as the Collector reads it. Pure but for the environment.

Must never: read again what it put in: a secret may hold ``$``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from spancast.config.field_errors import FieldError, Path

_REFERENCE: Final = r"\$\{env:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}"
_IN_FILES: Final = re.compile(rf"(?P<escape>\$\$)|{_REFERENCE}|(?P<wrong>\$\{{[^}}]*\}}?)")
# Python texts are no templates: only what can mean nothing else is read there.
_IN_CODE: Final = re.compile(rf"(?P<escape>\$\$)(?=\{{env:)|{_REFERENCE}|(?P<wrong>\$\{{env:[^}}]*\}}?)")
# Only what looks like a name is quoted; anything else may be part of a password.
_QUOTABLE: Final = re.compile(r"\$\{(?:[a-z]+:[^}]*|[A-Z_][A-Z0-9_]*)\}")


@dataclass
class EnvSubstitution:
    """Reads the references in values of one ``origin``, and keeps what is wrong with them."""

    origin: str
    is_file: bool
    mistakes: list[FieldError] = field(default_factory=list[FieldError])

    def resolved(self, value: Any, path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
        """Return ``value`` with every reference replaced, in texts at any depth."""
        if isinstance(value, str):
            return self._text(value, path)
        if isinstance(value, Mapping):
            entries = cast("Mapping[Any, Any]", value)
            return {key: self.resolved(part, (*path, key)) for key, part in entries.items()}
        if isinstance(value, (list, tuple)):
            parts = cast("list[Any]", value)
            return [self.resolved(part, (*path, index)) for index, part in enumerate(parts)]
        return value

    def _text(self, text: str, path: Path) -> str:
        def put_in(found: re.Match[str]) -> str:
            if found["escape"]:
                return "$"
            if found["wrong"]:
                shown = found[0] if _QUOTABLE.fullmatch(found[0]) else "${…}"
                self._note(path, f"{shown} is no reference; write ${{env:NAME}} or ${{env:NAME:-default}}")
                return found[0]
            name: str = found["name"]
            default: str | None = found["default"]
            value = os.environ.get(name, default)
            if value is None:
                self._note(path, f"the environment variable {name} is not set, and ${{env:{name}}} has no default")
            return value or ""

        return (_IN_FILES if self.is_file else _IN_CODE).sub(put_in, text)

    def _note(self, path: Path, text: str) -> None:
        self.mistakes.append(FieldError(path=path, text=text, origin=self.origin))
