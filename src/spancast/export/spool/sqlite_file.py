"""The file of a spool: created readable by its owner alone, opened under a lock, renamed if damaged.

Files with records are renamed, not deleted.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Generator
from pathlib import Path
from typing import TypeAlias

from spancast.destinations.private_file import create_private, make_private
from spancast.export.spool.sqlite_schema import connect

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_PRIVATE_FOLDER = 0o700
_SUFFIXES = ("", "-wal", "-shm")
_Identity: TypeAlias = "tuple[int, int]"
_NO_FILE: _Identity = (0, 0)
_POLL_S = 0.01


class SpoolFile:
    """A path and the identity of the file last opened there.

    Methods raise OSError or sqlite3.Error. ``<path>.lock`` keeps two processes from creating the tables, or renaming
    the file, at the same time.
    """

    def __init__(self, path: Path, busy_timeout_s: float) -> None:
        self.path = path
        self._busy_timeout_s = busy_timeout_s
        self._identity = _NO_FILE
        self._companions: dict[str, _Identity] = {}

    def open(self) -> sqlite3.Connection:
        """Open the file; create the folder and the file if missing, accessible by the owner alone."""
        self.path.parent.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
        with self._locked():
            create_private(self.path)
            self._identity = _identity_of(self.path)
            connection = connect(self.path, self._busy_timeout_s)
            # SQLite gives new -wal and -shm files the mode of the file; older ones may have another.
            for suffix in _SUFFIXES[1:]:
                with contextlib.suppress(OSError):
                    make_private(_companion(self.path, suffix))
                self._companions[suffix] = _identity_of(_companion(self.path, suffix))
        return connection

    def remove_wal_files(self) -> None:
        """Remove the write-ahead log of a file that was replaced: SQLite would apply it to the new file.

        Call it while the former file is open: otherwise another file may have the inode number of its log.
        """
        for suffix, known in self._companions.items():
            companion = _companion(self.path, suffix)
            if known == _identity_of(companion) != _NO_FILE:
                companion.unlink(missing_ok=True)

    @property
    def identity(self) -> str:
        """Return the identity (device and inode) of the file last opened, as text."""
        return "{:x}.{:x}".format(*self._identity)

    def has_moved(self) -> bool:
        """Return whether the path no longer names the file that was opened."""
        return _identity_of(self.path) != self._identity

    def quarantine(self, now_s: float) -> Path | None:
        """Rename the damaged file with its -wal and -shm files; return None if another process has renamed it."""
        with self._locked():
            if self.has_moved():
                return None
            renamed = self._free_name(now_s)
            # The file last: a database without its write-ahead log is an older one, the log alone is useless.
            for suffix in reversed(_SUFFIXES):
                with contextlib.suppress(FileNotFoundError):
                    _companion(self.path, suffix).rename(_companion(renamed, suffix))
        return renamed

    def _free_name(self, now_s: float) -> Path:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_s))
        renamed = self.path.with_name(f"{self.path.name}.damaged-{stamp}")
        count = 1
        while renamed.exists():
            count += 1
            renamed = self.path.with_name(f"{self.path.name}.damaged-{stamp}-{count}")
        return renamed

    @contextlib.contextmanager
    def _locked(self) -> Generator[None, None, None]:
        if fcntl is None:
            yield
            return
        lock = _companion(self.path, ".lock")
        create_private(lock)
        deadline_s = time.monotonic() + self._busy_timeout_s
        with lock.open("rb") as held:
            while True:
                try:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline_s:
                        raise
                    time.sleep(_POLL_S)
            try:
                yield
            finally:
                # Closing is not enough: a child that was forked meanwhile has the lock, too, until it ends.
                fcntl.flock(held, fcntl.LOCK_UN)


def _identity_of(path: Path) -> _Identity:
    try:
        status = os.stat(path)  # noqa: PTH116 - runs at every use, in a third of the time of Path.stat
    except FileNotFoundError:
        return _NO_FILE
    return status.st_dev, status.st_ino


def _companion(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
