"""Who holds a lease, as text, and whether that process is known to be gone.

Must never: call a process gone that might be alive; what cannot be known waits for the lease to expire.
"""

from __future__ import annotations

import functools
import itertools
import os
import secrets
import socket
import weakref
from pathlib import Path


class LeaseOwner:
    """One open spool of one process; makes the names of its leases."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._instance = secrets.token_hex(8)
        self._numbers = itertools.count(1)
        self.prefix = f"{_host(self._pid)}|{self._pid}|{self._instance}|"
        _living.add(self)

    def new_lease(self) -> str:
        """Return a name no lease had before."""
        return f"{self.prefix}{next(self._numbers)}"

    def owns(self, lease: str) -> bool:
        """Tell whether ``lease`` was made here."""
        return lease.startswith(self.prefix)


_living: weakref.WeakSet[LeaseOwner] = weakref.WeakSet()


def is_gone(lease: str) -> bool:
    """Tell whether the process that made ``lease`` ran on this host and has ended."""
    host, _, rest = lease.partition("|")
    pid, _, _ = rest.partition("|")
    if host != _host(os.getpid()) or not pid.isdecimal():
        return False
    if int(pid) == os.getpid():
        # A container's process is often number 1 again after a restart.
        return not any(owner.owns(lease) for owner in list(_living))
    if os.name != "posix":
        return False  # os.kill(pid, 0) is no question on Windows: it ends the process
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


@functools.lru_cache(maxsize=2)
def _host(pid: int) -> str:  # noqa: ARG001 - a child may live in another namespace, so the answer is per process
    """Return what is equal only where process numbers mean the same: this boot and this pid namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}:{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()
