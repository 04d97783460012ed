"""Where the configuration is: the names of environment variables, and the file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

CAPTURE_CONTENT_VARIABLE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
FILE_VARIABLE: Final = "SPANCAST_CONFIG"
FILE_NAME: Final = "spancast.yaml"
PREFIX: Final = "SPANCAST_"
"""Prefix of the variable of a settings field: ``SPANCAST_STRICT``."""


def find() -> Path | None:
    """Return the file that ``SPANCAST_CONFIG`` names, else ``spancast.yaml`` in the working directory, else None.

    An application and the commands read the same file.
    """
    named = os.environ.get(FILE_VARIABLE)
    if named:
        return Path(named)
    return Path(FILE_NAME) if Path(FILE_NAME).is_file() else None


def is_anything_set() -> bool:
    """Return whether there is a file, or a variable that could name a destination."""
    return find() is not None or any(name.startswith((PREFIX, "OTEL_")) for name in os.environ)
