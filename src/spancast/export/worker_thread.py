"""A daemon thread whose own work is never traced: what it sends must not become spans that it sends."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Final

from opentelemetry import context as context_api
from opentelemetry.context import Context

from spancast.otel_private import suppress_instrumentation


class _CurrentThread(threading.local):
    """What is known of the thread that asks.

    Not a set of idents: a forked child gives the idents of the threads it did not inherit to its own threads.
    """

    is_ours = False
    outside: Context | None = None
    """The context of one of our threads before instrumentation was suppressed in it."""


CURRENT_THREAD: Final = _CurrentThread()


class Bell:
    """Wakes the one thread that waits for it; rung once or often before it waits is the same.

    A lock, which is a call each way: ``threading.Event`` costs whoever sets it ten times as much, and here that
    is a caller on his way.
    """

    def __init__(self) -> None:
        self._silence = threading.Lock()
        self._silence.acquire()

    def ring(self) -> None:
        """Wake it."""
        try:  # noqa: SIM105 - contextlib.suppress costs more than all the rest
            self._silence.release()
        except RuntimeError:
            # Already rung.
            pass

    def wait(self, timeout_s: float = -1) -> bool:
        """Return True when it is rung, or has been since the last wait; False where it was not in ``timeout_s``."""
        return self._silence.acquire(timeout=timeout_s)


class WorkerThread:
    """Runs ``work`` once started; can be started again after it ended, or in a forked child."""

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        self._name = name
        self._work = work
        self.forget()

    @property
    def is_running(self) -> bool:
        """Tell whether it has started and not ended."""
        thread = self._thread
        return thread is not None and thread.is_alive()

    def start(self) -> bool:
        """Start it unless it runs; False if no thread can be started: the system has none to spare, or Python ends."""
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
        """Wait for its end; False if it still runs."""
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return True
        thread.join(max(timeout_s, 0))
        return not thread.is_alive()

    def forget(self) -> None:
        """Know nothing of the parent's thread, in a forked child."""
        # Reentrant: a signal's handler may ask again, amid a start by the thread it interrupts.
        self._starting = threading.RLock()
        self._thread: threading.Thread | None = None

    def _run(self) -> None:
        context = CURRENT_THREAD.outside = context_api.get_current()
        context_api.attach(suppress_instrumentation(context))
        CURRENT_THREAD.is_ours = True
        try:
            self._work()
        finally:
            CURRENT_THREAD.is_ours = False


def _in_child() -> None:
    # Only the thread that forked lives on, as the child's main thread: if it was ours, it is the application's now.
    if CURRENT_THREAD.is_ours:
        CURRENT_THREAD.is_ours = False
        context_api.attach(CURRENT_THREAD.outside or Context())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
