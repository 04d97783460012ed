"""One candidate in one process: ``python -m benchmarks.worker CANDIDATE``.

Imports the candidate's modules and prints a line. Then it forks a child for each line ``{"case", "seconds"}`` on
stdin. The child starts the candidate, measures, prints one line and exits, so no state remains for the next case.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from dataclasses import replace
from typing import Any

from benchmarks.candidates import CANDIDATES
from benchmarks.cases import case_of
from benchmarks.timing import Stopwatch, pin, repeated

_WARM_UP = 0.4
_SAMPLE_SHARE = 0.65
_MIN_SAMPLES = 24
_MIN_BATCHES = 2


def main() -> int:
    name = sys.argv[1]
    pin(to_last=True)
    for module in CANDIDATES[name].modules:
        importlib.import_module(module)
    emit(ready=True)
    # Not sys.stdin: every child would read its buffered lines again.
    with os.fdopen(os.dup(0), "rb", buffering=0) as commands:
        while line := commands.readline():
            child = os.fork()
            if not child:
                try:
                    emit(**measure(name, **json.loads(line)))
                except BaseException:  # noqa: BLE001 - the parent reports it
                    emit(failure=traceback.format_exc()[-1_500:])
                return 0
            os.waitpid(child, 0)
    # No cleanup needed: the children did the work.
    os._exit(0)


def measure(name: str, case: str, seconds: float) -> dict[str, Any]:
    """Measure in this process for about ``seconds``; return the number of calls, the samples and the batches.

    0 seconds takes one sample with the minimum of calls: the times are not meaningful, but the spans are checked.
    """
    chosen = case_of(case)
    min_samples, min_batches = (_MIN_SAMPLES, _MIN_BATCHES) if seconds else (1, 1)
    if not seconds:
        chosen = replace(chosen, calls=chosen.unit)
    candidate = CANDIDATES[name]
    # The baseline first: most candidates patch classes.
    baseline = candidate.baseline(chosen)
    watch = Stopwatch(chosen, baseline, candidate.start(chosen))
    watch.warm_up(seconds * _WARM_UP)
    samples = repeated(watch.once, seconds * _SAMPLE_SHARE, min_samples)
    batches = repeated(watch.batch, seconds * (1 - _SAMPLE_SHARE), min_batches)
    return {"calls": watch.calls, "samples": samples, "batches": batches}


def emit(**what: Any) -> None:
    # Starts with a line break, to separate it from the output of libraries.
    os.write(1, b"\n" + json.dumps(what).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
