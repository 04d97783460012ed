"""The ends and forks of a process: what was handed over by then is spooled, and delivered if there is time.

Ends: the interpreter's (``atexit``), that of a child of ``multiprocessing`` (which skips ``atexit``),
and SIGTERM where nobody handles it. ``kill -9`` loses what ended in the last tenth of a second.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import weakref
from types import FrameType
from typing import Any, Final, Protocol

from spancast.diagnostics import never_raise

# Imported first, so that our hook runs before its hooks do (`before`: last registered, first run).

_WITH_FINALIZERS: Final = ("multiprocessing.util", "billiard.util")


class Lasting(Protocol):
    """What has something to do at the end of a process, and in a forked child."""

    def shutdown(self) -> object:
        """Deliver what is possible within a bounded time."""
        ...

    def after_fork_in_child(self) -> None:
        """Begin anew."""
        ...


_watched: Final[weakref.WeakSet[Any]] = weakref.WeakSet()
_expecting_pid: int = 0


def watch(item: Lasting) -> None:
    """Tell ``item`` of forks and of the end, for as long as it lives."""
    _watched.add(item)


def forget(item: Lasting) -> None:
    """Tell ``item`` no more."""
    _watched.discard(item)


def expect() -> None:
    """Be told of the end of this process from now on; once per process."""
    global _expecting_pid  # noqa: PLW0603 - one end per process
    if _expecting_pid == os.getpid():
        return
    _expecting_pid = os.getpid()
    for name in _WITH_FINALIZERS:
        module = sys.modules.get(name)
        if module is not None:
            # Without an object: at the end of the process, however it comes there.
            module.Finalize(None, _end, exitpriority=0)


def handle_sigterm() -> None:
    """Deliver before SIGTERM ends the process, where nothing else handles it."""
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and hasattr(signal, "SIGTERM") and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _on_sigterm)


def _on_sigterm(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of handlers
    _end()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


@never_raise
def _end() -> None:
    for item in list(_watched):
        item.shutdown()


@never_raise
def _in_child() -> None:
    for item in list(_watched):
        item.after_fork_in_child()


atexit.register(_end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
