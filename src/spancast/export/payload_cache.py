"""A cache of encoded batches: destinations with equal encoders share one payload."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, TypeAlias

from spancast.destinations.protocol import Encoder, Payload
from spancast.export.spool.protocol import Entry

_Position: TypeAlias = "tuple[str, tuple[int, ...]]"
"""A log, and sequences in it."""

_MAX_PAYLOADS: Final = 16
_MAX_BYTES: Final = 64 << 20
"""Memory of all payloads. A form that is encoded after its payload was added counts from the next batch on."""


class PayloadCache:
    """Payloads by encoder and records; bounded in number and bytes, safe for threads.

    The key names the log too: if the file of the spool is replaced, other records get the same sequences.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._payloads: OrderedDict[tuple[str, _Position], Payload] = OrderedDict()

    def payload(self, encoder: Encoder, log: str, entries: Sequence[Entry]) -> Payload:
        """Return the payload of ``entries`` of ``log`` for ``encoder``, from the cache if it is there."""
        position = (log, tuple([entry.sequence for entry in entries]))
        key = (encoder.cache_key, position)
        with self._lock:
            cached = self._payloads.get(key)
            if cached is not None:
                return cached
            payload = self._payloads[key] = encoder.payload([entry.record for entry in entries])
            held_bytes = sum([held.held_bytes for held in self._payloads.values()])
            while len(self._payloads) > _MAX_PAYLOADS or (held_bytes > _MAX_BYTES and len(self._payloads) > 1):
                held_bytes -= self._payloads.popitem(last=False)[1].held_bytes
            return payload
