"""The spool without a disk: the same tables in memory, empty at every start.

Invariant (``tests/export/test_disk_spool.py``): a forked child begins empty; the parent delivers what it had.
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

# Delivered records are kept for `explain` and replays, but in an eighth of the memory at most.
_KEPT_SHARE = 8


def memory_bounds(max_bytes: int, max_age_s: float, keep_delivered_s: float) -> Limits:
    """Return the bounds of a spool in memory."""
    return Limits(
        max_bytes=max_bytes, keep_bytes=max_bytes // _KEPT_SHARE, max_age_s=max_age_s, keep_delivered_s=keep_delivered_s
    )


def give_up(log: SpoolLog) -> None:
    """Count and log what waits in memory and is dropped at the end."""
    for route in log.routes():
        waiting = log.state(route).waiting
        if waiting:
            name = log.counted_as(route)
            counters.add("dropped", waiting, destination=name, reason="shutdown")
            logger.warning("spancast: %d records still waited in memory for %s and are dropped", waiting, name)


class MemorySpool(SpoolLog):
    """``spool: memory``: at least once while the process lives, within ``max_bytes`` of memory.

    Records that wait nowhere take an eighth of it at most; the tables themselves take 0.2 MB.
    """

    def __init__(
        self,
        max_bytes: int,
        *,
        max_age_s: float = math.inf,
        keep_delivered_s: float = math.inf,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(connect_memory(), memory_bounds(max_bytes, max_age_s, keep_delivered_s), clock)
        self._is_held = False
        fork_hooks.watch(self)

    def close(self) -> None:
        """Release everything; what waits is counted as dropped."""
        with self._lock:
            give_up(self)
            super().close()

    def before_fork(self) -> None:
        """Wait for a transaction of another thread; give up after a while rather than hang the fork."""
        self._is_held = self._lock.acquire(timeout=fork_hooks.PATIENCE_S)

    def after_fork_in_parent(self) -> None:
        """Go on."""
        if self._is_held:
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Begin empty."""
        self._lock = threading.RLock()
        self.abandon()
        self._owner = LeaseOwner()
        audience = self._audience
        self._start(connect_memory())
        if audience is not None:
            self.register(list(audience))
