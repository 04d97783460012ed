"""Payloads of the last batches, so that of eight destinations with one view one encodes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, TypeAlias

from spancast.destinations.protocol import Encoder, Payload
from spancast.export.spool.protocol import Entry

_Places: TypeAlias = "tuple[str, tuple[int, ...]]"
"""A log, and sequences in it."""

_REMEMBERED: Final = 16
_MAX_BYTES: Final = 32 << 20


class PayloadCache:
    """Payloads by view and records; bounded in number and bytes, safe for threads.

    Records are known by their log and their sequences there: a sequence alone is given to another
    record when the spool's file is replaced.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, _Places], tuple[Payload, int]] = OrderedDict()
        self._bytes = 0

    def payload(self, encoder: Encoder, log: str, entries: Sequence[Entry]) -> Payload:
        """Return the payload of ``entries`` of ``log`` in ``encoder``: the one made before, if it is still known."""
        places = (log, tuple([entry.sequence for entry in entries]))
        key = (encoder.cache_key, places)
        with self._lock:
            known = self._known.get(key)
            if known is not None:
                return known[0]
            payload = encoder.payload([entry.record for entry in entries])
            size = sum([entry.record.size_bytes for entry in entries])
            self._known[key] = (payload, size)
            self._bytes += size
            while len(self._known) > _REMEMBERED or (self._bytes > _MAX_BYTES and len(self._known) > 1):
                self._bytes -= self._known.popitem(last=False)[1][1]
            return payload
