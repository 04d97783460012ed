"""Payloads of the last batches, so that of eight destinations with one view one encodes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from spancast.broadcast.spool import Entry
from spancast.destinations.protocol import Payload, View

_REMEMBERED: Final = 16
_MAX_BYTES: Final = 32 << 20


class PayloadCache:
    """Payloads by view and records; bounded in number and bytes, safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, tuple[int, ...]], tuple[Payload, int]] = OrderedDict()
        self._bytes = 0

    def payload(self, view: View, entries: Sequence[Entry]) -> Payload:
        """Return the payload of ``entries`` in ``view``: the one made before for the same, if it is still known."""
        key = (view.key, tuple(entry.sequence for entry in entries))
        with self._lock:
            known = self._known.get(key)
            if known is not None:
                return known[0]
            payload = view.payload([entry.record for entry in entries])
            size = sum(entry.record.size_bytes for entry in entries)
            self._known[key] = (payload, size)
            self._bytes += size
            while len(self._known) > _REMEMBERED or (self._bytes > _MAX_BYTES and len(self._known) > 1):
                self._bytes -= self._known.popitem(last=False)[1][1]
            return payload
