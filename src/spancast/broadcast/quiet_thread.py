"""A daemon thread whose own work is never traced: what it sends must not become spans that it sends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from opentelemetry import context as context_api

# By name: the module that defines the second is not ours to require.
_SUPPRESSING: Final = ("suppress_instrumentation", "suppress_http_instrumentation")
OURS: Final[set[int]] = set()
"""The idents of these threads."""


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


class QuietThread:
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
        """Start it unless it runs; False where no thread can be started any more (the interpreter ends)."""
        with self._starting:
            if self.is_running:
                return True
            thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            try:
                thread.start()
            except RuntimeError:
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
        context = context_api.get_current()
        for key in (*_SUPPRESSING, context_api._SUPPRESS_INSTRUMENTATION_KEY):  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - OpenTelemetry's own packages use it
            context = context_api.set_value(key, True, context)
        context_api.attach(context)
        OURS.add(threading.get_ident())
        try:
            self._work()
        finally:
            OURS.discard(threading.get_ident())
