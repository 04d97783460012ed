"""The spool in memory: the same tables in an SQLite database in memory, empty at every start.

Invariant (``tests/export/test_disk_spool.py``): a forked child starts empty; the parent delivers its own records.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from spancast.diagnostics import counters, logger
from spancast.export import fork_hooks
from spancast.export.spool.lease_owner import LeaseOwner
from spancast.export.spool.log import SpoolLog
from spancast.export.spool.sqlite_limits import Limits
from spancast.export.spool.sqlite_schema import connect_memory

# Delivered records are kept for `explain` and replays, in an eighth of the memory at most.
_KEPT_SHARE = 8


def memory_limits(max_bytes: int, max_age_s: float, keep_delivered_s: float) -> Limits:
    """Return the limits of a spool in memory."""
    return Limits(
        max_bytes=max_bytes, keep_bytes=max_bytes // _KEPT_SHARE, max_age_s=max_age_s, keep_delivered_s=keep_delivered_s
    )


def count_dropped(log: SpoolLog) -> None:
    """Count and log the records still queued in memory, which are dropped."""
    for route in log.routes():
        waiting = log.state(route).queued
        if waiting:
            name = log.counted_as(route)
            counters.add("dropped", waiting, destination=name, reason="shutdown")
            logger.warning("spancast: %d records queued in memory for %s are dropped", waiting, name)


class MemorySpool(SpoolLog):
    """The spool of ``spool: memory``: at least once while the process lives, within ``max_bytes`` of memory.

    Records that are queued for no route take at most an eighth of it; the tables themselves take 0.2 MB.
    """

    def __init__(
        self,
        max_bytes: int,
        *,
        max_age_s: float = math.inf,
        keep_delivered_s: float = math.inf,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(connect_memory(), memory_limits(max_bytes, max_age_s, keep_delivered_s), clock)
        self._is_held = False
        fork_hooks.register(self)

    def close(self) -> None:
        """Close the spool; queued records are counted as dropped."""
        with self._lock:
            count_dropped(self)
            super().close()

    def before_fork(self) -> None:
        """Wait for a transaction of another thread, for ``FORK_TIMEOUT_S`` at most."""
        self._is_held = self._lock.acquire(timeout=fork_hooks.FORK_TIMEOUT_S)

    def after_fork_in_parent(self) -> None:
        """Release the lock."""
        if self._is_held:
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Start empty."""
        self._lock = threading.RLock()
        self.leak()
        self._owner = LeaseOwner()
        own_routes = self._own_routes
        self._start(connect_memory())
        if own_routes is not None:
            self.register(list(own_routes))
