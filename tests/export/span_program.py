"""An application that makes numbered spans and ends as HOW specifies. Arguments: URL DIRECTORY HOW [FIRST COUNT].

How: ``exit``, ``term`` (waits for SIGTERM), ``term in spool`` and ``term in counters`` (gets SIGTERM while it
holds a lock of ours), ``first process`` (of a container, gets SIGTERM and goes on), ``endless`` (until killed;
says on stdout which spans were spooled for certain), ``pool`` (multiprocessing by fork), ``spawned`` (by spawn), ``prefork`` (os.fork
twice before the first span, children end by ``os._exit`` after a flush), ``exits`` (as ``prefork``, without a flush),
``threads`` (spans end while the interpreter does), ``exit without threads`` (no thread can be started at exit, as in
Python 3.12).
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import threading

from opentelemetry.sdk.trace import TracerProvider

import spancast
from spancast.diagnostics import counters
from spancast.runtime import RUNTIME


def configure(url: str, directory: str) -> TracerProvider:
    provider = TracerProvider()
    spancast.configure(
        tracer_provider=provider,
        spool={"path": directory} if directory != "memory" else "memory",
        shutdown_timeout=50,
        destinations={"receiver": {"type": "otlp", "endpoint": url, "spans": "all", "timeout": 60}},
    )
    return provider


def make(provider: TracerProvider, first: int, count: int) -> None:
    tracer = provider.get_tracer("spancast")
    for number in range(first, first + count):
        span = tracer.start_span(f"span {number}", attributes={"gen_ai.operation.name": "chat"})
        span.end()


def child(arguments: tuple[str, str, int, int]) -> None:
    url, directory, first, count = arguments
    make(configure(url, directory), first, count)


PROVIDER: TracerProvider | None = None


def forked(first: int) -> None:
    assert PROVIDER is not None
    make(PROVIDER, first, 100)


def start_no_thread(self: threading.Thread) -> None:
    raise RuntimeError("can't create new thread at interpreter shutdown")


def wait_for_sigterm(how: str) -> None:
    pipeline = RUNTIME.pipeline
    if how == "term":
        os.write(1, b"ready\n")
    else:
        with pipeline.spool._lock if how == "term in spool" else counters._lock:
            signal.raise_signal(signal.SIGTERM)
    threading.Event().wait()


def main() -> None:  # noqa: C901 - one branch per way to end
    global PROVIDER  # noqa: PLW0603 - forked children need it
    url, directory, how = sys.argv[1:4]
    first, count = int(sys.argv[4]), int(sys.argv[5])
    provider = PROVIDER = configure(url, directory)
    if how == "endless":
        number = first
        while True:
            make(provider, number, 500)
            number += 500
            RUNTIME.pipeline.span_queue.flush(60)
            os.write(1, f"{number}\n".encode())
    if how == "pool":
        make(provider, first, count)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            pool.map(forked, [first + count + 100 * n for n in range(4)])
            pool.close()
            pool.join()
        os.write(1, b"joined\n")
    elif how == "spawned":
        process = multiprocessing.get_context("spawn").Process(target=child, args=((url, directory, first, count),))
        process.start()
        process.join()
    elif how in ("prefork", "exits"):
        for n in range(2):
            if os.fork() == 0:
                make(provider, first + n * count, count)
                os._exit(0 if how == "exits" or spancast.flush(30) else 1)
        assert [os.wait()[1] for _ in range(2)] == [0, 0]
    elif how == "threads":
        make(provider, first, count - 1)
        threading.Thread(target=lambda: (threading.main_thread().join(), make(provider, first + count - 1, 1))).start()
    else:
        make(provider, first, count)
    if how == "exit without threads":
        atexit.register(setattr, threading.Thread, "start", start_no_thread)
    if how == "first process":
        assert os.getpid() == 1
        signal.raise_signal(signal.SIGTERM)
        make(provider, first + count, count)
        assert spancast.flush(30)
    elif how.startswith("term"):
        wait_for_sigterm(how)


if __name__ == "__main__":
    main()
