"""Worker threads, and the flag that wakes one."""

from __future__ import annotations

import threading

from spancast.export.worker_thread import WakeFlag, WorkerThread


def test_wake_flag_set_before_wait() -> None:
    flag = WakeFlag()
    flag.set()
    flag.set()
    flag.wait()
    # The wait has cleared the flag, although it was set twice, so this wait times out.
    assert not flag.wait(0.001)
    flag.set()
    assert flag.wait(60)


def test_wake_flag_wakes_waiting_thread() -> None:
    flag, woken = WakeFlag(), threading.Event()

    def wait() -> None:
        flag.wait()
        woken.set()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    flag.set()
    assert woken.wait(60)
    thread.join(60)


def test_wake_flag_set_by_many_threads() -> None:
    flag = WakeFlag()
    rung = threading.Barrier(8)

    def ring() -> None:
        rung.wait(60)
        for _ in range(200):
            flag.set()

    threads = [threading.Thread(target=ring) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert flag.wait(60)
    assert not flag.wait(0.001)


def test_concurrent_starts_start_one_thread() -> None:
    """Only the first call starts a thread."""
    begun: list[int] = []
    gate = threading.Barrier(8)
    ends = threading.Event()

    def work() -> None:
        begun.append(threading.get_ident())
        ends.wait(60)

    thread = WorkerThread("one", work)

    def start() -> None:
        gate.wait()
        assert thread.start()

    starters = [threading.Thread(target=start) for _ in range(8)]
    for one in starters:
        one.start()
    for one in starters:
        one.join()
    ends.set()
    assert thread.join(60)
    assert len(begun) == 1
