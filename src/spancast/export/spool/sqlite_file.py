"""The spool's file: made private, opened once at a time, set aside when damaged.

Must never: delete a file with records in it.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Generator
from pathlib import Path
from typing import TypeAlias

from spancast.export.spool.sqlite_schema import connect

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_PRIVATE = 0o600
_PRIVATE_FOLDER = 0o700
_SUFFIXES = ("", "-wal", "-shm")
_Identity: TypeAlias = "tuple[int, int]"
_NO_FILE: _Identity = (0, 0)
_POLL_S = 0.01


class SpoolFile:
    """One path, and which file was last opened there.

    Methods raise OSError or sqlite3.Error. ``<path>.lock`` keeps two processes from making the
    tables, or setting the file aside, at once.
    """

    def __init__(self, path: Path, busy_timeout_s: float) -> None:
        self.path = path
        self._busy_timeout_s = busy_timeout_s
        self._identity = _NO_FILE
        self._companions: dict[str, _Identity] = {}

    def open(self) -> sqlite3.Connection:
        """Make what is missing, readable by its owner alone, and open it."""
        self.path.parent.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
        with self._locked():
            _make_private(self.path)
            self._identity = _identity_of(self.path)
            connection = connect(self.path, self._busy_timeout_s)
            # SQLite gives both companions the mode of the file, unless they are of an earlier time.
            for suffix in _SUFFIXES[1:]:
                with contextlib.suppress(OSError):
                    _companion(self.path, suffix).chmod(_PRIVATE)
                self._companions[suffix] = _identity_of(_companion(self.path, suffix))
        return connection

    def remove_companions(self) -> None:
        """Remove the log of a file that was replaced: SQLite would write it over the new file.

        To be called while the former file is open: else another file may have got the number of the log's.
        """
        for suffix, known in self._companions.items():
            companion = _companion(self.path, suffix)
            if known == _identity_of(companion) != _NO_FILE:
                companion.unlink(missing_ok=True)

    @property
    def identity(self) -> str:
        """Return which file was last opened, as text."""
        return "{:x}.{:x}".format(*self._identity)

    def has_moved(self) -> bool:
        """Tell whether the path no longer names the file that was opened."""
        return _identity_of(self.path) != self._identity

    def set_aside(self, now_s: float) -> Path | None:
        """Rename the damaged file with its companions; None if another process has done so already."""
        with self._locked():
            if self.has_moved():
                return None
            aside = self._free_name(now_s)
            # The companions first: a file without its log is older, a log without its file is nothing.
            for suffix in reversed(_SUFFIXES):
                with contextlib.suppress(FileNotFoundError):
                    _companion(self.path, suffix).rename(_companion(aside, suffix))
        return aside

    def _free_name(self, now_s: float) -> Path:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_s))
        aside = self.path.with_name(f"{self.path.name}.damaged-{stamp}")
        count = 1
        while aside.exists():
            count += 1
            aside = self.path.with_name(f"{self.path.name}.damaged-{stamp}-{count}")
        return aside

    @contextlib.contextmanager
    def _locked(self) -> Generator[None, None, None]:
        if fcntl is None:
            yield
            return
        lock = _companion(self.path, ".lock")
        _make_private(lock)
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
            yield


def _identity_of(path: Path) -> _Identity:
    try:
        status = os.stat(path)  # noqa: PTH116 - asked at every use, and a third of what Path's costs
    except FileNotFoundError:
        return _NO_FILE
    return status.st_dev, status.st_ino


def _companion(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _make_private(path: Path) -> None:
    try:
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, _PRIVATE)
    except FileExistsError:
        # Not opened to be changed: closing a second handle of a file drops the locks SQLite holds on it.
        with contextlib.suppress(PermissionError):
            path.chmod(_PRIVATE)
        return
    try:
        if hasattr(os, "fchmod"):  # the umask may have taken bits away
            os.fchmod(number, _PRIVATE)
    finally:
        os.close(number)
