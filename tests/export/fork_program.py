"""An application that forks, and whose child makes numbered spans. Arguments: URL DIRECTORY WHERE MODEL_URL.

Where: ``main`` and ``thread`` (an application's thread), ``span_queue`` and ``delivery`` (a thread of ours, from a mask
function), ``multiprocessing``, ``nested`` (the child forks again, on a thread), ``stream`` (an answer is half read).
Prints what the flush of each process reported, a JSON object per line.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import openai
from opentelemetry.sdk.trace import TracerProvider

import spancast

THREADS, SPANS = 16, 100
OWN = 40
"""Number of spans that the parent makes before the fork, and again after it."""


def make(first: int, count: int) -> None:
    tracer = PROVIDER.get_tracer("spancast")
    for number in range(first, first + count):
        tracer.start_span(f"span {number}", attributes={"gen_ai.operation.name": "chat"}).end()


def make_on_threads(first: int) -> None:
    """Make spans on threads that live at the same time, and so have idents the parent's threads had."""
    together = threading.Barrier(THREADS)

    def work(number: int) -> None:
        together.wait(60)
        make(first + number * SPANS, SPANS)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def flush_and_report(who: str) -> bool:
    report = spancast.flush(60)
    os.write(1, f"{json.dumps({'who': who, 'flushed': bool(report), 'report': str(report)})}\n".encode())
    return bool(report)


def be_child(first: int, then: Callable[[], Any] | None = None) -> None:
    """Make 1,700 spans, 100 of them on the thread that forked, and end."""
    make(first, SPANS)
    make_on_threads(first + SPANS)
    flushed = flush_and_report(f"child {first}")
    if then is not None:
        then()
    os._exit(0 if flushed else 1)


def fork(first: int, then: Callable[[], Any] | None = None) -> None:
    child = os.fork()
    if child == 0:
        be_child(first, then)
    CHILDREN.append(child)


def wait() -> None:
    for child in CHILDREN:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    CHILDREN.clear()


def on_a_thread(work: Callable[[], Any]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def fork_again() -> None:
    CHILDREN.clear()
    on_a_thread(lambda: fork(20_000))
    wait()


def mask(text: str) -> str:
    # The first text is masked on a thread of ours.
    if not FORKED.is_set():
        FORKED.set()
        fork(10_000)
        IN_PARENT.set()
    return text


def half_read() -> None:
    spancast.instrument("openai")
    with openai.OpenAI(base_url=sys.argv[4], api_key="k") as client:
        stream = client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hi"}], stream=True, stream_options={"include_usage": True}
        )
        next(stream)
        on_a_thread(lambda: fork(10_000))
        wait()
        for _ in stream:
            pass


PROVIDER = TracerProvider()
CHILDREN: list[int] = []
FORKED, IN_PARENT = threading.Event(), threading.Event()
WAYS: dict[str, Callable[[], Any]] = {
    "main": lambda: fork(10_000),
    "thread": lambda: on_a_thread(lambda: fork(10_000)),
    "nested": lambda: fork(10_000, fork_again),
    "stream": half_read,
    "span_queue": lambda: IN_PARENT.wait(60),
    "delivery": lambda: IN_PARENT.wait(60),
}


def main() -> None:
    url, directory, where = sys.argv[1:4]
    receiver: dict[str, Any] = {"type": "otlp", "endpoint": url, "spans": "all"}
    # What all destinations mask is masked before the disk, by the thread that takes spans in.
    masked = {**receiver, "mask": [mask]} if where in ("span_queue", "delivery") else receiver
    plain = {"plain": {"type": "file", "path": f"{directory}/spans.jsonl"}} if where == "delivery" else {}
    spancast.configure(tracer_provider=PROVIDER, spool={"path": directory}, destinations={"receiver": masked, **plain})
    make(0, OWN)
    if where not in ("span_queue", "delivery"):
        # So that the threads of ours run at the fork.
        assert flush_and_report("parent")
    if where == "multiprocessing":
        process = multiprocessing.get_context("fork").Process(target=be_child, args=(10_000,))
        on_a_thread(process.start)
        process.join()
        assert process.exitcode == 0
    else:
        WAYS[where]()
    make(OWN, OWN)
    wait()
    assert flush_and_report("parent")


if __name__ == "__main__":
    main()
