"""The spool on disk: crashes, processes, forks, and disks that fail."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import sqlite3
import struct
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.export.spool_records import START_S, Clock, deliver, numbers, record, records, states_of, take
from tests.waiting_children import waiting_children

from spancast import diagnostics
from spancast.diagnostics import Count, counters
from spancast.errors import ConfigError
from spancast.export import fork_hooks
from spancast.export.spool import sqlite_file
from spancast.export.spool.disk import SqliteSpool
from spancast.export.spool.lease_owner import LeaseOwner, is_gone
from spancast.export.spool.log import SpoolLog
from spancast.export.spool.memory import MemorySpool
from spancast.export.spool.protocol import DeliveryState, Lease
from spancast.export.spool.sqlite_file import SpoolFile
from spancast.model.span_record import SpanRecord

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MIB = 1 << 20
MOUNTS = pytest.mark.skipif(shutil.which("unshare") is None or os.geteuid() != 0, reason="mounts a file system")
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}


@pytest.fixture(autouse=True)
def counts_and_warnings_anew() -> Iterator[None]:
    counters.clear()
    diagnostics.reset_warnings()
    yield
    counters.clear()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "spool.db"


def opened(
    path: Path, clock: Clock, *, max_bytes: int = 256 * MIB, routes: tuple[str, ...] = ("a", "b"), **options: float
) -> SqliteSpool:
    spool = SqliteSpool(path, max_bytes=max_bytes, max_age_s=1e12, clock=clock, busy_timeout_s=0.05, **options)
    spool.register(routes)
    return spool


def started(what: str, path: Path, argument: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, HERE / "spool_process.py", what, path, argument]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)


def ran(what: str, path: Path, argument: str = "") -> list[list[str]]:
    with started(what, path, argument) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return [line.split() for line in output.splitlines()]


def is_sound(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


# The file


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_spool_file_is_readable_by_owner_only(path: Path, clock: Clock, umask: int) -> None:
    before = os.umask(umask)
    try:
        spool = opened(path, clock)
        spool.put(records(range(3)), {})
        modes = {file.name: oct(file.stat().st_mode & 0o777) for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("spool.db", "spool.db-wal", "spool.db-shm", "spool.db.lock"), "0o600")
    if umask != 0o777:
        assert path.parent.stat().st_mode & 0o777 == 0o700
    spool.close()


def test_readable_file_is_made_private(path: Path, clock: Clock) -> None:
    opened(path, clock).close()
    path.chmod(0o644)
    spool = opened(path, clock)
    assert path.stat().st_mode & 0o777 == 0o600
    spool.close()


def test_spool_file_has_application_id(path: Path, clock: Clock) -> None:
    opened(path, clock).close()
    with closing(sqlite3.connect(path)) as connection:
        pragmas = [
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("application_id", "user_version", "journal_mode")
        ]
    assert pragmas == [0x53504353, 1, "wal"]


def test_newer_version_raises_config_error(path: Path, clock: Clock) -> None:
    opened(path, clock).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 9")
    with pytest.raises(ConfigError, match=r"newer spancast.*version 9.*upgrade"):
        opened(path, clock)


def test_file_of_another_program_raises_config_error(path: Path, clock: Clock) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE bookmarks (url)")
    with pytest.raises(ConfigError, match="another program"):
        opened(path, clock)


def test_foreign_header_over_spool_tables_is_damage(path: Path, clock: Clock) -> None:
    filled(path, clock)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA application_id = 1")
    spool = opened(path, clock)
    assert len(aside(path)) == 1
    spool.put(records([7]), {})
    assert deliver(spool, "a") == [7]
    spool.close()


def test_facts_are_not_stored(path: Path, clock: Clock) -> None:
    original = record(1)
    original.facts.update(input="CANARY", output="CANARY")
    spool = opened(path, clock)
    spool.put([original], {})
    assert all(b"CANARY" not in file.read_bytes() for file in path.parent.iterdir())
    spool.close()


CANARY = b"CANARY of a prompt " * 500


@pytest.mark.parametrize("keep_delivered_s", [0.0, 60.0])
def test_delivered_content_leaves_the_file(path: Path, clock: Clock, keep_delivered_s: float) -> None:
    spool = opened(path, clock, keep_delivered_s=keep_delivered_s)
    for start in range(0, 60, 20):
        spool.put([replace(one, body=one.body + CANARY) for one in records(range(start, start + 20))], {})
    assert sum(b"CANARY" in file.read_bytes() for file in path.parent.iterdir()) > 0
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint")  # into the file, as it happens every 8 MB
    lease = take(spool, "a")
    assert lease is not None
    spool.dead_letter(lease, [lease.entries[3].sequence], "400")
    deliver(spool, "b")
    clock.now_s += 100
    assert take(spool, "a") is None
    assert [item.span_id for item in spool.dead_letters("a")] == [f"{4:016x}"]
    left = sum(file.read_bytes().count(b"CANARY") for file in path.parent.iterdir())
    assert 490 < left <= 500, "the dead letter's, a few of them cut by pages"
    assert spool.purge("a", [lease.entries[3].sequence]) == 1
    spool.enforce_limits()
    assert all(b"CANARY" not in file.read_bytes() for file in path.parent.iterdir())
    assert states_of(spool)[7]["b"].state == "delivered"
    spool.close()


def test_evicted_content_leaves_the_file(path: Path, clock: Clock) -> None:
    spool = SqliteSpool(path, max_bytes=256 * MIB, max_age_s=60, clock=clock)
    spool.register(["a"])
    spool.put([replace(one, body=one.body + CANARY) for one in records(range(20))], {})
    clock.now_s += 100
    assert spool.enforce_limits() == 20
    assert counters.read()[Count("dropped", "a", "expired")] == 20
    assert all(b"CANARY" not in file.read_bytes() for file in path.parent.iterdir())
    spool.close()


def test_reduced_limit_shrinks_the_file(path: Path, clock: Clock) -> None:
    spool = opened(path, clock)
    spool.put(records(range(400), size=20_000), {})
    spool.close()
    before = path.stat().st_size
    spool = opened(path, clock, max_bytes=MIB)
    spool.enforce_limits()
    spool.close()
    assert path.stat().st_size < before // 3


# Across starts


def test_queued_records_survive_restart(path: Path, clock: Clock) -> None:
    spool = opened(path, clock)
    spool.put(records(range(5)), {"a": {1: "filtered"}})
    lease = take(spool, "a", most=2)
    assert lease is not None
    spool.ack(lease)
    assert take(spool, "b") is not None
    spool.close()
    spool = opened(path, clock)
    assert deliver(spool, "a") == [3, 4]
    assert deliver(spool, "b") == [0, 1, 2, 3, 4], "the lease was given back"
    assert states_of(spool)[1]["a"] == DeliveryState("a", "skipped", "filtered")
    spool.close()


def test_unclosed_spool_leases_are_released(path: Path, clock: Clock) -> None:
    """A process in a container has number 1 before and after a restart; only the instance differs."""
    spool = opened(path, clock)
    spool.put(records(range(5)), {})
    assert take(spool, "a") is not None
    other = opened(path, clock)
    assert take(other, "a") is None
    spool._owner.prefix = "gone"
    assert numbers(take(other, "a")) == [0, 1, 2, 3, 4]
    spool.close()
    other.close()


def test_kill_9_at_random_moments_loses_no_put_record(path: Path, clock: Clock) -> None:
    chance = random.Random(0)
    promised = 0
    delivered: list[list[int]] = []
    for _ in range(8):
        command = [sys.executable, HERE / "crash_writer.py", path, str(promised), "--deliver"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as writer:
            assert writer.stdout is not None
            lines = [writer.stdout.readline() for _ in range(chance.randint(1, 80))]
            writer.kill()
            lines += writer.stdout.read().splitlines(keepends=True)
        messages = [line.split() for line in lines if line.endswith("\n")]
        delivered += [[int(number) for number in words[1:]] for words in messages if words[0] == "got"]
        spool = opened(path, clock)
        leased = deliver(spool, "a", most=500)
        # A put that was not reported may be there or not; the next writer begins after it.
        assert leased == list(range(promised, promised + len(leased)))
        assert promised + len(leased) >= max(int(words[1]) for words in messages if words[0] == "put")
        promised += len(leased)
        spool.close()
    spool = opened(path, clock)
    delivered.append(deliver(spool, "b", time.time()))
    spool.close()
    times = Counter(number for batch in delivered for number in batch)
    assert set(times) == set(range(promised)), "nothing is lost"
    assert sum(count > 1 for count in times.values()) <= 8 * 150, "only the batch in flight is delivered twice"
    assert is_sound(path)


# Several processes


def test_two_processes_do_not_lease_the_same_records(path: Path, clock: Clock) -> None:
    spool = opened(path, clock, routes=("a",))
    spool.put(records(range(2000)), {})
    processes = [started("drain", path, "2000") for _ in range(3)]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    leases: list[tuple[int, int, list[int]]] = []
    for output in outputs:
        lines = [line.split() for line in output.splitlines()]
        for begin, end in zip(lines[::2], lines[1::2], strict=True):
            leases.append((int(begin[1]), int(end[1]), [int(number) for number in begin[2:]]))
    leases.sort()
    assert [number for _, _, taken in leases for number in taken] == list(range(2000)), "in order and once each"
    spool.close()


def test_process_that_read_the_clock_before_another_neither_leases_nor_retries_again(path: Path, clock: Clock) -> None:
    one, other = (opened(path, clock, routes=("a",)) for _ in range(2))
    one.put(records(range(10)), {})
    begun_s = clock() - 1

    def leased(spool: SqliteSpool, now_s: float) -> Lease | None:
        return spool.lease("a", max_records=10, max_bytes=1 << 20, now_s=now_s)

    lease = leased(one, clock())
    assert lease is not None
    assert leased(other, begun_s) is None
    one.nack(lease, clock() + 60, "down")
    assert leased(other, begun_s) is None
    one.close()
    other.close()


def test_processes_put_into_one_spool(path: Path, clock: Clock) -> None:
    processes = [started("put", path, str(number * 1000)) for number in range(3)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    for process in processes:
        process.communicate()
    spool = opened(path, clock, routes=("a",))
    got = deliver(spool, "a")
    assert sorted(got) == [base + number for base in (0, 1000, 2000) for number in range(500)]
    for base in (0, 1000, 2000):
        assert [number for number in got if base <= number < base + 1000] == list(range(base, base + 500))
    spool.close()


def test_lease_of_dead_process_is_released_at_once(path: Path, clock: Clock) -> None:
    spool = opened(path, clock)
    spool.put(records(range(5)), {})
    assert ran("claim_and_die", path) == [["0", "1", "2"]]
    assert numbers(take(spool, "a", time.time())) == [0, 1, 2, 3, 4]
    spool.close()


def test_lease_of_living_process_is_kept(path: Path, clock: Clock) -> None:
    spool = opened(path, clock)
    spool.put(records(range(5)), {})
    with started("claim_and_stay", path) as process:
        assert process.stdout is not None
        assert process.stdout.readline().split() == ["0", "1", "2"]
        assert take(spool, "a", time.time()) is None
        process.communicate()
    assert numbers(take(spool, "a", time.time())) == [0, 1, 2, 3, 4]
    spool.close()


def test_is_gone() -> None:
    owner = LeaseOwner()
    lease = owner.new_lease()
    host, pid, _, _ = lease.split("|")
    assert lease != owner.new_lease()
    assert not is_gone(lease)
    assert is_gone(f"{host}|{pid}|another instance|1")
    assert not is_gone(f"another host|{pid}|x|1"), "its processes cannot be asked for"
    assert not is_gone(f"{host}|1|x|1")
    assert not is_gone(f"{host}|no number|x|1")
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert is_gone(f"{host}|{process.pid}|x|1")
    assert not is_gone(f"{host}|{1 << 70}|x|1")


def test_threads_share_one_spool(path: Path, clock: Clock) -> None:
    spool = SqliteSpool(path, max_bytes=256 * MIB, max_age_s=1e12, clock=clock)
    spool.register(["a", "b"])
    delivered: dict[str, list[int]] = {"a": [], "b": []}

    def put(first: int) -> None:
        for start in range(first, first + 300, 3):
            spool.put(records(range(start, start + 3)), {})

    def get(route: str) -> None:
        while len(delivered[route]) < 900:
            delivered[route] += deliver(spool, route, most=20)

    threads = [threading.Thread(target=put, args=(base,)) for base in (0, 300, 600)]
    threads += [threading.Thread(target=get, args=(route,)) for route in delivered]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert {route: sorted(got) for route, got in delivered.items()} == {route: list(range(900)) for route in delivered}
    spool.close()


# Fork


def in_child(work: Callable[[], object]) -> None:
    """Run ``work`` in a forked child; fail if it fails there."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:  # noqa: BLE001 - the child ends here, whatever it is
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


def test_forked_child_does_not_deliver_records_of_parent(path: Path, clock: Clock) -> None:
    spool = opened(path, clock)
    spool.put(records(range(4)), {})
    lease = take(spool, "a", most=2)
    assert lease is not None

    def work() -> None:
        assert take(spool, "a") is None
        assert deliver(spool, "b") == [0, 1, 2, 3]
        spool.put(records(range(4, 6)), {})
        spool.close()

    in_child(work)
    assert take(spool, "a") is None, "the parent's lease is still the parent's"
    spool.ack(lease)
    assert deliver(spool, "a") == [2, 3, 4, 5]
    assert deliver(spool, "b") == [4, 5]
    spool.close()
    assert is_sound(path)


def test_forked_child_drops_memory_of_parent(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "blocked").write_text("a file where the folder should be")
    spool = opened(tmp_path / "blocked" / "spool.db", clock)
    spool.put(records(range(4)), {})

    def work() -> None:
        assert take(spool, "a") is None
        assert spool.usage().in_memory == 0
        spool.put(records([7]), {})
        assert deliver(spool, "a") == [7]

    in_child(work)
    assert deliver(spool, "a") == [0, 1, 2, 3]
    assert spool.purge("b") == 4
    spool.close()


def test_forked_child_starts_with_empty_memory_spool(clock: Clock) -> None:
    spool = MemorySpool(16 * MIB, clock=clock)
    spool.register(["a"])
    spool.put(records(range(4)), {})

    def work() -> None:
        assert take(spool, "a") is None
        spool.put(records([7]), {})
        assert deliver(spool, "a") == [7]
        spool.close()

    in_child(work)
    assert deliver(spool, "a") == [0, 1, 2, 3]
    spool.close()


def test_fork_wait_for_other_thread_is_bounded(path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork_hooks, "FORK_TIMEOUT_S", 0.01)
    spool, memory = opened(path, clock, routes=("a",)), MemorySpool(16 * MIB, clock=clock)
    memory.register(["a"])
    taken, done = threading.Event(), threading.Event()

    def hold() -> None:
        with spool._lock, memory._lock:
            taken.set()
            done.wait(30)

    def work() -> None:
        spool.put(records([7]), {})
        memory.put(records([8]), {})
        assert "forked" in spool.usage().error
        assert (deliver(spool, "a"), deliver(memory, "a")) == ([7], [8])

    holder = threading.Thread(target=hold)
    holder.start()
    taken.wait(30)
    in_child(work)
    done.set()
    holder.join(30)
    spool.put(records([9]), {})
    assert deliver(spool, "a") == [9]
    spool.close()
    memory.close()


def test_forks_while_threads_write(path: Path, clock: Clock) -> None:
    spool = SqliteSpool(path, max_bytes=256 * MIB, max_age_s=1e12, clock=clock)
    spool.register(["a"])
    stop = threading.Event()
    put: list[int] = []

    def write() -> None:
        while not stop.is_set():
            number = 1000 + len(put)
            spool.put(records([number]), {})
            put.append(number)

    writer = threading.Thread(target=write)
    writer.start()
    for child in range(15):
        in_child(lambda number=child: (spool.put(records([number]), {}), spool.close()))
    stop.set()
    writer.join(30)
    got = deliver(spool, "a")
    assert sorted(got) == [*range(15), *put]
    spool.close()
    assert is_sound(path)


def test_fork_without_hooks_child_does_not_use_file(path: Path) -> None:
    child, parent = ran("fork_without_hooks", path)
    assert " ".join(child) == "child 10 11 12 the process was forked with the file open"
    assert parent == ["parent", "0", "1", "2"]
    assert is_sound(path)


# Disks that fail


def test_file_in_place_of_folder_records_stay_in_memory(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    blocker = tmp_path / "blocked"
    blocker.write_text("")
    path = blocker / "spool.db"
    spool = opened(path, clock)
    spool.put(records(range(3)), {"b": {0: "filtered"}})
    spool.put(records(range(3, 5)), {})
    assert caplog.text.count("cannot be used") == 1
    assert "NotADirectoryError" in spool.usage().error or "FileExistsError" in spool.usage().error
    assert (spool.usage().in_memory, counters.read()[Count("spool_memory_fallback")]) == (5, 5)
    lease = take(spool, "a", most=2)
    assert lease is not None
    spool.ack(lease)
    assert spool.state("a").queued == 3
    assert states_of(spool)[0] == {
        "a": DeliveryState("a", "delivered", at_s=START_S),
        "b": DeliveryState("b", "skipped", "filtered"),
    }
    blocker.unlink()
    assert deliver(spool, "b", most=2) == [1, 2, 3, 4]
    assert not path.exists(), "not tried again so soon"
    clock.now_s += 40
    spool.put(records([9]), {})
    assert (spool.usage().error, spool.usage().records) == ("", 1), "new records go to the disk"
    assert deliver(spool, "a") == [2, 3, 4, 9], "what waits in memory is older and is delivered first"
    assert deliver(spool, "b") == [9]
    assert spool.usage().in_memory == 0
    spool.close()
    assert is_sound(path)


def test_methods_include_records_in_memory(tmp_path: Path, clock: Clock) -> None:
    blocker = tmp_path / "blocked"
    blocker.write_text("")
    spool = opened(blocker / "spool.db", clock)
    spool.put(records(range(5)), {"a": {0: "filtered"}})
    lease = take(spool, "a", most=2)
    assert lease is not None
    spool.dead_letter(lease, [lease.entries[0].sequence], "400")
    assert spool.purge("a", [lease.entries[1].sequence + 1]) == 1
    blocker.unlink()
    clock.now_s += 40
    spool.put(records([9]), {})
    known = states_of(spool)
    states = [known[number]["a"].state for number in (0, 1, 2, 3, 4, 9)]
    assert states == ["skipped", "buried", "delivered", "dropped", "waiting", "waiting"]
    assert [item.reason for item in spool.dead_letters("a")] == ["400"]
    assert [item.reason for item in spool.dropped("a")] == ["purged"]
    assert spool.requeue("a") == 1
    assert spool.replay("b", 0, 2 * START_S) == 0
    assert spool.purge("b") == 6
    assert deliver(spool, "a") == [1, 4, 9]
    spool.close()


def test_lease_from_memory_is_the_only_one_of_its_route(tmp_path: Path, clock: Clock) -> None:
    blocker = tmp_path / "blocked"
    blocker.write_text("")
    spool = opened(blocker / "spool.db", clock, routes=("a", "b"))
    spool.put(records(range(3)), {})
    lease = take(spool, "a", most=2)
    assert lease is not None
    assert spool.extend(lease, START_S)
    blocker.unlink()
    clock.now_s += 5
    spool.put(records([7]), {})
    assert take(spool, "a", clock.now_s) is None
    spool.ack(lease)
    assert deliver(spool, "a", clock.now_s) == [2, 7]
    spool.close()


def test_close_counts_and_logs_records_in_memory(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "blocked").write_text("")
    spool = opened(tmp_path / "blocked" / "spool.db", clock)
    spool.put(records(range(3)), {"b": {0: "filtered"}})
    spool.close()
    assert (counters.read()[Count("dropped", "a", "shutdown")], counters.read()[Count("dropped", "b", "shutdown")]) == (
        3,
        2,
    )
    assert "3 records queued in memory for a are dropped" in caplog.text
    assert spool.put(records(range(2)), {}) == 2
    assert take(spool, "a") is None
    assert counters.read()[Count("dropped", reason="shutdown")] == 2


def test_memory_fallback_is_bounded(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "blocked").write_text("")
    spool = opened(tmp_path / "blocked" / "spool.db", clock, overflow_bytes=MIB)
    for start in range(0, 300, 10):
        spool.put(records(range(start, start + 10), size=10_000), {})
    left = deliver(spool, "a")
    assert left == list(range(300 - len(left), 300))
    assert counters.read()[Count("dropped", "a", "spool_full")] == 300 - len(left) > 150
    spool.close()


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Another program holds the lock of the file, as a backup tool may."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def is_in_time(function: Callable[[], object]) -> bool:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    thread.join(30)
    return not thread.is_alive()


def test_child_that_was_forked_while_a_spool_opens_does_not_keep_the_lock(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite_file.connect
    with waiting_children() as fork:

        def forked_first(where: Path, timeout_s: float) -> sqlite3.Connection:
            fork()
            return connect(where, timeout_s)

        monkeypatch.setattr(sqlite_file, "connect", forked_first)
        with closing(SpoolFile(path, 0.1).open()), path.with_name(f"{path.name}.lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_locked_file_delays_neither_opening_nor_reading_nor_a_fork(path: Path, clock: Clock) -> None:
    """Only what stores or settles records waits for ``busy_timeout_s``, and other threads can use the spool meanwhile."""
    opened(path, clock).close()
    spools: list[SqliteSpool] = []

    def open_it() -> None:
        spools.append(SqliteSpool(path, max_bytes=256 * MIB, max_age_s=1e12, clock=clock, busy_timeout_s=1e6))
        spools[0].register(("a", "b"))

    def read_and_fork() -> None:
        assert spools[0].state("a").queued == 0
        spools[0].before_fork()
        spools[0].after_fork_in_parent()
        spools[0].routes()

    with held(path):
        assert is_in_time(open_it)
        [spool] = spools
        putting = threading.Thread(target=spool.put, args=(records(range(3)), {}), daemon=True)
        putting.start()
        assert is_in_time(read_and_fork)
        assert putting.is_alive(), "it waits for the file"
    putting.join(30)
    assert spool.state("a").queued == 3
    assert deliver(spool, "a") == [0, 1, 2]
    assert not counters.read()[Count("spool_memory_fallback")]
    spool.close()


def test_file_locked_too_long_records_stay_in_memory(
    path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    spool = opened(path, clock)
    spool.put(records(range(3)), {})
    with held(path):
        assert spool.put(records(range(3, 6)), {}) == 0
        assert "database is locked" in caplog.text
        assert spool.state("a").queued == 6, "what waits on the disk is counted though it cannot be read"
        assert numbers(take(spool, "b")) == [3, 4, 5], "from memory"
    clock.now_s += 40
    assert sorted(deliver(spool, "a", clock.now_s)) == [0, 1, 2, 3, 4, 5]
    spool.close()


def test_ack_is_deferred_while_disk_is_unavailable(path: Path, clock: Clock) -> None:
    spool = opened(path, clock)
    spool.put(records(range(6)), {})
    lease = take(spool, "a", most=2)
    other = take(spool, "b", most=2)
    assert lease is not None
    assert other is not None
    with held(path):
        spool.ack(lease)
        spool.nack(other, START_S + 100, "503")
        assert not spool.extend(lease, START_S)
        assert take(spool, "a") is None
    clock.now_s += 40
    assert deliver(spool, "a", clock.now_s) == [2, 3, 4, 5]
    assert take(spool, "b", clock.now_s) is None
    assert deliver(spool, "b", START_S + 100) == [0, 1, 2, 3, 4, 5]
    spool.close()


def test_file_size_limit_loses_no_record(path: Path) -> None:
    """Files are limited to 1 MB, and then the limit is lifted."""
    lines = ran("limit_files", path, "200")
    lines_by_name = {line[0]: line[1:] for line in lines}
    assert lines[0][0] == "in_memory"
    assert int(lines[0][1]) > 0
    got = [int(number) for number in lines_by_name["delivered"] + lines_by_name["later"]]
    assert sorted(got) == list(range(200))
    assert is_sound(path)


@MOUNTS
@pytest.mark.parametrize("room", ["2m", "600k"])
def test_full_file_system_loses_no_record(tmp_path: Path, room: str) -> None:
    program = f"{sys.executable} {HERE / 'spool_process.py'} fill {tmp_path}/spool.db 200"
    script = f"mount -t tmpfs -o size={room} tmpfs {tmp_path} && dd if=/dev/zero of={tmp_path}/filler bs=1k count=200 2>/dev/null && {program}"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, env=ENVIRONMENT, timeout=60, check=False
    )
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip(done.stderr)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert int(lines[0][1]) > 0
    assert sorted(int(number) for line in lines[1:3] for number in line[1:]) == list(range(200))


@MOUNTS
def test_read_only_file_system_records_stay_in_memory(path: Path, clock: Clock) -> None:
    opened(path, clock).close()
    program = f"{sys.executable} {HERE / 'spool_process.py'} fill {path} 5"
    script = f"mount --bind {path.parent} {path.parent} && mount -o remount,ro,bind {path.parent} && {program}"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, env=ENVIRONMENT, timeout=60, check=False
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(done.stderr)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0][:2] == ["in_memory", "5"]
    assert lines[1] == ["delivered", "0", "1", "2", "3", "4"]
    assert "cannot be used" in done.stderr


def test_signal_handler_during_use_falls_back_to_memory(path: Path, clock: Clock) -> None:
    spool = opened(path, clock)
    spool.put(records(range(3)), {})
    deliver(spool, "a")

    def interrupted(_: SpanRecord) -> str | None:
        spool.put(records([7]), {})
        return None

    assert spool.replay("a", 0, 2 * START_S, evaluate=interrupted) == 3
    assert sorted(deliver(spool, "a")) == [0, 1, 2, 7, 7, 7]
    spool.close()


def test_any_text_is_a_reason(path: Path, clock: Clock) -> None:
    spool = opened(path, clock)
    spool.put(records(range(3)), {"a": {0: "filtered by \ud800"}})
    lease = take(spool, "a")
    assert lease is not None
    spool.nack(lease, START_S, "\udcff" + "x" * 100_000)
    assert len(spool.state("a").last_error) == 2000
    lease = take(spool, "a")
    assert lease is not None
    spool.dead_letter(lease, [entry.sequence for entry in lease.entries], "\udcff")
    assert [item.reason for item in spool.dead_letters("a")] == ["?", "?"]
    assert states_of(spool)[0]["a"].reason == "filtered by ?"
    spool.close()


def test_register_without_routes_records_are_for_no_route(tmp_path: Path, clock: Clock) -> None:
    blocker = tmp_path / "blocked"
    blocker.write_text("")
    spool = opened(blocker / "spool.db", clock, routes=())
    spool.put(records(range(3)), {})
    assert take(spool, "a") is None
    spool.register(["b"])
    spool.put(records(range(3, 5)), {})
    blocker.unlink()
    clock.now_s += 40
    assert take(spool, "a") is None
    assert deliver(spool, "b") == [3, 4]
    spool.close()


def test_deleted_file_is_replaced(path: Path, clock: Clock) -> None:
    spool = opened(path, clock)
    spool.put(records(range(3)), {})
    for file in path.parent.iterdir():
        file.unlink()
    spool.put(records(range(3, 5)), {})
    assert deliver(spool, "a") == [3, 4]
    spool.close()
    assert is_sound(path)


# Damage


def filled(path: Path, clock: Clock, count: int = 500) -> None:
    """Make a spool of ``count`` records; route "a" had the first 100."""
    spool = opened(path, clock)
    spool.put(records(range(count), size=3000), {"b": {0: "filtered"}})
    lease = take(spool, "a", most=100)
    assert lease is not None
    spool.ack(lease)
    spool.close()


def scrambled(path: Path, start: int, length: int) -> None:
    chance = random.Random(start)
    with path.open("r+b") as file:
        file.seek(start)
        file.write(chance.randbytes(length))


def aside(path: Path) -> list[Path]:
    return sorted(
        file for file in path.parent.iterdir() if ".damaged-" in file.name and not file.name.endswith(("-wal", "-shm"))
    )


def test_damaged_header_is_quarantined(path: Path, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    filled(path, clock)
    scrambled(path, 0, 100)
    damaged = path.read_bytes()
    spool = opened(path, clock)
    spool.put(records([1000]), {})
    assert deliver(spool, "a") == [1000]
    assert aside(path)[0].name == "spool.db.damaged-20231114T221320Z"
    assert aside(path)[0].read_bytes() == damaged, "kept as it was"
    assert "is damaged" in caplog.text
    assert counters.read()[Count("spool_corrupt_files")] == 1
    spool.close()
    assert is_sound(path)


def test_truncated_file_is_quarantined(path: Path, clock: Clock) -> None:
    filled(path, clock)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    spool = opened(path, clock)
    spool.put(records([1000]), {})
    got = deliver(spool, "a")
    assert got[-1] == 1000
    assert set(got) <= {*range(100, 500), 1000}
    assert len(aside(path)) == 1
    spool.close()


def emptied(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(0)


def zeroed(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"\0" * path.stat().st_size)


@pytest.mark.parametrize("damage", [emptied, zeroed])
@pytest.mark.parametrize("is_open", [True, False])
def test_damage_under_a_running_process_counts_what_waited(
    path: Path, clock: Clock, damage: Callable[[Path], None], is_open: bool
) -> None:
    spool = opened(path, clock)
    spool.put(records(range(500), size=3000), {"b": {0: "filtered"}})
    lease = take(spool, "a", most=100)
    assert lease is not None
    spool.ack(lease)
    under_way = take(spool, "a", most=50)
    assert under_way is not None
    if not is_open:
        spool._pause()  # as a fork does
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    damage(path)
    spool.put(records([1000]), {})
    got = {route: deliver(spool, route, START_S + 40) for route in ("a", "b")}
    spool.nack(under_way, START_S, "503")
    counts = counters.read()
    lost = {route: sum(count for key, count in counts.items() if key[:2] == ("dropped", route)) for route in ("a", "b")}
    assert len(set(got["a"])) + lost["a"] == 401
    assert len(got["b"]) + lost["b"] == 500
    assert lost["a"] > 0
    assert got["a"][-1] == got["b"][-1] == 1000
    spool.close()


def test_damaged_table_is_quarantined(path: Path, clock: Clock, tmp_path: Path) -> None:
    filled(path, clock)
    with closing(sqlite3.connect(path)) as connection:
        roots = dict(connection.execute("SELECT name, rootpage FROM sqlite_master WHERE rootpage > 0").fetchall())
    assert set(roots) >= {"spool", "batches", "routes", "states", "states_waiting", "states_buried"}
    for name, page in roots.items():
        copy = tmp_path / name / "spool.db"
        copy.parent.mkdir()
        copy.write_bytes(path.read_bytes())
        scrambled(copy, (page - 1) * 8192, 8192)
        spool = opened(copy, clock, routes=("a", "b"))
        spool.put(records([1000], size=3000), {"b": {0: "filtered"}})
        got = {route: set(deliver(spool, route, most=50)) - {1000} for route in ("a", "b")}
        spool.history(bytes(16))
        assert len(aside(copy)) == 1, name
        assert got["a"] <= set(range(100, 500)), name
        assert got["b"] <= set(range(1, 500)), "what was filtered stays so"
        counts = counters.read()
        if counts[Count("dropped", "b", "spool_damaged")]:
            assert counts[Count("dropped", "b", "spool_damaged")] >= 499 - len(got["b"]), name
        counters.clear()
        spool.close()


@pytest.mark.parametrize("seed", range(12))
def test_damaged_pages_every_lost_record_is_counted(path: Path, clock: Clock, seed: int) -> None:
    filled(path, clock)
    spool = opened(path, clock)
    assert spool.state("b").queued == 499
    spool._pause()
    chance = random.Random(seed)
    pages = path.stat().st_size // 8192
    for page in chance.sample(range(1, pages), 6):
        scrambled(path, page * 8192, 8192)
    spool.put(records([1000], size=3000), {})
    got = {route: deliver(spool, route, most=50) for route in ("a", "b")}
    counts = counters.read()
    buried = [letter for letter in spool.dead_letters(limit=2000) if letter.reason == "its bytes on disk were damaged"]
    for route, first, waited in (("a", 100, 400), ("b", 1, 499)):
        assert set(got[route]) <= {*range(first, 500), 1000}
        refused = sum(letter.route == route for letter in buried)
        # A lease that was under way when the damage showed may be counted as dropped and delivered as well.
        assert len(got[route]) + refused + counts[Count("dropped", route, "spool_damaged")] >= waited + 1
    spool.put(records([2000]), {})
    assert (deliver(spool, "a"), deliver(spool, "b")) == ([2000], [2000])
    spool.close()
    if aside(path):
        assert is_sound(path)


def test_damaged_batch_is_dead_lettered(path: Path, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    spool = opened(path, clock)
    for start in (0, 2, 4):
        spool.put(records(range(start, start + 2)), {})
    spool.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE batches SET content = zeroblob(length(content)) WHERE first = 3")
        connection.commit()
    spool = opened(path, clock)
    assert deliver(spool, "a") == [0, 1, 4, 5]
    assert [item.reason for item in spool.dead_letters("a")] == ["its bytes on disk were damaged"] * 2
    assert [item.span_id for item in spool.dead_letters("a")] == [f"{number + 1:016x}" for number in (3, 2)]
    assert deliver(spool, "b", most=1) == [0, 1, 4, 5]
    assert spool.requeue("a") == 2
    assert deliver(spool, "a") == []
    assert caplog.text.count("damaged") == 1
    assert counters.read()[Count("spool_corrupt_records")] == 6
    spool.close()


def test_missing_tables_are_damage(path: Path, clock: Clock) -> None:
    filled(path, clock)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE states")
    spool = opened(path, clock)
    assert len(aside(path)) == 1
    spool.close()


def test_damage_that_a_second_connection_does_not_see_keeps_the_file(path: Path, clock: Clock) -> None:
    """A read of the disk that fails once looks to SQLite like a damaged page."""
    filled(path, clock)
    spool = opened(path, clock)
    attempts: list[SpoolLog] = []

    def state(log: SpoolLog) -> int:
        attempts.append(log)
        if len(attempts) == 1:
            raise sqlite3.DatabaseError("database disk image is malformed")
        return log.state("a").queued

    assert spool._use(state) == 400
    assert attempts[0] is not attempts[1]
    assert aside(path) == []
    spool.close()


def test_damage_twice_in_a_second(path: Path, clock: Clock) -> None:
    for _ in range(2):
        filled(path, clock)
        scrambled(path, 0, 100)
        opened(path, clock).close()
    assert [file.name[-19:] for file in aside(path)] == ["ed-20231114T221320Z", "-20231114T221320Z-2"]


def test_lease_of_quarantined_file_moves_no_cursor(path: Path, clock: Clock) -> None:
    spool = opened(path, clock)
    spool.put(records(range(50)), {})
    lease = take(spool, "a")
    assert lease is not None
    spool._pause()
    scrambled(path, 0, 100)
    spool.put(records(range(100, 103)), {})
    spool.ack(lease)
    spool.dead_letter(lease, [lease.entries[0].sequence], "400")
    spool.nack(lease, START_S + 1000, "503")
    assert spool.dead_letters() == []
    assert deliver(spool, "a") == [100, 101, 102]
    assert counters.read()[Count("dropped", "a", "spool_damaged")] == 50
    spool.close()


def test_second_process_does_not_quarantine_again(path: Path, clock: Clock) -> None:
    first, second = SpoolFile(path, 1.0), SpoolFile(path, 1.0)
    path.parent.mkdir()
    for file in (first, second):
        file.open().close()
    assert first.quarantine(START_S) is not None
    assert second.quarantine(START_S) is None
    first.open().close()
    assert second.quarantine(START_S) is None
    assert first.quarantine(START_S) is not None


def test_another_process_opens_the_file_and_hangs(path: Path, clock: Clock) -> None:
    opened(path, clock).close()
    with path.with_name("spool.db.lock").open("rb") as held_lock:
        fcntl.flock(held_lock, fcntl.LOCK_EX)
        spool = opened(path, clock)
        spool.put(records(range(3)), {})
        assert spool.usage().error
    clock.now_s += 40
    spool.put(records(range(3, 5)), {})
    assert sorted(deliver(spool, "a")) == [0, 1, 2, 3, 4]
    spool.close()


def test_programming_error_is_raised(path: Path, clock: Clock) -> None:
    spool = opened(path, clock)
    wrong = record(1)
    object.__setattr__(wrong, "span_id", object())
    with pytest.raises(struct.error):
        spool.put([record(0), wrong], {})
    assert spool.usage().error == ""
    assert spool.put([record(2)], {}) == 0
    assert deliver(spool, "a") == [2]
    spool.close()


def test_two_processes_quarantine_file_once(path: Path, clock: Clock) -> None:
    filled(path, clock)
    first, second = opened(path, clock), opened(path, clock)
    first._pause()
    second._pause()
    scrambled(path, 0, 100)
    first.put(records([1000]), {})
    second.put(records([1001]), {})
    assert len(aside(path)) == 1
    assert deliver(first, "a") == [1000, 1001]
    first.close()
    second.close()


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(st.sampled_from(["here", "elsewhere"]), st.integers(1, 4), st.sets(st.integers(0, 3))), max_size=6
    ),
    st.integers(1, 6),
)
def test_cached_state_equals_file(
    tmp_path_factory: pytest.TempPathFactory, puts: list[tuple[str, int, set[int]]], most: int
) -> None:
    path = tmp_path_factory.mktemp("spool") / "spool.db"
    clock = Clock()
    here, elsewhere = opened(path, clock), opened(path, clock)
    elsewhere.register(["a", "c"])
    number = 0
    for place, count, skips in puts:
        spool = here if place == "here" else elsewhere
        given = records(range(number, number + count))
        spool.put(given, {"a": {index: "sampled out" for index in skips if index < count}})
        number += count
    fresh = opened(path, clock)
    for route in ("a", "b"):
        lease = fresh.lease(route, max_records=most, max_bytes=1 << 20, now_s=clock())
        expected = [] if lease is None else [entry.sequence for entry in lease.entries]
        if lease is not None:
            fresh.nack(lease, 0.0, "only looked")
        lease = here.lease(route, max_records=most, max_bytes=1 << 20, now_s=clock())
        assert ([] if lease is None else [entry.sequence for entry in lease.entries]) == expected
    for spool in (here, elsewhere, fresh):
        spool.close()


def test_four_processes_on_one_file_keep_the_limit(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "spool.db"
    spools = [opened(path, clock, max_bytes=MIB) for _ in range(4)]
    chosen = random.Random(7)
    for number in range(1500):
        chosen.choice(spools).put(records([number], size=1024 * chosen.randrange(1, 12)), {})
        assert spools[0].usage().bytes_used <= MIB + 16 * 1024, number
    assert spools[0].state("a").dropped > 0
    for spool in spools:
        spool.close()


def test_state_of_another_process_has_the_size_of_what_waits(path: Path, clock: Clock) -> None:
    """Without routes of its own, a process lets SQLite add up the sizes."""
    spool, reader = opened(path, clock), SqliteSpool(path, max_bytes=256 * MIB, max_age_s=1e12, clock=clock)
    for first in range(0, 30, 3):
        spool.put(records(range(first, first + 3), size=40 + first), {"b": {1: "filtered"}} if first == 15 else {})
    for step in (0, 4, 3, 20):
        for route in ("a", "b"):
            if step and (lease := take(spool, route, most=step)):
                spool.ack(lease)
            state, seen = spool.state(route), reader.state(route)
            assert (seen.queued, seen.queued_bytes) == (state.queued, state.queued_bytes), (step, route)
    assert spool.replay("a", 0, 1e12) == 27
    assert reader.state("a").queued == spool.state("a").queued == 30
    assert reader.location() == (str(path), "")
    spool.close()
    reader.close()
