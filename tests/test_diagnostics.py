"""Tests of ``Counters`` with one and with many threads."""

from __future__ import annotations

import threading

from spancast.diagnostics import Counters


def test_counters_step_counts_like_add() -> None:
    counters = Counters()
    step = counters.step("a")
    assert counters.read() == {}
    step()
    counters.add("a", 2)
    counters.step("a")()
    assert [counters.read(), counters.read()] == [{"a": 4}, {"a": 4}]
    counters.clear()
    assert counters.read() == {}
    step()
    assert counters.read() == {"a": 1}


def test_counters_step_in_many_threads_loses_nothing() -> None:
    counters, gate = Counters(), threading.Barrier(5)
    step, values = counters.step("a"), list[int]()

    def run() -> None:
        gate.wait()
        for _ in range(2_000):
            step()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    gate.wait()
    while any(thread.is_alive() for thread in threads):
        values.append(counters.read().get("a", 0))
    for thread in threads:
        thread.join()
    assert values == sorted(values)
    assert counters.read() == {"a": 8_000}
