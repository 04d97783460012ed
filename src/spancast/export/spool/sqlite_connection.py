"""The file behind a spool, opened again whenever it can be: after trouble, after damage, after a fork.

Must never: raise anything for the disk's trouble but ``SpoolUnavailable``.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from spancast.diagnostics import counters, logger, warn_once
from spancast.errors import ConfigError
from spancast.export import fork_hooks
from spancast.export.spool.log import SpoolLog
from spancast.export.spool.sqlite_file import SpoolFile
from spancast.export.spool.sqlite_recovery import pending_records
from spancast.export.spool.sqlite_schema import connect_damaged

R = TypeVar("R")

_LONGEST_PAUSE_S = 30.0
# An exact type, its subclasses are other things: SQLITE_CORRUPT and SQLITE_NOTADB have no class of their own.
_DAMAGE = (sqlite3.DatabaseError, sqlite3.InternalError, sqlite3.IntegrityError)


class SpoolUnavailable(Exception):  # noqa: N818 - a state, caught by the spool beside it
    """The file cannot be used now."""


class Disk:
    """A spool file and the log on it. Not safe for threads: the spool that has it holds a lock.

    ``make_log`` wraps a new connection to the file of that identity, and ``leave`` gets the log of a
    file that is no longer at its path, before it is closed. ``trouble`` is why the file is not used now, else empty.
    """

    def __init__(
        self,
        file: SpoolFile,
        make_log: Callable[[sqlite3.Connection, str], SpoolLog],
        leave: Callable[[SpoolLog], None],
        clock: Callable[[], float],
    ) -> None:
        self.trouble = ""
        self.path = file.path
        self._file = file
        self._make_log = make_log
        self._leave = leave
        self._clock = clock
        self._pid = os.getpid()
        self._log: SpoolLog | None = None
        self._connection: sqlite3.Connection | None = None
        self._pause_s = 0.0
        self._retry_s = 0.0
        self._is_closed = False
        self._is_used = False

    def use(self, operation: Callable[[SpoolLog], R]) -> R:
        """Return what ``operation`` does with the log; it is done again if the file proves damaged.

        Raises DiskUnusable, and for a while after it without trying again; also inside another
        ``use``, which is where a signal handler may find itself.
        """
        if self._is_used:
            raise SpoolUnavailable
        self._is_used = True
        try:
            return self._used(operation)
        except (OSError, ConfigError, sqlite3.OperationalError, *_DAMAGE) as error:
            if isinstance(error, sqlite3.ProgrammingError):
                raise  # a defect of ours, not of the disk
            self._lose(error)
            raise SpoolUnavailable from error
        finally:
            self._is_used = False

    def _used(self, operation: Callable[[SpoolLog], R]) -> R:
        try:
            return operation(self._opened())
        except _DAMAGE as error:
            if type(error) not in _DAMAGE:
                raise
            self._set_aside(error)
            return operation(self._opened())

    def check(self) -> None:
        """Raise ConfigError if the path is taken by something else; any other trouble can pass."""
        try:
            self._opened()
        except (OSError, sqlite3.Error):
            with contextlib.suppress(SpoolUnavailable):
                self.use(lambda _: None)

    def hurry(self) -> None:
        """Try the file at the next use, however short ago it failed."""
        self._retry_s = 0.0

    def pause(self) -> None:
        """Close the file and keep the leases, so that the process can fork."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
        self._log = self._connection = None

    def close(self) -> None:
        """Give back the leases, close the file, and use it no more."""
        self._is_closed = True
        if self._log is not None:
            with contextlib.suppress(sqlite3.Error):
                self._log.release()
        self.pause()

    def begin_in_child(self) -> None:
        """Go on in a forked child, with a connection of its own."""
        self._is_used = False
        if self._connection is None:
            self._pid = os.getpid()
            self._pause_s = self._retry_s = 0.0

    def _opened(self) -> SpoolLog:
        if self._pid != os.getpid():
            self._refuse_inherited()
        if self._is_closed:
            raise SpoolUnavailable
        if self._log is not None and self._file.has_moved():
            with contextlib.suppress(sqlite3.Error):
                self._leave(self._log)
            self._file.remove_companions()
            self.pause()
        if self._log is None:
            if self._clock() < self._retry_s <= self._clock() + _LONGEST_PAUSE_S:
                raise SpoolUnavailable
            self._connection = self._file.open()
            self._log = self._make_log(self._connection, self._file.identity)
            self._pause_s = 0.0
            if self.trouble:
                logger.info("spancast: the spool %s is used again", self._file.path)
                self.trouble = ""
        return self._log

    def _refuse_inherited(self) -> None:
        # Forked without Python's hooks, with the file open. SQLite's own memory of its locks came along and
        # is wrong here; a second connection could damage the file, so this process does without it.
        if self._connection is not None:
            fork_hooks.abandon(self._connection)
            self._log = self._connection = None
            self._is_closed = True
            self.trouble = "the process was forked with the file open"
            warn_once("spool:inherited", "spancast: %s; its records stay in memory until delivered", self.trouble)
        self._pid = os.getpid()

    def _lose(self, error: Exception) -> None:
        self.pause()
        self.trouble = f"{type(error).__name__}: {error}"
        self._pause_s = min(_LONGEST_PAUSE_S, max(1.0, 2 * self._pause_s))
        self._retry_s = self._clock() + self._pause_s
        counters.add("spool.unavailable")
        warn_once(
            f"spool:{self._file.path}:{self.trouble}",
            "spancast: the spool %s cannot be used (%s); records are kept in memory, bounded, until it can",
            self._file.path,
            self.trouble,
        )

    def _set_aside(self, error: Exception) -> None:
        self.pause()
        aside = self._file.set_aside(self._clock())
        if aside is None:
            return
        counters.add("spool.corrupt_files")
        saved = self._salvage(aside)
        logger.error(
            "spancast: the spool %s is damaged (%s); it is kept as %s, a new one was begun with %d records that could"
            " be read and still waited",
            self._file.path,
            error,
            aside.name,
            saved,
        )

    def _salvage(self, aside: Path) -> int:
        log = self._opened()
        saved = 0
        with contextlib.suppress(sqlite3.DatabaseError), contextlib.closing(connect_damaged(aside)) as connection:
            for chunk in pending_records(connection):
                log.adopt(chunk)
                saved += len(chunk)
        return saved
