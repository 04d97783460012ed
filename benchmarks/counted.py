"""One candidate and one case, run in stages under Valgrind: ``python -m benchmarks.counted CANDIDATE CASE``.

Prints ``counted: STAGE`` after each stage and waits for a line, so that the parent can read the counters.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys

from benchmarks.calling import batch_of
from benchmarks.candidates import CANDIDATES
from benchmarks.cases import Case, case_of

WARM_UP = 2
SERIES = 2
"""Number of stages of the candidate. The baseline has as many: one before them and one after."""
_LONG_CALLS = 6


def main() -> None:
    name, case_name = sys.argv[1:]
    for module in CANDIDATES[name].modules:
        importlib.import_module(module)
    case, candidate = case_of(case_name), CANDIDATES[name]
    baseline = candidate.baseline(case)
    running = candidate.start(case)
    plain, ours = batch_of(baseline, case), batch_of(running, case)
    calls = calls_of(case)

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
    emit("ready")
    plain(calls)
    emit("plain")
    for _ in range(SERIES):
        running.on()
        ours(calls)
        emit("ours")
        flush()
        emit("flush")
    plain(calls)
    emit("plain")
    os._exit(0)


def calls_of(case: Case) -> int:
    """Return the number of calls per stage: fewer if they are slow, since Valgrind makes them 50 times slower."""
    return case.calls if case.calls >= case_of("short").calls else min(case.calls, _LONG_CALLS)


def emit(stage: str) -> None:
    os.write(1, f"\ncounted: {stage}\n".encode())
    os.read(0, 1)


if __name__ == "__main__":
    main()
