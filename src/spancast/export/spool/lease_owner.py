"""Names of leases, which identify their process, and a check whether that process has ended.

If it is unknown whether the process has ended, it counts as alive, and its lease expires.
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
    """The identity of one open spool in one process, used to name its leases."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._instance = secrets.token_hex(8)
        self._numbers = itertools.count(1)
        self.prefix = f"{_host(self._pid)}|{self._pid}|{self._instance}|"
        _owners.add(self)

    def new_lease(self) -> str:
        """Return a new unique name of a lease."""
        return f"{self.prefix}{next(self._numbers)}"

    def owns(self, lease: str) -> bool:
        """Return whether ``lease`` was named by this owner."""
        return lease.startswith(self.prefix)


_owners: weakref.WeakSet[LeaseOwner] = weakref.WeakSet()


def is_gone(lease: str) -> bool:
    """Return whether the process that made ``lease`` ran on this host and has ended."""
    host, _, rest = lease.partition("|")
    pid, _, _ = rest.partition("|")
    if host != _host(os.getpid()) or not pid.isdecimal():
        return False
    if int(pid) == os.getpid():
        # In a container the process often has number 1 again after a restart.
        return not any(owner.owns(lease) for owner in list(_owners))
    if os.name != "posix":
        return False  # on Windows os.kill(pid, 0) ends the process
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


@functools.lru_cache(maxsize=2)
def _host(pid: int) -> str:  # noqa: ARG001 - a child may be in another namespace, so the result is cached per process
    """Return a text that is equal only in the same boot and pid namespace, in which process numbers are unique."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}:{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()
