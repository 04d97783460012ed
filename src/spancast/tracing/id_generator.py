"""Trace and span ids from the caller's strings, by OpenRouter's own rule.

32 (16) lowercase hex digits are used as they are, any other string is hashed: the first 16
(8) bytes of its SHA-256, so that one string gives one trace in every process and on
OpenRouter's side (openrouter/README C.2, with test vectors).
"""

from __future__ import annotations

import functools
import hashlib
import re
from typing import Final

from opentelemetry.sdk.trace.id_generator import IdGenerator

_TRACE_ID = re.compile(r"[0-9a-f]{32}")
_SPAN_ID = re.compile(r"[0-9a-f]{16}")
_REMEMBERED: Final = 1_024
"""Strings whose ids are kept: many calls are of one trace."""


@functools.lru_cache(maxsize=_REMEMBERED)
def trace_id_of(text: str) -> int:
    """Return the 128-bit trace id of ``text``; never 0."""
    return _id_of(text, _TRACE_ID, 32)


@functools.lru_cache(maxsize=_REMEMBERED)
def span_id_of(text: str) -> int:
    """Return the 64-bit span id of ``text``; never 0."""
    return _id_of(text, _SPAN_ID, 16)


def _id_of(text: str, verbatim: re.Pattern[str], digits: int) -> int:
    if verbatim.fullmatch(text) and int(text, 16):
        return int(text, 16)
    return int(hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:digits], 16)


class FixedTraceIdGenerator(IdGenerator):
    """A tracer's own generator, but the trace it begins has the id ``trace_id``.

    For a copy of spancast's own tracer that starts one span, so a root gets the caller's id without
    an invented parent, and every other span is made by the tracer as it is.
    """

    def __init__(self, trace_id: int, inner: IdGenerator) -> None:
        self._trace_id = trace_id
        self._inner = inner

    def generate_span_id(self) -> int:
        """Return a fresh span id from the tracer's own generator."""
        return self._inner.generate_span_id()

    def generate_trace_id(self) -> int:
        """Return the wanted trace id."""
        return self._trace_id

    def is_trace_id_random(self) -> bool:
        """Say that the trace id is not random (W3C level 2 flag): it is a hash, or was given."""
        return False
