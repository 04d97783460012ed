"""OTLP JSON lines in a file: one ``ExportTraceServiceRequest`` a line, whole or not at all.

Source: OpenTelemetry's file exporter (one JSON object a line). The file is the user's only
(mode 0600); processes that share it take turns by a lock.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from spancast.destinations.config import DestinationConfig
from spancast.destinations.field_types import ByteSize, is_usable_path
from spancast.destinations.path_templates import DATE_NAMES, date_values, template_of
from spancast.destinations.place import Place, absolute
from spancast.destinations.protocol import Delivered, Encoder, Outcome, Payload, Retry

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_MODE: Final = 0o600
_DIRECTORY_MODE: Final = 0o700
_PathTemplate = Annotated[
    str, AfterValidator(template_of(*DATE_NAMES)), AfterValidator(is_usable_path), Field(min_length=1)
]


class FileConfig(DestinationConfig, frozen=True):
    """A file of OTLP JSON lines."""

    type: Literal["file"]
    path: _PathTemplate = Field(description="Path of the file; may hold {date}, {year}, {month} and {day} (UTC).")
    max_bytes: ByteSize | None = Field(None, description="A file about to grow over this becomes `….1`, and so on.")
    keep: int = Field(5, ge=1, description="How many such files are kept; the oldest goes.")

    def place(self) -> Place:
        """Return the file, its dates left open."""
        return Place(address={"path": absolute(self.path)})


def _utc_now() -> datetime:
    return datetime.now(tz=UTC)


class FileDestination:
    """Appends batches to a file."""

    def __init__(self, config: FileConfig, encoder: Encoder, now: Callable[[], datetime] = _utc_now) -> None:
        self.encoder = encoder
        self._config = config
        self._now = now

    def deliver(self, payload: Payload, timeout_s: float) -> Outcome:  # noqa: ARG002 - a local write has no time limit
        """Append ``payload`` as a line; what the disk refuses is tried again."""
        return self._tried(lambda path: self._append(path, payload.json + b"\n"))

    def test_connection(self, timeout_s: float) -> Outcome:  # noqa: ARG002
        """Tell whether the file can be opened for writing."""
        return self._tried(lambda path: os.close(_open(path)))

    def close(self) -> None:
        """Do nothing: the file is open only while it is written."""

    def _tried(self, act: Callable[[Path], None]) -> Outcome:
        path = Path(self._config.path.format_map(date_values(self._now()))).expanduser()
        try:
            path.parent.mkdir(_DIRECTORY_MODE, parents=True, exist_ok=True)
            act(path)
        except OSError as error:
            return Retry(f"{path}: {error.strerror or type(error).__name__}")
        return Delivered()

    def _append(self, path: Path, line: bytes) -> None:
        handle = _locked(path)
        try:
            size = os.fstat(handle).st_size
            limit = self._config.max_bytes
            if limit is not None and size and size + len(line) > limit:
                _rotate(path, self._config.keep)
                os.close(handle)
                handle = _locked(path)
                size = os.fstat(handle).st_size
            _write(handle, line, size)
        finally:
            os.close(handle)


def _open(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, _MODE)


def _locked(path: Path) -> int:
    while True:
        handle = _open(path)
        try:
            if fcntl is not None:
                fcntl.flock(handle, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        except FileNotFoundError:
            pass
        except OSError:
            os.close(handle)
            raise
        # Whoever had the lock renamed the file: take the one that bears the name now.
        os.close(handle)


def _rotate(path: Path, keep: int) -> None:
    names = [path, *(path.with_name(f"{path.name}.{number}") for number in range(1, keep + 1))]
    # The name itself goes last: from then on others write, and this process no longer renames.
    for older, younger in zip(reversed(names), reversed(names[:-1]), strict=False):
        if younger.exists():
            younger.replace(older)


def _write(handle: int, line: bytes, size: int) -> None:
    try:
        rest = memoryview(line)
        while rest:
            rest = rest[os.write(handle, rest) :]
        os.fsync(handle)
    except OSError:
        # Half a line would spoil the next one.
        os.ftruncate(handle, size)
        raise
