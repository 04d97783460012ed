"""Trace and span ids from the caller's strings, by OpenRouter's rule.

32 (16) lowercase hex digits are used unchanged. Any other string is hashed: the id is the first 16 (8) bytes of its
SHA-256. So one string gives one id in every process and at OpenRouter, whose published vectors are in
``tests/model/test_span_ids.py``.
"""

from __future__ import annotations

import functools
import hashlib
import re
from typing import Final

_TRACE_ID = re.compile(r"[0-9a-f]{32}")
_SPAN_ID = re.compile(r"[0-9a-f]{16}")
_CACHE_SIZE: Final = 1_024
"""Number of cached ids; many calls belong to one trace."""


@functools.lru_cache(maxsize=_CACHE_SIZE)
def trace_id_of(text: str) -> int:
    """Return the 128-bit trace id of ``text``, not 0."""
    return _id_of(text, _TRACE_ID, 32)


@functools.lru_cache(maxsize=_CACHE_SIZE)
def span_id_of(text: str) -> int:
    """Return the 64-bit span id of ``text``, not 0."""
    return _id_of(text, _SPAN_ID, 16)


def _id_of(text: str, verbatim: re.Pattern[str], digits: int) -> int:
    if verbatim.fullmatch(text) and int(text, 16):
        return int(text, 16)
    return int(hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:digits], 16)
