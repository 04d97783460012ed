"""The long form of the attacks: ``make attacks``, or ``python -m tests.attacks NAME[=TIMES] ...``.

Each attack fails if a promise is broken. Its row goes to ``results.json``, and all rows to the table of
docs/reliability.md.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from opentelemetry.sdk.trace import TracerProvider
from tests.attacks import calls, content, corruption, failing_disk, large, lifecycle, processes, traces

import spancast
from spancast.destinations.protocol import Payload
from spancast.testing import ReplayServer, captured_spans

RESULTS: Final = Path(__file__).with_name("results.json")
PAGE: Final = Path(__file__).parents[2] / "docs" / "reliability.md"
_WARM_CALLS: Final = 50_000
_TABLE: Final = re.compile(r"(<!-- attacks -->\n).*?(<!-- end -->)", re.DOTALL)


def call(_: Path, times: int) -> str:
    """Calls of every SDK with answers that are often broken, each without and with spancast"""
    gc.collect()
    gc.freeze()
    with ReplayServer() as server, captured_spans() as spans:
        count, wrong = asyncio.run(calls.trials(server, spans, range(times)))
    assert not wrong, wrong
    sdks = len({driver.sdk for driver in calls.ATTACKED})
    return (
        f"{count:,} calls, {len(calls.ATTACKED)} methods of {sdks} SDKs: same result or error, same request, one span"
        " each with every text that arrived"
    )


def size(folder: Path, times: int) -> str:
    """Very large answers: whole, as a stream of the SDK, and as raw lines"""
    found: list[str] = []
    for kind, of_kind, name in (
        ("whole", times << 20, f"{times} MiB whole"),
        ("chunks", 500 * times, f"{500 * times:,} chunks"),
        ("lines", 5_000 * times, f"{5_000 * times:,} chunks as lines"),
    ):
        bare, traced = (large.measure(kind, way, of_kind, folder) for way in ("bare", "traced"))
        assert traced.arrived, (kind, traced)
        grown = (traced.most_bytes - bare.most_bytes) >> 20
        found.append(f"{name}: {grown:+} MiB (bare {bare.most_bytes >> 20}), thread {traced.call_s / bare.call_s:.2f}")
    return f"{'; '.join(found)}; each span arrived"


def private(_: Path, times: int) -> str:
    """Unknown fields at every level of recorded traffic of every dialect, in privacy mode and without content"""
    count, leaks = content.trials(range(times))
    assert not leaks, leaks
    return f"{count:,} requests, responses and streams of {len(content.DIALECTS)} dialects: no value of an unknown field passed"


def fuzz(_: Path, times: int) -> str:
    """Readers of every dialect, with mutated recordings"""
    place = Path(__file__).parents[1] / "dialects" / "test_mutated_recordings.py"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(place)]
    run = subprocess.run(
        command, env={**os.environ, "SPANCAST_FUZZ_EXAMPLES": str(times)}, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout[-5000:]
    return f"{times:,} examples per reader and property: no exception, no lost text, streamed equals whole"


def trace(_: Path, times: int) -> str:
    """Random programs of blocks, threads, tasks, generators and exceptions"""
    with captured_spans() as spans:
        count, wrong = traces.trials(spans, range(times))
    assert not wrong, wrong
    return f"{times:,} programs, {count:,} spans: the expected tree and sessions, nothing left current"


def corrupt(folder: Path, times: int) -> str:
    """A program starts on a spool that was damaged at rest"""
    counts = corruption.trials(folder, range(times))
    assert set(counts) == {"delivered"}, counts
    return f"{counts.total():,} starts, {counts.total() * corruption.NEW:,} new spans: all arrived, nothing was raised"


def kill(folder: Path, times: int) -> str:
    """`kill -9` at random moments, a receiver that fails one request in five"""
    found = processes.kill_9(folder, kills=times, spans=5_000)
    assert not found.lost, found
    return f"{found.kills} kills, {found.spooled:,} spooled spans: 0 lost, {found.twice:,} arrived twice"


def terminate(folder: Path, times: int) -> str:
    """SIGTERM while the program waits, and while it holds a lock of ours"""
    ways = [("term", "term in spool", "term in counters")[number % 3] for number in range(times)]
    found = [processes.sigterm(folder / str(number), how) for number, how in enumerate(ways)]
    assert set(found) == {(50, -15)}, found
    return f"{len(ways)} processes, {50 * len(ways):,} spans: all arrived, each ended by the signal"


def fork(folder: Path, times: int) -> str:
    """Forks on the main thread, other threads and our own, nested and by multiprocessing"""
    ways = [processes.FORKS[number % len(processes.FORKS)] for number in range(times)]
    found = [processes.fork(folder / str(number), where) for number, where in enumerate(ways)]
    assert set(found) == {(0, 0)}, found
    return f"{len(ways)} programs with threads in every child: 0 spans lost, 0 twice"


def configure(folder: Path, times: int) -> str:
    """`configure()` while four threads end spans"""
    found = lifecycle.configure_in_flight(folder, times)
    assert found.started == found.arrived == found.accounted, found
    return f"{times} times, {found.started:,} spans: each arrived once"


def cycle(folder: Path, times: int) -> str:
    """`configure()`, a call and `shutdown()`, again and again"""
    for _ in range(20):
        lifecycle.cycle(folder)
    before = lifecycle.footprint()
    for _ in range(times):
        lifecycle.cycle(folder)
    after = lifecycle.footprint()
    assert before[:2] == after[:2], (before, after)
    grown = (after.memory_bytes - before.memory_bytes) / 1024
    return f"{times} cycles: no thread and no descriptor more, {grown:+.0f} KiB of memory"


def read(folder: Path, times: int) -> str:
    """2 reads of the disk in 1,000 fail"""
    found = [failing_disk.trial(folder, seed, per_mille=2) for seed in range(1, times + 1)]
    assert all(one["arrived"] + one["counted"] == failing_disk.SPANS and not one["twice"] for one in found), found
    counted = sum(one["counted"] for one in found)
    return f"{len(found)} programs, {len(found) * failing_disk.SPANS:,} spans: {counted:,} counted as dropped, 0 silent, 0 twice"


class _Counting:
    place = "https://example.com/attack"

    def __init__(self) -> None:
        self.count = 0

    def deliver(self, payload: Payload, timeout_s: float) -> None:
        self.count += len(payload.spans)


def leak(folder: Path, times: int) -> str:
    """Memory and descriptors over many calls"""
    destination = _Counting()
    provider = TracerProvider(shutdown_on_exit=False)
    spancast.configure(
        tracer_provider=provider,
        spool={"path": str(folder), "max_bytes": "64MiB"},
        destinations={"one": {"type": destination, "spans": "all"}},
    )
    complete = spancast.instrument(lambda **_: "hi")
    asked = [{"role": "user", "content": "May I?"}]
    before = lifecycle.footprint()
    for number in range(times):
        if number == _WARM_CALLS:
            before = lifecycle.footprint()
        complete(model="m", messages=asked, session_id=f"s{number % 100}", trace={"trace_id": f"t{number // 3}"})
        if number % 1000 == 0:
            assert spancast.flush(60)
    assert spancast.flush(60)
    after = lifecycle.footprint()
    spancast.shutdown()
    assert (destination.count, after[:2]) == (times, before[:2]), (destination.count, before, after)
    grown = (after.memory_bytes - before.memory_bytes) / (1 << 20)
    return (
        f"each arrived once; from call {_WARM_CALLS:,} on no thread and no descriptor more, {grown:+.1f} MiB of memory"
    )


ATTACKS: Final[Mapping[Callable[[Path, int], str], int]] = {
    call: 100,
    size: 200,
    fuzz: 1_000,
    private: 100,
    trace: 5_000,
    corrupt: 1500,
    kill: 30,
    terminate: 30,
    fork: 18,
    configure: 100,
    cycle: 100,
    read: 8,
    leak: 300_000,
}
"""How often each is tried."""


def main(names: Sequence[str]) -> None:
    known = {attack.__name__: attack for attack in ATTACKS}
    for name, _, times in [one.partition("=") for one in names or known]:
        with tempfile.TemporaryDirectory() as folder:
            result = known[name](Path(folder), int(times or ATTACKS[known[name]]))
        row = {"result": result, "date": f"{dt.datetime.now(tz=dt.UTC):%Y-%m-%d}", "machine": _machine()}
        rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        RESULTS.write_text(json.dumps({**rows, name: row}, indent=1) + "\n")
        sys.stdout.write(f"{known[name].__doc__}: {result}\n")
        sys.stdout.flush()
    PAGE.write_text(_TABLE.sub(lambda match: f"{match[1]}{table()}\n{match[2]}", PAGE.read_text()))


def table() -> str:
    """Return the table of the stored results."""
    rows = json.loads(RESULTS.read_text())
    known = [(attack.__doc__, rows[attack.__name__]) for attack in ATTACKS if attack.__name__ in rows]
    lines = ["| attack | result | date |", "|---|---|---|"]
    lines += [f"| {what} | {row['result']} | {row['date']} |" for what, row in known]
    machines = sorted({row["machine"] for row in rows.values()})
    return "\n".join([*lines, "", f"Machine: {'; '.join(machines)}."])


def _machine() -> str:
    return f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"


if __name__ == "__main__":
    main(sys.argv[1:])
