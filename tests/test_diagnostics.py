"""Tests of ``Counters`` with one and with many threads, and of the typed counts made of them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from spancast.diagnostics import Count, Counters
from spancast.statistics import DestinationStats, Stats, stats_of


def test_counters_add_and_clear() -> None:
    counters = Counters()
    assert counters.read() == {}
    counters.add("received")
    counters.add("received", 2)
    assert [counters.read(), counters.read()] == [{Count("received"): 3}, {Count("received"): 3}]
    counters.clear()
    assert counters.read() == {}


def test_counters_in_many_threads_lose_nothing() -> None:
    counters, gate, values = Counters(), threading.Barrier(5), list[int]()

    def run() -> None:
        gate.wait()
        for _ in range(2_000):
            counters.add("received")

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    gate.wait()
    while any(thread.is_alive() for thread in threads):
        values.append(counters.read()[Count("received")])
    for thread in threads:
        thread.join()
    assert values == sorted(values)
    assert counters.read() == {Count("received"): 8_000}


def test_stats_of_destinations_with_dotted_names_are_apart() -> None:
    counters = Counters()
    counters.add("received", 9)
    counters.add("delivered", 3, destination="eu")
    counters.add("delivered", 4, destination="eu.backup")
    counters.add("dropped", 1, destination="eu", reason="backup")
    counters.add("dropped", 2, reason="queue_full")
    assert stats_of(counters.read(), 5, {"eu": (7, 700), "us": (0, 0)}) == Stats(
        received=9,
        queued=5,
        dropped={"queue_full": 2},
        destinations={
            "eu": DestinationStats(delivered=3, dropped={"backup": 1}, queued=7, queued_bytes=700),
            "us": DestinationStats(),
            "eu.backup": DestinationStats(delivered=4),
        },
    )


LOG = """
import logging, sys
from spancast.diagnostics import logger
if sys.argv[1] == "set up":
    logging.basicConfig(format="%(name)s: %(message)s")
logger.warning("spancast: %d spans", 5)
"""


@pytest.mark.parametrize("logging_is", ["set up", "not set up"])
def test_log_line_has_one_prefix(logging_is: str) -> None:
    run = subprocess.run([sys.executable, "-c", LOG, logging_is], capture_output=True, text=True, check=True)
    assert run.stderr == "spancast: 5 spans\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_counters_of_forked_child_start_at_zero() -> None:
    counters = Counters()
    counters.add("received", 9)
    child = os.fork()
    if child == 0:
        counters.add("received")
        os._exit(counters.read()[Count("received")])
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert counters.read()[Count("received")] == 9
