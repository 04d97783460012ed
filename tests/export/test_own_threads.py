"""Spans that the garbage collector ends on a worker thread are delivered: the thread of the start decides."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import openai
import pytest
from opentelemetry.sdk.trace import TracerProvider

import spancast
from spancast.export.worker_thread import WorkerThread
from spancast.testing import ReplayServer

COUNT = 200


class Held:
    """An object that ends a span when it is collected, as streams of other instrumentations do."""

    def __init__(self, span: Any) -> None:
        self.span = span
        self.me = self

    def __del__(self) -> None:
        self.span.end()


def on_our_thread(work: Callable[[], object]) -> None:
    thread = WorkerThread("spancast test", lambda: (work(), None)[1])
    assert thread.start()
    assert thread.join(60)


@pytest.fixture
def provider(tmp_path: Path) -> Any:
    made = TracerProvider(shutdown_on_exit=False)
    file = {"type": "file", "path": str(tmp_path / "spans.jsonl"), "spans": "all"}
    spancast.configure(tracer_provider=made, spool="memory", destinations={"f": file})
    yield made
    spancast.shutdown()
    made.shutdown()


def delivered(tmp_path: Path) -> list[dict[str, Any]]:
    assert spancast.flush(60)
    lines = (tmp_path / "spans.jsonl").read_text().splitlines() if (tmp_path / "spans.jsonl").exists() else []
    found: list[dict[str, Any]] = []
    for line in lines:
        for resource in json.loads(line)["resourceSpans"]:
            found += [span for scope in resource["scopeSpans"] for span in scope["spans"]]
    return found


def test_abandoned_streams(provider: TracerProvider, tmp_path: Path, server: ReplayServer) -> None:
    asked: Any = [{"role": "user", "content": "one two three"}]
    gc.disable()
    try:
        with openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0) as made:
            client = spancast.instrument(made)
            for _ in range(COUNT):
                for chunk in client.chat.completions.create(model="m", messages=asked, stream=True):
                    if chunk.choices[0].delta.content:
                        break
            on_our_thread(gc.collect)
    finally:
        gc.enable()
    found = delivered(tmp_path)
    assert len(found) == COUNT
    assert all("gen_ai.output.messages" in str(span) for span in found)


def test_abandoned_spans_of_other_instrumentations(provider: TracerProvider, tmp_path: Path) -> None:
    tracer = provider.get_tracer("another instrumentation")
    gc.disable()
    try:
        for _ in range(COUNT):
            Held(tracer.start_span("theirs"))
        on_our_thread(gc.collect)
    finally:
        gc.enable()
    assert [span["name"] for span in delivered(tmp_path)] == ["theirs"] * COUNT


def test_span_started_on_worker_thread_is_ignored_wherever_it_ends(provider: TracerProvider, tmp_path: Path) -> None:
    tracer = provider.get_tracer("another instrumentation")
    left: list[Any] = []

    def work() -> None:
        with tracer.start_as_current_span("POST /v1/traces"):
            left.append(tracer.start_span("POST /v1/traces, still open"))
        with spancast.trace(trace_name="of a mask function", span_name="step"):
            pass

    on_our_thread(work)
    left.pop().end()
    tracer.start_span("of the application").end()
    assert [span["name"] for span in delivered(tmp_path)] == ["of the application"]


STRESS = """
import gc
import openai, spancast
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from spancast.testing import ReplayServer
import sys

provider = TracerProvider()
meters = MeterProvider([InMemoryMetricReader()])
spancast.configure(
    tracer_provider=provider, meter_provider=meters, spool="memory",
    destinations={"f": {"type": "file", "path": sys.argv[1], "spans": "all"}},
)
gc.collect()
gc.freeze()
with ReplayServer() as server:
    client = spancast.instrument(openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0))
    asked = [{"role": "user", "content": "one two three"}]
    for number in range(COUNT):
        # Collections come at every few allocations, on whatever thread is at it.
        gc.set_threshold(20 + number % 17)
        for chunk in client.chat.completions.create(model="m", messages=asked, stream=True):
            if chunk.choices[0].delta.content:
                break
    gc.set_threshold(700)
    gc.collect()
    report = spancast.flush(60)
    counts = spancast.stats()
    print(bool(report), counts.received, counts.destinations["f"].delivered, counts.internal_errors)
"""


def test_garbage_collection_at_any_time_loses_no_span_and_no_deadlock(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(STRESS).replace("COUNT", str(3 * COUNT)))
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path / "spans.jsonl")],
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["True", str(3 * COUNT), str(3 * COUNT), "0"]


@pytest.mark.skipif(find_spec("gevent") is None, reason="gevent is not installed")
@pytest.mark.parametrize("when", ["before", "after"])
def test_calls_of_greenlets_are_delivered_whenever_gevent_patches(when: str, tmp_path: Path) -> None:
    program = Path(__file__).with_name("gevent_program.py")
    run = subprocess.run(
        [sys.executable, str(program), str(tmp_path), when], capture_output=True, text=True, timeout=120, check=False
    )
    # Patching a process with threads prints errors of gevent on stderr.
    assert run.stdout == "True 41", run.stderr[-3000:]
