from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.destinations.payloads import ENCODER, payload
from tests.waiting_children import waiting_children

from spancast.destinations import file
from spancast.destinations.file import FileConfig, FileDestination
from spancast.destinations.protocol import Delivered, Retry

AT = datetime(2026, 9, 29, 12, tzinfo=UTC)


def destination(path: Path | str, **others: Any) -> FileDestination:
    return FileDestination(
        FileConfig.model_validate({"type": "file", "path": str(path), **others}), ENCODER, lambda: AT
    )


def test_deliver_writes_a_line_per_batch_readable_only_by_the_owner(tmp_path: Path) -> None:
    path = tmp_path / "new" / "spans.jsonl"
    to = destination(path)
    assert to.test_connection(1) == Delivered()
    assert [to.deliver(payload(), 1), to.deliver(payload(), 1)] == [Delivered(), Delivered()]
    to.close()
    lines = path.read_bytes().splitlines()
    assert len(lines) == 2
    assert json.loads(lines[0])["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["name"] == "Extract Order Details"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_path_with_date_placeholders_is_filled(tmp_path: Path) -> None:
    destination(tmp_path / "{year}/{month}-{day}/{date}.jsonl").deliver(payload(), 1)
    assert (tmp_path / "2026" / "09-29" / "2026-09-29.jsonl").exists()


@pytest.mark.parametrize("path", ["{hour}.jsonl", "{date!r}", "{date:x}", "{", "{0}", ""])
def test_path_with_unknown_placeholder_raises(path: str) -> None:
    with pytest.raises(ValueError, match=r"must be a template with the placeholders \{date\}|at least 1"):
        FileConfig.model_validate({"type": "file", "path": path})


def test_rotation_keeps_the_configured_number_of_files(tmp_path: Path) -> None:
    path = tmp_path / "spans.jsonl"
    to = destination(path, max_bytes=10, keep=2)
    for number in range(5):
        to.deliver(payload(), 1)
        assert path.exists(), number
    assert sorted(file.name for file in tmp_path.iterdir()) == ["spans.jsonl", "spans.jsonl.1", "spans.jsonl.2"]
    assert all(len(file.read_bytes().splitlines()) == 1 for file in tmp_path.iterdir())


def test_deliver_on_full_disk_is_retried_without_partial_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "spans.jsonl"
    to = destination(path)
    to.deliver(payload(), 1)
    before = path.read_bytes()
    write = os.write

    def full(handle: int, data: Any) -> int:
        if len(data) < 100:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(handle, bytes(data[: len(data) - 50]))

    monkeypatch.setattr(os, "write", full)
    assert to.deliver(payload(), 1) == Retry(f"{path}: No space left on device")
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert to.deliver(payload(), 1) == Delivered()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full does not exist")
def test_file_that_cannot_be_opened_after_its_rotation_closes_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of a closed descriptor may belong to another thread by then."""
    to, really, opened = destination(tmp_path / "spans.jsonl", max_bytes=10), file._open, list[int]()
    assert to.deliver(payload(), 60) == Delivered()
    closed: list[int] = []

    def open_once(path: Path) -> int:
        if opened:
            raise OSError(errno.EMFILE, "Too many open files")
        opened.append(really(path))
        return opened[0]

    with monkeypatch.context() as patched:
        patched.setattr(file, "_open", open_once)
        patched.setattr(file.os, "close", lambda handle, close=os.close: (closed.append(handle), close(handle)))
        outcome = to.deliver(payload(), 60)
    assert isinstance(outcome, Retry)
    assert "Too many open files" in outcome.reason
    assert closed == opened
    assert to.deliver(payload(), 60) == Delivered()


def test_child_that_was_forked_during_a_write_does_not_keep_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "spans.jsonl"
    with waiting_children() as fork:
        with monkeypatch.context() as patched:
            patched.setattr(file.os, "fsync", lambda _: fork())
            assert destination(path).deliver(payload(), 1) == Delivered()
        with path.open("rb") as other:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_child_that_was_forked_before_a_renamed_file_is_left_does_not_keep_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, renamed = tmp_path / "spans.jsonl", tmp_path / "spans.jsonl.1"
    lock = fcntl.flock
    with waiting_children() as fork:

        def renamed_under_the_lock(handle: int, how: int) -> None:
            lock(handle, how)
            if how == fcntl.LOCK_EX and not renamed.exists():
                path.rename(renamed)
                fork()

        monkeypatch.setattr(file.fcntl, "flock", renamed_under_the_lock)
        assert destination(path).deliver(payload(), 1) == Delivered()
        with renamed.open("rb") as other:
            lock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert (path.read_bytes().count(b"\n"), renamed.read_bytes()) == (1, b"")


def test_deliver_to_dev_full_is_retried() -> None:
    outcome = destination("/dev/full").deliver(payload(), 1)
    assert isinstance(outcome, Retry)


def test_deliver_without_creatable_directory_is_retried(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    outcome = destination(tmp_path / "file" / "spans.jsonl").deliver(payload(), 1)
    assert isinstance(outcome, Retry)
    assert str(tmp_path / "file" / "spans.jsonl") in outcome.reason


_WRITER = """
import sys
from tests.destinations.test_file import destination
from tests.destinations.payloads import payload
to = destination(sys.argv[1], max_bytes=20_000, keep=100)
for _ in range(40):
    assert not hasattr(to.deliver(payload(), 1), "reason")
"""


def test_deliver_from_several_processes_with_rotation_keeps_all_lines(tmp_path: Path) -> None:
    path = tmp_path / "spans.jsonl"
    root = Path(__file__).parents[2]
    writers = [subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], cwd=root) for _ in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    lines = [line for file in tmp_path.iterdir() for line in file.read_bytes().splitlines()]
    assert len(lines) == 120
    assert all(json.loads(line)["resourceSpans"] for line in lines)
