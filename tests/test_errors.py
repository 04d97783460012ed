"""Counts that many threads raise, and what is read of them."""

from __future__ import annotations

import threading

from spancast.errors import Tally


def test_steps_are_counted_like_anything_else() -> None:
    tally = Tally()
    step = tally.step("a")
    assert tally.read() == {}
    step()
    tally.add("a", 2)
    tally.step("a")()
    assert [tally.read(), tally.read()] == [{"a": 4}, {"a": 4}]
    tally.clear()
    assert tally.read() == {}
    step()
    assert tally.read() == {"a": 1}


def test_steps_of_many_threads_while_somebody_reads() -> None:
    tally, gate = Tally(), threading.Barrier(5)
    step, seen = tally.step("a"), list[int]()

    def run() -> None:
        gate.wait()
        for _ in range(2_000):
            step()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    gate.wait()
    while any(thread.is_alive() for thread in threads):
        seen.append(tally.read().get("a", 0))
    for thread in threads:
        thread.join()
    assert seen == sorted(seen)
    assert tally.read() == {"a": 8_000}
