"""Functions that make calls: sequentially, concurrently on an event loop or on threads, or a stream per chunk."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

from benchmarks.cases import Case
from benchmarks.running import Running

Batch: TypeAlias = Callable[[int], int]
"""Makes the given number of calls; returns the CPU time, in ns, of the other threads that made them."""

_FIRST_ERROR_STATUS = 400


def batch_of(running: Running, case: Case) -> Batch:
    """Return a function that makes calls of ``case``."""
    if case.is_async:
        return _on_loop(lambda: running.acall(running.client), case.concurrency)
    sequential = _sequential(running, case)
    return _on_threads(sequential, case.threads) if case.threads else sequential


def _sequential(running: Running, case: Case) -> Batch:
    client, call, open_stream = running.client, running.call, running.open

    def one_by_one(count: int) -> int:
        for _ in range(count):
            call(client)
        return 0

    def streaming(count: int) -> int:
        for _ in range(count):
            for _ in open_stream(client):
                pass
        return 0

    def failing(count: int) -> int:
        for _ in range(count):
            try:
                call(client)
            except Exception as error:
                if getattr(error, "status_code", None) != case.status:
                    raise
        return 0

    return failing if case.status >= _FIRST_ERROR_STATUS else streaming if case.is_stream else one_by_one


def _on_loop(call: Callable[[], Any], concurrency: int) -> Batch:
    loop = asyncio.new_event_loop()

    async def concurrently(count: int) -> None:
        for start in range(0, count, concurrency):
            await asyncio.gather(*(call() for _ in range(min(concurrency, count - start))))

    def batch(count: int) -> int:
        loop.run_until_complete(concurrently(count))
        return 0

    return batch


def _on_threads(one_by_one: Batch, threads: int) -> Batch:
    pool = ThreadPoolExecutor(threads)
    local = threading.local()

    def part(count: int, barrier: threading.Barrier) -> int:
        # The barrier gives each thread one part. A thread's CPU time since its last part counts, waiting included.
        barrier.wait()
        one_by_one(count)
        last, local.last = getattr(local, "last", 0), time.thread_time_ns()
        return local.last - last

    def batch(count: int) -> int:
        barrier = threading.Barrier(threads)
        parts = [pool.submit(part, count // threads, barrier) for _ in range(threads)]
        return sum(future.result() for future in parts)

    return batch


class AsyncCall:
    """One call on an event loop; sums the time of its own steps. The loop's work between steps is not counted."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self.thread = self.wall = 0

    def __await__(self) -> Generator[Any, None, None]:
        steps = None
        while True:
            wall, thread = time.perf_counter_ns(), time.thread_time_ns()
            try:
                if steps is None:
                    steps = self._running.acall(self._running.client).__await__()
                waited = steps.send(None)
            except StopIteration:
                return
            finally:
                self.thread += time.thread_time_ns() - thread
                self.wall += time.perf_counter_ns() - wall
            yield waited


def run_concurrently(loop: asyncio.AbstractEventLoop, calls: Sequence[AsyncCall]) -> None:
    """Run ``calls`` concurrently on ``loop``."""

    async def await_call(call: AsyncCall) -> None:
        await call

    async def concurrently() -> None:
        await asyncio.gather(*(await_call(call) for call in calls))

    loop.run_until_complete(concurrently())


class TimedStream:
    """One stream, timed per chunk. The first step also makes the call; the last one reads the end."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._chunks: Iterator[Any] | None = None
        self._ended = False
        self.thread = self.wall = 0

    def step(self) -> bool:
        """Read one chunk; return False at the end of the stream."""
        if self._ended:
            return False
        wall, thread = time.perf_counter_ns(), time.thread_time_ns()
        if self._chunks is None:
            self._chunks = iter(self._running.open(self._running.client))
        # No chunk is this object, so it can be the sentinel.
        self._ended = next(self._chunks, self) is self
        self.thread += time.thread_time_ns() - thread
        self.wall += time.perf_counter_ns() - wall
        return not self._ended
