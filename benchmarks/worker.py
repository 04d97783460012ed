"""One contestant, one case, one process: prints a JSON line when ready and one for each round.

``python -m benchmarks.worker CONTESTANT CASE ROUNDS [--gated] [--calls N]``; gated, a round waits for a line on stdin.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.cases import Case, case_of
from benchmarks.contestants import CONTESTANTS, Running

_WARM_UP = 30


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("contestant", choices=CONTESTANTS)
    parser.add_argument("case")
    parser.add_argument("rounds", type=int)
    parser.add_argument("--gated", action="store_true")
    parser.add_argument("--calls", type=int)
    given = parser.parse_args()
    case = case_of(given.case)
    calls = given.calls or case.calls
    running = CONTESTANTS[given.contestant].start(case)
    batch = _batch(running, case)
    warm_up = min(calls, _WARM_UP)
    batch(warm_up)
    running.flush()
    _say(ready=True, calls=warm_up)
    for _ in range(given.rounds):
        if given.gated and not sys.stdin.readline():
            break
        _say(**_round(batch, running, calls))


def _batch(running: Running, case: Case) -> Callable[[int], None]:
    client, call, acall = running.client, running.call, running.acall
    if case.concurrency:
        loop = asyncio.new_event_loop()

        async def together(count: int) -> None:
            for start in range(0, count, case.concurrency):
                await asyncio.gather(*(acall(client) for _ in range(min(case.concurrency, count - start))))

        return lambda count: loop.run_until_complete(together(count))

    def one_by_one(count: int) -> None:
        for _ in range(count):
            call(client)

    def failing(count: int) -> None:
        for _ in range(count):
            try:
                call(client)
            except Exception as error:  # noqa: PERF203 - what is measured
                if getattr(error, "status_code", None) != case.status:
                    raise

    return failing if case.status >= 400 else one_by_one  # noqa: PLR2004 - HTTP


def _round(batch: Callable[[int], None], running: Running, calls: int) -> dict[str, Any]:
    gc.collect()
    process, wall, thread = time.process_time_ns(), time.perf_counter_ns(), time.thread_time_ns()
    batch(calls)
    thread, wall = time.thread_time_ns() - thread, time.perf_counter_ns() - wall
    running.flush()
    process = time.process_time_ns() - process
    per_call = {"thread": thread, "process": process, "wall": wall}
    return {"calls": calls, **{name: taken / calls / 1_000 for name, taken in per_call.items()}}


def _say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main()
