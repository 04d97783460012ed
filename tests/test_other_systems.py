"""Windows and macOS, simulated on Linux: the functions and rules that differ are removed or replaced in a subprocess.

This is no test on those systems. It finds what needs a function that they lack, or breaks a rule of theirs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.destinations.otlp_receiver import OtlpReceiver
from tests.test_start_up import NO_UNIX, program, run, warnings

from spancast.testing import ReplayServer

WINDOWS = f"""
import asyncio, multiprocessing, socketserver, subprocess  # of the standard library, made for this system
{NO_UNIX}
import io, signal
for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGCHLD", "pthread_kill"):
    delattr(signal, name)
for name in ("execve", "getppid", "killpg", "setsid", "mkfifo", "statvfs"):
    delattr(os, name)

# A file that is open can be neither renamed, replaced nor removed.
def is_open(path):
    return any(os.path.realpath(f"/proc/self/fd/{{one}}") == os.path.realpath(path) for one in os.listdir("/proc/self/fd"))
def unless_open(function):
    def refused(path, *more, **options):
        if is_open(path) or any(is_open(one) for one in more):
            raise PermissionError(13, "The process cannot access the file because it is being used", str(path))
        return function(path, *more, **options)
    return refused
for name in ("rename", "replace", "unlink", "remove"):
    setattr(os, name, unless_open(getattr(os, name)))

# A descriptor that is not opened as binary gets two characters for each end of a line.
os.O_BINARY = 1 << 30
as_text, posix_open, posix_write = set(), os.open, os.write
def open_(path, flags, *more, **options):
    number = posix_open(path, flags & ~os.O_BINARY, *more, **options)
    (as_text.discard if flags & os.O_BINARY else as_text.add)(number)
    return number
def write(number, data):
    if number not in as_text:
        return posix_write(number, data)
    posix_write(number, bytes(data).replace(b"\\n", b"\\r\\n"))
    return len(data)
os.open, os.write = open_, write
"""

MACOS = """
import io, os, pathlib
def without_proc(function):
    def refused(path, *more, **options):
        if str(path).startswith("/proc"):
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return function(path, *more, **options)
    return refused
for owner, name in ((os, "open"), (os, "stat"), (os, "readlink"), (os, "listdir"), (io, "open")):
    setattr(owner, name, without_proc(getattr(owner, name)))
for name in ("fdatasync", "posix_fadvise", "posix_fallocate", "sched_getaffinity", "pipe2", "memfd_create"):
    delattr(os, name)
"""

SYSTEMS = pytest.mark.parametrize("system", [WINDOWS, MACOS], ids=["windows", "macos"])


def command(system: str, *words: str, folder: Path, status: int = 0, **variables: str) -> str:
    """Run a command of spancast on ``system``; return what it prints to stdout."""
    code = f"{system}\nimport os, sys\nos.chdir({str(folder)!r})\nfrom spancast.cli import main\nsys.exit(main({list(words)!r}))"
    completed = run(code, XDG_STATE_HOME=str(folder / "state"), **variables)
    assert completed.returncode == status, completed.stdout + completed.stderr
    assert "Traceback" not in completed.stderr
    return completed.stdout


def test_simulation_has_the_rules_of_windows(tmp_path: Path) -> None:
    code = (
        f"{WINDOWS}\nimport os, pathlib, sys\npath = pathlib.Path(sys.argv[1])\n"
        "number = os.open(path, os.O_WRONLY | os.O_CREAT)\n"
        "try:\n    path.rename(path.with_name('other'))\nexcept PermissionError:\n    print('refused')\n"
        "os.write(number, b'a\\n')\nos.close(number)\npath.rename(path.with_name('other'))\n"
        "print(path.with_name('other').read_bytes())\n"
    )
    assert run(code, str(tmp_path / "one")).stdout == "refused\nb'a\\r\\n'\n"


@SYSTEMS
def test_calls_are_recorded_spooled_and_delivered(
    system: str, server: ReplayServer, receiver: OtlpReceiver, tmp_path: Path
) -> None:
    destinations = {
        "one": {"type": "otlp", "endpoint": receiver.url},
        "file": {"type": "file", "path": str(tmp_path / "spans.jsonl")},
        "store": {"type": "store", "path": str(tmp_path / "spans.db")},
        "rows": {"type": "parquet", "path": str(tmp_path / "rows")},
    }
    completed = run(
        program(system, {"destinations": destinations}), server.base_url, XDG_STATE_HOME=str(tmp_path / "state")
    )
    assert completed.stdout.startswith("True "), completed.stdout + completed.stderr
    assert completed.stdout.count(" 2 delivered, 0 queued, 0 dead-lettered") == len(destinations)
    assert warnings(completed) == []
    assert len(receiver.spans) == 2
    assert b"\r" not in (tmp_path / "spans.jsonl").read_bytes()


@SYSTEMS
def test_next_process_delivers_what_is_in_the_spool(
    system: str, server: ReplayServer, receiver: OtlpReceiver, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    (tmp_path / "gone").write_text("in the way")
    away: dict[str, Any] = {"away": {"type": "file", "path": str(tmp_path / "gone" / "spans.jsonl")}}
    code = program(system, {"destinations": away}).replace("flush(20)", "flush(0.5)")
    completed = run(code, server.base_url, XDG_STATE_HOME=str(state))
    assert completed.stdout.startswith("False away: 0 delivered, 2 queued"), completed.stdout + completed.stderr
    (tmp_path / "gone").unlink()
    (tmp_path / "spancast.yaml").write_text(json.dumps({"destinations": away}))
    command(system, "spool", "flush", "away", "--timeout", "60s", folder=tmp_path)
    assert len((tmp_path / "gone" / "spans.jsonl").read_text().splitlines()) >= 1
    spool = json.loads(command(system, "spool", "--json", folder=tmp_path))
    assert spool["destinations"]["away"]["delivered"] == 2


@SYSTEMS
def test_file_is_rotated(system: str, server: ReplayServer, tmp_path: Path) -> None:
    file = {"type": "file", "path": str(tmp_path / "spans.jsonl"), "max_bytes": 1, "keep": 2}
    twice = "    client.chat.completions.create(model='m', messages=[])\n    assert spancast.flush(20)\nreport ="
    code = program(system, {"destinations": {"file": file}})
    code = code.replace("report =", twice, 1)
    completed = run(code, server.base_url, XDG_STATE_HOME=str(tmp_path / "state"))
    assert completed.stdout.startswith("True file: "), completed.stdout + completed.stderr
    assert warnings(completed) == []
    assert (tmp_path / "spans.jsonl.1").is_file()


@SYSTEMS
def test_damaged_spool_does_not_stop_the_program(
    system: str, server: ReplayServer, receiver: OtlpReceiver, tmp_path: Path
) -> None:
    spool = tmp_path / "state" / "spancast" / "spool.sqlite3"
    spool.parent.mkdir(parents=True)
    spool.write_bytes(b"no database at all, but long enough to look like one" * 100)
    completed = run(
        program(system, {"destinations": {"one": {"type": "otlp", "endpoint": receiver.url}}}),
        server.base_url, XDG_STATE_HOME=str(tmp_path / "state"),
    )  # fmt: skip
    assert completed.stdout.startswith("True one: 2 delivered"), completed.stdout + completed.stderr
    assert len(receiver.spans) == 2
    assert list(spool.parent.glob("spool.sqlite3.damaged-*"))


@SYSTEMS
def test_commands_work(system: str, tmp_path: Path) -> None:
    assert "Stored in " in command(system, "demo", folder=tmp_path)
    assert "Support" in command(system, "traces", folder=tmp_path)
    [trace] = json.loads(command(system, "traces", "--json", folder=tmp_path))
    assert "classify" in command(system, "show", trace["trace_id"], folder=tmp_path)
    report = json.loads(command(system, "report", "--json", folder=tmp_path))
    assert report["store"]["spans"] > 0
    (tmp_path / "spancast.yaml").write_text("destinations: {here: {type: file, path: spans.jsonl}}\n")
    assert "ok    here (file)" in command(system, "check", folder=tmp_path)


@SYSTEMS
def test_run_waits_for_the_program_and_has_its_status(system: str, tmp_path: Path) -> None:
    program_of = [sys.executable, "-c", "import sys; print('ran'); sys.exit(7)"]
    assert command(system, "run", "--", *program_of, folder=tmp_path, status=7) == "ran\n"


@pytest.fixture
def receiver() -> Any:
    with OtlpReceiver() as running:
        yield running


def test_simulations_are_called_so() -> None:
    page = (Path(__file__).parents[1] / "docs" / "versions.md").read_text()
    section = page.partition("## Windows and macOS")[2]
    assert "simulat" in section.partition("\n\n")[2].partition("\n\n")[0]
