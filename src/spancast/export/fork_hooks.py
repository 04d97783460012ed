"""Hooks for objects whose locks or files must not be in use while the process forks.

A hook must not make a fork fail or hang: each object waits for at most ``FORK_TIMEOUT_S``.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Sequence
from typing import Final, Protocol

# How long a fork waits for a thread to finish its transaction.
FORK_TIMEOUT_S = 5.0


class ForkAware(Protocol):
    """An object that holds locks or files that a child process must not inherit in use."""

    def before_fork(self) -> None:
        """Take the locks; close the files that a child must not have open."""
        ...

    def after_fork_in_parent(self) -> None:
        """Release the locks."""
        ...

    def after_fork_in_child(self) -> None:
        """Start empty with new locks; the parent delivers its own records."""
        ...


class _CurrentFork(threading.local):
    """The fork that the current thread is making."""

    items: Sequence[ForkAware] = ()
    has_lock = False


_registered: weakref.WeakSet[ForkAware] = weakref.WeakSet()
_current: Final = _CurrentFork()
_fork_lock = threading.Lock()
_leaked: list[sqlite3.Connection] = []


def register(item: ForkAware) -> None:
    """Call the hooks of ``item`` at every fork; holds a weak reference."""
    _registered.add(item)


def leak(connection: sqlite3.Connection) -> None:
    """Keep an inherited connection open for ever: SQLite forbids even to close it in the child."""
    _leaked.append(connection)


def _before() -> None:
    # If two threads forked at once, each would release the locks that the other has taken.
    _current.has_lock = _fork_lock.acquire(timeout=FORK_TIMEOUT_S)
    _current.items = list(_registered)
    for item in _current.items:
        item.before_fork()


def _in_parent() -> None:
    for item in _current.items:
        item.after_fork_in_parent()
    _current.items = ()
    if _current.has_lock:
        _fork_lock.release()


def _in_child() -> None:
    global _fork_lock  # noqa: PLW0603 - a thread that the child does not have may hold the inherited lock
    _fork_lock = threading.Lock()
    for item in _current.items:
        item.after_fork_in_child()
    _current.items = ()


# `before` hooks run in reverse order of registration. Registered at import, these run after the hooks of the span
# queue and the delivery workers, which may hold their own locks while they wait for the lock of the spool.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
