"""An application whose process ends while spans are open. Arguments: URL DIRECTORY HOW.

How: ``exit``, ``term`` (waits for SIGTERM), ``pool`` and ``executor`` (workers by fork), ``spawned`` (by spawn), ``stream``
(a worker by fork that ends no span by itself), ``in call`` (a call waits for its response).
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

import spancast

HELD: list[Any] = []


def configure(url: str, directory: str) -> None:
    spancast.configure(
        spool={"path": directory},
        shutdown_timeout=50,
        destinations={"receiver": {"type": "otlp", "endpoint": url, "spans": "all", "timeout": 60}},
    )


@spancast.instrument
def answer(**request: Any) -> str:
    return "hi"


@spancast.instrument
def stream(**request: Any) -> Iterator[str]:
    yield "h"
    yield "i"


@spancast.instrument
def unanswered(**request: Any) -> str:
    os.write(1, b"ready\n")
    threading.Event().wait()
    return "hi"


def open_stream() -> None:
    HELD.append(stream(model="streamed", messages=[]))
    next(HELD[-1])


def open_spans() -> None:
    answer(model="called", messages=[], trace={"trace_id": "t", "trace_name": "Support", "span_name": "triage"})
    HELD.append(spancast.trace(span_name="block"))
    HELD[-1].__enter__()
    open_stream()


def spawned(url: str, directory: str) -> None:
    configure(url, directory)
    open_spans()


def main() -> None:
    url, directory, how = sys.argv[1:4]
    if how == "spawned":
        child = multiprocessing.get_context("spawn").Process(target=spawned, args=(url, directory))
        child.start()
        child.join()
        return
    configure(url, directory)
    fork = multiprocessing.get_context("fork")
    if how == "pool":
        with fork.Pool(1) as pool:
            pool.apply(open_spans)
            pool.close()
            pool.join()
    elif how == "executor":
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=fork) as executor:
            executor.submit(open_spans).result()
    elif how == "stream":
        child = fork.Process(target=open_stream)
        child.start()
        child.join()
    elif how == "in call":
        unanswered(model="unanswered", messages=[{"role": "user", "content": "May I?"}])
    else:
        open_spans()
    if how == "term":
        os.write(1, b"ready\n")
        threading.Event().wait()


if __name__ == "__main__":
    main()
