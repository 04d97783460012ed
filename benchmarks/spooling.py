"""What the spool takes and gives by itself, and how soon a process goes on with what a killed one has left."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import TracerProvider

import spancast
from benchmarks.delivery import ATTRIBUTES
from benchmarks.forked import ChildError, forked
from benchmarks.processes import receiver, report
from spancast.export.pipeline import open_spool
from spancast.export.record_builder import ContextCache, record_of
from spancast.model.span_record import SpanRecord

_BATCH = 512
_BYTES = 1 << 30
_AGE_S = 86_400.0
_ROUTE = "bench"
_MS = 1_000
_PATIENCE_S = 60.0


def records() -> list[SpanRecord]:
    """Return one batch, each span with an id of its own."""
    tracer, heads = TracerProvider(shutdown_on_exit=False).get_tracer("spancast"), ContextCache()
    made: list[SpanRecord] = []
    for _ in range(_BATCH):
        span: Any = tracer.start_span("chat gpt-4o", attributes=ATTRIBUTES)
        span.end()
        made.append(record_of(span, ATTRIBUTES, span.status, heads, with_facts=False))
    return made


def throughput(in_memory: bool, batches: int) -> dict[str, Any]:
    """Put and claim ``batches`` of 512 records; return records/s of either."""
    batch = records()
    with tempfile.TemporaryDirectory(prefix="spancast-bench-") as directory:
        spool = open_spool(None if in_memory else Path(directory), _BYTES, _AGE_S)
        spool.register([_ROUTE])
        started = time.perf_counter()
        for _ in range(batches):
            spool.put(batch, {})
        put_s = time.perf_counter() - started
        started, taken = time.perf_counter(), 0
        while claim := spool.claim(_ROUTE, max_records=_BATCH, max_bytes=1 << 24, now_s=time.time()):
            taken += len(claim.entries)
            spool.ack(claim)
        taken_s = time.perf_counter() - started
        spool.close()
    if taken != batches * _BATCH:
        raise ChildError(f"{taken} of {batches * _BATCH} records came out")
    return {"put_per_s": taken / put_s, "taken_per_s": taken / taken_s}


def recovery(count: int) -> dict[str, Any]:
    """Leave ``count`` records by ``kill -9``; return how soon another process has the spool open, and delivers."""
    with tempfile.TemporaryDirectory(prefix="spancast-bench-") as directory, receiver(1) as [port]:
        forked(_leave, directory, count // _BATCH)
        found = forked(_go_on, directory, port)
    return {"records": count // _BATCH * _BATCH, **found}


def _leave(directory: str, batches: int) -> dict[str, Any]:
    batch = records()
    spool = open_spool(Path(directory), _BYTES, _AGE_S)
    spool.register([_ROUTE])
    for _ in range(batches):
        spool.put(batch, {})
    # It had begun to deliver: a lease is held by nobody now.
    spool.claim(_ROUTE, max_records=_BATCH, max_bytes=1 << 24, now_s=time.time())
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def _go_on(directory: str, port: int) -> dict[str, Any]:
    started = time.perf_counter()
    spancast.configure(
        spool={"path": directory},
        destinations={_ROUTE: {"type": "otlp", "endpoint": f"http://127.0.0.1:{port}", "spans": "all"}},
        tracer_provider=(provider := TracerProvider(shutdown_on_exit=False)),
    )
    opened_s = time.perf_counter() - started
    # Its threads start with the first span.
    provider.get_tracer("spancast").start_span("chat", attributes=ATTRIBUTES).end()
    while not report(port, {})["calls"]:
        if time.perf_counter() - started > _PATIENCE_S:
            raise ChildError(f"nothing came in {_PATIENCE_S:.0f} s: {spancast.stats()}")
        time.sleep(0.001)
    first_s = time.perf_counter() - started
    whole = bool(spancast.flush(_PATIENCE_S))
    return {
        "opened_ms": opened_s * _MS, "first_ms": first_s * _MS,
        "all_s": time.perf_counter() - started, "whole": whole,
    }  # fmt: skip
