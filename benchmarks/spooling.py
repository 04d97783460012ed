"""Throughput of the spool alone, and the time until a process delivers the records of a killed one."""

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
from spancast.export.record_builder import ContextCache, record_of
from spancast.export.spool.directory import open_spool
from spancast.model.span_record import SpanRecord

_BATCH = 512
_BYTES = 1 << 30
_AGE_S = 86_400.0
_DESTINATION = "bench"
_MS = 1_000
_TIMEOUT_S = 60.0


def records() -> list[SpanRecord]:
    """Return one batch of records with different span ids."""
    tracer, contexts = TracerProvider(shutdown_on_exit=False).get_tracer("spancast"), ContextCache()
    batch: list[SpanRecord] = []
    for _ in range(_BATCH):
        span: Any = tracer.start_span("chat gpt-4o", attributes=ATTRIBUTES)
        span.end()
        batch.append(record_of(span, ATTRIBUTES, span.status, contexts, with_facts=False))
    return batch


def throughput(in_memory: bool, batches: int) -> dict[str, Any]:
    """Append and lease ``batches`` of 512 records; return records/s of both."""
    batch = records()
    with tempfile.TemporaryDirectory(prefix="spancast-bench-") as directory:
        spool = open_spool(None if in_memory else Path(directory), _BYTES, _AGE_S)
        spool.register([_DESTINATION])
        started = time.perf_counter()
        for _ in range(batches):
            spool.put(batch, {})
        append_s = time.perf_counter() - started
        started, leased = time.perf_counter(), 0
        while lease := spool.lease(_DESTINATION, max_records=_BATCH, max_bytes=1 << 24, now_s=time.time()):
            leased += len(lease.entries)
            spool.ack(lease)
        lease_s = time.perf_counter() - started
        spool.close()
    if leased != batches * _BATCH:
        raise ChildError(f"expected {batches * _BATCH} records from the spool, got {leased}")
    return {"appended_per_s": leased / append_s, "leased_per_s": leased / lease_s}


def recovery(count: int) -> dict[str, Any]:
    """Kill a process that has ``count`` records; return the times until another has opened the spool and delivered."""
    with tempfile.TemporaryDirectory(prefix="spancast-bench-") as directory, receiver(1) as [port]:
        forked(_append_and_die, directory, count // _BATCH)
        found = forked(_recover, directory, port)
    return {"records": count // _BATCH * _BATCH, **found}


def _append_and_die(directory: str, batches: int) -> dict[str, Any]:
    batch = records()
    spool = open_spool(Path(directory), _BYTES, _AGE_S)
    spool.register([_DESTINATION])
    for _ in range(batches):
        spool.put(batch, {})
    # As if killed while delivering: the lease is not released.
    spool.lease(_DESTINATION, max_records=_BATCH, max_bytes=1 << 24, now_s=time.time())
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def _recover(directory: str, port: int) -> dict[str, Any]:
    started = time.perf_counter()
    spancast.configure(
        spool={"path": directory},
        destinations={_DESTINATION: {"type": "otlp", "endpoint": f"http://127.0.0.1:{port}", "spans": "all"}},
        tracer_provider=(provider := TracerProvider(shutdown_on_exit=False)),
    )
    opened_s = time.perf_counter() - started
    # The export threads start with the first span.
    provider.get_tracer("spancast").start_span("chat", attributes=ATTRIBUTES).end()
    while not report(port, {})["calls"]:
        if time.perf_counter() - started > _TIMEOUT_S:
            raise ChildError(f"no span arrived within {_TIMEOUT_S:.0f} s: {spancast.stats()}")
        time.sleep(0.001)
    first_s = time.perf_counter() - started
    complete = bool(spancast.flush(_TIMEOUT_S))
    return {
        "opened_ms": opened_s * _MS, "first_ms": first_s * _MS,
        "all_s": time.perf_counter() - started, "complete": complete,
    }  # fmt: skip
