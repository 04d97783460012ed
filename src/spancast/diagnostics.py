"""Internal errors, warnings and counters.

Exceptions of spancast's own code are caught here, so that a defect never reaches the user's call.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, ParamSpec, TypeVar

from spancast.errors import ConfigError, SpancastError

logger = logging.getLogger("spancast")


def one_line(text: str) -> str:
    """Return ``text`` with control characters and line breaks escaped, for a log or a terminal."""
    if text.isprintable():
        return text
    return "".join([one if one.isprintable() else ascii(one)[1:-1] for one in text])


def _for_log(argument: object) -> object:
    if isinstance(argument, str):
        return one_line(argument)
    # Only our own errors have several lines.
    return "\n".join(map(one_line, str(argument).split("\n"))) if isinstance(argument, SpancastError) else argument


def _prepare(record: logging.LogRecord) -> bool:
    """Escape the arguments: keys of a caller and answers of a server must not control a terminal or add lines.

    Remove "spancast: " from the message if the application has set up logging, whose lines name the logger.
    """
    if isinstance(record.args, tuple):
        record.args = tuple(map(_for_log, record.args))
    if logger.hasHandlers() and isinstance(record.msg, str):
        record.msg = record.msg.removeprefix("spancast: ")
    return True


logger.addFilter(_prepare)

_PACKAGE = __name__.partition(".")[0]
_VALUE_FREE = (TypeError, OverflowError, AttributeError, RecursionError, ZeroDivisionError)
"""Exceptions whose text, if raised by the interpreter, names types and attributes but no values."""

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")


class RaisedAsConfigError:
    """A context manager that converts exceptions other than ``SpancastError`` into a ``ConfigError``.

    The message is ``what`` and the type of the exception, whose text may quote a credential. The exception is the
    cause unless ``is_secret``.
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


class Count(NamedTuple):
    """The key of a counter. ``destination`` and ``reason`` are empty if they do not apply."""

    name: str
    destination: str = ""
    reason: str = ""


class Counters:
    """Thread-safe counters that ``spancast.stats()`` reads."""

    def __init__(self) -> None:
        self._reset()
        # A lock that another thread holds during a fork stays locked in the child, and its counts are the parent's.
        after_fork_in_child(self._reset)

    def _reset(self) -> None:
        # Plain tuples, which equal a ``Count``: to make one takes longer than to count.
        self._counts: Counter[tuple[str, str, str]] = Counter()
        # Reentrant: a finalizer that counts may run on a thread that holds the lock.
        self._lock = threading.RLock()

    def add(self, name: str, amount: int = 1, *, destination: str = "", reason: str = "") -> None:
        """Increase a counter by ``amount``. ``name`` is a field of ``Stats`` or ``DestinationStats``."""
        with self._lock:
            self._counts[name, destination, reason] += amount

    def read(self) -> Counter[Count]:
        """Return a copy of all counters; a counter that was never increased is 0."""
        with self._lock:
            counts = self._counts.copy()
        return Counter({Count(*key): count for key, count in counts.items()})

    def clear(self) -> None:
        """Reset every counter; for tests."""
        with self._lock:
            self._counts.clear()


counters = Counters()

_seen: set[str] = set()
_reraise = False
_SEEN_LIMIT = 1000


def warn_once(kind: str, message: str, *arguments: object) -> None:
    """Log ``message`` the first time ``kind`` is seen in this process."""
    if kind in _seen:
        return
    # A kind may contain user data (a key's name), so their number is bounded.
    if len(_seen) < _SEEN_LIMIT:
        _seen.add(kind)
    logger.warning(message, *arguments)


def reset_warnings() -> None:
    """Forget the warnings already logged; for tests."""
    _seen.clear()


def reraise_internal_errors(*, enabled: bool) -> bool:
    """Set whether ``never_raise`` re-raises (tests) or swallows (production); return the previous state."""
    global _reraise
    previous, _reraise = _reraise, enabled
    return previous


def report(where: str, error: BaseException) -> None:
    """Count an internal error, log the first of its kind and re-raise it in tests."""
    counters.add("internal_errors")
    # The text of the error may quote a prompt or a key, so only its type is logged.
    warn_once(
        f"internal:{where}:{type(error).__name__}",
        "spancast: internal error %s in %s; the call is unaffected, its telemetry may be incomplete",
        type(error).__name__,
        where,
    )
    logger.debug("spancast: internal error in %s", where, exc_info=error)
    if _reraise:
        raise error


def reason_of(error: BaseException) -> str:
    """Return the type of ``error``, the function of this package that raised it, and its text if free of values."""
    location, is_internal = "", False
    trace = error.__traceback__
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__", ""))
        is_internal = module.partition(".")[0] == _PACKAGE
        if is_internal:
            location = f" in {module.removeprefix(f'{_PACKAGE}.')}.{trace.tb_frame.f_code.co_name}"
        trace = trace.tb_next
    text = f": {error}" if is_internal and type(error) in _VALUE_FREE else ""
    return f"{type(error).__name__}{location}{text}"


def never_raise(function: Callable[P, R]) -> Callable[P, R | None]:
    """Return ``function`` wrapped to return None instead of raising an internal error.

    ``SpancastError`` is not caught: it is intentional (``strict=True``).
    """
    return _guarded(function, _none, SpancastError)


def guarded(
    function: Callable[P, R], instead: Callable[[Exception], S], uncaught: type[Exception] | tuple[()] = ()
) -> Callable[P, R | S]:
    """Return ``function`` wrapped to return ``instead(error)`` on any exception that is not ``uncaught``."""
    return _guarded(function, instead, uncaught)


def _none(_: Exception) -> None:
    return None


def _guarded(
    function: Callable[P, R],
    instead: Callable[[Exception], S],
    uncaught: type[Exception] | tuple[()],
) -> Callable[P, R | S]:
    """Wrap ``function`` for ``never_raise`` and ``guarded``, with the only broad ``except`` for internal errors."""

    @functools.wraps(function)
    def guard(*args: P.args, **kwargs: P.kwargs) -> R | S:
        try:
            return function(*args, **kwargs)
        except uncaught:
            raise
        except Exception as error:  # noqa: BLE001 - internal errors must not reach the caller
            report(function.__qualname__, error)
            return instead(error)

    return guard


def attempt(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R | None:
    """Return the result of ``function``, a method of the caller's objects; None if it raises.

    A caller's object that cannot be read (``__str__`` raises) is not an internal error and is not counted.
    """
    try:
        return function(*args, **kwargs)
    except Exception:  # noqa: BLE001 - methods of the caller's objects may raise anything
        return None
