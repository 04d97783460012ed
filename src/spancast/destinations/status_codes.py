"""The HTTP status codes after which a batch is sent again, by the same rule for every destination."""

from __future__ import annotations

from typing import Final

TOO_LARGE: Final = 413
INVALID_CREDENTIALS: Final = frozenset({401, 403, 407})
_TEMPORARY: Final = frozenset({408, 425, 429})
_SERVER_ERROR: Final = 500
_PERMANENT: Final = frozenset({501, 505})
"""Permanent server errors: not implemented, HTTP version not supported."""


def is_retryable(status: int) -> bool:
    """Return whether the batch is sent again after ``status``: temporary errors, and invalid credentials.

    A key may be corrected, so spans stay queued.
    """
    return (
        status in _TEMPORARY or status in INVALID_CREDENTIALS or (status >= _SERVER_ERROR and status not in _PERMANENT)
    )
