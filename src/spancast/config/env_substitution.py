"""Substitution of ``${env:NAME}`` in configuration values, with the syntax of the OpenTelemetry Collector.

A substituted value is not substituted again, because a secret may contain ``$``.
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
# Strings given in Python are not templates: only the unambiguous `${env:` is substituted.
_IN_CODE: Final = re.compile(rf"(?P<escape>\$\$)(?=\{{env:)|{_REFERENCE}|(?P<wrong>\$\{{env:[^}}]*\}}?)")
# Only text that looks like a variable name is quoted in errors; anything else may be part of a password.
_QUOTABLE: Final = re.compile(r"\$\{(?:[a-z]+:[^}]*|[A-Z_][A-Z0-9_]*)\}")


@dataclass
class EnvSubstitution:
    """Substitutes the references in the values of one ``origin`` (file or variable) and collects the errors."""

    origin: str
    is_file: bool
    errors: list[FieldError] = field(default_factory=list[FieldError])

    def substitute(self, value: Any, path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
        """Return ``value`` with every reference in its strings, at any depth, substituted."""
        if isinstance(value, str):
            return self._substitute_text(value, path)
        if isinstance(value, Mapping):
            entries = cast("Mapping[Any, Any]", value)
            return {key: self.substitute(item, (*path, key)) for key, item in entries.items()}
        if isinstance(value, (list, tuple)):
            items = cast("list[Any]", value)
            return [self.substitute(item, (*path, index)) for index, item in enumerate(items)]
        return value

    def _substitute_text(self, text: str, path: Path) -> str:
        def replace(match: re.Match[str]) -> str:
            if match["escape"]:
                return "$"
            if match["wrong"]:
                quoted = match[0] if _QUOTABLE.fullmatch(match[0]) else "${…}"
                self._add_error(path, f"{quoted} is not a reference; write ${{env:NAME}} or ${{env:NAME:-default}}")
                return match[0]
            name: str = match["name"]
            default: str | None = match["default"]
            value = os.environ.get(name, default)
            if value is None:
                self._add_error(path, f"the environment variable {name} is not set, and ${{env:{name}}} has no default")
            return value or ""

        return (_IN_FILES if self.is_file else _IN_CODE).sub(replace, text)

    def _add_error(self, path: Path, text: str) -> None:
        self.errors.append(FieldError(path=path, text=text, origin=self.origin))
