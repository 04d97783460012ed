"""How calls are made: one after another, together on a loop or on threads, or a stream chunk by chunk."""

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
"""Makes so many calls; returns the CPU ns of threads other than the caller's that made them."""

_FIRST_ERROR = 400


def batch_of(running: Running, case: Case) -> Batch:
    """Return what makes calls as ``case`` says."""
    if case.is_async:
        return _on_loop(lambda: running.acall(running.client), case.concurrency)
    in_a_row = _in_a_row(running, case)
    return _on_threads(in_a_row, case.threads) if case.threads else in_a_row


def _in_a_row(running: Running, case: Case) -> Batch:
    client, call, opened = running.client, running.call, running.open

    def one_by_one(count: int) -> int:
        for _ in range(count):
            call(client)
        return 0

    def streaming(count: int) -> int:
        for _ in range(count):
            for _ in opened(client):
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

    return failing if case.status >= _FIRST_ERROR else streaming if case.is_stream else one_by_one


def _on_loop(call: Callable[[], Any], concurrency: int) -> Batch:
    loop = asyncio.new_event_loop()

    async def together(count: int) -> None:
        for start in range(0, count, concurrency):
            await asyncio.gather(*(call() for _ in range(min(concurrency, count - start))))

    def batch(count: int) -> int:
        loop.run_until_complete(together(count))
        return 0

    return batch


def _on_threads(one_by_one: Batch, threads: int) -> Batch:
    pool = ThreadPoolExecutor(threads)
    local = threading.local()

    def part(count: int, together: threading.Barrier) -> int:
        # The barrier gives each thread one part. All its CPU since its last part is the callers', waiting included.
        together.wait()
        one_by_one(count)
        last, local.last = getattr(local, "last", 0), time.thread_time_ns()
        return local.last - last

    def batch(count: int) -> int:
        together = threading.Barrier(threads)
        parts = [pool.submit(part, count // threads, together) for _ in range(threads)]
        return sum(one.result() for one in parts)

    return batch


class AsyncCall:
    """One call on a loop, the CPU of its own steps taken together; what the loop does between them is nobody's."""

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


def all_at_once(loop: asyncio.AbstractEventLoop, calls: Sequence[AsyncCall]) -> None:
    """Run ``calls`` together."""

    async def one(call: AsyncCall) -> None:
        await call

    async def together() -> None:
        await asyncio.gather(*(one(call) for call in calls))

    loop.run_until_complete(together())


class Steps:
    """One stream, read chunk by chunk: the first step makes the call as well, the last one sees the end."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._chunks: Iterator[Any] | None = None
        self._ended = False
        self.thread = self.wall = 0

    def step(self) -> bool:
        """Return whether there was a chunk."""
        if self._ended:
            return False
        wall, thread = time.perf_counter_ns(), time.thread_time_ns()
        if self._chunks is None:
            self._chunks = iter(self._running.open(self._running.client))
        # The sentinel is the chunk's owner: no chunk is this object.
        self._ended = next(self._chunks, self) is self
        self.thread += time.thread_time_ns() - thread
        self.wall += time.perf_counter_ns() - wall
        return not self._ended
