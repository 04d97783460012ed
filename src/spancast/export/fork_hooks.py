"""Objects that must be at rest when the process forks.

Must never: be the reason that a fork fails or hangs; each object bounds its own waiting.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Sequence
from typing import Final, Protocol

# How long a fork waits for a thread to finish its transaction.
PATIENCE_S = 5.0


class ForkAware(Protocol):
    """What holds locks or files that a child must not inherit in use."""

    def before_fork(self) -> None:
        """Come to rest: take the locks, close what a child must not have open."""
        ...

    def after_fork_in_parent(self) -> None:
        """Go on."""
        ...

    def after_fork_in_child(self) -> None:
        """Begin anew; the parent delivers what it had."""
        ...


class _CurrentFork(threading.local):
    """The fork that the current thread is at."""

    resting: Sequence[ForkAware] = ()
    is_alone = False


_watched: weakref.WeakSet[ForkAware] = weakref.WeakSet()
_current: Final = _CurrentFork()
_one_at_a_time = threading.Lock()
_abandoned: list[sqlite3.Connection] = []


def watch(item: ForkAware) -> None:
    """Tell ``item`` of every fork for as long as it lives."""
    _watched.add(item)


def abandon(connection: sqlite3.Connection) -> None:
    """Never touch an inherited connection again: SQLite forbids even to close it in the child."""
    _abandoned.append(connection)


def _before() -> None:
    # Two threads that fork at once would each end the rest that the other has begun.
    _current.is_alone = _one_at_a_time.acquire(timeout=PATIENCE_S)
    _current.resting = list(_watched)
    for item in _current.resting:
        item.before_fork()


def _in_parent() -> None:
    for item in _current.resting:
        item.after_fork_in_parent()
    _current.resting = ()
    if _current.is_alone:
        _one_at_a_time.release()


def _in_child() -> None:
    global _one_at_a_time  # noqa: PLW0603 - a thread that is not here may hold the parent's
    _one_at_a_time = threading.Lock()
    for item in _current.resting:
        item.after_fork_in_child()
    _current.resting = ()


# Hooks run last registered first: registered at import, these run after the processor's and the
# courier's, which may hold a lock of theirs while they wait for the spool's.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
