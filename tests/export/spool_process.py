"""Another process on the same spool: ``spool_process.py WHAT PATH [ARGUMENT]``; see ``WHATS``."""

from __future__ import annotations

import os
import resource
import sys
import time
from pathlib import Path

from tests.export.spool_records import deliver, numbers, record, records

from spancast.diagnostics import counters
from spancast.export.spool.disk import SqliteSpool

MIB = 1 << 20


def opened(path: Path) -> SqliteSpool:
    return SqliteSpool(path, max_bytes=1 << 30, max_age_s=1e9)


def say(*words: object) -> None:
    os.write(1, " ".join(map(str, words)).encode() + b"\n")


def claim_and_die(path: Path, _: str) -> None:
    lease = opened(path).lease("a", max_records=3, max_bytes=MIB, now_s=time.time())
    say(*numbers(lease))
    os._exit(0)


def claim_and_stay(path: Path, _: str) -> None:
    lease = opened(path).lease("a", max_records=3, max_bytes=MIB, now_s=time.time())
    say(*numbers(lease))
    sys.stdin.read()


def drain(path: Path, argument: str) -> None:
    """Deliver until ARGUMENT records of route "a" were served by anyone; say each lease before and after."""
    spool = opened(path)
    while spool.state("a").delivered < int(argument):
        lease = spool.lease("a", max_records=7, max_bytes=MIB, now_s=time.time())
        if lease is None:
            continue
        say("begin", time.monotonic_ns(), *numbers(lease))
        spool.ack(lease)
        say("end", time.monotonic_ns())
    spool.close()


def put(path: Path, argument: str) -> None:
    spool = opened(path)
    spool.register(["a"])
    first = int(argument)
    for start in range(first, first + 500, 5):
        spool.put(records(range(start, start + 5)), {})
    spool.close()


def fork_without_hooks(path: Path, _: str) -> None:
    """Fork as uWSGI does, without Python's hooks."""
    import ctypes

    spool = opened(path)
    spool.register(["a"])
    spool.put(records(range(3)), {})
    fork = ctypes.PyDLL(None).fork
    child = fork()
    if child == 0:
        spool.put(records(range(10, 13)), {})
        say("child", *deliver(spool, "a", time.time()), spool.usage().error)
        os._exit(0)
    os.waitpid(child, 0)
    say("parent", *deliver(spool, "a", time.time()))


def fill(path: Path, argument: str) -> None:
    """Put ARGUMENT records on a small file system, deliver all and print the result."""
    spool = opened(path)
    spool.register(["a"])
    count = int(argument)
    for number in range(count):
        spool.put([record(number, size=20_000)], {})
    size = spool.usage()
    say("in_memory", size.in_memory, "error", size.error)
    say("delivered", *deliver(spool, "a", time.time()))
    for filler in path.parent.glob("filler*"):
        filler.unlink()
    spool._retry_s = 0.0
    say("later", *deliver(spool, "a", time.time()))
    assert spool.usage().in_memory == 0, counters.read()
    spool.close()


def limit_files(path: Path, argument: str) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, resource.RLIM_INFINITY))
    fill(path, argument)


WHATS = {
    work.__name__: work for work in (claim_and_die, claim_and_stay, drain, put, fork_without_hooks, fill, limit_files)
}

if __name__ == "__main__":
    WHATS[sys.argv[1]](Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "")
