"""Trace and span ids from the caller's strings, by OpenRouter's own rule.

32 (16) lowercase hex digits are used as they are, any other string is hashed: the first 16
(8) bytes of its SHA-256, so that one string gives one trace in every process and on
OpenRouter's side (openrouter/README C.2, with test vectors).
"""

from __future__ import annotations

import hashlib
import re
import threading

from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator

_TRACE_ID = re.compile(r"[0-9a-f]{32}")
_SPAN_ID = re.compile(r"[0-9a-f]{16}")


def trace_id_of(text: str) -> int:
    """Return the 128-bit trace id of ``text``; never 0."""
    return _id_of(text, _TRACE_ID, 32)


def span_id_of(text: str) -> int:
    """Return the 64-bit span id of ``text``; never 0."""
    return _id_of(text, _SPAN_ID, 16)


def _id_of(text: str, verbatim: re.Pattern[str], digits: int) -> int:
    if verbatim.fullmatch(text) and int(text, 16):
        return int(text, 16)
    return int(hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:digits], 16)


class WantedIdGenerator(IdGenerator):
    """The tracer's own generator, but the next root of this thread may ask for its trace id.

    Set as ``id_generator`` of spancast's own tracer only (the SDK keeps one tracer per
    instrumentation scope), so a root span gets the caller's id without an invented parent.
    """

    def __init__(self, inner: IdGenerator | None = None) -> None:
        self._inner = inner or RandomIdGenerator()
        self._wanted = threading.local()
        self._is_random = getattr(self._inner, "is_trace_id_random", None)

    def want(self, trace_id: int | None) -> None:
        """Make the next root started on this thread have ``trace_id``; None takes it back."""
        self._wanted.trace_id = trace_id

    def generate_span_id(self) -> int:
        """Return a fresh span id from the tracer's own generator."""
        return self._inner.generate_span_id()

    def generate_trace_id(self) -> int:
        """Return the wanted trace id, else a fresh one."""
        return getattr(self._wanted, "trace_id", None) or self._inner.generate_trace_id()

    def is_trace_id_random(self) -> bool:
        """Tell whether the next trace id is random (W3C level 2 flag); hashes and given ids are not."""
        if getattr(self._wanted, "trace_id", None):
            return False
        return bool(self._is_random is not None and self._is_random())
