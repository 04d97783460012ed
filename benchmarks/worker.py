"""One contestant in one process: ``python -m benchmarks.worker CONTESTANT``.

Loads what the contestant needs and says so; then, for each line ``{"case", "seconds"}`` on stdin, a child is
forked that starts the contestant, measures, prints one line and ends. So nothing of one case is left in the next.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from dataclasses import replace
from typing import Any

from benchmarks.candidates import CONTESTANTS
from benchmarks.cases import case_of
from benchmarks.timing import Stopwatch, pin, repeated

_WARM_UP = 0.4
_SHARE_OF_QUADS = 0.65
_FEWEST_QUADS = 24
_FEWEST_BATCHES = 2


def main() -> int:
    name = sys.argv[1]
    pin(to_last=True)
    for module in CONTESTANTS[name].modules:
        importlib.import_module(module)
    say(ready=True)
    # Not sys.stdin: what it has read ahead would be read again by every child.
    with os.fdopen(os.dup(0), "rb", buffering=0) as orders:
        while line := orders.readline():
            child = os.fork()
            if not child:
                try:
                    say(**measure(name, **json.loads(line)))
                except BaseException:  # noqa: BLE001 - told, whatever it is
                    say(failure=traceback.format_exc()[-1_500:])
                return 0
            os.waitpid(child, 0)
    # Nothing to be tidied: all work was the children's.
    os._exit(0)


def measure(name: str, case: str, seconds: float) -> dict[str, Any]:
    """Measure in this process for some ``seconds``; returns the calls made, the quads and the batches.

    With 0 seconds all is done once, with the fewest calls: the figures say nothing, but the spans are whole or not.
    """
    chosen = case_of(case)
    fewest_quads, fewest_batches = (_FEWEST_QUADS, _FEWEST_BATCHES) if seconds else (1, 1)
    if not seconds:
        chosen = replace(chosen, calls=chosen.unit)
    candidate = CONTESTANTS[name]
    # The twin first: most contestants patch classes.
    baseline = candidate.baseline(chosen)
    watch = Stopwatch(chosen, baseline, candidate.start(chosen))
    watch.settle(seconds * _WARM_UP)
    quads = repeated(watch.once, seconds * _SHARE_OF_QUADS, fewest_quads)
    batches = repeated(watch.batch, seconds * (1 - _SHARE_OF_QUADS), fewest_batches)
    return {"calls": watch.calls, "quads": quads, "batches": batches}


def say(**what: Any) -> None:
    # Whole lines by themselves: what libraries print stays apart.
    os.write(1, b"\n" + json.dumps(what).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
