"""Responses that a provider stores: the span of each call, for the calls that fetch its response later."""

from __future__ import annotations

import threading
from typing import Final

from opentelemetry.trace import Link, SpanContext

_MAX_RESPONSES: Final = 4_096


class StoredResponses:
    """A bounded map from the id of a response to the span that began it and whether its usage is recorded.

    Thread-safe. The oldest entry is dropped first.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[str, tuple[SpanContext, bool]] = {}

    def links(self, response_id: object) -> list[Link]:
        """Return a link to the span that began a response; none if it is unknown."""
        entry = self._entries.get(response_id) if isinstance(response_id, str) else None
        return [] if entry is None else [Link(entry[0])]

    def begin(self, response_id: str, span: SpanContext, *, has_usage: bool) -> None:
        """Record that ``span`` began a response, and whether it has its usage already."""
        with self._lock:
            self._set(response_id, span, has_usage=has_usage)

    def fetch(self, response_id: str, span: SpanContext, *, has_usage: bool) -> bool:
        """Record that ``span`` fetched a response; return whether it has its usage, and as the first one."""
        with self._lock:
            first, is_recorded = self._entries.pop(response_id, (span, False))
            self._set(response_id, first, has_usage=is_recorded or has_usage)
        return has_usage and not is_recorded

    def _set(self, response_id: str, span: SpanContext, *, has_usage: bool) -> None:
        self._entries[response_id] = span, has_usage
        if len(self._entries) > _MAX_RESPONSES:
            del self._entries[next(iter(self._entries))]
