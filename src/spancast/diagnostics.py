"""Internal errors, warnings and counters: the one place where spancast catches what its own code raises.

A defect of spancast never reaches the user's call.
"""

from __future__ import annotations

import functools
import itertools
import logging
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import ParamSpec, TypeVar

from spancast.errors import ConfigError, SpancastError

logger = logging.getLogger("spancast")

_PACKAGE = __name__.partition(".")[0]
_NAMES_TYPES_ONLY = (TypeError, OverflowError, AttributeError, RecursionError, ZeroDivisionError)
"""Of these the interpreter's own text names types and attributes, never a value."""

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")


class RaisedAsConfigError:
    """Turn what a block raises that is no error of ours into ``ConfigError``: ``what`` and the error's type.

    The text of the error may quote a credential. It is in the cause, and not even there if it ``is_secret``.
    """

    def __init__(self, what: str, *, is_secret: bool = False) -> None:
        self._what = what
        self._is_secret = is_secret

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, Exception) and not isinstance(error, SpancastError):
            raise ConfigError(f"{self._what}: {type(error).__name__}") from None if self._is_secret else error


def after_fork_in_child(function: Callable[[], object]) -> None:
    """Call ``function`` in every forked child; do nothing on a system that does not fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)


class Counters:
    """Named counts that any thread may raise; read by ``spancast.stats()``."""

    def __init__(self) -> None:
        self._counts: defaultdict[str, int] = defaultdict(int)
        self._steps: dict[str, tuple[Iterator[int], int]] = {}
        self._renew_lock()
        # At the moment of a fork another thread may hold it, in the child for ever.
        after_fork_in_child(self._renew_lock)

    def _renew_lock(self) -> None:
        # Reentrant: the collector may run a finalizer that counts on the very thread that counts.
        self._lock = threading.RLock()

    def add(self, name: str, amount: int = 1) -> None:
        """Raise the count ``name`` by ``amount``."""
        with self._lock:
            self._counts[name] += amount

    def step(self, name: str) -> Callable[[], object]:
        """Return what raises the count ``name`` by one: for what every call does, a third of ``add``."""
        with self._lock:
            steps, _ = self._steps.setdefault(name, (itertools.count(), 0))
        return steps.__next__

    def read(self) -> dict[str, int]:
        """Return all counts as a plain dict."""
        with self._lock:
            counts = dict(self._counts)
            for name, (steps, own) in self._steps.items():
                # How far it has come is known by one more step, which is ours.
                taken = next(steps) - own
                self._steps[name] = (steps, own + 1)
                if taken:
                    counts[name] = counts.get(name, 0) + taken
            return counts

    def clear(self) -> None:
        """Set every count to nothing; for tests and forked children."""
        with self._lock:
            self._counts.clear()
            self._steps = {name: (steps, next(steps) + 1) for name, (steps, _) in self._steps.items()}


counters = Counters()

_seen: set[str] = set()
_reraise = False
_SEEN_LIMIT = 1000


def warn_once(kind: str, message: str, *arguments: object) -> None:
    """Log ``message`` the first time ``kind`` is seen in this process."""
    if kind in _seen:
        return
    # A kind may hold user data (a key's name), so the memory of it is bounded.
    if len(_seen) < _SEEN_LIMIT:
        _seen.add(kind)
    logger.warning(message, *arguments)


def reset_warnings() -> None:
    """Let every kind of warning be logged again; for tests."""
    _seen.clear()


def reraise_internal_errors(*, enabled: bool) -> bool:
    """Make ``never_raise`` re-raise (tests) or swallow (production); return the former state."""
    global _reraise
    former, _reraise = _reraise, enabled
    return former


def report(where: str, error: BaseException) -> None:
    """Count an internal error, log the first of its kind, re-raise it under test."""
    counters.add("internal_errors")
    # The text of the error may quote a prompt or a key, so only its type is logged.
    warn_once(
        f"internal:{where}:{type(error).__name__}",
        "spancast: internal error %s in %s; your call is unaffected, this call's telemetry may be incomplete",
        type(error).__name__,
        where,
    )
    logger.debug("spancast: internal error in %s", where, exc_info=error)
    if _reraise:
        raise error


def reason_of(error: BaseException) -> str:
    """Return the type of ``error`` and where in this package it was raised, and its text if that can quote no value."""
    place, is_ours = "", False
    trace = error.__traceback__
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__", ""))
        is_ours = module.partition(".")[0] == _PACKAGE
        if is_ours:
            place = f" in {module.removeprefix(f'{_PACKAGE}.')}.{trace.tb_frame.f_code.co_name}"
        trace = trace.tb_next
    text = f": {error}" if is_ours and type(error) in _NAMES_TYPES_ONLY else ""
    return f"{type(error).__name__}{place}{text}"


def never_raise(function: Callable[P, R]) -> Callable[P, R | None]:
    """Make ``function`` return None where it would raise a defect of ours.

    ``SpancastError`` passes: it is raised on purpose (``strict=True``).
    """
    return _guarded(function, _nothing, SpancastError)


def guarded(function: Callable[P, R], instead: Callable[[Exception], S]) -> Callable[P, R | S]:
    """Make ``function`` return ``instead(error)`` if it raises anything, ``SpancastError`` included."""
    return _guarded(function, instead, ())


def _nothing(_: Exception) -> None:
    return None


def _guarded(
    function: Callable[P, R],
    instead: Callable[[Exception], S],
    passing: type[Exception] | tuple[()],
) -> Callable[P, R | S]:
    """Do what ``never_raise`` and ``guarded`` say. This is the only broad ``except`` of the package."""

    @functools.wraps(function)
    def guard(*args: P.args, **kwargs: P.kwargs) -> R | S:
        try:
            return function(*args, **kwargs)
        except passing:
            raise
        except Exception as error:  # noqa: BLE001 - law 6: the one broad except
            report(function.__qualname__, error)
            return instead(error)

    return guard


def attempt(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R | None:
    """Return what ``function``, code of the caller's objects, returns; None if it raises.

    An object of the caller's that can't be read (``__str__`` raises) is no defect of ours, and is not counted.
    """
    try:
        return function(*args, **kwargs)
    except Exception:  # noqa: BLE001 - whatever the methods of the caller's objects raise
        return None
