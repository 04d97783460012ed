"""Trace and span ids from the caller's strings, by OpenRouter's rule.

32 (16) lowercase hex digits are used unchanged. Any other string is hashed: the id is the first 16 (8) bytes of its
SHA-256. So one string gives one id in every process and at OpenRouter, whose published vectors are in
``tests/tracing/test_id_generator.py``.
"""

from __future__ import annotations

import functools
import hashlib
import re
from typing import Final

from opentelemetry.sdk.trace.id_generator import IdGenerator

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


class FixedTraceIdGenerator(IdGenerator):
    """An id generator with a fixed trace id; span ids come from ``inner``, or it is ``span_id``.

    A copy of spancast's tracer uses it to start one root span, which so gets the caller's trace id without a
    made-up parent. ``is_random`` is the W3C level 2 random flag: an id that is a hash or the caller's is not random.
    """

    def __init__(
        self, trace_id: int, inner: IdGenerator, span_id: int | None = None, *, is_random: bool = False
    ) -> None:
        self._trace_id = trace_id
        self._inner = inner
        self._span_id = span_id
        self._is_random = is_random

    def generate_span_id(self) -> int:
        """Return the fixed span id, or a new one from the tracer's own generator."""
        return self._inner.generate_span_id() if self._span_id is None else self._span_id

    def generate_trace_id(self) -> int:
        """Return the fixed trace id."""
        return self._trace_id

    def is_trace_id_random(self) -> bool:
        """Return the random flag."""
        return self._is_random
