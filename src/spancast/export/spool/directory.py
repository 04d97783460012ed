"""The spool of a directory, and the one in memory."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Final

from spancast.export.spool.disk import SqliteSpool
from spancast.export.spool.memory import MemorySpool
from spancast.export.spool.protocol import Spool

SPOOL_FILE: Final = "spool.sqlite3"


def open_spool(directory: Path | None, max_bytes: int, max_age_s: float, keep_delivered_s: float = math.inf) -> Spool:
    """Return the spool in ``directory``, or a spool in memory if it is None.

    Delivered records are kept for ``keep_delivered_s``, for replays.

    Raises:
        ConfigError: The file was written by a newer spancast or by another program.
    """
    if directory is None:
        return MemorySpool(max_bytes, max_age_s=max_age_s, keep_delivered_s=keep_delivered_s)
    path = directory / SPOOL_FILE
    return SqliteSpool(path, max_bytes=max_bytes, max_age_s=max_age_s, keep_delivered_s=keep_delivered_s)


def unusable(directory: Path, max_bytes: int, max_age_s: float) -> str:
    """Return why the spool in ``directory`` can't be used, empty if it can; create nothing.

    Raises:
        ConfigError: As ``open_spool``.
    """
    if (directory / SPOOL_FILE).exists():
        spool = open_spool(directory, max_bytes, max_age_s)
        try:
            return spool.location()[1]
        finally:
            spool.close()
    folder = next(one for one in (directory, *directory.absolute().parents) if one.exists())
    if not folder.is_dir():
        return f"{folder} is not a directory"
    return "" if os.access(folder, os.W_OK | os.X_OK) else f"{folder} is not writable"
