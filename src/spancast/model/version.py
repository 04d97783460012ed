"""The version of spancast; ``unknown`` if the distribution's metadata is missing (a frozen program)."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Final


def _version() -> str:
    try:
        return version("spancast")
    except PackageNotFoundError:
        return "unknown"


VERSION: Final = _version()
