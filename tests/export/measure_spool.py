"""Measure the spool: ``PYTHONPATH=src python tests/export/measure_spool.py [RECORDS] [ROUTES]``."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from spancast.export.spool.disk import SqliteSpool
from spancast.export.spool.memory import MemorySpool
from spancast.export.spool.protocol import Spool
from spancast.model.span_record import SpanRecord

BATCH = 256
BODY = 2048
WEEK_S = 7 * 86_400


def records(count: int) -> list[SpanRecord]:
    trace_id = os.urandom(16)
    made: list[SpanRecord] = []
    for index in range(count):
        if index % 5 == 0:
            trace_id = os.urandom(16)
        record = SpanRecord(
            trace_id=trace_id, span_id=os.urandom(8), parent_span_id=os.urandom(8), end_ns=time.time_ns(), is_genai=True,
            resource=b"resource" * 40, scope=b"scope" * 5, body=os.urandom(BODY),
        )  # fmt: skip
        made.append(record)
    return made


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measured(label: str, count: int, work: Callable[[], object]) -> None:
    started, before = time.perf_counter(), cpu_s()
    work()
    elapsed, cpu = time.perf_counter() - started, cpu_s() - before
    print(
        f"{label:<44}{count / elapsed:>10,.0f} records/s {count * BODY / elapsed / 1e6:>8.1f} MB/s"
        f" {elapsed:>8.3f} s {cpu / count * 1e6:>7.1f} us CPU/record"
    )


def put_all(spool: Spool, batches: list[list[SpanRecord]], skipped: dict[str, dict[int, str]]) -> None:
    for batch in batches:
        spool.put(batch, skipped)


def drain(spool: Spool, route: str) -> int:
    count = 0
    while lease := spool.lease(route, max_records=512, max_bytes=4 << 20, now_s=time.time()):
        spool.ack(lease)
        count += len(lease.entries)
    return count


def in_step(spool: Spool, batches: list[list[SpanRecord]], routes: list[str]) -> None:
    """Put and deliver batch by batch, as a process without trouble does."""
    for batch in batches:
        spool.put(batch, {})
        for route in routes:
            drain(spool, route)


def measure(count: int, routes: list[str], folder: Path) -> None:
    path = folder / "spool.db"
    batches = [records(BATCH) for _ in range(count // BATCH)]
    count = len(batches) * BATCH
    spool = SqliteSpool(path, max_bytes=8 << 30, max_age_s=WEEK_S)
    spool.register(routes)
    sampled = {routes[-1]: {index: "sampled out" for index in range(BATCH) if index % 100}}
    measured(f"put, {BATCH} at a time", count, lambda: put_all(spool, batches, sampled))
    print(f"{'file, bytes per record':<44}{path.stat().st_size / count:>10,.0f}")
    for label, name in (("lease + acknowledge, first route", routes[0]), ("the same, second route", routes[1])):
        measured(label, count, lambda name=name: drain(spool, name))
    measured("lease + acknowledge, 1% sampled", count, lambda: drain(spool, routes[-1]))
    measured("idle lease", 10_000, lambda: [drain(spool, routes[0]) for _ in range(10_000)])
    measured("state, all waiting", 1, lambda: print("   ", spool.state(routes[2]).queued, "waiting"))
    measured("find one trace", 1, lambda: spool.history(batches[-1][0].trace_id))
    measured("replay the whole past to a new route", count, lambda: spool.replay("new", 0, time.time() + 1))
    measured("lease + acknowledge of the replay", count, lambda: drain(spool, "new"))
    spool.close()
    for number in (1, len(routes)):
        fresh = SqliteSpool(folder / f"step-{number}.db", max_bytes=8 << 30, max_age_s=WEEK_S)
        fresh.register(routes[:number])
        measured(
            f"put, lease, acknowledge in step, {number} routes",
            count,
            lambda s=fresh, n=number: in_step(s, batches, routes[:n]),
        )
        fresh.close()
    full = SqliteSpool(folder / "full.db", max_bytes=count * BODY // 4, max_age_s=WEEK_S)
    full.register(routes[:1])
    measured("the same, full and evicting, 1 route", count, lambda: in_step(full, batches, routes[:1]))
    print(f"{'full file against its bound':<44}{full.usage().bytes_on_disk / (count * BODY // 4):>10.2f}")
    full.close()
    memory = MemorySpool(64 << 20)
    memory.register(routes[:1])
    measured("memory: put, lease, acknowledge, 1 route", count, lambda: in_step(memory, batches, routes[:1]))
    memory.close()


def measure_recovery(count: int, folder: Path) -> None:
    path = folder / "killed.db"
    program = Path(__file__).with_name("crash_writer.py")
    subprocess.run([sys.executable, program, path, "0", "--records", str(count), "--die"], check=False)
    started = time.perf_counter()
    spool = SqliteSpool(path, max_bytes=8 << 30, max_age_s=WEEK_S)
    opened = time.perf_counter()
    lease = spool.lease("a", max_records=512, max_bytes=4 << 20, now_s=time.time())
    leased = time.perf_counter()
    state = spool.state("a")
    print(
        f"after kill -9 with {state.queued:,} waiting: open {opened - started:.3f} s, first lease {leased - opened:.3f} s"
    )
    assert lease is not None
    spool.close()


if __name__ == "__main__":
    arguments = [int(text) for text in sys.argv[1:]]
    amount = arguments[0] if arguments else 100_000
    names = [f"route-{number}" for number in range(arguments[1] if len(arguments) > 1 else 8)]
    with tempfile.TemporaryDirectory() as temporary:
        measure(amount, names, Path(temporary))
        measure_recovery(amount, Path(temporary))
