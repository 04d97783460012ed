"""One contestant at one case, stage by stage: ``python -m benchmarks.counted CONTESTANT CASE``, below Valgrind.

Says ``counted: STAGE`` after each and waits for a line, so that what the stage took can be read off.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys

from benchmarks.calling import batch_of
from benchmarks.candidates import CONTESTANTS
from benchmarks.cases import Case, case_of

WARM_UP = 2
SERIES = 2
"""The contestant's stages, and the twin's: before them and after."""
_LONG_CALLS = 6


def main() -> None:
    name, case = sys.argv[1:]
    for module in CONTESTANTS[name].modules:
        importlib.import_module(module)
    chosen, candidate = case_of(case), CONTESTANTS[name]
    baseline = candidate.baseline(chosen)
    running = candidate.start(chosen)
    plain, ours = batch_of(baseline, chosen), batch_of(running, chosen)
    calls = calls_of(chosen)

    def flush() -> None:
        running.flush()
        running.off()

    for _ in range(WARM_UP):
        plain(calls)
        running.on()
        ours(calls)
        flush()
    gc.collect()
    gc.freeze()
    say("ready")
    plain(calls)
    say("plain")
    for _ in range(SERIES):
        running.on()
        ours(calls)
        say("ours")
        flush()
        say("flush")
    plain(calls)
    say("plain")
    os._exit(0)


def calls_of(case: Case) -> int:
    """Return how many calls a stage is: fewer of what takes long, for here it takes fifty times as long."""
    return case.calls if case.calls >= case_of("short").calls else min(case.calls, _LONG_CALLS)


def say(stage: str) -> None:
    os.write(1, f"\ncounted: {stage}\n".encode())
    os.read(0, 1)


if __name__ == "__main__":
    main()
