"""The file destination: OTLP JSON lines, one complete ``ExportTraceServiceRequest`` per line.

Source: OpenTelemetry's file exporter. Only the user can read the file (mode 0600). Processes
that share it use a file lock.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from spancast.destinations.config import DestinationConfig, field_error
from spancast.destinations.field_types import ByteSize, check_path
from spancast.destinations.path_templates import DATE_NAMES, date_values, template_of
from spancast.destinations.place import Place, absolute
from spancast.destinations.private_file import open_private
from spancast.destinations.protocol import Delivered, Encoder, Outcome, Payload, Retry

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_DIRECTORY_MODE: Final = 0o700
_PathTemplate = Annotated[
    str, AfterValidator(template_of(*DATE_NAMES)), AfterValidator(check_path), Field(min_length=1)
]


class FileConfig(DestinationConfig, frozen=True):
    """A file of OTLP JSON lines."""

    type: Literal["file"]
    path: _PathTemplate = Field(description="Path of the file; may contain {date}, {year}, {month} and {day} (UTC).")
    max_bytes: ByteSize | None = Field(None, description="Size at which the file is rotated to `….1`, and so on.")
    keep: int = Field(5, ge=1, description="Number of rotated files kept.")

    @model_validator(mode="after")
    def _check_keep_is_used(self) -> FileConfig:
        if "keep" in self.model_fields_set and self.max_bytes is None:
            raise field_error(("max_bytes",), None, "is missing; `keep` needs it, as no other file is rotated")
        return self

    def place(self) -> Place:
        """Return the path with its date placeholders."""
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
        """Append ``payload`` as a line; a disk error gives ``Retry``."""
        return self._attempt(lambda path: self._append(path, payload.json + b"\n"))

    def test_connection(self, timeout_s: float) -> Outcome:  # noqa: ARG002
        """Return success if the file can be opened for writing."""
        return self._attempt(lambda path: os.close(_open(path)))

    def close(self) -> None:
        """Do nothing: the file is open only while it is written."""

    def _attempt(self, act: Callable[[Path], None]) -> Outcome:
        path = Path(self._config.path.format_map(date_values(self._now()))).expanduser()
        try:
            path.parent.mkdir(_DIRECTORY_MODE, parents=True, exist_ok=True)
            act(path)
        except OSError as error:
            return Retry(f"{path}: {error.strerror or type(error).__name__}")
        return Delivered()

    def _append(self, path: Path, line: bytes) -> None:
        limit = self._config.max_bytes
        if fcntl is None and limit is not None and path.is_file() and _is_full(path.stat().st_size, line, limit):
            # Windows renames no file that is open.
            _rotate(path, self._config.keep)
        with _locked(path) as handle:
            size = os.fstat(handle).st_size
            if fcntl is None or limit is None or not _is_full(size, line, limit):
                _write(handle, line, size)
                return
            # Under the lock, so that one process rotates it.
            _rotate(path, self._config.keep)
        with _locked(path) as handle:
            _write(handle, line, os.fstat(handle).st_size)


def _open(path: Path) -> int:
    return open_private(path, os.O_WRONLY | os.O_APPEND)


@contextlib.contextmanager
def _locked(path: Path) -> Generator[int, None, None]:
    handle = _open_locked(path)
    try:
        yield handle
    finally:
        _release(handle)


def _open_locked(path: Path) -> int:
    while True:
        handle = _open(path)
        try:
            if fcntl is not None:
                fcntl.flock(handle, fcntl.LOCK_EX)
            is_renamed = not os.path.samestat(os.fstat(handle), path.stat())
        except FileNotFoundError:
            is_renamed = True
        except OSError:
            os.close(handle)
            raise
        if not is_renamed:
            return handle
        # By the previous owner of the lock: open the new file of this name.
        _release(handle)


def _release(handle: int) -> None:
    if fcntl is not None:
        # Closing is not enough: a child that was forked meanwhile has the lock, too, until it ends.
        fcntl.flock(handle, fcntl.LOCK_UN)
    os.close(handle)


def _is_full(size: int, line: bytes, limit: int) -> bool:
    return bool(size) and size + len(line) > limit


def _rotate(path: Path, keep: int) -> None:
    names = [path, *(path.with_name(f"{path.name}.{number}") for number in range(1, keep + 1))]
    # The current file is renamed last: from then on other processes write to a new one.
    for older, younger in zip(reversed(names), reversed(names[:-1]), strict=False):
        if younger.exists():
            younger.replace(older)


def _write(handle: int, line: bytes, size: int) -> None:
    try:
        remaining = memoryview(line)
        while remaining:
            remaining = remaining[os.write(handle, remaining) :]
        os.fsync(handle)
    except OSError:
        # An incomplete line would make the next one invalid.
        os.ftruncate(handle, size)
        raise
