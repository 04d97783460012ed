"""``configure()`` while spans end, and ``configure()`` and ``shutdown()`` again and again."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path
from typing import NamedTuple

from opentelemetry.sdk.trace import TracerProvider
from tests.attacks.corruption import Destination, configured, make

import spancast

PATIENCE_S = 60.0
_THREADS = 4
_PAUSE_EVERY = 20


class InFlight(NamedTuple):
    """What became of the spans of some threads while another one called ``configure()``."""

    started: int
    arrived: int
    accounted: int
    """Arrived or counted, by ``stats()``."""


class Footprint(NamedTuple):
    """What a process holds."""

    threads: int
    descriptors: int
    memory_bytes: int


def configure_in_flight(folder: Path | None, times: int) -> InFlight:
    """Make spans on four threads while ``configure()`` is called ``times`` times."""
    destination, provider = Destination(), TracerProvider(shutdown_on_exit=False)
    before = spancast.stats()
    configured(folder, destination, provider)
    started: list[int] = []
    ends, running = threading.Event(), threading.Barrier(_THREADS + 1)

    def work() -> None:
        running.wait(PATIENCE_S)
        count = 0
        while not ends.wait(0.004):
            make(provider, ["span"] * _PAUSE_EVERY)
            count += _PAUSE_EVERY
        started.append(count)

    threads = [threading.Thread(target=work) for _ in range(_THREADS)]
    for thread in threads:
        thread.start()
    running.wait(PATIENCE_S)
    for _ in range(times):
        configured(folder, destination, provider)
    ends.set()
    for thread in threads:
        thread.join()
    spancast.flush(PATIENCE_S)
    counts = spancast.stats()
    spancast.shutdown()
    lost = sum(counts.dropped.values()) - sum(before.dropped.values())
    return InFlight(sum(started), len(destination.names), len(destination.names) + lost)


def cycle(folder: Path | None) -> None:
    """Configure with a provider of our own, record a call, shut down."""
    spancast.configure(
        spool="memory" if folder is None else {"path": str(folder)},
        destinations={"one": {"type": Destination(), "spans": "all"}},
    )
    spancast.instrument(lambda **_: "hi")(model="m", messages=[])
    assert spancast.flush(PATIENCE_S)
    spancast.shutdown()


def footprint() -> Footprint:
    for thread in threading.enumerate():
        if thread.name == "spancast-prices":
            # It imports the prices once per process, and ends.
            thread.join(PATIENCE_S)
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return Footprint(
        threading.active_count(), sum(1 for _ in Path("/proc/self/fd").iterdir()), pages * os.sysconf("SC_PAGESIZE")
    )
