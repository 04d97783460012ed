"""Names of the environment variables that configure spancast."""

from __future__ import annotations

from typing import Final

CAPTURE_CONTENT_VARIABLE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
FILE_VARIABLE: Final = "SPANCAST_CONFIG"
PREFIX: Final = "SPANCAST_"
"""Prefix of the variable of a settings field: ``SPANCAST_STRICT``."""
