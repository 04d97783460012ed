"""Files that only their owner can read: created so, and made so if they exist.

Others may have put something at the path: a link to a file of this user, or a file of their own that they can read.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

PRIVATE: Final = 0o600
_OTHERS: Final = 0o077
_NO_FOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)
_BINARY: Final = getattr(os, "O_BINARY", 0)
"""Without it, Windows writes two characters for the end of a line."""


def create_private(path: Path) -> None:
    """Create ``path`` with mode 0600, or give it this mode.

    An existing file is not opened: closing a second handle of a file drops the locks that SQLite holds on it.

    Raises:
        OSError: It cannot be created, or it is a link, no file, or another user's.
    """
    while True:
        try:
            number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _NO_FOLLOW, PRIVATE)
            break
        except FileExistsError:
            # Another process may rename it in between: then there is none again.
            with suppress(FileNotFoundError):
                return make_private(path)
    try:
        if hasattr(os, "fchmod"):  # the umask may have cleared bits
            os.fchmod(number, PRIVATE)
    finally:
        os.close(number)


def make_private(path: Path) -> None:
    """Give the file at ``path`` the mode 0600.

    Raises:
        OSError: There is none, or it is a link, no file, or another user's.
    """
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        raise _refused(path, "is a symbolic link, which is not followed; name the file itself")
    if not stat.S_ISREG(status.st_mode):
        raise _refused(path, "is not a file")
    if hasattr(os, "geteuid") and status.st_uid != os.geteuid():
        raise _refused(path, "belongs to another user")
    if status.st_mode & _OTHERS:
        path.chmod(PRIVATE)


def open_private(path: Path, flags: int) -> int:
    """Return a descriptor of ``path``, which is created if it is missing; a device or a pipe is opened as it is.

    Raises:
        OSError: As ``create_private``.
    """
    if path.exists() and not path.is_file():
        return os.open(path, flags | _BINARY)
    create_private(path)
    # Another process may have renamed it since.
    return os.open(path, flags | os.O_CREAT | _NO_FOLLOW | _BINARY, PRIVATE)


def _refused(path: Path, reason: str) -> OSError:
    return PermissionError(errno.EPERM, reason, str(path))
