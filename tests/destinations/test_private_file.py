"""Files of ours: only their owner can read them, and nothing that others put at the path is opened or changed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.destinations.payloads import ENCODER, payload

from spancast.destinations.file import FileConfig, FileDestination
from spancast.destinations.local_store import StoreConfig, StoreDestination
from spancast.destinations.private_file import create_private
from spancast.destinations.protocol import Delivered, Outcome, Retry
from spancast.export.spool.disk import SqliteSpool


def to_file(path: Path) -> Outcome:
    return FileDestination(FileConfig(type="file", path=str(path)), ENCODER).deliver(payload(), 1)


def to_store(path: Path) -> Outcome:
    return StoreDestination(StoreConfig(type="store", path=path), ENCODER).deliver(payload(), 1)


def to_spool(path: Path) -> Outcome:
    spool = SqliteSpool(path, max_bytes=1 << 28, max_age_s=1e9)
    error = spool.usage().error
    spool.close()
    return Retry(error) if error else Delivered()


WRITERS: list[Callable[[Path], Outcome]] = [to_file, to_store, to_spool]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("write", WRITERS)
def test_existing_file_is_made_private(write: Callable[[Path], Outcome], tmp_path: Path) -> None:
    path = tmp_path / "spans"
    path.touch()
    path.chmod(0o666)
    assert write(path) == Delivered()
    assert mode(path) == 0o600


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("exists", [True, False])
def test_link_is_not_followed(write: Callable[[Path], Outcome], exists: bool, tmp_path: Path) -> None:
    path, target = tmp_path / "spans", tmp_path / "target"
    if exists:
        target.write_text("of the user")
        target.chmod(0o644)
    path.symlink_to(target)
    assert "is a symbolic link" in str(write(path))
    assert (target.read_text(), mode(target)) == ("of the user", 0o644) if exists else not target.exists()


@pytest.mark.parametrize("suffix", [".lock", "-wal", "-shm"])
def test_link_beside_spool_keeps_mode_of_its_target(suffix: str, tmp_path: Path) -> None:
    path, target = tmp_path / "spool.sqlite3", tmp_path / "target"
    target.write_text("of the user")
    target.chmod(0o644)
    path.with_name(path.name + suffix).symlink_to(target)
    to_spool(path)
    assert (target.read_text(), mode(target)) == ("of the user", 0o644)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file of another user")
@pytest.mark.parametrize("write", WRITERS)
def test_file_of_another_user_is_refused(write: Callable[[Path], Outcome], tmp_path: Path) -> None:
    path = tmp_path / "spans"
    path.touch()
    path.chmod(0o666)
    os.chown(path, 65534, 65534)
    assert "belongs to another user" in str(write(path))
    assert path.read_bytes() == b""


def test_pipe_is_written_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path, 0o644)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        outcome: Any = FileDestination(FileConfig(type="file", path=str(path)), ENCODER).test_connection(1)
    finally:
        os.close(reader)
    assert outcome == Delivered()
    assert mode(path) == 0o644


def test_file_that_another_process_renames_all_the_time_is_created(tmp_path: Path) -> None:
    path = tmp_path / "spans.jsonl"
    code = "import os, sys\nprint('started', flush=True)\nwhile True:\n try: os.rename(sys.argv[1], sys.argv[1] + '.1')\n except OSError: pass"
    renamer = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    try:
        assert renamer.stdout is not None
        renamer.stdout.readline()
        for _ in range(20_000):
            create_private(path)
    finally:
        renamer.kill()
        renamer.communicate()
