"""Hooks for the end and the forks of a process: queued spans are spooled, and delivered if there is time.

The end of a process is that of the interpreter (``atexit``), of a child of ``multiprocessing`` or of a Celery pool
(both skip ``atexit``), ``os._exit`` in any other forked child (RQ's work horse), or SIGTERM if the application does not
handle it. ``kill -9`` loses the spans of the last 0.1 s, and so does ``os._exit`` in a process that was not forked.
"""

from __future__ import annotations

import _thread
import atexit
import functools
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, NoReturn, Protocol

from spancast.diagnostics import counters, never_raise

_FIRST_PID: Final = 1
_EXIT_WAIT_S: Final = 5.0
"""How long ``os._exit`` waits in a forked child whose shutdown hangs; it takes half a second at most if it does not."""


class ProcessAware(Protocol):
    """An object that has work to do at the end of a process and in a forked child."""

    @property
    def has_spans(self) -> bool:
        """Return whether spans wait in memory."""
        ...

    def shutdown(self) -> object:
        """Deliver what is possible within a bounded time."""
        ...

    def after_fork_in_child(self) -> None:
        """Start empty in the child process."""
        ...


_registered: Final[weakref.WeakSet[ProcessAware]] = weakref.WeakSet()
_first: Final[list[Callable[[], object]]] = []
_armed_pid: int = 0
_exit_is_replaced = False


def register(item: ProcessAware) -> None:
    """Call ``item`` at forks and at the end of the process; holds a weak reference."""
    _registered.add(item)


def unregister(item: ProcessAware) -> None:
    """Undo ``register``."""
    _registered.discard(item)


def call_first(function: Callable[[], object]) -> None:
    """Call ``function`` at the end of the process before the registered objects shut down; it may end open spans."""
    if function not in _first:
        _first.append(function)


def arm() -> None:
    """Connect to the end of children in ``multiprocessing`` and Celery, once per process; they skip ``atexit``."""
    global _armed_pid  # noqa: PLW0603 - one end per process
    if _armed_pid == os.getpid():
        return
    _armed_pid = os.getpid()
    processes: Any = sys.modules.get("multiprocessing.util")
    if processes is not None:
        _add_finalizer(processes)
        # A new child first removes all finalizers, then it calls this.
        processes.register_after_fork(processes, _add_finalizer)
    celery: Any = sys.modules.get("celery.signals")
    if celery is not None:
        celery.worker_process_shutdown.connect(_end_celery_worker, dispatch_uid="spancast", weak=False)


def _add_finalizer(processes: Any) -> None:  # noqa: ANN401 - multiprocessing.util
    # Without an object the finalizer runs at the end of the process. Billiard has the same ones.
    processes.Finalize(None, _end, exitpriority=0)


def _end_celery_worker(**_: object) -> None:
    _end()


def handle_sigterm() -> None:
    """Deliver before SIGTERM ends the process, unless the application handles SIGTERM."""
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and hasattr(signal, "SIGTERM") and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _on_sigterm)


def _on_sigterm(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of handlers
    if os.getpid() == _FIRST_PID:
        # Without a handler the kernel ignores the signal for the first process of a container, so it runs on.
        return
    signal.signal(number, signal.SIG_DFL)
    try:
        # Not on this thread, which may hold a lock that the shutdown needs. It runs on until the process has ended.
        # Starting a `threading.Thread` would need a lock, too.
        _thread.start_new_thread(_end_by_signal, (number,))
    except RuntimeError:
        _end_by_signal(number)


def _end_by_signal(number: int) -> None:
    _end()
    os.kill(os.getpid(), number)


def _ending_before(exit_now: Callable[[int], NoReturn]) -> Callable[[int], NoReturn]:
    """Return ``os._exit`` with a shutdown of at most ``_EXIT_WAIT_S`` before it."""

    @functools.wraps(exit_now)
    def exit_later(status: int) -> NoReturn:
        try:
            # Many children do nothing of ours: they become another program, or a daemon.
            if counters.read() or any(item.has_spans for item in list(_registered)):
                ended = _thread.allocate_lock()
                ended.acquire()
                # Not on this thread, which may hold a lock that the shutdown needs.
                _thread.start_new_thread(lambda: (_end(), ended.release()), ())
                ended.acquire(timeout=_EXIT_WAIT_S)
        finally:
            exit_now(status)

    return exit_later


@never_raise
def _end() -> None:
    for function in _first:
        never_raise(function)()
    for item in list(_registered):
        item.shutdown()


@never_raise
def _in_child() -> None:
    global _exit_is_replaced  # noqa: PLW0603 - its own children inherit the function
    for item in list(_registered):
        item.after_fork_in_child()
    arm()
    if not _exit_is_replaced:
        _exit_is_replaced = True
        os._exit = _ending_before(os._exit)


atexit.register(_end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
