"""A daemon thread with instrumentation suppressed, so that exporting spans does not create spans."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

from opentelemetry import context as context_api
from opentelemetry.context import Context

from spancast.otel_private import suppress_instrumentation


class _CurrentThread(threading.local):
    """Properties of the current thread.

    Not a set of thread ids: a forked child reuses the ids of the threads that it did not inherit.
    """

    is_worker = False
    original_context: Context | None = None
    """The context of a worker thread before instrumentation was suppressed in it."""


CURRENT_THREAD: Final = _CurrentThread()


class WakeFlag:
    """A flag that one thread waits for and that the wait clears.

    It is a lock: ``threading.Event.set`` takes ten times as long as releasing a lock, on the thread of the caller.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> None:
        """Set the flag; does nothing if it is set."""
        try:  # noqa: SIM105 - contextlib.suppress costs more than all the rest
            self._lock.release()
        except RuntimeError:
            # It is set already.
            pass

    def wait(self, timeout_s: float = -1) -> bool:
        """Wait until the flag is set, clear it and return True; False after ``timeout_s`` (negative: no timeout)."""
        return self._lock.acquire(timeout=timeout_s)


class WorkerThread:
    """A daemon thread that runs ``work``; can be started again after it ended, or in a forked child."""

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        self._name = name
        self._work = work
        self.reset_after_fork()

    @property
    def is_running(self) -> bool:
        """Return whether the thread has started and not ended."""
        thread = self._thread
        return thread is not None and thread.is_alive()

    def start(self) -> bool:
        """Start the thread unless it runs; False if none can be started (system limit, or the interpreter ends)."""
        with self._starting:
            if self.is_running:
                return True
            thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            try:
                thread.start()
            except (RuntimeError, MemoryError):
                return False
            self._thread = thread
        return True

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread to end; False if it still runs after ``timeout_s``."""
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return True
        thread.join(max(timeout_s, 0))
        return not thread.is_alive()

    def reset_after_fork(self) -> None:
        """Discard the thread of the parent process; called in a forked child."""
        # Reentrant: a signal handler may call start() while the thread it interrupts is inside start().
        self._starting = threading.RLock()
        self._thread: threading.Thread | None = None

    def _run(self) -> None:
        with as_worker():
            self._work()


@contextmanager
def as_worker() -> Generator[None, None, None]:
    """Let the current thread do the work of a worker thread: without instrumentation, and without spans of ours."""
    context = CURRENT_THREAD.original_context = context_api.get_current()
    token = context_api.attach(suppress_instrumentation(context))
    CURRENT_THREAD.is_worker = True
    try:
        yield
    finally:
        CURRENT_THREAD.is_worker = False
        context_api.detach(token)


def _in_child() -> None:
    # Only the thread that forked exists in the child, as its main thread. If it was a worker thread, it runs code of
    # the application now, so its instrumentation is enabled again.
    if CURRENT_THREAD.is_worker:
        CURRENT_THREAD.is_worker = False
        context_api.attach(CURRENT_THREAD.original_context or Context())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
